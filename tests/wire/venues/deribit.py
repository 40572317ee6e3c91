"""Deribit, which takes orders by GET."""

from typing import Any

from tests.wire.story import ASK, BID, NOW, OTHER_ASK, OTHER_BID, Answers, Shown, Story, Venue


def _ok(result: Any) -> Any:
    return {"jsonrpc": "2.0", "result": result, "usIn": 1, "usOut": 2, "usDiff": 1, "testnet": False}


def _ticker(name: str, bid: str, ask: str) -> Any:
    return _ok(
        {
            "instrument_name": name,
            "timestamp": NOW,
            "state": "open",
            "stats": {"volume": 1, "low": 1, "high": 2},
            "last_price": float(ask),
            "mark_price": float(ask),
            "index_price": float(ask),
            "best_bid_price": float(bid),
            "best_bid_amount": 1,
            "best_ask_price": float(ask),
            "best_ask_amount": 1,
        }
    )


def _account(story: Story) -> Answers:
    position = {
        "instrument_name": "BTCUSDT",
        "kind": "future",
        "direction": "buy" if story.held > 0 else "sell",
        "size": story.held,
        "size_currency": story.held / 100,
        "average_price": 20000,
        "mark_price": 20000,
        "leverage": 5,
        "initial_margin": 1480,
        "maintenance_margin": 74,
        "floating_profit_loss": 0,
        "realized_profit_loss": 0,
        "estimated_liquidation_price": None,
    }
    return {
        "GET /api/v2/private/get_account_summaries": _ok(
            {
                "id": 44,
                "summaries": [
                    {"currency": "USDT", "equity": 1000, "available_funds": 900, "maintenance_margin": 100},
                    {"currency": "BTC", "equity": 0.5, "available_funds": 0.5, "maintenance_margin": 0},
                ],
            }
        ),
        "GET /api/v2/private/list_api_keys": _ok(
            [
                {
                    "id": 1,
                    "client_id": "k" * 32,
                    "max_scope": "account:read block_trade:none trade:read_write wallet:read",
                    "enabled": True,
                }
            ]
        ),
        "GET /api/v2/private/get_positions": _ok([position] if story.held else []),
    }


def _row(shown: Shown) -> Any:
    return {
        "order_id": shown.id,
        "label": shown.ours,
        "instrument_name": "BTCUSDT",
        "order_state": shown.pick("open", "filled", "cancelled"),
        "order_type": shown.type,
        "direction": shown.side,
        "price": "market_price" if shown.type == "market" else 20000,
        "amount": float(shown.size),
        "filled_amount": float(shown.filled),
        "average_price": float(shown.average),
        "time_in_force": "good_til_cancelled",
        "post_only": False,
        "reduce_only": False,
        "api": True,
        "creation_timestamp": NOW,
        "last_update_timestamp": NOW,
    }


def _orders(shown: Shown) -> Answers:
    row = _row(shown)
    trade = {
        "trade_id": "t1",
        "order_id": shown.id,
        "instrument_name": "BTCUSDT",
        "direction": shown.side,
        "price": 20000,
        "amount": float(shown.size),
        "fee": float(shown.fee),
        "fee_currency": "USDT",
        "liquidity": "T",
        "order_type": shown.type,
        "state": "filled",
        "timestamp": NOW,
        "trade_seq": 1,
    }
    return {
        "GET /api/v2/private/get_order_state": _ok(row),
        "GET /api/v2/private/get_open_orders_by_instrument": _ok([row] if shown.state == "open" else []),
        "GET /api/v2/private/get_order_history_by_instrument": _ok([] if shown.state == "open" else [row]),
        "GET /api/v2/private/get_user_trades_by_order": _ok([trade] if shown.state == "filled" else []),
    }


SPOT = SWAP = Venue(
    quotes={
        "GET /api/v2/public/ticker#BTCUSDT": _ticker("BTCUSDT", BID, ASK),
        "GET /api/v2/public/ticker#ETHUSDT": _ticker("ETHUSDT", OTHER_BID, OTHER_ASK),
    },
    account=_account,
    create="GET /api/v2/private/*",
    created=lambda shown: _ok({"order": _row(shown), "trades": []}),
    orders=_orders,
    cancel="GET /api/v2/private/cancel",
    cancelled=lambda shown: _ok(_row(shown)),
    none={"GET /api/v2/private/get_open_orders_by_instrument": _ok([])},
)
