"""The ledger: what is known of every bucket, and which venues have asked for silence.

Redis holds it for all processes; a request is let through by one script there, against all of its buckets at once.
Every process keeps what it has heard and brings it along with its next request, so a key that vanishes is written
again. A Redis that is away is given up after a moment: then each process goes on by itself as if several others did
exactly what it does, except for exits, which may use all that is left.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.brokers.limits.buckets import Charge, Limit, Urgency, raised, taken, wait_for

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

PATIENCE_SECONDS: Final = 0.05
"""How long Redis may take to answer: no exit waits longer for it."""

PAUSE_SECONDS: Final = 2.0
"""How long Redis is left alone after it was found away."""

ASSUMED_PROCESSES: Final = 4
"""How many processes share a venue while they cannot hear of each other; more than that may be told off by it."""

PREFIX: Final = "budget:"

_LEAST_WAIT: Final = 0.001

_TAKE: Final = """
local moment = redis.call('TIME')
local now = moment[1] + moment[2] / 1000000
local function stored(key) return tonumber(redis.call('GET', key) or 0) or 0 end
local function text(number) return string.format('%.6f', number) end

local scopes = tonumber(ARGV[1])
local answer, due, granted = {text(now), '1'}, {}, true
for i = 1, scopes do
  local silent_until = stored(KEYS[i])
  answer[#answer + 1] = text(silent_until)
  granted = granted and silent_until <= now
end
for i = scopes + 1, #KEYS do
  local known, drain, room = unpack(ARGV, 3 * (i - scopes) - 1, 3 * (i - scopes) + 1)
  due[i] = math.max(stored(KEYS[i]), tonumber(known), now)
  granted = granted and due[i] - now + drain - room <= 0.000001
end
for i = scopes + 1, #KEYS do
  if granted then due[i] = due[i] + ARGV[3 * (i - scopes)] end
  if due[i] > now then redis.call('SET', KEYS[i], text(due[i]), 'PX', math.ceil((due[i] - now) * 1000)) end
  answer[#answer + 1] = text(due[i])
end
if not granted then answer[2] = '0' end
return answer
"""
"""KEYS: a silence for each scope, then the buckets. ARGV: how many scopes; of each bucket known due, drain, room.

Answers Redis's time, whether it was granted, the silences, the buckets. It is `wait_for` and `taken` for all at once.
"""

_SILENCE: Final = """
local left = tonumber(redis.call('PTTL', KEYS[1]))
if left < tonumber(ARGV[1]) then
  local moment = redis.call('TIME')
  local silent_until = moment[1] + moment[2] / 1000000 + ARGV[1] / 1000
  redis.call('SET', KEYS[1], string.format('%.6f', silent_until), 'PX', ARGV[1])
end
return left
"""
"""KEYS: a silence. ARGV: milliseconds. A shorter one never replaces a longer one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may go: now, when `wait` is 0, else not before so many seconds, because of `short`."""

    wait: float = 0.0
    short: str = ""
    """The bucket that has no room, or the scope that is silent."""


GRANTED: Final = Verdict()


class Ledger:
    """The budget as one process knows it. With `redis` None it is alone and may use all of it.

    `patience` is in seconds; `clock` tells the time where Redis does not.
    """

    def __init__(
        self,
        redis: Redis | None = None,
        *,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._take = redis.register_script(_TAKE) if redis is not None else None
        self._silence = redis.register_script(_SILENCE) if redis is not None else None
        self._patience = patience
        self._clock = clock
        self._ahead = 0.0
        """Seconds by which Redis's clock is ahead of ours; buckets are kept by Redis's."""
        self._due: dict[str, float] = {}
        self._silent_until: dict[str, float] = {}
        self._untold: dict[str, float] = {}
        self._is_away = False
        self._away_until = 0.0

    def now(self) -> float:
        """The clock of the buckets."""
        return self._clock() + self._ahead

    async def take(self, scopes: Sequence[str], charges: Sequence[Charge], urgency: Urgency) -> Verdict:
        """Take all charges, or none and say what is short. Never raises, and never waits for long."""
        if (left := self.silence_of(scopes)) is not None:
            return left
        if self._take is not None and self._is_asked():
            keys = [_silence_key(scope) for scope in scopes] + [PREFIX + each.bucket for each in charges]
            figures: list[str | int] = [len(scopes)]
            for each in charges:
                known = self._due.get(each.bucket, 0.0)
                figures += [f"{known:.6f}", f"{each.drain:.6f}", f"{each.room(urgency):.6f}"]
            answer = await self._ask(self._take(keys=keys, args=figures))
            if answer is not None:
                return self._adopt([float(each) for each in answer], scopes, charges, urgency)
        return self._take_alone(charges, urgency)

    def silence_of(self, scopes: Iterable[str]) -> Verdict | None:
        """The longest silence that is known of these scopes."""
        now = self.now()
        left, scope = max((self._silent_until.get(scope, 0.0) - now, scope) for scope in scopes)
        return Verdict(left, scope) if left > 0 else None

    def hush(self, scope: str, seconds: float) -> None:
        """The venue wants no request of a scope for this long; `tell` tells the other processes."""
        until = self.now() + seconds
        if until > self._silent_until.get(scope, 0.0):
            self._silent_until[scope] = self._untold[scope] = until

    async def tell(self) -> None:
        """Let the other processes know of new silences. One that Redis does not take is found out by each of them."""
        while self._untold and self._silence is not None:
            scope, until = self._untold.popitem()
            milliseconds = int((until - self.now()) * 1000)
            if milliseconds > 0 and self._is_asked():
                await self._ask(self._silence(keys=[_silence_key(scope)], args=[milliseconds]))

    def learn(self, bucket: str, limit: Limit, used: float, until: float) -> None:
        """The venue says that `used` units of the window that ends at `until` are gone."""
        self._due[bucket] = raised(self._due.get(bucket, 0.0), limit, used, until)

    def _is_asked(self) -> bool:
        return time.monotonic() >= self._away_until

    async def _ask(self, question: Awaitable[Answer]) -> Answer | None:
        """Redis's answer; None when it is away."""
        try:
            async with asyncio.timeout(self._patience):
                answer = await question
        except (RedisError, OSError) as error:
            if not self._is_away:
                log.warning("budget_unshared", reason=type(error).__name__)
            self._is_away, self._away_until = True, time.monotonic() + PAUSE_SECONDS
            return None
        if self._is_away:
            log.info("budget_shared")
        self._is_away = False
        return answer

    def _adopt(
        self, answer: Sequence[float], scopes: Sequence[str], charges: Sequence[Charge], urgency: Urgency
    ) -> Verdict:
        now, granted = answer[0], answer[1]
        self._ahead = now - self._clock()
        for scope, until in zip(scopes, answer[2:], strict=False):
            self._silent_until[scope] = max(self._silent_until.get(scope, 0.0), until)
        for each, due in zip(charges, answer[2 + len(scopes) :], strict=True):
            self._due[each.bucket] = max(self._due.get(each.bucket, 0.0), due)
        if granted:
            return GRANTED
        short = self.silence_of(scopes) or self._shortest_of(charges, urgency, now)
        # What was refused there is not granted here, however the figures were rounded on their way.
        return Verdict(max(short.wait, _LEAST_WAIT), short.short)

    def _take_alone(self, charges: Sequence[Charge], urgency: Urgency) -> Verdict:
        now = self.now()
        if self._take is not None and urgency is not Urgency.EXIT:
            charges = [each.times(ASSUMED_PROCESSES) for each in charges]
        verdict = self._shortest_of(charges, urgency, now)
        if verdict.wait > 0:
            return verdict
        for each in charges:
            self._due[each.bucket] = taken(self._due.get(each.bucket, 0.0), each, now)
        return GRANTED

    def _shortest_of(self, charges: Sequence[Charge], urgency: Urgency, now: float) -> Verdict:
        """What is short of room for longest."""
        waits = (
            Verdict(wait_for(self._due.get(each.bucket, 0.0), each, urgency, now), each.bucket)
            for each in charges
        )
        return max(waits, key=lambda verdict: verdict.wait, default=GRANTED)


def _silence_key(scope: str) -> str:
    return f"{PREFIX}silence:{scope}"
