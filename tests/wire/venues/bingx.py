"""BingX."""

from typing import Any

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
    return {"code": 0, "msg": "", "timestamp": NOW, "data": data}


_UID: Answers = {
    "GET /openApi/account/v1/uid": _ok({"uid": 44}),
    "GET /openApi/v1/account/apiPermissions": _ok({"ipAddresses": [], "note": "", "permissions": [1, 2, 3]}),
}


def _spot_ticker(name: str, bid: str, ask: str) -> dict[str, Any]:
    return {
        "eventType": "bookTicker",
        "symbol": name,
        "bidPrice": bid,
        "bidVolume": "1",
        "askPrice": ask,
        "time": NOW,
    }


def _spot_account(story: Story) -> Answers:
    del story
    return {
        **_UID,
        "GET /openApi/spot/v1/account/balance": _ok(
            {
                "balances": [
                    {"asset": "USDT", "free": "900", "locked": "100"},
                    {"asset": "BTC", "free": "0.5", "locked": "0"},
                ]
            }
        ),
    }


def _spot_row(shown: Shown) -> Any:
    return {
        "symbol": "BTCUSDT",
        "orderId": int(shown.id),
        "clientOrderID": shown.ours,
        "price": "0" if shown.type == "market" else ASK,
        "origQty": shown.size,
        "executedQty": shown.filled,
        "cummulativeQuoteQty": shown.cost,
        "status": shown.pick("PENDING", "FILLED", "CANCELED"),
        "type": shown.type.upper(),
        "side": shown.side.upper(),
        "time": NOW,
        "updateTime": NOW,
        "fee": f"-{shown.fee}",
        "feeAsset": "USDT",
        "avgPrice": shown.average,
    }


def _spot_orders(shown: Shown) -> Answers:
    row = _spot_row(shown)
    return {
        "GET /openApi/spot/v1/trade/query": _ok(row),
        "GET /openApi/spot/v1/trade/openOrders": _ok({"orders": [row] if shown.state == "open" else []}),
        "GET /openApi/spot/v1/trade/historyOrders": _ok({"orders": [row]}),
    }


SPOT = Venue(
    quotes={
        "GET /openApi/spot/v*/quote/bookTicker#symbol=BTCUSDT": _ok([_spot_ticker("BTCUSDT", BID, ASK)]),
        "GET /openApi/spot/v*/quote/bookTicker": _ok(
            [_spot_ticker("BTCUSDT", BID, ASK), _spot_ticker("ETHUSDT", OTHER_BID, OTHER_ASK)]
        ),
    },
    account=_spot_account,
    create="POST /openApi/spot/v1/trade/order",
    created=lambda shown: _ok(_spot_row(shown)),
    orders=_spot_orders,
    cancel="POST /openApi/spot/v1/trade/cancel",
    none={"GET /openApi/spot/v1/trade/openOrders": _ok({"orders": []})},
)


def _swap_account(story: Story) -> Answers:
    position = {
        "positionId": "5",
        "symbol": "BTCUSDT",
        "currency": "USDT",
        "positionAmt": str(abs(story.held)),
        "availableAmt": str(abs(story.held)),
        "positionSide": "LONG" if story.held > 0 else "SHORT",
        "isolated": True,
        "avgPrice": ASK,
        "margin": "1480",
        "initialMargin": "1480",
        "leverage": 5,
        "unrealizedProfit": "0",
        "realisedProfit": "0",
        "markPrice": ASK,
        "positionValue": "7400",
        "updateTime": NOW,
    }
    return {
        **_UID,
        "GET /openApi/swap/v3/user/balance": _ok(
            [
                {
                    "userId": "44",
                    "asset": "USDT",
                    "balance": "1000",
                    "equity": "1000",
                    "maxWithdrawAmount": "1000",
                    "availableMargin": "900",
                    "usedMargin": "100",
                    "freezedMargin": "0",
                }
            ]
        ),
        "GET /openApi/swap/v2/user/positions": _ok([position] if story.held else []),
        "GET /openApi/swap/v1/positionSide/dual": _ok(
            {"dualSidePosition": "true" if story.is_hedged else "false"}
        ),
        "GET /openApi/swap/v2/trade/marginType": _ok({"marginType": "ISOLATED" if story.held else "CROSSED"}),
        "POST /openApi/swap/v2/trade/marginType": {"code": 0, "msg": ""},
        "POST /openApi/swap/v2/trade/leverage": _ok({"leverage": 5, "symbol": "BTCUSDT"}),
    }


def _swap_row(shown: Shown) -> Any:
    return {
        "symbol": "BTCUSDT",
        "orderId": shown.id,
        "side": shown.side.upper(),
        "positionSide": "BOTH",
        "type": shown.type.upper(),
        "origQty": shown.size,
        "price": "0" if shown.type == "market" else ASK,
        "executedQty": shown.filled,
        "avgPrice": shown.average,
        "cumQuote": shown.cost,
        "stopPrice": "",
        "profit": "0",
        "commission": f"-{shown.fee}",
        "status": shown.pick("NEW", "FILLED", "CANCELLED"),
        "time": NOW,
        "updateTime": NOW,
        "clientOrderId": shown.ours,
        "leverage": "5X",
        "reduceOnly": False,
    }


def _swap_orders(shown: Shown) -> Answers:
    row = _swap_row(shown)
    return {
        "GET /openApi/swap/v2/trade/order": _ok({"order": row}),
        "GET /openApi/swap/v2/trade/openOrders": _ok({"orders": [row] if shown.state == "open" else []}),
        "GET /openApi/swap/v*/trade/allOrders": _ok({"orders": [row]}),
        "GET /openApi/swap/v*/trade/fullOrder": _ok({"orders": [row]}),
    }


def _swap_stops(shown: Shown) -> Answers:
    """What it became stands in its place, whichever of their ids is asked for."""
    waiting = {**_swap_row(shown), "type": "STOP_MARKET", "stopPrice": TRIGGER, "reduceOnly": True}
    became = {**waiting, "orderId": FIRED_ID, "triggerOrderId": shown.id, "clientOrderId": ""}
    row = became if shown.state == "filled" else waiting
    return {
        "GET /openApi/swap/v2/trade/order": _ok({"order": row}),
        "GET /openApi/swap/v2/trade/openOrders": _ok({"orders": [row] if shown.state == "open" else []}),
        "GET /openApi/swap/v*/trade/allOrders": _ok({"orders": [] if shown.state == "open" else [row]}),
        "GET /openApi/swap/v*/trade/fullOrder": _ok({"orders": [row]}),
    }


SWAP = Venue(
    quotes={
        "GET /openApi/swap/v2/quote/bookTicker": _ok(
            {
                "book_ticker": {
                    "symbol": "BTCUSDT",
                    "bid_price": BID,
                    "bid_qty": 1,
                    "ask_price": ASK,
                    "ask_qty": 1,
                }
            }
        ),
        "GET /openApi/swap/v2/quote/ticker": _ok(
            [
                {
                    "symbol": name,
                    "lastPrice": ask,
                    "bidPrice": bid,
                    "bidQty": "1",
                    "askPrice": ask,
                    "askQty": "1",
                }
                for name, bid, ask in (("BTCUSDT", BID, ASK), ("ETHUSDT", OTHER_BID, OTHER_ASK))
            ]
        ),
    },
    account=_swap_account,
    create="POST /openApi/swap/v2/trade/order",
    created=lambda shown: _ok({"order": _swap_row(shown)}),
    orders=_swap_orders,
    cancel="DELETE /openApi/swap/v2/trade/order",
    none={"GET /openApi/swap/v2/trade/openOrders": _ok({"orders": []})},
    stops=Stops(
        create="POST /openApi/swap/v2/trade/order",
        name="clientOrderID",
        created=lambda shown: _ok({"order": _swap_row(shown)}),
        orders=_swap_stops,
        cancel="DELETE /openApi/swap/v2/trade/order",
        cancelled=lambda shown: _ok({"order": _swap_row(shown)}),
        gone={"code": 109421, "msg": "order does not exist"},
        refused={"code": 101400, "msg": "SL Price must be lower than Last Price"},
        none={
            "GET /openApi/swap/v2/trade/openOrders": _ok({"orders": []}),
            "GET /openApi/swap/v*/trade/fullOrder": _ok({"orders": []}),
        },
    ),
)
