"""Hands: what one process has under way. No time-out of whoever waits for it and no Redis that is lost cuts it off.

Every finding is carried out once at a time. At each venue so many are swept up side by side, ways out apart from ways
in, and one that waits for its venue keeps nobody else waiting for long. A round begins whether or not the ones before
it are over: what they still wait for is theirs, and everything else is found anew.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

import structlog
from structlog.contextvars import bound_contextvars

from app.desk import Desk
from app.engine import arrivals, monitoring, sweeping, timetable
from app.engine.rooms import Room, Rooms
from app.engine.sweeping import Finding, Kind
from app.store.outages import is_outage, reason_of

log = structlog.get_logger(__name__)

WAYS_IN: Final = 16
"""How many entries of a venue are swept up side by side."""

WAYS_OUT: Final = 48
"""How many of everything else, which is rare, and waits for none of them."""

_CANCEL_AGAIN: Final = timedelta(milliseconds=100)


async def guarded(desk: Desk, name: str, work: Awaitable[Any], **words: str) -> None:
    """Do a piece of work; whatever goes wrong with it is logged and counted, and no other work suffers.

    Where the database was away or busy, which is nothing about the work, one line says so; all else has its traceback.
    """
    with bound_contextvars(job=name, **words):
        try:
            await work
        except Exception as error:
            desk.metrics.jobs_failed.labels(name).inc()
            if is_outage(error):
                log.warning("job_put_off", reason=reason_of(error))
            else:
                log.exception("job_failed")


async def cancel(tasks: "set[asyncio.Task[Any]]") -> None:
    """Cancel tasks until they end: up to Python 3.11 `wait_for`, which the Redis client uses, can swallow it once."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=_CANCEL_AGAIN.total_seconds())


class Hands:
    """Carries out what is rung for and what is swept up, and does what is done on the clock."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._in, self._out = Rooms(WAYS_IN), Rooms(WAYS_OUT)
        self._findings: dict[Finding, asyncio.Task[None]] = {}
        self._rounds: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._is_finishing = False

    async def carry_out(self, finding: Finding) -> None:
        """Do what was rung for, unless it is being done; it goes on whatever becomes of whoever waits for it here."""
        await asyncio.shield(self._task_of(finding, None))

    async def sweep(self) -> "list[asyncio.Task[None]]":
        """Begin what was left behind; answers what is under way of it."""
        found = await sweeping.sweep(self._desk)
        return [
            self._task_of(each, (self._in if each.kind is Kind.EXECUTE else self._out).of(each.venue))
            for each in found
        ]

    async def deliver(self) -> "list[asyncio.Task[None]]":
        """Begin what waits to be told, where there is room for it; answers what is under way of it."""
        return [self._task_of(each, None) for each in await sweeping.sweep_deliveries(self._desk)]

    async def watch(self) -> None:
        """Begin a round over everything that is open."""
        self._begin("monitor", partial(monitoring.watch, self._desk))

    def look(self) -> None:
        """Begin a look at entries that rest, unless one is under way: its questions are short."""
        if self._looking is None or self._looking.done():
            self._looking = self._begin("look", partial(arrivals.look, self._desk))

    async def do_chores(self) -> None:
        """Begin what is due at this hour and no other process has taken up."""
        for task in await timetable.take(self._desk):
            self._begin(task.chore.name, partial(timetable.carry_out, self._desk, task))

    async def finish(self, within: timedelta) -> None:
        """See what is under way to its end, and begin nothing more; what takes longer is cut off, for the sweep."""
        self._is_finishing = True
        deadline = asyncio.get_running_loop().time() + within.total_seconds()
        while under_way := {*self._findings.values(), *self._rounds}:
            left = deadline - asyncio.get_running_loop().time()
            _, late = await asyncio.wait(under_way, timeout=max(0.0, left))
            if late:
                log.warning("work_cut_off", count=len(late))
                await cancel(late)

    def _task_of(self, finding: Finding, room: Room | None) -> "asyncio.Task[None]":
        known = self._findings.get(finding)
        if known is None:
            known = self._findings[finding] = asyncio.create_task(self._carry_out(finding, room))
            known.add_done_callback(lambda _: self._findings.pop(finding))
        return known

    async def _carry_out(self, finding: Finding, room: Room | None) -> None:
        if room is None:
            await self._do(finding)
            return
        async with room.place():
            await self._do(finding)

    async def _do(self, finding: Finding) -> None:
        # What has waited for a place until now is as due as before: another process finds it.
        if not self._is_finishing:
            work = sweeping.carry_out(self._desk, finding)
            await guarded(self._desk, finding.kind, work, job_id=str(finding.id))

    def _begin(self, name: str, work: Callable[[], Awaitable[Any]]) -> "asyncio.Task[None] | None":
        if self._is_finishing:
            return None
        task = asyncio.create_task(guarded(self._desk, name, work()))
        self._rounds.add(task)
        task.add_done_callback(self._rounds.discard)
        return task
