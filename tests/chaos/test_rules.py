"""The checker can fail: with any safety rule taken out of a copy of the program, it finds what goes wrong."""

import pytest

from tests.chaos.conftest import Play
from tests.chaos.rules import LAST_WALLS, RULES, Rule
from tests.chaos.scenes import SCENES


async def test_with_every_rule_in_place_every_scene_ends_well(play: Play) -> None:
    told = await play(*SCENES)
    assert told["broken"] == {}, told["findings"]
    assert told["counts"]["signals"] == len(SCENES) + 1
    assert told["counts"]["second attempts"] >= 2


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
async def test_without_the_rule_the_checker_finds(play: Play, rule: Rule) -> None:
    told = await play(rule.scene, without=rule)
    assert rule.broken in told["broken"], told


@pytest.mark.parametrize("wall", LAST_WALLS, ids=lambda wall: wall.name)
async def test_the_last_wall_holds_by_itself(play: Play, wall: Rule) -> None:
    told = await play(wall.scene, without=wall)
    assert told["broken"] == {}, told["findings"]
