"""What must never happen: nothing twice, nothing lost, whatever goes wrong between us and the venue."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from app.brokers.paper.book import PaperOrder
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import open_paper
from app.brokers.port import CREDENTIALS_REFUSED, Refused, Uncertain, Unreachable, VenueError
from app.desk import Desk, open_database, open_sessions
from app.domain.errors import Conflict
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.orders import OrderRequest, OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import closing, execution, monitoring
from app.store.executions import ExecutionStatus
from tests.desks import START, USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import change, execute_all, executions, orders, positions, publish, sweep_all
from tests.faults import Fault, FaultyVenue, ProcessDied

CANDLES = [
    *[("20000", "20000", "20000", "20000")] * 30,
    ("20000", "20000", "19000", "19000"),
    *[("19000", "19000", "19000", "19000")] * 900,
]


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


async def placed_at_venue(desk: Desk) -> int:
    """How many orders the venue's own book holds."""
    async with desk.sessions() as session:
        return await session.scalar(select(func.count()).select_from(PaperOrder)) or 0


async def settle(desk: Desk, clock: Clock, rounds: int = 12) -> None:
    """Let the worker's rounds run for a while."""
    for _ in range(rounds):
        clock.move(2)
        await sweep_all(desk)


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.DIES])
async def test_an_entry_whose_answer_is_lost_is_found_and_not_sent_again(
    desk: Desk, clock: Clock, venue: FaultyVenue, fault: Fault
) -> None:
    await add_connection(desk)
    venue.faults.append(fault)
    await publish(desk, stop_loss="18000")
    try:
        await execute_all(desk)
    except ProcessDied:
        assert fault is Fault.DIES
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.SENDING]
    await settle(desk, clock)

    [done] = await executions(desk)
    assert (done.status, done.attempts) == (ExecutionStatus.EXECUTED, 1)
    [position] = await positions(desk)
    assert position.protection is Protection.NATIVE
    assert await placed_at_venue(desk) == 2


async def test_an_entry_that_never_arrived_is_sent_once_more_after_it_is_proven(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk)
    venue.faults.append(Fault.REQUEST_LOST)
    await publish(desk, stop_loss="18000")
    await execute_all(desk)
    first = (await orders(desk))[0]
    clock.move(5)
    await sweep_all(desk)
    assert len(await orders(desk)) == 1, "absent before the settle time proves nothing"
    await settle(desk, clock)

    [done] = await executions(desk)
    assert (done.status, done.attempts) == (ExecutionStatus.EXECUTED, 2)
    assert done.client_order_id != first.client_order_id
    assert await placed_at_venue(desk) == 2


async def test_an_entry_proven_absent_too_late_is_denied(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk, limits={"max_signal_age_seconds": 5})
    venue.faults.append(Fault.REQUEST_LOST)
    await publish(desk)
    await execute_all(desk)
    await settle(desk, clock)

    [done] = await executions(desk)
    assert (done.status, done.code) == (ExecutionStatus.DENIED, "signal_too_old")
    assert [order.status for order in await orders(desk)] == [OrderStatus.CANCELLED]
    assert await placed_at_venue(desk) == 0


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (Uncertain("502 Bad Gateway"), "The venue could not be asked: 502 Bad Gateway"),
        (
            Refused("Invalid API-key.", code=CREDENTIALS_REFUSED),
            "The venue does not accept the credentials: Invalid API-key.",
        ),
    ],
)
async def test_a_signal_that_grew_old_while_its_venue_could_not_be_asked_says_why(
    desk: Desk, clock: Clock, venue: FaultyVenue, failure: VenueError, why: str
) -> None:
    await add_connection(desk)
    venue.closed = failure
    await publish(desk)
    await execute_all(desk)
    for _ in range(12):
        clock.move(30)
        await sweep_all(desk)
    [done] = await executions(desk)
    assert (done.status, done.code) == (ExecutionStatus.DENIED, "signal_too_old")
    assert done.message is not None
    assert done.message.startswith("The signal is ")
    assert done.message.endswith(f" s old; 300 s are accepted. Until then: {why}")


@pytest.mark.parametrize(
    ("type_", "code"),
    [(EventType.CANCELLED, "signal_cancelled"), (EventType.CLOSED, "signal_closed")],
)
async def test_what_waits_for_its_venue_ends_with_its_signal_and_asks_no_more(
    desk: Desk, clock: Clock, venue: FaultyVenue, type_: EventType, code: str
) -> None:
    await add_connection(desk)
    venue.closed = Unreachable("binance has asked us to slow down; nothing was sent.")
    await publish(desk)
    await execute_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.PENDING]

    await change(desk, EventType.UPDATED, stop_loss="18500")
    await execute_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.PENDING]
    clock.move(1)
    await change(desk, type_)
    await execute_all(desk)
    [done] = await executions(desk)
    assert (done.status, done.code, done.due_at) == (ExecutionStatus.DENIED, code, None)

    venue.closed = None
    await settle(desk, clock)
    assert await placed_at_venue(desk) == 0


async def test_what_waits_for_its_venue_is_executed_though_a_portion_was_closed(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk)
    venue.closed = Unreachable("binance has asked us to slow down; nothing was sent.")
    await publish(desk)
    await execute_all(desk)
    await change(desk, EventType.CLOSED, portion="0.5")
    await execute_all(desk)
    venue.closed = None
    await settle(desk, clock)
    [done] = await executions(desk)
    assert (done.status, done.requested_quantity) == (ExecutionStatus.EXECUTED, Decimal("0.05")), (
        "half of 0.1"
    )


async def test_a_venue_that_cannot_say_ends_in_review_and_is_still_asked(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk)
    venue.faults.append(Fault.ANSWER_LOST)
    venue.blind = True
    await publish(desk, stop_loss="18000")
    await execute_all(desk)
    await settle(desk, clock, rounds=200)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.NEEDS_REVIEW]
    await publish(desk, "s2")
    await execute_all(desk)
    assert (await executions(desk))[1].code == "symbol_in_use"

    venue.blind = False
    await settle(desk, clock, rounds=40)
    assert (await executions(desk))[0].status is ExecutionStatus.EXECUTED
    assert [each.status for each in await positions(desk)] == [PositionStatus.OPEN]


async def test_a_symbol_with_an_order_in_review_takes_no_entry_on_spot_either(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk, market_type=MarketType.SPOT)
    venue.faults.append(Fault.ANSWER_LOST)
    venue.blind = True
    await publish(desk, stop_loss="18000")
    await execute_all(desk)
    clock.move(400)
    await settle(desk, clock)
    await publish(desk, "s2", stop_loss="18000")
    await execute_all(desk)
    first, second = await executions(desk)
    assert first.status is ExecutionStatus.NEEDS_REVIEW
    assert (second.status, second.code) == (ExecutionStatus.DENIED, "order_in_review")
    assert second.message == (
        "What became of an order of ours in BTC/USDT is not known; nothing is entered there until it is."
    )

    venue.blind = False
    clock.move(61)
    await settle(desk, clock)
    await publish(desk, "s3", stop_loss="18000")
    await execute_all(desk)
    assert [each.status for each in await executions(desk)][2] is ExecutionStatus.EXECUTED


@pytest.mark.parametrize("kind", [EventType.CLOSED, EventType.CANCELLED])
async def test_the_end_of_a_signal_reaches_an_entry_that_was_in_review(
    desk: Desk, clock: Clock, venue: FaultyVenue, kind: EventType
) -> None:
    await add_connection(desk)
    is_closed = kind is EventType.CLOSED
    terms: dict[str, Any] = {} if is_closed else {"order_type": "limit", "entry_price": "18500"}
    venue.faults.append(Fault.ANSWER_LOST)
    venue.blind = True
    await publish(desk, stop_loss="18000", **terms)
    await execute_all(desk)
    clock.move(400)
    await settle(desk, clock)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.NEEDS_REVIEW]

    await change(desk, kind)
    await execute_all(desk)
    venue.blind = False
    for _ in range(10):
        clock.move(20)
        await settle(desk, clock, rounds=2)
        await execute_all(desk)

    [done] = await executions(desk)
    assert [each["outcome"] for each in done.signal_events] == ["closed" if is_closed else "applied"]
    if is_closed:
        [position] = await positions(desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.SIGNAL)
    else:
        assert done.status is ExecutionStatus.CANCELLED
        assert await positions(desk) == []


async def test_what_nobody_foresaw_on_one_account_keeps_nobody_from_the_others(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    broken = await add_connection(desk)
    await add_connection(desk, protection={"max_hold_minutes": 1})
    await publish(desk, stop_loss="18000")
    await execute_all(desk)
    venue.broken = broken.id
    clock.move(70)
    with pytest.raises(ExceptionGroup) as failed:
        await monitoring.watch(desk)
    assert failed.group_contains(ZeroDivisionError)
    status = {each.connection_id == broken.id: each.status for each in await positions(desk)}
    assert status == {True: PositionStatus.OPEN, False: PositionStatus.CLOSED}
    venue.broken = None
    clock.move(31)
    await monitoring.watch(desk)


async def test_an_entry_that_was_certainly_not_executed_is_tried_again(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk)
    venue.faults.extend([Fault.NOT_EXECUTED, Fault.NOT_EXECUTED])
    await publish(desk)
    await execute_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.PENDING]
    await settle(desk, clock)
    [done] = await executions(desk)
    assert (done.status, done.attempts) == (ExecutionStatus.EXECUTED, 3)


async def test_a_refused_entry_is_rejected_with_the_venues_words(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk)
    venue.faults.append(Fault.REFUSED)
    await publish(desk)
    await execute_all(desk)
    await settle(desk, clock)
    [done] = await executions(desk)
    assert (done.status, done.code, done.message) == (ExecutionStatus.REJECTED, "rejected_by_venue", "no")


def is_exit(request: OrderRequest) -> bool:
    """Whether a request leaves a position."""
    return request.reduce_only


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_leg_that_goes_wrong_leaves_the_position_watched_and_ends_well(
    desk: Desk, clock: Clock, venue: FaultyVenue, fault: Fault
) -> None:
    await add_connection(desk)
    venue.pick = is_exit
    venue.faults.append(fault)
    await publish(desk, stop_loss="19500")
    try:
        await execute_all(desk)
    except ProcessDied:
        assert fault is Fault.DIES
    [position] = await positions(desk)
    assert position.protection is Protection.SOFTWARE
    await settle(desk, clock)
    [position] = await positions(desk)
    assert position.protection is (Protection.SOFTWARE if fault is Fault.REFUSED else Protection.NATIVE)
    clock.move(30)
    for _ in range(6):
        await monitoring.watch(desk)
        await settle(desk, clock, rounds=3)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    sold = [o for o in await orders(desk) if o.purpose is not Purpose.ENTRY and o.filled_quantity]
    assert sum(order.filled_quantity for order in sold) == position.quantity


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_close_that_goes_wrong_is_carried_out_exactly_once(
    desk: Desk, clock: Clock, venue: FaultyVenue, fault: Fault
) -> None:
    await add_connection(desk, protection={"native": False})
    venue.pick = is_exit
    venue.faults.append(fault)
    await publish(desk, stop_loss="19500")
    await execute_all(desk)
    clock.move(35)
    try:
        await monitoring.watch(desk)
    except ProcessDied:
        assert fault is Fault.DIES
    await settle(desk, clock, rounds=30)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    closes = [request for request in venue.placed if request.reduce_only]
    assert sum(request.quantity for request in closes) == position.quantity


async def test_many_workers_on_one_execution_place_one_order(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk)
    [pending] = await executions(desk)
    await asyncio.gather(*(execution.execute(desk, pending.id) for _ in range(12)))
    assert len(await orders(desk)) == 1
    assert await placed_at_venue(desk) == 1


async def test_limits_hold_with_many_workers(desk: Desk) -> None:
    await add_connection(desk, limits={"max_daily_trades": 3}, market_type=MarketType.SPOT)
    for number in range(10):
        await publish(desk, f"s{number}")
    pending = await executions(desk)
    await asyncio.gather(*(execution.execute(desk, each.id) for each in pending))
    done = [each.status for each in await executions(desk)]
    assert done.count(ExecutionStatus.EXECUTED) == 3
    assert done.count(ExecutionStatus.DENIED) == 7


async def test_free_balance_is_spent_once_with_many_workers(desk: Desk) -> None:
    await add_connection(
        desk, sizing={"strategy": "fixed_amount", "value": "4000"}, market_type=MarketType.SPOT
    )
    for number in range(6):
        await publish(desk, f"s{number}")
    pending = await executions(desk)
    await asyncio.gather(*(execution.execute(desk, each.id) for each in pending))
    done = await executions(desk)
    assert [each.status for each in done].count(ExecutionStatus.EXECUTED) == 2
    assert {each.code for each in done} == {None, "insufficient_balance"}


async def test_two_closes_at_once_are_one_close_and_one_conflict(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="18000")
    await execute_all(desk)
    [position] = await positions(desk)
    answers = await asyncio.gather(
        *(closing.request_close(desk, USER, position.id, None, idempotency_key=None) for _ in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Conflict) for answer in answers) == 7
    await execute_all(desk)
    closes = [order for order in await orders(desk) if order.purpose is Purpose.CLOSE]
    assert [order.status for order in closes] == [OrderStatus.FILLED]


async def test_a_repeated_idempotency_key_closes_once(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="18000")
    await execute_all(desk)
    [position] = await positions(desk)
    for _ in range(2):
        await closing.request_close(desk, USER, position.id, Decimal("0.5"), idempotency_key="again")
        await execute_all(desk)
    [position] = await positions(desk)
    assert position.remaining_quantity == Decimal("0.05")
