"""The arithmetic: no window ever holds more than the limit, and what is kept for exits is there for them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.brokers.limits.buckets import SHARES, Charge, Limit, Urgency, raised, spaced, taken, wait_for

SLACK = 1e-6

limits = st.builds(
    lambda capacity, share, seconds: Limit(capacity, seconds, capacity * share),
    st.floats(2, 5000),
    st.floats(0.05, 0.9),
    st.floats(0.5, 120),
)
urgencies = st.sampled_from(Urgency)
asked = st.tuples(st.floats(0, 5), st.floats(0.01, 1), urgencies)
"""Seconds since the one before, units as a part of the burst, urgency."""


def charge(limit: Limit, units: float = 1.0) -> Charge:
    """Some units of one bucket."""
    return Charge("scope/limit", limit, units)


def let_through(
    limit: Limit, requests: list[tuple[float, float, Urgency]], due: float = 0.0
) -> list[tuple[float, float]]:
    """When each request that found room went, and what it took."""
    now, went = 1000.0, []
    for gap, part, urgency in requests:
        now += gap
        each = charge(limit, part * limit.burst)
        if wait_for(due, each, urgency, now) == 0:
            due = taken(due, each, now)
            went.append((now, each.units))
    return went


@given(limits, st.lists(asked, max_size=80))
def test_no_window_holds_more_than_the_limit(
    limit: Limit, requests: list[tuple[float, float, Urgency]]
) -> None:
    went = let_through(limit, requests)
    for began, _ in went:
        in_window = sum(units for moment, units in went if began <= moment < began + limit.seconds)
        assert in_window <= limit.capacity * (1 + SLACK)


@given(limits, st.lists(asked, max_size=40), asked)
def test_who_waits_as_long_as_told_finds_room(
    limit: Limit, requests: list[tuple[float, float, Urgency]], last: tuple[float, float, Urgency]
) -> None:
    due, now = 0.0, 1000.0
    for gap, part, _ in requests:
        now += gap
        due = taken(due, charge(limit, part * limit.burst), now)
    each = charge(limit, last[1] * limit.burst)
    wait = wait_for(due, each, last[2], now)
    assert wait_for(due, each, last[2], now + wait) <= SLACK


@given(limits, st.floats(0.01, 0.5))
def test_what_polls_leave_is_there_for_an_exit(limit: Limit, part: float) -> None:
    due, now = 0.0, 1000.0
    poll = charge(limit, min(part, SHARES[Urgency.POLL]) * limit.burst)
    while wait_for(due, poll, Urgency.POLL, now) == 0:
        due = taken(due, poll, now)
    kept = (SHARES[Urgency.EXIT] - SHARES[Urgency.POLL]) * limit.burst
    assert wait_for(due, charge(limit, kept), Urgency.EXIT, now) <= SLACK


@given(limits, st.floats(0.01, 1))
def test_the_more_urgent_never_waits_longer(limit: Limit, part: float) -> None:
    due = 1000.0 + limit.burst * limit.pace
    waits = [wait_for(due, charge(limit, part * limit.burst), urgency, 1000.0) for urgency in Urgency]
    assert all(sooner <= later for sooner, later in pairwise(waits))


@given(limits, st.floats(0, 1.2), st.floats(0.1, 1), st.floats(0, 100), st.lists(asked, max_size=60))
def test_after_the_venue_has_spoken_no_more_than_the_rest_goes_in_its_window(
    limit: Limit, part: float, left: float, before: float, requests: list[tuple[float, float, Urgency]]
) -> None:
    until = 1000.0 + left * limit.seconds
    used = part * limit.capacity
    due = raised(1000.0 - before, limit, used, until)
    assert due >= 1000.0 - before
    went = let_through(limit, requests, due)
    rest = max(0.0, limit.capacity - used)
    assert sum(units for moment, units in went if moment < until) <= rest + limit.capacity * SLACK


@given(limits, st.floats(0, 1), st.floats(0, 1))
def test_a_lower_figure_of_the_venue_lowers_nothing(limit: Limit, first: float, second: float) -> None:
    due = raised(0.0, limit, first * limit.capacity, 1030.0)
    assert raised(due, limit, second * limit.capacity, 1030.0) >= due


def test_what_is_larger_than_the_burst_goes_alone_and_is_paid_for_afterwards() -> None:
    limit = spaced(1.0)
    heavy = charge(limit, 6)
    assert wait_for(0.0, heavy, Urgency.POLL, 1000.0) == 0
    due = taken(0.0, heavy, 1000.0)
    assert wait_for(due, heavy, Urgency.EXIT, 1000.0) == 6
    assert wait_for(due, charge(limit), Urgency.EXIT, 1000.0) == 6


def test_a_pace_is_kept_after_a_second_s_worth() -> None:
    limit = spaced(0.05)
    assert limit.burst == 20
    assert limit.pace == pytest.approx(0.05)


@pytest.mark.parametrize("burst", [0.0, 10.0, 11.0])
def test_a_burst_that_leaves_nothing_to_spread_is_no_limit(burst: float) -> None:
    with pytest.raises(ValueError, match="burst"):
        Limit(10, 1, burst)
