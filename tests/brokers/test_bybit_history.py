"""Bybit forgets what was closed with every release of its own; the history still tells it, whatever it ended as."""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from app.brokers.port import ABSENT
from app.domain.market import MarketType
from app.domain.orders import OrderReport, OrderStatus, OrderType, Side
from tests.brokers.contract.exchanges import STARTED_AT, ExchangeStage, exchange_stage
from tests.brokers.contract.stage import UNIT, order
from tests.venues.exchange import running_exchange
from tests.venues.faults import partial

DAY = 86_400


@pytest.fixture(params=[MarketType.SPOT, MarketType.SWAP])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[ExchangeStage]:
    """An account there."""
    async with running_exchange(start=STARTED_AT) as venue:
        opened = await exchange_stage(venue, "bybit", request.param)
        yield opened
        await opened.close()
        venue.audit()


async def test_a_filled_order_is_found_after_a_release(stage: ExchangeStage) -> None:
    request = order(stage, Side.BUY, OrderType.MARKET)
    placed = await stage.broker.place(request)
    stage.venue.bybit.release()
    assert await stage.broker.find(request.key) == placed


async def test_an_order_filled_in_part_is_found_after_a_release(stage: ExchangeStage) -> None:
    request = order(stage, Side.BUY, OrderType.MARKET)
    stage.venue.faults.add(partial(Decimal("0.4")))
    placed = await stage.broker.place(request)
    assert (placed.status, placed.filled_quantity) == (OrderStatus.CANCELLED, UNIT * 2 / 5)
    stage.venue.bybit.release()
    assert await stage.broker.find(request.key) == placed


async def test_a_cancelled_order_is_found_after_a_release(stage: ExchangeStage) -> None:
    request = order(stage, Side.BUY, OrderType.LIMIT, price=19000)
    await stage.broker.place(request)
    ended = await stage.broker.cancel(request.key)
    assert ended.status is OrderStatus.CANCELLED
    stage.venue.bybit.release()
    assert await stage.broker.find(request.key) == ended


async def test_an_order_that_rested_for_weeks_is_found_after_a_release(stage: ExchangeStage) -> None:
    request = order(stage, Side.BUY, OrderType.LIMIT, price=19000)
    await stage.broker.place(request)
    await stage.advance(20 * DAY)
    await stage.move(19000)
    stage.venue.bybit.release()
    found = await stage.broker.find(request.key)
    assert isinstance(found, OrderReport)
    assert (found.status, found.filled_quantity) == (OrderStatus.FILLED, UNIT)


async def test_what_was_never_there_is_absent_after_a_release(stage: ExchangeStage) -> None:
    stage.venue.bybit.release()
    assert await stage.broker.find(order(stage, Side.BUY, OrderType.MARKET).key) is ABSENT
