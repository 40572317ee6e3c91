"""Arrivals: entries that rest are looked at between the monitor's rounds, so that what they fill is protected at once.

An order can be filled only while its side of the book is at its price or beyond it. So one quote request per market,
whoever has entries there, says which accounts have to be asked; the others wait for the monitor, which asks all.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import select

from app.brokers.port import Broker, VenueError
from app.desk import Desk
from app.domain.market import Quote
from app.domain.orders import OrderReport, Side
from app.engine import placing, protection
from app.engine.access import broker_of, in_time
from app.engine.rooms import apart
from app.store import connections, orders
from app.store.connections import Connection
from app.store.orders import Order

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(seconds=2)
"""How often entries that rest are looked at."""

SOON: Final = timedelta(seconds=5)
"""How long a question of this may take."""

_Resting = tuple[Broker, Order]


async def look(desk: Desk) -> None:
    """Take over, and protect, what entries have been filled that rest where the price is now.

    Raises ExceptionGroup of what went wrong unforeseen, when all else has been looked at.
    """
    by_market: dict[str, list[_Resting]] = defaultdict(list)
    for broker, order in await _resting(desk):
        by_market[broker.market_key].append((broker, order))
    await apart(_look_at(desk, resting) for resting in by_market.values())


async def _look_at(desk: Desk, resting: Sequence[_Resting]) -> None:
    """One market; who does not answer soon is the monitor's to ask, whose rounds come again."""
    asked: dict[Broker, list[Order]] = defaultdict(list)
    for broker, order in await _reached(resting):
        asked[broker].append(order)
    await apart(_ask(desk, broker, entries) for broker, entries in asked.items())


async def _resting(desk: Desk) -> list[_Resting]:
    """The entries that rest on connections which nobody else is looking at, with their open brokers."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        resting = await orders.resting_entries(session)
        known = {order.connection_id for order in resting}
        # A little less than a round, so that whichever worker's comes next takes them.
        taken = await connections.claim_arrivals(session, known, now, now + EVERY / 2) if known else set()
        rows = (await session.scalars(select(Connection).where(Connection.id.in_(taken)))).all()
    brokers = {}
    for connection in rows:
        try:
            brokers[connection.id] = await broker_of(desk, connection)
        except VenueError as failure:
            log.warning("broker_unavailable", connection_id=str(connection.id), reason=failure.message)
    return [(brokers[order.connection_id], order) for order in resting if order.connection_id in brokers]


async def _reached(resting: Sequence[_Resting]) -> list[_Resting]:
    """Those of the entries of one market that may be filled at its present prices."""
    broker, _ = resting[0]
    try:
        quotes = await in_time(broker.quotes(sorted({order.symbol for _, order in resting})), SOON)
    except VenueError as failure:
        log.warning("quotes_unavailable", market=broker.market_key, reason=failure.message)
        return []
    return [each for each in resting if _is_reached(each[1], quotes.get(each[1].symbol))]


def _is_reached(order: Order, quote: Quote | None) -> bool:
    """Whether the best price of its own side is its own or worse; a market order is always there."""
    if order.price is None:
        return True
    if quote is None:
        return False
    best = quote.bid if order.side is Side.BUY else quote.ask
    return best * order.side.sign <= order.price * order.side.sign


async def _ask(desk: Desk, broker: Broker, entries: Sequence[Order]) -> None:
    """What a venue does not say, or says is gone, is the monitor's to find out about."""
    try:
        answers = await in_time(broker.survey([order.key for order in entries]), SOON)
    except VenueError as failure:
        log.warning("survey_failed", connection_id=str(entries[0].connection_id), reason=failure.message)
        return
    for order in entries:
        answer = answers.get(order.key.client_order_id)
        if isinstance(answer, OrderReport) and await placing.record(desk, broker, order, answer):
            await protection.after(desk, order.execution_id)
