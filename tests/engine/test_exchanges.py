"""A crypto connection's whole job on simulated exchanges: connected, tested, traded, protected natively, left."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk
from app.domain.errors import Conflict, Denied
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.orders import FINAL, Leg, OrderStatus, OrderType, Purpose, Side
from app.domain.positions import PositionStatus
from app.domain.signals import EventType, Signal
from app.engine import closing, connections, monitoring, previewing
from app.engine.access import broker_of
from app.engine.examining import Examination
from app.store.connections import Connection, ConnectionStatus, Kind
from app.store.executions import ExecutionStatus
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import change, execute_all, executions, orders, positions, publish, sweep_all
from tests.venues.exchange import Exchange, Keys, running_exchange
from tests.venues.faults import (
    ANSWER_LOST,
    HTML,
    REQUEST_LOST,
    TRUNCATED,
    Delivery,
    Fault,
    any_request,
    on,
    reject,
    server_error,
)
from tests.venues.wire import Conditions

VENUES = [
    ("binance", MarketType.SPOT),
    ("binance", MarketType.SWAP),
    ("binanceusdm", MarketType.SWAP),
    ("bybit", MarketType.SPOT),
    ("bybit", MarketType.SWAP),
]


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges; their clock stands where a test's own does."""
    async with running_exchange(start=START) as exchange:
        yield exchange


@pytest.fixture
async def desk(database_url: str, venue: Exchange) -> AsyncIterator[Desk]:
    """A desk that reaches them and nothing else."""
    async with opened_desk(database_url, Clock()) as opened:
        now = venue.clock.now
        endpoints = dict.fromkeys(("binance", "binanceusdm", "bybit"), venue.url)
        brokers = Directory({"crypto": open_crypto(opened.vault, endpoints, now)})
        yield replace(opened, brokers=brokers, now=now)
        await brokers.close()


def _named(keys: Keys) -> dict[str, str]:
    return {"api_key": keys.api_key, "api_secret": keys.secret}


async def _all_connections(desk: Desk) -> Sequence[Connection]:
    async with desk.sessions() as session:
        return (await session.scalars(select(Connection).order_by(Connection.id))).all()


async def _connect(desk: Desk, keys: Keys, exchange: str, market_type: MarketType) -> Connection:
    return await connections.create(
        desk,
        USER,
        kind=Kind.CRYPTO,
        exchange=exchange,
        market_type=market_type,
        sandbox=False,
        terms={
            "name": "test",
            "credentials": _named(keys),
            "sizing": {"strategy": "fixed", "value": "0.1"},
        },
    )


async def _activated(desk: Desk, venue: Exchange, exchange: str, market_type: MarketType) -> Connection:
    connection = await _connect(desk, venue.open_account({"USDT": "100000"}), exchange, market_type)
    examination = await connections.test(desk, USER, connection.id)
    assert examination.ok, examination.message
    return await connections.activate(desk, USER, connection.id)


async def _tested(desk: Desk, keys: Keys, exchange: str, market_type: MarketType) -> Examination:
    connection = await _connect(desk, keys, exchange, market_type)
    return await connections.test(desk, USER, connection.id)


async def _walk(desk: Desk, venue: Exchange, symbol: str, price: int, rounds: int = 4) -> None:
    """Move the price, and let monitor, sweep and bells do their work."""
    venue.move(symbol, price)
    for _ in range(rounds):
        await venue.advance(6)
        await monitoring.watch(desk)
        await execute_all(desk)
        await sweep_all(desk)


def _symbol(market_type: MarketType) -> str:
    return "BTC/USDT" if market_type is MarketType.SPOT else "BTC/USDT:USDT"


@pytest.mark.parametrize(("exchange", "market_type"), VENUES)
class TestConnections:
    async def test_a_key_that_trades_passes(
        self, desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
    ) -> None:
        connection = await _activated(desk, venue, exchange, market_type)
        assert connection.status is ConnectionStatus.ACTIVE
        assert connection.balances["USDT"]["balance"] == "100000"

    async def test_a_key_that_withdraws_is_refused(
        self, desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
    ) -> None:
        keys = venue.open_account({"USDT": "100"}, can_withdraw=True)
        found = await _tested(desk, keys, exchange, market_type)
        assert (found.ok, found.code) == (False, "withdrawal_permission")

    async def test_a_wrong_secret_is_refused_and_not_repeated(
        self, desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
    ) -> None:
        keys = replace(venue.open_account({"USDT": "100"}), secret="not-the-secret-of-this-key")
        found = await _tested(desk, keys, exchange, market_type)
        assert found.ok is False
        assert keys.secret not in found.message
        assert keys.api_key not in found.message


async def test_that_a_venue_does_not_tell_what_a_key_may_do_is_said(desk: Desk, venue: Exchange) -> None:
    keys = venue.open_account({"USDT": "100"})
    venue.faults.add(reject({"code": -1100, "msg": "Illegal characters."}), on("apiRestrictions"))
    found = await _tested(desk, keys, "binance", MarketType.SPOT)
    assert found.ok is True
    assert found.account is not None
    assert found.account.permissions.withdraw is None
    assert "cannot tell whether" in found.message


@pytest.mark.parametrize(("exchange", "market_type"), VENUES)
class TestIdentity:
    async def test_two_keys_of_an_account_are_one_account(
        self, desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
    ) -> None:
        keys = venue.open_account({"USDT": "100"})
        for each in (keys, venue.another_key(keys), venue.open_account({"USDT": "100"})):
            connection = await _connect(desk, each, exchange, market_type)
            assert (await connections.test(desk, USER, connection.id)).ok
        first, second, other = await _all_connections(desk)
        assert first.account_identity == second.account_identity != other.account_identity
        await connections.activate(desk, USER, first.id)
        with pytest.raises(Conflict) as refused:
            await connections.activate(desk, USER, second.id)
        assert refused.value.code == "account_in_use"
        await connections.activate(desk, USER, other.id)

    async def test_another_key_of_the_account_takes_over_what_is_open(
        self, desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
    ) -> None:
        keys = venue.open_account({"USDT": "100000"})
        connection = await _connect(desk, keys, exchange, market_type)
        assert (await connections.test(desk, USER, connection.id)).ok
        await connections.activate(desk, USER, connection.id)
        await publish(desk, stop_loss="19000")
        await execute_all(desk)
        await publish(desk, source_id="resting", symbol="ETH/USDT", order_type="limit", entry_price="900")
        await execute_all(desk)

        strangers = venue.open_account({"USDT": "100000"})
        with pytest.raises(Conflict) as refused:
            await connections.change(desk, USER, connection.id, {"credentials": _named(strangers)})
        assert refused.value.code == "positions_open"

        another = venue.another_key(keys)
        changed = await connections.change(desk, USER, connection.id, {"credentials": _named(another)})
        assert (changed.status, changed.is_tested) == (ConnectionStatus.INACTIVE, False)
        assert [each.status for each in await executions(desk)] == [
            ExecutionStatus.EXECUTED,
            ExecutionStatus.CANCELLED,
        ]
        for floor in venue.floors:
            del floor.accounts[keys.api_key]
        [position] = await positions(desk)
        await closing.request_close(desk, USER, position.id, None, idempotency_key=None)
        await _walk(desk, venue, _symbol(market_type), 20000)
        [position] = await positions(desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
        for floor in venue.floors:
            assert not any(account.live for account in floor.accounts.values())


async def test_an_account_is_one_by_whichever_class_it_is_opened(desk: Desk, venue: Exchange) -> None:
    keys = venue.open_account({"USDT": "100"})
    one = await _connect(desk, keys, "binance", MarketType.SWAP)
    other = await _connect(desk, keys, "binanceusdm", MarketType.SWAP)
    on_spot = await _connect(desk, keys, "binance", MarketType.SPOT)
    for each in (one, other, on_spot):
        assert (await connections.test(desk, USER, each.id)).ok
    await connections.activate(desk, USER, one.id)
    await connections.activate(desk, USER, on_spot.id)
    with pytest.raises(Conflict) as refused:
        await connections.activate(desk, USER, other.id)
    assert refused.value.code == "account_in_use"


STANDING = {
    ("binance", MarketType.SPOT): [OrderType.OCO, OrderType.OCO],
    ("binance", MarketType.SWAP): [OrderType.STOP, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT],
    ("binanceusdm", MarketType.SWAP): [OrderType.STOP, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT],
    ("bybit", MarketType.SPOT): [OrderType.STOP],
    ("bybit", MarketType.SWAP): [OrderType.STOP, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT],
}


@pytest.mark.parametrize(("exchange", "market_type"), VENUES)
class TestPositions:
    async def test_the_venue_holds_what_it_can_and_a_target_then_the_stop_leave(
        self, desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
    ) -> None:
        await _activated(desk, venue, exchange, market_type)
        await publish(desk, stop_loss="19000", targets=[("21000", "0.5"), ("23000", "0.5")])
        await execute_all(desk)
        [position] = await positions(desk)
        assert position.protection is Protection.NATIVE
        assert position.protected_at is not None
        assert position.unprotected_seconds <= 5, "placed with the fill, without waiting for a round"
        legs = [order for order in await orders(desk) if order.purpose is Purpose.PROTECTION]
        assert [leg.type for leg in legs] == STANDING[exchange, market_type]
        assert all(leg.status is OrderStatus.OPEN for leg in legs)

        await _walk(desk, venue, _symbol(market_type), 21500)
        [position] = await positions(desk)
        assert position.status is PositionStatus.OPEN
        assert Decimal("0.049") <= position.remaining_quantity <= Decimal("0.051")
        assert position.protection is Protection.NATIVE

        await _walk(desk, venue, _symbol(market_type), 18500)
        [position] = await positions(desk)
        assert (position.unprotected_since, position.protect_by) == (None, None)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
        assert position.dust < Decimal("0.00002")
        assert all(order.status in FINAL for order in await orders(desk))
        for floor in venue.floors:
            assert not any(account.live for account in floor.accounts.values())
        venue.audit()


async def _bracketed(desk: Desk, venue: Exchange) -> None:
    """A position of 0.1 on Binance spot with one bracket, in a market so thin that its target fills in parts."""
    await _activated(desk, venue, "binance", MarketType.SPOT)
    await publish(desk, stop_loss="19000", targets=[("21000", "1")])
    await execute_all(desk)
    venue.thin("BTC/USDT", "0.4")
    venue.move("BTC/USDT", 21000)


def _stops(venue: Exchange) -> Decimal:
    """How much of the position the venue's stops would sell."""
    [account] = [each for each in venue.spot.floor.accounts.values() if each.orders]
    return sum((order.quantity for order in account.live.values() if order.trigger is not None), Decimal(0))


class TestBracketsFilledInPart:
    async def test_the_rest_has_a_stop_at_the_venue_again(self, desk: Desk, venue: Exchange) -> None:
        await _bracketed(desk, venue)
        assert _stops(venue) == 0, "the venue has ended it with the target's first fill"
        [before] = await positions(desk)
        await _walk(desk, venue, "BTC/USDT", 20500)
        [position] = await positions(desk)
        assert position.remaining_quantity == Decimal("0.05994")
        assert position.protection is Protection.NATIVE
        assert _stops(venue) == Decimal("0.05994")
        assert position.unprotected_seconds > before.unprotected_seconds
        venue.thin("BTC/USDT", "1")
        await _walk(desk, venue, "BTC/USDT", 18500)
        [position] = await positions(desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
        assert [order.type for order in await orders(desk)] == [
            OrderType.MARKET,
            OrderType.OCO,
            OrderType.OCO,
        ]
        venue.audit()

    async def test_where_no_bracket_can_be_placed_anew_a_stop_alone_stands_for_the_rest(
        self, desk: Desk, venue: Exchange
    ) -> None:
        await _bracketed(desk, venue)
        # The target is reached still, so no bracket for the rest would be taken: the target is our monitor's.
        await _walk(desk, venue, "BTC/USDT", 21000)
        [position] = await positions(desk)
        assert position.refused_leg is Leg.TARGET
        if position.protection is Protection.NATIVE:
            assert _stops(venue) == position.remaining_quantity, "a target that stands bare is no stop"
        venue.thin("BTC/USDT", "1")
        await _walk(desk, venue, "BTC/USDT", 18000, rounds=8)
        [position] = await positions(desk)
        assert position.status is PositionStatus.CLOSED
        for floor in venue.floors:
            assert not any(account.live for account in floor.accounts.values())
        venue.audit()

    async def test_a_list_that_the_venue_takes_for_ended_is_taken_back_by_its_legs(
        self, desk: Desk, venue: Exchange
    ) -> None:
        await _bracketed(desk, venue)
        gone = reject({"code": -2011, "msg": "Unknown order list sent."})
        venue.faults.add(gone, lambda asked: (asked.method, asked.path) == ("DELETE", "/api/v3/orderList"))
        await _walk(desk, venue, "BTC/USDT", 20500)
        [position] = await positions(desk)
        assert position.protection is Protection.NATIVE
        assert _stops(venue) == Decimal("0.05994")


@pytest.mark.parametrize(("exchange", "market_type"), VENUES)
async def test_a_position_that_its_target_ended_is_nobodys_to_protect(
    desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
) -> None:
    await _activated(desk, venue, exchange, market_type)
    await publish(desk, stop_loss="19000", targets=[("21000", "1")])
    await execute_all(desk)
    await _walk(desk, venue, _symbol(market_type), 21500, rounds=2)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.TAKE_PROFIT)
    assert (position.unprotected_since, position.protect_by) == (None, None)
    await venue.advance(40)
    assert await sweep_all(desk) == 0


@pytest.mark.parametrize(("exchange", "market_type"), VENUES)
async def test_a_preview_tells_a_key_that_is_refused_from_a_venue_out_of_reach(
    desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
) -> None:
    await _activated(desk, venue, exchange, market_type)
    idea = Signal("BTC/USDT", Side.BUY, stop_loss=Decimal(19000))

    async def previewed() -> str | None:
        [seen] = await previewing.preview(desk, USER, idea, [], desk.now())
        return seen.outcome.code if isinstance(seen.outcome, Denied) else None

    assert await previewed() is None
    for floor in venue.floors:
        floor.accounts.clear()
    assert await previewed() == "credentials_refused"
    venue.faults.add(server_error(executed=False), any_request, times=20)
    assert await previewed() == "venue_unreachable"


@pytest.mark.parametrize("fault", [ANSWER_LOST, REQUEST_LOST, TRUNCATED, HTML, server_error(executed=True)])
@pytest.mark.parametrize(("exchange", "market_type"), VENUES)
async def test_an_accident_at_the_entry_ends_in_one_order_and_a_protected_position(
    desk: Desk, venue: Exchange, exchange: str, market_type: MarketType, fault: Fault
) -> None:
    await _activated(desk, venue, exchange, market_type)
    venue.faults.add(fault)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    await _walk(desk, venue, _symbol(market_type), 20000, rounds=8)
    [execution] = await executions(desk)
    assert execution.status is ExecutionStatus.EXECUTED
    [position] = await positions(desk)
    assert position.protection is Protection.NATIVE
    assert Decimal("0.0998") <= position.quantity <= Decimal("0.1")
    placed = [order for floor in venue.floors for order in floor.orders if order.trigger is None]
    assert len(placed) == 1


@pytest.mark.parametrize("market_type", [MarketType.SPOT, MarketType.SWAP])
async def test_an_order_that_only_the_history_tells_of_is_not_sent_again(
    desk: Desk, venue: Exchange, market_type: MarketType
) -> None:
    await _activated(desk, venue, "bybit", market_type)
    venue.faults.add(Fault("lost", Delivery.DROPPED, conditions=Conditions(fraction=Decimal("0.4"))))
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    # A new version goes live there before anybody has asked what became of the order.
    venue.bybit.release()
    await _walk(desk, venue, _symbol(market_type), 20000, rounds=8)
    [execution] = await executions(desk)
    assert (execution.status, execution.attempts) == (ExecutionStatus.PARTIAL, 1)
    placed = [order for order in venue.bybit.floor.orders if order.trigger is None]
    assert len(placed) == 1


@pytest.mark.parametrize(("exchange", "market_type"), VENUES)
async def test_a_close_finds_the_entry_that_has_just_been_filled(
    desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
) -> None:
    await _activated(desk, venue, exchange, market_type)
    await publish(desk, order_type="limit", entry_price="19500", stop_loss="18000")
    await execute_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.OPEN]
    venue.move(_symbol(market_type), 19400)
    await change(desk, EventType.CLOSED)
    await execute_all(desk)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.SIGNAL)


async def test_two_who_come_first_at_once_share_one_broker(desk: Desk, venue: Exchange) -> None:
    connection = await _connect(desk, venue.open_account({"USDT": "100"}), "binance", MarketType.SPOT)
    one, other = await asyncio.gather(*(broker_of(desk, connection) for _ in range(2)))
    assert one is other
    assert (await one.account()).balances["USDT"].free == 100


@pytest.mark.parametrize(("exchange", "market_type"), VENUES)
async def test_an_entry_that_its_venue_would_not_end_is_ended_by_the_monitor(
    desk: Desk, venue: Exchange, exchange: str, market_type: MarketType
) -> None:
    await _activated(desk, venue, exchange, market_type)
    ends = desk.now() + timedelta(seconds=20)
    await publish(desk, order_type="limit", entry_price="19000", stop_loss="18000", expires_at=ends)
    await execute_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.OPEN]
    await _walk(desk, venue, _symbol(market_type), 20000)
    [execution] = await executions(desk)
    assert (execution.status, execution.code) == (ExecutionStatus.EXPIRED, "signal_expired")
    for floor in venue.floors:
        assert not any(account.live for account in floor.accounts.values())
