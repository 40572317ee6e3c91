"""Stops out of sight: ours without a price, the venue's without its word. Told once, counted, and watched as well."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from app.brokers.directory import Access
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import open_paper
from app.brokers.port import CANNOT_SAY, Broker, Silence, Uncertain
from app.desk import Desk, open_database, open_sessions
from app.domain.exits import CloseReason, Protection
from app.domain.market import Quote
from app.domain.orders import OrderKey, OrderReport, Purpose
from app.domain.positions import PositionStatus
from app.engine import guarding, monitoring
from app.store.notifications import Notification, NotificationType
from app.store.positions import Position
from tests.desks import START, Clock, add_connection, opened_desk, write_recording
from tests.engine.metatrader import opened_stage
from tests.engine.signals import execute_all, orders, positions, publish, sweep_all
from tests.faults import FaultyBroker, FaultyVenue

# 20000 for ten minutes, then 18000, where it stays.
CANDLES = [("20000",) * 4] * 600 + [("20000", "20000", "18000", "18000")] + [("18000",) * 4] * 600


class Veiled(FaultyVenue):
    """A venue that for a while tells no prices, or not of all that rests there."""

    priceless = False
    """No quotes come."""
    silent = False
    """No survey is answered."""
    unshown: str | None = None
    """The order that no survey says anything of."""

    async def open(self, access: Access) -> Broker:
        """The real broker behind the veil."""
        return Veil(await self._venue.open(access), self)


class Veil(FaultyBroker):
    """The real broker, as far as it may be seen."""

    @property
    def veiled(self) -> Veiled:
        """Its venue."""
        assert isinstance(self._venue, Veiled)
        return self._venue

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """The real broker's, or none."""
        return {} if self.veiled.priceless else await super().quotes(symbols)

    async def survey(self, keys: Sequence[OrderKey]) -> Mapping[str, OrderReport | Silence]:
        """The real broker's, without what is not shown."""
        if self.veiled.silent:
            raise Uncertain("502 Bad Gateway")
        answers = dict(await super().survey(keys))
        if self.veiled.unshown in answers:
            answers[self.veiled.unshown] = CANNOT_SAY
        return answers


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def venue(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Veiled]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    database = open_database(database_url)
    played = Recordings({"BTC/USDT": recording}, Decimal(1), START)
    yield Veiled(open_paper(open_sessions(database), played, clock))
    await database.dispose()


@pytest.fixture
async def desk(database_url: str, clock: Clock, venue: Veiled) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock, venues={"paper": venue}) as desk:
        clock.move(1)
        yield desk


async def rounds(desk: Desk, clock: Clock, seconds: int) -> Position:
    """Let the worker's rounds run for so long; the position then."""
    for _ in range(seconds // 5):
        clock.move(5)
        await monitoring.watch(desk)
        await execute_all(desk)
        await sweep_all(desk)
    [position] = await positions(desk)
    return position


async def opened(
    desk: Desk, clock: Clock, *, native: bool, targets: Sequence[tuple[str, str]] = ()
) -> Position:
    """A long of 0.1 at 20000 with its stop at 19000, watched."""
    await add_connection(desk, protection={"native": native})
    await publish(desk, stop_loss="19000", targets=list(targets))
    await execute_all(desk)
    position = await rounds(desk, clock, 10)
    assert position.protected_at is not None
    return position


async def told(desk: Desk) -> list[str]:
    """The titles of messages of type risk, without the symbol."""
    async with desk.sessions() as session:
        rows = await session.scalars(
            select(Notification).where(Notification.type == NotificationType.RISK).order_by(Notification.id)
        )
        return [each.title.partition(": ")[2] for each in rows]


NO_PRICE, AGAIN = "no price to watch the stop-loss by", "stop-loss watched again"
NOT_SHOWN = "stop-loss not shown by the venue"


async def test_a_stop_of_our_own_without_a_price_is_told_once_counted_and_closes_nothing(
    desk: Desk, clock: Clock, venue: Veiled
) -> None:
    await opened(desk, clock, native=False)
    seen, venue.priceless = clock(), True
    position = await rounds(desk, clock, 55)
    assert (await told(desk), position.unprotected_since) == ([], None)
    position = await rounds(desk, clock, 5)
    assert await told(desk) == [NO_PRICE]
    assert (position.unprotected_since, position.protected_at, position.protect_by) == (seen, None, None)

    position = await rounds(desk, clock, 120)
    assert (position.status, position.unprotected_since, await told(desk)) == (
        PositionStatus.OPEN,
        seen,
        [NO_PRICE],
    )
    venue.priceless = False
    position = await rounds(desk, clock, 5)
    assert await told(desk) == [NO_PRICE, AGAIN]
    assert (position.unprotected_since, position.protected_at) == (None, clock())
    # The second before the first look, and all of the outage.
    assert position.unprotected_seconds - 5 == Decimal(str((clock() - seen).total_seconds()))

    venue.priceless = True
    await rounds(desk, clock, 65)
    assert await told(desk) == [NO_PRICE, AGAIN, NO_PRICE], "another outage is told by itself"


async def test_a_stop_that_the_venue_holds_needs_no_price_of_ours(
    desk: Desk, clock: Clock, venue: Veiled
) -> None:
    await opened(desk, clock, native=True)
    venue.priceless = True
    position = await rounds(desk, clock, 300)
    assert (position.unprotected_since, await told(desk)) == (None, [])


async def test_a_closed_market_is_no_alarm(database_url: str) -> None:
    async with opened_stage(database_url) as stage:
        await stage.activate(protection={"native": False})
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None)
        stage.venue.close_session()
        await stage.walk("EUR/USD", None, rounds=12, seconds=30)
        [position] = await positions(stage.desk)
        assert (position.protection, position.unprotected_since) == (Protection.SOFTWARE, None)
        assert await told(stage.desk) == []
        stage.venue.open_session()
        await stage.walk("EUR/USD", "1.0880")
        [position] = await positions(stage.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)


class TestProof:
    async def test_one_of_two_legs_proves_nothing_for_the_other(
        self, desk: Desk, clock: Clock, venue: Veiled
    ) -> None:
        await opened(desk, clock, native=True, targets=[("22000", "0.5"), ("23000", "0.5")])
        legs = [order for order in await orders(desk) if order.purpose is Purpose.PROTECTION]
        assert len(legs) == 2
        venue.unshown = legs[0].client_order_id
        position = await rounds(desk, clock, 60)
        assert (position.protection, await told(desk)) == (Protection.NATIVE, [])
        position = await rounds(desk, clock, 180)
        assert (position.protection, await told(desk)) == (Protection.SOFTWARE, [NOT_SHOWN])
        assert position.unprotected_since is None, "the monitor has a price for it"
        assert position.unprotected_seconds >= guarding.DOUBT.total_seconds()
        assert [leg.status for leg in await orders(desk)][1:] == [leg.status for leg in legs], "they stay"

        venue.unshown = None
        position = await rounds(desk, clock, 5)
        assert (position.protection, await told(desk)) == (Protection.NATIVE, [NOT_SHOWN, AGAIN])
        assert position.stop_doubted_at is None

    async def test_a_stop_in_doubt_is_sold_by_one_of_the_two_who_watch_it(
        self, desk: Desk, clock: Clock, venue: Veiled
    ) -> None:
        await opened(desk, clock, native=True)
        venue.silent = True
        position = await rounds(desk, clock, 300)
        assert (position.protection, await told(desk)) == (Protection.SOFTWARE, [NOT_SHOWN])
        clock.moment = START + timedelta(seconds=605)
        position = await rounds(desk, clock, 30)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
        exits = [order for order in await orders(desk) if order.filled_quantity][1:]
        assert [order.filled_quantity for order in exits] == [Decimal("0.1")]

    async def test_where_nothing_at_all_is_told_the_position_counts_as_unprotected_and_stays(
        self, desk: Desk, clock: Clock, venue: Veiled
    ) -> None:
        await opened(desk, clock, native=True)
        venue.silent = venue.priceless = True
        position = await rounds(desk, clock, 400)
        assert (position.status, position.protect_by) == (PositionStatus.OPEN, None)
        assert position.unprotected_since is not None
        assert await told(desk) == [NOT_SHOWN]
        venue.silent = False
        position = await rounds(desk, clock, 5)
        assert (position.protection, position.unprotected_since) == (Protection.NATIVE, None)
        assert await told(desk) == [NOT_SHOWN, AGAIN]
