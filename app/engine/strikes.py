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
_OF_READS = frozenset(_BY_CODE.values())


async def of_read(desk: Desk, connection_id: UUID, failure: VenueError) -> None:
    """Count a question that was not answered; only what is about the account itself counts."""
    await _count(desk, connection_id, _BY_CODE.get(failure.code))


async def of_order(desk: Desk, connection_id: UUID, failure: VenueError) -> None:
    """Count an order that was not acknowledged: as a question, and what nobody knows the outcome of."""
    strike = _BY_CODE.get(failure.code)
    if strike is None and isinstance(failure, Uncertain):
        strike = Strike.DOUBTED
    await _count(desk, connection_id, strike)


async def answered(desk: Desk, connection: Connection) -> None:
    """The venue has answered a question: the key is good, and nobody is shut out. What orders come to it says not."""
    await _clear(desk, connection, _OF_READS)


async def acknowledged(desk: Desk, connection: Connection) -> None:
    """The venue has acknowledged an order: nothing that went before counts."""
    await _clear(desk, connection, frozenset(Strike))


async def _clear(desk: Desk, connection: Connection, kinds: frozenset[Strike]) -> None:
    # The row that the caller holds is from before the venue was asked: what was counted since would not be seen.
    async with desk.sessions.begin() as session:
        await connections.clear_strikes(session, connection.id, kinds)


async def _count(desk: Desk, connection_id: UUID, strike: Strike | None) -> None:
    if strike is not None:
        async with desk.sessions.begin() as session:
            await connections.add_strike(session, connection_id, strike)
