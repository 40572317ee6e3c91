"""The worker process: what is rung for is done at once, what is not rung for soon, and nothing twice."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.paper.book import PaperOrder
from app.desk import Desk, open_desk
from app.domain.exits import CloseReason
from app.domain.orders import Purpose
from app.domain.owners import Owner, Role
from app.domain.positions import PositionStatus
from app.engine import closing
from app.engine.intake import FIRST_CHANCE
from app.settings import new_vault_key, settings_from
from app.store import workers
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from app.store.positions import Position
from tests.desks import add_connection, write_recording
from tests.engine.signals import executions, orders, positions, publish
from tests.workers.processes import PLAIN_ARQ, Worker, own_redis, until, working
from workers.doorbell import DRAIN

ADMIN: Final = Owner(Role.ADMIN, "admin-0")
"""Admins need no plan."""
SYNTHETIC: Final = {"prices": "synthetic", "seed": 7}
HEALTH_CHECK: Final = "arq:queue:health-check"


async def add_account(desk: Desk, number: int = 0, **fields: Any) -> Connection:
    """An admin's paper account on the synthetic market that trades a little each time."""
    fields.setdefault("sizing", {"strategy": "fixed", "value": "0.01"})
    return await add_connection(desk, owner=Owner(Role.ADMIN, f"admin-{number}"), paper=SYNTHETIC, **fields)


async def all_are(desk: Desk, status: ExecutionStatus, count: int) -> bool:
    """Whether there are so many executions and all of them have come so far."""
    return [each.status for each in await executions(desk)] == [status] * count


async def placed(desk: Desk) -> int:
    """How many orders the venue's own book holds."""
    async with desk.sessions() as session:
        return await session.scalar(select(func.count()).select_from(PaperOrder)) or 0


async def queue_is_heard(url: str) -> bool:
    """Whether an arq worker listens: it keeps a sign of life in Redis."""
    client = Redis.from_url(url)
    try:
        return bool(await client.exists(HEALTH_CHECK))
    except (OSError, ConnectionError):
        return False
    finally:
        await client.aclose()


async def position_in(desk: Desk, base: str, status: PositionStatus) -> Position | None:
    """The position in a coin, once it has come so far."""
    found = [each for each in await positions(desk) if each.symbol.startswith(f"{base}/")]
    return found[0] if found and found[0].status is status else None


async def is_watched(desk: Desk) -> bool:
    """Whether the monitor has marked every position."""
    return all(each.marked_at is not None for each in await positions(desk))


async def waits_for(session: AsyncSession, table: str) -> bool:
    """Whether somebody waits for a lock on a table."""
    waiting = text(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = to_regclass(:table))"
    )
    return bool(await session.scalar(waiting, {"table": table}))


@pytest.fixture
async def worker(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker that hears the queue."""
    async with working(environment, tmp_path) as worker:
        await until(lambda: queue_is_heard(environment["ENGINE_REDIS_URL"]))
        yield worker


async def test_what_is_rung_for_is_executed_at_once(desk: Desk, worker: Worker) -> None:
    await add_account(desk)
    began = time.monotonic()
    await publish(desk, stop_loss="30000", targets=[("100000", "1")])
    await until(lambda: all_are(desk, ExecutionStatus.EXECUTED, 1))
    assert time.monotonic() - began < FIRST_CHANCE.total_seconds() / 2, "the sweep would have taken longer"
    [execution] = await executions(desk)
    assert (execution.attempts, execution.filled_quantity) == (1, Decimal("0.01"))
    assert len(worker.events("order_claimed")) == 1


async def test_a_worker_logs_one_json_line_per_event_and_no_secret(
    desk: Desk, worker: Worker, environment: dict[str, str]
) -> None:
    await add_account(desk)
    await publish(desk)
    await until(lambda: all_are(desk, ExecutionStatus.EXECUTED, 1))
    assert await worker.stop() == 0

    told = worker.events()
    assert {"worker_started", "order_claimed", "order_acknowledged", "worker_stopped"} <= {
        event["event"] for event in told
    }
    assert all({"event", "level", "logger", "time"} <= set(event) for event in told)
    assert {event["level"] for event in told} == {"info"}, told
    about = [event for event in told if event["event"] == "order_claimed"]
    assert about[0]["job"] == "execute"
    [execution] = await executions(desk)
    assert about[0]["job_id"] == about[0]["execution_id"] == str(execution.id)

    log = worker.log.read_text()
    secrets = [
        *(environment[f"ENGINE_{name}"] for name in ("JWT_SECRET", "WEBHOOK_SECRETS", "VAULT_KEYS")),
        *(
            environment[f"ENGINE_{name}"].split("@")[0].rpartition(":")[2]
            for name in ("DATABASE_URL", "REDIS_URL")
        ),
    ]
    assert all(len(secret) > 16 for secret in secrets)
    assert not [secret for secret in secrets if secret in log]


async def test_a_worker_says_that_it_is_alive(desk: Desk, worker: Worker) -> None:
    async def seen() -> Any:
        async with desk.sessions() as session:
            return await session.scalar(select(workers.Worker))

    row = await until(seen)
    assert row.name.endswith(f":{worker.process.pid}")
    assert abs((datetime.now(UTC) - row.seen_at).total_seconds()) < 60


async def test_losing_every_redis_key_loses_nothing(
    desk: Desk, environment: dict[str, str], tmp_path: Path
) -> None:
    for number in range(20):
        await add_account(desk, number)
    redis = Redis.from_url(environment["ENGINE_REDIS_URL"])
    try:
        await publish(desk)
        assert await redis.zcard("arq:queue") == 20
        await redis.flushall()
        async with working(environment, tmp_path) as worker:
            while not await all_are(desk, ExecutionStatus.EXECUTED, 20):
                assert worker.process.returncode is None, worker.log.read_text()
                await redis.flushall()
                await asyncio.sleep(0.05)
    finally:
        await redis.aclose()
    assert await placed(desk) == 20


# One candle a second: quiet at first, then below the stop.
FALLING: Final = [*[("20000", "20000", "20000", "20000")] * 15, *[("19000", "19000", "19000", "19000")] * 600]


async def test_without_redis_entries_and_exits_go_on_and_arq_is_back_soon_after_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    recording = write_recording(tmp_path / "btc.csv", FALLING)
    async with own_redis() as redis:
        environment |= {
            "ENGINE_REDIS_URL": redis.url,
            "ENGINE_CANDLES": json.dumps({"BTC/USDT": str(recording)}),
            "ENGINE_CANDLES_STARTED_AT": datetime.now(UTC).isoformat(),
        }
        async with open_desk(settings_from(environment)) as desk, working(environment, tmp_path) as worker:
            await add_connection(desk, owner=ADMIN, protection={"native": False})
            await until(lambda: queue_is_heard(redis.url))
            await publish(desk, "falls", stop_loss="19500")
            falling = await until(lambda: position_in(desk, "BTC", PositionStatus.OPEN))

            await redis.kill()
            await worker.until("queue_lost")
            # An entry that nobody can ring for, and its close by hand.
            await add_account(desk, sizing={"strategy": "fixed_amount", "value": "100"})
            await publish(desk, "unrung", symbol="ETH/USDT")
            unrung = await until(lambda: position_in(desk, "ETH", PositionStatus.OPEN))
            await closing.request_close(desk, ADMIN, unrung.id, None, idempotency_key=None)
            unrung = await until(lambda: position_in(desk, "ETH", PositionStatus.CLOSED))
            assert unrung.close_reason is CloseReason.MANUAL
            # An exit that nobody asks for: the price falls through a stop that only the engine watches.
            fallen = await until(lambda: position_in(desk, "BTC", PositionStatus.CLOSED), seconds=40)
            assert (fallen.id, fallen.close_reason) == (falling.id, CloseReason.STOP_LOSS)
            assert fallen.exit_price == Decimal(19000)

            await redis.start()
            back = time.monotonic()
            await until(lambda: queue_is_heard(redis.url))
            assert time.monotonic() - back < 8
            # A busy machine may be late; what is swept up is never early.
            took = []
            for coin in ("BNB", "SOL", "LTC"):
                began = time.monotonic()
                await publish(desk, f"rung {coin}", symbol=f"{coin}/USDT")
                await until(partial(position_in, desk, coin, PositionStatus.OPEN))
                took.append(time.monotonic() - began)
            assert min(took) < FIRST_CHANCE.total_seconds() / 2, "rung for, not swept up"

            assert await worker.stop() == 0
            assert worker.problems() == []


async def test_what_a_killed_worker_left_is_settled_by_the_next(
    desk: Desk, environment: dict[str, str], tmp_path: Path
) -> None:
    """Killed once between claim and placement, and once between placement and record, of two entries."""
    await add_account(desk)
    async with (
        working(environment, tmp_path) as killed,
        desk.sessions() as record_held,
        desk.sessions() as book_held,
    ):
        # Nobody can open a position: the first entry is placed and cannot be recorded.
        await record_held.execute(text("LOCK TABLE execution_positions IN SHARE MODE"))
        await publish(desk, "unrecorded")
        await until(lambda: placed(desk))
        # Nobody can write to the venue's book: the second is claimed and cannot be placed.
        await book_held.execute(text("LOCK TABLE paper_orders IN SHARE MODE"))
        await publish(desk, "unplaced", symbol="ETH/USDT")
        await until(lambda: all_are(desk, ExecutionStatus.SENDING, 2))
        await until(lambda: waits_for(book_held, "paper_orders"))
        await killed.kill()
        # What the dead one still had under way at the database fails with its connections.
        await book_held.rollback()
        await record_held.rollback()

    async with working(environment, tmp_path) as worker:
        await until(lambda: all_are(desk, ExecutionStatus.EXECUTED, 2), seconds=40)
        assert len(worker.events("order_found")) == 1
        assert len(worker.events("order_absent")) == 1
        assert await worker.stop() == 0
    by_symbol = {each.symbol.split("/")[0]: each for each in await executions(desk)}
    assert (by_symbol["BTC"].attempts, by_symbol["ETH"].attempts) == (1, 2)
    assert await placed(desk) == 2
    assert {each.status for each in await positions(desk)} == {PositionStatus.OPEN}


async def test_a_stopping_worker_finishes_what_it_has_begun(desk: Desk, worker: Worker) -> None:
    await add_account(desk)
    async with desk.sessions() as held:
        await held.execute(text("LOCK TABLE execution_positions IN SHARE MODE"))
        await publish(desk)
        await until(lambda: placed(desk))
        worker.process.terminate()
        await worker.until("worker_stopping")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await worker.process.wait()
        assert await all_are(desk, ExecutionStatus.SENDING, 1), "at the venue, and not yet recorded"
        await held.rollback()
    assert await worker.process.wait() == 0
    assert await all_are(desk, ExecutionStatus.EXECUTED, 1)
    assert len(worker.events("worker_stopped")) == 1
    assert worker.problems() == []


async def test_an_idle_worker_stops_at_once_and_leaves_nothing_open(worker: Worker, redis_url: str) -> None:
    began = time.monotonic()
    assert await worker.stop() == 0
    assert time.monotonic() - began < DRAIN.total_seconds() / 10
    assert not await queue_is_heard(redis_url)
    assert worker.problems() == [], "nor a line that is no event, such as of a connection left open"


async def test_a_worker_without_any_server_waits_and_can_be_stopped(
    serverless_environment: dict[str, str], tmp_path: Path
) -> None:
    async with working(serverless_environment, tmp_path) as worker:
        await worker.until("job_put_off")
        assert worker.events("job_failed") == [], "nobody reads a traceback for every job of an outage"
        began = time.monotonic()
        assert await worker.stop() == 0
        assert time.monotonic() - began < 8


async def test_a_worker_without_settings_names_them_and_does_not_start(tmp_path: Path) -> None:
    async with working({}, tmp_path) as worker:
        assert await worker.process.wait() == 2
    assert "ENGINE_DATABASE_URL" in worker.log.read_text()


async def test_plain_arq_works_as_well(desk: Desk, environment: dict[str, str], tmp_path: Path) -> None:
    await add_account(desk)
    async with working(environment, tmp_path, PLAIN_ARQ) as worker:
        await until(lambda: queue_is_heard(environment["ENGINE_REDIS_URL"]))
        await publish(desk)
        await until(lambda: all_are(desk, ExecutionStatus.EXECUTED, 1))
        # Its cron jobs sweep and watch.
        redis = Redis.from_url(environment["ENGINE_REDIS_URL"])
        await publish(desk, "unheard", symbol="ETH/USDT")
        await redis.flushall()
        await redis.aclose()
        await until(lambda: all_are(desk, ExecutionStatus.EXECUTED, 2))
        await until(lambda: is_watched(desk))
        [seen] = await alive(desk)
        assert seen.name.endswith(f":{worker.process.pid}")
        assert seen.metrics, "what it has counted goes with it"
        assert await worker.stop() == 0


async def alive(desk: Desk) -> Sequence[workers.Worker]:
    """The workers that say that they are there."""
    async with desk.sessions() as session:
        return await workers.alive(session, desk.now() - timedelta(minutes=1))


async def test_two_workers_share_the_work_and_double_none_of_it(
    desk: Desk, environment: dict[str, str], tmp_path: Path
) -> None:
    accounts = 60
    for number in range(accounts):
        await add_account(desk, number)
    async with working(environment, tmp_path) as one, working(environment, tmp_path) as other:
        for each in (one, other):
            await each.until("worker_started")
        await until(lambda: queue_is_heard(environment["ENGINE_REDIS_URL"]))
        await publish(desk, stop_loss="30000")
        await until(lambda: all_are(desk, ExecutionStatus.EXECUTED, accounts), seconds=180)
        claims = [
            [(event["execution_id"], event["attempt"]) for event in each.events("order_claimed")]
            for each in (one, other)
        ]
        assert await one.stop() == 0
        assert await other.stop() == 0
    assert all(claims), "each did some"
    # An attempt that a busy machine sends too late is never sent, and another is claimed: each of them once.
    assert len({*claims[0], *claims[1]}) == len(claims[0]) + len(claims[1])
    assert len({execution_id for execution_id, _ in (*claims[0], *claims[1])}) == accounts
    entries = [each for each in await orders(desk) if each.purpose is Purpose.ENTRY]
    assert len(entries) == len(await positions(desk)) == accounts
    assert {position.quantity for position in await positions(desk)} == {Decimal("0.01")}


async def test_a_worker_without_a_vault_key_in_use_refuses_to_start(
    desk: Desk, environment: dict[str, str], tmp_path: Path
) -> None:
    connection = await add_connection(desk)
    sealed = desk.vault.seal({"api_key": "k"}, row_id=connection.id, version=1)
    async with desk.sessions.begin() as session:
        await session.execute(update(Connection).values(credentials_sealed=sealed))
    async with working({**environment, "ENGINE_VAULT_KEYS": new_vault_key()}, tmp_path) as worker:
        async with asyncio.timeout(20):
            assert await worker.process.wait() == 1
        assert "ENGINE_VAULT_KEYS lacks" in worker.log.read_text()
        assert desk.vault.sealing_key_id in worker.log.read_text()
