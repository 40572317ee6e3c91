"""Rooms: how much is done side by side, so that what waits for one venue keeps nothing else waiting.

A place is for what a process has little of: database connections, and its own time. Work that takes long waits for
its venue and needs neither; it gives its place up and goes on without one. Places are kept for long enough that work
which is slow because there is much of it does not make room for even more.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Hashable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar

AT_ONCE: Final = 16
"""How many places there are where nothing asks for another number."""

KEPT: Final = timedelta(seconds=5)
"""For how long a piece of work keeps its place."""

T = TypeVar("T")


class Room:
    """So many places."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place; the body has it until it ends, or for as long as one is kept."""
        await self._places.acquire()
        has_place = True

        def give_up() -> None:
            nonlocal has_place
            if has_place:
                has_place = False
                self._places.release()

        giving_up = asyncio.get_running_loop().call_later(KEPT.total_seconds(), give_up)
        try:
            yield
        finally:
            giving_up.cancel()
            give_up()


class Rooms:
    """A room of the same size for each key that is asked for."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._rooms: dict[Hashable, Room] = {}

    def of(self, key: Hashable) -> Room:
        """The room of a key."""
        return self._rooms.setdefault(key, Room(self._places))


async def side_by_side(work: Iterable[Awaitable[None]], room: Room | None = None) -> list[Exception]:
    """Do all of it, in a room or all at once; answers what went wrong with any of it, which keeps nobody else."""

    async def one(each: Awaitable[None]) -> None:
        if room is None:
            return await each
        async with room.place():
            return await each

    answers = await asyncio.gather(*(one(each) for each in work), return_exceptions=True)
    for stopped in answers:
        if isinstance(stopped, BaseException) and not isinstance(stopped, Exception):
            raise stopped
    return [failure for failure in answers if isinstance(failure, Exception)]


async def apart(work: Iterable[Awaitable[None]]) -> None:
    """Do something for several accounts, side by side. Raises ExceptionGroup of what went wrong with any of them."""
    if failures := await side_by_side(work, Room(AT_ONCE)):
        raise ExceptionGroup("some accounts were not dealt with", failures)


async def as_they_end(
    tasks: Collection["asyncio.Task[T]"], pause: timedelta
) -> AsyncIterator[Collection["asyncio.Task[T]"]]:
    """Tasks that have ended: those that end within a pause together, and those that take longer in later lots."""
    left: set[asyncio.Task[Any]] = set(tasks)
    while left:
        ended, left = await asyncio.wait(left, timeout=pause.total_seconds())
        if not ended:
            ended, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        yield ended
