"""The exchange's clock: real, or standing still until a test moves it."""

import asyncio
import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Time as the exchange has it.

    Without `start` it runs with the machine's clock; with it, it stands at `start`. Either way `advance` moves it
    on at once and wakes whoever sleeps by it.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start
        self._advanced = timedelta(0)
        self._sleepers: set[asyncio.Future[None]] = set()

    def now(self) -> datetime:
        """Aware UTC."""
        return (self._start or datetime.fromtimestamp(time.time(), UTC)) + self._advanced

    def milliseconds(self) -> int:
        """Since 1970, as exchanges count."""
        return (self.now() - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once, and let what was due by then happen."""
        self._advanced += timedelta(seconds=seconds)
        for sleeper in list(self._sleepers):
            if not sleeper.done():
                sleeper.set_result(None)
        for _ in range(4):
            await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed on this clock."""
        due = self.now() + timedelta(seconds=seconds)
        while (left := (due - self.now()).total_seconds()) > 0:
            sleeper = asyncio.get_running_loop().create_future()
            self._sleepers.add(sleeper)
            try:
                async with asyncio.timeout(None if self._start else left):
                    await sleeper
            except TimeoutError:
                pass
            finally:
                self._sleepers.discard(sleeper)
