"""Fills that arrive when nobody expects any more: taken in, protected, or closed at once."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from app.brokers.directory import Access, Venue
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import SETTLE, open_paper
from app.brokers.port import ABSENT, Broker, Silence
from app.desk import Desk, open_database, open_sessions
from app.domain.exits import CloseReason, Protection
from app.domain.money import ZERO
from app.domain.orders import OrderKey, OrderReport, OrderRequest, OrderStatus, OrderType, Purpose
from app.domain.positions import PositionStatus
from app.engine import closing, monitoring, placing, protection
from app.engine.access import broker_of
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from app.store.notifications import Notification, NotificationType
from app.store.orders import Order
from tests.desks import START, USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, executions, orders, positions, publish, sweep_all
from tests.faults import Fault, FaultyBroker, FaultyVenue

# 20000, after half a minute down to 19800 where it stays: a limit at 19900 is filled on the way.
CANDLES = [
    *[("20000", "20000", "20000", "20000")] * 30,
    ("20000", "20000", "19800", "19800"),
    *[("19800", "19800", "19800", "19800")] * 600,
]


class ForgetfulVenue(FaultyVenue):
    """A venue that for a while shows none of its orders."""

    forgetful = False
    hasty = False
    """Entries are reported final before all of what is filled is counted."""
    thin = False
    """Nobody is there to trade with: what only reduces is ended unfilled."""
    pause: Callable[[], None] = staticmethod(lambda: None)
    """What happens between the asking for an order and the answer."""

    async def open(self, access: Access) -> Broker:
        """The real broker behind the gap in its memory."""
        return ForgetfulBroker(await self._venue.open(access), self)


class ForgetfulBroker(FaultyBroker):
    """Says "no such order" of everything while its venue is forgetful."""

    async def find(self, key: OrderKey) -> OrderReport | Silence:
        """Nothing, cleanly, while the venue is forgetful."""
        getattr(self._venue, "pause", lambda: None)()
        return ABSENT if getattr(self._venue, "forgetful", False) else await super().find(key)

    async def place(self, request: OrderRequest) -> OrderReport:
        """The whole truth, or only a part of it while the venue is hasty; nothing that leaves while it is thin."""
        if request.reduce_only and getattr(self._venue, "thin", False):
            self._venue.placed.append(request)
            name = request.client_order_id
            return OrderReport(name, name, OrderStatus.CANCELLED, ZERO, None)
        report = await super().place(request)
        if request.reduce_only or not getattr(self._venue, "hasty", False):
            return report
        return replace(report, status=OrderStatus.CANCELLED, filled_quantity=Decimal("0.06"))

    async def survey(self, keys: Sequence[OrderKey]) -> Mapping[str, OrderReport | Silence]:
        """The same for many."""
        return {key.client_order_id: await self.find(key) for key in keys}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def venue(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[ForgetfulVenue]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    database = open_database(database_url)
    played = Recordings({"BTC/USDT": recording}, Decimal(1), START)
    paper: Venue = open_paper(open_sessions(database), played, clock)
    yield ForgetfulVenue(paper)
    await database.dispose()


@pytest.fixture
async def desk(database_url: str, clock: Clock, venue: ForgetfulVenue) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock, venues={"paper": venue}) as desk:
        clock.move(1)
        yield desk


async def rounds(desk: Desk, clock: Clock, seconds: int) -> None:
    """Let the worker's rounds run for so long."""
    for _ in range(seconds // 5):
        clock.move(5)
        await monitoring.watch(desk)
        await execute_all(desk)
        await sweep_all(desk)


async def entry_of(desk: Desk) -> Order:
    """The entry order."""
    return next(order for order in await orders(desk) if order.purpose is Purpose.ENTRY)


async def hear(desk: Desk, order: Order, status: OrderStatus, filled: str) -> None:
    """A report of the venue that comes in at any time, as any part of the engine takes it over."""
    report = OrderReport(
        client_order_id=order.key.client_order_id,
        exchange_order_id=order.exchange_order_id or "",
        status=status,
        filled_quantity=Decimal(filled),
        average_price=Decimal(19900),
        fees={"USDT": Decimal("0.1")},
    )
    async with desk.sessions() as session:
        connection = await session.get_one(Connection, order.connection_id)
    await placing.record(desk, await broker_of(desk, connection), order, report)
    await protection.after(desk, order.execution_id)


async def errors_told(desk: Desk) -> list[str]:
    """The titles of messages of type error."""
    async with desk.sessions() as session:
        told = await session.scalars(select(Notification).where(Notification.type == NotificationType.ERROR))
        return [each.title for each in told]


async def test_an_entry_that_vanished_and_was_filled_is_found_and_protected(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19900", stop_loss="19000")
    await execute_all(desk)
    venue.forgetful = True
    await rounds(desk, clock, 15)
    [execution] = await executions(desk)
    assert (execution.status, execution.code) == (ExecutionStatus.CANCELLED, "vanished")
    assert await positions(desk) == []

    venue.forgetful = False
    await rounds(desk, clock, 45)
    [execution] = await executions(desk)
    assert (execution.status, execution.code, execution.message) == (ExecutionStatus.EXECUTED, None, None)
    [position] = await positions(desk)
    assert (position.quantity, position.protection) == (Decimal("0.1"), Protection.NATIVE)
    assert (await entry_of(desk)).due_at is None


async def test_an_entry_that_vanished_and_still_rests_is_watched_again(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="15000", stop_loss="14000")
    await execute_all(desk)
    venue.forgetful = True
    await rounds(desk, clock, 15)
    venue.forgetful = False
    await rounds(desk, clock, 45)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.OPEN]


async def test_what_vanished_for_good_is_asked_for_once_more_and_then_left(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="15000", stop_loss="14000")
    await execute_all(desk)
    venue.forgetful = True
    await rounds(desk, clock, 60)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.CANCELLED]
    assert (await entry_of(desk)).due_at is None


async def test_a_cancelled_entry_of_which_more_was_filled_grows_its_position(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="15000", stop_loss="14000")
    await execute_all(desk)
    entry = await entry_of(desk)
    await hear(desk, entry, OrderStatus.CANCELLED, "0.04")
    [execution] = await executions(desk)
    assert execution.status is ExecutionStatus.PARTIAL
    await hear(desk, entry, OrderStatus.CANCELLED, "0.07")
    [position] = await positions(desk)
    assert (position.remaining_quantity, position.status) == (Decimal("0.07"), PositionStatus.OPEN)
    await hear(desk, entry, OrderStatus.CANCELLED, "0.05")
    assert (await positions(desk))[0].remaining_quantity == Decimal("0.07"), (
        "an older report takes nothing away"
    )


async def test_what_is_filled_after_the_position_was_closed_is_closed_at_once(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    venue.hasty = True
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    entry = await entry_of(desk)
    [position] = await positions(desk)
    await closing.request_close(desk, USER, position.id, None, idempotency_key=None)
    await execute_all(desk)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)

    await hear(desk, entry, OrderStatus.FILLED, "0.1")
    [position] = await positions(desk)
    assert (position.status, position.remaining_quantity) == (PositionStatus.CLOSING, Decimal("0.04"))
    assert position.closed_at is None
    await rounds(desk, clock, 5)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
    assert (position.quantity, position.remaining_quantity, position.dust) == (Decimal("0.1"), ZERO, ZERO)
    assert position.unprotected_since is None
    assert [order.status for order in await orders(desk) if order.is_live] == []
    assert "BTC/USDT:USDT: filled after it was closed" in await errors_told(desk)


async def test_a_look_up_asked_for_before_the_settle_time_proves_nothing_however_late_its_answer(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    venue.faults.append(Fault.REQUEST_LOST)
    await publish(desk)
    await execute_all(desk)
    venue.forgetful, venue.pause = True, lambda: clock.move(4)
    clock.move(SETTLE.total_seconds() - 2)
    await sweep_all(desk)
    [order] = await orders(desk)
    assert order.signed_at is not None
    assert clock() > order.signed_at + SETTLE, "the answer came late enough, the question did not"
    assert order.misses == 0
    clock.move(2)
    await sweep_all(desk)
    [order] = await orders(desk)
    assert order.misses == 1


async def look(desk: Desk, clock: Clock, seconds: float) -> OrderStatus:
    """One round of the monitor after so long; where the entry stands then."""
    clock.move(seconds)
    await monitoring.watch(desk)
    return (await entry_of(desk)).status


async def test_what_has_just_been_acknowledged_is_not_missed(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="15000", stop_loss="14000")
    await execute_all(desk)
    venue.forgetful = True
    # The venue settles within eight seconds, and its answers lag by five at most.
    assert [await look(desk, clock, 2.6) for _ in range(3)] == [OrderStatus.OPEN] * 3
    assert (await entry_of(desk)).misses == 0


async def test_looks_that_are_one_look_count_once_whoever_takes_them(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="15000", stop_loss="14000")
    await execute_all(desk)
    venue.forgetful = True
    assert await look(desk, clock, 10) is OrderStatus.OPEN
    assert await look(desk, clock, 2.6) is OrderStatus.OPEN
    assert (await entry_of(desk)).misses == 1
    assert await look(desk, clock, 2.6) is OrderStatus.CANCELLED


async def test_an_order_that_was_seen_in_between_is_missed_anew(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="15000", stop_loss="14000")
    await execute_all(desk)
    for forgetful in (True, False, True, False, True):
        venue.forgetful = forgetful
        assert await look(desk, clock, 10) is OrderStatus.OPEN
    assert await look(desk, clock, 10) is OrderStatus.CANCELLED


async def test_a_stop_that_vanished_and_was_filled_is_counted_once(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19850")
    await execute_all(desk)
    await rounds(desk, clock, 20)
    # It fires at half a minute, and for a while the venue shows nothing of it but that the position is gone.
    venue.forgetful = True
    await rounds(desk, clock, 25)
    leg = (await orders(desk))[1]
    assert (leg.code, leg.due_at is not None) == ("vanished", True)
    venue.forgetful = False
    await rounds(desk, clock, 90)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    assert [order.filled_quantity for order in (await orders(desk))[1:] if order.filled_quantity] == [
        Decimal("0.1")
    ]
    assert position.gross_pnl == Decimal("-15")


async def test_a_venue_that_refuses_to_close_a_late_fill_is_asked_less_and_less_often(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    venue.hasty = True
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    entry = await entry_of(desk)
    [position] = await positions(desk)
    await closing.request_close(desk, USER, position.id, None, idempotency_key=None)
    await execute_all(desk)
    venue.pick = lambda request: request.reduce_only
    venue.faults.extend([Fault.REFUSED] * 100)
    await hear(desk, entry, OrderStatus.FILLED, "0.1")
    for _ in range(40):
        clock.move(2)
        await sweep_all(desk)
    asked = 100 - len(venue.faults)
    assert 4 <= asked <= 8
    [close] = [order for order in await orders(desk) if order.is_live and order.purpose is Purpose.CLOSE]
    assert (close.reason, close.attempt) == (CloseReason.MANUAL, asked)
    assert (await errors_told(desk)).count("BTC/USDT:USDT: closing order refused") == 1
    venue.faults.clear()
    await rounds(desk, clock, 40)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)


async def test_a_late_fill_that_nobody_takes_is_offered_now_and_then_and_told_once(
    desk: Desk, clock: Clock, venue: ForgetfulVenue
) -> None:
    await add_connection(desk)
    venue.hasty = True
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    entry = await entry_of(desk)
    [position] = await positions(desk)
    await closing.request_close(desk, USER, position.id, None, idempotency_key=None)
    await execute_all(desk)
    venue.thin = True
    venue.placed.clear()
    await hear(desk, entry, OrderStatus.FILLED, "0.1")
    for _ in range(40):
        clock.move(2)
        await sweep_all(desk)
    offered = [request for request in venue.placed if request.type is OrderType.MARKET]
    assert 4 <= len(offered) <= 8
    assert (await errors_told(desk)).count("BTC/USDT:USDT: filled after it was closed") == 1
    venue.thin = False
    await rounds(desk, clock, 40)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
