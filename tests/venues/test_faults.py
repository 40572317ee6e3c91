"""Every accident does what it says, at every venue."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import ccxt.async_support as ccxt
import pytest

from tests.venues import faults
from tests.venues.exchange import Exchange, Keys, running_exchange
from tests.venues.redirect import connected
from tests.venues.tools import new_id

VENUES = {
    "spot": ("binance", "BTC/USDT", "newClientOrderId"),
    "usdm": ("binanceusdm", "BTC/USDT:USDT", "newClientOrderId"),
    "bybit": ("bybit", "BTC/USDT:USDT", "orderLinkId"),
}

Buy = Callable[[str], Awaitable[Any]]


@pytest.fixture(params=VENUES)
async def buy(request: pytest.FixtureRequest, venue: Exchange, keys: Keys) -> AsyncIterator[Buy]:
    """A market order at each venue in turn, under the client id it is given."""
    name, symbol, key = VENUES[request.param]
    async with connected(venue, name, keys) as client:
        # Bybit's class asks for the kind of account before the first order.
        await client.fetch_balance()
        client.timeout = 300

        async def place(client_id: str) -> Any:
            return await client.create_order(symbol, "market", "buy", 0.1, None, {key: client_id})

        yield place


@pytest.mark.parametrize(
    ("fault", "error", "accepted"),
    [
        (faults.ANSWER_LOST, ccxt.ExchangeNotAvailable, 1),
        (faults.REQUEST_LOST, ccxt.ExchangeNotAvailable, 0),
        (faults.TRUNCATED, ccxt.ExchangeError, 1),
        (faults.HANG, ccxt.RequestTimeout, 0),
        (faults.HANG_EXECUTED, ccxt.RequestTimeout, 1),
        (faults.server_error(502, executed=True), ccxt.ExchangeNotAvailable, 1),
        (faults.server_error(503, executed=False), ccxt.ExchangeNotAvailable, 0),
        (faults.slow(0.5), ccxt.RequestTimeout, 1),
    ],
    ids=lambda value: value.name if isinstance(value, faults.Fault) else "",
)
async def test_what_the_client_sees_and_what_happened(
    venue: Exchange, buy: Buy, fault: faults.Fault, error: type[Exception], accepted: int
) -> None:
    name = new_id()
    venue.faults.add(fault)
    with pytest.raises(error):
        await buy(name)
    assert len(venue.accepted(name)) == accepted
    assert [each for each, _ in venue.faults.struck] == [fault]
    await buy(new_id())


async def test_a_page_with_status_200_looks_like_success(venue: Exchange, buy: Buy) -> None:
    for fault, accepted in ((faults.HTML, 1), (faults.HTML_UNEXECUTED, 0)):
        name = new_id()
        venue.faults.add(fault)
        with suppress(TypeError, AttributeError):
            order = await buy(name)
            assert order["id"] is None
        assert len(venue.accepted(name)) == accepted


async def test_late_acceptance_stands_before_the_clock_again(venue: Exchange, buy: Buy) -> None:
    for fault, accepted in (
        (faults.late(2), 1),
        (faults.late(30), 0),
        (faults.late(30, fenced=False), 1),
    ):
        name = new_id()
        venue.faults.add(fault)
        with pytest.raises(ccxt.ExchangeNotAvailable):
            await buy(name)
        assert venue.accepted(name) == []
        await venue.advance(31 if fault.late == 30 else 2.1)
        assert len(venue.accepted(name)) == accepted


async def test_a_new_order_may_stay_unseen(venue: Exchange, spot: Any) -> None:
    name = new_id()
    venue.faults.add(faults.lagging(5))
    await spot.create_order("BTC/USDT", "limit", "buy", 0.1, 19000, {"newClientOrderId": name})
    query = {"origClientOrderId": name}
    with pytest.raises(ccxt.OrderNotFound):
        await spot.fetch_order("", "BTC/USDT", query)
    assert await spot.fetch_open_orders("BTC/USDT") == []
    await venue.advance(5.1)
    assert (await spot.fetch_order("", "BTC/USDT", query))["status"] == "open"


async def test_a_scripted_refusal(venue: Exchange, spot: Any) -> None:
    venue.faults.add(faults.reject({"code": -1007, "msg": "Timeout waiting for response."}, 408))
    with pytest.raises(ccxt.RequestTimeout):
        await spot.create_order("BTC/USDT", "market", "buy", 0.1)
    assert venue.spot.floor.orders == []


async def test_faults_strike_what_they_are_meant_for(venue: Exchange, spot: Any) -> None:
    mine = new_id()
    venue.faults.add(faults.REQUEST_LOST, faults.of_order(mine))
    await spot.create_order("BTC/USDT", "market", "buy", 0.1)
    with pytest.raises(ccxt.ExchangeNotAvailable):
        await spot.create_order("BTC/USDT", "market", "buy", 0.1, None, {"newClientOrderId": mine})
    venue.faults.add(faults.server_error(500, executed=False), faults.on("/account"))
    await spot.create_order("BTC/USDT", "market", "buy", 0.1)
    with pytest.raises(ccxt.ExchangeNotAvailable):
        await spot.fetch_balance()


async def test_chance_is_the_same_for_the_same_seed(venue: Exchange, spot: Any) -> None:
    async def struck() -> list[str]:
        venue.faults.struck.clear()
        venue.faults.policy = faults.by_chance(
            7, 0.5, [faults.ANSWER_LOST, faults.REQUEST_LOST], faults.places
        )
        for _ in range(20):
            with suppress(ccxt.BaseError):
                await spot.create_order("BTC/USDT", "market", "buy", 0.01)
        return [fault.name for fault, _ in venue.faults.struck]

    first = await struck()
    assert first == await struck()
    assert set(Counter(first)) == {"answer lost", "request lost"}


async def test_a_clock_that_stands_still_moves_only_by_hand() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    async with running_exchange(start=start) as venue:
        keys = venue.open_account({"USDT": "100000"})
        async with connected(venue, "bybit", keys) as client:
            assert await client.fetch_time() == int(start.timestamp() * 1000)
            await venue.advance(60)
            assert await client.fetch_time() == int(start.timestamp() * 1000) + 60_000
            order = await client.create_order("BTC/USDT:USDT", "market", "buy", 0.1)
            assert order["id"]


async def test_hundreds_of_orders_a_second(venue: Exchange, spot: Any) -> None:
    """One core serves the client and the exchange here, so the bar is set well below what it can do."""
    started = time.perf_counter()
    for _ in range(10):
        orders = (
            spot.create_order("BTC/USDT", "limit", "buy", 0.001, 19000 + number) for number in range(50)
        )
        await asyncio.gather(*orders)
    rate = 500 / (time.perf_counter() - started)
    assert len(venue.spot.floor.orders) == 500
    assert rate > 100, rate
    venue.move("BTC/USDT", 18000)
    assert sum(order.filled for order in venue.spot.floor.orders) == Decimal("0.5")
