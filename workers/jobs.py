"""Jobs: what arq calls. Each parses an id, if it has one, and hands it on; nothing is decided here.

This is a process's edge: an unexpected exception is logged with the job's id and ends there. The row it was about
is still due, so the sweep takes it up again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from app.desk import Desk
from app.engine.sweeping import Finding, Kind
from app.store import workers
from workers.hands import Hands, guarded

Context = dict[str, Any]


def activity(kind: Kind) -> Callable[[Context, str], Awaitable[None]]:
    """The arq job of one kind of finding: one id in, one activity."""

    async def job(ctx: Context, id_: str) -> None:
        await ctx["hands"].carry_out(Finding(kind, UUID(id_)))

    job.__qualname__ = kind.value
    return job


async def sweep_round(desk: Desk) -> None:
    """Find what was left behind and see all of it to its end."""
    await asyncio.gather(*await Hands(desk).sweep())


async def sweep(ctx: Context) -> None:
    """Cron: settle and resend what was left behind."""
    await guarded(ctx["desk"], "sweep", ctx["hands"].sweep())


async def delivery_round(desk: Desk) -> None:
    """Find what waits to be told and see all of it to its end, or as much as there is room for."""
    await asyncio.gather(*await Hands(desk).deliver())


async def deliver_all(ctx: Context) -> None:
    """Cron: tell owners what they have not been told yet on their channels."""
    await guarded(ctx["desk"], "deliver_all", ctx["hands"].deliver())


async def monitor(ctx: Context) -> None:
    """Cron: look after open positions and resting orders."""
    await ctx["hands"].watch()


async def look(ctx: Context) -> None:
    """Cron: look at entries that rest where the price is."""
    ctx["hands"].look()


async def chores(ctx: Context) -> None:
    """Cron: what is done at fixed times."""
    await guarded(ctx["desk"], "chores", ctx["hands"].do_chores())


async def beat(desk: Desk, name: str, version: str) -> None:
    """Say that this process is alive, and what it has counted."""
    async with desk.sessions.begin() as session:
        await workers.beat(session, name, version, desk.now(), desk.metrics.snapshot())


ACTIVITY_JOBS: Sequence[Callable[[Context, str], Awaitable[None]]] = [
    activity(kind) for kind in (Kind.EXECUTE, Kind.CLOSE, Kind.PROTECT, Kind.FOLLOW, Kind.DELIVER)
]
"""What the queue rings for."""
