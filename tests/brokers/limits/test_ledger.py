"""What processes know of each other's requests through a real Redis, and what is left when it is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from app.brokers.limits.buckets import Charge, Limit, Urgency
from app.brokers.limits.ledger import ASSUMED_PROCESSES, PATIENCE_SECONDS, PREFIX, Ledger
from app.desk import open_redis
from tests.servers import running_valkey

SLOW = Limit(1_000_000 + 100, 1_000_000_000, 100)
"""A hundred at once and then nothing while a test lasts."""

SCOPE = "venue:live:from:here"
_names = count()


def bucket() -> str:
    """One that nobody has touched."""
    return f"{SCOPE}/limit-{next(_names)}"


async def granted(ledger: Ledger, name: str, urgency: Urgency, units: float = 1, tries: int = 300) -> int:
    """How often a ledger lets something through before it says no."""
    charge = Charge(name, SLOW, units)
    for times in range(tries):
        if (await ledger.take([SCOPE], [charge], urgency)).wait > 0:
            return times
    return tries


GONE = 1.0
"""Seconds after which a Redis that does not answer at all is given up."""

GENEROUS = 10.0
"""Seconds of patience with a Redis that is there, for a machine that is busy with other tests."""


@asynccontextmanager
async def processes(url: str, *patience: float) -> AsyncIterator[list[Ledger]]:
    """The ledgers of several processes, each with its patience with Redis."""
    clients = [open_redis(url) for _ in patience]
    try:
        yield [Ledger(client, patience=each) for client, each in zip(clients, patience, strict=True)]
    finally:
        for client in clients:
            await client.aclose()


async def wiped(url: str) -> None:
    """A Redis that has lost everything."""
    async with Redis.from_url(url) as client:
        await client.flushall()


@pytest.fixture
async def pair(redis_url: str) -> AsyncIterator[list[Ledger]]:
    """Two processes with one Redis."""
    async with processes(redis_url, GENEROUS, GENEROUS) as ledgers:
        yield ledgers


class TestShared:
    async def test_what_one_took_is_gone_for_the_other(self, pair: list[Ledger]) -> None:
        first, second = pair
        name = bucket()
        assert await granted(first, name, Urgency.POLL, tries=30) == 30
        assert await granted(second, name, Urgency.POLL) == 10
        assert await granted(first, name, Urgency.POLL) == 0

    async def test_shares_are_kept_for_the_more_urgent_across_processes(self, pair: list[Ledger]) -> None:
        first, second = pair
        name = bucket()
        assert await granted(first, name, Urgency.POLL) == 40
        assert await granted(second, name, Urgency.ENTRY) == 20
        assert await granted(first, name, Urgency.PROTECTION) == 20
        assert await granted(second, name, Urgency.EXIT) == 20

    async def test_all_buckets_are_taken_from_or_none(self, pair: list[Ledger]) -> None:
        first, second = pair
        wide, narrow = bucket(), bucket()
        await granted(first, narrow, Urgency.EXIT)
        both = [Charge(wide, SLOW, 100), Charge(narrow, SLOW, 1)]
        refused = await second.take([SCOPE], both, Urgency.EXIT)
        assert refused.short == narrow
        assert await granted(first, wide, Urgency.EXIT) == 100

    async def test_what_the_venue_says_reaches_the_other_with_the_next_request(
        self, pair: list[Ledger]
    ) -> None:
        first, second = pair
        name = bucket()
        now = first.now()
        first.learn(name, SLOW, used=SLOW.capacity, until=now + 30)
        await granted(first, name, Urgency.EXIT)
        told = await second.take([SCOPE], [Charge(name, SLOW, 1)], Urgency.EXIT)
        assert told.short == name
        assert told.wait > 20

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        requests=st.lists(
            st.tuples(st.sampled_from(Urgency), st.integers(1, 60), st.integers(0, 30)), max_size=20
        )
    )
    async def test_redis_reckons_as_the_arithmetic_does(
        self, redis_url: str, requests: list[tuple[Urgency, int, int]]
    ) -> None:
        first, second = bucket(), bucket()
        alone = Ledger()
        async with processes(redis_url, GENEROUS) as [shared]:
            for urgency, units, others in requests:
                charges = [Charge(first, SLOW, units + 0.5)]
                charges += [Charge(second, SLOW, others + 0.5)] if others else []
                there = await shared.take([SCOPE], charges, urgency)
                here = await alone.take([SCOPE], charges, urgency)
                assert (there.wait > 0, there.short) == (here.wait > 0, here.short)
                assert there.wait == pytest.approx(here.wait, abs=5)


class TestSilence:
    async def test_a_ban_seen_by_one_is_honoured_by_the_other(self, pair: list[Ledger]) -> None:
        first, second = pair
        first.hush(SCOPE, 30)
        await first.tell()
        refused = await second.take([SCOPE], [Charge(bucket(), SLOW, 1)], Urgency.EXIT)
        assert refused.short == SCOPE
        assert 28 < refused.wait <= 30

    async def test_it_ends_by_itself(self, pair: list[Ledger]) -> None:
        first, second = pair
        first.hush(SCOPE, 0.2)
        await first.tell()
        charge = Charge(bucket(), SLOW, 1)
        refused = await second.take([SCOPE], [charge], Urgency.EXIT)
        assert refused.wait > 0
        await asyncio.sleep(refused.wait + 0.05)
        assert (await second.take([SCOPE], [charge], Urgency.EXIT)).wait == 0

    async def test_a_shorter_one_replaces_no_longer_one(self, pair: list[Ledger], redis_url: str) -> None:
        first, second = pair
        first.hush(SCOPE, 30)
        await first.tell()
        second.hush(SCOPE, 1)
        await second.tell()
        refused = await second.take([SCOPE], [Charge(bucket(), SLOW, 1)], Urgency.EXIT)
        assert refused.wait < 1
        async with processes(redis_url, GENEROUS) as [third]:
            assert (await third.take([SCOPE], [Charge(bucket(), SLOW, 1)], Urgency.EXIT)).wait > 28

    async def test_an_account_s_silence_is_nobody_else_s(self, pair: list[Ledger]) -> None:
        first, second = pair
        first.hush("venue:live:of:ann", 30)
        await first.tell()
        charge = Charge(bucket(), SLOW, 1)
        assert (await second.take([SCOPE, "venue:live:of:ann"], [charge], Urgency.EXIT)).wait > 0
        assert (await second.take([SCOPE, "venue:live:of:ben"], [charge], Urgency.EXIT)).wait == 0


class TestVanished:
    async def test_keys_that_vanish_free_nothing_that_somebody_remembers(
        self, pair: list[Ledger], redis_url: str
    ) -> None:
        first, second = pair
        name = bucket()
        assert await granted(first, name, Urgency.POLL) == 40
        await wiped(redis_url)
        assert await granted(first, name, Urgency.POLL) == 0
        assert await granted(second, name, Urgency.POLL) == 0

    async def test_a_key_of_another_kind_is_passed_by(self, pair: list[Ledger], redis_url: str) -> None:
        name = bucket()
        async with Redis.from_url(redis_url) as client:
            await client.lpush(PREFIX + name, "not a number")
        assert await granted(pair[0], name, Urgency.EXIT) == 100

    async def test_a_server_that_forgot_the_script_is_taught_it_again(
        self, pair: list[Ledger], redis_url: str
    ) -> None:
        name = bucket()
        assert await granted(pair[0], name, Urgency.POLL, tries=10) == 10
        async with Redis.from_url(redis_url) as client:
            await client.script_flush()
        assert await granted(pair[1], name, Urgency.POLL) == 30


class TestAway:
    async def test_everybody_goes_on_with_a_part_and_an_exit_with_the_rest(self) -> None:
        async with processes("redis://127.0.0.1:1/0", PATIENCE_SECONDS, PATIENCE_SECONDS) as ledgers:
            for ledger in ledgers:
                name = bucket()
                assert await granted(ledger, name, Urgency.POLL) == 40 // ASSUMED_PROCESSES
                assert await granted(ledger, name, Urgency.EXIT) == 60

    async def test_what_was_taken_before_it_went_is_remembered(self) -> None:
        async with running_valkey() as spot, processes(spot.url, GONE, GONE) as [first, second]:
            name = bucket()
            assert await granted(first, name, Urgency.POLL, tries=20) == 20
            assert await granted(second, name, Urgency.POLL, tries=4) == 4
            async with Redis.from_url(spot.url) as client:
                await client.client_pause(60_000)
            began = time.monotonic()
            assert await granted(first, name, Urgency.POLL) == 20 // ASSUMED_PROCESSES
            assert await granted(second, name, Urgency.POLL) == 16 // ASSUMED_PROCESSES
            # Each process waited for Redis once, not once for each request.
            assert time.monotonic() - began < 8 * GONE

    async def test_it_is_shared_again_when_redis_is_back(self, redis_url: str) -> None:
        async with processes(redis_url, PATIENCE_SECONDS, GENEROUS) as [first, second]:
            name = bucket()
            await granted(first, name, Urgency.POLL, tries=1)
            async with Redis.from_url(redis_url) as client:
                await client.client_pause(400)
                assert await granted(first, name, Urgency.EXIT, tries=50) == 50
                async with asyncio.timeout(20):
                    while (await second.take([SCOPE], [Charge(name, SLOW, 1)], Urgency.POLL)).wait == 0:
                        await granted(first, name, Urgency.EXIT, tries=1)
                        await asyncio.sleep(0.1)
