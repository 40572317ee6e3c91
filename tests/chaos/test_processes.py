"""Real processes, killed, stopped and restarted while signals come in: nothing twice, nothing lost, nothing left open.

A longer run is `python -m tests.chaos.run --seed N --minutes M`.
"""

import json
from pathlib import Path

import pytest

from tests.chaos.outcome import Outcome
from tests.chaos.run import run


def check(outcome: Outcome) -> None:
    """All is well in the end, and a good deal was broken on the way."""
    words = json.dumps(outcome.as_json(), indent=1)
    print(words)  # noqa: T201 - seed and counts are what a failed run is repeated by
    assert outcome.failures == [], words
    assert outcome.deeds["SIGKILL of a worker"] > 0, words
    assert outcome.verdict.counts["execution executed"] > 0, words


async def test_a_few_seconds_of_kills(tmp_path: Path) -> None:
    check(await run(seed=1, seconds=12, directory=tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("seed", [7, 8])
async def test_five_minutes_of_kills(tmp_path: Path, seed: int) -> None:
    outcome = await run(seed, seconds=300, directory=tmp_path, longest_pause=45)
    check(outcome)
    assert outcome.is_in_time, outcome.settled_after
