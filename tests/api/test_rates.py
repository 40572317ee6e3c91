"""Rates: what is too much, for whom, over how many processes, and that a signed signal is never too much."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest
from pydantic import SecretStr

from app.api import rates
from app.api.problems import RateLimited
from app.api.rates import Counted, Rates
from app.desk import Desk, open_redis
from app.local.webhook import signed_headers
from app.main import create_app
from app.settings import Settings
from tests.api.scene import ADMIN_ANN, ANN, BOB, Clock, Platform

WEBHOOK: Final = "/v1/webhooks/signals"
EVENT: Final = b'{"type": "something.else", "timestamp": "2026-11-24T12:00:00Z", "data": {}}'


@asynccontextmanager
async def _process(settings: Settings, desk: Desk, **limits: int) -> AsyncIterator[httpx.AsyncClient]:
    """One process of the API with low limits."""
    app = create_app(settings.model_copy(update=limits), desk)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client,
    ):
        yield client


@pytest.fixture
def platform(settings: Settings) -> Platform:
    """Who issues tokens."""
    return Platform(settings)


async def _statuses(
    client: httpx.AsyncClient, times: int, method: str, path: str, **options: Any
) -> list[int]:
    return [(await client.request(method, path, **options)).status_code for _ in range(times)]


async def test_too_many_requests_are_told_when_to_go_on(
    settings: Settings, desk: Desk, platform: Platform, clock: Clock
) -> None:
    clock.move(timedelta(seconds=48))
    async with _process(settings, desk, rate_limit_per_minute=3) as client:
        headers = platform.bearer(ANN)
        assert await _statuses(client, 3, "GET", "/v1/me", headers=headers) == [200] * 3
        refused = await client.get("/v1/me", headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "12")
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json() | {"request_id": ""} == {
            "type": "urn:problem-type:rate_limited",
            "title": "Too many requests",
            "status": 429,
            "detail": "Too many requests; go on in 12 s.",
            "code": "rate_limited",
            "request_id": "",
        }
        clock.move(timedelta(seconds=12))
        assert (await client.get("/v1/me", headers=headers)).status_code == 200


async def test_everybody_is_counted_by_themselves(settings: Settings, desk: Desk, platform: Platform) -> None:
    async with _process(settings, desk, rate_limit_per_minute=2) as client:
        for owner in (ANN, BOB, ADMIN_ANN):
            statuses = await _statuses(client, 3, "GET", "/v1/me", headers=platform.bearer(owner))
            assert statuses == [200, 200, 429], owner
        # Reading too much keeps nobody from changing something, the kill switch least of all.
        halt = {"json": {"state": "halted", "reason": "now"}, "headers": platform.bearer(ADMIN_ANN)}
        assert await _statuses(client, 3, "POST", "/v1/admin/trading", **halt) == [200, 200, 429]
        assert await _statuses(client, 2, "GET", "/livez") == [200, 200]
        assert await _statuses(client, 9, "GET", "/v1/me") == [401] * 9


async def test_processes_count_together(settings: Settings, desk: Desk, platform: Platform) -> None:
    headers = platform.bearer(ANN)
    async with AsyncExitStack() as processes:
        first, second = [
            await processes.enter_async_context(_process(settings, desk, rate_limit_per_minute=4))
            for _ in range(2)
        ]
        assert await _statuses(first, 3, "GET", "/v1/me", headers=headers) == [200] * 3
        assert await _statuses(second, 2, "GET", "/v1/me", headers=headers) == [200, 429]


async def test_without_redis_each_counts_alone_and_nobody_waits(
    settings: Settings, desk: Desk, platform: Platform
) -> None:
    headers = platform.bearer(ANN)
    away = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    async with AsyncExitStack() as processes:
        for _ in range(2):
            client = await processes.enter_async_context(_process(away, desk, rate_limit_per_minute=3))
            assert await _statuses(client, 4, "GET", "/v1/me", headers=headers) == [200, 200, 200, 429]


async def test_a_redis_that_never_answers_is_given_up_at_once() -> None:
    async def listen(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stopped.wait()
        writer.close()

    stopped = asyncio.Event()
    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    redis = open_redis(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    counting = Rates(redis, lambda: datetime(2026, 11, 24, tzinfo=UTC), {Counted.READS: 50})
    started = time.monotonic()
    for _ in range(50):
        await counting.count(Counted.READS, "ann")
    with pytest.raises(RateLimited):
        await counting.count(Counted.READS, "ann")
    assert time.monotonic() - started < 20 * rates.PATIENCE_SECONDS
    stopped.set()
    await redis.aclose()
    server.close()
    await server.wait_closed()


async def test_unsigned_messages_are_limited_and_signed_ones_never(
    settings: Settings, desk: Desk, clock: Clock
) -> None:
    async with _process(settings, desk, unsigned_limit_per_minute=2) as client:
        unsigned: dict[str, Any] = {
            "content": EVENT,
            "headers": {"webhook-id": "1", "webhook-timestamp": "1"},
        }
        assert await _statuses(client, 4, "POST", WEBHOOK, **unsigned) == [401, 401, 429, 429]
        refused = await client.post(WEBHOOK, **unsigned)
        assert (refused.json()["code"], refused.headers["retry-after"]) == ("rate_limited", "60")
        for _ in range(5):
            headers = signed_headers(settings.webhook_secrets[0], EVENT.decode(), clock())
            answer = await client.post(WEBHOOK, content=EVENT, headers=headers)
            assert (answer.status_code, answer.json()["status"]) == (202, "ignored")
        clock.move(timedelta(minutes=1))
        assert await _statuses(client, 1, "POST", WEBHOOK, **unsigned) == [401]
