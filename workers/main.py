"""The worker process: `python -m workers.main`.

An arq worker hears the doorbell and runs the cron jobs; it dies with its Redis and is built anew when Redis is back.
Beside it loops sweep, deliver and monitor without Redis. While arq's own cron jobs run, the loops find everything
leased or done already; when Redis is away, they are all it takes. Plain `arq workers.main.WorkerSettings` works as
well, without the loops.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, timedelta
from importlib.metadata import version
from typing import Any

import structlog
import uvloop
from arq.connections import ArqRedis, RedisSettings
from arq.cron import CronJob, cron
from arq.worker import Worker, func
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from app.desk import Desk, open_desk
from app.engine import delivering, journal, metering
from app.engine.rekeying import MissingKeys, check_keys
from app.logs import configure_logs
from app.queue import deserialize, serialize
from app.settings import Settings, load_settings
from workers import jobs

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 2
BEAT_SECONDS = 10
JOB_TIMEOUT = timedelta(seconds=60)
DRAIN = timedelta(seconds=20)
"""How long a stopping worker waits for what it has begun; what is cut off after that is found by the sweep."""

_POLL = timedelta(milliseconds=50)
_REDIS_PAUSE = timedelta(seconds=1)
_REDIS_PATIENCE = timedelta(seconds=5)
_CANCEL_AGAIN = timedelta(milliseconds=100)


def cron_jobs(settings: Settings) -> list[CronJob]:
    """What runs on the clock, in UTC; each at most once per tick over all workers."""
    return [
        cron(jobs.monitor, second=set(range(0, 60, settings.monitor_seconds)), timeout=JOB_TIMEOUT),
        cron(jobs.sweep, second=set(range(0, 60, SWEEP_SECONDS)), timeout=JOB_TIMEOUT),
        cron(jobs.deliver_all, second=set(range(0, 60, SWEEP_SECONDS)), timeout=JOB_TIMEOUT),
        cron(jobs.snapshot, hour=0, minute=0, second=0, timeout=timedelta(minutes=4)),
        cron(jobs.health, minute=set(range(0, 60, 5)), second=30, timeout=timedelta(minutes=4)),
        cron(jobs.report, hour=0, minute=5, second=0, timeout=timedelta(minutes=10), run_at_startup=True),
    ]


def arq_settings(settings: Settings) -> dict[str, Any]:
    """What every arq worker of ours is made with."""
    return {
        "functions": [func(job, name=job.__qualname__) for job in jobs.ACTIVITY_JOBS],  # type: ignore[arg-type]
        "cron_jobs": cron_jobs(settings),
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


def __getattr__(name: str) -> Any:
    """`WorkerSettings` for plain arq is made when it is asked for: settings are read where processes start."""
    if name == "WorkerSettings":
        return _plain_worker_settings(load_settings())
    raise AttributeError(name)


def _plain_worker_settings(settings: Settings) -> type:
    async def open_up(ctx: dict[str, Any]) -> None:
        configure_logs(settings.log_format, settings.log_level)
        stack = ctx["stack"] = AsyncExitStack()
        ctx["desk"] = await stack.enter_async_context(open_desk(settings))
        await check_keys(ctx["desk"])
        metering.attach(ctx["desk"])
        journal.attach(ctx["desk"])
        delivering.attach(ctx["desk"])

    async def close_down(ctx: dict[str, Any]) -> None:
        await ctx["stack"].aclose()

    return type(
        "WorkerSettings", (), {**arq_settings(settings), "on_startup": open_up, "on_shutdown": close_down}
    )


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; then finish what was begun and leave the rest to the next worker."""
    stopping = asyncio.Event()

    def stop() -> None:
        log.info("worker_stopping")
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    name = f"{socket.gethostname()}:{os.getpid()}"
    release = version("trading-execution-engine")
    async with open_desk(settings) as desk:
        await check_keys(desk)
        metering.attach(desk)
        journal.attach(desk)
        delivering.attach(desk)
        log.info("worker_started", worker=name, version=release)
        async with asyncio.TaskGroup() as group:
            group.create_task(_listen(settings, desk, stopping))
            # A second after arq's tick: when that ran, this round finds nothing due.
            group.create_task(
                _every(settings.monitor_seconds, lambda: jobs.monitor({"desk": desk}), stopping, offset=1)
            )
            group.create_task(_every(SWEEP_SECONDS, lambda: jobs.sweep({"desk": desk}), stopping, offset=1))
            group.create_task(
                _every(SWEEP_SECONDS, lambda: jobs.deliver_all({"desk": desk}), stopping, offset=1)
            )
            group.create_task(
                _every(
                    BEAT_SECONDS, lambda: jobs.guarded(desk, "beat", jobs.beat(desk, name, release)), stopping
                )
            )
        log.info("worker_stopped", worker=name)


async def _every(
    seconds: int, work: Callable[[], Awaitable[None]], stopping: asyncio.Event, *, offset: int = 0
) -> None:
    """Do `work` at once, and then at every multiple of `seconds` past the minute, plus `offset`."""
    while not stopping.is_set():
        await work()
        pause = seconds - (time.time() - offset) % seconds
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause)


async def _listen(settings: Settings, desk: Desk, stopping: asyncio.Event) -> None:
    """Keep an arq worker running for as long as there is a Redis, and build another when it is back."""
    silent = False

    async def heard(ctx: dict[Any, Any]) -> None:  # noqa: ARG001 - arq calls it so
        nonlocal silent
        silent = False
        log.info("queue_heard")

    while not stopping.is_set():
        redis = _open_queue(settings)
        worker = Worker(
            **arq_settings(settings),
            redis_pool=redis,
            handle_signals=False,
            on_startup=heard,
            ctx={"desk": desk},
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
        await _put_down(worker, running)
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
    with suppress(RedisError, OSError):
        await redis.delete(health_check_key)
    await redis.aclose(close_connection_pool=True)


async def _put_down(worker: Worker, running: "asyncio.Task[None]") -> None:
    """Let the worker take no more, and wait for what it has begun, which needs no taking."""
    await _cancel({running})
    begun = set(worker.tasks.values())
    if begun:
        _, late = await asyncio.wait(begun, timeout=DRAIN.total_seconds())
        await _cancel(late)
    await asyncio.gather(*begun, return_exceptions=True)


async def _cancel(tasks: "set[asyncio.Task[Any]]") -> None:
    """Cancel tasks until they end: up to Python 3.11 `wait_for`, which the Redis client uses, can swallow it once."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=_CANCEL_AGAIN.total_seconds())


def main() -> None:
    """The process."""
    settings = load_settings()
    configure_logs(settings.log_format, settings.log_level)
    try:
        uvloop.run(run(settings))
    except MissingKeys as reason:
        sys.exit(str(reason))


if __name__ == "__main__":
    main()
