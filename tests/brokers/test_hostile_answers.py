"""Hostile answers: whatever a venue sends, it ends in what the port promises, and never in "no" for what was done."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final
from uuid import uuid4

import pytest

from app.brokers.crypto.bounds import MAX_SIZE
from app.brokers.metatrader import gateway
from app.brokers.metatrader.marks import magic_of
from app.brokers.metering import metered
from app.brokers.port import Refused, Uncertain, Unreachable
from app.domain.market import MarketType
from app.domain.orders import OrderRequest, OrderType, Side
from app.metrics import Metrics
from tests.brokers.contract.exchanges import STARTED_AT, ExchangeStage, exchange_stage
from tests.brokers.contract.metatrader import BITCOIN, MetaTraderStage, metatrader_stage
from tests.brokers.contract.metatrader import STARTED_AT as BRIDGED_AT
from tests.venues.exchange import running_exchange
from tests.venues.faults import Delivery, Fault, Page, altered, any_request, places
from tests.venues.metatrader import Method, running_bridge

EXCHANGES: Final = {
    "binance-spot": ("binance", MarketType.SPOT),
    "binanceusdm": ("binanceusdm", MarketType.SWAP),
    "bybit": ("bybit", MarketType.SWAP),
}

BRIDGED: Final = {"mt4": Method.HEDGING, "mt5": Method.HEDGING, "mt5-netting": Method.NETTING}

Stage = ExchangeStage | MetaTraderStage
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
async def _staged(name: str) -> AsyncIterator[Stage]:
    if name in EXCHANGES:
        async with running_exchange(start=STARTED_AT) as exchange:
            yield await exchange_stage(exchange, *EXCHANGES[name])
    else:
        async with running_bridge(start=BRIDGED_AT, listings=[BITCOIN]) as bridge:
            yield await metatrader_stage(bridge, name.partition("-")[0], BRIDGED[name])


@asynccontextmanager
async def _opened(name: str) -> AsyncIterator[Stage]:
    """A fresh account that has traded before."""
    async with _staged(name) as stage:
        await stage.broker.account()
        await stage.broker.place(_market_order(stage))
        yield stage
        await stage.close()


def _market_order(stage: Stage) -> OrderRequest:
    return OrderRequest(
        client_order_id=stage.broker.client_order_id(uuid4(), 1),
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
    except FAILURES as failure:
        return next(kind.__name__ for kind in FAILURES if isinstance(failure, kind))
    except Exception as error:  # noqa: BLE001 - whatever else is raised is what the tests look for
        return type(error).__name__


AT_ONCE: Final = 6
"""How many are asked side by side: they wait more than they compute, and a busy machine keeps up with so many."""

PROMISED: Final = {
    "account": {"Account"},
    "holdings": {"list", "tuple"},
    "quotes": {"dict"},
    "find": {"OrderReport", "Silence"},
    "place": {"OrderReport"},
    "cancel": {"OrderReport"},
    "instruments": {"dict"},
    "account, opened anew": {"Account"},
}
FAILURES: Final = (Refused, Unreachable, Uncertain)


def _accepted(stage: Stage, order: OrderRequest) -> int:
    """How often the venue took an order."""
    if isinstance(stage, ExchangeStage):
        return len(stage.venue.accepted(order.client_order_id))
    return len(stage.venue.accepted(magic=magic_of(order.client_order_id)))


async def _broken(venue: str, name: str) -> list[str]:
    """Which promises a changed answer breaks."""
    async with _opened(venue) as stage:
        fault, broker = altered(name, CHANGES[name]), metered(stage.broker, venue, Metrics())
        order = _market_order(stage)
        stage.venue.faults.policy = lambda _: fault
        outcomes = {
            "account": await _outcome(broker.account()),
            "holdings": await _outcome(broker.holdings()),
            "quotes": await _outcome(broker.quotes([stage.symbol])),
            "find": await _outcome(broker.find(order.key)),
            "place": await _outcome(broker.place(order)),
            "cancel": await _outcome(broker.cancel(order.key)),
            "instruments": await _outcome(broker.instruments([stage.symbol])),
        }
        await stage.restart()
        outcomes["account, opened anew"] = await _outcome(stage.broker.account())
        accepted = _accepted(stage, order)
    broken = [
        f"{name}: {asked} ended in {outcome}"
        for asked, outcome in outcomes.items()
        if outcome not in PROMISED[asked] | {kind.__name__ for kind in FAILURES}
    ]
    if accepted > 1 or (accepted and outcomes["place"] == "Refused"):
        broken.append(f"{name}: {outcomes['place']} was said of {accepted} accepted orders")
    return broken


@pytest.mark.parametrize("venue", [*EXCHANGES, *BRIDGED])
async def test_nothing_a_venue_says_breaks_a_promise(venue: str) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def broken(name: str) -> list[str]:
        async with room:
            return await _broken(venue, name)

    found = await asyncio.gather(*(broken(name) for name in CHANGES))
    assert [each for broken in found for each in broken] == []


@pytest.mark.parametrize("venue", ["binance-spot", "mt5"])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_flood_is_not_drunk(status: int, venue: str) -> None:
    flood = Page(status, '{"msg": "' + "x" * (50 * 1024 * 1024) + '"}', "application/json")
    assert len(flood.text) > MAX_SIZE == gateway.MAX_SIZE
    async with _opened(venue) as stage:
        stage.venue.faults.add(Fault("flood", Delivery.REPLACED, page=flood), places)
        order = _market_order(stage)
        # MetaTrader's broker looks by itself for what it has no name for.
        assert await _outcome(stage.broker.place(order)) == ("OrderReport" if venue == "mt5" else "Uncertain")
        assert _accepted(stage, order) == 1
        stage.venue.faults.add(Fault("flood", Delivery.REPLACED, page=flood), any_request)
        with pytest.raises((Uncertain, Unreachable)):
            await stage.broker.account()
        stage.venue.faults.clear()
        assert (await stage.broker.account()).balances
