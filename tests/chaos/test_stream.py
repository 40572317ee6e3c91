"""A fault on every step: signals over all simulated exchanges end with nothing twice, nothing lost, nothing untrue."""

import json

import pytest

from tests.chaos.conftest import Play, Played
from tests.chaos.stream import ACCIDENTS, ODDITIES, within
from tests.venues.wire import Intent


def check(told: Played, signals: int) -> None:
    """Everything was sent, much of it went wrong on the way, and nothing is wrong in the end."""
    assert told["broken"] == {}, told["findings"]
    counts = told["counts"]
    assert counts["signals"] == counts["executions"] == signals
    # How many are closed or run away from before they are entered is chance: the dice are seeded, the clock is not.
    assert counts["execution executed"] > signals / 4
    assert told["slowest_to_settle"] <= within(sweeps=2).total_seconds()


def check_all_was_met(told: Played) -> None:
    """Every accident struck, and every kind of request was struck; in a short run that would be luck."""
    struck = {name.partition(" / ")[0] for name in told["faults"]}
    assert struck == {fault.name for fault in (*ACCIDENTS, *ODDITIES)}
    asked = {name.partition(" / ")[2] for name in told["faults"]}
    assert {Intent.PLACE.name, Intent.CANCEL.name, Intent.LOOK.name, Intent.ACCOUNT.name} <= asked


async def test_a_hundred_signals_with_a_fault_on_every_step(play: Play) -> None:
    told = await play("stream", "--seed", "1", "--signals", "100")
    print(json.dumps(told, indent=1))  # noqa: T201 - the counts are what this is about
    check(told, 100)
    assert sum(told["faults"].values()) > 50


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 4))
async def test_five_hundred_signals_with_a_fault_on_every_step(play: Play, seed: int) -> None:
    told = await play("stream", "--seed", str(seed), "--signals", "500")
    print(f"seed {seed}: {json.dumps(told, indent=1)}")  # noqa: T201 - as above
    check(told, 500)
    check_all_was_met(told)
    assert told["deaths"] > 10
