"""Keeps the parts of a local installation running: starts them in order, revives them, stops them all."""

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from app.local.parts import LocalFailure, Part, PartDied, died, spawn, stop, until_ready

QUICK_SUCCESSION_SECONDS: Final = 10.0
_PAUSE_BEFORE_RESTART_SECONDS: Final = 1.0
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

log = structlog.get_logger(__name__)


class StopRequested(Exception):
    """Ctrl-C, SIGTERM or a closed terminal asked for the end."""


@dataclass
class _Kept:
    part: Part
    process: Process
    running: asyncio.Event


class Supervisor:
    """Runs parts; what fails for good is raised in the task group, which ends the whole."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        """Watch over parts in tasks of `group`."""
        self._group = group
        self._kept: list[_Kept] = []
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self, part: Part) -> None:
        """Start a part, wait until it is ready, keep it running; raises PartDied when it does not come up."""
        kept = _Kept(part, await spawn(part), asyncio.Event())
        self._kept.append(kept)
        await until_ready(part, kept.process)
        kept.running.set()
        self._watchers.append(self._group.create_task(self._keep(kept), name=f"keep {part.name}"))

    def processes(self) -> dict[str, int]:
        """Answer the process id of every part by its name."""
        return {kept.part.name: kept.process.pid for kept in self._kept}

    def release(self) -> None:
        """Revive nothing any more."""
        for watcher in self._watchers:
            watcher.cancel()

    async def stop(self) -> None:
        """Stop every part, the last started first."""
        for kept in reversed(self._kept):
            await stop(kept.part, kept.process)

    async def _keep(self, kept: _Kept) -> None:
        """Revive a part whenever it dies; raises PartDied when it does so again in quick succession."""
        clock = asyncio.get_running_loop().time
        revived_at: float | None = None
        while True:
            await kept.process.wait()
            death = died(kept.part, kept.process)
            if revived_at is not None and clock() - revived_at < QUICK_SUCCESSION_SECONDS:
                raise PartDied(f"Twice in quick succession: {death}")
            kept.running.clear()
            log.warning("part_died", part=kept.part.name, reason=str(death).splitlines()[0])
            await asyncio.sleep(_PAUSE_BEFORE_RESTART_SECONDS)
            await self._those_before(kept)
            revived_at = clock()
            kept.process = await spawn(kept.part)
            await until_ready(kept.part, kept.process)
            kept.running.set()
            log.info("part_revived", part=kept.part.name, process=kept.process.pid)

    async def _those_before(self, kept: _Kept) -> None:
        """Wait for the parts this one needs: a worker would die again while its database is being revived."""
        for earlier in self._kept[: self._kept.index(kept)]:
            await earlier.running.wait()


@asynccontextmanager
async def supervised() -> AsyncIterator[Supervisor]:
    """Run parts for as long as the body lasts; on leaving, however that comes about, all of them are stopped.

    The body is cancelled when a signal asks for the end, and the caller gets StopRequested; or when a part
    keeps dying, and the caller gets PartDied. Must be entered in the main thread: it takes the signals, and
    the processes share its life.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, asked.set)
    supervisor: Supervisor | None = None
    try:
        async with asyncio.TaskGroup() as group:
            supervisor = Supervisor(group)
            listener = group.create_task(_raise_when(asked), name="stop signals")
            yield supervisor
            supervisor.release()
            listener.cancel()
    except BaseExceptionGroup as failures:
        raise _most_telling(failures) from None
    finally:
        if supervisor is not None:
            await supervisor.stop()
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def _raise_when(asked: asyncio.Event) -> None:
    await asked.wait()
    raise StopRequested


def _most_telling(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Answer the cause among what failed together: a dead part explains the errors of those who used it."""
    ranks = (LocalFailure, StopRequested)
    for rank in ranks:
        for failure in failures.exceptions:
            if isinstance(failure, rank):
                return failure
    return failures.exceptions[0]
