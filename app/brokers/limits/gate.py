"""The gate: who of those that wait in this process to ask one venue from one address goes next.

The most urgent goes first; among equals every account has its turn, in the order in which they came. Whoever has to
wait for a limit of its own holds nobody else up, nor what the same account asks that this limit does not count.
Only so many requests are under way at once, fewer of the less urgent, so that a venue that answers polls slowly
still has room for an exit.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from app.brokers.limits.buckets import BUCKET, Charge, Urgency
from app.brokers.limits.ledger import Ledger

ROOM: Final[Mapping[Urgency, int]] = {
    Urgency.EXIT: 40,
    Urgency.PROTECTION: 32,
    Urgency.ENTRY: 24,
    Urgency.POLL: 16,
}
"""How many requests may be under way for one of each urgency to begin."""

_BLINK: Final = 0.001
"""Seconds that are waited at least, since clocks are not read at the same time."""


Waited = Callable[[Urgency, float], None]
"""What hears that a request of an urgency has waited so many seconds."""


class Stopped(Exception):
    """A request did not get its turn in time: it was not sent."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """One request that waits; `turn` becomes whether it may go."""

    scopes: Sequence[str]
    charges: Sequence[Charge]
    urgency: Urgency
    deadline: float
    """By the loop's clock."""
    turn: asyncio.Future[bool]

    keys: tuple[str, ...] = ()
    """All that may be short for it: those that need the same wait in one queue."""

    def __post_init__(self) -> None:
        self.keys = (*self.scopes, *(each.bucket for each in self.charges))


class Gate:
    """The way out to one venue from one address. `address` is the scope that all of its requests share.

    `waited` hears of every request how long it waited, whether or not it got its turn.
    """

    def __init__(self, ledger: Ledger, address: str, waited: Waited | None = None) -> None:
        self.ledger = ledger
        self.address = address
        self._waited = waited
        self._lanes: dict[Urgency, dict[tuple[str, ...], deque[_Waiting]]] = {
            urgency: {} for urgency in Urgency
        }
        self._under_way = 0
        self._not_before: dict[tuple[str, Urgency], float] = {}
        self._stirred = asyncio.Event()
        self._letting: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def turn(
        self, account: str, charges: Sequence[Charge], urgency: Urgency, patience: float
    ) -> AsyncIterator[None]:
        """Wait for a turn of `account` for at most `patience` seconds; inside, the request is under way.

        Raises Stopped when there will be none by then.
        """
        scopes = list(dict.fromkeys((self.address, account)))
        silence = self.ledger.silence_of(scopes)
        if patience <= 0 or (silence is not None and silence.wait > patience):
            raise Stopped
        loop = asyncio.get_running_loop()
        waiting = _Waiting(scopes, charges, urgency, loop.time() + patience, loop.create_future())
        began = loop.time()
        try:
            await self._wait(waiting)
        finally:
            if self._waited is not None:
                self._waited(urgency, loop.time() - began)
        try:
            yield
        finally:
            self._leave()

    async def close(self) -> None:
        """Let nobody through any more."""
        if self._letting is not None:
            self._letting.cancel()
            with suppress(asyncio.CancelledError):
                await self._letting
            self._letting = None

    async def _wait(self, waiting: _Waiting) -> None:
        self._lanes[waiting.urgency].setdefault(waiting.keys, deque()).append(waiting)
        self._stirred.set()
        if self._letting is None or self._letting.done():
            self._letting = asyncio.create_task(self._let_through())
        may_go = False
        try:
            async with asyncio.timeout_at(waiting.deadline):
                may_go = await waiting.turn
        except TimeoutError:
            raise Stopped from None
        finally:
            if not may_go:
                self._withdraw(waiting)
        if not may_go:
            raise Stopped

    def _withdraw(self, waiting: _Waiting) -> None:
        """Whoever gives up at the very moment of its turn gives the turn back."""
        if waiting.turn.done() and not waiting.turn.cancelled():
            if waiting.turn.result():
                self._leave()
        else:
            waiting.turn.cancel()
            self._take_out(waiting)

    def _leave(self) -> None:
        self._under_way -= 1
        self._stirred.set()

    async def _let_through(self) -> None:
        """Give turns for as long as somebody waits."""
        loop = asyncio.get_running_loop()
        while any(self._lanes.values()):
            self._stirred.clear()
            # One look at the clock for both: a wait that ended between two would be waited for without end.
            now = loop.time()
            waiting = self._next(now)
            if waiting is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause(now)):
                        await self._stirred.wait()
                continue
            if waiting.turn.done():
                # It gave up a moment ago and has not been able to leave the queue yet.
                self._take_out(waiting)
                continue
            verdict = await self.ledger.take(waiting.scopes, waiting.charges, waiting.urgency)
            if waiting.turn.done():
                continue
            if verdict.wait <= 0:
                self._take_out(waiting)
                self._under_way += 1
                waiting.turn.set_result(True)
                continue
            not_before = loop.time() + max(verdict.wait, _BLINK)
            self._not_before[self._name(verdict.short), waiting.urgency] = not_before
            if not_before > waiting.deadline:
                self._take_out(waiting)
                waiting.turn.set_result(False)

    def _name(self, short: str) -> str:
        """Whatever is short at the address is short for everybody here."""
        scope, _, _ = short.partition(BUCKET)
        return self.address if scope == self.address else short

    def _next(self, now: float) -> _Waiting | None:
        for urgency, lane in self._lanes.items():
            if lane and (self._under_way >= ROOM[urgency] or self._is_short(self.address, urgency, now)):
                return None
            for keys, queue in lane.items():
                if not any(self._is_short(key, urgency, now) for key in keys):
                    return queue[0]
        return None

    def _is_short(self, key: str, urgency: Urgency, now: float) -> bool:
        """Whether somebody as urgent or more was told to wait for it."""
        return any(self._not_before.get((key, each), 0.0) > now for each in Urgency if each <= urgency)

    def _pause(self, now: float) -> float | None:
        """Seconds until something that was short may be asked for again; None when nothing is."""
        self._not_before = {key: moment for key, moment in self._not_before.items() if moment > now}
        return min(self._not_before.values()) - now if self._not_before else None

    def _take_out(self, waiting: _Waiting) -> None:
        """Out of its queue; its account goes behind the others."""
        lane = self._lanes[waiting.urgency]
        queue = lane.get(waiting.keys, deque())
        if waiting in queue:
            queue.remove(waiting)
            del lane[waiting.keys]
            if queue:
                lane[waiting.keys] = queue
