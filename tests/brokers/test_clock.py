"""Clocks that differ: requests are signed by the venue's, measured once, and again when it doubts ours."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.brokers.port import Unreachable
from app.domain.market import MarketType
from app.domain.orders import OrderReport, OrderStatus, OrderType, Side
from tests.brokers.contract.exchanges import STARTED_AT, ExchangeStage, exchange_stage
from tests.brokers.contract.stage import buy, order, quote
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import server_error

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The simulated exchanges."""
    async with running_exchange(start=STARTED_AT) as exchange:
        yield exchange


@pytest.fixture(params=[("binance", SPOT), ("binanceusdm", SWAP), ("bybit", SPOT), ("bybit", SWAP)])
async def stage(venue: Exchange, request: pytest.FixtureRequest) -> AsyncIterator[ExchangeStage]:
    """An account at each."""
    exchange, market_type = request.param
    opened = await exchange_stage(venue, exchange, market_type)
    yield opened
    await opened.close()


def _asked_the_time(stage: ExchangeStage) -> int:
    return sum(each.path.endswith("/time") for each in stage.venue.requests)


@pytest.mark.parametrize("skew", [timedelta(minutes=-10), timedelta(minutes=10)])
async def test_an_order_is_signed_by_the_venues_clock(stage: ExchangeStage, skew: timedelta) -> None:
    stage.skew = skew
    await stage.restart()
    request = order(stage, Side.BUY, OrderType.MARKET)
    report = await stage.broker.place(request)
    assert report.status is OrderStatus.FILLED
    assert isinstance(await stage.broker.find(request.key), OrderReport)
    assert _asked_the_time(stage) == 1
    # What the venue says of a price is as old as it is by our clock.
    assert abs((await quote(stage)).time - stage.now()) < timedelta(seconds=5)


async def test_time_is_asked_for_once_for_all_accounts(stage: ExchangeStage) -> None:
    await buy(stage)
    await stage.broker.account()
    await buy(stage)
    assert _asked_the_time(stage) == 1


async def test_a_doubted_time_is_measured_again_and_nothing_was_executed(stage: ExchangeStage) -> None:
    await buy(stage)
    stage.skew = timedelta(minutes=3)
    late = order(stage, Side.BUY, OrderType.MARKET)
    with pytest.raises(Unreachable):
        await stage.broker.place(late)
    assert stage.venue.accepted(late.client_order_id) == []
    assert (await buy(stage)).status is OrderStatus.FILLED
    assert _asked_the_time(stage) == 2


async def test_a_venue_that_does_not_tell_its_time_is_signed_for_by_ours(stage: ExchangeStage) -> None:
    stage.venue.faults.add(server_error(executed=False), lambda asked: asked.path.endswith("/time"), times=9)
    assert (await buy(stage)).status is OrderStatus.FILLED
    await stage.broker.account()
    assert _asked_the_time(stage) == 1, "and it is left alone for a moment"
