"""The feed: how the open event streams of a process hear that something has changed, and that the server stops.

One look a second for all of them asks PostgreSQL whose things have changed; each of those streams then reads its
owner's rows by itself. Redis has no part in it, and the number of processes does not matter.
"""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import structlog

from app.api.problems import RateLimited
from app.desk import Sessions
from app.domain.owners import Owner
from app.store import changes

log = structlog.get_logger(__name__)

MOST_STREAMS: Final = 10
"""How many streams one owner may have open in a process."""
ROOM_SECONDS: Final = 30
"""When an owner with that many may try again."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What streams take their time with, in seconds."""

    look: float = 1.0
    """How long news waits at most to be looked for."""
    quiet: float = 15.0
    """After how long without news a comment is sent, so that nobody on the way takes the connection for dead."""
    patience: float = 60.0
    """How long a client may take in nothing of what is sent."""


class Feed:
    """Rings for the streams of owners who have news, and for all of them when they are over."""

    def __init__(self, sessions: Sessions, pace: Pace = Pace()) -> None:
        self.pace = pace
        self._sessions = sessions
        self._bells: dict[Owner, set[asyncio.Event]] = {}
        self._looked_up_to = 0
        self.is_over = False
        """Whether streams end as soon as they have nothing more to tell."""

    def check_room(self, owner: Owner) -> None:
        """Raises RateLimited for an owner who has as many streams open as one may."""
        if len(self._bells.get(owner, ())) >= MOST_STREAMS:
            raise RateLimited(ROOM_SECONDS)

    @contextmanager
    def listening(self, owner: Owner) -> Iterator[asyncio.Event]:
        """Gives a bell that is rung when the owner has news, for as long as a stream of theirs is open."""
        bell = asyncio.Event()
        bells = self._bells.setdefault(owner, set())
        bells.add(bell)
        try:
            yield bell
        finally:
            bells.discard(bell)
            if not bells:
                self._bells.pop(owner, None)

    def stop(self) -> None:
        """End all streams, those to come too."""
        self.is_over = True
        for owner in self._bells:
            self._ring(owner)

    async def look(self) -> None:
        """Ring for every owner of whose something was changed since the last look."""
        if not self._bells:
            return
        async with self._sessions() as session:
            horizon = (await changes.present(session)).horizon
            concerned = await changes.concerned(session, self._bells.keys(), self._looked_up_to, horizon)
        self._looked_up_to = horizon
        for owner in concerned:
            self._ring(owner)

    def _ring(self, owner: Owner) -> None:
        for bell in self._bells.get(owner, ()):
            bell.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look again and again, until the server stops."""
        with _told_to_stop(self.stop):
            looking = asyncio.create_task(self._keep_looking())
            try:
                yield
            finally:
                looking.cancel()
                with suppress(asyncio.CancelledError):
                    await looking

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self.pace.look)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - the edge of this task: the next look finds what this one missed
                log.warning("feed_look_failed", reason=type(error).__name__)


@contextmanager
def _told_to_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` when the process is asked to end, before the server's own handler of that signal.

    A server tells its application of the end only after the last answer was sent, and a stream has no end of its own.
    """
    loop = asyncio.get_running_loop()
    handlers: dict[int, Any] = {}

    def hear(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)
        handlers[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, hear)
    try:
        yield
    finally:
        for heard, handler in handlers.items():
            signal.signal(heard, handler)
