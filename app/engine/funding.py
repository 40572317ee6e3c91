"""Funding: what perpetuals charge and pay for being held is booked on the position that was open then.

Venues settle at full hours and list it a moment later, sometimes much later: each look goes back a day, and what was
heard before counts once. A position that has been closed meanwhile has its day restated.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from app.brokers.port import Broker, Funding, VenueError
from app.desk import Desk
from app.domain.holdings import Payment, part_of, passes_an_hour
from app.domain.money import stored
from app.domain.positions import PositionStatus
from app.engine import naming, projecting, reporting, trades
from app.engine.access import in_time
from app.store import connections, funding
from app.store.connections import Connection
from app.store.positions import Position

log = structlog.get_logger(__name__)

SHOWN_WITHIN: Final = timedelta(minutes=2)
"""How long after a full hour a venue is asked what it settled then."""

LATE: Final = timedelta(days=1)
"""How far back each look goes, and for how long after its end a position is still asked about."""

_AGAIN: Final = timedelta(minutes=1)
"""When a venue is asked again that did not answer."""

_HOUR: Final = timedelta(hours=1)


def next_look(now: datetime) -> datetime:
    """The next time that is so long after a full hour that what was settled then is shown."""
    shown_at = now.replace(minute=0, second=0, microsecond=0) + SHOWN_WITHIN
    return shown_at if shown_at > now else shown_at + _HOUR


def expect(connection: Connection, broker: Broker, now: datetime) -> None:
    """An entry is being claimed, under the connection's lock: what it opens may be charged from the next hour on."""
    if connection.funding_due_at is None and broker.traits.funding is not Funding.NONE:
        connection.funding_due_at = next_look(now)


async def hear(desk: Desk, connection: Connection, broker: Broker) -> None:
    """Book what the venue has settled since it was last asked, where that is due."""
    now = desk.now()
    if connection.funding_due_at is None or connection.funding_due_at > now:
        return
    since = (connection.funding_heard_at or now) - LATE
    async with desk.sessions() as session:
        held = await funding.payable(session, connection.id, since)
    if connection.funding_heard_at is None and held:
        since = min(held[0].opened_at, since)
    if broker.traits.funding is Funding.UNTOLD:
        await _admit(desk, held)
    elif held:
        try:
            payments = await in_time(broker.payments(since))
        except VenueError as failure:
            log.warning("funding_unknown", connection_id=str(connection.id), reason=failure.message)
            await _come_back(desk, connection, connection.funding_heard_at, now + _AGAIN)
            return
        await _book_all(desk, connection, held, since, payments)
    await _come_back(desk, connection, now, next_look(now))


async def _come_back(desk: Desk, connection: Connection, heard_at: datetime | None, due_at: datetime) -> None:
    """Note what was heard, and when to ask again: not at all where nothing can be charged any more."""
    async with desk.sessions.begin() as session:
        current = await connections.locked(session, connection.id)
        if current is None:
            return
        lately = await funding.payable(session, connection.id, desk.now() - LATE)
        current.funding_heard_at = heard_at
        is_wanted = bool(lately) or await funding.may_open(session, connection.id)
        current.funding_due_at = due_at if is_wanted else None


async def _book_all(
    desk: Desk, connection: Connection, held: Sequence[Position], since: datetime, payments: Sequence[Payment]
) -> None:
    async with desk.sessions() as session:
        known = await funding.known(session, connection.id, since)
    for payment in payments:
        position = next((each for each in held if _is_for(payment, each)), None)
        if position is not None and payment.amount and (payment.symbol, payment.id) not in known:
            await _book(desk, position, payment)


def _is_for(payment: Payment, position: Position) -> bool:
    """Whether a position was open in the symbol then: where symbols are netted there is no other."""
    is_over = position.closed_at is not None and position.closed_at < payment.time
    return position.symbol == payment.symbol and position.opened_at <= payment.time and not is_over


async def _book(desk: Desk, seen: Position, payment: Payment) -> None:
    """Put a payment on its position, once; what it changes of a day that is over is computed again."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, seen.execution_id)
        position = trade.position
        if position is None or not await funding.keep(session, position, payment, now):
            return
        if payment.currency == position.currency:
            ours = position.remaining_quantity or position.quantity
            projecting.pay(position, stored(part_of(payment.amount, ours, position.foreign_quantity)), now)
        else:
            # Nothing says what it is worth in the position's currency.
            projecting.miss_funding(position, now)
        closed_at = position.closed_at if position.status is PositionStatus.CLOSED else None
    log.info("funding_booked", **naming.of_position(seen), amount=str(payment.amount))
    if closed_at is not None:
        await reporting.restate(desk, seen.connection_id, closed_at.date())


async def _admit(desk: Desk, held: Sequence[Position]) -> None:
    """Say of positions that may have been charged, at a venue that does not tell, that their figures lack it."""
    now = desk.now()
    charged = [each for each in held if passes_an_hour(each.opened_at, each.closed_at or now)]
    for seen in charged:
        if not seen.funding_complete:
            continue
        async with desk.sessions.begin() as session:
            trade = await trades.locked(session, seen.execution_id)
            if trade.position is not None:
                projecting.miss_funding(trade.position, now)
