"""KuCoin and its futures, an account of the classic kind."""

from typing import Any

from tests.wire.classes import ORDER_ID
from tests.wire.story import (
    ASK,
    BID,
    NOW,
    OTHER_ASK,
    OTHER_BID,
    Answers,
    Shown,
    Stops,
    Story,
    Venue,
)


def _ok(data: Any) -> Any:
    return {"code": "200000", "data": data}


_KEY: Answers = {
    "GET /api/ua/v1/account/mode": _ok({"selfAccountMode": "CLASSIC"}),
    "GET /api/v1/user/api-key": _ok(
        {"uid": 44, "apiKey": "k", "apiVersion": 3, "isMaster": True, "permission": "General,Spot,Futures"}
    ),
}


def _spot_ticker(name: str, bid: str, ask: str) -> dict[str, str]:
    return {"symbol": name, "symbolName": name, "buy": bid, "sell": ask, "last": ask}


def _spot_account(story: Story) -> Answers:
    del story
    return {
        **_KEY,
        "GET /api/v1/accounts": _ok(
            [
                {
                    "id": "1",
                    "currency": "USDT",
                    "type": "trade",
                    "balance": "1000",
                    "available": "900",
                    "holds": "100",
                },
                {
                    "id": "2",
                    "currency": "BTC",
                    "type": "trade",
                    "balance": "0.5",
                    "available": "0.5",
                    "holds": "0",
                },
            ]
        ),
    }


def _created(shown: Shown) -> Any:
    return _ok({"orderId": shown.id, "clientOid": shown.ours})


def _spot_orders(shown: Shown) -> Answers:
    row = {
        "id": shown.id,
        "clientOid": shown.ours,
        "symbol": "BTCUSDT",
        "opType": "DEAL",
        "type": shown.type,
        "side": shown.side,
        "price": "0" if shown.type == "market" else ASK,
        "size": shown.size,
        "funds": "0",
        "dealSize": shown.filled,
        "dealFunds": shown.cost,
        "fee": shown.fee,
        "feeCurrency": "USDT",
        "stop": None,
        "timeInForce": "GTC",
        "cancelExist": shown.state == "cancelled",
        "isActive": shown.state == "open",
        "active": shown.state == "open",
        "createdAt": NOW,
        "lastUpdatedAt": NOW,
        "tradeType": "TRADE",
    }
    is_open = shown.state == "open"
    return {
        f"GET /api/v1/hf/orders/client-order/{shown.ours}": _ok(row),
        "GET /api/v1/hf/orders/active*": _ok([row] if is_open else []),
        f"GET /api/v1/order/client-order/{shown.ours}": _ok(row),
        "GET /api/v1/orders#status=active": _ok({"currentPage": 1, "items": [row] if is_open else []}),
    }


SPOT = Venue(
    quotes={
        "GET /api/v1/market/stats": _ok({"time": NOW, **_spot_ticker("BTCUSDT", BID, ASK)}),
        "GET /api/v1/market/allTickers": _ok(
            {
                "time": NOW,
                "ticker": [_spot_ticker("BTCUSDT", BID, ASK), _spot_ticker("ETHUSDT", OTHER_BID, OTHER_ASK)],
            }
        ),
    },
    account=_spot_account,
    create="POST /api/v1/*orders",
    created=_created,
    orders=_spot_orders,
    cancel="DELETE /api/v1/*",
    cancelled=lambda shown: _ok({"cancelledOrderId": shown.id, "clientOid": shown.ours}),
)


def _swap_ticker(name: str, bid: str, ask: str) -> dict[str, Any]:
    return {
        "symbol": name,
        "price": ask,
        "bestBidPrice": bid,
        "bestBidSize": 5,
        "bestAskPrice": ask,
        "bestAskSize": 5,
        "ts": NOW * 1_000_000,
    }


def _swap_account(story: Story) -> Answers:
    position = {
        "id": "p1",
        "symbol": "BTCUSDT",
        "crossMode": False,
        "marginMode": "ISOLATED",
        "positionSide": "BOTH",
        "leverage": 5,
        "currentQty": story.held,
        "avgEntryPrice": ASK,
        "markPrice": ASK,
        "posInit": "1480",
        "posCost": "7400",
        "posComm": "1",
        "unrealisedPnl": 0,
        "isOpen": True,
        "currentTimestamp": NOW,
        "settleCurrency": "USDT",
    }
    return {
        **_KEY,
        "GET /api/ua/v1/account/mode": _ok({"selfAccountMode": "UNIFIED" if story.is_unified else "CLASSIC"}),
        "GET /api/v1/account-overview": _ok(
            {"accountEquity": 1000, "marginBalance": 1000, "availableBalance": 900, "currency": "USDT"}
        ),
        "GET /api/v1/positions": _ok([position] if story.held else []),
        "POST /api/v2/changeCrossUserLeverage": _ok({"symbol": "BTCUSDT", "leverage": "5"}),
        "GET /api/v2/position/getPositionMode": _ok({"positionMode": 1 if story.is_hedged else 0}),
    }


def _swap_orders(shown: Shown) -> Answers:
    row = {
        "id": shown.id,
        "symbol": "BTCUSDT",
        "type": shown.type,
        "side": shown.side,
        "price": None if shown.type == "market" else ASK,
        "size": int(shown.size),
        "value": "7400",
        "filledSize": int(shown.filled),
        "filledValue": shown.cost,
        "dealSize": int(shown.filled),
        "dealValue": shown.cost,
        "clientOid": shown.ours,
        "leverage": "5",
        "marginMode": "ISOLATED",
        "isActive": shown.state == "open",
        "cancelExist": shown.state in ("cancelled", "cut"),
        "status": "open" if shown.state == "open" else "done",
        "reduceOnly": False,
        "settleCurrency": "USDT",
        "createdAt": NOW,
        "updatedAt": NOW,
    }
    fill = {
        "symbol": "BTCUSDT",
        "tradeId": "1",
        "orderId": shown.id,
        "side": shown.side,
        "liquidity": "taker",
        "price": ASK,
        "size": int(shown.filled),
        "value": shown.cost,
        "feeRate": "0.001",
        "fee": shown.fee,
        "feeCurrency": "USDT",
        "createdAt": NOW,
        "tradeTime": NOW * 1_000_000,
    }
    return {
        "GET /api/v1/orders/byClientOid": _ok(row),
        "GET /api/v1/orders#status=active": _ok({"items": [row] if shown.state == "open" else []}),
        "GET /api/v1/fills": _ok({"items": [fill] if shown.has_traded else []}),
    }


def _swap_stops(shown: Shown) -> Answers:
    """A conditional order stays one: untriggered ones have a list of their own, and either is told by our id."""
    answers = _swap_orders(shown)
    row = answers["GET /api/v1/orders/byClientOid"]["data"]
    row |= {
        "type": "market",
        "price": None,
        "stop": "up" if shown.waits_above else "down",
        "stopPriceType": "TP",
        "stopPrice": shown.trigger,
        "stopTriggered": shown.has_traded,
        "reduceOnly": True,
    }
    return {
        **answers,
        f"GET /api/v1/orders/{shown.id}": _ok(row),
        "GET /api/v1/stopOrders": _ok({"items": [row] if shown.state == "open" else []}),
        "GET /api/v1/orders#status=active": _ok({"items": []}),
    }


def _error(code: str, words: str) -> Any:
    return {"code": code, "msg": words}


SWAP = Venue(
    quotes={
        "GET /api/v1/ticker": _ok(_swap_ticker("BTCUSDT", BID, ASK)),
        "GET /api/v1/allTickers": _ok(
            [_swap_ticker("BTCUSDT", BID, ASK), _swap_ticker("ETHUSDT", OTHER_BID, OTHER_ASK)]
        ),
    },
    account=_swap_account,
    create="POST /api/v1/orders",
    created=_created,
    orders=_swap_orders,
    cancel="DELETE /api/v1/orders/*",
    cancelled=lambda shown: _ok({"clientOid": shown.ours}),
    none={"GET /api/v1/orders#status=active": _ok({"items": []})},
    stops=Stops(
        create="POST /api/v1/orders",
        name="clientOid",
        created=_created,
        orders=_swap_stops,
        # That the same by our id takes back what waits for a price, nobody says.
        cancel=f"DELETE /api/v1/orders/{ORDER_ID}",
        cancelled=lambda shown: _ok({"cancelledOrderIds": [shown.id]}),
        gone=_error("100004", "The order cannot be canceled."),
        refused=_error("300009", "No open positions to close."),
        refused_target=_error("300009", "No open positions to close."),
        none={
            "GET /api/v1/orders/byClientOid": _error("100001", "error.getOrder.orderNotExist"),
            "GET /api/v1/orders#status=active": _ok({"items": []}),
            "GET /api/v1/stopOrders": _ok({"items": []}),
        },
    ),
)
