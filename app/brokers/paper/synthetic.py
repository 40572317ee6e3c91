"""A market nobody made up twice: seeded noise, one candle a second, for ever.

The price is value noise in octaves, computed in integers: each octave draws a number for every lattice point
from a hash and moves in a straight line from one to the next. Four times the spacing goes with twice the
amplitude, as far as a random walk gets. The sum is bounded: the price stays within 68 % to 132 % of its base.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from app.brokers.paper.tape import Candle, Pace
from app.domain.money import exact

OCTAVES: Final[tuple[tuple[int, int], ...]] = tuple((4 ** (n + 1), 2**n) for n in range(9))
"""Spacing of the lattice in seconds (4 s to 3 days), and amplitude in units of 1/1600 of the base price."""

_DRAW: Final = 2**31
"""Draws lie in −2³¹ ≤ draw < 2³¹."""

_WHOLE: Final = 1600 * _DRAW
"""A displacement of this much is the base price once."""

_WICK: Final = 20_000
"""A candle's high and low reach at most 1/20000 of the base price beyond open and close."""

_PACE: Final = Pace(datetime(1970, 1, 1, tzinfo=UTC), Decimal(1))


@lru_cache(maxsize=65_536)
def _draw(key: str, octave: int, lattice: int) -> int:
    """The number a hash assigns to one lattice point."""
    digest = blake2b(f"{key}:{octave}:{lattice}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) - _DRAW


class Synthetic:
    """The tape of one coin: the same for everyone who asks with the same seed and coin."""

    length: int | None = None
    pace = _PACE

    @exact
    def __init__(self, seed: str, coin: str, base_price: Decimal, tick: Decimal) -> None:
        self._key = f"{seed}:{coin}"
        self._tick = tick
        self._base = int(base_price / tick)

    def jumps_to(self, point: int) -> bool:  # noqa: ARG002 - as every tape is asked
        """Never: each candle opens at the close before."""
        return False

    @exact
    def candle(self, number: int) -> Candle:
        """The candle of that second; it opens at the close before."""
        opening, closing = self._boundary(number), self._boundary(number + 1)
        above, below = (self._wick(number, end) for end in ("high", "low"))
        return Candle(
            open=opening * self._tick,
            high=(max(opening, closing) + above) * self._tick,
            low=(min(opening, closing) - below) * self._tick,
            close=closing * self._tick,
        )

    @exact
    def extent(self, first: int, last: int) -> tuple[Decimal, Decimal]:
        """Bounds of every price in the candles `first` to `last`: lowest, highest."""
        ranges = [_octave_range(self._key, octave, first, last + 1) for octave in range(len(OCTAVES))]
        reach = self._base // _WICK + 1
        lowest = self._ticks(sum(low for low, _ in ranges)) - reach
        highest = self._ticks(sum(high for _, high in ranges)) + reach
        return lowest * self._tick, highest * self._tick

    def _boundary(self, second: int) -> int:
        """The price in ticks where one candle closes and the next opens."""
        return self._ticks(sum(_octave(self._key, octave, second) for octave in range(len(OCTAVES))))

    def _ticks(self, displacement: int) -> int:
        return self._base + self._base * displacement // _WHOLE

    def _wick(self, number: int, end: str) -> int:
        """Ticks by which a candle goes beyond its body."""
        draw = blake2b(f"{self._key}:{end}:{number}".encode(), digest_size=4).digest()
        return self._base * int.from_bytes(draw) // (2 * _DRAW * _WICK)


def _octave(key: str, octave: int, second: int) -> int:
    """One octave's displacement at a second: on the line between the two lattice points around it."""
    spacing, amplitude = OCTAVES[octave]
    lattice, into = divmod(second, spacing)
    if not into:
        return amplitude * _draw(key, octave, lattice)
    line = _draw(key, octave, lattice) * (spacing - into) + _draw(key, octave, lattice + 1) * into
    return amplitude * line // spacing


def _octave_range(key: str, octave: int, first: int, last: int) -> tuple[int, int]:
    """Bounds of one octave between two seconds: exact where it has few corners, else its whole amplitude."""
    spacing, amplitude = OCTAVES[octave]
    if last - first > 2 * spacing:
        return -amplitude * _DRAW, amplitude * _DRAW
    values = list(_corners(key, octave, first, last))
    return min(values), max(values)


def _corners(key: str, octave: int, first: int, last: int) -> Iterator[int]:
    """The octave's values at both ends and at every lattice point between: it is straight everywhere else."""
    spacing, _ = OCTAVES[octave]
    yield _octave(key, octave, first)
    yield _octave(key, octave, last)
    for lattice in range(first // spacing + 1, last // spacing + 1):
        yield _octave(key, octave, lattice * spacing)
