"""Practice accounts through redirected endpoints: the simulators hear the practice hosts and no other."""

from collections.abc import AsyncIterator

import pytest

from app.domain.market import MarketType
from app.domain.orders import OrderStatus
from tests.brokers.contract.exchanges import STARTED_AT, exchange_stage
from tests.brokers.contract.stage import buy
from tests.venues.exchange import Exchange, running_exchange

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The simulated exchanges."""
    async with running_exchange(start=STARTED_AT) as exchange:
        yield exchange


@pytest.mark.parametrize(
    ("exchange", "market_type", "host"),
    [
        ("binance", SPOT, "testnet.binance.vision"),
        ("binance", SWAP, "demo-fapi.binance.com"),
        ("binanceusdm", SWAP, "demo-fapi.binance.com"),
        ("bybit", SPOT, "api-testnet.bybit.com"),
        ("bybit", SWAP, "api-testnet.bybit.com"),
    ],
)
async def test_an_endpoint_is_told_the_practice_host(
    venue: Exchange, exchange: str, market_type: MarketType, host: str
) -> None:
    stage = await exchange_stage(venue, exchange, market_type)
    venue.requests.clear()
    stage.sandbox = True
    await stage.restart()
    report = await buy(stage)
    assert report.status is OrderStatus.FILLED
    assert (await stage.broker.account()).balances["USDT"].total > 0
    assert {request.host for request in venue.requests} == {host}
    await stage.close()
