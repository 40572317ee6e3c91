"""Kraken and its futures."""

from typing import Any

from tests.wire.story import (
    ASK,
    BID,
    NOW,
    OTHER_ASK,
    OTHER_BID,
    TIME,
    TRIGGER,
    Answers,
    Shown,
    Stops,
    Story,
    Venue,
)


def _ok(result: Any) -> Any:
    return {"error": [], "result": result}


def _ticker(bid: str, ask: str) -> Any:
    return {
        "a": [ask, "1", "1.000"],
        "b": [bid, "1", "1.000"],
        "c": [ask, "0.1"],
        "v": ["1", "2"],
        "p": ["1", "1"],
        "t": [1, 2],
        "l": ["1", "1"],
        "h": ["1", "1"],
        "o": "1",
    }


def _account(story: Story) -> Answers:
    del story
    return {
        "POST /0/private/BalanceEx": _ok(
            {
                "USDT": {"balance": "1000", "hold_trade": "100"},
                "BTC": {"balance": "0.5", "hold_trade": "0"},
            }
        ),
        "POST /0/private/GetApiKeyInfo": _ok(
            {"permissions": ["query-funds", "query-open-trades", "modify-trades"]}
        ),
    }


def _created(shown: Shown) -> Any:
    what = "market" if shown.type == "market" else f"limit {ASK}"
    return _ok({"descr": {"order": f"{shown.side} {shown.size} BTCUSDT @ {what}"}, "txid": [shown.id]})


def _orders(shown: Shown) -> Answers:
    row = {
        "refid": None,
        "userref": None,
        "cl_ord_id": shown.ours,
        "status": shown.pick("open", "closed", "canceled"),
        "opentm": NOW / 1000,
        "descr": {
            "pair": "BTCUSDT",
            "type": shown.side,
            "ordertype": shown.type,
            "price": "0" if shown.type == "market" else ASK,
            "price2": "0",
            "leverage": "none",
            "order": f"{shown.side} {shown.size} BTCUSDT @ {shown.type}",
            "close": "",
        },
        "vol": shown.size,
        "vol_exec": shown.filled,
        "cost": shown.cost,
        "fee": shown.fee,
        "price": shown.average,
        "stopprice": "0",
        "limitprice": "0",
        "misc": "",
        "oflags": "fciq",
        "trades": [],
    }
    return {
        "POST /0/private/QueryOrders": _ok({shown.id: row}),
        "POST /0/private/OpenOrders": _ok({"open": {shown.id: row} if shown.state == "open" else {}}),
        "POST /0/private/ClosedOrders": _ok(
            {"closed": {} if shown.state == "open" else {shown.id: row}, "count": 1}
        ),
    }


def _stop_created(shown: Shown) -> Any:
    what = f"stop loss {TRIGGER}.0"
    return _ok({"descr": {"order": f"{shown.side} {shown.size} BTCUSDT @ {what}"}, "txid": [shown.id]})


def _stops(shown: Shown) -> Answers:
    """A stop waits in the list of all orders, and stays the same one when it fires."""
    answers = _orders(shown)
    row = answers["POST /0/private/QueryOrders"]["result"][shown.id]
    row |= {"stopprice": f"{TRIGGER}.0", "trigger": "last"}
    row["descr"] |= {
        "ordertype": "stop-loss",
        "price": f"{TRIGGER}.0",
        "order": f"{shown.side} {shown.size} BTCUSDT @ stop loss {TRIGGER}.0",
    }
    trade = {
        "ordertxid": shown.id,
        "pair": "BTCUSDT",
        "time": NOW / 1000,
        "type": shown.side,
        "ordertype": "stop-loss",
        "price": ASK,
        "cost": shown.cost,
        "fee": shown.fee,
        "vol": shown.size,
        "margin": "0",
        "misc": "",
        "trade_id": 1,
    }
    return {
        **answers,
        "POST /0/private/TradesHistory": _ok(
            {"trades": {"T1": trade} if shown.state == "filled" else {}, "count": 1}
        ),
    }


SPOT = Venue(
    quotes={
        "GET /0/public/Ticker#ETHUSDT": _ok(
            {"BTCUSDT": _ticker(BID, ASK), "ETHUSDT": _ticker(OTHER_BID, OTHER_ASK)}
        ),
        "GET /0/public/Ticker": _ok({"BTCUSDT": _ticker(BID, ASK)}),
    },
    account=_account,
    create="POST /0/private/AddOrder",
    created=_created,
    orders=_orders,
    cancel="POST /0/private/CancelOrder",
    cancelled=lambda _: _ok({"count": 1}),
    stops=Stops(
        create="POST /0/private/AddOrder",
        name="cl_ord_id",
        created=_stop_created,
        orders=_stops,
        cancel="POST /0/private/CancelOrder",
        cancelled=lambda _: _ok({"count": 1}),
        gone={"error": ["EOrder:Unknown order"]},
        refused={"error": ["EOrder:Insufficient funds"]},
        none={
            "POST /0/private/OpenOrders": _ok({"open": {}}),
            "POST /0/private/ClosedOrders": _ok({"closed": {}, "count": 0}),
        },
    ),
)


def _futures_ticker(name: str, bid: str, ask: str) -> dict[str, Any]:
    return {
        "symbol": name,
        "tag": "perpetual",
        "last": float(ask),
        "lastTime": TIME,
        "bid": float(bid),
        "bidSize": 1,
        "ask": float(ask),
        "askSize": 1,
        "markPrice": float(ask),
        "indexPrice": float(ask),
    }


def _futures_account(story: Story) -> Answers:
    position = {
        "symbol": "BTCUSDT",
        "side": "long" if story.held > 0 else "short",
        "size": abs(story.held),
        "price": 20000,
        "fillTime": TIME,
        "unrealizedFunding": 0,
        "maxFixedLeverage": 5,
        "pnlCurrency": "USDT",
    }
    flex = {
        "type": "multiCollateralMarginAccount",
        "currencies": {"USDT": {"quantity": 1000, "value": 1000, "collateral": 1000, "available": 900}},
        "portfolioValue": 1000,
        "availableMargin": 900,
    }
    return {
        "GET /derivatives/api/v3/accounts": {
            "result": "success",
            "accounts": {"flex": flex},
            "serverTime": TIME,
        },
        "GET /derivatives/api/v3/openpositions": {
            "result": "success",
            "openPositions": [position] if story.held else [],
        },
        "PUT /derivatives/api/v3/leveragepreferences": {"result": "success", "serverTime": TIME},
    }


def _futures_created(shown: Shown) -> Any:
    order = {
        "orderId": shown.id,
        "cliOrdId": shown.ours,
        "type": "lmt",
        "symbol": "BTCUSDT",
        "side": shown.side,
        "quantity": int(shown.size),
        "filled": 0,
        "limitPrice": 20000,
        "reduceOnly": False,
        "timestamp": TIME,
        "lastUpdateTimestamp": TIME,
    }
    if shown.type == "market":
        event = {
            "type": "EXECUTION",
            "executionId": "e1",
            "price": 20000,
            "amount": int(shown.size),
            "orderPriorEdit": None,
            "orderPriorExecution": {**order, "type": "ioc"},
        }
    else:
        event = {"type": "PLACE", "order": order, "reducedQuantity": None}
    status = {"order_id": shown.id, "cliOrdId": shown.ours, "status": "placed", "receivedTime": TIME}
    return {"result": "success", "sendStatus": {**status, "orderEvents": [event]}, "serverTime": TIME}


def _futures_orders(shown: Shown) -> Answers:
    told = {
        "order": {
            "type": "ORDER",
            "orderId": shown.id,
            "cliOrdId": shown.ours,
            "symbol": "BTCUSDT",
            "side": shown.side,
            "quantity": int(shown.size),
            "filled": int(shown.filled),
            "limitPrice": 20000,
            "reduceOnly": False,
            "timestamp": TIME,
            "lastUpdateTimestamp": TIME,
        },
        "status": shown.pick("ENTERED_BOOK", "FULLY_EXECUTED", "CANCELLED"),
        "updateReason": None,
        "error": None,
    }
    resting = {
        "order_id": shown.id,
        "cliOrdId": shown.ours,
        "symbol": "BTCUSDT",
        "side": shown.side,
        "orderType": "lmt",
        "limitPrice": 20000,
        "unfilledSize": int(shown.size),
        "receivedTime": TIME,
        "status": "untouched",
        "filledSize": 0,
        "reduceOnly": False,
        "lastUpdateTime": TIME,
    }
    fill = {
        "fill_id": "f1",
        "symbol": "BTCUSDT",
        "side": shown.side,
        "order_id": shown.id,
        "cliOrdId": shown.ours,
        "size": int(shown.size),
        "price": 20000,
        "fillTime": TIME,
        "fillType": "taker",
    }
    return {
        "GET /derivatives/api/v3/orders/status": {"result": "success", "orders": [told]},
        "GET /derivatives/api/v3/openorders": {
            "result": "success",
            "openOrders": [resting] if shown.state == "open" else [],
        },
        "GET /derivatives/api/v3/fills": {
            "result": "success",
            "fills": [fill] if shown.state == "filled" else [],
        },
    }


SWAP = Venue(
    quotes={
        "GET /derivatives/api/v3/tickers/BTCUSDT": {
            "result": "success",
            "ticker": _futures_ticker("BTCUSDT", BID, ASK),
        },
        "GET /derivatives/api/v3/tickers": {
            "result": "success",
            "tickers": [
                _futures_ticker("BTCUSDT", BID, ASK),
                _futures_ticker("ETHUSDT", OTHER_BID, OTHER_ASK),
            ],
        },
    },
    account=_futures_account,
    create="POST /derivatives/api/v3/sendorder",
    created=_futures_created,
    orders=_futures_orders,
    cancel="POST /derivatives/api/v3/cancelorder",
    cancelled=lambda shown: {
        "result": "success",
        "cancelStatus": {
            "status": "cancelled",
            "order_id": shown.id,
            "receivedTime": TIME,
            "orderEvents": [],
        },
    },
    none={"GET /derivatives/api/v3/openorders": {"result": "success", "openOrders": []}},
)
