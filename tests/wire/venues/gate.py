"""Gate, an account of the classic kind."""

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

_DETAIL: Answers = {"GET /api/v4/account/detail": {"user_id": 44, "key": {"mode": 1}}}


def _ticker(field: str, name: str, bid: str, ask: str, **more: str) -> dict[str, str]:
    return {field: name, "last": ask, "lowest_ask": ask, "highest_bid": bid, **more}


def _quotes(path: str, field: str, **more: str) -> Answers:
    btc, eth = (
        _ticker(field, "BTCUSDT", BID, ASK, **more),
        _ticker(field, "ETHUSDT", OTHER_BID, OTHER_ASK, **more),
    )
    return {f"GET {path}#=BTCUSDT": [btc], f"GET {path}": [btc, eth]}


def _spot_account(story: Story) -> Answers:
    del story
    return {
        **_DETAIL,
        "GET /api/v4/spot/accounts": [
            {"currency": "USDT", "available": "900", "locked": "100", "update_id": 1},
            {"currency": "BTC", "available": "0.5", "locked": "0", "update_id": 1},
        ],
    }


def _spot_row(shown: Shown) -> Any:
    is_bought_for_money = (shown.type, shown.side) == ("market", "buy")
    size = shown.cost if is_bought_for_money else shown.size
    return {
        "id": shown.id,
        "text": shown.ours,
        "create_time_ms": NOW,
        "update_time_ms": NOW,
        "status": shown.pick("open", "closed", "cancelled"),
        "currency_pair": "BTCUSDT",
        "type": shown.type,
        "account": "spot",
        "side": shown.side,
        "amount": size,
        "price": "0" if shown.type == "market" else ASK,
        "time_in_force": "ioc" if shown.type == "market" else "gtc",
        "left": "0" if shown.state == "filled" else size,
        "filled_total": shown.cost,
        "avg_deal_price": shown.average,
        "fee": shown.fee,
        "fee_currency": "USDT",
        "point_fee": "0",
        "gt_fee": "0",
        "rebated_fee": "0",
        "rebated_fee_currency": "USDT",
        "finish_as": shown.pick("open", "filled", "cancelled"),
    }


def _spot_orders(shown: Shown) -> Answers:
    row = _spot_row(shown)
    listed = [{"currency_pair": "BTCUSDT", "total": 1, "orders": [row]}] if shown.state == "open" else []
    return {
        f"GET /api/v4/spot/orders/{shown.id}": row,
        "GET /api/v4/spot/open_orders": listed,
        "GET /api/v4/spot/orders#status=open": [row] if shown.state == "open" else [],
        "GET /api/v4/spot/orders": [row],
    }


SPOT = Venue(
    quotes=_quotes("/api/v4/spot/tickers", "currency_pair"),
    account=_spot_account,
    create="POST /api/v4/spot/orders",
    created=_spot_row,
    orders=_spot_orders,
    cancel="DELETE /api/v4/spot/orders/*",
)


def _swap_account(story: Story) -> Answers:
    position = {
        "user": 44,
        "contract": "BTCUSDT",
        "size": story.held,
        "leverage": "5",
        "value": "7400",
        "margin": "1480",
        "entry_price": ASK,
        "mark_price": ASK,
        "liq_price": "0",
        "maintenance_rate": "0.005",
        "unrealised_pnl": "0",
        "mode": "single",
        "open_time": NOW // 1000,
        "update_time": NOW // 1000,
    }
    return {
        **_DETAIL,
        "GET /api/v4/futures/*/accounts": {
            "user": 44,
            "currency": "USDT",
            "total": "1000",
            "available": "900",
            "unrealised_pnl": "0",
            "in_dual_mode": story.is_hedged,
        },
        "GET /api/v4/futures/*/positions": [position] if story.held else [],
        "POST /api/v4/futures/*/positions/BTCUSDT/leverage": {**position, "leverage": "5"},
    }


def _swap_row(shown: Shown) -> Any:
    sign = 1 if shown.side == "buy" else -1
    row = {
        "id": int(shown.id),
        "user": 44,
        "contract": "BTCUSDT",
        "create_time": NOW / 1000,
        "status": "open" if shown.state == "open" else "finished",
        "size": sign * int(shown.size),
        "left": sign * int(shown.left),
        "price": "0" if shown.type == "market" else ASK,
        "fill_price": shown.average,
        "tif": "ioc" if shown.type == "market" else "gtc",
        "text": shown.ours,
        "is_reduce_only": False,
        "tkfr": "0.0005",
        "mkfr": "0.0002",
    }
    if shown.state != "open":
        # Nothing was left to reduce.
        ended = "reduce_only" if shown.state == "cut" else shown.pick("", "filled", "cancelled")
        row |= {"finish_as": ended, "finish_time": NOW / 1000}
    return row


def _swap_orders(shown: Shown) -> Answers:
    row = _swap_row(shown)
    trade = {
        "id": 1,
        "create_time": NOW / 1000,
        "contract": "BTCUSDT",
        "order_id": shown.id,
        "size": int(shown.filled) * (1 if shown.side == "buy" else -1),
        "price": ASK,
        "role": "taker",
        "text": shown.ours,
    }
    return {
        f"GET /api/v4/futures/*/orders/{shown.id}": row,
        "GET /api/v4/futures/*/orders#status=open": [row] if shown.state == "open" else [],
        "GET /api/v4/futures/*/orders": [row],
        "GET /api/v4/futures/*/my_trades*": [trade] if shown.has_traded else [],
    }


def _swap_stop(shown: Shown) -> Any:
    has_fired, sign = shown.has_traded, 1 if shown.side == "buy" else -1
    row = {
        "id": int(shown.id),
        "user": 44,
        "trigger": {
            "strategy_type": 0,
            "price_type": 1,
            "price": TRIGGER,
            "rule": 1 if shown.side == "buy" else 2,
            "expiration": 0,
        },
        "initial": {
            "contract": "BTCUSDT",
            "size": sign * int(shown.size),
            "price": "0",
            "tif": "ioc",
            "text": shown.ours,
            "is_reduce_only": True,
            "is_close": False,
        },
        "create_time": NOW // 1000,
        "trade_id": int(FIRED_ID) if has_fired else 0,
        "status": "open" if shown.state == "open" else "finished",
        "reason": "",
    }
    if shown.state != "open":
        row |= {"finish_as": shown.pick("", "succeeded", "cancelled"), "finish_time": NOW // 1000}
    return row


def _swap_stops(shown: Shown) -> Answers:
    row, real = _swap_stop(shown), _swap_row(shown.market())
    real |= {"text": "ao-778899", "is_reduce_only": True}
    has_fired = shown.has_traded
    trades = _swap_orders(shown.market())["GET /api/v4/futures/*/my_trades*"]
    return {
        f"GET /api/v4/futures/*/price_orders/{shown.id}": row,
        "GET /api/v4/futures/*/price_orders#status=open": [row] if shown.state == "open" else [],
        "GET /api/v4/futures/*/price_orders#status=finished": [] if shown.state == "open" else [row],
        **({f"GET /api/v4/futures/*/orders/{FIRED_ID}": real} if has_fired else {}),
        "GET /api/v4/futures/*/orders": [],
        "GET /api/v4/futures/*/my_trades*": trades,
    }


SWAP = Venue(
    quotes=_quotes("/api/v4/futures/*/tickers", "contract", mark_price=ASK, index_price=ASK),
    account=_swap_account,
    create="POST /api/v4/futures/*/orders",
    created=_swap_row,
    orders=_swap_orders,
    cancel="DELETE /api/v4/futures/*/orders/*",
    none={"GET /api/v4/futures/*/orders": []},
    stops=Stops(
        create="POST /api/v4/futures/*/price_orders",
        name="text",
        created=lambda shown: {"id": int(shown.id)},
        orders=_swap_stops,
        cancel="DELETE /api/v4/futures/*/price_orders/*",
        cancelled=_swap_stop,
        gone={"label": "AUTO_ORDER_NOT_FOUND", "message": "order not found"},
        refused={"label": "AUTO_TRIGGER_PRICE_LESS_LAST", "message": "trigger price is over the last one"},
        none={
            "GET /api/v4/futures/*/price_orders": [],
            "GET /api/v4/futures/*/orders": [],
            "GET /api/v4/futures/*/my_trades*": [],
        },
    ),
)
