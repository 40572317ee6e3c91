"""The recording as the tests read it, by themselves: nothing here knows how the paper venue plays it."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Self

FILE = Path(__file__).with_name("btc-usdt-2023-03-10.csv")
"""Real one-minute candles of BTC/USDT on Binance.US, 10 March 2023, 10:00 to 18:00 UTC: down, up, down, up."""

POINTS = 4
"""Prices a candle is walked in."""


@dataclass(frozen=True)
class Point:
    """One price of the recording."""

    number: int
    price: Decimal
    low: Decimal
    high: Decimal
    """Of its candle."""
    minute: str
    """When it was recorded."""

    @property
    def opens(self) -> bool:
        """Whether a candle begins here, perhaps with a gap to the one before."""
        return self.number % POINTS == 0


@dataclass(frozen=True)
class Tape:
    """All points in order, and when each is played."""

    points: Sequence[Point]
    started_at: datetime
    speed: int
    """Candles a second; 1,000,000 is a multiple of four times it, so that points lie on whole microseconds."""

    @classmethod
    def read(cls, started_at: datetime, speed: int) -> Self:
        """The recording, played from `started_at`."""
        with FILE.open(newline="") as lines:
            return cls(list(_points(csv.DictReader(lines))), started_at, speed)

    def time(self, number: int) -> datetime:
        """When a point is played."""
        return self.started_at + number * self._step

    def at(self, moment: datetime) -> Point:
        """The point that is played at a moment."""
        return self.points[min((moment - self.started_at) // self._step, len(self.points) - 1)]

    def between(self, after: datetime, before: datetime) -> Sequence[Point]:
        """The points played later than `after` and earlier than `before`."""
        return [point for point in self.points if after < self.time(point.number) < before]

    @property
    def ends_at(self) -> datetime:
        """When the last candle is over."""
        return self.time(len(self.points))

    @property
    def _step(self) -> timedelta:
        return timedelta(microseconds=1_000_000 // (POINTS * self.speed))


def _points(rows: Iterator[dict[str, str]]) -> Iterator[Point]:
    number = 0
    for row in rows:
        open_, high, low, close = (Decimal(row[name]) for name in ("open", "high", "low", "close"))
        walk = (open_, low, high, close) if close >= open_ else (open_, high, low, close)
        for price in walk:
            yield Point(number, price, low, high, row["open_time"][11:16])
            number += 1
