"""Timetable: what is done at fixed times, in UTC. Each time is taken up by one process, in a row of PostgreSQL.

Whoever takes one up and dies leaves it to another when its lease is over; one that came while nobody was there is made
up for, unless it is of no use any more.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from app.desk import Desk
from app.domain.performance import utc_day
from app.domain.portfolios import ONE_DAY
from app.engine import reporting
from app.store import chores

log = structlog.get_logger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Chore:
    """Something that is done again and again, `after` the beginning of each `every` that the day is divided into."""

    name: str
    work: Callable[[Desk, datetime], Awaitable[object]]
    """What is done, for the time it was due at."""
    every: timedelta
    after: timedelta
    lease: timedelta
    """How long it is left to whoever took it up: longer than it takes."""
    within: timedelta | None = None
    """For how long it is of use; None for as long as it takes."""

    def due_at(self, now: datetime) -> datetime:
        """When it was due last."""
        return now - (now - _EPOCH - self.after) % self.every


def _snapshot(desk: Desk, due_at: datetime) -> Awaitable[object]:
    return reporting.snapshot_balances(desk, utc_day(due_at) - ONE_DAY)


def _health(desk: Desk, _: datetime) -> Awaitable[object]:
    return reporting.check_health(desk)


def _report(desk: Desk, _: datetime) -> Awaitable[object]:
    return reporting.catch_up(desk)


CHORES: Final[Sequence[Chore]] = (
    Chore(
        "snapshot",
        _snapshot,
        every=ONE_DAY,
        after=timedelta(0),
        lease=timedelta(minutes=4),
        within=reporting.SNAPSHOT_WITHIN,
    ),
    Chore(
        "health",
        _health,
        every=timedelta(minutes=5),
        after=timedelta(seconds=30),
        lease=timedelta(minutes=4),
    ),
    Chore("report", _report, every=ONE_DAY, after=timedelta(minutes=5), lease=timedelta(minutes=10)),
)
"""What the venues say every account is worth at the end of the day; whether every active account can be reached;
the analytics of the completed day, and of days that were missed."""


@dataclass(frozen=True, slots=True)
class Task:
    """A chore that this process has taken up, for one time it was due at."""

    chore: Chore
    due_at: datetime

    def is_of_use(self, now: datetime) -> bool:
        """Whether it is not too late for it."""
        return self.chore.within is None or now - self.due_at <= self.chore.within


async def take(desk: Desk, timetable: Sequence[Chore] = CHORES) -> Sequence[Task]:
    """Take up what is due and nobody has; each is to be carried out."""
    now = desk.now()
    due = [task for each in timetable if (task := Task(each, each.due_at(now))).is_of_use(now)]
    async with desk.sessions() as session:
        # Nearly always there is nothing to take: that is seen without writing.
        known = await chores.present(session)
    taken = []
    for task in due:
        row = known.get(task.chore.name)
        if row is not None and not row.is_free(task.due_at, now):
            continue
        async with desk.sessions.begin() as session:
            if await chores.claim(session, task.chore.name, task.due_at, now, now + task.chore.lease):
                taken.append(task)
    return taken


async def carry_out(desk: Desk, task: Task) -> None:
    """Do what was taken up; what fails stays to be taken up again when its lease is over."""
    await task.chore.work(desk, task.due_at)
    async with desk.sessions.begin() as session:
        await chores.finish(session, task.chore.name, task.due_at)
    log.info("chore_done", chore=task.chore.name, due_at=task.due_at.isoformat())
