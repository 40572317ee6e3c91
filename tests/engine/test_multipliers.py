"""A coin that the venue counts by the thousand: one signal, one position, every number in the venue's units."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.orders import OrderType, Purpose, Side
from app.domain.positions import PositionStatus
from app.domain.signals import EventType, Level, Signal
from app.engine import connections, monitoring
from app.engine.connections import Terms
from app.engine.previewing import Order, preview
from app.store.connections import Kind
from app.store.executions import ExecutionStatus
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import change, execute_all, executions, orders, positions, publish, sweep_all
from tests.venues.exchange import LISTINGS, Exchange, running_exchange
from tests.venues.orders import Kind as Venue
from tests.venues.orders import Listing

PEPES = "1000PEPE/USDT:USDT"
MAP = {"PEPE/USDT": {"symbol": PEPES, "multiplier": "1000"}}
THOUSAND = Listing(
    "1000PEPE",
    "USDT",
    Venue.SWAP,
    Decimal("0.01"),
    tick=Decimal("0.0000001"),
    step=Decimal(1),
    min_quantity=Decimal(1),
    max_quantity=Decimal(10_000_000),
    max_market_quantity=Decimal(10_000_000),
    spread=Decimal("0.0000001"),
)


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges, with a coin that is counted by the thousand at 0.01."""
    async with running_exchange(start=START, listings=(*LISTINGS, THOUSAND)) as exchange:
        yield exchange


@pytest.fixture
async def desk(database_url: str, venue: Exchange) -> AsyncIterator[Desk]:
    """A desk that reaches them and nothing else."""
    async with opened_desk(database_url, Clock()) as opened:
        now = venue.clock.now
        brokers = Directory({"crypto": open_crypto(opened.vault, {"binanceusdm": venue.url}, now)})
        yield replace(opened, brokers=brokers, now=now)
        await brokers.close()


async def _activated(desk: Desk, venue: Exchange, **given: Any) -> None:
    keys = venue.open_account({"USDT": "100000"})
    terms: Terms = {
        "name": "test",
        "credentials": {"api_key": keys.api_key, "api_secret": keys.secret},
        "sizing": given.get("sizing", {"strategy": "fixed", "value": "2000000"}),
        "symbol_map": given.get("symbol_map", MAP),
        "limits": given.get("limits", {}),
    }
    connection = await connections.create(
        desk,
        USER,
        kind=Kind.CRYPTO,
        exchange="binanceusdm",
        market_type=MarketType.SWAP,
        sandbox=False,
        terms=terms,
    )
    examination = await connections.test(desk, USER, connection.id)
    assert examination.ok, examination.message
    await connections.activate(desk, USER, connection.id)


async def _walk(desk: Desk, venue: Exchange, price: str) -> None:
    venue.move(PEPES, price)
    for _ in range(4):
        await venue.advance(6)
        await monitoring.watch(desk)
        await execute_all(desk)
        await sweep_all(desk)


async def test_prices_grow_and_quantities_shrink_and_later_words_do_as_well(
    desk: Desk, venue: Exchange
) -> None:
    await _activated(desk, venue)
    await publish(
        desk,
        symbol="PEPE/USDT",
        entry_price="0.00001",
        stop_loss="0.000009",
        targets=[("0.000012", "0.5"), ("0.000013", "0.5")],
    )
    await execute_all(desk)
    [execution] = await executions(desk)
    assert execution.status is ExecutionStatus.EXECUTED
    [position] = await positions(desk)
    assert (position.symbol, position.quantity) == (PEPES, Decimal(2000))
    assert position.stop_loss == Decimal("0.009")
    assert [level["price"] for level in position.take_profits] == ["0.012", "0.013"]
    assert position.protection is Protection.NATIVE

    await change(
        desk,
        EventType.UPDATED,
        stop_loss="0.0000095",
        take_profits=[{"price": "0.0000125", "portion": "1"}],
    )
    await execute_all(desk)
    await sweep_all(desk)
    [position] = await positions(desk)
    assert position.stop_loss == Decimal("0.0095")
    assert [level["price"] for level in position.take_profits] == ["0.0125"]
    resting = {order.type: order for order in await orders(desk) if order.purpose is Purpose.PROTECTION}
    assert resting[OrderType.STOP].trigger_price == Decimal("0.0095")

    await _walk(desk, venue, "0.0094")
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    venue.audit()


async def test_an_update_before_the_entry_is_in_the_signals_units(desk: Desk, venue: Exchange) -> None:
    await _activated(desk, venue)
    await change(desk, EventType.UPDATED, stop_loss="0.0000095")
    await publish(desk, symbol="PEPEUSDT", stop_loss="0.000009")
    await execute_all(desk)
    # PEPEUSDT is not a name of the map, and no venue's symbol either: never a guess.
    [execution] = await executions(desk)
    assert (execution.status, execution.code) == (ExecutionStatus.DENIED, "symbol_unknown")
    await publish(desk, "s2", symbol="pepe/usdt", stop_loss="0.000009")
    await change(desk, EventType.UPDATED, "s2", stop_loss="0.0000095")
    await execute_all(desk)
    [position] = await positions(desk)
    assert position.stop_loss == Decimal("0.0095")


async def test_the_quantity_of_the_signal_is_in_its_own_coins(desk: Desk, venue: Exchange) -> None:
    await _activated(desk, venue, sizing={"strategy": "signal_based", "value": "2"})
    await publish(desk, symbol="PEPE/USDT", quantity="500000")
    await execute_all(desk)
    [position] = await positions(desk)
    assert position.quantity == Decimal(1000)


async def test_a_largest_quantity_is_in_the_signals_coins(desk: Desk, venue: Exchange) -> None:
    sizing = {"strategy": "fixed_amount", "value": "100", "max_quantity": "3000000"}
    await _activated(desk, venue, sizing=sizing)
    await publish(desk, symbol="PEPE/USDT")
    await execute_all(desk)
    [position] = await positions(desk)
    assert position.quantity == Decimal(3000)


async def test_a_preview_says_the_same(desk: Desk, venue: Exchange) -> None:
    await _activated(desk, venue)
    signal = Signal(
        symbol="PEPE/USDT",
        direction=Side.BUY,
        stop_loss=Decimal("0.000009"),
        take_profits=(Level(Decimal("0.000012"), Decimal(1)),),
    )
    [found] = await preview(desk, USER, signal, [], desk.now())
    assert isinstance(found.outcome, Order)
    entry = found.outcome.entry
    assert (entry.instrument.symbol, entry.quantity) == (PEPES, Decimal(2000))
    assert entry.stop_loss == Decimal("0.009")
    assert [rung.price for rung in entry.rungs] == [Decimal("0.012")]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"allow_symbols": ["PEPE/USDT"]}, None),
        ({"allow_symbols": ["PEPEUSDT"]}, None),
        ({"allow_symbols": [PEPES]}, None),
        ({"allow_symbols": ["BTC/USDT"]}, "symbol_not_allowed"),
        ({"deny_symbols": ["pepe/usdt"]}, "symbol_not_allowed"),
        ({"deny_symbols": [PEPES]}, "symbol_not_allowed"),
        ({"deny_symbols": ["BTC/USDT"]}, None),
    ],
)
async def test_the_owners_lists_know_the_owners_names(
    desk: Desk, venue: Exchange, limits: dict[str, Any], code: str | None
) -> None:
    await _activated(desk, venue, limits=limits)
    await publish(desk, symbol="PEPE/USDT")
    await execute_all(desk)
    [execution] = await executions(desk)
    assert execution.code == code


async def test_a_thousand_at_once_without_a_multiplier_is_never_guessed(desk: Desk, venue: Exchange) -> None:
    await _activated(desk, venue, symbol_map={"PEPE/USDT": PEPES})
    await publish(desk, symbol="PEPE/USDT")
    await execute_all(desk)
    [execution] = await executions(desk)
    assert (execution.status, execution.code) == (ExecutionStatus.DENIED, "symbol_ambiguous")
    assert execution.message is not None
    assert "multiplier" in execution.message
