"""MEXC."""

from typing import Any

from tests.wire.story import ASK, BID, NOW, OTHER_ASK, OTHER_BID, Answers, Shown, Story, Venue


def _spot_ticker(name: str, bid: str, ask: str) -> dict[str, Any]:
    return {
        "symbol": name,
        "lastPrice": ask,
        "bidPrice": bid,
        "askPrice": ask,
        "openTime": NOW,
        "closeTime": NOW,
    }


_UID: Answers = {
    "GET /api/v3/uid": {"uid": "44"},
    "GET /api/v3/apiKeyInfo": {
        "accessKey": "key",
        "permissions": "SPOT_ACCOUNT_READ,SPOT_DEAL_READ,SPOT_DEAL_WRITE,CONTRACT_DEAL_READ,CONTRACT_DEAL_WRITE",
        "status": "VALID",
    },
}


def _spot_account(story: Story) -> Answers:
    del story
    return {
        **_UID,
        "GET /api/v3/account": {
            "canTrade": True,
            "canWithdraw": True,
            "accountType": "SPOT",
            "balances": [
                {"asset": "USDT", "free": "900", "locked": "100"},
                {"asset": "BTC", "free": "0.5", "locked": "0"},
            ],
        },
    }


def _spot_row(shown: Shown) -> Any:
    return {
        "symbol": "BTCUSDT",
        "orderId": shown.id,
        "orderListId": -1,
        "clientOrderId": shown.ours,
        "price": "0" if shown.type == "market" else ASK,
        "origQty": shown.size,
        "executedQty": shown.filled,
        "cummulativeQuoteQty": shown.cost,
        "status": shown.pick("NEW", "FILLED", "CANCELED"),
        "type": shown.type.upper(),
        "side": shown.side.upper(),
        "time": NOW,
        "updateTime": NOW,
    }


def _spot_orders(shown: Shown) -> Answers:
    row = _spot_row(shown)
    trade = {
        "symbol": "BTCUSDT",
        "id": "1",
        "orderId": shown.id,
        "price": ASK,
        "qty": shown.size,
        "quoteQty": "7400",
        "commission": shown.fee,
        "commissionAsset": "USDT",
        "time": NOW,
        "isBuyer": shown.side == "buy",
        "isMaker": False,
    }
    return {
        "GET /api/v3/order": row,
        "GET /api/v3/openOrders": [row] if shown.state == "open" else [],
        "GET /api/v3/myTrades": [trade] if shown.state == "filled" else [],
    }


SPOT = Venue(
    quotes={
        "GET /api/v3/ticker/24hr#symbol=BTCUSDT": _spot_ticker("BTCUSDT", BID, ASK),
        "GET /api/v3/ticker/24hr": [
            _spot_ticker("BTCUSDT", BID, ASK),
            _spot_ticker("ETHUSDT", OTHER_BID, OTHER_ASK),
        ],
    },
    account=_spot_account,
    create="POST /api/v3/order",
    created=lambda shown: {"symbol": "BTCUSDT", "orderId": shown.id, "orderListId": -1, "transactTime": NOW},
    orders=_spot_orders,
    cancel="DELETE /api/v3/order",
    cancelled=_spot_row,
)


def _ok(data: Any) -> Any:
    return {"success": True, "code": 0, "data": data}


def _swap_ticker(name: str, bid: str, ask: str) -> dict[str, Any]:
    return {"symbol": name, "lastPrice": ask, "bid1": bid, "ask1": ask, "timestamp": NOW}


def _swap_account(story: Story) -> Answers:
    position = {
        "positionId": 5,
        "symbol": "BTCUSDT",
        "holdVol": abs(story.held),
        "positionType": 1 if story.held > 0 else 2,
        "openType": 1,
        "state": 1,
        "frozenVol": 0,
        "closeVol": 0,
        "holdAvgPrice": ASK,
        "openAvgPrice": ASK,
        "liquidatePrice": 0,
        "im": "1480",
        "leverage": 5,
        "updateTime": NOW,
    }
    return {
        **_UID,
        "GET /api/v1/private/account/assets": _ok(
            [
                {
                    "currency": "USDT",
                    "frozenBalance": 100,
                    "availableBalance": 900,
                    "equity": 1000,
                    "cashBalance": 1000,
                }
            ]
        ),
        "GET /api/v1/private/position/open_positions": _ok([position] if story.held else []),
        "POST /api/v1/private/position/change_leverage": {"success": True, "code": 0},
        "GET /api/v1/private/position/position_mode": _ok(1 if story.is_hedged else 2),
    }


def _swap_orders(shown: Shown) -> Answers:
    row = {
        "orderId": shown.id,
        "symbol": "BTCUSDT",
        "positionId": 5,
        "price": ASK,
        "vol": int(shown.size),
        "leverage": 5,
        "side": (2 if shown.reduces else 1) if shown.side == "buy" else (4 if shown.reduces else 3),
        "category": 1,
        "orderType": 6 if shown.type == "market" else 1,
        "dealAvgPrice": shown.average,
        "dealVol": int(shown.filled),
        "takerFee": shown.fee,
        "makerFee": 0,
        "feeCurrency": "USDT",
        "openType": 1,
        "state": shown.pick(2, 3, 4),
        "externalOid": shown.ours,
        "createTime": NOW,
        "updateTime": NOW,
    }
    deal = {
        "id": "1",
        "symbol": "BTCUSDT",
        "side": row["side"],
        "vol": int(shown.size),
        "price": ASK,
        "fee": shown.fee,
        "feeCurrency": "USDT",
        "timestamp": NOW,
        "taker": True,
        "profit": 0,
        "category": 1,
        "positionMode": 2,
        "orderId": shown.id,
    }
    return {
        f"GET /api/v1/private/order/get/{shown.id}": _ok(row),
        "GET /api/v1/private/order/list/open_orders*": _ok([row] if shown.state == "open" else []),
        "GET /api/v1/private/order/list/history_orders": _ok([row]),
        "GET /api/v1/private/order/list/order_deals": _ok([deal] if shown.state == "filled" else []),
        f"GET /api/v1/private/order/deal_details/{shown.id}": _ok([deal] if shown.state == "filled" else []),
    }


SWAP = Venue(
    quotes={
        "GET /api/v1/contract/ticker#symbol=BTCUSDT": _ok(_swap_ticker("BTCUSDT", BID, ASK)),
        "GET /api/v1/contract/ticker": _ok(
            [_swap_ticker("BTCUSDT", BID, ASK), _swap_ticker("ETHUSDT", OTHER_BID, OTHER_ASK)]
        ),
    },
    account=_swap_account,
    create="POST /api/v1/private/order/create",
    created=lambda shown: _ok({"orderId": shown.id, "ts": NOW}),
    orders=_swap_orders,
    cancel="POST /api/v1/private/order/cancel",
    none={"GET /api/v1/private/order/list/open_orders*": _ok([])},
    cancelled=lambda shown: _ok([{"orderId": shown.id, "errorCode": 0, "errorMsg": "success"}]),
)
