"""The limit on a day's loss: counted in the claim, seen by the monitor, lifted by the next UTC day."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import open_paper
from app.desk import Desk, open_database, open_sessions
from app.domain.exits import CloseReason
from app.domain.market import MarketType
from app.domain.positions import PositionStatus
from app.domain.risk import Mode
from app.engine import closing, connections, execution, halting, losses, monitoring
from app.store import positions as rows
from app.store.audit import Action, AuditEntry
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from app.store.notifications import Notification
from tests.desks import USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, executions, positions, publish

# Two minutes before midnight. 20000 for half a minute, 19000 until 23:59:30, 18000 until 00:00:30, then 17000.
EVENING = datetime(2026, 11, 24, 23, 58, tzinfo=UTC)
LEVELS = [("20000", 30), ("19000", 60), ("18000", 60), ("17000", 900)]
CANDLES = [(price, price, price, price) for price, seconds in LEVELS for _ in range(seconds)]
HALF_PAST = 35
MIDNIGHT = 125
SPOT: dict[str, Any] = {
    "market_type": MarketType.SPOT,
    "paper": {"fee_percent": "0"},
    "sizing": {"strategy": "fixed", "value": "0.1"},
}


@pytest.fixture
def clock() -> Clock:
    return Clock(EVENING)


@pytest.fixture
async def desk(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Desk]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    database = open_database(database_url)
    played = Recordings({"BTC/USDT": recording}, Decimal(1), EVENING)
    paper = open_paper(open_sessions(database), played, clock)
    async with opened_desk(database_url, clock, venues={"paper": paper}) as desk:
        clock.move(1)
        yield desk
    await database.dispose()


async def look(desk: Desk, clock: Clock, second: float) -> None:
    """A round of the monitor at this second after the start."""
    clock.move(second - (clock() - EVENING).total_seconds())
    await monitoring.watch(desk)


async def connection_row(desk: Desk) -> Connection:
    """The one connection."""
    async with desk.sessions() as session:
        return (await session.scalars(select(Connection))).one()


async def told(desk: Desk) -> list[str]:
    """What the owner was told of risk."""
    async with desk.sessions() as session:
        return list(await session.scalars(select(Notification.message).where(Notification.type == "risk")))


async def codes(desk: Desk) -> list[str | None]:
    """Why executions were denied."""
    return [each.code for each in await executions(desk)]


async def test_an_open_loss_that_reaches_the_limit_stops_entries_and_closes_nothing(
    desk: Desk, clock: Clock
) -> None:
    await add_connection(desk, limits={"max_daily_loss": "100"}, **SPOT)
    await publish(desk, "held")
    await publish(desk, "resting", order_type="limit", entry_price="15000")
    await execute_all(desk)
    await look(desk, clock, 20)
    assert (await connection_row(desk)).mode_at(clock()) is Mode.ACTIVE
    await publish(desk, "waiting")

    await look(desk, clock, HALF_PAST)
    row = await connection_row(desk)
    assert (row.mode, row.mode_at(clock())) == (Mode.ACTIVE, Mode.REDUCING)
    assert row.reducing_until == datetime(2026, 11, 25, tzinfo=UTC)
    done = await executions(desk)
    assert [each.status for each in done] == ["executed", "cancelled", "denied"]
    assert done[2].code == "max_daily_loss"
    assert done[2].message == "Today's loss is 100.00000000 USDT; the limit is 100 USDT."
    assert [each.status for each in await positions(desk)] == [PositionStatus.OPEN]

    await publish(desk, "later")
    await execute_all(desk)
    assert (await codes(desk))[-1] == "max_daily_loss"
    await look(desk, clock, HALF_PAST + 5)
    [message] = await told(desk)
    assert message == (
        "Today's loss is 100.00000000 USDT; the limit is 100 USDT. "
        "It takes no entries until 2026-11-25 00:00 UTC. Open positions stay open and watched."
    )
    async with desk.sessions() as session:
        [entry] = await session.scalars(select(AuditEntry))
    assert (entry.action, entry.actor) == (Action.DAILY_LOSS, None)


async def test_a_loss_below_the_limit_stops_nothing(desk: Desk, clock: Clock) -> None:
    await add_connection(desk, limits={"max_daily_loss": "100.01"}, **SPOT)
    await publish(desk, "held")
    await execute_all(desk)
    await look(desk, clock, HALF_PAST)
    await publish(desk, "later")
    await execute_all(desk)
    assert await codes(desk) == [None, None]
    assert await told(desk) == []


async def test_asked_to_it_closes_what_is_open(desk: Desk, clock: Clock) -> None:
    await add_connection(desk, limits={"max_daily_loss": "50", "on_daily_loss": "close"}, **SPOT)
    await publish(desk, "one", stop_loss="10000")
    await publish(desk, "two")
    await execute_all(desk)
    await look(desk, clock, HALF_PAST)
    held = await positions(desk)
    assert [(each.status, each.close_reason) for each in held] == [
        (PositionStatus.CLOSED, CloseReason.RISK)
    ] * 2
    assert "are being closed" in (await told(desk))[0]


async def test_realised_losses_count_and_gains_count_against_them(desk: Desk, clock: Clock) -> None:
    await add_connection(desk, limits={"max_daily_loss": "100"}, **{**SPOT, "market_type": MarketType.SWAP})
    await publish(desk, "long")
    await execute_all(desk)
    clock.move(HALF_PAST)
    [position] = await positions(desk)
    await closing.request_close(desk, USER, position.id, None, idempotency_key=None)
    await execute_all(desk)
    await publish(desk, "later")
    await execute_all(desk)
    assert await codes(desk) == [None, "max_daily_loss"], (
        "the claim counts it before any round of the monitor"
    )
    await monitoring.watch(desk)
    assert len(await told(desk)) == 1, "with nothing open the owner is told all the same"


async def test_the_next_day_lifts_it_and_counts_from_midnight(desk: Desk, clock: Clock) -> None:
    connection = await add_connection(desk, limits={"max_daily_loss": "100"}, **SPOT)
    await publish(desk, "held")
    await execute_all(desk)
    await look(desk, clock, HALF_PAST)
    await look(desk, clock, 119)
    await look(desk, clock, MIDNIGHT)
    assert (await connection_row(desk)).mode_at(clock()) is Mode.ACTIVE
    async with desk.sessions() as session:
        assert await rows.lost_today(session, connection.id, clock()) == {"USDT": Decimal(0)}
    await publish(desk, "new day", published_at=clock())
    await execute_all(desk)
    assert await codes(desk) == [None, None]
    await look(desk, clock, 155)
    # 0.2 BTC from 18000 to 17000: another 200 since midnight.
    assert (await connection_row(desk)).mode_at(clock()) is Mode.REDUCING
    assert len(await told(desk)) == 2


async def test_what_is_left_after_midnight_before_a_mark_counts_from_the_last_one(
    desk: Desk, clock: Clock
) -> None:
    connection = await add_connection(desk, **SPOT)
    await publish(desk, "held")
    await execute_all(desk)
    await look(desk, clock, 119)
    clock.move(155 - 119)
    [position] = await positions(desk)
    await closing.request_close(desk, USER, position.id, Decimal("0.5"), idempotency_key=None)
    await execute_all(desk)
    await look(desk, clock, 160)
    async with desk.sessions() as session:
        assert await rows.lost_today(session, connection.id, clock()) == {"USDT": Decimal(100)}


async def test_a_mode_that_people_set_is_never_lifted(desk: Desk, clock: Clock) -> None:
    connection = await add_connection(desk, limits={"max_daily_loss": "100"}, **SPOT)
    await publish(desk, "held")
    await execute_all(desk)
    await look(desk, clock, HALF_PAST)
    await halting.set_mode(desk, USER, connection.id, Mode.HALTED, None, owner=USER)
    assert (await connection_row(desk)).mode_at(clock()) is Mode.HALTED
    await look(desk, clock, MIDNIGHT)
    assert (await connection_row(desk)).mode_at(clock()) is Mode.HALTED


async def test_a_raised_limit_lets_entries_in_again(desk: Desk, clock: Clock) -> None:
    connection = await add_connection(desk, limits={"max_daily_loss": "100"}, **SPOT)
    await publish(desk, "held")
    await execute_all(desk)
    await look(desk, clock, HALF_PAST)
    await connections.change(
        desk, USER, connection.id, {"limits": {"max_daily_loss": "100", "max_open_positions": 5}}
    )
    assert (await connection_row(desk)).mode_at(clock()) is Mode.REDUCING
    await connections.change(desk, USER, connection.id, {"limits": {"max_daily_loss": "101"}})
    await publish(desk, "later")
    await execute_all(desk)
    assert await codes(desk) == [None, None]


async def test_many_workers_enter_nothing_after_the_loss_and_tell_it_once(desk: Desk, clock: Clock) -> None:
    await add_connection(desk, limits={"max_daily_loss": "100", "on_daily_loss": "close"}, **SPOT)
    for number in range(2):
        await publish(desk, f"held{number}")
    await execute_all(desk)
    clock.move(HALF_PAST)
    for number in range(10):
        await publish(desk, f"late{number}")
    pending = [each.id for each in await executions(desk) if each.status is ExecutionStatus.PENDING]
    await monitoring.watch_open(desk)  # the marks are in, and nobody has acted on them yet
    await asyncio.gather(
        *(execution.execute(desk, each) for each in pending), *(losses.enforce(desk) for _ in range(6))
    )
    late = [each for each in await executions(desk) if each.id in pending]
    assert {(each.status, each.code, each.attempts) for each in late} == {("denied", "max_daily_loss", 0)}
    assert len(await told(desk)) == 1
    held = await positions(desk)
    assert [(each.status, each.close_reason) for each in held] == [
        (PositionStatus.CLOSED, CloseReason.RISK)
    ] * 2
