"""Servers away: what intake answers, what goes on, and how soon everything is back; and a worker asked to stop."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select
from standardwebhooks.webhooks import Webhook

from app.desk import Desk, open_desk
from app.domain.market import MarketType
from app.domain.owners import Owner, Role
from app.domain.positions import PositionStatus
from app.engine import closing, connections, credentials
from app.settings import asyncpg_url, new_vault_key, settings_from
from app.store import chores
from app.store.connections import Connection, Kind
from app.store.events import Event
from app.store.executions import Execution, ExecutionStatus
from app.store.positions import Position
from app.store.signals import SignalRow
from app.store.workers import Worker
from migrations import upgrade_to_head
from tests.chaos.processes import Postgres
from tests.desks import add_connection
from tests.engine.signals import executions, positions, publish
from tests.servers import free_port, postgres_spot, reachable_directory
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import HANG, leaves, modifies, places, slow
from tests.venues.metatrader import MetaTraderVenue, conduct, running_bridge
from tests.venues.wire import WireRequest
from tests.workers.processes import PLAIN_ARQ, own_redis, until, working
from tests.workers.processes import Worker as WorkerProcess
from tests.workers.test_worker import queue_is_heard

ADMIN: Final = Owner(Role.ADMIN, "admin-0")
"""Admins need no plan."""

SYNTHETIC: Final = {"prices": "synthetic", "seed": 7, "balance": "10000000"}


class Platform:
    """A source of signed signals in front of a real API process."""

    def __init__(self, http: httpx.AsyncClient, secret: str) -> None:
        self.http = http
        self._secret = secret

    async def post(self, type_: str, webhook_id: str, **data: Any) -> httpx.Response:
        """Send one event, once."""
        now = datetime.now(UTC)
        body = json.dumps({"type": type_, "timestamp": now.isoformat(), "data": data})
        headers = {
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self._secret).sign(webhook_id, now, body),
        }
        return await self.http.post("/v1/webhooks/signals", content=body, headers=headers)

    async def publish(self, name: str) -> httpx.Response:
        """Send a signal without a stop."""
        return await self.post("signal.published", name, id=name, symbol="BTC/USDT", direction="buy")

    async def end(self, name: str) -> httpx.Response:
        """Send the close of a signal."""
        return await self.post("signal.closed", f"{name}:closed", id=name)


@asynccontextmanager
async def serving(environment: Mapping[str, str], directory: Path) -> AsyncIterator[Platform]:
    """Run the API as production does, with a platform before it."""
    port = free_port()
    command = (sys.executable, "-W", "error", "-m", "uvicorn", "app.main:app", "--port", str(port))
    async with (
        working(environment, directory, command),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http,
    ):

        async def answers() -> bool:
            try:
                return (await http.get("/livez")).is_success
            except httpx.TransportError:
                return False

        await until(answers, seconds=90)
        yield Platform(http, environment["ENGINE_WEBHOOK_SECRETS"])


@pytest.mark.parametrize("away", [6, pytest.param(600, marks=pytest.mark.long)])
async def test_while_redis_is_away_intake_answers_and_entries_and_exits_go_on(
    environment: dict[str, str], tmp_path: Path, away: int
) -> None:
    async with own_redis() as redis:
        environment |= {"ENGINE_REDIS_URL": redis.url}
        async with (
            open_desk(settings_from(environment)) as desk,
            serving(environment, tmp_path) as platform,
            working(environment, tmp_path) as worker,
        ):
            await add_connection(
                desk,
                owner=ADMIN,
                market_type=MarketType.SPOT,
                paper=SYNTHETIC,
                sizing={"strategy": "fixed", "value": "0.01"},
            )
            await until(lambda: queue_is_heard(redis.url), seconds=90)
            await redis.kill()
            gone, sent = time.monotonic(), 0
            while time.monotonic() - gone < away:
                sent += 1
                began = time.monotonic()
                assert (await platform.publish(f"s{sent}")).status_code == 202
                assert time.monotonic() - began < 2, "nobody waits for a doorbell"
                await asyncio.sleep(away / 10)
                if sent % 2 == 0:
                    await until(partial(_is_executed, desk, f"s{sent}"), seconds=90)
                    assert (await platform.end(f"s{sent}")).status_code == 202
            await until(lambda: _came_through(desk, sent), seconds=90)

            await redis.start()
            back = time.monotonic()
            await until(lambda: queue_is_heard(redis.url), seconds=90)
            assert time.monotonic() - back < 8
            assert await worker.stop() == 0
            assert worker.problems() == []


async def _came_through(desk: Desk, signals: int) -> bool:
    """Whether every signal was executed, and every second one closed again."""
    done = [each.status for each in await executions(desk)]
    closed = [each for each in await positions(desk) if each.status is PositionStatus.CLOSED]
    return done == [ExecutionStatus.EXECUTED] * signals and len(closed) == signals // 2


# On a machine that is busy with other tests a second may last several; the long run is for one that is not.
@pytest.mark.parametrize(("away", "back_within"), [(2, 15), pytest.param(60, 5, marks=pytest.mark.long)])
async def test_while_postgres_is_away_intake_says_503_and_nothing_is_half_done(
    environment: dict[str, str], tmp_path: Path, away: int, back_within: float
) -> None:
    with reachable_directory() as directory:
        spot = replace(postgres_spot(directory), durable=True)
        async with Postgres.opened(spot) as postgres:
            await asyncio.to_thread(upgrade_to_head, asyncpg_url(spot.url()))
            environment |= {"ENGINE_DATABASE_URL": spot.url()}
            async with (
                open_desk(settings_from(environment)) as desk,
                serving(environment, tmp_path) as platform,
                working(environment, tmp_path) as worker,
            ):
                await add_connection(
                    desk,
                    owner=ADMIN,
                    market_type=MarketType.SPOT,
                    paper=SYNTHETIC,
                    sizing={"strategy": "fixed", "value": "0.01"},
                )
                answers: dict[str, httpx.Response] = {}
                sending = asyncio.create_task(_keep_publishing(platform, answers))
                await until(lambda: _is_answered(answers, 202), seconds=90)
                await postgres.halt()
                halted = set(answers)
                await asyncio.sleep(away)
                during = {name: answer for name, answer in answers.items() if name not in halted}
                await postgres.start()
                back = time.monotonic()

                async def takes() -> bool:
                    return (await platform.publish("back")).status_code == 202

                await until(takes, seconds=90)
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                assert (await platform.http.get("/readyz")).is_success
                await until(lambda: _is_executed(desk, "back"), seconds=90)
                took = time.monotonic() - back
                print(f"back {took:.1f} s after PostgreSQL")  # noqa: T201 - what the claim rests on
                assert took < back_within
                assert {answer.status_code for answer in during.values()} == {503}
                assert {answer.status_code for answer in answers.values()} == {202, 503}
                refused = [answer for answer in answers.values() if answer.status_code == 503]
                assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
                await _check_whole(desk, {n for n, answer in answers.items() if answer.status_code == 202})
                assert worker.events("job_put_off") != []
                assert worker.events("job_failed") == [], (
                    "nobody reads a traceback for every job of an outage"
                )
                assert await worker.stop() == 0


async def test_a_postgres_that_stands_still_is_503_within_seconds_and_nothing_is_half_done(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with reachable_directory() as directory:
        spot = postgres_spot(directory)
        async with Postgres.opened(spot) as postgres:
            await asyncio.to_thread(upgrade_to_head, asyncpg_url(spot.url()))
            environment |= {"ENGINE_DATABASE_URL": spot.url()}
            async with (
                open_desk(settings_from(environment)) as desk,
                serving(environment, tmp_path) as platform,
            ):
                await add_connection(desk, owner=ADMIN, market_type=MarketType.SPOT, paper=SYNTHETIC)
                platform.http.timeout = httpx.Timeout(90)
                # Of the connections in the pool some are open by now, and more have to be opened.
                for number in range(3):
                    assert (await platform.publish(f"before{number}")).status_code == 202
                postgres.freeze()
                try:
                    told = await asyncio.gather(
                        *(_timed(platform.publish(f"s{number}")) for number in range(4)),
                        *(_timed(platform.end(f"before{number}")) for number in range(3)),
                    )
                finally:
                    postgres.thaw()
                back = time.monotonic()
                assert {answer.status_code for answer, _ in told} == {503}
                assert all(int(answer.headers["retry-after"]) > 0 for answer, _ in told)
                assert {answer.json()["code"] for answer, _ in told} == {"unavailable"}
                took = max(seconds for _, seconds in told)
                assert took < 15, "a third of what the driver would wait by itself"

                async def takes() -> bool:
                    return (await platform.publish("back")).status_code == 202

                await until(takes, seconds=90)
                gone_on = time.monotonic() - back
                print(f"503 after {took:.1f} s, back after {gone_on:.1f} s")  # noqa: T201 - as above
                assert gone_on < 15
                # What was answered 503 is sent again: whatever became of it the first time, it is there once.
                for number in range(4):
                    assert (await platform.publish(f"s{number}")).status_code == 202
                for number in range(3):
                    assert (await platform.end(f"before{number}")).status_code == 202
                await _check_whole(desk, {"back", *(f"s{number}" for number in range(4))}, ends=3)


async def _timed(asked: Awaitable[httpx.Response]) -> tuple[httpx.Response, float]:
    """An answer, and after how many seconds it came."""
    began = time.monotonic()
    return await asked, time.monotonic() - began


async def test_a_vault_key_that_is_missing_is_found_out_when_postgres_is_back(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with reachable_directory() as directory:
        spot = replace(postgres_spot(directory), durable=True)
        async with Postgres.opened(spot) as postgres:
            await asyncio.to_thread(upgrade_to_head, asyncpg_url(spot.url()))
            environment |= {"ENGINE_DATABASE_URL": spot.url()}
            async with open_desk(settings_from(environment)) as desk:
                connection = await add_connection(desk, owner=ADMIN)
                async with desk.sessions.begin() as session:
                    row = await session.get_one(Connection, connection.id)
                    credentials.seal(desk, row, {"api_key": "k"}, version=1)
            await postgres.halt()
            others = environment | {"ENGINE_VAULT_KEYS": new_vault_key()}
            async with (
                serving(others, tmp_path) as platform,
                working(others, tmp_path) as worker,
                working(others, tmp_path, PLAIN_ARQ) as plain,
            ):
                for each in (worker, plain):
                    await until(partial(_has_said, each, "vault_keys_unchecked"), seconds=90)
                assert (await platform.http.get("/readyz")).status_code == 503
                await postgres.start()

                async def lacks_a_key() -> bool:
                    answer = await platform.http.get("/readyz")
                    assert answer.status_code == 503
                    return "lacks a vault key" in answer.json()["detail"]

                await until(lacks_a_key, seconds=90)
                async with asyncio.timeout(90):
                    assert await worker.process.wait() == 1
                    await plain.process.wait()
                for each in (worker, plain):
                    assert await _has_said(each, "ENGINE_VAULT_KEYS lacks")


async def _has_said(worker: WorkerProcess, words: str) -> bool:
    """Also where lines of arq's own are not JSON."""
    return words in worker.log.read_text()


async def _keep_publishing(platform: Platform, answers: dict[str, httpx.Response]) -> None:
    number = 0
    while True:
        number += 1
        answers[f"s{number}"] = await platform.publish(f"s{number}")
        await asyncio.sleep(0.2)


async def _is_answered(answers: Mapping[str, httpx.Response], status: int) -> bool:
    return sum(answer.status_code == status for answer in answers.values()) > 5


async def _is_executed(desk: Desk, name: str) -> bool:
    async with desk.sessions() as session:
        status = await session.scalar(
            select(Execution.status)
            .join(SignalRow, SignalRow.id == Execution.signal_id)
            .where(SignalRow.source_id == name)
        )
    return status is ExecutionStatus.EXECUTED


async def _check_whole(desk: Desk, taken: set[str], ends: int = 0) -> None:
    """What was taken is there; every event has its signal and its execution, whatever was answered, besides `ends`."""
    async with desk.sessions() as session:
        known = set(await session.scalars(select(SignalRow.source_id)))
        counts = [
            await session.scalar(select(func.count()).select_from(table)) or 0
            for table in (Event, SignalRow, Execution)
        ]
    assert taken <= known
    assert {counts[0] - ends, *counts[1:]} == {len(known)}, counts


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges, which outlive every process."""
    async with running_exchange() as exchange:
        yield exchange
        exchange.audit()


@pytest.mark.parametrize("heard", [True, False], ids=["rung for", "swept up"])
async def test_a_worker_asked_to_stop_waits_for_an_order_that_is_on_its_way(
    environment: dict[str, str], tmp_path: Path, venue: Exchange, *, heard: bool
) -> None:
    environment |= {"ENGINE_BROKER_ENDPOINTS": json.dumps({"binance": venue.url})}
    if not heard:
        environment |= {"ENGINE_REDIS_URL": "redis://127.0.0.1:1/0"}
    async with open_desk(settings_from(environment)) as desk:
        await _connect(desk, venue)
        async with working(environment, tmp_path) as worker:
            venue.faults.add(slow(3))
            await publish(desk)
            await until(lambda: _has_arrived(venue), seconds=90)
            worker.process.terminate()
            assert await worker.process.wait() == 0
            assert worker.problems() == []
            assert len(worker.events("order_acknowledged")) == 1
        [done] = await executions(desk)
    assert (done.status, done.attempts) == (ExecutionStatus.EXECUTED, 1)
    assert len(venue.spot.floor.orders) == 1


@pytest.fixture
async def brokers() -> AsyncIterator[MetaTraderVenue]:
    """Brokers behind bridges, which outlive every process."""
    async with running_bridge() as bridges:
        yield bridges
        bridges.audit()
        conduct.assert_sound(bridges)


LONGEST_BEFORE: Final = 25
"""Seconds an order takes here: more than workers were once given to end, and a third of what bridges may take."""


@pytest.mark.parametrize(
    "redis_goes", [True, pytest.param(False, marks=pytest.mark.long)], ids=["redis lost first", "redis stays"]
)
async def test_an_order_at_a_slow_bridge_is_seen_to_its_end(
    environment: dict[str, str], tmp_path: Path, brokers: MetaTraderVenue, *, redis_goes: bool
) -> None:
    """Rung for, and then Redis goes, and then the worker is asked to go as well."""
    async with own_redis() as redis:
        environment |= {"ENGINE_REDIS_URL": redis.url, **_bridges(brokers)}
        async with open_desk(settings_from(environment)) as desk:
            await _connect_fx(desk, brokers, "mt5")
            async with working(environment, tmp_path) as worker:
                await until(lambda: queue_is_heard(redis.url), seconds=90)
                brokers.faults.add(slow(LONGEST_BEFORE), places)
                await publish(desk, symbol="EUR/USD")
                await until(lambda: _is_struck(brokers), seconds=90)
                if redis_goes:
                    await redis.kill()
                    await worker.until("queue_lost")
                worker.process.terminate()
                await worker.until("worker_stopping")
                async with asyncio.timeout(LONGEST_BEFORE + 90):
                    assert await worker.process.wait() == 0
                assert worker.problems() == []
                assert worker.events("work_cut_off") == []
                assert len(worker.events("order_acknowledged")) == 1
                assert worker.events("order_uncertain") == []
            [done] = await executions(desk)
            assert (done.status, done.attempts) == (ExecutionStatus.EXECUTED, 1)
            assert await _counted(desk, "engine_executions_total", status="executed") == 1


async def test_without_redis_an_exit_does_not_wait_for_a_venue_that_hangs(
    environment: dict[str, str], tmp_path: Path, brokers: MetaTraderVenue
) -> None:
    environment |= {"ENGINE_REDIS_URL": "redis://127.0.0.1:1/0", **_bridges(brokers)}
    async with open_desk(settings_from(environment)) as desk:
        await _connect_fx(desk, brokers, "mt4")
        await _connect_fx(desk, brokers, "mt5", limits={"max_open_positions": 1})
        async with working(environment, tmp_path):
            await publish(desk, "held", symbol="EUR/USD", stop_loss="1.05")
            await until(lambda: _hold(desk, 2), seconds=90)
            hung = brokers.mt4.url.removeprefix("http://")
            brokers.faults.policy = lambda request: HANG if request.host == hung and acts(request) else None
            # More than are swept up side by side, at a bridge that is given 75 s for each.
            for number in range(20):
                await publish(desk, f"hangs{number}", symbol="EUR/USD", stop_loss="1.05")
            await until(lambda: _is_struck(brokers, 10), seconds=90)
            [held] = [each for each in await positions(desk) if await _exchange_of(desk, each) == "mt5"]
            began = time.monotonic()
            await closing.request_close(desk, ADMIN, held.id, None, idempotency_key=None)
            await until(lambda: _is_closed(desk, held.id), seconds=45)
            print(f"closed after {time.monotonic() - began:.1f} s")  # noqa: T201 - what the claim rests on


async def test_without_redis_the_chores_are_done(environment: dict[str, str], tmp_path: Path) -> None:
    environment |= {"ENGINE_REDIS_URL": "redis://127.0.0.1:1/0"}
    async with open_desk(settings_from(environment)) as desk:
        connection = await add_connection(desk, owner=ADMIN, market_type=MarketType.SPOT, paper=SYNTHETIC)
        async with working(environment, tmp_path) as worker:
            await until(lambda: _are_done(desk, {"health", "report"}), seconds=90)
            async with desk.sessions() as session:
                kept = await session.get_one(Connection, connection.id)
            assert kept.balances["USDT"]["balance"] == "10000000"
            assert await worker.stop() == 0
            assert worker.problems() == []


def _bridges(brokers: MetaTraderVenue) -> dict[str, str]:
    endpoints = {bridge.platform.value: bridge.url for bridge in brokers.bridges}
    return {"ENGINE_BROKER_ENDPOINTS": json.dumps(endpoints)}


async def _connect_fx(
    desk: Desk, brokers: MetaTraderVenue, platform: str, limits: dict[str, Any] | None = None
) -> None:
    owner = brokers.open_account(platform)
    connection = await connections.create(
        desk,
        ADMIN,
        kind=Kind.FX,
        exchange=platform,
        market_type=MarketType.FX,
        sandbox=False,
        terms={
            "name": "fx",
            "credentials": {
                "account_id": str(owner.user),
                "api_secret": owner.password,
                "server": owner.server,
            },
            "sizing": {"strategy": "fixed", "value": "0.01"},
            "limits": limits or {},
        },
    )
    assert (await connections.test(desk, ADMIN, connection.id)).ok
    await connections.activate(desk, ADMIN, connection.id)


async def _is_struck(brokers: MetaTraderVenue, times: int = 1) -> bool:
    """Whether a fault has struck so often."""
    return len(brokers.faults.struck) >= times


def acts(request: WireRequest) -> bool:
    """Requests that change something."""
    return places(request) or leaves(request) or modifies(request)


async def _hold(desk: Desk, count: int) -> bool:
    return [each.status for each in await positions(desk)] == [PositionStatus.OPEN] * count


async def _exchange_of(desk: Desk, position: Position) -> str:
    async with desk.sessions() as session:
        return (await session.get_one(Connection, position.connection_id)).exchange


async def _is_closed(desk: Desk, position_id: UUID) -> bool:
    return any(
        each.status is PositionStatus.CLOSED for each in await positions(desk) if each.id == position_id
    )


async def _are_done(desk: Desk, names: set[str]) -> bool:
    async with desk.sessions() as session:
        known = await chores.present(session)
    return names <= {name for name, chore in known.items() if chore.taken_until is None}


async def _counted(desk: Desk, name: str, **labels: str) -> float:
    """What the workers have handed over of a sample."""
    async with desk.sessions() as session:
        handed = [row.metrics for row in await session.scalars(select(Worker))]
    return sum(
        float(value)
        for families in handed
        for family in families
        for sample, its, value in family["samples"]
        if sample == name and labels.items() <= its.items()
    )


async def _has_arrived(venue: Exchange) -> bool:
    return len(venue.spot.floor.orders) == 1


async def _connect(desk: Desk, venue: Exchange) -> None:
    keys = venue.open_account({"USDT": "100000"})
    connection = await connections.create(
        desk,
        ADMIN,
        kind=Kind.CRYPTO,
        exchange="binance",
        market_type=MarketType.SPOT,
        sandbox=False,
        terms={
            "name": "test",
            "credentials": {"api_key": keys.api_key, "api_secret": keys.secret},
            "sizing": {"strategy": "fixed", "value": "0.01"},
        },
    )
    assert (await connections.test(desk, ADMIN, connection.id)).ok
    await connections.activate(desk, ADMIN, connection.id)
