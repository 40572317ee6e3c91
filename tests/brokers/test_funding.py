"""Funding as the exchanges list it: every payment once, whatever the pages and windows; below zero was paid."""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from app.brokers.port import Funding, Refused, VenueError
from app.domain.market import MarketType
from app.domain.orders import OrderType, Side
from tests.brokers.contract.exchanges import STARTED_AT, ExchangeStage, exchange_stage
from tests.brokers.contract.stage import UNIT, buy, order, sell
from tests.venues.exchange import running_exchange
from tests.venues.faults import HTML, TRUNCATED, Fault, server_error
from tests.venues.wire import Intent

HOUR = 3600


@pytest.fixture(params=["binanceusdm", "bybit"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[ExchangeStage]:
    """A swap account at each exchange."""
    async with running_exchange(start=STARTED_AT) as venue:
        opened = await exchange_stage(venue, request.param, MarketType.SWAP)
        yield opened
        await opened.close()
        venue.audit()


async def test_longs_pay_and_shorts_receive(stage: ExchangeStage) -> None:
    since = stage.now()
    await buy(stage)
    stage.venue.settle_funding(stage.symbol, "0.0001")
    await sell(stage)
    await stage.advance(8 * HOUR)
    await stage.broker.place(order(stage, Side.SELL, OrderType.MARKET))
    stage.venue.settle_funding(stage.symbol, "0.0002")
    paid, received = await stage.broker.payments(since)
    assert (paid.symbol, paid.currency, paid.time) == (stage.symbol, "USDT", since)
    assert paid.amount == -UNIT * 20000 * Decimal("0.0001")
    assert received.amount == UNIT * 20000 * Decimal("0.0002")
    assert paid.id != received.id
    assert await stage.broker.payments(stage.now()) == [received]


async def test_more_than_a_page_and_more_than_a_week_are_told_once_each(stage: ExchangeStage) -> None:
    since = stage.now()
    await buy(stage)
    for _ in range(130):
        await stage.advance(4 * HOUR)
        stage.venue.settle_funding(stage.symbol, "0.0001")
    payments = await stage.broker.payments(since)
    assert len({payment.id for payment in payments}) == len(payments) == 130
    assert payments == sorted(payments, key=lambda payment: payment.time)


@pytest.mark.parametrize("fault", [HTML, TRUNCATED, server_error(executed=False)])
async def test_an_answer_that_cannot_be_read_is_not_nothing(stage: ExchangeStage, fault: Fault) -> None:
    await buy(stage)
    stage.venue.settle_funding(stage.symbol, "0.0001")
    stage.venue.faults.add(fault, lambda asked: asked.intent is Intent.ACCOUNT)
    with pytest.raises(VenueError):
        await stage.broker.payments(STARTED_AT)


async def test_spot_charges_nothing_for_holding() -> None:
    async with running_exchange(start=STARTED_AT) as venue:
        stage = await exchange_stage(venue, "binance", MarketType.SPOT)
        assert stage.broker.traits.funding is Funding.NONE
        with pytest.raises(Refused):
            await stage.broker.payments(STARTED_AT)
        await stage.close()
