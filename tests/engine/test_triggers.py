"""Stops go by the price their owner chose: at the venue, and where the engine watches them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk
from app.domain.errors import Invalid
from app.domain.exits import CloseReason
from app.domain.market import MarketType
from app.domain.orders import OrderStatus, OrderType, Purpose, TriggerSource
from app.domain.positions import PositionStatus
from app.engine import connections, monitoring
from app.store.connections import Connection, Kind
from app.store.positions import Position
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import execute_all, orders, positions, publish, sweep_all
from tests.venues.exchange import Exchange, running_exchange

SWAP = "BTC/USDT:USDT"
SWAPS = pytest.mark.parametrize("exchange", ["binanceusdm", "bybit"])
BOTH = pytest.mark.parametrize("native", [True, False])


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    async with running_exchange(start=START) as exchange:
        yield exchange


@pytest.fixture
async def desk(database_url: str, venue: Exchange) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, Clock()) as opened:
        now = venue.clock.now
        endpoints = dict.fromkeys(("binance", "binanceusdm", "bybit"), venue.url)
        brokers = Directory({"crypto": open_crypto(opened.vault, endpoints, now)})
        yield replace(opened, brokers=brokers, now=now)
        await brokers.close()


async def connected(
    desk: Desk, venue: Exchange, exchange: str, market: MarketType = MarketType.SWAP, **protection: Any
) -> Connection:
    """A connection with these terms of protection, not active yet."""
    keys = venue.open_account({"USDT": "100000"})
    return await connections.create(
        desk,
        USER,
        kind=Kind.CRYPTO,
        exchange=exchange,
        market_type=market,
        sandbox=False,
        terms={
            "name": "test",
            "credentials": {"api_key": keys.api_key, "api_secret": keys.secret},
            "sizing": {"strategy": "fixed", "value": "0.1"},
            "protection": protection,
        },
    )


async def opened(desk: Desk, venue: Exchange, exchange: str, **protection: Any) -> Position:
    """A long of 0.1 at 20000 with its stop at 19000."""
    connection = await connected(desk, venue, exchange, **protection)
    assert (await connections.test(desk, USER, connection.id)).ok
    await connections.activate(desk, USER, connection.id)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    [position] = await positions(desk)
    return position


async def walk(desk: Desk, venue: Exchange, *, price: int, mark: int) -> Position:
    """Move last price and mark price apart, and let monitor, sweep and bells do their work."""
    venue.pin_mark(SWAP, mark)
    venue.move(SWAP, price)
    for _ in range(3):
        await venue.advance(6)
        await monitoring.watch(desk)
        await execute_all(desk)
        await sweep_all(desk)
    [position] = await positions(desk)
    return position


@BOTH
@SWAPS
async def test_the_mark_price_is_the_usual_one(
    desk: Desk, venue: Exchange, exchange: str, native: bool
) -> None:
    position = await opened(desk, venue, exchange, native=native)
    assert position.trigger_source is TriggerSource.MARK
    position = await walk(desk, venue, price=18500, mark=20000)
    assert position.status is PositionStatus.OPEN, "the last price alone wakes nothing"
    assert position.current_price is not None
    assert position.current_price < 19000, "the profit is what it could be left for, whatever wakes the stop"
    position = await walk(desk, venue, price=19500, mark=18900)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    venue.audit()


@BOTH
@SWAPS
async def test_the_last_price_may_be_chosen(desk: Desk, venue: Exchange, exchange: str, native: bool) -> None:
    position = await opened(desk, venue, exchange, native=native, trigger_source="last")
    assert position.trigger_source is TriggerSource.LAST
    stops = [order.trigger_source for order in await orders(desk) if order.purpose is Purpose.PROTECTION]
    assert stops == ([TriggerSource.LAST] if native else [])
    position = await walk(desk, venue, price=19500, mark=18000)
    assert position.status is PositionStatus.OPEN
    position = await walk(desk, venue, price=18900, mark=20000)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)


@SWAPS
async def test_targets_are_to_go_by_the_price_of_the_stop(desk: Desk, venue: Exchange, exchange: str) -> None:
    """Where they wait for a price like it; a limit order has no choice, and is taken as one."""
    connection = await connected(desk, venue, exchange, native=True, trigger_source="last")
    assert (await connections.test(desk, USER, connection.id)).ok
    await connections.activate(desk, USER, connection.id)
    await publish(desk, stop_loss="19000", targets=[("21000", "0.5"), ("22000", "0.5")])
    await execute_all(desk)
    legs = [order for order in await orders(desk) if order.purpose is Purpose.PROTECTION]
    assert [order.type for order in legs] == [
        OrderType.STOP,
        OrderType.TAKE_PROFIT,
        OrderType.TAKE_PROFIT,
    ]
    assert {order.status for order in legs} == {OrderStatus.OPEN}
    assert {order.request().trigger_source for order in legs} == {TriggerSource.LAST}


@BOTH
async def test_the_index_may_be_chosen_where_the_venue_has_it(
    desk: Desk, venue: Exchange, native: bool
) -> None:
    position = await opened(desk, venue, "bybit", native=native, trigger_source="index")
    assert position.trigger_source is TriggerSource.INDEX
    assert (await walk(desk, venue, price=19500, mark=18000)).status is PositionStatus.OPEN
    assert (await walk(desk, venue, price=18900, mark=20000)).status is PositionStatus.CLOSED


async def test_a_trail_follows_the_source(desk: Desk, venue: Exchange) -> None:
    trailing = {"activation_percent": "2", "distance_percent": "1"}
    await opened(desk, venue, "binanceusdm", trailing=trailing)
    position = await walk(desk, venue, price=21000, mark=20000)
    assert (position.best_price, position.stop_loss) == (Decimal(20000), Decimal(19000))
    position = await walk(desk, venue, price=20000, mark=21000)
    assert (position.best_price, position.stop_loss) == (Decimal(21000), Decimal(20790))


@pytest.mark.parametrize(
    ("exchange", "market", "source"),
    [
        ("binance", MarketType.SWAP, "index"),
        ("binance", MarketType.SPOT, "mark"),
        ("bybit", MarketType.SPOT, "last"),
        ("kraken", MarketType.SPOT, "mark"),
    ],
)
async def test_a_source_that_the_venue_does_not_offer_is_refused(
    desk: Desk, venue: Exchange, exchange: str, market: MarketType, source: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await connected(desk, venue, exchange, market, trigger_source=source)
    assert refused.value.path == "protection.trigger_source"


async def test_it_is_refused_on_a_change_as_well(desk: Desk, venue: Exchange) -> None:
    connection = await connected(desk, venue, "binance", trigger_source="last")
    with pytest.raises(Invalid):
        await connections.change(desk, USER, connection.id, {"protection": {"trigger_source": "index"}})
    changed = await connections.change(desk, USER, connection.id, {"protection": {"trigger_source": "mark"}})
    assert changed.protection == {"trigger_source": "mark"}
