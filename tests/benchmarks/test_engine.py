"""What a signal to many, an execution and a round of the monitor cost."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select

from app.desk import Desk, open_desk
from app.domain.owners import Owner, Role
from app.domain.positions import PositionStatus
from app.engine import execution, monitoring
from app.local.webhook import PATH, signed_headers
from app.main import create_app
from app.settings import Settings
from app.store.executions import Execution, ExecutionStatus
from app.store.positions import Position
from tests.benchmarks.conftest import Figure
from tests.benchmarks.statements import Statements
from tests.desks import add_connection
from tests.engine.signals import executions, publish
from tests.workers.processes import until, working

SYNTHETIC: Final = {"prices": "synthetic", "seed": 7, "balance": "1000000"}
SMALL: Final = {"strategy": "fixed_amount", "value": "100"}
COINS: Final = ("BTC", "ETH", "BNB", "SOL", "LTC", "AVAX", "LINK", "DOT", "XRP", "ADA")


@pytest.fixture
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    """A desk as a process has it."""
    async with open_desk(settings) as desk:
        yield desk


@pytest.fixture
def statements(desk: Desk) -> Statements:
    """Whatever the desk sends from now on."""
    return Statements(desk)


async def add_accounts(desk: Desk, count: int, **fields: Any) -> None:
    """Paper accounts on the synthetic market."""
    for number in range(count):
        await add_connection(
            desk, owner=Owner(Role.ADMIN, f"admin-{number}"), paper=SYNTHETIC, sizing=SMALL, **fields
        )


async def test_a_signal_to_a_thousand_connections(
    desk: Desk, statements: Statements, settings: Settings, redis_url: str, figure: Figure
) -> None:
    await add_accounts(desk, 1000)
    app = create_app(settings, desk)
    redis = Redis.from_url(redis_url)
    taken = []
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client,
        redis,
    ):
        for number in range(11):
            now = datetime.now(UTC)
            data = {"id": f"s{number}", "symbol": "BTC/USDT", "direction": "buy"}
            body = json.dumps({"type": "signal.published", "timestamp": now.isoformat(), "data": data})
            headers = signed_headers(settings.webhook_secrets[0], body, now)
            await redis.config_resetstat()
            statements.sent.clear()
            began = time.perf_counter()
            answer = await client.post(PATH, content=body, headers=headers)
            taken.append(time.perf_counter() - began)
            assert answer.status_code == 202, answer.text
        rings = (await redis.info("commandstats"))["cmdstat_zadd"]["calls"]
        assert await redis.zcard("arq:queue") == 11_000
    figure(
        "a signal to 1,000 connections: its 202",
        f"{statistics.median(taken) * 1000:.0f} ms   {statements}   {rings} pipelined ring",
    )


async def test_executions_a_second(
    desk: Desk, environment: dict[str, str], tmp_path: Path, figure: Figure
) -> None:
    accounts = 400
    await add_accounts(desk, accounts)
    async with working(environment, tmp_path) as worker:
        await worker.until("queue_heard")
        began = time.perf_counter()
        await publish(desk, stop_loss="30000", targets=[("100000", "1")])

        async def all_done() -> bool:
            async with desk.sessions() as session:
                done = await session.scalar(
                    select(func.count()).where(Execution.status == ExecutionStatus.EXECUTED)
                )
            return done == accounts

        await until(all_done, seconds=120)
        seconds = time.perf_counter() - began
        await worker.stop()
    waits = sorted(
        (each.filled_at - each.received_at).total_seconds()
        for each in await executions(desk)
        if each.filled_at is not None
    )
    figure(
        f"executions with native stop and target, one worker, {accounts} at once",
        f"{accounts / seconds:6.0f}/s   first {waits[0] * 1000:.0f} ms   last {waits[-1]:.1f} s",
    )


@pytest.mark.parametrize("native", [False, True], ids=["watched by us", "held by the venue"])
async def test_a_round_of_the_monitor(
    desk: Desk, statements: Statements, figure: Figure, *, native: bool
) -> None:
    accounts = 100
    await add_accounts(desk, accounts, protection={"native": native})
    for coin in COINS:
        await publish(desk, coin, symbol=f"{coin}/USDT", targets=[("1000000", "1")])
    pending = [each.id for each in await executions(desk)]
    room = asyncio.Semaphore(8)

    async def execute(execution_id: Any) -> None:
        async with room:
            await execution.execute(desk, execution_id)

    await asyncio.gather(*(execute(each) for each in pending))
    async with desk.sessions() as session:
        held = await session.scalar(select(func.count()).where(Position.status == PositionStatus.OPEN))
    assert held == accounts * len(COINS)

    await monitoring.watch(desk)
    await asyncio.sleep(desk.monitor_every.total_seconds() / 2)
    statements.sent.clear()
    began = time.perf_counter()
    watched = await monitoring.watch(desk)
    seconds = time.perf_counter() - began
    assert watched == accounts
    who = "held by the venue" if native else "watched by us"
    figure(
        f"a round over {held} positions on {accounts} connections, {who}",
        f"{seconds * 1000:5.0f} ms   {statements}",
    )
