"""Hostile answers: whatever a venue sends, it ends in what the port promises, and never in "no" for what was done."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final

import pytest

from app.brokers.crypto.bounds import MAX_SIZE
from app.brokers.port import Uncertain, Unreachable
from app.domain.market import MarketType
from app.domain.orders import OrderRequest, OrderType, Side
from tests.brokers.contract.exchanges import STARTED_AT, ExchangeStage, exchange_stage
from tests.venues.exchange import running_exchange
from tests.venues.faults import Delivery, Fault, Page, altered, any_request, places
from tests.venues.tools import new_id

EXCHANGES: Final = {
    "binance-spot": ("binance", MarketType.SPOT),
    "binanceusdm": ("binanceusdm", MarketType.SWAP),
    "bybit": ("bybit", MarketType.SWAP),
}

Change = Callable[[Any], Any]


def _each(change: Callable[[Any], Any]) -> Change:
    """Every value that is neither object nor list, changed."""

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items()}
        return [walk(item) for item in node] if isinstance(node, list) else change(node)

    return walk


def _dropping(seed: int) -> Change:
    """Some fields are missing, not the same ones each time."""
    dice = random.Random(seed)

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items() if dice.random() > 0.2}
        return [walk(item) for item in node] if isinstance(node, list) else node

    return walk


def _is_number(value: Any) -> bool:
    return str(value).lstrip("-").replace(".", "", 1).isdigit()


CHANGES: Final[dict[str, Change]] = {
    "an empty object": lambda _: {},
    "an empty list": lambda _: [],
    "null": lambda _: None,
    "a text": lambda _: "all is well",
    "a number": lambda _: 1,
    "true": lambda _: True,
    "a list around it": lambda payload: [payload],
    "nulls": _each(lambda _: None),
    "objects for values": _each(lambda value: {"value": value}),
    "lists for values": _each(lambda value: [value]),
    "texts for numbers": _each(lambda value: "a lot" if _is_number(value) else value),
    "numbers for texts": _each(lambda value: value if _is_number(value) else 7),
    "NaN": _each(lambda value: "NaN" if _is_number(value) else value),
    "infinity": _each(lambda value: "Infinity" if _is_number(value) else value),
    "1e400": _each(lambda value: "1e400" if _is_number(value) else value),
    "negative numbers": _each(lambda value: f"-{value}" if _is_number(value) else value),
    **{f"missing fields {seed}": _dropping(seed) for seed in range(6)},
}


@asynccontextmanager
async def _opened(exchange: str) -> AsyncIterator[ExchangeStage]:
    """A fresh account that has traded before."""
    async with running_exchange(start=STARTED_AT) as venue:
        stage = await exchange_stage(venue, *EXCHANGES[exchange])
        await stage.broker.account()
        await stage.broker.place(_market_order(stage, new_id()))
        yield stage
        await stage.close()


def _market_order(stage: ExchangeStage, client_order_id: str) -> OrderRequest:
    return OrderRequest(
        client_order_id=client_order_id,
        symbol=stage.symbol,
        side=Side.BUY,
        type=OrderType.MARKET,
        quantity=Decimal("0.1"),
        signed_at=stage.now(),
    )


async def _outcome(asked: Awaitable[Any]) -> str:
    """What came of it, by the name of its kind."""
    try:
        return type(await asked).__name__
    except Exception as error:  # noqa: BLE001 - whatever else is raised is what the tests look for
        return type(error).__name__


PROMISED: Final = {
    "account": {"Account"},
    "holdings": {"list", "tuple"},
    "quotes": {"dict"},
    "find": {"OrderReport", "Silence"},
    "place": {"OrderReport"},
    "cancel": {"OrderReport"},
}
FAILURES: Final = {"Refused", "Unreachable", "Uncertain"}


async def _broken(exchange: str, name: str) -> list[str]:
    """Which promises a changed answer breaks."""
    async with _opened(exchange) as stage:
        fault, broker = altered(name, CHANGES[name]), stage.broker
        order = _market_order(stage, new_id())
        stage.venue.faults.policy = lambda _: fault
        outcomes = {
            "account": await _outcome(broker.account()),
            "holdings": await _outcome(broker.holdings()),
            "quotes": await _outcome(broker.quotes([stage.symbol])),
            "find": await _outcome(broker.find(order.key)),
            "place": await _outcome(broker.place(order)),
            "cancel": await _outcome(broker.cancel(order.key)),
        }
        accepted = len(stage.venue.accepted(order.client_order_id))
    broken = [
        f"{name}: {asked} ended in {outcome}"
        for asked, outcome in outcomes.items()
        if outcome not in PROMISED[asked] | FAILURES
    ]
    if accepted > 1 or (accepted and outcomes["place"] == "Refused"):
        broken.append(f"{name}: {outcomes['place']} was said of {accepted} accepted orders")
    return broken


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_nothing_a_venue_says_breaks_a_promise(exchange: str) -> None:
    found = await asyncio.gather(*(_broken(exchange, name) for name in CHANGES))
    assert [each for broken in found for each in broken] == []


@pytest.mark.parametrize("status", [200, 500])
async def test_a_flood_is_not_drunk(status: int) -> None:
    flood = Page(status, '{"msg": "' + "x" * (50 * 1024 * 1024) + '"}', "application/json")
    assert len(flood.text) > MAX_SIZE
    async with _opened("binance-spot") as stage:
        stage.venue.faults.add(Fault("flood", Delivery.REPLACED, page=flood), places)
        with pytest.raises(Uncertain, match="ExchangeError"):
            await stage.broker.place(_market_order(stage, new_id()))
        stage.venue.faults.add(Fault("flood", Delivery.REPLACED, page=flood), any_request)
        with pytest.raises((Uncertain, Unreachable)):
            await stage.broker.account()
        stage.venue.faults.clear()
        assert (await stage.broker.account()).balances
