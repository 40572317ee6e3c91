"""Crypto.com Exchange."""

from typing import Any

from tests.wire.story import ASK, BID, NOW, OTHER_ASK, OTHER_BID, Answers, Shown, Story, Venue


def _ok(method: str, result: Any) -> Any:
    return {"id": 1, "method": method, "code": 0, "result": result}


def _ticker(name: str, bid: str, ask: str) -> Any:
    row = {
        "i": name,
        "h": ask,
        "l": bid,
        "a": ask,
        "v": "1",
        "vv": "1",
        "c": "0",
        "b": bid,
        "k": ask,
        "t": NOW,
    }
    return _ok("public/get-tickers", {"data": [row]})


def _account(story: Story) -> Answers:
    del story
    coins = {"instrument_name": "BTC", "quantity": "0.5", "market_value": "1", "reserved_qty": "0"}
    return {
        "POST /*/private/user-balance": _ok(
            "private/user-balance",
            {
                "data": [
                    {
                        "total_available_balance": "900",
                        "instrument_name": "USD",
                        "position_balances": [
                            {"instrument_name": "USDT", "quantity": "1000", "reserved_qty": "100"},
                            coins,
                        ],
                    }
                ]
            },
        ),
    }


def _orders(shown: Shown) -> Answers:
    row = {
        "account_id": "a",
        "order_id": shown.id,
        "client_oid": shown.ours,
        "order_type": shown.type.upper(),
        "time_in_force": "GOOD_TILL_CANCEL",
        "side": shown.side.upper(),
        "exec_inst": [],
        "quantity": shown.size,
        "limit_price": None if shown.type == "market" else ASK,
        "order_value": "7400",
        "avg_price": shown.average,
        "cumulative_quantity": shown.filled,
        "cumulative_value": shown.cost,
        "cumulative_fee": shown.fee,
        "status": shown.pick("ACTIVE", "FILLED", "CANCELED"),
        "instrument_name": "BTCUSDT",
        "fee_instrument_name": "USDT",
        "create_time": NOW,
        "update_time": NOW,
    }
    return {
        "POST /*/private/get-order-detail": _ok("private/get-order-detail", row),
        "POST /*/private/get-open-orders": _ok(
            "private/get-open-orders", {"data": [row] if shown.state == "open" else []}
        ),
        "POST /*/private/get-order-history": _ok("private/get-order-history", {"data": [row]}),
    }


SPOT = Venue(
    quotes={
        "GET /*/public/get-tickers#BTCUSDT": _ticker("BTCUSDT", BID, ASK),
        "GET /*/public/get-tickers#ETHUSDT": _ticker("ETHUSDT", OTHER_BID, OTHER_ASK),
    },
    account=_account,
    create="POST /*/private/create-order",
    created=lambda shown: _ok("private/create-order", {"order_id": shown.id, "client_oid": shown.ours}),
    orders=_orders,
    cancel="POST /*/private/cancel-order",
    none={"POST /*/private/get-open-orders": _ok("private/get-open-orders", {"data": []})},
)
