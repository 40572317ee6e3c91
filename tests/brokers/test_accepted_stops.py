"""A stop that the venue has accepted is never reported as not executed, whatever cannot be asked afterwards."""

from collections.abc import AsyncIterator

import pytest

from app.brokers.port import Uncertain
from app.domain.market import MarketType
from app.domain.orders import OrderReport, OrderStatus, OrderType, Side
from tests.brokers.contract.exchanges import ExchangeStage, exchange_stage
from tests.brokers.contract.stage import UNIT, buy, order
from tests.venues.exchange import running_exchange
from tests.venues.faults import Fault, server_error
from tests.venues.wire import Intent, WireRequest


@pytest.fixture
async def stage() -> AsyncIterator[ExchangeStage]:
    """Bybit spot, where a stop that is passed already would wait for the price to come back."""
    async with running_exchange() as venue:
        stage = await exchange_stage(venue, "bybit", MarketType.SPOT)
        yield stage
        await stage.close()


async def test_no_price_after_acceptance_leaves_it_uncertain_and_it_is_found(stage: ExchangeStage) -> None:
    await buy(stage)
    placed = len(stage.venue.bybit.floor.orders)

    def blind(request: WireRequest) -> Fault | None:
        has_come = len(stage.venue.bybit.floor.orders) > placed
        is_price = request.intent is Intent.PUBLIC and request.path.endswith("tickers")
        return server_error(503, executed=False) if has_come and is_price else None

    stage.venue.faults.policy = blind
    stop = order(stage, Side.SELL, OrderType.STOP, UNIT, trigger=19000, reduce_only=True)
    with pytest.raises(Uncertain):
        await stage.broker.place(stop)
    found = await stage.broker.find(stop.key)
    assert isinstance(found, OrderReport)
    assert found.status is OrderStatus.OPEN
    assert len(stage.venue.bybit.floor.orders) == placed + 1
