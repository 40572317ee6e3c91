"""Candles for tests: made by hand, drawn by hypothesis, and put on a tape."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st

from app.brokers.paper.recording import Recording
from app.brokers.paper.tape import Candle, Pace

START = datetime(2023, 3, 10, tzinfo=UTC)
"""When the tapes of these tests begin."""


def candle(opening: int | str, high: int | str, low: int | str, close: int | str) -> Candle:
    """A candle of exact prices."""
    return Candle(Decimal(opening), Decimal(high), Decimal(low), Decimal(close))


def recording(played: Sequence[Candle], speed: str = "1") -> Recording:
    """A tape that begins at START."""
    return Recording(played, Pace(START, Decimal(speed)))


@st.composite
def candles(draw: st.DrawFn, *, most: int = 15) -> list[Candle]:
    """Up to `most` candles around 100, with gaps between some of them."""
    played = []
    for _ in range(draw(st.integers(1, most))):
        prices = sorted(draw(st.lists(st.integers(80, 120), min_size=4, max_size=4)))
        opening, close = draw(st.permutations(prices[1:3]))
        played.append(candle(opening, prices[3], prices[0], close))
    return played
