"""OKX, and its houses elsewhere."""

from dataclasses import replace
from typing import Any, Final

from tests.wire.story import (
    ASK,
    BID,
    FIRED_ID,
    NOW,
    OTHER_ASK,
    OTHER_BID,
    Answers,
    Shown,
    Stops,
    Story,
    Venue,
)


def _ok(*rows: Any) -> Any:
    return {"code": "0", "msg": "", "data": list(rows)}


def _ticker(name: str, bid: str, ask: str) -> dict[str, str]:
    return {
        "instId": name,
        "last": ask,
        "bidPx": bid,
        "bidSz": "1",
        "askPx": ask,
        "askSz": "1",
        "ts": str(NOW),
    }


QUOTES: Answers = {
    "GET /api/v5/public/mark-price": _ok(
        {"instId": "BTCUSDT", "instType": "SWAP", "markPx": ASK, "ts": str(NOW)}
    ),
    "GET /api/v5/market/ticker#BTCUSDT": _ok(_ticker("BTCUSDT", BID, ASK)),
    "GET /api/v5/market/tickers": _ok(
        _ticker("BTCUSDT", BID, ASK), _ticker("ETHUSDT", OTHER_BID, OTHER_ASK), _ticker("XRPUSDT", "1", "2")
    ),
}


def _account(story: Story) -> Answers:
    position = {
        "instId": "BTCUSDT",
        "instType": "SWAP",
        "mgnMode": "isolated",
        "posSide": "net",
        "pos": str(story.held),
        "avgPx": ASK,
        "lever": "5",
        "markPx": ASK,
        "cTime": str(NOW),
        "uTime": str(NOW),
    }
    return {
        "GET /api/v5/account/balance": _ok(
            {
                "totalEq": "1000",
                "uTime": str(NOW),
                "details": [
                    {
                        "ccy": "USDT",
                        "cashBal": "1000",
                        "eq": "1000",
                        "availBal": "900",
                        "availEq": "900",
                        "frozenBal": "100",
                    },
                    {
                        "ccy": "BTC",
                        "cashBal": "0.5",
                        "eq": "0.5",
                        "availBal": "0.5",
                        "availEq": "",
                        "frozenBal": "0",
                    },
                ],
            }
        ),
        "GET /api/v5/account/config": _ok(
            {
                "uid": "44",
                "acctLv": "2",
                "posMode": "long_short_mode" if story.is_hedged else "net_mode",
                "perm": "read_only,trade",
            }
        ),
        "GET /api/v5/account/positions": _ok(*([position] if story.held else [])),
        "POST /api/v5/account/set-leverage": _ok({"lever": "5", "mgnMode": "isolated", "instId": "BTCUSDT"}),
    }


def _created(shown: Shown) -> Any:
    return _ok({"ordId": shown.id, "clOrdId": shown.ours, "tag": "", "sCode": "0", "sMsg": ""})


def _orders(shown: Shown) -> Answers:
    row = {
        "instId": "BTCUSDT",
        "instType": "SWAP" if shown.is_swap else "SPOT",
        "ordId": shown.id,
        "clOrdId": shown.ours,
        "px": "" if shown.type == "market" else ASK,
        # What is to close more than is left is made for what is left.
        "sz": shown.filled if shown.state == "cut" else shown.size,
        "ordType": shown.type,
        "side": shown.side,
        "accFillSz": shown.filled,
        "avgPx": ASK if shown.has_traded else "",
        "state": shown.pick("live", "filled", "canceled"),
        "fee": f"-{shown.fee}",
        "feeCcy": "USDT",
        "rebate": "0",
        "rebateCcy": "USDT",
        "tgtCcy": "",
        "cTime": str(NOW),
        "uTime": str(NOW),
    }
    is_open = shown.state == "open"
    return {
        "GET /api/v5/trade/order": _ok(row),
        "GET /api/v5/trade/orders-pending": _ok(*([row] if is_open else [])),
    }


_NONE: Answers = {"GET /api/v5/trade/orders-pending": _ok()}


_MISSING: Final = {"code": "51603", "msg": "Order does not exist", "data": []}


def _stop_created(shown: Shown) -> Any:
    return _ok({"algoId": shown.id, "algoClOrdId": shown.ours, "clOrdId": "", "sCode": "0", "sMsg": ""})


def _stop_orders(shown: Shown) -> Answers:
    is_open, has_fired = shown.state == "open", shown.has_traded
    waits = "tp" if shown.is_target else "sl"
    row = {
        "instId": "BTCUSDT",
        "instType": "SWAP" if shown.is_swap else "SPOT",
        "algoId": shown.id,
        "algoClOrdId": shown.ours,
        "clOrdId": "",
        "ordId": FIRED_ID if has_fired else "",
        "ordIdList": [FIRED_ID] if has_fired else [],
        "ordType": "conditional",
        "side": shown.side,
        "sz": shown.size,
        **{f"{leg}{field}": "" for leg in ("sl", "tp") for field in ("TriggerPx", "TriggerPxType", "OrdPx")},
        f"{waits}TriggerPx": shown.trigger,
        f"{waits}TriggerPxType": "mark",
        f"{waits}OrdPx": "-1",
        "state": shown.pick("live", "effective", "canceled"),
        "actualSz": shown.filled if has_fired else "",
        "actualPx": "",
        "cTime": str(NOW),
        "uTime": str(NOW),
    }
    became = _orders(shown.market())
    [market] = became["GET /api/v5/trade/order"]["data"]
    # What a conditional order has become tells whose it was, and has no id of ours.
    market |= {"clOrdId": "", "algoClOrdId": shown.ours, "algoId": shown.id}
    trade = {
        "instId": "BTCUSDT",
        "tradeId": "5",
        "ordId": FIRED_ID,
        "clOrdId": "",
        "side": shown.side,
        "fillPx": ASK,
        "fillSz": shown.filled,
        "fee": "-7.4",
        "feeCcy": "USDT",
        "execType": "T",
        "ts": str(NOW),
    }
    return {
        "GET /api/v5/trade/order-algo": _ok(row),
        "GET /api/v5/trade/orders-algo-pending#ordType=conditional": _ok(*([row] if is_open else [])),
        **({f"GET /api/v5/trade/order#ordId={FIRED_ID}": _ok(market)} if has_fired else {}),
        "GET /api/v5/trade/order": _MISSING,
        "GET /api/v5/trade/orders-pending": _ok(),
        "GET /api/v5/trade/fills-history": _ok(*([trade] if has_fired else [])),
    }


def _refused(code: str, words: str) -> Any:
    return {"code": "1", "msg": "", "data": [{"algoId": "", "sCode": code, "sMsg": words}]}


STOPS = Stops(
    create="POST /api/v5/trade/order-algo",
    name="algoClOrdId",
    created=_stop_created,
    orders=_stop_orders,
    cancel="POST /api/v5/trade/cancel-algos",
    cancelled=lambda shown: _ok({"algoId": shown.id, "algoClOrdId": shown.ours, "sCode": "0", "sMsg": ""}),
    gone=_refused("51400", "Cancellation failed as the order has been filled, canceled or does not exist."),
    refused=_refused("51280", "The SL trigger price must be lower than the last price."),
    none={
        "GET /api/v5/trade/order-algo": _MISSING,
        "GET /api/v5/trade/orders-algo-pending#ordType=conditional": _ok(),
        "GET /api/v5/trade/orders-pending": _ok(),
    },
)

OKX = Venue(
    quotes=QUOTES,
    account=_account,
    create="POST /api/v5/trade/batch-orders",
    created=_created,
    orders=_orders,
    cancel="POST /api/v5/trade/cancel-order",
    none=_NONE,
)

OKX_SPOT = replace(OKX, stops=STOPS)
OKX_SWAP = replace(
    OKX,
    # Stops of swap go by the mark price.
    stops=replace(
        STOPS,
        refused=_refused("51304", "SL trigger price cannot be higher than the mark price"),
        refused_target=_refused("51303", "TP trigger price cannot be lower than the mark price"),
    ),
)
