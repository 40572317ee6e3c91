"""Buckets: the arithmetic of a rate limit that is never exceeded, whenever the venue's window begins. Pure.

A bucket is one moment, `due`: when everything taken so far will have drained. Taking adds to it, and as much may be
ahead of now as the limit's burst takes to drain. So of two views of a bucket the later `due` is the truer one, and
views are merged by taking it. Moments are seconds since 1970, of one clock for all buckets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

BUCKET: Final = "/"
"""What stands between a scope and the name of a limit in the name of a bucket."""


class Urgency(IntEnum):
    """What a request is for; lower goes first."""

    EXIT = 0
    PROTECTION = 1
    ENTRY = 2
    POLL = 3


SHARES: Final[Mapping[Urgency, float]] = {
    Urgency.EXIT: 1.0,
    Urgency.PROTECTION: 0.8,
    Urgency.ENTRY: 0.6,
    Urgency.POLL: 0.4,
}
"""How much of a bucket each urgency may fill: what is above is kept for those more urgent, in whatever process."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many units in any so many seconds. `burst` of them may go at once; the rest is spread over the window."""

    capacity: float
    seconds: float
    burst: float

    def __post_init__(self) -> None:
        if not 0 < self.burst < self.capacity or self.seconds <= 0:
            raise ValueError("a limit has a window, and a burst that leaves something to spread over it")

    @property
    def pace(self) -> float:
        """Seconds a unit takes to drain. A burst and a window's worth of draining come to the capacity."""
        return self.seconds / (self.capacity - self.burst)


def spaced(pace: float) -> Limit:
    """The limit of a venue that only says how many seconds are to be between two units: a second's worth at once."""
    burst = max(1.0, 1 / pace)
    return Limit(burst + 60 / pace, 60, burst)


@dataclass(frozen=True, slots=True)
class Charge:
    """What a request takes from one bucket."""

    bucket: str
    """The scope it belongs to, an address at a venue or an account there, and the limit's name."""
    limit: Limit
    units: float

    @property
    def drain(self) -> float:
        """Seconds until what it takes has drained."""
        return self.units * self.limit.pace

    def room(self, urgency: Urgency) -> float:
        """How far ahead of now `due` may be afterwards. What is larger than that passes an empty bucket, alone."""
        return max(SHARES[urgency] * self.limit.burst * self.limit.pace, self.drain)

    def times(self, factor: float) -> "Charge":
        """The same for several who do as this one does."""
        return replace(self, units=self.units * factor)


def wait_for(due: float, charge: Charge, urgency: Urgency, now: float) -> float:
    """Seconds until a bucket has room for a charge; 0 when it has."""
    return max(0.0, max(due, now) - now + charge.drain - charge.room(urgency))


def taken(due: float, charge: Charge, now: float) -> float:
    """The bucket after a charge."""
    return max(due, now) + charge.drain


def raised(due: float, limit: Limit, used: float, until: float) -> float:
    """The bucket once the venue has said that `used` units are gone of the window that ends at `until`.

    No more than the rest of the capacity can be taken before then. Never lowered.
    """
    left = max(0.0, limit.capacity - used)
    return max(due, until + (limit.burst - left) * limit.pace)
