"""Halting: nothing is entered after it, nothing that rests stays, and no exit is ever in its way."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import open_paper
from app.brokers.port import Unreachable
from app.desk import Desk, open_database, open_sessions
from app.domain.errors import Conflict, NotFound
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.orders import OrderStatus, Purpose
from app.domain.owners import Owner, Role
from app.domain.positions import PositionStatus
from app.domain.risk import Mode
from app.engine import closing, execution, halting, monitoring, reviewing, withdrawing
from app.engine.reviewing import Finding
from app.store import trading
from app.store.audit import Action, AuditEntry
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from app.store.notifications import Notification
from tests.desks import START, USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, executions, orders, positions, publish, sweep_all
from tests.faults import Fault, FaultyVenue, ProcessDied

CANDLES = [
    *[("20000", "20000", "20000", "20000")] * 60,
    ("20000", "20000", "19000", "19000"),
    *[("19000", "19000", "19000", "19000")] * 900,
]
ADMIN = Owner(Role.ADMIN, "root")
LIMIT: dict[str, Any] = {"order_type": "limit", "entry_price": "19500"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def venue(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[FaultyVenue]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    database = open_database(database_url)
    played = Recordings({"BTC/USDT": recording}, Decimal(1), START)
    yield FaultyVenue(open_paper(open_sessions(database), played, clock))
    await database.dispose()


@pytest.fixture
async def desk(database_url: str, clock: Clock, venue: FaultyVenue) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock, venues={"paper": venue}) as desk:
        clock.move(1)
        yield desk


async def audited(desk: Desk) -> list[AuditEntry]:
    """The whole trail, oldest first."""
    async with desk.sessions() as session:
        return list(await session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


async def statuses(desk: Desk) -> list[tuple[str, str | None]]:
    """Status and code of every execution."""
    return [(each.status.value, each.code) for each in await executions(desk)]


@pytest.mark.parametrize("state", [Mode.REDUCING, Mode.HALTED])
async def test_the_kill_switch_takes_back_entries_and_leaves_exits_alone(
    desk: Desk, clock: Clock, state: Mode
) -> None:
    await add_connection(desk, market_type=MarketType.SPOT, protection={"native": False})
    await publish(desk, "held", stop_loss="19900")
    await publish(desk, "resting", **LIMIT)
    await execute_all(desk)
    await publish(desk, "waiting")

    await halting.set_trading(desk, ADMIN, state, "enough")
    await publish(desk, "later")
    await execute_all(desk)

    code = f"trading_{state}"
    assert await statuses(desk) == [
        ("executed", None),
        ("cancelled", code),
        ("denied", code),
        ("denied", code),
    ]
    clock.move(65)
    await monitoring.watch(desk)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    [entry] = await audited(desk)
    assert (entry.action, entry.actor, entry.reason) == (Action.TRADING, ADMIN, "enough")
    assert entry.detail == {"before": "active", "after": state}

    await halting.set_trading(desk, ADMIN, Mode.ACTIVE, "good again")
    await publish(desk, "again")
    await execute_all(desk)
    assert (await statuses(desk))[-1] == ("executed", None)


async def test_every_owner_who_trades_hears_of_the_kill_switch_once(desk: Desk) -> None:
    for owner in (USER, USER, Owner(Role.USER, "other"), ADMIN):
        await add_connection(desk, owner=owner)
    await add_connection(desk, owner=Owner(Role.USER, "idle"))
    async with desk.sessions.begin() as session:
        idle = update(Connection).where(Connection.owner_id == "idle").values(status="inactive")
        await session.execute(idle)
    for state in (Mode.HALTED, Mode.HALTED, Mode.ACTIVE):
        await halting.set_trading(desk, ADMIN, state, "Exchange outage.")
    async with desk.sessions() as session:
        told = (await session.scalars(select(Notification).order_by(Notification.id))).all()
    heard = sorted((each.owner_role, each.owner_id, each.data["mode"], each.type) for each in told)
    owners = sorted({(ADMIN.role, ADMIN.id), (USER.role, USER.id), (Role.USER, "other")})
    assert heard == sorted((*owner, mode, "risk") for owner in owners for mode in ("halted", "active"))
    assert [each.data["mode"] for each in told] == ["halted"] * 3 + ["active"] * 3, "ids sort by time"
    assert "Exchange outage." in told[0].message
    assert {each.id.version for each in told} == {7}


async def test_no_claim_commits_after_the_kill_switch(desk: Desk) -> None:
    for number in range(5):
        await add_connection(desk, market_type=MarketType.SPOT, sizing={"strategy": "fixed", "value": "0.01"})
        await publish(desk, f"s{number}")
    pending = [each.id for each in await executions(desk)]

    async def claimed() -> int:
        return sum(each.status is not ExecutionStatus.PENDING for each in await executions(desk))

    async def halt() -> int:
        await asyncio.sleep(0.02)
        async with desk.sessions.begin() as session:
            await trading.speak(session)
            await trading.set_state(session, Mode.HALTED, "now", "root", desk.now())
        return sum(each.attempts > 0 for each in await executions(desk))

    at_commit, *_ = await asyncio.gather(halt(), *(execution.execute(desk, each) for each in pending))
    assert await claimed() == len(pending)
    done = await executions(desk)
    assert sum(each.attempts > 0 for each in done) == at_commit
    assert {each.code for each in done if not each.attempts} <= {"trading_halted"}


async def test_a_halt_waits_for_running_claims_and_claims_wait_for_it(desk: Desk) -> None:
    async with desk.sessions.begin() as claim:
        await trading.listen(claim)
        async with desk.sessions.begin() as other_claim:
            await trading.listen(other_claim)
        halted = asyncio.create_task(halting.set_trading(desk, ADMIN, Mode.HALTED, "now"))
        await asyncio.sleep(0.1)
        assert not halted.done()
        assert await trading.state(claim) is Mode.ACTIVE
    await halted
    async with desk.sessions() as session:
        assert await trading.state(session) is Mode.HALTED


async def test_an_entry_found_resting_after_the_kill_switch_is_taken_back(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk)
    venue.faults.append(Fault.ANSWER_LOST)
    await publish(desk, **LIMIT)
    await execute_all(desk)
    await halting.set_trading(desk, ADMIN, Mode.HALTED, "now")
    assert await statuses(desk) == [("sending", None)]
    for _ in range(6):
        clock.move(2)
        await sweep_all(desk)
    await monitoring.watch(desk)
    assert await statuses(desk) == [("cancelled", "trading_halted")]


@pytest.mark.parametrize("actor", [USER, ADMIN])
async def test_a_mode_is_for_one_connection_and_its_owner_is_told(desk: Desk, actor: Owner) -> None:
    connection = await add_connection(desk)
    await add_connection(desk)
    await publish(desk, "resting", **LIMIT)
    await execute_all(desk)
    await publish(desk, "waiting")
    owner = USER if actor is USER else None
    await halting.set_mode(desk, actor, connection.id, Mode.HALTED, "a break", owner=owner)
    await execute_all(desk)
    mine = [each for each in await executions(desk) if each.connection_id == connection.id]
    others = [each for each in await executions(desk) if each.connection_id != connection.id]
    assert [(each.status, each.code) for each in mine] == [
        ("cancelled", "trading_halted"),
        ("denied", "trading_halted"),
    ]
    assert [each.code for each in others] == [None, "symbol_in_use"]
    [entry] = await audited(desk)
    assert (entry.actor, entry.connection_id, entry.reason) == (actor, connection.id, "a break")
    async with desk.sessions() as session:
        told = await session.scalars(select(Notification).where(Notification.type == "connection"))
        [message] = [each.message for each in told]
    assert message == (
        "You set its mode to halted: a break"
        if actor is USER
        else "An administrator set its mode to halted: a break"
    )


async def test_another_owners_mode_is_out_of_reach(desk: Desk) -> None:
    connection = await add_connection(desk)
    with pytest.raises(NotFound):
        await halting.set_mode(desk, ADMIN, connection.id, Mode.HALTED, None, owner=ADMIN)
    with pytest.raises(NotFound):
        await halting.close_all(desk, ADMIN, connection.id, None, owner=ADMIN)
    assert await audited(desk) == []


async def test_the_trail_cannot_be_changed(desk: Desk) -> None:
    await halting.set_trading(desk, ADMIN, Mode.HALTED, "now")
    for statement in (
        "UPDATE execution_audit SET reason = 'other'",
        "DELETE FROM execution_audit",
        "TRUNCATE execution_audit",
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            async with desk.sessions.begin() as session:
                await session.execute(text(statement))
    assert len(await audited(desk)) == 1


@pytest.mark.parametrize("native", [True, False])
async def test_close_all_leaves_nothing_and_tells_what_became_of_each(desk: Desk, native: bool) -> None:
    connection = await add_connection(desk, market_type=MarketType.SPOT, protection={"native": native})
    await publish(desk, "one", stop_loss="19000", targets=[("21000", "0.5")])
    await publish(desk, "two")
    await publish(desk, "resting", **LIMIT)
    await execute_all(desk)
    await publish(desk, "waiting")

    cleared = await halting.close_all(desk, USER, connection.id, "out", owner=USER)

    assert [each.status for each in cleared.entries] == [ExecutionStatus.CANCELLED] * 2
    assert [(each.position.status, each.message) for each in cleared.positions] == [
        (PositionStatus.CLOSED, None)
    ] * 2
    held = await positions(desk)
    assert {each.close_reason for each in held} == {CloseReason.MANUAL}
    assert not [each for each in await orders(desk) if each.is_live]
    [entry] = await audited(desk)
    assert (entry.action, entry.reason) == (Action.CLOSE_ALL, "out")
    assert entry.detail == {"entries": 2, "positions": 2}

    await publish(desk, "later")
    await execute_all(desk)
    assert (await statuses(desk))[-1] == ("executed", None)


async def test_close_all_makes_a_waiting_close_of_a_part_one_of_everything(desk: Desk) -> None:
    connection = await add_connection(desk)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    [position] = await positions(desk)
    await closing.request_close(desk, USER, position.id, Decimal("0.3"), idempotency_key=None)
    await halting.close_all(desk, USER, connection.id, None, owner=USER)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
    assert [each.quantity for each in await orders(desk) if each.purpose is Purpose.CLOSE] == [Decimal("0.1")]


async def test_close_all_goes_on_by_itself_where_the_venue_fails(desk: Desk, venue: FaultyVenue) -> None:
    connection = await add_connection(desk, protection={"native": False})
    await publish(desk, stop_loss="15000")
    await execute_all(desk)
    venue.faults.append(Fault.NOT_EXECUTED)
    cleared = await halting.close_all(desk, USER, connection.id, None, owner=USER)
    [remnant] = cleared.positions
    assert (remnant.position.status, remnant.message) == (PositionStatus.CLOSING, "too many requests")
    again = await halting.close_all(desk, USER, connection.id, None, owner=USER)
    assert [each.position.status for each in again.positions] == [PositionStatus.CLOSED]
    assert (await halting.close_all(desk, USER, connection.id, None, owner=USER)).positions == []


async def test_close_all_holds_though_the_process_dies_while_it_asks_the_venue(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    connection = await add_connection(desk, market_type=MarketType.SPOT, protection={"native": False})
    await publish(desk, "open", stop_loss="15000")
    await publish(desk, "resting", **LIMIT)
    await execute_all(desk)
    venue.deadly = True
    with pytest.raises(ProcessDied):
        await halting.close_all(desk, USER, connection.id, None, owner=USER)
    venue.deadly = False
    for _ in range(2):
        clock.move(6)
        await monitoring.watch(desk)
        await sweep_all(desk)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
    assert await statuses(desk) == [("executed", None), ("cancelled", None)]


async def test_close_all_says_what_the_venue_refused(desk: Desk, venue: FaultyVenue) -> None:
    connection = await add_connection(desk, protection={"native": False})
    await publish(desk, stop_loss="15000")
    await execute_all(desk)
    venue.faults.append(Fault.REFUSED)
    [remnant] = (await halting.close_all(desk, USER, connection.id, None, owner=USER)).positions
    assert (remnant.position.status, remnant.message) == (PositionStatus.OPEN, "no")
    assert remnant.position.protection is Protection.SOFTWARE


async def test_a_waiting_and_a_resting_entry_can_be_taken_back(desk: Desk) -> None:
    await add_connection(desk, market_type=MarketType.SPOT)
    await publish(desk, "resting", **LIMIT)
    await execute_all(desk)
    await publish(desk, "waiting")
    for each in await executions(desk):
        await withdrawing.cancel(desk, USER, each.id)
    await execute_all(desk)
    assert await statuses(desk) == [("cancelled", None)] * 2
    for each in await executions(desk):
        with pytest.raises(Conflict):
            await withdrawing.cancel(desk, USER, each.id)
        with pytest.raises(NotFound):
            await withdrawing.cancel(desk, ADMIN, each.id)


async def test_what_was_filled_of_an_entry_taken_back_stays_and_is_protected(desk: Desk) -> None:
    await add_connection(desk, paper={"partial_fill_percent": "40"})
    await publish(desk, order_type="limit", entry_price="20000", stop_loss="19000")
    await execute_all(desk)
    [before] = await executions(desk)
    await withdrawing.cancel(desk, USER, before.id)
    [after] = await executions(desk)
    assert (before.status, after.status) == (ExecutionStatus.OPEN, ExecutionStatus.PARTIAL)
    [position] = await positions(desk)
    assert (position.remaining_quantity, position.protection) == (after.filled_quantity, Protection.NATIVE)


async def test_an_entry_on_its_way_cannot_be_taken_back_yet(desk: Desk, venue: FaultyVenue) -> None:
    await add_connection(desk)
    venue.faults.append(Fault.REQUEST_LOST)
    await publish(desk)
    await execute_all(desk)
    [sending] = await executions(desk)
    with pytest.raises(Conflict, match="on its way"):
        await withdrawing.cancel(desk, USER, sending.id)


async def in_review(desk: Desk, clock: Clock, venue: FaultyVenue, fault: Fault) -> None:
    """An entry that nobody knows the outcome of."""
    await add_connection(desk)
    venue.faults.append(fault)
    venue.blind = True
    await publish(desk, stop_loss="15000")
    await execute_all(desk)
    for _ in range(200):
        clock.move(2)
        await sweep_all(desk)
    assert await statuses(desk) == [("needs_review", None)]


async def test_a_human_may_say_that_an_entry_is_absent(desk: Desk, clock: Clock, venue: FaultyVenue) -> None:
    await in_review(desk, clock, venue, Fault.REQUEST_LOST)
    [execution] = await executions(desk)
    with pytest.raises(NotFound):
        await reviewing.resolve(desk, ADMIN, execution.id, Finding.ABSENT, None)
    await reviewing.resolve(desk, USER, execution.id, Finding.ABSENT, None)
    assert await statuses(desk) == [("rejected", "never_arrived")]
    with pytest.raises(Conflict, match="Nothing"):
        await reviewing.resolve(desk, USER, execution.id, Finding.ABSENT, None)
    [entry] = await audited(desk)
    assert (entry.action, entry.execution_id) == (Action.RESOLVE, execution.id)
    assert entry.detail["finding"] == "absent"


async def test_a_human_may_say_that_an_entry_was_placed(desk: Desk, clock: Clock, venue: FaultyVenue) -> None:
    await in_review(desk, clock, venue, Fault.ANSWER_LOST)
    [execution] = await executions(desk)
    with pytest.raises(Conflict, match="cannot say"):
        await reviewing.resolve(desk, USER, execution.id, Finding.PLACED, "7")
    venue.blind = False
    await reviewing.resolve(desk, USER, execution.id, Finding.PLACED, None)
    assert await statuses(desk) == [("executed", None)]
    [position] = await positions(desk)
    assert position.protection is Protection.NATIVE
    assert [each.detail["finding"] for each in await audited(desk)] == ["placed"]


async def test_an_exit_that_is_absent_is_sent_again(desk: Desk, clock: Clock, venue: FaultyVenue) -> None:
    await add_connection(desk, protection={"native": False})
    await publish(desk, stop_loss="15000")
    await execute_all(desk)
    [position] = await positions(desk)
    venue.faults.append(Fault.REQUEST_LOST)
    venue.blind = venue.secretive = True
    await closing.request_close(desk, USER, position.id, None, idempotency_key=None)
    await execute_all(desk)
    clock.move(31)
    await sweep_all(desk)
    assert [o.status for o in await orders(desk)] == [OrderStatus.FILLED, OrderStatus.NEEDS_REVIEW]
    await reviewing.resolve(desk, USER, position.execution_id, Finding.ABSENT, None)
    await sweep_all(desk)
    assert [o.status for o in await orders(desk)] == [OrderStatus.FILLED] * 2
    [position] = await positions(desk)
    assert position.status is PositionStatus.CLOSED


async def test_a_cancellation_the_venue_does_not_confirm_is_an_outage(desk: Desk, venue: FaultyVenue) -> None:
    await add_connection(desk)
    await publish(desk, **LIMIT)
    await execute_all(desk)
    [resting] = await executions(desk)
    venue.deaf = True
    with pytest.raises(Unreachable):
        await withdrawing.cancel(desk, USER, resting.id)
    assert await statuses(desk) == [("open", None)]
