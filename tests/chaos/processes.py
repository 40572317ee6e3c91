"""The real processes: API, workers, PostgreSQL and Redis, each of which may be killed, stopped or restarted."""

import asyncio
import json
import math
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from app.local.parts import Part, spawn, stop, until_ready
from app.local.postgres import PostgresSpot, prepared_postgres

RESTART_SECONDS: Final = 0.2
"""How long a supervisor waits before it starts again what has ended."""


@dataclass(eq=False)
class Child:
    """A process that the nursery has started."""

    pid: int
    ended: "asyncio.Future[int]"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is still there."""
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Nursery:
    """Starts processes of the program in a directory that holds a copy of it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._children: dict[int, Child] = {}
        self._births: asyncio.Queue[Child] = asyncio.Queue()
        self._one_at_a_time = asyncio.Lock()
        self._listening = asyncio.create_task(self._listen())
        self._ready = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def opened(cls, directory: Path) -> AsyncIterator[Self]:
        """A nursery for as long as the body lasts; what it has started ends with it."""
        with (directory / "nursery.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "tests.chaos.nursery"),
                cwd=directory,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
            )
        nursery = cls(process)
        try:
            async with asyncio.timeout(60):
                await nursery._ready.wait()
            yield nursery
        finally:
            process.kill()
            await process.wait()
            await nursery._listening

    async def start(self, wanted: Mapping[str, Any]) -> Child:
        """Start one process."""
        assert self._process.stdin is not None
        async with self._one_at_a_time:
            self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
            await self._process.stdin.drain()
            return await self._births.get()

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            news = json.loads(line)
            if "ready" in news:
                self._ready.set()
            elif "started" in news:
                child = Child(news["started"], asyncio.get_running_loop().create_future())
                self._children[child.pid] = child
                self._births.put_nowait(child)
            else:
                self._children.pop(news["ended"]).ended.set_result(news["status"])


@dataclass(eq=False)
class Kept:
    """A process that is started again whenever it ends, as a supervisor would."""

    nursery: Nursery
    name: str
    wanted: dict[str, Any]
    ends: list[int] = field(default_factory=list)
    """How each of its lives ended."""
    child: Child | None = None
    stopped: bool = False
    """Whether it stands still at the moment, by SIGSTOP."""
    runs_since: float = math.inf
    """Since when it has run without a break, by the monotonic clock."""
    next_point: str | None = None
    """The point its next life ends at."""
    passes: int = 1
    """When it comes there for so manieth a time."""

    async def keep(self) -> None:
        """Keep it running until this is cancelled."""
        while True:
            armed = {"point": self.next_point, "passes": self.passes} if self.next_point else {}
            self.next_point = None
            self.child = await self.nursery.start({**self.wanted, **armed})
            self.runs_since = time.monotonic()
            self.ends.append(await self.child.ended)
            await asyncio.sleep(RESTART_SECONDS)

    def kill(self) -> bool:
        """Kill it without a warning; whether there was anything to kill."""
        if self.child is None or self.child.ended.done():
            return False
        self.child.signal(signal.SIGKILL)
        return True

    def has_run_for(self) -> float:
        """How many seconds it has run by now without a break; 0 where it does not."""
        runs = self.child is not None and not self.child.ended.done() and not self.stopped
        return max(0.0, time.monotonic() - self.runs_since) if runs else 0.0

    async def pause(self, seconds: float) -> None:
        """Let it stand still for a while."""
        child = self.child
        if child is None or child.ended.done() or self.stopped:
            return
        self.stopped = True
        child.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            child.signal(signal.SIGCONT)
            self.stopped, self.runs_since = False, time.monotonic()


@dataclass(eq=False)
class Postgres:
    """A PostgreSQL of one's own that survives being restarted at once."""

    spot: PostgresSpot
    part: Part
    process: Process

    @classmethod
    @asynccontextmanager
    async def opened(cls, spot: PostgresSpot) -> AsyncIterator[Self]:
        """A running one."""
        part = await prepared_postgres(spot)
        postgres = cls(spot, part, await spawn(part))
        try:
            await until_ready(part, postgres.process)
            yield postgres
        finally:
            await stop(part, postgres.process)

    async def halt(self) -> None:
        """Stop it as `pg_ctl -m immediate stop` does: every connection is cut, nothing is written down."""
        self.process.send_signal(signal.SIGQUIT)
        await self.process.wait()

    async def start(self) -> None:
        """Start it again; it recovers first."""
        self.process = await spawn(self.part)
        await until_ready(self.part, self.process)

    def freeze(self) -> None:
        """Let all of it stand still, as on a machine that hangs: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the server and its children, each of which leads a group of its own."""
        os.kill(self.process.pid, number)
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(ProcessLookupError, FileNotFoundError):
                    _, _, after_name = (entry / "stat").read_text().rpartition(")")
                    if int(after_name.split()[1]) == self.process.pid:
                        os.kill(int(entry.name), number)
