"""Previewing: what a signal would do on an owner's connections, decided as an execution decides it.

The same look at the venue and the same plan; nothing is written, and nothing is locked.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from app.brokers.port import BANNED, CREDENTIALS_REFUSED, VenueError
from app.desk import Desk
from app.domain.entries import Entry
from app.domain.errors import Denied
from app.domain.exits import Protection
from app.domain.owners import Owner
from app.domain.signals import Course, Signal
from app.engine import situations
from app.engine.situations import Idea, Standing
from app.store import connections, entitlements, ownership, trading
from app.store.connections import Connection

AT_ONCE = 4
"""How many venues are asked side by side for one preview."""


@dataclass(frozen=True, slots=True)
class Order:
    """The entry that would be sent, and who would watch over what it opens."""

    entry: Entry
    protection: Protection


@dataclass(frozen=True, slots=True)
class Preview:
    """What would happen on one connection."""

    connection_id: UUID
    outcome: Order | Denied


async def preview(
    desk: Desk, owner: Owner, signal: Signal, plans: Sequence[str], published_at: datetime
) -> list[Preview]:
    """What a signal would do on each of the owner's connections, oldest first."""
    async with desk.sessions() as session:
        # The switch is nobody's; what is read from here on is the owner's own, and PostgreSQL shows no more.
        state = await trading.state(session)
    async with ownership.reading(desk.sessions, owner) as session:
        mine = await session.scalars(
            select(Connection).where(connections.owned_by(owner)).order_by(Connection.id)
        )
        known = mine.all()
        standing = Standing(state, await entitlements.of_user(session, owner.id))
    idea = Idea(Course(signal), plans, published_at)
    room = asyncio.Semaphore(AT_ONCE)

    async def one(connection: Connection) -> Preview:
        async with room:
            return Preview(connection.id, await _outcome(desk, connection, standing, idea))

    return list(await asyncio.gather(*(one(connection) for connection in known)))


async def _outcome(desk: Desk, connection: Connection, standing: Standing, idea: Idea) -> Order | Denied:
    try:
        view = await situations.look(desk, connection, idea)
        async with ownership.reading(desk.sessions, connection.owner) as session:
            planned = await situations.plan(
                session, desk, connection, standing, idea, view, execution_id=None, now=desk.now()
            )
    except Denied as denial:
        return denial
    except VenueError as failure:
        if failure.code in (CREDENTIALS_REFUSED, BANNED):
            return Denied(failure.code, f"The venue said: {failure.message}")
        return Denied("venue_unreachable", f"The venue could not be asked: {failure.message}")
    native = view.broker.traits.native_protection
    return Order(planned.entry, _protection(planned.entry, native=native))


def _protection(entry: Entry, *, native: bool) -> Protection:
    """Who would watch stop and targets once the venue has acknowledged them."""
    if entry.stop_loss is None and not entry.rungs:
        return Protection.NONE
    return Protection.NATIVE if native else Protection.SOFTWARE
