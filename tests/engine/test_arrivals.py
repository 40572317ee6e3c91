"""From the fill of an entry that rests to its protection, on simulated exchanges, by their own clock."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import pytest

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk
from app.domain.exits import Protection
from app.domain.market import MarketType
from app.engine import arrivals, connections, monitoring
from app.store.connections import Kind
from app.store.executions import ExecutionStatus
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import execute_all, executions, positions, publish
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.wire import Intent

VENUES = [
    ("binance", MarketType.SPOT),
    ("binanceusdm", MarketType.SWAP),
    ("bybit", MarketType.SPOT),
    ("bybit", MarketType.SWAP),
]


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges; their clock stands where a test's own does."""
    async with running_exchange(start=START) as exchange:
        yield exchange
        exchange.audit()


@pytest.fixture
async def desk(database_url: str, venue: Exchange) -> AsyncIterator[Desk]:
    """A desk that reaches them and nothing else."""
    async with opened_desk(database_url, Clock()) as opened:
        now = venue.clock.now
        endpoints = dict.fromkeys(("binance", "binanceusdm", "bybit"), venue.url)
        brokers = Directory({"crypto": open_crypto(opened.vault, endpoints, now)})
        yield replace(opened, brokers=brokers, now=now)
        await brokers.close()


async def _activated(desk: Desk, venue: Exchange, exchange: str, market_type: MarketType) -> None:
    keys = venue.open_account({"USDT": "100000"})
    connection = await connections.create(
        desk,
        USER,
        kind=Kind.CRYPTO,
        exchange=exchange,
        market_type=market_type,
        sandbox=False,
        terms={
            "name": "test",
            "credentials": {"api_key": keys.api_key, "api_secret": keys.secret},
            "sizing": {"strategy": "fixed", "value": "0.1"},
        },
    )
    examination = await connections.test(desk, USER, connection.id)
    assert examination.ok, examination.message
    await connections.activate(desk, USER, connection.id)


@pytest.mark.parametrize(("exchange", "market_type"), VENUES)
async def test_what_a_resting_entry_fills_is_protected_within_seconds(
    desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
) -> None:
    await _activated(desk, venue, exchange, market_type)
    await publish(desk, order_type="limit", entry_price="19500", stop_loss="19000")
    await execute_all(desk)
    await venue.advance(1)
    # The monitor has just looked; its next round is five seconds away.
    await monitoring.watch(desk)
    venue.move("BTC/USDT" if market_type is MarketType.SPOT else "BTC/USDT:USDT", 19400)
    await venue.advance(arrivals.EVERY.total_seconds())
    await arrivals.look(desk)
    [position] = await positions(desk)
    assert (position.protection, position.unprotected_since) == (Protection.NATIVE, None)
    assert 0 < position.unprotected_seconds <= 3, "counted from the fill, by the exchange's clock"


async def test_while_the_price_is_elsewhere_only_the_price_is_asked_for_all_accounts_at_once(
    desk: Desk, venue: Exchange
) -> None:
    for _ in range(3):
        await _activated(desk, venue, "binance", MarketType.SPOT)
    await publish(desk, order_type="limit", entry_price="19500", stop_loss="19000")
    await execute_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.OPEN] * 3
    venue.requests.clear()
    for _ in range(5):
        await venue.advance(arrivals.EVERY.total_seconds())
        await arrivals.look(desk)
        await arrivals.look(desk)
    asked = list(venue.requests)
    assert {request.intent for request in asked} == {Intent.PUBLIC}
    assert len(asked) == 5, "one for each round, whoever else looks"

    venue.move("BTC/USDT", 19400)
    await venue.advance(arrivals.EVERY.total_seconds())
    await arrivals.look(desk)
    found = await positions(desk)
    assert [position.protection for position in found] == [Protection.NATIVE] * 3
    assert sum(position.unprotected_seconds for position in found) <= Decimal(9)
