"""Jobs: parse an id, call one activity of the engine. Nothing is decided here and nothing is kept here.

This is a process's edge: an unexpected exception is logged with the job's id and ends there. The row it was about
is still due, so the sweep takes it up again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from structlog.contextvars import bound_contextvars

from app.desk import Desk
from app.engine import monitoring, reporting, sweeping
from app.engine.sweeping import Finding, Kind
from app.store import workers

log = structlog.get_logger(__name__)

AT_ONCE = 16
"""How many findings of a sweep are carried out side by side."""

Context = dict[str, Any]


async def guarded(desk: Desk, name: str, work: Awaitable[Any], **words: str) -> None:
    """Run a piece of work; whatever goes wrong with it is logged and counted, and no other work suffers."""
    with bound_contextvars(job=name, **words):
        try:
            await work
        except Exception:
            desk.metrics.jobs_failed.labels(name).inc()
            log.exception("job_failed")


def activity(kind: Kind) -> Callable[[Context, str], Awaitable[None]]:
    """The arq job of one kind of finding: one id in, one activity."""

    async def job(ctx: Context, id_: str) -> None:
        finding = Finding(kind, UUID(id_))
        await guarded(ctx["desk"], kind, sweeping.carry_out(ctx["desk"], finding), job_id=id_)

    job.__qualname__ = kind.value
    return job


async def sweep_round(desk: Desk) -> None:
    """Find what was left behind and do it, so many at once, each on its own."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(finding: Finding) -> None:
        async with room:
            await guarded(desk, finding.kind, sweeping.carry_out(desk, finding), job_id=str(finding.id))

    await asyncio.gather(*(one(finding) for finding in await sweeping.sweep(desk)))


async def sweep(ctx: Context) -> None:
    """Cron: settle and resend what was left behind."""
    await guarded(ctx["desk"], "sweep", sweep_round(ctx["desk"]))


async def delivery_round(desk: Desk) -> None:
    """Send what waits for channels; those this process has no room for are found again by the next round."""
    found = await sweeping.sweep_deliveries(desk)
    await asyncio.gather(
        *(guarded(desk, each.kind, sweeping.carry_out(desk, each), job_id=str(each.id)) for each in found)
    )


async def deliver_all(ctx: Context) -> None:
    """Cron: tell what owners have not been told yet on their channels."""
    await guarded(ctx["desk"], "deliver_all", delivery_round(ctx["desk"]))


async def monitor(ctx: Context) -> None:
    """Cron: look after open positions and resting orders."""
    await guarded(ctx["desk"], "monitor", monitoring.watch(ctx["desk"]))


async def snapshot(ctx: Context) -> None:
    """Cron, at 00:00 UTC: what the venues say every account is worth at the end of the day."""
    desk: Desk = ctx["desk"]
    yesterday = desk.now().date() - timedelta(days=1)
    await guarded(desk, "snapshot", reporting.snapshot_balances(desk, yesterday))


async def health(ctx: Context) -> None:
    """Cron, every five minutes: whether every active account can be reached, and what is in it."""
    await guarded(ctx["desk"], "health", reporting.check_health(ctx["desk"]))


async def report(ctx: Context) -> None:
    """Cron, at 00:05 UTC: the analytics of the completed day, and of days that were missed."""
    await guarded(ctx["desk"], "report", reporting.catch_up(ctx["desk"]))


async def beat(desk: Desk, name: str, version: str) -> None:
    """Say that this process is alive, and what it has counted."""
    async with desk.sessions.begin() as session:
        await workers.beat(session, name, version, desk.now(), desk.metrics.snapshot())


ACTIVITY_JOBS: Sequence[Callable[[Context, str], Awaitable[None]]] = [
    activity(kind) for kind in (Kind.EXECUTE, Kind.CLOSE, Kind.PROTECT, Kind.FOLLOW, Kind.DELIVER)
]
"""What the queue rings for."""
