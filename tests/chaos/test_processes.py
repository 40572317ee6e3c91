"""Real processes, killed, stopped and restarted while signals come in: nothing twice, nothing lost, nothing left open.

A longer run is `python -m tests.chaos.run --seed N --minutes M`.
"""

import json
from pathlib import Path

import pytest

from tests.chaos.run import SETTLE, UNCOVERED_AT_MOST, Outcome, run


def check(outcome: Outcome) -> None:
    """All is well in the end, and a good deal was broken on the way."""
    words = json.dumps(outcome.as_json(), indent=1)
    print(words)  # noqa: T201 - seed and counts are what a failed run is repeated by
    assert outcome.verdict.broken == {}, words
    assert outcome.stuck == [], words
    assert outcome.longest_uncovered < UNCOVERED_AT_MOST.total_seconds(), words
    assert outcome.deeds["SIGKILL of a worker"] > 0, words
    assert outcome.verdict.counts["execution executed"] > 0, words


async def test_a_few_seconds_of_kills(tmp_path: Path) -> None:
    check(await run(seed=1, seconds=12, executions=10_000, accounts=1, directory=tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("seed", [7, 8])
async def test_five_minutes_of_kills(tmp_path: Path, seed: int) -> None:
    outcome = await run(seed, seconds=300, executions=10_000, accounts=1, directory=tmp_path)
    check(outcome)
    assert outcome.settled_after < 10 * SETTLE.total_seconds()
