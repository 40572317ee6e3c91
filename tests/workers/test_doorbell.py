"""The doorbell: jobs under way when Redis is lost end without it, soon, and the event loop has nothing to report."""

import asyncio
import gc
import signal
from typing import Any, Final

import pytest
import structlog

from app.desk import open_redis
from app.engine.sweeping import Finding
from app.queue import RedisQueue
from app.settings import settings_from
from app.store.schema import new_id
from tests.workers.processes import ARQ_PIPELINE, own_redis, until
from workers.doorbell import listen

JOBS: Final = 20
"""The Redis client connects one by one: were each to wait for it in turn, listening would end after two minutes."""


class SlowHands:
    """Hands whose work does not end by itself."""

    def __init__(self) -> None:
        self.begun = 0

    async def carry_out(self, finding: Finding) -> None:
        """Begin, and wait to be called off."""
        del finding
        self.begun += 1
        await asyncio.Event().wait()


@pytest.mark.filterwarnings(ARQ_PIPELINE)
async def test_jobs_under_way_when_redis_stands_still_end_soon_and_without_a_word(
    serverless_environment: dict[str, str],
) -> None:
    hands, stopping = SlowHands(), asyncio.Event()
    loop, complaints = asyncio.get_running_loop(), list[dict[str, Any]]()
    before = asyncio.all_tasks()

    async def are_all_over() -> bool:
        return asyncio.all_tasks() <= before

    # A pipeline of arq's own that is cut off in the middle of a command has no exception; the client speaks of it, too.
    loop.set_exception_handler(
        lambda _, context: complaints.append(context) if "exception" in context else None
    )
    try:
        async with own_redis() as redis:
            settings = settings_from(serverless_environment | {"ENGINE_REDIS_URL": redis.url})
            listening = asyncio.create_task(listen(settings, {"hands": hands}, stopping))
            client, ids = open_redis(redis.url), [new_id() for _ in range(JOBS)]
            queue = RedisQueue(client)

            async def are_all_begun() -> bool:
                # A ring that takes too long on a busy machine is left; ringing twice is one job.
                await queue.execute(ids)
                return hands.begun >= JOBS

            await until(are_all_begun, seconds=60)
            await client.aclose()

            with structlog.testing.capture_logs() as logs:
                redis.process.send_signal(signal.SIGSTOP)
                await until(
                    lambda: asyncio.sleep(0, "queue_lost" in [each["event"] for each in logs]), seconds=60
                )
            stopping.set()
            async with asyncio.timeout(60):
                await listening
            await until(are_all_over, seconds=60)
            await redis.kill()
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert complaints == []
