"""Paper accounts on the prices of a real exchange, as its simulator tells them on the wire."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.brokers.crypto import open_crypto
from app.brokers.directory import Access
from app.brokers.paper.venue import PaperBroker, open_paper
from app.brokers.port import ABSENT, CANNOT_SAY, Refused, VenueError
from app.domain.market import MarketType
from app.domain.orders import Leg, OrderReport, OrderRequest, OrderStatus, OrderType, Side
from app.settings import new_vault_key, vault_key_bytes
from app.vault import Vault
from tests.brokers.contract.exchanges import STARTED_AT
from tests.brokers.contract.paper import access_of
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import server_error

Sessions = async_sessionmaker[AsyncSession]

SYMBOL = "BTC/USDT:USDT"


@dataclass
class Stage:
    """A paper account that follows the simulated exchange, whose clock is ours too."""

    venue: Exchange
    broker: PaperBroker

    def request(self, type_: OrderType, side: Side, **prices: str) -> OrderRequest:
        """An order over 0.1, signed now."""
        bare = OrderRequest(uuid4().hex, SYMBOL, side, type_, Decimal("0.1"), self.venue.clock.now())
        exact: dict[str, Any] = {name: Decimal(price) for name, price in prices.items()}
        return replace(bare, **exact)

    async def placed(self, type_: OrderType, side: Side, **prices: str) -> OrderRequest:
        """An order the venue has taken."""
        request = self.request(type_, side, **prices)
        await self.broker.place(request)
        return request

    async def report(self, request: OrderRequest) -> OrderReport:
        """What has become of it."""
        found = await self.broker.find(request.key)
        assert isinstance(found, OrderReport)
        return found


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    async with running_exchange(start=STARTED_AT) as venue:
        venue.move(SYMBOL, 20000)
        yield venue


@pytest.fixture
async def stage(venue: Exchange, sessions: Sessions) -> AsyncIterator[Stage]:
    clock = venue.clock.now
    crypto = open_crypto(Vault([vault_key_bytes(new_vault_key())]), {"binanceusdm": venue.url}, clock)
    paper = open_paper(sessions, None, clock, crypto.public)
    yield Stage(venue, await paper.open(access()))
    await paper.close()
    await crypto.close()


def access(prices: str = "binanceusdm") -> Access:
    """A swap account that trades at the very price."""
    terms = {"prices": prices, "fee_percent": "0", "slippage_percent": "0"}
    return access_of(MarketType.SWAP, terms)


async def test_it_sees_what_the_exchange_quotes_and_lists(stage: Stage) -> None:
    quotes = await stage.broker.quotes([SYMBOL, "NO/SUCH"])
    [market] = [
        market for market in stage.venue.markets(SYMBOL) if market in stage.venue.usdm.floor.markets.values()
    ]
    assert (quotes[SYMBOL].bid, quotes[SYMBOL].ask) == (market.bid, market.ask)
    assert quotes.keys() == {SYMBOL}
    instrument = (await stage.broker.instruments())[SYMBOL]
    assert (instrument.price_tick, instrument.currency) == (market.listing.tick, "USDT")
    assert stage.broker.market_key.startswith("paper:crypto:binanceusdm:")


async def test_a_market_order_fills_at_its_quote_and_a_stop_at_the_next_look_behind_it(stage: Stage) -> None:
    bought = await stage.report(await stage.placed(OrderType.MARKET, Side.BUY))
    [quote] = (await stage.broker.quotes([SYMBOL])).values()
    assert bought.average_price == quote.ask
    stop = await stage.placed(OrderType.STOP, Side.SELL, trigger_price="19500")
    await stage.venue.advance(5)
    stage.venue.move(SYMBOL, 19400, gap=True)
    hit = await stage.report(stop)
    assert (hit.status, hit.leg) == (OrderStatus.FILLED, Leg.STOP)
    assert hit.average_price == 19400, (
        "between two looks nothing is known: it leaves at the price that is seen"
    )
    assert hit.time == stage.venue.clock.now()


async def test_what_happened_between_two_looks_is_read_from_the_candles(stage: Stage) -> None:
    await stage.placed(OrderType.MARKET, Side.BUY)
    target = await stage.placed(OrderType.TAKE_PROFIT, Side.SELL, price="20500")
    await stage.venue.advance(90)
    stage.venue.move(SYMBOL, 21000)
    stage.venue.move(SYMBOL, 20100)
    await stage.venue.advance(600)
    hit = await stage.report(target)
    assert (hit.status, hit.average_price) == (OrderStatus.FILLED, Decimal(20500))
    assert hit.time is not None
    assert 60 <= (hit.time - STARTED_AT).total_seconds() < 120, (
        "in the minute it happened, not when it was seen"
    )


async def test_nothing_from_before_an_order_touches_it(stage: Stage) -> None:
    stage.venue.move(SYMBOL, 20600)
    stage.venue.move(SYMBOL, 20000)
    await stage.placed(OrderType.MARKET, Side.BUY)
    await stage.venue.advance(20)
    target = await stage.placed(OrderType.TAKE_PROFIT, Side.SELL, price="20500")
    for seconds in (5, 30, 60, 120):
        await stage.venue.advance(seconds)
        assert (await stage.report(target)).status is OrderStatus.OPEN


async def test_a_wick_between_frequent_looks_is_met_once_its_minute_is_over(stage: Stage) -> None:
    await stage.placed(OrderType.MARKET, Side.BUY)
    stop = await stage.placed(OrderType.STOP, Side.SELL, trigger_price="19500")
    for second in range(0, 180, 5):
        await stage.venue.advance(5)
        if second == 70:
            stage.venue.move(SYMBOL, 19000)
            stage.venue.move(SYMBOL, 20000)
        await stage.broker.account()
    hit = await stage.report(stop)
    assert (hit.status, hit.average_price) == (OrderStatus.FILLED, Decimal(19500))


async def test_without_prices_nothing_is_decided(stage: Stage) -> None:
    stop = stage.request(OrderType.STOP, Side.SELL, trigger_price="19500")
    await stage.placed(OrderType.MARKET, Side.BUY)
    await stage.broker.place(stop)
    await stage.venue.advance(5)
    stage.venue.faults.policy = lambda _: server_error(503, executed=False)
    with pytest.raises(VenueError):
        await stage.broker.place(stage.request(OrderType.MARKET, Side.BUY))
    assert await stage.broker.find(stop.key) is CANNOT_SAY
    stage.venue.faults.clear()
    assert (await stage.report(stop)).status is OrderStatus.OPEN
    assert await stage.broker.find(stage.request(OrderType.MARKET, Side.BUY).key) is ABSENT


async def test_an_exchange_there_is_not_is_refused(stage: Stage, sessions: Sessions) -> None:
    clock = stage.venue.clock.now
    crypto = open_crypto(Vault([vault_key_bytes(new_vault_key())]), {}, clock)
    with pytest.raises(Refused, match="no exchange 'mtgox'"):
        await open_paper(sessions, None, clock, crypto.public).open(access("mtgox"))
