"""Several accounts side by side: an accident of one keeps nobody from the others, and is not kept quiet."""

import pytest

from app.engine.rooms import apart
from tests.faults import ProcessDied


async def test_everybody_has_their_turn_and_the_accidents_are_told() -> None:
    done = []

    async def deal_with(number: int) -> None:
        if number % 10 == 3:
            raise ZeroDivisionError(number)
        done.append(number)

    with pytest.raises(ExceptionGroup) as told:
        await apart(deal_with(number) for number in range(40))
    assert sorted(done) == [number for number in range(40) if number % 10 != 3]
    assert [failure.args for failure in told.value.exceptions] == [(3,), (13,), (23,), (33,)]


async def test_what_ends_the_process_is_no_accident() -> None:
    async def die() -> None:
        raise ProcessDied

    with pytest.raises(ProcessDied):
        await apart([die()])
