"""The queue from the sending side: one method per job, ids only. Ringing is a hint; the row is the work.

Every job could be lost without harm, since the sweep finds what was left. So a Redis that is away costs seconds,
and is logged once per ring instead of raised.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from uuid import UUID

import structlog
from arq.constants import default_queue_name, job_key_prefix
from arq.jobs import serialize_job
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

EXPIRES_MS = 15 * 60 * 1000
"""How long a ring is kept when no worker hears it; the sweep has long taken the row by then."""


PATIENCE_SECONDS = 0.5
"""How long a ring may take: nobody waits for a doorbell."""

PAUSE_SECONDS = 2.0
"""How long nothing is rung after Redis was found away."""


def serialize(value: dict[str, Any]) -> bytes:
    """Jobs travel as JSON: whoever can write to Redis must not be able to run code in a worker."""
    return json.dumps(value, default=str).encode()


def deserialize(raw: bytes) -> dict[str, Any]:
    """The other half of `serialize`."""
    value: dict[str, Any] = json.loads(raw)
    return value


class Queue(Protocol):
    """Where work is rung for."""

    async def execute(self, execution_ids: Iterable[UUID]) -> None:
        """Executions are pending."""

    async def close_position(self, order_id: UUID) -> None:
        """A close order is pending."""

    async def protect(self, position_id: UUID) -> None:
        """A position's protective orders have to be brought in line with its plan."""

    async def follow(self, event_id: UUID) -> None:
        """A later event about a signal has come in."""

    def deliver(self, channel_ids: Iterable[UUID]) -> None:
        """Something waits for these channels. Rung for in passing: whoever tells an owner waits for nobody."""


class RedisQueue:
    """Rings arq through Redis: many jobs in one round trip, whoever rings for them.

    What is rung for while a round trip is under way shares the next one, so that it takes many callers no longer
    than one. After a failure Redis is left alone for a moment, and nobody waits for it then.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._unrung: dict[str, bytes] = {}
        self._ringing = asyncio.Lock()
        self._silent_until = 0.0
        self._in_passing: set[asyncio.Task[None]] = set()

    async def execute(self, execution_ids: Iterable[UUID]) -> None:
        """Executions are pending."""
        await self._ring("execute", execution_ids)

    async def close_position(self, order_id: UUID) -> None:
        """A close order is pending."""
        await self._ring("close_position", [order_id])

    async def protect(self, position_id: UUID) -> None:
        """A position's protective orders have to be brought in line with its plan."""
        await self._ring("protect", [position_id])

    async def follow(self, event_id: UUID) -> None:
        """A later event about a signal has come in."""
        await self._ring("follow", [event_id])

    def deliver(self, channel_ids: Iterable[UUID]) -> None:
        """Something waits for these channels."""
        ringing = asyncio.create_task(self._ring("deliver", channel_ids), name="ring")
        self._in_passing.add(ringing)
        ringing.add_done_callback(self._in_passing.discard)

    async def close(self) -> None:
        """Let what is rung for in passing come to its end."""
        await asyncio.gather(*self._in_passing)

    async def _ring(self, job: str, ids: Iterable[UUID]) -> None:
        now_ms = time.time_ns() // 1_000_000
        for id_ in ids:
            self._unrung[f"{job}:{id_}"] = serialize_job(
                job, (str(id_),), {}, None, now_ms, serializer=serialize
            )
        if not self._unrung:
            return
        async with self._ringing:
            jobs, self._unrung = self._unrung, {}
            if jobs and time.monotonic() >= self._silent_until:
                await self._send(jobs, now_ms)

    async def _send(self, jobs: Mapping[str, bytes], now_ms: int) -> None:
        # arq has no call for many jobs at once, and one call per job costs a round trip each.
        pipeline = self._redis.pipeline(transaction=False)
        for name, payload in jobs.items():
            pipeline.psetex(job_key_prefix + name, EXPIRES_MS, payload)
        pipeline.zadd(default_queue_name, dict.fromkeys(jobs, now_ms))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await pipeline.execute()
        except (RedisError, OSError) as error:
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            log.warning("queue_unreachable", count=len(jobs), reason=type(error).__name__)
