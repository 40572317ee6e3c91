"""Bitget, an account of the classic kind."""

import json
from typing import Any

from tests.wire.story import ASK, BID, NOW, OTHER_ASK, OTHER_BID, Answers, Shown, Story, Venue


def _ok(data: Any) -> Any:
    return {"code": "00000", "msg": "success", "requestTime": NOW, "data": data}


def _ticker(name: str, bid: str, ask: str, mark: str | None) -> dict[str, str]:
    marked = {} if mark is None else {"markPrice": mark}
    return {"symbol": name, "lastPr": ask, "bidPr": bid, "askPr": ask, "ts": str(NOW), **marked}


def _quotes(path: str, mark: str | None) -> Answers:
    return {
        f"GET {path}/ticker": _ok([_ticker("BTCUSDT", BID, ASK, mark)]),
        f"GET {path}/tickers#symbol=": _ok([_ticker("BTCUSDT", BID, ASK, mark)]),
        f"GET {path}/tickers": _ok(
            [_ticker("BTCUSDT", BID, ASK, mark), _ticker("ETHUSDT", OTHER_BID, OTHER_ASK, mark)]
        ),
    }


_CLASSIC: Answers = {
    "GET /api/v3/account/settings": {"code": "40084", "msg": "classic account"},
    "GET /api/v2/spot/account/info": _ok({"userId": "7", "authorities": ["stow", "smow"]}),
}


def _created(shown: Shown) -> Any:
    return _ok({"orderId": shown.id, "clientOid": shown.ours})


def _spot_account(story: Story) -> Answers:
    del story
    return {
        **_CLASSIC,
        "GET /api/v2/spot/account/assets": _ok(
            [
                {"coin": "USDT", "available": "900", "frozen": "100", "locked": "0", "uTime": str(NOW)},
                {"coin": "BTC", "available": "0.5", "frozen": "0", "locked": "0", "uTime": str(NOW)},
            ]
        ),
    }


def _spot_orders(shown: Shown) -> Answers:
    # A market buy is counted in money.
    size = shown.cost if (shown.type, shown.side) == ("market", "buy") else shown.size
    row = {
        "userId": "7",
        "symbol": "BTCUSDT",
        "orderId": shown.id,
        "clientOid": shown.ours,
        "price": "0" if shown.type == "market" else ASK,
        "size": size,
        "orderType": shown.type,
        "side": shown.side,
        "status": shown.pick("live", "filled", "cancelled"),
        "priceAvg": shown.average,
        "baseVolume": shown.filled,
        "quoteVolume": shown.cost,
        "enterPointSource": "API",
        "orderSource": shown.type,
        "cTime": str(NOW),
        "uTime": str(NOW),
    }
    if shown.state == "filled":
        detail = {"feeCoinCode": "USDT", "totalFee": f"-{shown.fee}"}
        row["feeDetail"] = json.dumps({"USDT": detail, "newFees": {"t": f"-{shown.fee}"}})
    return {
        "GET /api/v2/spot/trade/orderInfo": _ok([row]),
        "GET /api/v2/spot/trade/unfilled-orders": _ok([row] if shown.state == "open" else []),
    }


SPOT = Venue(
    quotes=_quotes("/api/v2/spot/market", None),
    account=_spot_account,
    create="POST /api/v2/spot/trade/place-order",
    created=_created,
    orders=_spot_orders,
    cancel="POST /api/v2/spot/trade/cancel-order",
    none={"GET /api/v2/spot/trade/unfilled-orders": _ok([])},
)


def _swap_account(story: Story) -> Answers:
    mode = "hedge_mode" if story.is_hedged else "one_way_mode"
    money = {
        "marginCoin": "USDT",
        "locked": "0",
        "available": "900",
        "accountEquity": "1000",
        "maxTransferOut": "900",
        "usdtEquity": "1000",
        "crossedMarginLeverage": "20",
        "isolatedLongLever": "5",
        "isolatedShortLever": "5",
        "marginMode": "isolated",
        "posMode": mode,
    }
    position = {
        "marginCoin": "USDT",
        "symbol": "BTCUSDT",
        "holdSide": "long" if story.held > 0 else "short",
        "marginMode": "isolated",
        "posMode": mode,
        "leverage": "5",
        "total": str(abs(story.held) / 100),
        "available": str(abs(story.held) / 100),
        "marginSize": "100",
        "openPriceAvg": ASK,
        "markPrice": ASK,
        "unrealizedPL": "0",
        "keepMarginRate": "0.004",
        "liquidationPrice": "0",
        "cTime": str(NOW),
        "uTime": str(NOW),
    }
    return {
        **_CLASSIC,
        "GET /api/v2/mix/account/accounts": _ok([money]),
        "GET /api/v2/mix/account/account": _ok(money),
        "GET /api/v2/mix/position/all-position": _ok([position] if story.held else []),
        "POST /api/v2/mix/account/set-leverage": _ok({"symbol": "BTCUSDT", "longLeverage": "5"}),
    }


def _swap_orders(shown: Shown) -> Answers:
    row = {
        "symbol": "BTCUSDT",
        "size": shown.size,
        "orderId": shown.id,
        "clientOid": shown.ours,
        "baseVolume": shown.filled,
        "fee": f"-{shown.fee}",
        "price": "" if shown.type == "market" else ASK,
        "priceAvg": shown.average if shown.state == "filled" else "",
        "state": shown.pick("live", "filled", "canceled"),
        "side": shown.side,
        "force": "gtc",
        "totalProfits": "0",
        "posSide": "net",
        "marginCoin": "USDT",
        "quoteVolume": shown.cost,
        "orderType": shown.type,
        "leverage": "5",
        "marginMode": "isolated",
        "reduceOnly": "NO",
        "tradeSide": "buy_single",
        "posMode": "one_way_mode",
        "cTime": str(NOW),
        "uTime": str(NOW),
    }
    return {
        "GET /api/v2/mix/order/detail": _ok(row),
        "GET /api/v2/mix/order/orders-pending": _ok(
            {"entrustedList": [{**row, "status": row["state"]}] if shown.state == "open" else None}
        ),
    }


SWAP = Venue(
    quotes=_quotes("/api/v2/mix/market", ASK),
    account=_swap_account,
    create="POST /api/v2/mix/order/place-order",
    created=_created,
    orders=_swap_orders,
    cancel="POST /api/v2/mix/order/cancel-order",
    none={"GET /api/v2/mix/order/orders-pending": _ok({"entrustedList": None})},
)
