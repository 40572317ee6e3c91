"""Intake: what it costs to take a signal in, when the bell rings, and how an event and a claim wait for each other."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.desk import Desk
from app.domain.owners import Owner, Role
from app.domain.signals import EventType
from app.engine import execution, intake
from app.store import entitlements, events
from app.store.events import Event, Reception
from app.store.executions import Execution, ExecutionStatus
from tests.desks import START, USER, Clock, add_connection, opened_desk
from tests.engine.signals import change, executions, message, publish


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock) as desk:
        yield desk


@contextmanager
def statements_of(desk: Desk) -> Iterator[list[str]]:
    """What is sent to the database meanwhile, over connections that are opened meanwhile."""
    sent: list[str] = []

    def hear(query: Any) -> None:
        sent.append(query.query)

    def listen(connection: Any, _record: object) -> None:
        connection.driver_connection.add_query_logger(hear)

    database = desk.sessions.kw["bind"].sync_engine
    event.listen(database, "connect", listen)
    try:
        yield sent
    finally:
        event.remove(database, "connect", listen)


async def until_somebody_waits(session: AsyncSession) -> None:
    """Wait until a statement of this database waits for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE NOT granted AND datname = current_database()"
    )
    async with asyncio.timeout(10):
        while not await session.scalar(waiting):
            await asyncio.sleep(0.01)


async def test_more_signals_at_once_than_the_pool_keeps_connections_leave_none_behind(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    sent = await asyncio.gather(*(publish(desk, f"of a burst {number}") for number in range(60)))
    assert {each.status for each in sent} == {Reception.ACCEPTED}
    pool = desk.sessions.kw["bind"].pool
    assert (pool.checkedin(), pool.checkedout()) == (10, 0)
    # Closed is not left to whoever clears up: at the server each ends by itself, a moment later.
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    )
    async with asyncio.timeout(30):
        while True:
            async with desk.sessions() as session:
                if await session.scalar(others) <= 10:
                    break
            await asyncio.sleep(0.02)
    assert [
        record.getMessage() for record in caplog.records if record.name.startswith("sqlalchemy.pool")
    ] == []


async def test_a_signal_to_many_is_one_statement_and_one_ring(desk: Desk) -> None:
    for number in range(30):
        await add_connection(desk, owner=Owner(Role.ADMIN, f"admin-{number}"))
    await desk.sessions.kw["bind"].dispose()
    with statements_of(desk) as sent:
        receipt = await publish(desk)
        # What the driver tells its listeners comes a turn of the loop later.
        await asyncio.sleep(0)
    assert receipt.status is Reception.ACCEPTED
    assert [statement for statement in sent if "execution_" in statement] == sent[-1:], (
        "one statement, and no COMMIT after it"
    )

    found = await executions(desk)
    assert len(found) == 30
    assert len({each.connection_id for each in found}) == 30
    queue: Any = desk.queue
    assert sorted(queue.rung) == sorted(("execute", each.id) for each in found)


async def test_ids_made_by_the_database_sort_by_age(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    for number in range(3):
        await publish(desk, f"s{number}")
        clock.move(1)
    async with desk.sessions() as session:
        by_id = (await session.scalars(select(Execution.received_at).order_by(Execution.id))).all()
    assert by_id == [START + timedelta(seconds=seconds) for seconds in range(3)]
    assert {each.id.version for each in await executions(desk)} == {7}
    assert {each.id.variant for each in await executions(desk)} == {"specified in RFC 4122"}


async def test_work_is_due_soon_after_it_was_rung_for(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk)
    await change(desk, EventType.CANCELLED)
    [execution_] = await executions(desk)
    assert execution_.due_at == START + intake.FIRST_CHANCE
    async with desk.sessions() as session:
        due = await session.scalar(select(Event.due_at).where(Event.type == EventType.CANCELLED))
    assert due == START + intake.FIRST_CHANCE
    assert timedelta(seconds=15) > intake.FIRST_CHANCE, "the contract's clock"


async def test_a_duplicate_rings_for_nothing(desk: Desk) -> None:
    await add_connection(desk)
    first = await publish(desk, webhook_id="m1")
    queue: Any = desk.queue
    queue.rung.clear()
    again = await publish(desk, webhook_id="m1")
    renamed = await publish(desk, webhook_id="m2")
    assert (again.status, renamed.status) == (Reception.DUPLICATE, Reception.DUPLICATE)
    assert (again.signal_id, renamed.signal_id) == (first.signal_id, first.signal_id)
    assert queue.rung == []
    async with desk.sessions() as session:
        kept = (await session.execute(select(Event.webhook_id, Event.status).order_by(Event.id))).all()
    assert [tuple(each) for each in kept] == [("m1", Reception.ACCEPTED), ("m2", Reception.DUPLICATE)]


async def test_a_webhook_id_is_spent_once_whatever_it_carries(desk: Desk) -> None:
    """A replayed id with another signal in it starts nothing."""
    await add_connection(desk)
    await publish(desk, "s1", webhook_id="m1")
    other = await publish(desk, "s2", webhook_id="m1")
    assert (other.status, other.signal_id) == (Reception.DUPLICATE, None)
    assert len(await executions(desk)) == 1


@pytest.mark.parametrize("type_", [EventType.UPDATED, EventType.CANCELLED, EventType.CLOSED])
async def test_an_event_waits_for_a_claim_that_is_running(desk: Desk, type_: EventType) -> None:
    await publish(desk)
    async with desk.sessions.begin() as claim:
        await events.listen(claim, "default", "s1")
        told = asyncio.create_task(change(desk, type_))
        await until_somebody_waits(claim)
        assert not told.done(), "its 202 would say more than holds"
    assert (await told).status is Reception.ACCEPTED


async def test_a_claim_waits_for_an_event_that_is_being_stored_and_heeds_it(desk: Desk, clock: Clock) -> None:
    connection = await add_connection(desk, paper={"prices": "synthetic"})
    await publish(desk)
    [pending] = await executions(desk)
    cancel = message(desk, EventType.CANCELLED, "s1")
    async with desk.sessions.begin() as storing:
        await events.speak(storing, "default", "s1")
        claiming = asyncio.create_task(execution.execute(desk, pending.id))
        await until_somebody_waits(storing)
        storing.add(
            Event(
                webhook_id=cancel.webhook_id,
                type=cancel.type,
                provider="default",
                source_id="s1",
                timestamp=clock(),
                data={"id": "s1"},
                body_sha256=b"",
                status=Reception.ACCEPTED,
                received_at=clock(),
            )
        )
    await claiming
    [done] = await executions(desk)
    assert (done.connection_id, done.status, done.code) == (
        connection.id,
        ExecutionStatus.DENIED,
        "signal_cancelled",
    )


async def test_claims_of_one_signal_do_not_wait_for_each_other(desk: Desk) -> None:
    async with desk.sessions.begin() as one, desk.sessions.begin() as other:
        await events.listen(one, "default", "s1")
        async with asyncio.timeout(5):
            await events.listen(other, "default", "s1")


async def test_every_later_event_is_followed(desk: Desk) -> None:
    await publish(desk)
    queue: Any = desk.queue
    later = (EventType.UPDATED, EventType.CANCELLED, EventType.CLOSED)
    for type_ in later:
        await change(desk, type_)
    async with desk.sessions() as session:
        stored = await session.scalars(select(Event.id).where(Event.type.in_(later)).order_by(Event.id))
    assert queue.rung == [("follow", event_id) for event_id in stored]


async def test_entitling_by_hand_is_a_statement_of_now(desk: Desk, clock: Clock) -> None:
    await intake.entitle(desk, USER.id, ["gold"], None)
    async with desk.sessions() as session:
        entitled = await entitlements.of_user(session, USER.id)
    assert entitled is not None
    assert (entitled.plans, entitled.expires_at, entitled.stated_at) == (["gold"], None, START)

    # What was stated earlier and comes later does not undo it.
    earlier = message(desk, EventType.SUBSCRIPTION, "unused")
    stated = intake.Message(
        webhook_id=earlier.webhook_id,
        type=earlier.type,
        timestamp=START - timedelta(seconds=1),
        body_sha256=b"",
        data={},
    )
    clock.move(10)
    receipt = await intake.subscribe(
        desk, stated, user_id=USER.id, plans=[], expires_at=START, max_connections=1
    )
    assert receipt.status is Reception.ACCEPTED
    async with desk.sessions() as session:
        kept = await entitlements.of_user(session, USER.id)
        assert kept is not None
        assert kept.plans == ["gold"]
        assert await session.scalar(select(func.count()).select_from(Event)) == 1
