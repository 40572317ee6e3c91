"""The queue from the sending side: what a ring looks like in Redis, what it costs, and what it costs without Redis."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from arq.jobs import deserialize_job
from redis.asyncio import Redis

from app import queue
from app.desk import open_redis
from app.queue import RedisQueue
from app.store.schema import new_id
from tests.servers import free_port
from tests.workers.processes import own_redis, until


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = open_redis(redis_url)
    yield client
    await client.aclose()


async def rung(redis: Redis) -> dict[str, tuple[Any, ...]]:
    """Every job in the queue, by its name, with its arguments."""
    names = [name.decode() for name in await redis.zrange("arq:queue", 0, -1)]
    jobs = {}
    for name in names:
        raw = await redis.get(f"arq:job:{name}")
        job = deserialize_job(raw, deserializer=queue.deserialize)
        assert name == f"{job.function}:{job.args[0]}"
        assert job.kwargs == {}
        jobs[name] = tuple(job.args)
    return jobs


async def test_a_ring_is_a_job_that_carries_one_id(redis: Redis) -> None:
    bell = RedisQueue(redis)
    executions, close, protect, follow = [new_id(), new_id()], new_id(), new_id(), new_id()
    await bell.execute(executions)
    await bell.close_position(close)
    await bell.protect(protect)
    await bell.follow(follow)
    assert await rung(redis) == {
        **{f"execute:{each}": (str(each),) for each in executions},
        f"close_position:{close}": (str(close),),
        f"protect:{protect}": (str(protect),),
        f"follow:{follow}": (str(follow),),
    }
    for key in await redis.keys("arq:job:*"):
        assert json.loads(await redis.get(key)), "JSON, not a pickle"
        assert 0 < await redis.pttl(key) <= queue.EXPIRES_MS


async def test_what_is_rung_for_in_passing_has_rung_when_the_queue_is_closed(redis: Redis) -> None:
    bell, ids = RedisQueue(redis), [new_id(), new_id()]
    bell.deliver(ids)
    bell.deliver(ids[:1])
    await bell.close()
    assert await rung(redis) == {f"deliver:{each}": (str(each),) for each in ids}


async def test_ringing_twice_is_one_job_and_ringing_for_nothing_is_none(redis: Redis) -> None:
    bell, id_ = RedisQueue(redis), new_id()
    await bell.execute([id_])
    await bell.execute([id_])
    assert list(await rung(redis)) == [f"execute:{id_}"]
    await redis.flushall()
    await bell.execute([])
    assert await redis.dbsize() == 0


async def test_those_who_ring_together_share_the_round_trips(redis: Redis) -> None:
    bell, ids = RedisQueue(redis), [new_id() for _ in range(200)]
    await redis.config_resetstat()
    await asyncio.gather(*(bell.execute([each]) for each in ids))
    # Each has rung when its call returns; the first goes alone, the others meanwhile gather for the second.
    assert set(await rung(redis)) == {f"execute:{each}" for each in ids}
    statistics = await redis.info("commandstats")
    assert statistics["cmdstat_zadd"]["calls"] == 2
    assert statistics["cmdstat_psetex"]["calls"] == len(ids)


async def test_a_redis_that_is_away_is_said_once_and_left_alone_for_a_moment() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}/0") as away:
        bell = RedisQueue(away)
        with structlog.testing.capture_logs() as told:
            for _ in range(50):
                await bell.execute([new_id()])
    assert [each["event"] for each in told] == ["queue_unreachable"]
    assert told[0]["log_level"] == "warning"


async def test_nobody_waits_long_for_a_redis_that_does_not_answer() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent, open_redis(f"redis://127.0.0.1:{port}/0") as hung:
        bell = RedisQueue(hung)
        began = time.monotonic()
        await asyncio.gather(*(bell.execute([new_id()]) for _ in range(20)))
        assert time.monotonic() - began < 2 * queue.PATIENCE_SECONDS


async def test_it_rings_again_when_redis_is_back() -> None:
    async with own_redis() as server, open_redis(server.url) as redis:
        bell = RedisQueue(redis)
        await server.kill()
        await bell.execute([new_id()])
        await server.start()

        async def is_rung() -> bool:
            await bell.execute([new_id()])
            return bool(await rung(redis))

        await until(is_rung, seconds=2 * queue.PAUSE_SECONDS)
