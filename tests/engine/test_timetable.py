"""What is done at fixed times is done once, however many processes there are, and again where it was not done."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from app.desk import Desk
from app.engine import timetable
from app.engine.timetable import CHORES, Chore, Task
from tests.desks import Clock, opened_desk

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@dataclass
class Work:
    """What was done, by the times it was due at."""

    done: list[datetime] = field(default_factory=list)
    fails: bool = False

    async def do(self, _: Desk, due_at: datetime) -> None:
        """Note it, or fail."""
        if self.fails:
            raise ZeroDivisionError
        self.done.append(due_at)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
async def desk(database_url: str, clock: Clock) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock) as desk:
        yield desk


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def hourly(work: Work) -> Chore:
    """Due at ten past every hour; left to whoever took it up for five minutes, and of use for half an hour."""
    minute = timedelta(minutes=1)
    return Chore("hourly", work.do, 60 * minute, 10 * minute, lease=5 * minute, within=30 * minute)


def at(minute: float, *, hour: int = 12) -> datetime:
    """A time of that day."""
    return NOON.replace(hour=hour) + timedelta(minutes=minute)


async def take(desk: Desk, chore: Chore, moment: datetime) -> list[Task]:
    """What a process takes up at a time."""
    clock = desk.now
    assert isinstance(clock, Clock)
    clock.moment = moment
    return list(await timetable.take(desk, [chore]))


async def test_each_time_is_taken_up_by_one_process_and_done_once(
    desk: Desk, hourly: Chore, work: Work
) -> None:
    [task] = await take(desk, hourly, at(10))
    assert await take(desk, hourly, at(11)) == [], "another process finds it taken"
    await timetable.carry_out(desk, task)
    assert await take(desk, hourly, at(30)) == [], "and done, when the lease would be over"
    [following] = await take(desk, hourly, at(70))
    await timetable.carry_out(desk, following)
    assert work.done == [at(10), at(70)]


async def test_what_its_process_left_behind_is_taken_up_when_the_lease_is_over(
    desk: Desk, hourly: Chore, work: Work
) -> None:
    [task] = await take(desk, hourly, at(10))
    work.fails = True
    with pytest.raises(ZeroDivisionError):
        await timetable.carry_out(desk, task)
    assert await take(desk, hourly, at(14)) == []
    assert await take(desk, hourly, at(15)) == [task]


async def test_a_time_that_nobody_was_there_for_is_made_up_for_while_it_is_of_use(
    desk: Desk, hourly: Chore
) -> None:
    assert await take(desk, hourly, at(9)) == [], "of the hour before, which is too long ago"
    assert [task.due_at for task in await take(desk, hourly, at(40))] == [at(10)]
    assert await take(desk, hourly, at(101)) == []


async def test_a_process_that_is_late_does_not_take_back_the_clock(desk: Desk, hourly: Chore) -> None:
    [task] = await take(desk, hourly, at(70))
    await timetable.carry_out(desk, task)
    assert await take(desk, hourly, at(30)) == []


@pytest.mark.parametrize(
    ("name", "moment", "due_at"),
    [
        ("snapshot", at(0, hour=0), at(0, hour=0)),
        ("health", at(5.4), at(0.5)),
        ("health", at(5.5), at(5.5)),
        ("report", at(4.9, hour=0), at(5, hour=0) - timedelta(days=1)),
        ("report", at(5, hour=0), at(5, hour=0)),
    ],
)
def test_when_chores_are_due(name: str, moment: datetime, due_at: datetime) -> None:
    [chore] = [each for each in CHORES if each.name == name]
    assert chore.due_at(moment) == due_at


async def test_the_end_of_a_day_is_asked_for_as_long_as_it_is_the_end_of_the_day(
    desk: Desk, clock: Clock
) -> None:
    clock.moment = at(20, hour=0)
    assert "snapshot" not in {task.chore.name for task in await timetable.take(desk)}
    clock.moment = at(14, hour=0) + timedelta(days=1)
    taken = {task.chore.name: task for task in await timetable.take(desk)}
    assert set(taken) == {"snapshot", "health", "report"}
    for task in taken.values():
        await timetable.carry_out(desk, task)
