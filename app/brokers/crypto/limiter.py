"""The limiter: who may ask a venue next. It takes the place of ccxt's throttler.

Requests wait in the order of their urgency, exits first. A venue that says "too many" stops everybody until the
time it names; who would have to wait longer than a moment is told at once, so that nothing waits beyond its validity.
"""

import asyncio
import heapq
import itertools
from enum import IntEnum
from typing import Final

LONGEST_WAIT: Final = 2.0
"""Seconds a request waits out a venue's stop before it is given up, certainly not sent."""

BURST: Final = 1.0
"""Seconds' worth of requests that may go at once after a pause."""


class Urgency(IntEnum):
    """What a request is for; lower goes first."""

    EXIT = 0
    PROTECTION = 1
    ENTRY = 2
    POLL = 3


class Stopped(Exception):
    """The venue has asked for silence for longer than a request may wait; this one was not sent."""


class Limiter:
    """Spaces requests that share a limit. Times are of the running loop's clock."""

    def __init__(self, seconds_per_unit: float) -> None:
        self._seconds_per_unit = seconds_per_unit
        self._ready_at = 0.0
        self._stopped_until = 0.0
        self._turn = itertools.count()
        self._waiting: list[tuple[Urgency, int, asyncio.Event]] = []
        self._busy = False

    def stop(self, seconds: float) -> None:
        """The venue wants no request for this long."""
        self._stopped_until = max(self._stopped_until, asyncio.get_running_loop().time() + seconds)

    async def pass_through(self, cost: float, urgency: Urgency) -> None:
        """Wait for a turn. Raises Stopped when the venue wants silence for too long."""
        now = asyncio.get_running_loop().time()
        if self._stopped_until - now > LONGEST_WAIT:
            raise Stopped
        await self._queue(urgency)
        try:
            await self._space(cost)
        finally:
            self._next()

    async def _queue(self, urgency: Urgency) -> None:
        if not self._busy:
            self._busy = True
            return
        called = asyncio.Event()
        heapq.heappush(self._waiting, (urgency, next(self._turn), called))
        try:
            await called.wait()
        except asyncio.CancelledError:
            if called.is_set():
                self._next()
            else:
                self._waiting = [each for each in self._waiting if each[2] is not called]
                heapq.heapify(self._waiting)
            raise

    async def _space(self, cost: float) -> None:
        now = asyncio.get_running_loop().time()
        start = max(self._ready_at, now - BURST)
        self._ready_at = start + cost * self._seconds_per_unit
        wait = max(start, self._stopped_until) - now
        if wait > 0:
            await asyncio.sleep(wait)

    def _next(self) -> None:
        if self._waiting:
            heapq.heappop(self._waiting)[2].set()
        else:
            self._busy = False
