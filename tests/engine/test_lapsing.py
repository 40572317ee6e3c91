"""Entries that rest and are not meant any more: taken back by the monitor, with the reason."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.desk import Desk
from app.domain.market import MarketType
from app.domain.orders import OrderStatus
from app.domain.risk import Mode
from app.domain.signals import EventType
from app.engine import monitoring
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from app.store.notifications import Notification
from tests.desks import START, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import change, execute_all, executions, orders, positions, publish, sweep_all

# 20000 for half a minute, then 20500, where it stays.
CANDLES = [
    *[("20000", "20000", "20000", "20000")] * 30,
    *[("20500", "20500", "20500", "20500")] * 600,
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Desk]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        clock.move(1)
        yield desk


async def rounds(desk: Desk, clock: Clock, seconds: int) -> None:
    """Let the worker's rounds run for so long."""
    for _ in range(seconds // 5):
        clock.move(5)
        await monitoring.watch(desk)
        await execute_all(desk)
        await sweep_all(desk)


async def outcome(desk: Desk) -> tuple[ExecutionStatus, str | None, str]:
    """How the one execution ended."""
    [execution] = await executions(desk)
    return execution.status, execution.code, execution.message or ""


async def test_an_entry_is_taken_back_when_its_target_comes_first(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    targets = [("20400", "0.5"), ("21000", "0.5")]
    await publish(desk, order_type="limit", entry_price="19900", stop_loss="19000", targets=targets)
    await execute_all(desk)
    await rounds(desk, clock, 20)
    assert (await outcome(desk))[0] is ExecutionStatus.OPEN
    await rounds(desk, clock, 20)
    status, code, message = await outcome(desk)
    assert (status, code) == (ExecutionStatus.CANCELLED, "target_already_passed")
    assert "20400" in message
    assert await positions(desk) == []
    assert [order.status for order in await orders(desk)] == [OrderStatus.CANCELLED]
    async with desk.sessions() as session:
        told = [each.message for each in await session.scalars(select(Notification))]
    assert any(message in each for each in told)


async def test_a_sell_is_taken_back_when_its_stop_comes_first(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, direction="sell", order_type="limit", entry_price="20600", stop_loss="21000")
    await execute_all(desk)
    await change(desk, EventType.UPDATED, stop_loss="20400")
    await execute_all(desk)
    await rounds(desk, clock, 20)
    assert (await outcome(desk))[0] is ExecutionStatus.OPEN
    await rounds(desk, clock, 20)
    status, code, message = await outcome(desk)
    assert (status, code) == (ExecutionStatus.CANCELLED, "stop_already_passed")
    assert "20400" in message


async def test_a_far_target_and_no_price_leave_an_entry_where_it_is(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19900", stop_loss="19000", targets=[("22000", "1")])
    await execute_all(desk)
    await rounds(desk, clock, 60)
    assert (await outcome(desk))[0] is ExecutionStatus.OPEN


async def test_an_entry_that_its_venue_ends_in_time_has_expired(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19900", expires_at=START + timedelta(seconds=20))
    await execute_all(desk)
    await rounds(desk, clock, 30)
    assert (await outcome(desk))[:2] == (ExecutionStatus.EXPIRED, "signal_expired")


async def test_an_entry_whose_end_was_moved_up_has_expired(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19900")
    await execute_all(desk)
    ends = START + timedelta(seconds=10)
    await change(desk, EventType.UPDATED, expires_at=ends.isoformat())
    await execute_all(desk)
    assert (await outcome(desk))[0] is ExecutionStatus.OPEN
    await rounds(desk, clock, 15)
    status, code, message = await outcome(desk)
    assert (status, code) == (ExecutionStatus.EXPIRED, "signal_expired")
    assert "2026-11-24 09:30:10" in message


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"status": "inactive"}, "connection_inactive"),
        ({"mode": Mode.REDUCING}, "trading_reducing"),
        ({"mode": Mode.HALTED}, "trading_halted"),
        ({"reducing_until": START + timedelta(days=1)}, "max_daily_loss"),
    ],
)
async def test_an_entry_rests_only_where_entries_are_taken(
    desk: Desk, clock: Clock, values: dict[str, object], code: str
) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19900")
    await execute_all(desk)
    async with desk.sessions.begin() as session:
        await session.execute(update(Connection).values(**values))
    await rounds(desk, clock, 5)
    assert (await outcome(desk))[:2] == (ExecutionStatus.CANCELLED, code)


async def test_a_part_that_was_filled_stays_when_the_rest_has_expired(desk: Desk, clock: Clock) -> None:
    await add_connection(desk, paper={"partial_fill_percent": "40"}, market_type=MarketType.SPOT)
    await publish(
        desk,
        order_type="limit",
        entry_price="20000",
        stop_loss="19000",
        expires_at=START + timedelta(seconds=1.1),
    )
    await execute_all(desk)
    await rounds(desk, clock, 30)
    assert (await outcome(desk))[:2] == (ExecutionStatus.PARTIAL, "signal_expired")
    [position] = await positions(desk)
    assert position.remaining_quantity > 0
