"""Worker processes of the tests: started as production starts them, and known by what they log."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from app.local.parts import Part, spawn, stop, until_ready
from app.local.valkey import prepared_valkey
from tests.servers import reachable_directory, valkey_spot

# Every warning is an error: a worker has none. A pipeline of arq's own that a stop cuts off in the middle of a command
# is let go by the interpreter, which the Redis client takes for one left open.
ARQ_PIPELINE: Final = "ignore:Unclosed client session <redis.asyncio.client.Pipeline:ResourceWarning"
WORKER: Final = (sys.executable, "-W", "error", "-W", ARQ_PIPELINE, "-m", "workers.main")
PLAIN_ARQ: Final = (str(Path(sys.executable).parent / "arq"), "workers.main.WorkerSettings")

T = TypeVar("T")


@dataclass(frozen=True)
class Worker:
    """A running worker process and the log it writes."""

    process: Process
    log: Path

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Every event it has logged so far, or those of one name; what it says must be JSON lines."""
        complete, _, _ = self.log.read_text().rpartition("\n")
        told = [json.loads(line) for line in complete.splitlines()]
        return [event for event in told if name is None or event["event"] == name]

    def problems(self) -> list[dict[str, Any]]:
        """What it has logged above a warning."""
        return [event for event in self.events() if event["level"] not in ("debug", "info", "warning")]

    async def until(self, name: str, seconds: float = 20) -> None:
        """Wait until it has logged an event of this name."""

        async def has_logged() -> bool:
            assert self.process.returncode is None, self.log.read_text()
            return bool(self.events(name))

        await until(has_logged, seconds)

    async def kill(self) -> None:
        """End it without a warning."""
        self.process.kill()
        await self.process.wait()

    async def stop(self, seconds: float = 15) -> int:
        """Ask it to end and answer its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@asynccontextmanager
async def working(
    environment: Mapping[str, str], directory: Path, command: tuple[str, ...] = WORKER
) -> AsyncIterator[Worker]:
    """Run a worker for as long as the body lasts; it is killed afterwards if it has not ended."""
    log = directory / f"worker-{len(list(directory.glob('worker-*.log')))}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=directory, env=dict(environment), stdout=output, stderr=output
        )
    try:
        yield Worker(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass
class OwnRedis:
    """A Redis of the test's own, which may be killed and started again."""

    url: str
    part: Part
    process: Process

    async def kill(self) -> None:
        """End it without a warning."""
        self.process.kill()
        await self.process.wait()

    async def start(self) -> None:
        """Start it again, empty."""
        self.process = await spawn(self.part)
        await until_ready(self.part, self.process)


@asynccontextmanager
async def own_redis() -> AsyncIterator[OwnRedis]:
    """Run a Redis for one test."""
    with reachable_directory() as directory:
        spot = valkey_spot(directory)
        part = prepared_valkey(spot)
        redis = OwnRedis(spot.url, part, await spawn(part))
        try:
            await until_ready(part, redis.process)
            yield redis
        finally:
            await stop(part, redis.process)


async def until(condition: Callable[[], Awaitable[T | None]], seconds: float = 20) -> T:
    """Ask again and again until the answer is true, and give it."""
    answer: T | None = None
    try:
        async with asyncio.timeout(seconds):
            while not (answer := await condition()):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s; the last answer was {answer!r}") from None
    return answer
