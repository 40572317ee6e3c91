"""Strikes: what a connection's venue refuses or leaves open, counted in rows until it does something right again.

Breaking reads the counts. They are kept apart from the trades they come from, since a connection's row is never
locked after an execution's.
"""

from collections.abc import Mapping
from uuid import UUID

from app.brokers.port import BANNED, CREDENTIALS_REFUSED, Uncertain, VenueError
from app.desk import Desk
from app.store import connections
from app.store.connections import Connection, Strike

_BY_CODE: Mapping[str, Strike] = {CREDENTIALS_REFUSED: Strike.REFUSED, BANNED: Strike.BANNED}


async def of_read(desk: Desk, connection_id: UUID, failure: VenueError) -> None:
    """Count a question that was not answered; only what is about the account itself counts."""
    await _count(desk, connection_id, _BY_CODE.get(failure.code))


async def of_order(desk: Desk, connection_id: UUID, failure: VenueError) -> None:
    """Count an order that was not acknowledged: as a question, and what nobody knows the outcome of."""
    strike = _BY_CODE.get(failure.code)
    if strike is None and isinstance(failure, Uncertain):
        strike = Strike.DOUBTED
    await _count(desk, connection_id, strike)


async def clear(desk: Desk, connection: Connection) -> None:
    """The venue has done what it was asked: what went before does not count. Nothing is written where nothing did."""
    if connection.has_strikes:
        async with desk.sessions.begin() as session:
            await connections.clear_strikes(session, connection.id)


async def _count(desk: Desk, connection_id: UUID, strike: Strike | None) -> None:
    if strike is not None:
        async with desk.sessions.begin() as session:
            await connections.add_strike(session, connection_id, strike)
