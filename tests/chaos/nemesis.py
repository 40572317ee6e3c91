"""The nemesis: what happens to the processes, by dice whose seed is printed."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.processes import Kept, Postgres
from tests.workers.processes import OwnRedis


@dataclass(eq=False)
class Nemesis:
    """Breaks one thing after the other until it is told to stop."""

    dice: random.Random
    workers: Sequence[Kept]
    api: Kept
    postgres: Postgres
    redis: OwnRedis
    points: Sequence[str]
    pace: tuple[float, float] = (0.5, 2.0)
    """Between which seconds the pauses between two deeds lie."""
    longest_pause: float = 15.0
    patience: float = 6.0
    """For how many seconds it lets a worker live that has got nothing done."""
    progress: int = 0
    """How many signals have come through so far; whoever sees one counts it here."""
    deeds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """What it could not do itself: a server that does not start again, for instance."""
    _under_way: set["asyncio.Task[None]"] = field(default_factory=set)

    async def rage(self) -> None:
        """Go on until cancelled; what was stopped goes on then, and what was halted runs."""
        deeds: list[tuple[int, Callable[[], None]]] = [
            (40, self._kill_worker),
            (20, lambda: self._kill_at_a_point("a worker", self.dice.choice(self.workers))),
            (12, self._kill_api),
            (3, lambda: self._kill_at_a_point("the API", self.api)),
            (8, self._pause_worker),
            (11, lambda: self._begin("flush", self._flush)),
            (3, lambda: self._begin("redis", self._restart_redis)),
            (3, lambda: self._begin("postgres", self._restart_postgres)),
        ]
        weights = [weight for weight, _ in deeds]
        first = self.dice.sample([deed for _, deed in deeds], len(deeds))
        try:
            while True:
                await self._wait()
                deed = first.pop() if first else self.dice.choices([each for _, each in deeds], weights)[0]
                deed()
        finally:
            for task in self._under_way:
                if task.get_name() == "pause":
                    task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _wait(self) -> None:
        """Pause, and let something come through: what is killed before it has done anything proves nothing."""
        came_through, began = self.progress, time.monotonic()
        await asyncio.sleep(self.dice.uniform(*self.pace))
        while self.progress == came_through and time.monotonic() - began < self.patience:
            await asyncio.sleep(0.05)

    def _begin(self, name: str, deed: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin what takes a while; one of a name at a time."""
        if name in {task.get_name() for task in self._under_way}:
            return
        task = asyncio.create_task(deed(), name=name)
        self._under_way.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failures.append(f"{task.get_name()}: {failure}")

    def _kill_worker(self) -> None:
        if self.dice.choice(self.workers).kill():
            self.deeds["SIGKILL of a worker"] += 1

    def _kill_at_a_point(self, whose: str, kept: Kept) -> None:
        """Its next life ends at a point by itself; this one ends now."""
        kept.next_point = self.dice.choice(self.points)
        kept.passes = self.dice.choice((1, 2, 5, 10))
        if kept.kill():
            self.deeds[f"SIGKILL of {whose}"] += 1
            self.deeds[f"lives of {whose} armed with a named point"] += 1

    def _kill_api(self) -> None:
        if self.api.kill():
            self.deeds["SIGKILL of the API"] += 1

    def _pause_worker(self) -> None:
        self._begin("pause", self._pause)

    async def _pause(self) -> None:
        self.deeds["SIGSTOP of a worker"] += 1
        await self.dice.choice(self.workers).pause(self.dice.uniform(1.5, self.longest_pause))

    async def _flush(self) -> None:
        client = Redis.from_url(self.redis.url)
        try:
            await client.flushall()
            self.deeds["FLUSHALL"] += 1
        except (RedisError, OSError):
            self.deeds["FLUSHALL while Redis was away"] += 1
        finally:
            await client.aclose()

    async def _restart_redis(self) -> None:
        self.deeds["SIGKILL of Redis"] += 1
        await self.redis.kill()
        await asyncio.sleep(self.dice.uniform(0.1, 3))
        await self.redis.start()

    async def _restart_postgres(self) -> None:
        self.deeds["immediate restart of PostgreSQL"] += 1
        await self.postgres.halt()
        await asyncio.sleep(self.dice.uniform(0.1, 2))
        await self.postgres.start()
