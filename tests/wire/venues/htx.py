"""HTX."""

from typing import Any

from tests.wire.story import ASK, BID, NOW, OTHER_ASK, OTHER_BID, Answers, Shown, Story, Venue


def _ok(data: Any) -> Any:
    return {"status": "ok", "data": data, "ts": NOW}


def _account(story: Story) -> Answers:
    del story
    return {
        "GET /v2/user/uid": {"code": 200, "data": 44},
        "GET /v2/user/api-key": {
            "code": 200,
            "data": [{"accessKey": "k" * 32, "status": "normal", "permission": "readOnly,trade"}],
        },
        "GET /v1/account/accounts/7/balance": _ok(
            {
                "id": 7,
                "type": "spot",
                "state": "working",
                "list": [
                    {"currency": "USDT", "type": "trade", "balance": "900"},
                    {"currency": "USDT", "type": "frozen", "balance": "100"},
                    {"currency": "BTC", "type": "trade", "balance": "0.5"},
                    {"currency": "BTC", "type": "frozen", "balance": "0"},
                ],
            }
        ),
        "GET /v1/account/accounts": _ok([{"id": 7, "type": "spot", "subtype": "", "state": "working"}]),
    }


def _row(shown: Shown) -> Any:
    is_bought_for_money = (shown.type, shown.side) == ("market", "buy")
    return {
        "id": int(shown.id),
        "client-order-id": shown.ours,
        "symbol": "BTCUSDT",
        "account-id": 7,
        "amount": str(float(shown.size) * 20000) if is_bought_for_money else shown.size,
        "price": "0.0" if shown.type == "market" else ASK,
        "type": f"{shown.side}-{shown.type}",
        "field-amount": shown.filled,
        "field-cash-amount": shown.cost,
        "field-fees": shown.fee,
        "fee-currency": "usdt",
        "source": "spot-api",
        "state": shown.pick("submitted", "filled", "canceled"),
        "created-at": NOW,
        "finished-at": 0 if shown.state == "open" else NOW,
        "canceled-at": 0,
    }


def _orders(shown: Shown) -> Answers:
    row = _row(shown)
    match = {
        "id": 1,
        "trade-id": 2,
        "order-id": int(shown.id),
        "match-id": 3,
        "symbol": "BTCUSDT",
        "type": f"{shown.side}-{shown.type}",
        "role": "taker",
        "price": ASK,
        "filled-amount": shown.size,
        "filled-fees": shown.fee,
        "filled-points": "0",
        "fee-currency": "USDT",
        "fee-deduct-currency": "",
        "fee-deduct-state": "done",
        "created-at": NOW,
    }
    # Open orders are listed under other names than orders that are asked for by themselves.
    listed = {
        **{key: value for key, value in row.items() if not key.startswith("field-")},
        "filled-amount": shown.filled,
        "filled-cash-amount": shown.cost,
        "filled-fees": shown.fee,
    }
    return {
        f"GET /v1/order/orders/{shown.id}": _ok(row),
        "GET /v1/order/orders/getClientOrder": _ok(row),
        f"GET /v1/order/orders/{shown.id}/matchresults": _ok([match]),
        "GET /v1/order/openOrders": _ok([listed] if shown.state == "open" else []),
    }


SPOT = Venue(
    quotes={
        "GET /market/detail/merged": {
            "status": "ok",
            "ch": "market.BTCUSDT.detail.merged",
            "ts": NOW,
            "tick": {"close": 20000, "bid": [19990, 1], "ask": [20000, 1], "vol": 1, "amount": 1},
        },
        "GET /market/tickers": _ok(
            [
                {
                    "symbol": "BTCUSDT",
                    "close": ASK,
                    "bid": float(BID),
                    "bidSize": 1,
                    "ask": float(ASK),
                    "askSize": 1,
                },
                {
                    "symbol": "ETHUSDT",
                    "close": "1000",
                    "bid": float(OTHER_BID),
                    "bidSize": 1,
                    "ask": float(OTHER_ASK),
                },
            ]
        ),
    },
    account=_account,
    create="POST /v1/order/orders/place",
    created=lambda shown: _ok(shown.id),
    orders=_orders,
    cancel="POST /v1/order/orders/*ancel*",
)
