"""Watches: who looks after which connections, taken for a few seconds and renewed for as long as a round lasts.

A worker that dies or stands still renews nothing, so that another one takes its connections over within seconds.
That two never do the same thing twice does not rest on this: every order is claimed under the lock of its trade.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.desk import Desk
from app.store import connections

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=6)
"""For how long connections are taken at a time."""

RENEWAL = timedelta(seconds=2)
"""How often that is renewed while the round goes on."""

_PAUSES = (0, 0.05, 0.2)
"""Seconds before each try to move a watch: a claim holds its connection's row for some milliseconds."""

LONGEST = timedelta(seconds=30)
"""For how long a round renews; one that hangs loses its connections to the next worker."""


@asynccontextmanager
async def held(desk: Desk, connection_ids: Sequence[UUID]) -> AsyncIterator["Watch"]:
    """Take those connections that nobody else watches, for as long as the body lasts or until it lets them go."""
    now = desk.now()
    watch = Watch(desk, set(), now + LEASE)
    if connection_ids:
        async with desk.sessions.begin() as session:
            watch.held = await connections.claim_watch(session, connection_ids, now, watch.until)
    if not watch.held:
        yield watch
        return
    over = asyncio.Event()
    renewing = asyncio.create_task(watch.renew(over))
    try:
        yield watch
    finally:
        # It is not cancelled, which would leave open whether its last renewal counts.
        over.set()
        await renewing
        await watch.let_go(watch.held)


class Watch:
    """What one round has taken. That the moment it ends at is still there proves that nobody else has taken it."""

    def __init__(self, desk: Desk, held: set[UUID], until: datetime) -> None:
        self.held = held
        self.until = until
        self._desk = desk
        self._moving = asyncio.Lock()

    async def let_go(self, connection_ids: Collection[UUID]) -> None:
        """Have looked after these: they are due again half a round later, for whichever worker's round comes next."""
        async with self._moving:
            left = self.held.intersection(connection_ids)
            self.held -= left
            if left:
                await self._move(left, self._desk.now() + self._desk.monitor_every / 2)

    async def renew(self, over: asyncio.Event) -> None:
        """Go on holding what is still held, until the round is over or has taken too long."""
        for _ in range(LONGEST // RENEWAL):
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), RENEWAL.total_seconds())
                return
            try:
                await self._renew()
            except (SQLAlchemyError, OSError) as failure:
                log.warning("watch_not_renewed", reason=type(failure).__name__)

    async def _renew(self) -> None:
        """Take it for longer; what somebody else has taken meanwhile is held no more."""
        async with self._moving:
            until = self._desk.now() + LEASE
            self.held, self.until = await self._move(self.held, until), until

    async def _move(self, connection_ids: Collection[UUID], until: datetime) -> set[UUID]:
        """Let it end at another moment for these; answers which of them nobody else has taken meanwhile.

        A row that is locked is tried again in a moment, and given up where its holder stands still.
        """
        wanted, moved = set(connection_ids), set[UUID]()
        for pause in _PAUSES if wanted else ():
            await asyncio.sleep(pause)
            async with self._desk.sessions.begin() as session:
                moved |= await connections.move_watch(session, list(wanted - moved), self.until, until)
            if moved == wanted:
                break
        return moved
