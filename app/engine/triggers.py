"""Triggers: the price that a position's stop and targets go by. The venue's orders and our monitor follow the same one.

On swap it is the source that the position's owner chose; anywhere else the price it could be left at: longs leave on
the bid, shorts on the ask. Without a sound price of that kind nothing is triggered.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from uuid import UUID

import structlog

from app.brokers.port import Broker, VenueError
from app.desk import Desk
from app.domain.market import Quote
from app.domain.orders import TriggerSource
from app.engine.access import in_time
from app.store.positions import Position

log = structlog.get_logger(__name__)

Quotes = Mapping[tuple[str, str], Quote]
"""By market and symbol."""

_Asked = tuple[str, TriggerSource]


async def prices(desk: Desk, held: Iterable[tuple[Broker, Position]], quotes: Quotes) -> dict[UUID, Decimal]:
    """By position, what its triggers go by now; one request per market and source, whoever holds what there."""
    now, max_age = desk.now(), desk.quote_max_age
    quoted = [
        (broker, position, quote)
        for broker, position in held
        if (quote := quotes.get((broker.market_key, position.symbol))) and quote.is_usable(now, max_age)
    ]
    wanted: dict[_Asked, set[str]] = defaultdict(set)
    brokers: dict[str, Broker] = {}
    for broker, position, _ in quoted:
        if position.trigger_source is not None:
            wanted[broker.market_key, position.trigger_source].add(position.symbol)
            brokers[broker.market_key] = broker
    answers = await asyncio.gather(
        *(_ask(brokers[market], source, wanted[market, source]) for market, source in wanted)
    )
    told = dict(zip(wanted, answers, strict=True))
    found: dict[UUID, Decimal] = {}
    for broker, position, quote in quoted:
        if position.trigger_source is None:
            found[position.id] = quote.leaving(position.side.entry_side)
        elif price := told[broker.market_key, position.trigger_source].get(position.symbol):
            found[position.id] = price
    return found


async def price(desk: Desk, broker: Broker, position: Position) -> Decimal | None:
    """The same for one position; None without a sound price. Raises VenueError."""
    quotes = await in_time(broker.quotes([position.symbol]))
    by_market = {(broker.market_key, symbol): quote for symbol, quote in quotes.items()}
    return (await prices(desk, [(broker, position)], by_market)).get(position.id)


async def _ask(broker: Broker, source: TriggerSource, symbols: set[str]) -> Mapping[str, Decimal]:
    try:
        return await in_time(broker.references(source, sorted(symbols)))
    except VenueError as failure:
        log.warning(
            "trigger_prices_unavailable", market=broker.market_key, source=source, reason=failure.message
        )
        return {}
