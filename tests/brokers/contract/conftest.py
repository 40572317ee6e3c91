"""The brokers that the contract is tested on. A new broker adds its stages here, and nothing else."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.domain.market import MarketType
from tests.brokers.contract.exchanges import STARTED_AT, exchange_stage
from tests.brokers.contract.metatrader import BITCOIN, TENS, metatrader_stage
from tests.brokers.contract.metatrader import STARTED_AT as BRIDGED_AT
from tests.brokers.contract.paper import paper_stage
from tests.brokers.contract.stage import Stage
from tests.venues.exchange import running_exchange
from tests.venues.metatrader import Listing, Method, conduct, running_bridge

Setting = tuple[async_sessionmaker[AsyncSession], Path]
OpenStage = Callable[[Setting], AbstractAsyncContextManager[Stage]]


def paper(market_type: MarketType) -> OpenStage:
    """The paper venue."""

    @asynccontextmanager
    async def open_stage(setting: Setting) -> AsyncIterator[Stage]:
        sessions, directory = setting
        yield await paper_stage(sessions, directory / "candles.csv", market_type)

    return open_stage


def simulated(exchange: str, market_type: MarketType) -> OpenStage:
    """An exchange of ccxt, simulated on the wire."""

    @asynccontextmanager
    async def open_stage(setting: Setting) -> AsyncIterator[Stage]:
        del setting
        async with running_exchange(start=STARTED_AT) as venue:
            stage = await exchange_stage(venue, exchange, market_type)
            yield stage
            await stage.close()
            venue.audit()

    return open_stage


def bridged(platform: str, method: Method = Method.HEDGING, listing: Listing = BITCOIN) -> OpenStage:
    """A MetaTrader broker behind its bridge, simulated on the wire."""

    @asynccontextmanager
    async def open_stage(setting: Setting) -> AsyncIterator[Stage]:
        del setting
        async with running_bridge(start=BRIDGED_AT, listings=[listing]) as venue:
            stage = await metatrader_stage(venue, platform, method)
            yield stage
            await stage.close()
            venue.audit()
            # The contract takes legs off that the engine would leave where they are.
            conduct.assert_sound(venue, may_take_stops_off=True)

    return open_stage


STAGES = {
    "paper-spot": paper(MarketType.SPOT),
    "paper-swap": paper(MarketType.SWAP),
    "binance-spot": simulated("binance", MarketType.SPOT),
    "binance-swap": simulated("binance", MarketType.SWAP),
    "binanceusdm-swap": simulated("binanceusdm", MarketType.SWAP),
    "bybit-spot": simulated("bybit", MarketType.SPOT),
    "bybit-swap": simulated("bybit", MarketType.SWAP),
    "mt4": bridged("mt4"),
    "mt5-hedging": bridged("mt5"),
    "mt5-netting": bridged("mt5", Method.NETTING),
    "mt4-tens": bridged("mt4", listing=TENS),
    "mt5-tens": bridged("mt5", listing=TENS),
}


@pytest.fixture(params=STAGES)
async def stage(
    request: pytest.FixtureRequest, sessions: async_sessionmaker[AsyncSession], tmp_path: Path
) -> AsyncIterator[Stage]:
    """A fresh account at each of the brokers in turn."""
    async with STAGES[request.param]((sessions, tmp_path)) as opened:
        yield opened
