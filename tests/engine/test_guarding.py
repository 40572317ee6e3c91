"""Every stop is watched: at once, proven, and given up with its position when nobody can watch it in time."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.brokers.paper.book import PaperOrder
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import open_paper
from app.desk import Desk, open_database, open_sessions
from app.domain.exits import CloseReason, Protection
from app.domain.orders import OrderRequest, OrderStatus, OrderType
from app.domain.positions import PositionStatus
from app.engine import connections, monitoring
from app.engine.protection import PlanChange, edit_plan
from app.store.notifications import Notification, NotificationType
from app.store.positions import Position
from tests.desks import START, USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, orders, positions, publish, sweep_all
from tests.engine.test_triggers import connected
from tests.faults import Fault, FaultyVenue
from tests.venues.exchange import running_exchange

CANDLES = [("20000", "20000", "20000", "20000")] * 200
FEW = 5
"""Candles of a recording that ends soon: afterwards there is no fresh price."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def venue(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[FaultyVenue]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    database = open_database(database_url)
    played = Recordings({"BTC/USDT": recording}, Decimal(1), START)
    yield FaultyVenue(open_paper(open_sessions(database), played, clock), is_protective)
    await database.dispose()


@pytest.fixture
async def desk(database_url: str, clock: Clock, venue: FaultyVenue) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock, venues={"paper": venue}) as desk:
        clock.move(1)
        yield desk


def is_protective(request: OrderRequest) -> bool:
    """Whether a request is for a stop that waits at the venue."""
    return request.trigger_price is not None


def moved(stop: str) -> PlanChange:
    """An edit of the stop alone."""
    return PlanChange(frozenset({"stop_loss"}), stop_loss=Decimal(stop))


async def sweeps(desk: Desk, clock: Clock, seconds: int) -> None:
    """Let the sweep run for so long, every two seconds."""
    for _ in range(seconds // 2):
        clock.move(2)
        await execute_all(desk)
        await sweep_all(desk)


async def opened(desk: Desk, stop: str | None = "19000") -> Position:
    """A long of 0.1 at 20000."""
    await publish(desk, stop_loss=stop)
    await execute_all(desk)
    [position] = await positions(desk)
    return position


async def risks_told(desk: Desk) -> list[str]:
    """The messages of type risk."""
    async with desk.sessions() as session:
        told = await session.scalars(select(Notification).where(Notification.type == NotificationType.RISK))
        return [each.message for each in told]


async def test_the_venues_stop_stands_right_after_the_fill(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    position = await opened(desk)
    assert position.protection is Protection.NATIVE
    assert position.protected_at == clock()
    assert (position.unprotected_since, position.protect_by) == (None, None)
    assert position.unprotected_seconds <= 5
    assert position.deadline_seconds == 30


async def test_a_stop_of_our_own_counts_from_the_first_price_seen(desk: Desk, clock: Clock) -> None:
    await add_connection(desk, protection={"native": False})
    position = await opened(desk)
    assert (position.protection, position.protected_at) == (Protection.SOFTWARE, None)
    assert position.unprotected_since == clock()
    clock.move(4)
    await monitoring.watch(desk)
    [position] = await positions(desk)
    assert (position.protected_at, position.unprotected_since, position.protect_by) == (clock(), None, None)
    assert position.unprotected_seconds == 4
    await sweeps(desk, clock, 40)
    [position] = await positions(desk)
    assert position.status is PositionStatus.OPEN


async def test_a_stop_of_our_own_without_any_price_is_given_up_with_its_position(
    database_url: str, clock: Clock, tmp_path: Path
) -> None:
    recording = write_recording(tmp_path / "short.csv", CANDLES[:FEW])
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        clock.move(1)
        await add_connection(desk, protection={"native": False})
        await opened(desk)
        clock.move(1000)
        await monitoring.watch(desk)
        [position] = await positions(desk)
        assert (position.protected_at, position.marked_at) == (None, None)
        await sweep_all(desk)
        [close] = [order for order in await orders(desk) if order.reason is CloseReason.RISK]
        assert close.reduce_only
        assert len(await risks_told(desk)) == 1


@pytest.mark.parametrize(("terms", "seconds"), [({}, 30), ({"deadline_seconds": 10}, 10)])
async def test_what_cannot_be_protected_in_time_is_closed_and_the_owner_told(
    desk: Desk, clock: Clock, venue: FaultyVenue, terms: dict[str, int], seconds: int
) -> None:
    await add_connection(desk, protection=terms)
    venue.faults.extend([Fault.NOT_EXECUTED] * 100)
    await opened(desk)
    await sweeps(desk, clock, seconds - 2)
    [position] = await positions(desk)
    assert position.status is PositionStatus.OPEN, "its time is not over yet"
    assert position.unprotected_since == START + timedelta(seconds=1)
    await sweeps(desk, clock, 6)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.RISK)
    assert seconds <= position.unprotected_seconds <= seconds + 4
    [told] = await risks_told(desk)
    assert f"within {seconds} seconds" in told


async def test_a_stop_that_the_venue_refuses_is_ours_to_watch_and_closes_nothing(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk)
    venue.faults.append(Fault.REFUSED)
    position = await opened(desk)
    assert (position.protection, position.protected_at) == (Protection.SOFTWARE, None)
    clock.move(2)
    await monitoring.watch(desk)
    await sweeps(desk, clock, 60)
    [position] = await positions(desk)
    assert position.status is PositionStatus.OPEN
    assert position.unprotected_seconds == 2


async def test_the_gap_while_a_stop_is_replaced_counts(desk: Desk, clock: Clock, venue: FaultyVenue) -> None:
    await add_connection(desk)
    position = await opened(desk)
    venue.faults.extend([Fault.NOT_EXECUTED] * 3)
    await edit_plan(desk, USER, position.id, moved("19500"))
    await execute_all(desk)
    [position] = await positions(desk)
    assert (position.protected_at, position.unprotected_since) == (None, clock())
    await sweeps(desk, clock, 10)
    [position] = await positions(desk)
    assert (position.protection, position.unprotected_since) == (Protection.NATIVE, None)
    assert position.unprotected_seconds == 6


async def test_a_replacement_that_never_comes_about_closes_the_position(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk)
    position = await opened(desk)
    venue.faults.extend([Fault.NOT_EXECUTED] * 100)
    await edit_plan(desk, USER, position.id, moved("19500"))
    await sweeps(desk, clock, 36)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.RISK)


async def test_a_stop_is_proven_every_minute_and_put_back(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await opened(desk)
    for _ in range(30):
        clock.move(5)
        await monitoring.watch(desk)
        [position] = await positions(desk)
        assert position.stop_seen_at is not None
        assert clock() - position.stop_seen_at < timedelta(minutes=1)
    async with desk.sessions.begin() as session:
        await session.execute(delete(PaperOrder).where(PaperOrder.status == OrderStatus.OPEN))
    for _ in range(2):
        clock.move(5)
        await monitoring.watch(desk)
    [position] = await positions(desk)
    assert (position.protection, position.protected_at) == (Protection.NATIVE, clock())
    assert len([order for order in await orders(desk) if order.status is OrderStatus.OPEN]) == 1


async def test_a_position_without_a_stop_is_never_overdue(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    position = await opened(desk, stop=None)
    assert (position.unprotected_since, position.protected_at) == (None, None)
    await sweeps(desk, clock, 40)
    [position] = await positions(desk)
    assert position.status is PositionStatus.OPEN
    await edit_plan(desk, USER, position.id, moved("19500"))
    await execute_all(desk)
    [position] = await positions(desk)
    assert (position.protection, position.protected_at) == (Protection.NATIVE, clock())
    await edit_plan(desk, USER, position.id, PlanChange(frozenset({"stop_loss"})))
    await execute_all(desk)
    [position] = await positions(desk)
    assert (position.protected_at, position.unprotected_since) == (None, None)


@pytest.mark.parametrize("exchange", ["binanceusdm", "bybit"])
async def test_a_stop_that_stands_protects_while_a_target_is_in_doubt(
    database_url: str, exchange: str
) -> None:
    async with running_exchange(start=START) as floor, opened_desk(database_url, Clock()) as on_paper:
        crypto = open_crypto(on_paper.vault, {exchange: floor.url}, floor.clock.now)
        venue = FaultyVenue(crypto, lambda request: request.type is OrderType.TAKE_PROFIT)
        desk = replace(on_paper, brokers=Directory({"crypto": venue}), now=floor.clock.now)

        async def go_on(rounds: int) -> Position:
            for _ in range(rounds):
                await floor.advance(4)
                await monitoring.watch(desk)
                await execute_all(desk)
                await sweep_all(desk)
            [position] = await positions(desk)
            return position

        connection = await connected(desk, floor, exchange)
        assert (await connections.test(desk, USER, connection.id)).ok
        await connections.activate(desk, USER, connection.id)
        venue.faults.append(Fault.REQUEST_LOST)
        venue.blind = True
        await publish(desk, stop_loss="19000", targets=[("21000", "0.5"), ("22000", "0.5")])
        await execute_all(desk)
        position = await go_on(20)
        assert (position.status, position.unprotected_since) == (PositionStatus.OPEN, None)
        assert await risks_told(desk) == []

        venue.blind = False
        position = await go_on(20)
        assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NATIVE)
        standing = [each.type for each in await orders(desk) if each.status is OrderStatus.OPEN]
        assert sorted(standing) == [OrderType.STOP, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT]
        await venue.close()


async def test_an_answer_that_was_lost_is_looked_up_before_the_settle_time(
    desk: Desk, clock: Clock, venue: FaultyVenue
) -> None:
    await add_connection(desk)
    venue.faults.append(Fault.ANSWER_LOST)
    await opened(desk)
    await sweeps(desk, clock, 4)
    [position] = await positions(desk)
    assert (position.protection, position.unprotected_seconds <= 5) == (Protection.NATIVE, True)
