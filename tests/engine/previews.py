"""Previews and the executions they foretell: what is generated for both, and how the two are compared."""

from decimal import Decimal
from itertools import count
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import select

from app.desk import Desk
from app.domain.errors import Denied
from app.domain.money import parse
from app.domain.orders import OrderType, Side
from app.domain.owners import Owner
from app.domain.signals import Market, Signal, ladder_of
from app.engine import previewing
from app.engine.previewing import Preview
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import Position
from tests.desks import USER
from tests.engine.signals import execute_all, publish

NUMBERS = count()
"""No two owners and no two signals have the same name."""


def amounts(least: str, most: str, places: int = 2) -> st.SearchStrategy[str]:
    """Decimal strings."""
    return st.decimals(Decimal(least), Decimal(most), places=places).map(str)


SIZINGS = st.one_of(
    st.fixed_dictionaries({"strategy": st.just("fixed"), "value": amounts("0.0001", "1", 4)}),
    st.fixed_dictionaries({"strategy": st.just("fixed_amount"), "value": amounts("1", "20000")}),
    st.fixed_dictionaries({"strategy": st.just("percentage"), "value": amounts("0.01", "100")}),
    st.fixed_dictionaries({"strategy": st.just("signal_based"), "value": amounts("0.5", "2")}),
    st.fixed_dictionaries({"strategy": st.just("risk_percentage"), "value": amounts("0.1", "100")}),
).flatmap(
    lambda base: st.fixed_dictionaries(
        {},
        optional={
            "max_quantity": amounts("0.001", "1", 3),
            "max_notional": amounts("5", "5000"),
            "on_too_small": st.sampled_from(["skip", "minimum"]),
        },
    ).map(lambda caps: {**base, **caps})
)

LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "max_open_positions": st.integers(1, 2),
        "max_positions_per_symbol": st.integers(1, 2),
        "max_daily_trades": st.integers(1, 2),
        "allow_symbols": st.sampled_from([["BTC/USDT"], ["ETH/USDT"]]),
        "deny_symbols": st.sampled_from([["BTC/USDT"], ["ETH/USDT"]]),
        "max_price_drift_percent": amounts("0", "1"),
        "max_spread_percent": amounts("0", "1"),
    },
)


@st.composite
def signals(
    draw: st.DrawFn,
    price: Decimal = Decimal(20000),
    unit: Decimal = Decimal(1),
    names: tuple[str, ...] = ("BTC/USDT", "BTCUSDT", "BTCUSDT.P", "DOGE/USDT"),
    markets: tuple[Market | None, ...] = (None, Market.CRYPTO),
) -> Signal:
    """Signals around a price, in steps of `unit`, most of them sound."""
    direction = draw(st.sampled_from(Side))
    sign = direction.sign
    order_type = draw(st.sampled_from([OrderType.MARKET, OrderType.LIMIT]))
    entry = price + unit * draw(st.integers(-300, 300))
    needs_entry = order_type is OrderType.LIMIT or draw(st.booleans())
    stop = entry - sign * unit * draw(st.integers(1, 3000))
    gains = draw(st.lists(st.integers(1, 3000), max_size=3, unique=True))
    portion = Decimal(1) / (2 if len(gains) < 3 else 4)
    return Signal(
        symbol=draw(st.sampled_from(names)),
        direction=direction,
        order_type=order_type,
        entry_price=entry if needs_entry else None,
        stop_loss=stop if draw(st.booleans()) else None,
        take_profits=ladder_of([(entry + sign * unit * gain, portion) for gain in gains], direction),
        quantity=draw(st.sampled_from([None, Decimal("0.0003"), Decimal("0.2")])),
        market=draw(st.sampled_from(markets)),
    )


async def publish_signal(desk: Desk, signal: Signal) -> None:
    """Take in a signal as a provider would send it."""
    await publish(
        desk,
        f"s{next(NUMBERS)}",
        symbol=signal.symbol,
        market=signal.market,
        direction=signal.direction,
        order_type=signal.order_type,
        entry_price=signal.entry_price,
        stop_loss=signal.stop_loss,
        quantity=signal.quantity,
        targets=[(str(level.price), str(level.portion)) for level in signal.take_profits],
    )
    await execute_all(desk)


async def previewed(desk: Desk, signal: Signal, owner: Owner = USER, **terms: Any) -> list[Preview]:
    """What the signal would do, published now."""
    return await previewing.preview(
        desk, owner, signal, terms.get("plans", ()), terms.get("published_at", desk.now())
    )


async def assert_agreement(desk: Desk, preview: Preview) -> None:
    """What the last execution of the connection became is what its preview said."""
    async with desk.sessions() as session:
        execution = await session.scalar(
            select(Execution)
            .where(Execution.connection_id == preview.connection_id)
            .order_by(Execution.id.desc())
            .limit(1)
        )
        assert execution is not None
        order = await session.scalar(
            select(Order).where(Order.execution_id == execution.id, Order.purpose == "entry")
        )
        position = await session.scalar(select(Position).where(Position.execution_id == execution.id))
    outcome = preview.outcome
    if isinstance(outcome, Denied):
        assert (execution.status, execution.code, execution.message) == (
            ExecutionStatus.DENIED,
            outcome.code,
            outcome.message,
        )
        assert order is None
        return
    entry = outcome.entry
    assert order is not None, (execution.code, execution.message)
    assert execution.status is not ExecutionStatus.REJECTED, execution.message
    assert (order.symbol, order.side, order.type) == (entry.instrument.symbol, entry.side, entry.type)
    assert (order.quantity, order.price) == (entry.quantity, entry.price)
    assert execution.plan is not None
    stop = execution.plan["stop_loss"]
    assert (None if stop is None else parse(stop)) == entry.stop_loss
    # What was really filled is cut anew: it is the whole order, but for a fee taken in the coin.
    if position is not None and position.quantity == entry.quantity:
        rungs = [(parse(rung["price"]), parse(rung["quantity"])) for rung in position.take_profits]
        assert rungs == [(rung.price, rung.quantity) for rung in entry.rungs]
        assert position.protection is outcome.protection
