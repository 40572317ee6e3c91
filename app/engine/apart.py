"""Apart: several accounts are dealt with side by side, and an accident of one keeps nobody from the others."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Final

AT_ONCE: Final = 12
"""How many are dealt with at the same time: fewer than a process has database connections."""


async def apart(work: Iterable[Awaitable[object]]) -> None:
    """Do all of it. Raises ExceptionGroup of what went wrong unforeseen, when everything has been tried."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(each: Awaitable[object]) -> None:
        async with room:
            await each

    answers = await asyncio.gather(*(one(each) for each in work), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, Exception):
            raise answer
    if failures := [answer for answer in answers if isinstance(answer, Exception)]:
        raise ExceptionGroup("some accounts were not dealt with", failures)
