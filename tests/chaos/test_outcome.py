"""What a run is held to: the deadline of a position counts while somebody is there to keep it."""

from uuid import uuid4

from tests.chaos.outcome import UNCOVERED_AT_MOST, Moment, Outcome, Spells
from tests.chaos.verdict import Verdict

LONG = UNCOVERED_AT_MOST.total_seconds() + 1


def _run(*looks: Moment) -> Outcome:
    """One position is uncovered at each of these looks, and at none after them."""
    outcome = Outcome(1, Verdict())
    spells, held = Spells(outcome.uncovered), {(uuid4(), "BTC/USDT")}
    for look in looks:
        spells.note(held, look)
    spells.note(set(), looks[-1])
    return outcome


def test_a_position_that_nobody_could_look_at_is_listed_and_fails_nobody() -> None:
    outcome = _run(Moment(0, 0), Moment(LONG, 10))
    assert (outcome.uncovered.seconds, outcome.uncovered.served) == (LONG, 10)
    assert len(outcome.uncovered.too_long) == 1
    assert outcome.failures == []


def test_a_position_that_nobody_looked_at_fails_the_run() -> None:
    assert len(_run(Moment(0, 0), Moment(LONG, LONG)).failures) == 1


def test_spells_that_were_broken_off_do_not_add_up() -> None:
    outcome = Outcome(1, Verdict())
    spells, held = Spells(outcome.uncovered), {(uuid4(), "BTC/USDT")}
    for second in (0, 20, 40):
        spells.note(held, Moment(second, second))
        spells.note(set(), Moment(second + 15, second + 15))
    assert outcome.failures == []
