"""The doorbell: an arq worker that lives for as long as its Redis does, and is built anew when it is back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, timedelta
from typing import Any, Final

import structlog
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker, func
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from app.queue import deserialize, serialize
from app.settings import Settings
from workers import jobs
from workers.hands import cancel

log = structlog.get_logger(__name__)

JOB_TIMEOUT: Final = timedelta(minutes=3)
"""For how long arq waits for what was rung for: longer than for any order. What it gives up goes on all the same."""

DRAIN: Final = timedelta(minutes=2)
"""How long a stopping worker sees to its end what it has begun: longer than it may wait for an order (MetaTrader's
bridges get 85 s). What is cut off after that is found by the sweep."""

_POLL: Final = timedelta(milliseconds=50)
_REDIS_PAUSE: Final = timedelta(seconds=1)
_REDIS_PATIENCE: Final = timedelta(seconds=5)


class Listener(Worker):
    """An arq worker whose jobs need no Redis to end: what was rung for is done, and the loss shows in the next look."""

    async def finish_job(self, *args: Any, **kwargs: Any) -> None:
        """Cross a job off, where there is something to cross it off in. Nobody may be left to hear of a failure."""
        async with _patience():
            await super().finish_job(*args, **kwargs)

    async def finish_failed_job(self, *args: Any, **kwargs: Any) -> None:
        """The same for a job that arq will not run."""
        async with _patience():
            await super().finish_failed_job(*args, **kwargs)


def arq_settings(settings: Settings) -> dict[str, Any]:
    """What every arq worker of ours is made with."""
    return {
        "functions": [func(job, name=job.__qualname__) for job in jobs.ACTIVITY_JOBS],  # type: ignore[arg-type]
        "redis_settings": RedisSettings.from_dsn(settings.redis_url.get_secret_value()),
        # Results would only keep a second ring for the same row from being heard.
        "keep_result": 0,
        "max_tries": 1,
        "max_jobs": 50,
        "job_timeout": JOB_TIMEOUT,
        "poll_delay": _POLL,
        "health_check_interval": 15,
        "job_serializer": serialize,
        "job_deserializer": deserialize,
        "log_results": False,
        "timezone": UTC,
    }


async def listen(settings: Settings, ctx: jobs.Context, stopping: asyncio.Event) -> None:
    """Keep an arq worker running for as long as there is a Redis, and build another when it is back."""
    silent = False

    async def heard(ctx: dict[Any, Any]) -> None:  # noqa: ARG001 - arq calls it so
        nonlocal silent
        silent = False
        log.info("queue_heard")

    while not stopping.is_set():
        redis = _open_queue(settings)
        worker = Listener(
            **arq_settings(settings),
            redis_pool=redis,
            handle_signals=False,
            on_startup=heard,
            ctx=dict(ctx),
        )
        running = asyncio.create_task(worker.async_run())
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait((running, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if running.done():
            reason = type(running.exception()).__name__
            if not silent:
                log.warning("queue_lost", reason=reason)
            silent = True
        # Without Redis nobody can be told how a job has ended, and the work itself goes on.
        await _put_down(worker, running, DRAIN if stopping.is_set() else timedelta(0))
        await _close_queue(redis, worker.health_check_key)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _REDIS_PAUSE.total_seconds())


def _open_queue(settings: Settings) -> ArqRedis:
    """A client for one arq worker; an answer that does not come counts as a Redis that is lost."""
    pool = ConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        socket_connect_timeout=_REDIS_PATIENCE.total_seconds(),
        socket_timeout=_REDIS_PATIENCE.total_seconds(),
    )
    return ArqRedis(pool, job_serializer=serialize, job_deserializer=deserialize)


async def _close_queue(redis: ArqRedis, health_check_key: str) -> None:
    """Take the sign of life back, if Redis is there, and let go of it."""
    async with _patience():
        await redis.delete(health_check_key)
    await redis.aclose(close_connection_pool=True)


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    """Leave off when Redis is lost, and after a while: its client connects one by one, each for as long as it may."""
    try:
        async with asyncio.timeout(_REDIS_PATIENCE.total_seconds()):
            yield
    except (RedisError, OSError) as error:
        log.info("queue_silent", reason=type(error).__name__)


async def _put_down(worker: Worker, running: "asyncio.Task[None]", patience: timedelta) -> None:
    """Let the worker take no more, and wait for the jobs it has begun, which need no taking."""
    await cancel({running})
    begun = set(worker.tasks.values())
    if begun:
        _, late = await asyncio.wait(begun, timeout=patience.total_seconds())
        await cancel(late)
    await asyncio.gather(*begun, return_exceptions=True)
