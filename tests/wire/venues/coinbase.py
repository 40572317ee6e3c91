"""Coinbase, the advanced trade API."""

from typing import Any

from tests.wire.story import ASK, BID, OTHER_ASK, OTHER_BID, TIME, Answers, Shown, Story, Venue


def _ticker(name: str, bid: str, ask: str) -> Any:
    trade = {"trade_id": "1", "product_id": name, "price": ask, "size": "1", "time": TIME, "side": "BUY"}
    return {"trades": [trade], "best_bid": bid, "best_ask": ask}


def _wallet(currency: str, available: str, hold: str) -> Any:
    return {
        "uuid": currency,
        "name": f"{currency} Wallet",
        "currency": currency,
        "available_balance": {"value": available, "currency": currency},
        "active": True,
        "type": "ACCOUNT_TYPE_CRYPTO",
        "ready": True,
        "hold": {"value": hold, "currency": currency},
    }


def _account(story: Story) -> Answers:
    del story
    return {
        "GET /api/v3/brokerage/accounts": {
            "accounts": [_wallet("USDT", "900", "100"), _wallet("BTC", "0.5", "0")],
            "has_next": False,
            "cursor": "",
        },
        "GET /api/v3/brokerage/key_permissions": {"can_view": True, "can_trade": True, "can_transfer": False},
    }


def _orders(shown: Shown) -> Answers:
    if shown.type == "limit":
        kind = {"limit_limit_gtc": {"base_size": shown.size, "limit_price": ASK, "post_only": False}}
    elif shown.side == "buy":
        kind = {"market_market_ioc": {"quote_size": "7400"}}
    else:
        kind = {"market_market_ioc": {"base_size": shown.size}}
    row = {
        "order_id": shown.id,
        "product_id": "BTCUSDT",
        "user_id": "u",
        "order_configuration": kind,
        "side": shown.side.upper(),
        "client_order_id": shown.ours,
        "status": shown.pick("OPEN", "FILLED", "CANCELLED"),
        "time_in_force": "GOOD_UNTIL_CANCELLED",
        "created_time": TIME,
        "completion_percentage": "0",
        "filled_size": shown.filled,
        "average_filled_price": shown.average,
        "number_of_fills": "1",
        "filled_value": shown.cost,
        "total_fees": shown.fee,
        "order_type": shown.type.upper(),
        "settled": shown.state == "filled",
    }
    word = {"open": "OPEN", "filled": "FILLED", "cancelled": "CANCELLED"}[shown.state]
    listed = {"orders": [row], "has_next": False, "cursor": ""}
    return {
        f"GET /api/v3/brokerage/orders/historical/{shown.id}": {"order": row},
        f"GET /api/v3/brokerage/orders/historical/batch#order_status={word}": listed,
        "GET /api/v3/brokerage/orders/historical/batch#order_status=": {"orders": [], "has_next": False},
        "GET /api/v3/brokerage/orders/historical/batch": listed,
    }


SPOT = Venue(
    quotes={
        "GET /api/v3/brokerage/market/products/BTCUSDT/ticker": _ticker("BTCUSDT", BID, ASK),
        "GET /api/v3/brokerage/market/products/ETHUSDT/ticker": _ticker("ETHUSDT", OTHER_BID, OTHER_ASK),
    },
    account=_account,
    create="POST /api/v3/brokerage/orders",
    created=lambda shown: {
        "success": True,
        "success_response": {
            "order_id": shown.id,
            "product_id": "BTCUSDT",
            "side": shown.side.upper(),
            "client_order_id": shown.ours,
        },
    },
    orders=_orders,
    cancel="POST /api/v3/brokerage/orders/batch_cancel",
    cancelled=lambda shown: {"results": [{"success": True, "failure_reason": "", "order_id": shown.id}]},
)
