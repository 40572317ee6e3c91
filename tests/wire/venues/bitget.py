"""Bitget, an account of the classic kind."""

import json
from typing import Any

from tests.wire.classes import ORDER_ID
from tests.wire.story import (
    ASK,
    BID,
    FIRED_ID,
    NOW,
    OTHER_ASK,
    OTHER_BID,
    TRIGGER,
    Answers,
    Shown,
    Stops,
    Story,
    Venue,
)


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
    unified = {"GET /api/v3/account/settings": _ok({"assetMode": "union"})} if story.is_unified else {}
    return {
        **_CLASSIC,
        **unified,
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


def _swap_stops(shown: Shown) -> Answers:
    has_fired = shown.state == "filled"
    row = {
        "planType": "loss_plan",
        "symbol": "BTCUSDT",
        "size": shown.size,
        "orderId": shown.id,
        "clientOid": shown.ours,
        "executeOrderId": FIRED_ID if has_fired else "",
        "planStatus": shown.pick("live", "executed", "cancelled"),
        "triggerPrice": TRIGGER,
        "triggerType": "mark_price",
        "executePrice": "0",
        "price": "",
        "side": shown.side,
        "posSide": "net",
        "marginCoin": "USDT",
        "marginMode": "isolated",
        "orderType": "market",
        "posMode": "one_way_mode",
        "tradeSide": "close",
        "cTime": str(NOW),
        "uTime": str(NOW),
    }
    became = _swap_orders(shown.market())["GET /api/v2/mix/order/detail"]
    became["data"] |= {"clientOid": "1234567890"}
    trade = {
        "tradeId": "5",
        "symbol": "BTCUSDT",
        "orderId": FIRED_ID,
        "price": ASK,
        "baseVolume": shown.size,
        "quoteVolume": "7400",
        "side": shown.side,
        "feeDetail": [{"feeCoin": "USDT", "totalFee": "-7.4"}],
        "tradeScope": "taker",
        "cTime": str(NOW),
    }
    is_ours = "planType=profit_loss&productType=USDT-FUTURES&symbol=BTCUSDT"
    is_open = shown.state == "open"
    return {
        f"GET /api/v2/mix/order/orders-plan-pending#{is_ours}": _ok(
            {"entrustedList": [row] if is_open else None}
        ),
        f"GET /api/v2/mix/order/orders-plan-history#{is_ours}": _ok(
            {"entrustedList": None if is_open else [row]}
        ),
        **({f"GET /api/v2/mix/order/detail#orderId={FIRED_ID}": became} if has_fired else {}),
        "GET /api/v2/mix/order/detail": {"code": "40109", "msg": "The data of the order cannot be found"},
        "GET /api/v2/mix/order/orders-pending": _ok({"entrustedList": None}),
        "GET /api/v2/mix/order/fills": _ok({"fillList": [trade] if has_fired else None}),
    }


_NO_PLANS: Answers = {
    f"GET /api/v2/mix/order/orders-{kind}": _ok({"entrustedList": None})
    for kind in ("pending", "plan-pending", "plan-history")
}

SWAP = Venue(
    quotes=_quotes("/api/v2/mix/market", ASK),
    account=_swap_account,
    create="POST /api/v2/mix/order/place-order",
    created=_created,
    orders=_swap_orders,
    cancel="POST /api/v2/mix/order/cancel-order",
    none={"GET /api/v2/mix/order/orders-pending": _ok({"entrustedList": None})},
    stops=Stops(
        create="POST /api/v2/mix/order/place-tpsl-order",
        name="clientOid",
        created=_created,
        orders=_swap_stops,
        cancel=f"POST /api/v2/mix/order/cancel-plan-order#{ORDER_ID}",
        cancelled=lambda shown: _ok(
            {"successList": [{"orderId": shown.id, "clientOid": shown.ours}], "failureList": []}
        ),
        gone=_ok(
            {
                "successList": [],
                "failureList": [{"orderId": "778899", "errorMsg": "The order does not exist"}],
            }
        ),
        refused={"code": "40917", "msg": "Stop price for long positions please < mark price 18900"},
        none=_NO_PLANS,
    ),
)
