"""Closes that their venue cuts short: whoever asked to leave has left in the end, and nothing is sold twice."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import pytest

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.money import ZERO
from app.domain.orders import FINAL, LIVE, Purpose
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import closing, connections, monitoring
from app.store.connections import Kind
from app.store.orders import Order
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import change, execute_all, orders, positions, publish, sweep_all
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import partial

SWAP = ("binanceusdm", MarketType.SWAP)
VENUES = [("binance", MarketType.SPOT), SWAP, ("bybit", MarketType.SPOT), ("bybit", MarketType.SWAP)]


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


async def _hold(
    desk: Desk,
    venue: Exchange,
    exchange: str,
    market_type: MarketType,
    targets: list[tuple[str, str]] | None = None,
) -> None:
    """An account that has bought 0.1 BTC, protected at its venue."""
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
    await publish(desk, stop_loss="19000", targets=targets)
    await execute_all(desk)
    [position] = await positions(desk)
    assert position.protection is Protection.NATIVE


async def _round(desk: Desk, venue: Exchange) -> None:
    await venue.advance(6)
    await monitoring.watch(desk)
    await execute_all(desk)
    await sweep_all(desk)


async def _closes(desk: Desk) -> list[Order]:
    closes = [order for order in await orders(desk) if order.purpose is Purpose.CLOSE]
    assert sum(order.status in LIVE for order in closes) <= 1
    return closes


@pytest.mark.parametrize(("exchange", "market_type"), VENUES)
async def test_a_close_that_is_cut_short_again_and_again_goes_on_until_nothing_is_held(
    desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
) -> None:
    await _hold(desk, venue, exchange, market_type)
    [held] = await positions(desk)
    venue.faults.add(partial(Decimal("0.4")), times=2)
    await change(desk, EventType.CLOSED)
    await execute_all(desk)
    [first, *_] = await _closes(desk)
    assert ZERO < first.filled_quantity < first.quantity

    for _ in range(4):
        await _round(desk, venue)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.SIGNAL)
    assert position.dust < Decimal("0.001")
    closes = await _closes(desk)
    assert len(closes) == 3
    assert {order.reason for order in closes} == {CloseReason.SIGNAL}
    assert sum((order.filled_quantity for order in closes), ZERO) == held.remaining_quantity - position.dust
    assert all(order.status in FINAL for order in await orders(desk))
    assert not any(account.live for floor in venue.floors for account in floor.accounts.values())


async def test_a_portion_that_is_cut_short_goes_on_until_that_portion_is_sold(
    desk: Desk, venue: Exchange
) -> None:
    await _hold(desk, venue, *SWAP)
    [position] = await positions(desk)
    venue.faults.add(partial(Decimal("0.4")))
    await closing.request_close(desk, USER, position.id, Decimal("0.5"), idempotency_key="half")
    await execute_all(desk)
    for _ in range(3):
        await _round(desk, venue)
    [position] = await positions(desk)
    assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, Decimal("0.05"))
    assert position.protection is Protection.NATIVE
    assert [order.filled_quantity for order in await _closes(desk)] == [Decimal("0.02"), Decimal("0.03")]

    await closing.request_close(desk, USER, position.id, Decimal("0.5"), idempotency_key="half")
    await _round(desk, venue)
    assert len(await _closes(desk)) == 2, "the same request again is the same close"


async def test_a_target_that_is_cut_short_waits_for_its_price(desk: Desk, venue: Exchange) -> None:
    await _hold(desk, venue, "bybit", MarketType.SPOT, targets=[("21000", "0.5")])
    venue.faults.add(partial(Decimal("0.4")))
    venue.move("BTC/USDT", 21500)
    await venue.advance(6)
    await monitoring.watch(desk)
    venue.move("BTC/USDT", 20000)
    for _ in range(3):
        await _round(desk, venue)
    [first] = await _closes(desk)
    assert first.reason is CloseReason.TAKE_PROFIT
    assert ZERO < first.filled_quantity < first.quantity

    venue.move("BTC/USDT", 21500)
    await _round(desk, venue)
    [_, second] = await _closes(desk)
    assert first.filled_quantity + second.filled_quantity == first.quantity
    [position] = await positions(desk)
    assert position.status is PositionStatus.OPEN
