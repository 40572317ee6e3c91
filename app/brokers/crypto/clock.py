"""The venue's clock: how far it is from ours, measured once and again whenever the venue doubts our time."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

log = structlog.get_logger(__name__)

_ASK_AGAIN_AFTER: Final = timedelta(seconds=30)
"""How long a venue that did not tell its time is left alone."""

_MILLISECOND: Final = timedelta(milliseconds=1)


class VenueClock:
    """Shared by everyone who looks at one venue. Requests are signed by it; our own decisions never are."""

    def __init__(self) -> None:
        self.offset = timedelta(0)
        """What is added to our time to have the venue's."""
        self._is_known = False
        self._asked_at: datetime | None = None
        self._measuring = asyncio.Lock()

    def at(self, moment: datetime) -> datetime:
        """A moment of ours as the venue's clock shows it."""
        return moment + self.offset

    def ours(self, moment: datetime) -> datetime:
        """A moment of the venue's as our clock shows it."""
        return moment - self.offset

    def doubt(self) -> None:
        """The venue has refused our time: it is measured again before the next request."""
        self._is_known, self._asked_at = False, None

    async def know(self, exchange: Any, now: Callable[[], datetime]) -> None:
        """Measure the offset unless it is known. A venue that does not answer leaves it as it is."""
        if exchange.has["fetchTime"] is not True:
            return
        async with self._measuring:
            waits = self._asked_at is not None and now() - self._asked_at < _ASK_AGAIN_AFTER
            if not self._is_known and not waits:
                await self._measure(exchange, now)

    async def _measure(self, exchange: Any, now: Callable[[], datetime]) -> None:
        asked_at = self._asked_at = now()
        try:
            told = await exchange.fetch_time({})
        except Exception as error:  # noqa: BLE001 - classes raise anything; the time that was known still is
            log.warning("venue_time_unknown", exchange=exchange.id, reason=type(error).__name__)
            return
        if told is None:
            return
        half = (now() - asked_at) / 2
        offset = datetime.fromtimestamp(int(told) / 1000, UTC) - (asked_at + half)
        # What the way there and back leaves open is no offset; neither is what a venue cuts off below a millisecond.
        self.offset = offset if abs(offset) > half + _MILLISECOND else timedelta(0)
        self._is_known = True
