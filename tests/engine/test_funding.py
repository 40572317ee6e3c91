"""Funding is part of what a position has made: as the exchange's ledger has it, once each, and late ones too."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.brokers.directory import Access, Directory
from app.brokers.port import Broker, Funding, Traits
from app.domain.money import ZERO
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import reporting
from app.store.analytics import DailyRow
from app.store.connections import Connection
from app.store.positions import Position
from tests.desks import START
from tests.engine.exchanges import SWAP, Stage, opened_stage
from tests.engine.signals import change, execute_all, positions, publish
from tests.faults import FaultyBroker, FaultyVenue
from tests.venues.faults import server_error

RATE = "0.0003"
INCOME = ("/fapi/v1/income", "/v5/account/transaction-log")


@pytest.fixture(params=["binanceusdm", "bybit"])
async def stage(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Stage]:
    """A swap account at each exchange, that holds 0.1."""
    async with opened_stage(database_url, request.param, SWAP) as opened:
        await opened.activate()
        await publish(opened.desk, stop_loss="15000")
        await execute_all(opened.desk)
        yield opened


async def _until(stage: Stage, moment: datetime) -> None:
    """Let time pass in steps that no quote is too old for."""
    await stage.venue.advance((moment - stage.desk.now()).total_seconds())
    await stage.walk(None, rounds=2)


async def _position(stage: Stage) -> Position:
    [position] = await positions(stage.desk)
    return position


async def _closed(stage: Stage) -> Position:
    await change(stage.desk, EventType.CLOSED)
    await execute_all(stage.desk)
    await stage.walk(None, rounds=2)
    position = await _position(stage)
    assert position.status is PositionStatus.CLOSED
    return position


def _made(stage: Stage) -> Decimal:
    """What the account has won or lost, by its own ledger."""
    return stage.ledger.balances["USDT"] - 100000


def _paid(stage: Stage) -> Decimal:
    return sum((settled.amount for settled in stage.ledger.settlements), ZERO)


NOON = START.replace(hour=12, minute=0)


async def test_what_was_realised_is_what_the_ledger_says(stage: Stage) -> None:
    await _until(stage, NOON)
    stage.venue.settle_funding(stage.symbol, RATE)
    await _until(stage, NOON + timedelta(minutes=3))
    position = await _position(stage)
    assert position.funding == _paid(stage) < ZERO
    assert position.realized_pnl == position.gross_pnl - position.fees + position.funding
    await _until(stage, NOON + timedelta(hours=4))
    stage.venue.settle_funding(stage.symbol, "-0.0001")
    await _until(stage, NOON + timedelta(hours=4, minutes=3))
    stage.venue.move(stage.symbol, 20500)
    position = await _closed(stage)
    assert len(stage.ledger.settlements) == 2
    assert position.funding == _paid(stage)
    assert position.realized_pnl == _made(stage)
    assert position.pnl_complete


async def test_what_is_heard_many_times_counts_once(stage: Stage) -> None:
    await _until(stage, NOON)
    stage.venue.settle_funding(stage.symbol, RATE)
    for hours in range(5):
        await _until(stage, NOON + timedelta(hours=hours, minutes=3))
    asked = [each for each in stage.venue.requests if each.path in INCOME]
    assert len(asked) >= 5
    assert (await _position(stage)).funding == _paid(stage)


async def test_funding_that_is_listed_after_the_end_is_booked_and_its_day_restated(stage: Stage) -> None:
    stage.floor.settlement_lag = timedelta(hours=16).total_seconds()
    await _until(stage, NOON)
    stage.venue.settle_funding(stage.symbol, RATE)
    await _until(stage, NOON + timedelta(minutes=3))
    before = await _closed(stage)
    assert (before.funding, before.realized_pnl) == (ZERO, _made(stage) - _paid(stage))
    day = START.date()
    await _until(stage, START.replace(hour=0) + timedelta(days=1, minutes=1))
    await reporting.report_day(stage.desk, day)
    assert await _net(stage, day) == before.realized_pnl
    await _until(stage, NOON + timedelta(hours=17, minutes=3))
    position = await _position(stage)
    assert position.funding == _paid(stage)
    assert position.realized_pnl == _made(stage)
    assert await _net(stage, day) == position.realized_pnl


async def _net(stage: Stage, day: object) -> Decimal | None:
    async with stage.desk.sessions() as session:
        net: Decimal | None = await session.scalar(select(DailyRow.net_pnl).where(DailyRow.day == day))
        return net


async def test_a_position_that_was_held_for_seconds_over_the_hour_is_charged_too(stage: Stage) -> None:
    await _closed(stage)
    await _until(stage, NOON - timedelta(seconds=20))
    await publish(stage.desk, "second", stop_loss="15000")
    await execute_all(stage.desk)
    await stage.venue.advance((NOON - stage.desk.now()).total_seconds())
    stage.venue.settle_funding(stage.symbol, RATE)
    await stage.venue.advance(1)
    await change(stage.desk, EventType.CLOSED, "second")
    await execute_all(stage.desk)
    await _until(stage, NOON + timedelta(minutes=3))
    first, second = await positions(stage.desk)
    assert (first.funding, second.funding) == (ZERO, _paid(stage))
    assert first.realized_pnl + second.realized_pnl == _made(stage)


async def test_a_venue_that_does_not_answer_is_asked_again(stage: Stage) -> None:
    await _until(stage, NOON)
    stage.venue.settle_funding(stage.symbol, RATE)
    down = server_error(executed=False)
    stage.venue.faults.policy = lambda asked: down if asked.path in INCOME else None
    await _until(stage, NOON + timedelta(minutes=3))
    assert (await _position(stage)).funding == ZERO
    stage.venue.faults.clear()
    await _until(stage, NOON + timedelta(minutes=5))
    assert (await _position(stage)).funding == _paid(stage)


async def test_nobody_is_asked_any_more_when_nothing_has_been_open_for_a_day(stage: Stage) -> None:
    await _closed(stage)
    for hours in range(3, 31, 9):
        await _until(stage, START + timedelta(hours=hours))
    async with stage.desk.sessions() as session:
        [connection] = await session.scalars(select(Connection))
    assert connection.funding_due_at is None
    asked = sum(each.path in INCOME for each in stage.venue.requests)
    await _until(stage, START + timedelta(hours=40))
    assert sum(each.path in INCOME for each in stage.venue.requests) == asked


class Silent(FaultyBroker):
    """A broker of a venue that charges for holding and does not say how much."""

    @property
    def traits(self) -> Traits:
        """The real broker's, but for that."""
        return replace(super().traits, funding=Funding.UNTOLD)


class SilentVenue(FaultyVenue):
    """The real venue behind such brokers."""

    async def open(self, access: Access) -> Broker:
        """A broker of that kind."""
        return Silent(await self._venue.open(access), self)


async def test_where_it_is_not_told_the_figures_are_not_complete_once_an_hour_has_passed(
    database_url: str,
) -> None:
    async with opened_stage(database_url, "binanceusdm", SWAP) as stage:
        crypto = stage.desk.brokers._venues["crypto"]
        stage.desk = replace(stage.desk, brokers=Directory({"crypto": SilentVenue(crypto)}))
        await stage.activate()
        await publish(stage.desk, stop_loss="15000")
        await execute_all(stage.desk)
        await _until(stage, START.replace(minute=50))
        assert (await _position(stage)).pnl_complete
        await _until(stage, START.replace(hour=10, minute=3))
        assert not (await _position(stage)).pnl_complete
        closed = await _closed(stage)
        assert not closed.pnl_complete
        await stage.desk.brokers.close()
