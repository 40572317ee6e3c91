"""Every exchange class of the pinned ccxt as a broker. Nothing outside this package imports ccxt.

Importing ccxt takes 85 MB and a second. A worker that opens paper accounts only never pays for it: this module imports
it with the first connection that needs it, or with the catalogue, which the API reads when it starts.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Final

from app.brokers.directory import Access
from app.brokers.limits.ledger import Ledger
from app.brokers.port import Broker
from app.domain.market import MarketType
from app.metrics import Metrics
from app.vault import Vault

if TYPE_CHECKING:
    from app.brokers.crypto.catalogue import Entry
    from app.brokers.crypto.public import PublicMarket
    from app.brokers.crypto.venue import CryptoVenue


class LazyCryptoVenue:
    """Opens accounts at exchanges, and ccxt with the first of them."""

    def __init__(
        self,
        vault: Vault,
        endpoints: Mapping[str, str],
        now: Callable[[], datetime],
        ledger: Ledger,
        egress: str,
        metrics: Metrics | None,
    ) -> None:
        self._vault = vault
        self._endpoints = endpoints
        self._now = now
        self._ledger = ledger
        self._egress = egress
        self._metrics = metrics
        self._venue: CryptoVenue | None = None
        self._opening = asyncio.Lock()

    async def open(self, access: Access) -> Broker:
        """The broker of a connection. Raises Refused."""
        return await (await self._opened()).open(access)

    async def _opened(self) -> "CryptoVenue":
        # One venue for all who ask first at the same time: session, market tables and rate budget are its.
        async with self._opening:
            if self._venue is None:
                self._venue = await asyncio.to_thread(self._import)
            return self._venue

    async def public(self, exchange: str, market_type: MarketType) -> "PublicMarket":
        """The public side of an exchange, without any account. Raises Refused for one that there is not."""
        return (await self._opened()).public(exchange, market_type)

    async def close(self) -> None:
        """Let go of whatever its brokers share."""
        if self._venue is not None:
            await self._venue.close()

    def _import(self) -> "CryptoVenue":
        from app.brokers.crypto.venue import CryptoVenue

        return CryptoVenue(self._vault, self._endpoints, self._now, self._ledger, self._egress, self._metrics)


def open_crypto(
    vault: Vault,
    endpoints: Mapping[str, str],
    now: Callable[[], datetime],
    *,
    ledger: Ledger | None = None,
    egress: str = "default",
    metrics: Metrics | None = None,
) -> LazyCryptoVenue:
    """All exchanges, for one process; requests of those in `endpoints` are sent there instead.

    `ledger` is the rate budget, which without one is this process's alone; `egress` names the address that requests
    leave from, equal for all processes behind the same one. In `metrics` is counted how long requests wait for it.
    """
    return LazyCryptoVenue(vault, endpoints, now, ledger or Ledger(), egress, metrics)


_READING: Final = ThreadPoolExecutor(1, "catalogue")
"""One thread: whoever asks while the catalogue is being read waits for that same reading, and holds no thread."""


async def listed_exchanges() -> "Mapping[str, Entry]":
    """Every exchange that can be connected, by id. The first call of a process imports ccxt, off the loop."""

    def read() -> "Mapping[str, Entry]":
        from app.brokers.crypto.catalogue import catalogue

        return catalogue()

    return await asyncio.get_running_loop().run_in_executor(_READING, read)
