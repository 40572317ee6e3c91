"""The directory: one open broker per connection and credentials version."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol
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


class Venue(Protocol):
    """Opens brokers of one kind of venue."""

    async def open(self, access: Access) -> Broker:
        """A broker for this connection. Raises VenueError; Refused for terms it cannot serve."""

    async def close(self) -> None:
        """Let go of whatever its brokers share."""


class Directory:
    """Brokers by connection. A change of credentials or terms opens a new one and lets the old one go."""

    def __init__(self, venues: Mapping[str, Venue], metrics: Metrics | None = None) -> None:
        self._venues = venues
        self._metrics = metrics
        self._open: dict[UUID, tuple[Access, Broker]] = {}
        self._opening: dict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self, access: Access) -> Broker:
        """The broker of a connection, opened on first use."""
        # Two who come first at once must get the same one: the second would close what the first is using.
        async with self._opening[access.connection_id]:
            return await self._opened(access)

    async def _opened(self, access: Access) -> Broker:
        known = self._open.get(access.connection_id)
        if known is not None and known[0] == access:
            return known[1]
        venue = self._venues.get(access.kind)
        if venue is None:
            raise Refused(f"Connections of kind {access.kind} cannot be opened here.", code=TERMS_NOT_SERVED)
        broker = await venue.open(access)
        if self._metrics is not None:
            broker = metered(broker, access.exchange, self._metrics)
        replaced = self._open.get(access.connection_id)
        self._open[access.connection_id] = (access, broker)
        if replaced is not None:
            await replaced[1].close()
        return broker

    async def forget(self, connection_id: UUID) -> None:
        """Close the broker of a connection that is no longer."""
        self._opening.pop(connection_id, None)
        known = self._open.pop(connection_id, None)
        if known is not None:
            await known[1].close()

    async def close(self) -> None:
        """Close every broker and venue."""
        for _, broker in self._open.values():
            await broker.close()
        self._open.clear()
        for venue in self._venues.values():
            await venue.close()
