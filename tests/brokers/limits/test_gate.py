"""Who goes next: the most urgent, every account in its turn, and nobody after it is too late."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from app.brokers.limits.buckets import Charge, Limit, Urgency
from app.brokers.limits.gate import ROOM, Gate, Stopped
from app.brokers.limits.ledger import Ledger

ADDRESS = "venue:live:from:here"
PATIENT = 1e7


def per_second(number: float, burst: float = 1.0) -> Limit:
    """So many a second once the burst is gone."""
    return Limit(burst + 60 * number, 60, burst)


@dataclass
class Way:
    """A gate with one limit of its address, and what went through it, in order."""

    limit: Limit
    gate: Gate = field(default_factory=lambda: Gate(Ledger(), ADDRESS))
    sent: list[tuple[str, Urgency]] = field(default_factory=list)

    def charges(self, units: float = 1) -> list[Charge]:
        """What a request takes of the address."""
        return [Charge(f"{ADDRESS}/limit", self.limit, units)]

    async def send(
        self,
        urgency: Urgency,
        account: str = "",
        *,
        patience: float = PATIENT,
        own: Sequence[Charge] = (),
        takes: float = 0,
    ) -> None:
        """Wait for a turn, and be under way for `takes` seconds."""
        async with self.gate.turn(account, [*self.charges(), *own], urgency, patience):
            self.sent.append((account, urgency))
            await asyncio.sleep(takes)

    def queue(self, number: int, urgency: Urgency = Urgency.POLL) -> list[asyncio.Task[None]]:
        """So many requests of as many accounts, none of which has had its turn."""
        return [asyncio.create_task(self.send(urgency, f"account-{each}")) for each in range(number)]

    async def settled(self) -> None:
        """Let everybody join the queue."""
        for _ in range(10):
            await asyncio.sleep(0)


async def ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """End whoever still waits."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def way() -> AsyncIterator[Way]:
    """A hundred a second, ten at once."""
    opened = Way(per_second(100, 10))
    yield opened
    await opened.gate.close()


async def test_the_most_urgent_goes_next(way: Way) -> None:
    way.limit = per_second(50)
    first = asyncio.create_task(way.send(Urgency.POLL))
    await way.settled()
    waiting = [Urgency.POLL, Urgency.POLL, Urgency.ENTRY, Urgency.PROTECTION, Urgency.EXIT]
    await asyncio.gather(first, *(way.send(each) for each in waiting))
    assert [urgency for _, urgency in way.sent] == [
        Urgency.POLL,
        Urgency.EXIT,
        Urgency.PROTECTION,
        Urgency.ENTRY,
        Urgency.POLL,
        Urgency.POLL,
    ]


@pytest.mark.parametrize("urgency", [Urgency.EXIT, Urgency.PROTECTION])
async def test_an_exit_behind_a_thousand_polls_is_among_the_next_to_go(way: Way, urgency: Urgency) -> None:
    polls = way.queue(1000)
    await way.settled()
    before = len(way.sent)
    await asyncio.wait_for(way.send(urgency, "leaving"), timeout=10)
    assert way.sent.index(("leaving", urgency)) - before <= 1
    await ended(polls)


async def test_exits_go_at_once_while_polls_have_to_wait(way: Way) -> None:
    # A pace at which no poll gets its turn any more while the test lasts.
    way.limit = Limit(1000 + 100, 1_000_000, 100)
    polls = way.queue(1000)
    while len(way.sent) < 40:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(asyncio.gather(*(way.send(Urgency.EXIT, f"leaving-{n}") for n in range(60))), 10)
    assert sum(urgency is Urgency.POLL for _, urgency in way.sent) == 40
    await ended(polls)


async def test_every_account_has_its_turn(way: Way) -> None:
    way.limit = per_second(500)
    greedy = [asyncio.create_task(way.send(Urgency.POLL, "greedy")) for _ in range(50)]
    await way.settled()
    modest = way.queue(5)
    await asyncio.wait_for(asyncio.gather(*modest), timeout=10)
    assert sum(account == "greedy" for account, _ in way.sent) <= 7
    await ended(greedy)


async def test_an_account_short_of_its_own_limit_holds_nobody_up(way: Way) -> None:
    exhausted = Charge("account/orders", Limit(2, 1_000_000, 1), 1)
    await way.send(Urgency.EXIT, "busy", own=[exhausted])
    stuck = asyncio.create_task(way.send(Urgency.EXIT, "busy", own=[exhausted]))
    await way.settled()
    await asyncio.wait_for(way.send(Urgency.POLL, "other"), timeout=10)
    await asyncio.wait_for(way.send(Urgency.EXIT, "busy"), timeout=10)
    assert not stuck.done()
    await ended([stuck])


async def test_who_cannot_go_in_time_is_told_and_not_sent(way: Way) -> None:
    way.limit = Limit(2, 1_000_000, 1)
    await way.send(Urgency.EXIT)
    with pytest.raises(Stopped):
        await asyncio.wait_for(way.send(Urgency.EXIT, patience=0.05), timeout=10)
    assert len(way.sent) == 1


async def test_a_silence_that_outlasts_the_patience_is_told_at_once(way: Way) -> None:
    way.gate.ledger.hush(ADDRESS, 1000)
    with pytest.raises(Stopped):
        await asyncio.wait_for(way.send(Urgency.EXIT, patience=500), timeout=30)
    assert way.sent == []


async def test_a_shorter_silence_is_waited_for(way: Way) -> None:
    loop = asyncio.get_running_loop()
    way.gate.ledger.hush(ADDRESS, 0.2)
    began = loop.time()
    await way.send(Urgency.EXIT)
    assert loop.time() - began >= 0.19


async def test_who_gives_up_holds_nobody_up_and_gives_the_turn_back(way: Way) -> None:
    for _ in range(20):
        tasks = [asyncio.create_task(way.send(Urgency.POLL, "one")) for _ in range(5)]
        await asyncio.sleep(0)
        await ended(tasks)
    # Had a single turn been lost each time, there would be none left.
    assert ROOM[Urgency.POLL] < 20
    await asyncio.wait_for(way.send(Urgency.POLL, "two"), timeout=20)


async def test_a_venue_that_does_not_answer_polls_still_has_room_for_an_exit(way: Way) -> None:
    way.limit = per_second(10_000, 1000)
    hanging = [asyncio.create_task(way.send(Urgency.POLL, f"a-{n}", takes=PATIENT)) for n in range(100)]
    while len(way.sent) < ROOM[Urgency.POLL]:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(way.send(Urgency.EXIT, "leaving"), timeout=10)
    assert len(way.sent) == ROOM[Urgency.POLL] + 1
    await ended(hanging)


async def test_a_redis_that_is_stuck_holds_no_exit_up(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client, Redis.from_url(redis_url) as hand:
        way = Way(per_second(100, 10), Gate(Ledger(client), ADDRESS))
        await way.send(Urgency.EXIT)
        await hand.client_pause(3000)
        began = asyncio.get_running_loop().time()
        await way.send(Urgency.EXIT)
        assert asyncio.get_running_loop().time() - began < 2.5
        await way.gate.close()


async def test_every_wait_is_told_with_its_urgency_whether_or_not_it_came_to_its_turn() -> None:
    waits: list[tuple[Urgency, float]] = []
    gate = Gate(Ledger(), ADDRESS, lambda urgency, seconds: waits.append((urgency, seconds)))
    way = Way(per_second(10), gate)
    await way.send(Urgency.EXIT)
    await way.send(Urgency.ENTRY)
    with pytest.raises(Stopped):
        await way.send(Urgency.POLL, patience=0.01)
    await gate.close()
    assert [urgency for urgency, _ in waits] == [Urgency.EXIT, Urgency.ENTRY, Urgency.POLL]
    (_, first), (_, second), _ = waits
    assert first < 0.05 <= second
