"""Fees in other coins, through the simulated exchanges: valued at the quote of their moment, or known to be missing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk
from app.domain.market import MarketType
from app.domain.money import parse
from app.domain.orders import OrderReport, OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import connections, placing, trades
from app.engine.access import broker_of
from app.store.connections import Connection, Kind
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import change, execute_all, orders, positions, publish, sweep_all
from tests.venues.accounts import FeesIn
from tests.venues.exchange import LISTINGS, Exchange, running_exchange
from tests.venues.faults import altered, server_error
from tests.venues.orders import Kind as Venue
from tests.venues.orders import Listing

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP
BNB_SWAP = Listing(
    "BNB", "USDT", Venue.SWAP, Decimal(300), step=Decimal("0.01"), min_quantity=Decimal("0.01")
)


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges; BNB has a perpetual too."""
    async with running_exchange(start=START, listings=(*LISTINGS, BNB_SWAP)) as exchange:
        yield exchange


@pytest.fixture
async def desk(database_url: str, venue: Exchange) -> AsyncIterator[Desk]:
    """A desk that reaches them and nothing else."""
    async with opened_desk(database_url, Clock()) as opened:
        now = venue.clock.now
        endpoints = dict.fromkeys(("binance", "bybit"), venue.url)
        brokers = Directory({"crypto": open_crypto(opened.vault, endpoints, now)})
        yield replace(opened, brokers=brokers, now=now)
        await brokers.close()


async def _activated(desk: Desk, venue: Exchange, market_type: MarketType) -> None:
    keys = venue.open_account({"USDT": "100000", "BNB": "10"}, fees_in=FeesIn.BNB)
    connection = await connections.create(
        desk,
        USER,
        kind=Kind.CRYPTO,
        exchange="binance",
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


async def _closed(desk: Desk) -> None:
    await change(desk, EventType.CLOSED)
    await execute_all(desk)
    await sweep_all(desk)
    await execute_all(desk)


@pytest.mark.parametrize("market_type", [SPOT, SWAP])
async def test_a_third_coin_counts_at_its_quote_of_the_moment(
    desk: Desk, venue: Exchange, market_type: MarketType
) -> None:
    await _activated(desk, venue, market_type)
    await publish(desk)
    await execute_all(desk)
    venue.move("BNB/USDT", 330)
    venue.move("BNB/USDT:USDT", 330)
    await _closed(desk)

    [position] = await positions(desk)
    assert position.status is PositionStatus.CLOSED
    assert position.pnl_complete
    entry, close = await orders(desk)
    bid_and_ask = Decimal("0.5")
    for order, price in ((entry, 300), (close, 330)):
        assert set(order.fees) == {"BNB"}
        assert abs(Decimal(order.fee_rates["BNB"]) - price) < bid_and_ask
        assert order.fee_value == Decimal(order.fees["BNB"]) * Decimal(order.fee_rates["BNB"])
        assert order.base_fee == 0
    assert position.fees == entry.fee_value + close.fee_value > 0
    assert position.realized_pnl == position.gross_pnl - position.fees
    venue.audit()


async def test_a_fee_in_the_coin_of_a_perpetual_does_not_shrink_the_position(
    desk: Desk, venue: Exchange
) -> None:
    await _activated(desk, venue, SWAP)
    await publish(desk, symbol="BNB/USDT")
    await execute_all(desk)
    [position] = await positions(desk)
    [entry] = await orders(desk)
    assert set(entry.fees) == {"BNB"}
    assert position.quantity == position.remaining_quantity == entry.filled_quantity == Decimal("0.1")

    await _closed(desk)
    [position] = await positions(desk)
    [close] = [order for order in await orders(desk) if order.purpose is Purpose.CLOSE]
    assert close.filled_quantity == Decimal("0.1")
    assert (position.status, position.dust) == (PositionStatus.CLOSED, Decimal(0))
    assert position.pnl_complete
    assert position.fees > 0
    venue.audit()


def _without_commission(trades: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {field: value for field, value in trade.items() if not field.startswith("commission")}
        for trade in trades
    ]


@pytest.mark.parametrize("market_type", [SPOT, SWAP])
async def test_a_fill_of_which_the_fee_is_not_told_counts_and_leaves_the_result_incomplete(
    desk: Desk, venue: Exchange, market_type: MarketType
) -> None:
    await _activated(desk, venue, market_type)
    untold = altered("untold fees", _without_commission)
    venue.faults.policy = lambda asked: untold if asked.path.endswith("Trades") else None
    await publish(desk)
    await execute_all(desk)
    [entry] = await orders(desk)
    assert (entry.status, entry.filled_quantity) == (OrderStatus.FILLED, Decimal("0.1"))
    assert (entry.fees, entry.fees_complete) == ({}, False)
    [position] = await positions(desk)
    assert position.remaining_quantity == Decimal("0.1")
    assert position.pnl_complete is False

    await _closed(desk)
    [position] = await positions(desk)
    assert (position.status, position.pnl_complete) == (PositionStatus.CLOSED, False)
    assert position.fees == 0
    assert position.realized_pnl == position.gross_pnl


async def test_a_coin_that_nobody_quotes_is_itemised_and_leaves_the_result_incomplete(
    desk: Desk, venue: Exchange
) -> None:
    await _activated(desk, venue, SPOT)
    venue.faults.add(server_error(executed=False), lambda asked: "BNB" in asked.query, times=100)
    await publish(desk)
    await execute_all(desk)
    [entry] = await orders(desk)
    assert set(entry.fees) == {"BNB"}
    assert Decimal(entry.fees["BNB"]) > 0
    assert not entry.fee_rates
    assert (entry.fee_value, entry.fees_complete) == (Decimal(0), False)
    [position] = await positions(desk)
    assert position.pnl_complete is False
    assert position.remaining_quantity == Decimal("0.1")


async def test_a_third_report_is_taken_over_whatever_the_rates_of_the_first_two_come_to(
    desk: Desk, venue: Exchange
) -> None:
    await _activated(desk, venue, SPOT)
    await publish(desk, order_type="limit", entry_price="18000")
    await execute_all(desk)
    [entry] = await orders(desk)
    for filled, fee, rate in (
        ("0.02", "0.001", "612.3"),
        ("0.05", "0.003", "612.5"),
        ("0.1", "0.005", "612.7"),
    ):
        status = OrderStatus.FILLED if filled == "0.1" else OrderStatus.OPEN
        report = OrderReport(
            entry.key.client_order_id,
            entry.exchange_order_id or "",
            status,
            Decimal(filled),
            Decimal(18000),
            {"BNB": Decimal(fee)},
        )
        async with desk.sessions.begin() as session:
            trade = await trades.locked(session, entry.execution_id)
            assert await placing.take_over(trade, entry, report, {"BNB": Decimal(rate)}, desk.now())
    [entry] = await orders(desk)
    assert (entry.status, entry.fees) == (OrderStatus.FILLED, {"BNB": "0.005"})
    # 0.001 at 612.3, 0.002 at 612.5, 0.002 at 612.7.
    assert entry.fee_value.quantize(Decimal("1e-12")) == Decimal("3.0627")
    assert parse(entry.fee_rates["BNB"]).quantize(Decimal("1e-12")) == Decimal("612.54")


async def test_what_an_older_release_kept_with_too_many_digits_is_read_all_the_same(
    desk: Desk, venue: Exchange
) -> None:
    await _activated(desk, venue, SPOT)
    await publish(desk, order_type="limit", entry_price="18000")
    await execute_all(desk)
    [entry] = await orders(desk)
    async with desk.sessions.begin() as session:
        row = await session.get_one(type(entry), entry.id)
        row.fees, row.filled_quantity = {"BNB": "0." + "3" * 50}, Decimal("0.02")
        row.fee_rates, row.average_price = {"BNB": "612." + "3" * 47}, Decimal(18000)
    report = OrderReport(
        entry.key.client_order_id,
        entry.exchange_order_id or "",
        OrderStatus.FILLED,
        Decimal("0.1"),
        Decimal(18000),
        {"BNB": Decimal("0.5")},
    )
    async with desk.sessions() as session:
        connection = await session.get_one(Connection, entry.connection_id)
    assert await placing.record(desk, await broker_of(desk, connection), entry, report)
    [entry] = await orders(desk)
    assert (entry.status, parse(entry.fees["BNB"])) == (OrderStatus.FILLED, Decimal("0.5"))
