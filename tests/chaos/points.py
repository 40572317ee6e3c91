"""Points: where a copy of the program can be stopped. `source` puts a call to `reached` between its steps.

A process that was armed with a point kills itself when it comes there. In one process with the tests a point does what
is set for it: that life ends, or it is held until it is let go.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final


class ProcessDied(BaseException):
    """Stands for a SIGKILL: nothing of that life runs after it."""


@dataclass(eq=False)
class Life:
    """What stands for one process: its tasks carry it with them, and all of them end with it."""

    died_at: str | None = None
    plans: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What happens at a point when it is reached for the first time."""

    @property
    def dead(self) -> bool:
        """Whether it has ended."""
        return self.died_at is not None

    def die_at(self, *points: str) -> None:
        """End when one of the points is reached."""

        def death(point: str) -> Callable[[], Awaitable[None]]:
            async def die() -> None:
                self.died_at = point

            return die

        self.plans |= {point: death(point) for point in points}

    def hold_at(self, point: str) -> "Hold":
        """Stop at the point until it is let go, as under SIGSTOP."""
        hold = Hold()
        self.plans[point] = hold.keep
        return hold


class Hold:
    """A life stopped at a point."""

    def __init__(self) -> None:
        self._held = asyncio.Event()
        self._free = asyncio.Event()

    async def keep(self) -> None:
        """Be held."""
        self._held.set()
        await self._free.wait()

    async def is_held(self) -> None:
        """Wait until somebody is."""
        async with asyncio.timeout(20):
            await self._held.wait()

    def let_go(self) -> None:
        """Go on."""
        self._free.set()


LIFE: Final[ContextVar[Life | None]] = ContextVar("life", default=None)

_fatal: Final[dict[str, int]] = {}


def arm(point: str, passes: int) -> None:
    """From now on this process is killed when it comes to a point for so manieth a time."""
    _fatal[point] = passes


async def reached(point: str) -> None:
    """A step ends here and the next begins."""
    if point in _fatal:
        _fatal[point] -= 1
        if _fatal[point] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    life = LIFE.get()
    if life is None:
        return
    plan = life.plans.pop(point, None)
    if plan is not None and not life.dead:
        await plan()
    if life.dead:
        raise ProcessDied(point)
