"""What a look-up that comes late, or cannot even be made, does to an order in doubt."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest

from app.brokers.directory import Access
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import VALIDITY, open_paper
from app.brokers.port import ABSENT, CANNOT_SAY, Broker, Silence, Unreachable
from app.desk import Desk, open_database, open_sessions
from app.domain.exits import Protection
from app.domain.orders import OrderKey, OrderReport, OrderRequest, OrderStatus
from app.engine import (
    endings,
    resolution,
    trades,
)
from app.engine.access import broker_of
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from app.store.orders import Order
from tests.desks import START, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, executions, orders, positions, publish, sweep_all
from tests.faults import Fault, FaultyBroker, FaultyVenue

CANDLES = [("20000", "20000", "20000", "20000")] * 1200


class Slow(FaultyVenue):
    """A venue whose look-ups say nothing, after something else has happened; or that cannot be opened at all."""

    meanwhile: Callable[[], Awaitable[None]] | None = None
    kept: asyncio.Event | None = None
    """Set when an order is there, whose answer then never comes."""
    speaks = False
    """Whether its look-ups say what there is after all."""
    shut = False

    async def open(self, access: Access) -> Broker:
        """The real broker behind it."""
        if self.shut:
            raise Unreachable("It does not answer.")
        return SlowBroker(await self._venue.open(access), self)


class SlowBroker(FaultyBroker):
    """Waits for what happens meanwhile."""

    async def place(self, request: OrderRequest) -> OrderReport:
        """The real answer, or none at all."""
        assert isinstance(self._venue, Slow)
        report = await super().place(request)
        if self._venue.kept is not None:
            self._venue.kept.set()
            await asyncio.Event().wait()
        return report

    async def find(self, key: OrderKey) -> OrderReport | Silence:
        """Nothing that could be said, once the other thing has happened."""
        assert isinstance(self._venue, Slow)
        if self._venue.speaks:
            return await super().find(key)
        if self._venue.meanwhile is not None:
            await self._venue.meanwhile()
        return CANNOT_SAY


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def venue(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Slow]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    database = open_database(database_url)
    played = Recordings({"BTC/USDT": recording}, Decimal(1), START)
    yield Slow(open_paper(open_sessions(database), played, clock))
    await database.dispose()


@pytest.fixture
async def desk(database_url: str, clock: Clock, venue: Slow) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock, venues={"paper": venue}) as desk:
        clock.move(1)
        yield desk


async def in_doubt(desk: Desk, venue: Slow) -> Order:
    """An entry of which nobody knows whether it arrived."""
    await add_connection(desk)
    venue.faults.append(Fault.REQUEST_LOST)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    [entry] = await orders(desk)
    assert entry.status is OrderStatus.SENDING
    return entry


async def test_what_a_dead_worker_has_sent_is_found_and_protected_when_its_window_is_over(
    desk: Desk, clock: Clock, venue: Slow
) -> None:
    """Only absence takes the settle time, which can be longer than anybody may be without a stop."""
    await add_connection(desk)
    venue.kept = asyncio.Event()
    await publish(desk, stop_loss="19000")
    sending = asyncio.create_task(execute_all(desk))
    await venue.kept.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    venue.kept = None
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.SENDING]
    venue.speaks = True
    clock.move(VALIDITY.total_seconds() - 1)
    assert await sweep_all(desk) == 0
    clock.move(1)
    await sweep_all(desk)
    [position] = await positions(desk)
    assert position.protection is Protection.NATIVE


async def test_two_processes_that_look_at_the_same_moment_have_looked_once(
    desk: Desk, clock: Clock, venue: Slow
) -> None:
    entry = await in_doubt(desk, venue)
    clock.move(20)
    async with desk.sessions() as session:
        connection = await session.get_one(Connection, entry.connection_id)
    traits = (await broker_of(desk, connection)).traits
    for expected in (1, 1):
        assert not await resolution.record_silence(desk, traits, entry, ABSENT, desk.now())
        [entry] = await orders(desk)
        assert entry.misses == expected
    clock.move(2)
    assert await resolution.record_silence(desk, traits, entry, ABSENT, desk.now())


async def test_what_is_proven_absent_is_rung_for_at_once(desk: Desk, clock: Clock, venue: Slow) -> None:
    await in_doubt(desk, venue)
    venue.speaks = True
    for _ in range(5):
        clock.move(2)
        await sweep_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.PENDING]
    await execute_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.EXECUTED]


@pytest.mark.parametrize("seconds", [20, 400])
async def test_a_word_that_comes_when_the_order_waits_again_changes_nothing(
    desk: Desk, clock: Clock, venue: Slow, seconds: int
) -> None:
    entry = await in_doubt(desk, venue)
    clock.move(seconds)

    async def found_absent() -> None:
        async with desk.sessions.begin() as session:
            trade = await trades.locked(session, entry.execution_id)
            endings.put_back(trade, trade.order(entry.id), "It is absent.", desk.now(), desk.now())

    venue.meanwhile = found_absent
    await resolution.resolve(desk, entry.id)
    [entry] = await orders(desk)
    assert (entry.status, entry.due_at, entry.misses) == (OrderStatus.PENDING, None, 0)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.PENDING]


async def test_a_word_that_comes_when_the_order_has_ended_leaves_it_alone(desk: Desk, venue: Slow) -> None:
    entry = await in_doubt(desk, venue)

    async def ended() -> None:
        async with desk.sessions.begin() as session:
            order = (await trades.locked(session, entry.execution_id)).order(entry.id)
            order.status, order.due_at = OrderStatus.REJECTED, None

    venue.meanwhile = ended
    await resolution.resolve(desk, entry.id)
    [entry] = await orders(desk)
    assert (entry.status, entry.due_at) == (OrderStatus.REJECTED, None)


async def test_an_account_that_cannot_be_opened_brings_its_orders_to_review(
    desk: Desk, clock: Clock, venue: Slow
) -> None:
    await in_doubt(desk, venue)
    venue.shut = True
    await desk.brokers.close()
    for _ in range(40):
        clock.move(10)
        await sweep_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.NEEDS_REVIEW]


async def test_an_entry_that_waits_is_never_taken_for_a_close(desk: Desk, venue: Slow) -> None:
    entry = await in_doubt(desk, venue)
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, entry.execution_id)
        endings.put_back(trade, trade.order(entry.id), "It is absent.", desk.now(), desk.now())
        trade.order(entry.id).due_at = desk.now()
    placed = len(venue.placed)
    await sweep_all(desk)
    entry = (await orders(desk))[0]
    assert (entry.status, entry.attempt) == (OrderStatus.FILLED, 2), "its execution has sent it again"
    assert [request.reduce_only for request in venue.placed[placed:]] == [False, True]
