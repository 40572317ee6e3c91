"""A preview says what an execution would do: the same order and protection, or the same denial."""

from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from app.brokers.paper.book import PaperOrder
from app.desk import Desk
from app.domain.errors import Denied
from app.domain.exits import Protection
from app.domain.market import MarketType
from app.domain.money import parse
from app.domain.orders import OrderType, Side
from app.domain.owners import Owner, Role
from app.domain.signals import Level, Market, Signal, ladder_of
from app.engine import previewing
from app.engine.previewing import Preview
from app.store.connections import Connection, ConnectionStatus
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import Position
from tests.desks import USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, executions, positions, publish

STILL = [("20000", "20000", "20000", "20000")] * 600
NUMBERS = count()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Desk]:
    recording = write_recording(tmp_path / "btc.csv", STILL)
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        clock.move(1)
        yield desk


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

TERMS = st.fixed_dictionaries(
    {
        "market_type": st.sampled_from([MarketType.SPOT, MarketType.SWAP]),
        "sizing": SIZINGS,
        "limits": LIMITS,
        "protection": st.sampled_from([{}, {"native": False}]),
        "leverage": st.sampled_from([None, Decimal(3), Decimal(20)]),
        "paper": st.fixed_dictionaries(
            {
                "fee_percent": st.sampled_from(["0", "0.1"]),
                "slippage_percent": st.sampled_from(["0", "0.05"]),
                "fee_in": st.sampled_from(["quote", "base"]),
            }
        ),
    }
).map(lambda terms: terms if terms["market_type"] is MarketType.SWAP else {**terms, "leverage": None})


@st.composite
def signals(draw: st.DrawFn) -> Signal:
    """Signals around a price of 20000, most of them sound."""
    direction = draw(st.sampled_from(Side))
    sign = direction.sign
    order_type = draw(st.sampled_from([OrderType.MARKET, OrderType.LIMIT]))
    entry = 20000 + draw(st.integers(-300, 300))
    needs_entry = order_type is OrderType.LIMIT or draw(st.booleans())
    stop = entry - sign * draw(st.integers(1, 3000))
    gains = draw(st.lists(st.integers(1, 3000), max_size=3, unique=True))
    portion = Decimal(1) / (2 if len(gains) < 3 else 4)
    return Signal(
        symbol=draw(st.sampled_from(["BTC/USDT", "BTCUSDT", "BTCUSDT.P", "DOGE/USDT"])),
        direction=direction,
        order_type=order_type,
        entry_price=Decimal(entry) if needs_entry else None,
        stop_loss=Decimal(stop) if draw(st.booleans()) else None,
        take_profits=ladder_of([(Decimal(entry + sign * gain), portion) for gain in gains], direction),
        quantity=draw(st.sampled_from([None, Decimal("0.0003"), Decimal("0.2")])),
        market=draw(st.sampled_from([None, Market.CRYPTO])),
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


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(terms=TERMS, before=st.lists(signals(), max_size=1), signal=signals())
async def test_preview_and_execution_agree(
    desk: Desk, terms: dict[str, Any], before: list[Signal], signal: Signal
) -> None:
    async with desk.sessions.begin() as session:
        await session.execute(update(Connection).values(status=ConnectionStatus.INACTIVE))
    owner = Owner(Role.USER, f"user-{next(NUMBERS)}")
    await add_connection(desk, owner=owner, **terms)
    for each in before:
        await publish_signal(desk, each)
    [preview] = await previewed(desk, signal, owner)
    await publish_signal(desk, signal)
    await assert_agreement(desk, preview)


BUY = Signal(
    "BTC/USDT", Side.BUY, stop_loss=Decimal(19000), take_profits=(Level(Decimal(21000), Decimal(1)),)
)


async def test_a_preview_trades_nothing_and_keeps_nothing(desk: Desk) -> None:
    await add_connection(desk)
    [preview] = await previewed(desk, BUY)
    assert isinstance(preview.outcome, previewing.Order)
    assert preview.outcome.protection is Protection.NATIVE
    assert await executions(desk) == []
    assert await positions(desk) == []
    async with desk.sessions() as session:
        assert (await session.scalars(select(PaperOrder))).all() == []


async def test_a_preview_is_of_the_callers_connections_alone(desk: Desk) -> None:
    mine = [await add_connection(desk), await add_connection(desk, market_type=MarketType.SPOT)]
    await add_connection(desk, owner=Owner(Role.ADMIN, USER.id))
    assert [each.connection_id for each in await previewed(desk, BUY)] == [each.id for each in mine]


@pytest.mark.parametrize(
    ("terms", "signal", "code"),
    [
        ({"sizing": {"strategy": "fixed", "value": "0.1"}, "mode": "halted"}, BUY, "trading_halted"),
        ({"mode": "reducing"}, BUY, "trading_reducing"),
        ({}, Signal("BTC/USDT", Side.BUY, market=Market.FX), "market_mismatch"),
        ({"market_type": MarketType.SPOT}, Signal("BTC/USDT", Side.SELL), "short_not_supported"),
        ({"paper": {"prices": "no such market"}}, BUY, "venue_unreachable"),
    ],
)
async def test_a_preview_says_why_not(desk: Desk, terms: dict[str, Any], signal: Signal, code: str) -> None:
    await add_connection(desk, **terms)
    [preview] = await previewed(desk, signal)
    assert isinstance(preview.outcome, Denied)
    assert preview.outcome.code == code


async def test_an_inactive_connection_is_previewed_as_denied(desk: Desk) -> None:
    connection = await add_connection(desk)
    async with desk.sessions.begin() as session:
        row = await session.get_one(Connection, connection.id)
        row.status = ConnectionStatus.INACTIVE
    [preview] = await previewed(desk, BUY)
    assert isinstance(preview.outcome, Denied)
    assert preview.outcome.code == "connection_inactive"


async def test_a_venue_that_cannot_be_asked_hides_no_other(
    desk: Desk,
) -> None:
    await add_connection(desk)
    unserved = await add_connection(desk, paper={"prices": "binance"})
    first, second = await previewed(desk, BUY)
    assert isinstance(first.outcome, previewing.Order)
    assert second.connection_id == unserved.id
    assert isinstance(second.outcome, Denied)
    assert second.outcome.code == "venue_unreachable"
