"""What goes wrong before an order is sent is certain: nothing was executed, and it may be sent again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from app.brokers.port import Unreachable
from app.domain.market import MarketType
from app.domain.orders import OrderRequest, OrderStatus, OrderType, Side
from tests.brokers.contract.exchanges import STARTED_AT, ExchangeStage, exchange_stage
from tests.brokers.contract.stage import UNIT, buy, order
from tests.venues.exchange import running_exchange
from tests.venues.faults import HTML, TRUNCATED, Fault, server_error
from tests.venues.wire import WireRequest

STAGES: Final = {
    "binance-spot": ("binance", MarketType.SPOT),
    "binanceusdm": ("binanceusdm", MarketType.SWAP),
    "bybit-spot": ("bybit", MarketType.SPOT),
    "bybit-swap": ("bybit", MarketType.SWAP),
}

FAULTS: Final = {
    "truncated": TRUNCATED,
    "a page": HTML,
    "a server's error": server_error(executed=False),
}


class Nth:
    """Strikes one request of those before the first that places: the `number`th from now on."""

    def __init__(self, fault: Fault, number: int) -> None:
        self.fault, self.number = fault, number
        self.seen = 0
        self.is_over = False

    def __call__(self, request: WireRequest) -> Fault | None:
        """The fault, when its turn has come."""
        self.is_over |= request.places
        if self.is_over:
            return None
        self.seen += 1
        return self.fault if self.seen == self.number else None


@asynccontextmanager
async def _staged(name: str) -> AsyncIterator[ExchangeStage]:
    async with running_exchange(start=STARTED_AT) as venue:
        stage = await exchange_stage(venue, *STAGES[name])
        try:
            yield stage
        finally:
            await stage.close()
        venue.audit()


def _entry(stage: ExchangeStage) -> OrderRequest:
    return order(stage, Side.BUY, OrderType.MARKET)


def _stop(stage: ExchangeStage) -> OrderRequest:
    return order(stage, Side.SELL, OrderType.STOP, UNIT / 2, trigger=19000, reduce_only=True)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("name", "make"), [*((name, _entry) for name in STAGES), ("bybit-spot", _stop)])
async def test_a_failure_before_the_order_leaves_may_be_tried_again(name: str, make: Any, fault: str) -> None:
    async with _staged(name) as stage:
        await buy(stage)
        failures = 0
        for number in range(1, 30):
            await stage.restart()
            policy = stage.venue.faults.policy = Nth(FAULTS[fault], number)
            request = make(stage)
            try:
                report = await stage.broker.place(request)
            except Unreachable:
                failures += 1
                assert stage.venue.accepted(request.client_order_id) == []
                assert not policy.is_over, "the order was sent"
                stage.venue.faults.clear()
                # The engine's next attempt has an id of its own.
                request = make(stage)
                report = await stage.broker.place(request)
            assert report.status in (OrderStatus.FILLED, OrderStatus.OPEN)
            assert len(stage.venue.accepted(request.client_order_id)) == 1
            stage.venue.faults.clear()
            if report.status is OrderStatus.OPEN:
                await stage.broker.cancel(request.key)
            if policy.seen < number:
                break
        assert failures >= 1
