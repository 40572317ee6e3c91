"""Stops that move: where break-even is, how a stop trails, and that it only ever tightens."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.exits import CloseReason, Rung
from app.domain.orders import Side
from app.domain.signals import Level
from app.domain.stops import (
    Management,
    Progress,
    Stop,
    Trailing,
    best_of,
    break_even,
    targets_taken,
    tightened,
)

TICK = Decimal("0.01")
PRICES = st.decimals(Decimal(1), Decimal(100_000), places=2)
PERCENTS = st.decimals(Decimal("0.01"), Decimal(99), places=2)
SIDES = st.sampled_from(Side)
TRAILING = Management(trailing=Trailing(Decimal(2), Decimal(1)))


def progress(best: str, side: Side = Side.BUY, taken: int = 0) -> Progress:
    """A position opened at 100."""
    return Progress(side, Decimal(100), Decimal(best), taken)


def test_terms_are_read_as_they_are_kept() -> None:
    stored = {
        "break_even_after_tp": 1,
        "break_even_at_percent": "1.5",
        "trailing": {"activation_percent": "2", "distance_percent": "0.5"},
        "max_hold_minutes": 90,
        "fee_rate": "0.001",
    }
    assert Management.read(stored) == Management(
        1,
        Decimal("1.5"),
        Trailing(Decimal(2), Decimal("0.5")),
        timedelta(minutes=90),
        Decimal("0.001"),
    )
    assert Management.read({}) == Management()


@given(side=SIDES, entry=PRICES, fee=st.decimals(Decimal(0), Decimal("0.01"), places=4))
def test_leaving_at_break_even_loses_nothing(side: Side, entry: Decimal, fee: Decimal) -> None:
    price = break_even(side, entry, fee, TICK)
    assert (price - entry) * side.sign - fee * (entry + price) >= 0
    one_tick_worse = price - side.sign * TICK
    assert (one_tick_worse - entry) * side.sign - fee * (entry + one_tick_worse) < 0


@pytest.mark.parametrize(
    ("best", "present", "wanted"),
    [
        ("101.99", "95", None),
        ("102", "95", Stop(Decimal("100.98"), CloseReason.TRAILING_STOP)),
        ("110", None, Stop(Decimal("108.9"), CloseReason.TRAILING_STOP)),
        ("110", "108.9", None),
        ("110", "109", None),
    ],
)
def test_a_stop_trails_behind_the_best_price_once_it_is_active(
    best: str, present: str | None, wanted: Stop | None
) -> None:
    stop = None if present is None else Decimal(present)
    assert tightened(TRAILING, progress(best), stop, TICK) == wanted


def test_a_short_is_the_mirror_image() -> None:
    assert tightened(TRAILING, progress("90", Side.SELL), Decimal(105), TICK) == Stop(
        Decimal("90.9"), CloseReason.TRAILING_STOP
    )
    after = Management(break_even_after_tp=1, fee_rate=Decimal("0.001"))
    moved = tightened(after, progress("90", Side.SELL, taken=1), Decimal(105), TICK)
    assert moved == Stop(Decimal("99.8"), CloseReason.STOP_LOSS)


def test_break_even_comes_after_a_level_or_at_a_gain() -> None:
    after = Management(break_even_after_tp=2)
    assert tightened(after, progress("150", taken=1), None, TICK) is None
    even = Stop(Decimal(100), CloseReason.STOP_LOSS)
    assert tightened(after, progress("150", taken=2), None, TICK) == even
    at = Management(break_even_at_percent=Decimal(5))
    assert tightened(at, progress("104.99"), None, TICK) is None
    assert tightened(at, progress("105"), None, TICK) == even


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_break_even_waits_until_the_price_is_beyond_it(side: Side) -> None:
    terms = Management(break_even_after_tp=1, break_even_at_percent=Decimal("0.1"), fee_rate=Decimal("0.001"))
    within, beyond = (Decimal(100) + side.sign * Decimal(gain) for gain in ("0.15", "0.25"))
    assert tightened(terms, progress(str(within), side, taken=1), None, TICK) is None
    even = break_even(side, Decimal(100), terms.fee_rate, TICK)
    assert within * side.sign < even * side.sign < beyond * side.sign
    assert tightened(terms, progress(str(beyond), side, taken=1), None, TICK) == Stop(
        even, CloseReason.STOP_LOSS
    )


@given(
    side=SIDES,
    entry=PRICES,
    path=st.lists(PRICES, min_size=1, max_size=20),
    activation=PERCENTS,
    distance=PERCENTS,
    gain=st.none() | PERCENTS,
    after=st.none() | st.integers(1, 3),
    taken=st.integers(0, 3),
)
def test_a_stop_only_ever_tightens(
    side: Side,
    entry: Decimal,
    path: list[Decimal],
    activation: Decimal,
    distance: Decimal,
    gain: Decimal | None,
    after: int | None,
    taken: int,
) -> None:
    terms = Management(after, gain, Trailing(activation, distance), fee_rate=Decimal("0.001"))
    stop: Decimal | None = None
    best: Decimal | None = None
    for price in path:
        best = best_of(side, best, price)
        moved = tightened(terms, Progress(side, entry, best, taken), stop, TICK)
        if moved is not None:
            assert stop is None or moved.price * side.sign > stop * side.sign
            stop = moved.price
    assert best is not None
    assert best * side.sign == max(price * side.sign for price in path)


def test_a_level_that_was_merged_counts_with_the_rung_it_went_into() -> None:
    levels = [Level(Decimal(price), Decimal("0.25")) for price in (101, 102, 103, 104)]
    one, two = Rung(Decimal(102), Decimal(1)), Rung(Decimal(104), Decimal(1))
    assert targets_taken(Side.BUY, levels, [(one, Decimal(0)), (two, Decimal(0))]) == 0
    assert targets_taken(Side.BUY, levels, [(one, Decimal("0.9")), (two, Decimal(0))]) == 0
    assert targets_taken(Side.BUY, levels, [(one, Decimal(1)), (two, Decimal(0))]) == 2
    assert targets_taken(Side.BUY, levels, [(one, Decimal(1)), (two, Decimal(1))]) == 4
    mirrored = [Level(Decimal(price), Decimal("0.5")) for price in (99, 98)]
    assert targets_taken(Side.SELL, mirrored, [(Rung(Decimal(99), Decimal(1)), Decimal(1))]) == 1
