"""What admins see: lists over all owners, and how the engine is doing; and what probes are told."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.desk import Desk, Sessions
from app.main import create_app
from app.settings import Settings
from app.store import workers
from app.store.executions import ExecutionStatus
from migrations import head_revision
from tests.api.scene import ADMIN_ANN, ANN, BOB, NOON, Api, Clock, Rows


async def test_lists_over_all_owners(api: Api, rows: Rows) -> None:
    for owner in (ANN, BOB, ADMIN_ANN):
        await rows.position(await rows.connection(owner, credentials_hint="x7Qp"))

    async def owners(path: str, **query: Any) -> list[str]:
        page = await api.call(ADMIN_ANN, "GET", f"/v1/admin/{path}", 200, params=query)
        return [f"{item['owner']['role']} {item['owner']['id']}" for item in page["items"]]

    for path in ("connections", "executions", "positions"):
        assert await owners(path) == ["admin ann", "user bob", "user ann"]
        assert await owners(path, owner_id="ann") == ["admin ann", "user ann"]
        assert await owners(path, owner_role="user", limit="1") == ["user bob"]
        assert await owners(path, owner_id="nobody") == []
    assert len((await api.call(ADMIN_ANN, "GET", "/v1/admin/signals", 200))["items"]) == 3


async def test_a_signal_with_what_became_of_it_everywhere(api: Api, rows: Rows) -> None:
    signal = await rows.signal()
    owners = (ANN, BOB, ADMIN_ANN)
    reached = [await rows.execution(await rows.connection(owner), signal) for owner in owners]
    await rows.execution(await rows.connection(BOB))
    seen = await api.call(ADMIN_ANN, "GET", f"/v1/admin/signals/{signal.id}", 200)
    assert [(each["id"], each["owner"]) for each in seen["executions"]] == [
        (str(row.id), {"role": owner.role, "id": owner.id})
        for row, owner in zip(reached, owners, strict=True)
    ]
    # What is theirs is at the other address, and nothing else.
    own = await api.call(ADMIN_ANN, "GET", f"/v1/signals/{signal.id}", 200)
    assert [each["id"] for each in own["executions"]] == [str(reached[2].id)]
    assert {name: own[name] for name in own if name != "executions"} == {
        name: seen[name] for name in seen if name != "executions"
    }
    await api.call(ADMIN_ANN, "GET", f"/v1/admin/signals/{reached[0].id}", 404)
    await api.call(ANN, "GET", f"/v1/admin/signals/{signal.id}", 403)


async def test_an_admin_never_sees_credentials(api: Api, rows: Rows) -> None:
    sealed = b"sealed-canary"
    await rows.connection(ANN, credentials_sealed=sealed, account_identity="uid-canary")
    answer = await api.http.get("/v1/admin/connections", headers=api.platform.bearer(ADMIN_ANN))
    assert answer.status_code == 200
    assert "canary" not in answer.text


async def test_lists_over_all_owners_are_read_only(api: Api, rows: Rows) -> None:
    connection = await rows.connection(ANN)
    for method in ("POST", "PATCH", "PUT", "DELETE"):
        for path in ("connections", "executions", "positions", "signals", "system"):
            await api.call(ADMIN_ANN, method, f"/v1/admin/{path}", 405)
            one = 405 if path == "signals" else 404
            await api.call(ADMIN_ANN, method, f"/v1/admin/{path}/{connection.id}", one)


async def test_the_system_at_rest(api: Api) -> None:
    seen = await api.call(ADMIN_ANN, "GET", "/v1/admin/system", 200)
    assert seen["database"] == {
        "state": "ok",
        "revision": head_revision(),
        "needed_revision": head_revision(),
    }
    assert (seen["redis"], seen["workers"], seen["oldest_pending_seconds"]) == ("ok", [], None)
    assert set(seen["counts"].values()) == {0}
    assert seen["time"] == "2026-11-24T12:00:00Z"


async def test_the_system_at_work(api: Api, rows: Rows, sessions: Sessions, clock: Clock) -> None:
    connection = await rows.connection(ANN)
    await rows.execution(connection, status=ExecutionStatus.PENDING, due_at=NOON)
    await rows.position(connection, protect_due_at=NOON)
    async with sessions.begin() as session:
        await workers.beat(session, "host:1", "0.1.0", NOON)
    clock.move(timedelta(seconds=42))
    seen = await api.call(ADMIN_ANN, "GET", "/v1/admin/system", 200)
    assert seen["counts"] == {
        "pending_executions": 1,
        "sending_orders": 0,
        "orders_in_review": 0,
        "open_positions": 1,
        "positions_to_protect": 1,
    }
    assert seen["oldest_pending_seconds"] == 42
    assert [(worker["name"], worker["silent_seconds"]) for worker in seen["workers"]] == [("host:1", 42)]


async def test_a_probe_needs_no_token(http: httpx.AsyncClient) -> None:
    assert (await http.get("/livez")).json() == {"status": "ok"}
    # A busy machine may take longer than the probe waits for Redis.
    async with asyncio.timeout(30):
        while (answer := await http.get("/readyz")).json()["redis"] != "ok":
            await asyncio.sleep(0.1)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": "ok", "redis": "ok"})


async def test_without_redis_the_engine_is_still_ready(settings: Settings, desk: Desk) -> None:
    nowhere = settings.model_copy(update={"redis_url": type(settings.redis_url)("redis://127.0.0.1:1/0")})
    answer = await _ready(nowhere, desk)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": "ok", "redis": "away"})


@pytest.mark.parametrize(
    "damage", ["UPDATE alembic_version SET version_num = 'other'", "DROP TABLE alembic_version"]
)
async def test_a_database_of_another_build_is_not_ready(
    settings: Settings, desk: Desk, sessions: Sessions, damage: str
) -> None:
    async with sessions.begin() as session:
        await session.execute(text(damage))
    answer = await _ready(settings, desk)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_without_a_database_the_process_lives_and_is_not_ready(
    serverless_settings: Settings,
) -> None:
    app = create_app(serverless_settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client,
    ):
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/v1/me")).status_code == 401


async def _ready(settings: Settings, desk: Desk) -> httpx.Response:
    app = create_app(settings, desk)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client,
    ):
        return await client.get("/readyz")
