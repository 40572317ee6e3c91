"""The queue from the sending side: one method per job, ids only. Ringing is a hint; the row is the work.

Every job could be lost without harm, since the sweep finds what was left. So a Redis that is away costs seconds,
and is logged once per ring instead of raised.
"""

import json
import time
from collections.abc import Iterable
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


class RedisQueue:
    """Rings arq through Redis, many jobs in one round trip."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

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

    async def _ring(self, job: str, ids: Iterable[UUID]) -> None:
        # arq has no call for many jobs at once, and one call per job costs a round trip each.
        now_ms = time.time_ns() // 1_000_000
        pipeline = self._redis.pipeline(transaction=False)
        scores: dict[str, int] = {}
        for id_ in ids:
            name = f"{job}:{id_}"
            payload = serialize_job(job, (str(id_),), {}, None, now_ms, serializer=serialize)
            pipeline.psetex(job_key_prefix + name, EXPIRES_MS, payload)
            scores[name] = now_ms
        if not scores:
            return
        pipeline.zadd(default_queue_name, scores)
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("queue_unreachable", job=job, count=len(scores), reason=type(error).__name__)
