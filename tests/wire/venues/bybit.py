"""Bybit's houses elsewhere, unified accounts."""

from dataclasses import replace
from typing import Any

from tests.wire.story import (
    ASK,
    BID,
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


def _ok(result: Any) -> Any:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": NOW}


def _ticker(name: str, bid: str, ask: str) -> dict[str, str]:
    return {
        "symbol": name,
        "bid1Price": bid,
        "bid1Size": "1",
        "ask1Price": ask,
        "ask1Size": "1",
        "lastPrice": ask,
        "markPrice": ask,
        "indexPrice": ask,
    }


def _account(story: Story) -> Answers:
    coins = [
        {"coin": "USDT", "equity": "1000", "walletBalance": "1000", "locked": "100", "totalPositionIM": "0"},
        {"coin": "BTC", "equity": "0.5", "walletBalance": "0.5", "locked": "0", "totalPositionIM": "0"},
    ]
    index = 0 if not story.is_hedged else 1 if story.held > 0 else 2
    position = {
        "positionIdx": index,
        "symbol": "BTCUSDT",
        "side": "Buy" if story.held > 0 else "Sell" if story.held < 0 else "",
        "size": str(abs(story.held)),
        "avgPrice": ASK,
        "positionValue": "7400",
        "tradeMode": 0,
        "leverage": "5",
        "markPrice": ASK,
        "positionStatus": "Normal",
        "unrealisedPnl": "0",
        "createdTime": str(NOW),
        "updatedTime": str(NOW),
    }
    both = [{**position, "positionIdx": 1}, {**position, "positionIdx": 2, "size": "0"}]
    rows = both if story.is_hedged else [position]
    return {
        "GET /v5/user/query-api": _ok(
            {
                "userID": 44,
                "readOnly": 0,
                "permissions": {
                    "ContractTrade": ["Order", "Position"],
                    "Spot": ["SpotTrade"],
                    "Wallet": ["AccountTransfer"],
                },
                "unified": 0,
                "uta": 1,
            }
        ),
        "GET /v5/account/info": _ok({"unifiedMarginStatus": 6, "marginMode": "ISOLATED_MARGIN"}),
        "GET /v5/account/wallet-balance": _ok({"list": [{"accountType": "UNIFIED", "coin": coins}]}),
        "GET /v5/position/list#settleCoin=USDC": _ok({"list": [], "category": "linear"}),
        "GET /v5/position/list": _ok({"list": rows, "category": "linear"}),
        "POST /v5/position/set-leverage": _ok({}),
        "POST /v5/account/set-margin-mode": _ok({"reasons": []}),
    }


def _orders(shown: Shown) -> Answers:
    row = {
        "orderId": shown.id,
        "orderLinkId": shown.ours,
        "symbol": "BTCUSDT",
        "side": shown.side.capitalize(),
        "orderType": shown.type.capitalize(),
        "orderStatus": shown.pick("New", "Filled", "Cancelled"),
        "price": "0" if shown.type == "market" else ASK,
        "qty": shown.size,
        "cumExecQty": shown.filled,
        "cumExecValue": shown.cost,
        "cumExecFee": shown.fee,
        "cumFeeDetail": {"USDT": shown.fee} if shown.state == "filled" else {},
        "leavesQty": shown.left,
        "avgPrice": shown.average if shown.state == "filled" else "",
        "timeInForce": "GTC",
        "reduceOnly": False,
        "createdTime": str(NOW),
        "updatedTime": str(NOW),
    }
    is_open = shown.state == "open"
    return {
        # Stops of spot are listed apart.
        "GET /v5/order/realtime#orderFilter=tpslOrder": _ok({"list": []}),
        "GET /v5/order/realtime": _ok({"list": [row] if is_open else [], "nextPageCursor": ""}),
        "GET /v5/order/history": _ok({"list": [] if is_open else [row], "nextPageCursor": ""}),
    }


def _stop_orders(shown: Shown) -> Answers:
    """A stop stays one order: it waits untriggered, and is a market order from then on."""
    market = _orders(replace(shown, type="market"))
    told = {
        "orderStatus": shown.pick("Untriggered", "Filled", "Deactivated"),
        "stopOrderType": "Stop",
        "triggerPrice": TRIGGER,
        "triggerDirection": 2 if shown.side == "sell" else 1,
        "triggerBy": "MarkPrice",
        "reduceOnly": True,
    }
    rows = [row for answer in market.values() for row in answer["result"]["list"]]
    assert len(rows) == 1
    rows[0] |= told
    trade = {
        "symbol": "BTCUSDT",
        "execId": "e1",
        "orderId": shown.id,
        "orderLinkId": shown.ours,
        "side": shown.side.capitalize(),
        "execPrice": ASK,
        "execQty": shown.size,
        "execFee": shown.fee,
        "execType": "Trade",
        "execTime": str(NOW),
        "isMaker": False,
    }
    return {
        **market,
        "GET /v5/execution/list#execType=Trade": _ok({"list": [trade] if shown.state == "filled" else []}),
        "GET /v5/execution/list": _ok({"list": []}),
    }


def _spot_stop_orders(shown: Shown) -> Answers:
    """The same on spot, where stops are told of to who asks for them only."""
    told = _stop_orders(shown)
    [row] = [
        row for asked, answer in told.items() if "/v5/order/" in asked for row in answer["result"]["list"]
    ]
    row |= {"stopOrderType": "tpslOrder", "triggerDirection": 0, "triggerBy": "", "reduceOnly": False}
    is_open = shown.state == "open"
    nothing = _ok({"list": [], "nextPageCursor": ""})
    apart = {
        "GET /v5/order/realtime#orderFilter=tpslOrder": _ok({"list": [row]}) if is_open else nothing,
        "GET /v5/order/history#orderFilter=tpslOrder": nothing if is_open else _ok({"list": [row]}),
    }
    # Those that are asked for more exactly stand first.
    return {**apart, **told, "GET /v5/order/realtime": nothing, "GET /v5/order/history": nothing, **apart}


def _error(code: int, words: str) -> Any:
    return {**_ok({}), "retCode": code, "retMsg": words}


_PLAIN = Venue(
    quotes={
        "GET /v5/market/tickers#symbol=BTCUSDT": _ok({"list": [_ticker("BTCUSDT", BID, ASK)]}),
        "GET /v5/market/tickers": _ok(
            {"list": [_ticker("BTCUSDT", BID, ASK), _ticker("ETHUSDT", OTHER_BID, OTHER_ASK)]}
        ),
    },
    account=_account,
    create="POST /v5/order/create",
    created=lambda shown: _ok({"orderId": shown.id, "orderLinkId": shown.ours}),
    orders=_orders,
    cancel="POST /v5/order/cancel",
    none={"GET /v5/order/realtime": _ok({"list": []})},
)

_STOPS = Stops(
    create=_PLAIN.create,
    name="orderLinkId",
    created=_PLAIN.created,
    orders=_stop_orders,
    cancel=_PLAIN.cancel,
    cancelled=_PLAIN.created,
    gone=_error(110001, "order not exists or too late to cancel"),
    refused=_error(110093, "expect Falling, but trigger_price[19000] >= current[18900]"),
    none={
        "GET /v5/order/realtime": _ok({"list": []}),
        "GET /v5/order/history": _ok({"list": [], "nextPageCursor": ""}),
    },
)

SWAP = replace(_PLAIN, stops=_STOPS)
SPOT = replace(
    _PLAIN,
    stops=replace(
        _STOPS,
        orders=_spot_stop_orders,
        refused=_error(170193, "Buy order price cannot be higher than 0USDT."),
        none={"GET /v5/order/realtime#orderFilter=tpslOrder": _ok({"list": []}), **_STOPS.none},
    ),
)
