"""The market the demo trades: real candles, played in order, and the price they show at any moment."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final, Self

SYMBOL: Final = "BTC/USDT"
FILE: Final = Path(__file__).with_name("btc-usdt-2023-03-12.csv")
SOURCE: Final = "BTC/USDT on Binance.US, 12 March 2023, 21:00 to 24:00 UTC"
SPEED: Final = Decimal(3)
"""Candles a second."""

_POINTS: Final = 4


@dataclass(frozen=True, slots=True)
class Tick:
    """A price of the recording and the moment it was of, to the minute."""

    recorded_at: datetime
    price: Decimal


@dataclass(frozen=True, slots=True)
class Recording:
    """Prices in the order they are played: of each candle open, low, high, close; of a falling one high first."""

    ticks: Sequence[Tick]
    started_at: datetime
    """When the first one was played, on our clock."""

    @classmethod
    def read(cls, started_at: datetime) -> Self:
        """The candles that come with the demo."""
        with FILE.open(newline="") as lines:
            return cls([tick for row in csv.DictReader(lines) for tick in _ticks(row)], started_at)

    @property
    def minutes(self) -> int:
        """How many candles there are."""
        return len(self.ticks) // _POINTS

    @property
    def ends_at(self) -> datetime:
        """When the last candle has been played."""
        return self.started_at + timedelta(seconds=self.minutes / float(SPEED))

    def at(self, now: datetime) -> Tick:
        """What is played at `now`; the last tick when it is over."""
        return self.ticks[self._played(now)]

    def high(self, now: datetime, minutes: int) -> Decimal:
        """The highest price in that many recorded minutes up to `now`."""
        last = self._played(now)
        return max(tick.price for tick in self.ticks[max(last - minutes * _POINTS, 0) : last + 1])

    def _played(self, now: datetime) -> int:
        """The number of the tick that is played at `now`."""
        played = int((now - self.started_at).total_seconds() * float(SPEED) * _POINTS)
        return min(max(played, 0), len(self.ticks) - 1)


def _ticks(row: dict[str, str]) -> list[Tick]:
    opened_at = datetime.fromisoformat(row["open_time"])
    first, high, low, last = (Decimal(row[column]) for column in ("open", "high", "low", "close"))
    between = (low, high) if last >= first else (high, low)
    return [Tick(opened_at, price) for price in (first, *between, last)]
