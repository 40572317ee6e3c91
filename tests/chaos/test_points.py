"""A process may die between any two of its steps: the engine's whole way is stopped at each of them, once."""

import json

import pytest

from tests.chaos.conftest import Play


@pytest.mark.long
async def test_a_death_at_every_twelfth_step(play: Play) -> None:
    told = await play("march", "--every", "12", "--signals", "40")
    assert told["broken"] == {}, told["findings"]
    assert told["deaths"] == told["points"] - len(told["unreached"]) > 15


@pytest.mark.long
async def test_a_death_at_every_step(play: Play) -> None:
    told = await play("march", "--signals", "600")
    print(json.dumps(told, indent=1))  # noqa: T201 - which steps were never taken is for people to read
    assert told["broken"] == {}, told["findings"]
    assert told["deaths"] == told["points"] - len(told["unreached"]) > 300
