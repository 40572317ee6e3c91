"""Rates: how many requests a minute one principal, or one unknown sender, may make.

Counted in Redis, so that all processes count together, and in this process, which goes on alone while Redis is away.
A signed signal is never counted. What an owner changes is counted apart from what they read, so that a screen gone
wild does not keep anybody from closing a position.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.api.problems import RateLimited

log = structlog.get_logger(__name__)

WINDOW_SECONDS: Final = 60
PATIENCE_SECONDS: Final = 0.1
"""How long a count in Redis may take: nobody waits for it."""
PAUSE_SECONDS: Final = 2.0
"""How long Redis is left alone after it was found away."""


class Counted(StrEnum):
    """What is counted, each by itself."""

    READS = "reads"
    CHANGES = "changes"
    UNSIGNED = "unsigned"


class Rates:
    """Counts in windows of a minute, all of which begin with a minute of the clock."""

    def __init__(self, redis: Redis, now: Callable[[], datetime], limits: Mapping[Counted, int]) -> None:
        self._redis = redis
        self._now = now
        self._limits = limits
        self._window = 0
        self._counts: Counter[str] = Counter()
        self._silent_until = 0.0

    async def count(self, what: Counted, who: str) -> None:
        """Count one request of `who`. Raises RateLimited for one too many; never waits for Redis."""
        window, elapsed = divmod(int(self._now().timestamp()), WINDOW_SECONDS)
        if window != self._window:
            self._window, self._counts = window, Counter()
        key = f"engine:rate:{what}:{who}:{window}"
        self._counts[key] += 1
        if max(self._counts[key], await self._shared(key)) > self._limits[what]:
            raise RateLimited(WINDOW_SECONDS - elapsed)

    async def _shared(self, key: str) -> int:
        """What all processes have counted; 0 while Redis is away."""
        if time.monotonic() < self._silent_until:
            return 0
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.incr(key)
        pipeline.expire(key, 2 * WINDOW_SECONDS)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                counted, _ = await pipeline.execute()
        except (RedisError, OSError) as error:
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            log.warning("rates_counted_alone", reason=type(error).__name__)
            return 0
        return int(counted)
