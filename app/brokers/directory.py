"""The directory: one open broker per connection and credentials version."""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol
from uuid import UUID

from app.brokers.metering import metered
from app.brokers.port import TERMS_NOT_SERVED, Broker, Refused
from app.domain.market import MarketType
from app.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to open a connection's broker. Holds no row and no session."""

    connection_id: UUID
    credentials_version: int
    kind: str
    exchange: str
    market_type: MarketType
    sandbox: bool
    leverage: Decimal
    native_protection: bool
    """Whether the owner wants the venue to hold stop and targets."""
    paper: Mapping[str, Any] | None
    credentials_sealed: bytes | None = field(compare=False, repr=False)
    """Which credentials these are is what the version says; the same ones sealed anew are no change."""
    margin_mode: str | None = None
    """`isolated` or `cross`; None leaves the venue's as it is."""


class Venue(Protocol):
    """Opens brokers of one kind of venue."""

    async def open(self, access: Access) -> Broker:
        """A broker for this connection. Raises VenueError; Refused for terms it cannot serve."""

    async def close(self) -> None:
        """Let go of whatever its brokers share."""


IDLE_SECONDS: Final = 30 * 60
"""How long a broker is kept that nobody asks for: far longer than any activity holds on to one."""


@dataclass(slots=True)
class _Open:
    """A broker that is open, for what, and when it was last asked for."""

    access: Access
    broker: Broker
    asked_at: float


class Directory:
    """Brokers by connection. A change of credentials or terms opens a new one and lets the old one go.

    So is one that nobody has asked for in a while: its connection may long be another process's, or be no more.
    """

    def __init__(
        self,
        venues: Mapping[str, Venue],
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._venues = venues
        self._metrics = metrics
        self._clock = clock
        self._open: OrderedDict[UUID, _Open] = OrderedDict()
        """Those that were asked for last come last."""

    async def open(self, access: Access) -> Broker:
        """The broker of a connection, opened on first use."""
        if (known := self._known(access)) is not None:
            return known
        broker = await self._new(access)
        if (known := self._known(access)) is not None:
            # Somebody else has opened it meanwhile and is using it.
            await broker.close()
            return known
        replaced = self._open.pop(access.connection_id, None)
        self._open[access.connection_id] = _Open(access, broker, self._clock())
        if replaced is not None:
            await replaced.broker.close()
        await self._let_idle_go()
        return broker

    @asynccontextmanager
    async def aside(self, access: Access) -> AsyncIterator[Broker]:
        """A broker beside the connection's own, which stays in use: for credentials that may never become its own."""
        broker = await self._new(access)
        try:
            yield broker
        finally:
            await broker.close()

    async def forget(self, connection_id: UUID) -> None:
        """Close the broker of a connection that is no longer."""
        known = self._open.pop(connection_id, None)
        if known is not None:
            await known.broker.close()

    async def close(self) -> None:
        """Close every broker and venue."""
        while self._open:
            _, each = self._open.popitem()
            await each.broker.close()
        for venue in self._venues.values():
            await venue.close()

    async def _new(self, access: Access) -> Broker:
        venue = self._venues.get(access.kind)
        if venue is None:
            raise Refused(f"Connections of kind {access.kind} cannot be opened here.", code=TERMS_NOT_SERVED)
        broker = await venue.open(access)
        return broker if self._metrics is None else metered(broker, access.exchange, self._metrics)

    def _known(self, access: Access) -> Broker | None:
        """The open broker for exactly this access."""
        known = self._open.get(access.connection_id)
        if known is None or known.access != access:
            return None
        known.asked_at = self._clock()
        self._open.move_to_end(access.connection_id)
        return known.broker

    async def _let_idle_go(self) -> None:
        """Close those that nobody has asked for in a while, the longest first."""
        since = self._clock() - IDLE_SECONDS
        for connection_id, each in list(self._open.items()):
            if each.asked_at >= since:
                return
            await self.forget(connection_id)
