"""The worker process: `python -m workers.main`.

An arq worker hears the doorbell; it dies with its Redis and is built anew when Redis is back. Beside it loops sweep,
deliver, monitor and look at the clock without Redis. Plain `arq workers.main.WorkerSettings` works as well: there arq's
cron jobs do what the loops do, for as long as there is a Redis.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import structlog
import uvloop
from arq.cron import CronJob, cron

from app.desk import Desk, open_desk
from app.engine import arrivals, delivering, journal, metering
from app.engine.rekeying import MissingKeys, keys_checked
from app.logs import configure_logs
from app.settings import Settings, load_settings
from workers import jobs
from workers.doorbell import DRAIN, arq_settings, listen
from workers.hands import Hands, guarded

log = structlog.get_logger(__name__)

RELEASE = version("trading-execution-engine")
SWEEP_SECONDS = 2
CHORE_SECONDS = 10
BEAT_SECONDS = 10

_LOOK_SECONDS = arrivals.EVERY // timedelta(seconds=1)


def cron_jobs(settings: Settings) -> list[CronJob]:
    """What runs on the clock where arq is all there is, in UTC; each at most once per tick over all workers."""
    return [
        cron(jobs.monitor, second=set(range(0, 60, settings.monitor_seconds))),
        cron(jobs.look, second=set(range(0, 60, _LOOK_SECONDS))),
        cron(jobs.sweep, second=set(range(0, 60, SWEEP_SECONDS))),
        cron(jobs.deliver_all, second=set(range(0, 60, SWEEP_SECONDS))),
        cron(jobs.chores, second=set(range(0, 60, CHORE_SECONDS)), run_at_startup=True),
    ]


def __getattr__(name: str) -> Any:
    """`WorkerSettings` for plain arq is made when it is asked for: settings are read where processes start."""
    if name == "WorkerSettings":
        return _plain_worker_settings(load_settings())
    raise AttributeError(name)


def _plain_worker_settings(settings: Settings) -> type:
    async def open_up(ctx: dict[str, Any]) -> None:
        configure_logs(settings.log_format, settings.log_level)
        stack = ctx["stack"] = AsyncExitStack()
        desk = ctx["desk"] = await stack.enter_async_context(open_desk(settings))
        checked = await keys_checked(desk)
        metering.attach(desk)
        journal.attach(desk)
        delivering.attach(desk)
        ctx["hands"] = Hands(desk)
        over = ctx["over"] = asyncio.Event()
        ctx["beating"] = asyncio.create_task(_beat(desk, over, end, checked=checked))

    def end(reason: MissingKeys) -> None:
        log.error("worker_refused", reason=str(reason))
        signal.raise_signal(signal.SIGTERM)

    async def close_down(ctx: dict[str, Any]) -> None:
        await ctx["hands"].finish(DRAIN)
        ctx["over"].set()
        await ctx["beating"]
        await ctx["stack"].aclose()

    own = {
        "cron_jobs": cron_jobs(settings),
        "on_startup": open_up,
        "on_shutdown": close_down,
        # Without patience arq cancels its jobs, and one cut off while it starts keeps `close_down` from being called.
        "job_completion_wait": DRAIN.total_seconds(),
    }
    return type("WorkerSettings", (), {**arq_settings(settings), **own})


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; then finish what was begun and leave the rest to the next worker.

    Raises MissingKeys, also when the database that tells so is back.
    """
    stopping, over, refusals = asyncio.Event(), asyncio.Event(), list[MissingKeys]()

    def stop() -> None:
        log.info("worker_stopping")
        stopping.set()

    def refuse(reason: MissingKeys) -> None:
        refusals.append(reason)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with open_desk(settings) as desk:
        checked = await keys_checked(desk)
        metering.attach(desk)
        journal.attach(desk)
        delivering.attach(desk)
        log.info("worker_started", worker=_name(), version=RELEASE)
        hands = Hands(desk)
        ctx = {"desk": desk, "hands": hands}
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(settings, ctx, stopping))
            group.create_task(_every(settings.monitor_seconds, lambda: jobs.monitor(ctx), stopping))
            group.create_task(_every(_LOOK_SECONDS, lambda: jobs.look(ctx), stopping))
            group.create_task(_every(SWEEP_SECONDS, lambda: jobs.sweep(ctx), stopping))
            group.create_task(_every(SWEEP_SECONDS, lambda: jobs.deliver_all(ctx), stopping))
            group.create_task(_every(CHORE_SECONDS, lambda: jobs.chores(ctx), stopping))
            group.create_task(_beat(desk, over, refuse, checked=checked))
            await stopping.wait()
            await hands.finish(DRAIN)
            over.set()
        log.info("worker_stopped", worker=_name())
    if refusals:
        raise refusals[0]


async def _beat(
    desk: Desk, over: asyncio.Event, refuse: Callable[[MissingKeys], None], *, checked: bool
) -> None:
    """Say every few seconds that this process is alive, and what it has counted, and once more when all is over.

    What of its vault keys could not be `checked` at the start is checked first; one that is missing is refused.
    """

    async def check() -> None:
        nonlocal checked
        try:
            checked = await keys_checked(desk)
        except MissingKeys as reason:
            refuse(reason)

    async def beat() -> None:
        await guarded(desk, "beat", jobs.beat(desk, _name(), RELEASE))

    async def check_and_beat() -> None:
        if not checked:
            await guarded(desk, "vault keys", check())
        await beat()

    await _every(BEAT_SECONDS, check_and_beat, over)
    await beat()


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


async def _every(seconds: int, work: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
    """Do `work` at once, and then at every multiple of `seconds` past the minute."""
    while not stopping.is_set():
        await work()
        pause = seconds - time.time() % seconds
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause)


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
