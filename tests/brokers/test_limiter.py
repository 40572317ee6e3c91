"""The limiter: spacing, urgency, and silence when a venue asks for it."""

import asyncio

import pytest

from app.brokers.crypto.limiter import Limiter, Stopped, Urgency


async def _take(limiter: Limiter, urgency: Urgency, order: list[Urgency]) -> None:
    await limiter.pass_through(1, urgency)
    order.append(urgency)


async def test_the_most_urgent_goes_next() -> None:
    limiter = Limiter(0.01)
    order: list[Urgency] = []
    await limiter.pass_through(150, Urgency.POLL)
    waiting = [Urgency.POLL, Urgency.POLL, Urgency.ENTRY, Urgency.PROTECTION, Urgency.EXIT]
    await asyncio.gather(*(_take(limiter, each, order) for each in waiting))
    # The first poll had its turn before the others came; the rest leave by urgency.
    assert order == [Urgency.POLL, Urgency.EXIT, Urgency.PROTECTION, Urgency.ENTRY, Urgency.POLL]


async def test_requests_are_spaced_after_the_burst() -> None:
    limiter = Limiter(0.02)
    loop = asyncio.get_running_loop()
    await limiter.pass_through(50, Urgency.POLL)
    started = loop.time()
    for _ in range(5):
        await limiter.pass_through(1, Urgency.POLL)
    assert loop.time() - started >= 4 * 0.02 * 0.9


async def test_a_long_silence_is_told_at_once_and_a_short_one_waited_for() -> None:
    limiter = Limiter(0.001)
    limiter.stop(60)
    with pytest.raises(Stopped):
        await limiter.pass_through(1, Urgency.EXIT)
    other = Limiter(0.001)
    other.stop(0.05)
    started = asyncio.get_running_loop().time()
    await other.pass_through(1, Urgency.EXIT)
    assert asyncio.get_running_loop().time() - started >= 0.045


async def test_who_gives_up_waiting_does_not_hold_the_others_up() -> None:
    limiter = Limiter(0.01)
    await limiter.pass_through(110, Urgency.POLL)
    first = asyncio.create_task(limiter.pass_through(1, Urgency.POLL))
    second = asyncio.create_task(limiter.pass_through(1, Urgency.POLL))
    third = asyncio.create_task(limiter.pass_through(1, Urgency.POLL))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait_for(asyncio.gather(first, third), timeout=2)
    assert second.cancelled()
