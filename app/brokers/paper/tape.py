"""Prices as a pure function of time: candles, the points each one walks, and the path between two moments.

Every process that asks computes the same prices, today and after a restart, and nobody has to send them.
Prices are in quote currency. Along a tape, points are counted through: candle i has the points 4i to 4i + 3.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final, Protocol

POINTS: Final = 4
"""Points of one candle."""

BEFORE_START: Final = -1
"""The point reached while a tape has not begun."""

_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Candle:
    """What a price did in one period."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal

    def walk(self) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """Its four points in order: the low comes first when it rises, the high when it falls."""
        if self.close >= self.open:
            return self.open, self.low, self.high, self.close
        return self.open, self.high, self.low, self.close


@dataclass(frozen=True, slots=True)
class Pace:
    """When points are reached: the first at `started_at`, then 4 × `speed` of them a second."""

    started_at: datetime
    speed: Decimal
    """Candles a second."""

    def reached(self, moment: datetime) -> int:
        """The last point whose time is not after `moment`; negative before the start."""
        elapsed = (moment - self.started_at) // _MICROSECOND
        candles, seconds = self.speed.as_integer_ratio()
        # The smallest point that is reached later, minus one; times are whole microseconds, rounded down.
        return -(-(elapsed + 1) * POINTS * candles // (seconds * _SECOND)) - 1

    def time_of(self, point: int) -> datetime:
        """When a point is reached."""
        candles, seconds = self.speed.as_integer_ratio()
        return self.started_at + (point * seconds * _SECOND // (POINTS * candles)) * _MICROSECOND


class Tape(Protocol):
    """The prices of one pair of currencies."""

    @property
    def pace(self) -> Pace:
        """When each point is reached."""

    @property
    def length(self) -> int | None:
        """How many candles there are; None when they never end."""

    def jumps_to(self, point: int) -> bool:
        """Whether the price may have come to that point without passing what lies between."""

    def candle(self, number: int) -> Candle:
        """The candle of that number, counted from 0."""

    def extent(self, first: int, last: int) -> tuple[Decimal, Decimal]:
        """Bounds, not necessarily tight, of every price in the candles `first` to `last`: lowest, highest.

        Where no price is known they are the wrong way round, so that no level lies beyond them.
        """


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a path."""

    number: int
    time: datetime
    price: Decimal
    gap: bool
    """Whether the price jumped here instead of moving here through everything between."""


@dataclass(frozen=True, slots=True)
class Band:
    """The prices between two levels, both outside; None is no level. Inside, nothing happens."""

    low: Decimal | None = None
    high: Decimal | None = None

    @property
    def is_endless(self) -> bool:
        """Whether no price is outside."""
        return self.low is None and self.high is None

    def is_left_by(self, lowest: Decimal, highest: Decimal) -> bool:
        """Whether prices between these two may reach one of the levels."""
        return (self.low is not None and lowest <= self.low) or (
            self.high is not None and highest >= self.high
        )


def reached(tape: Tape, moment: datetime) -> int:
    """The tape's point at `moment`: the last one when it has ended, BEFORE_START when it has not begun."""
    point = max(tape.pace.reached(moment), BEFORE_START)
    return point if tape.length is None else min(point, POINTS * tape.length - 1)


def price_at(tape: Tape, point: int) -> Decimal:
    """The price at a point that has been reached."""
    return tape.candle(point // POINTS).walk()[point % POINTS]


def quoted_at(tape: Tape, moment: datetime) -> datetime:
    """The time of the quote seen at `moment`: a tape quotes until its end, and never again after it."""
    return moment if tape.length is None else min(moment, tape.pace.time_of(POINTS * tape.length))


def path(tape: Tape, after: int, until: int, band: Band) -> Iterator[Point]:
    """The points later than `after`, `until` included, whose price is outside `band`; in order.

    Stretches of candles whose extent stays inside are skipped as a whole, so a long quiet path costs little.
    """
    pending = [((after + 1) // POINTS, until // POINTS)] if until > after and not band.is_endless else []
    while pending:
        first, last = pending.pop()
        if not band.is_left_by(*tape.extent(first, last)):
            continue
        if first < last:
            middle = (first + last) // 2
            pending += [(middle + 1, last), (first, middle)]
            continue
        for number, price in enumerate(tape.candle(first).walk(), POINTS * first):
            if after < number <= until and band.is_left_by(price, price):
                yield Point(number, tape.pace.time_of(number), price, tape.jumps_to(number))


@dataclass(frozen=True, slots=True)
class Recordings:
    """Which candles a process plays: one file per pair (`BTC/USDT`), all from their start at `started_at`.

    Processes that share a paper market are given equal values.
    """

    files: Mapping[str, Path]
    speed: Decimal
    """Candles a second."""
    started_at: datetime
