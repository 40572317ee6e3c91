"""Who may what: tokens, scopes, roles, and that nobody reaches what another owns."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import httpx
import jwt
import pytest

from app.desk import Sessions
from app.main import Service
from app.store.connections import Connection
from tests.api.scene import ADMIN_ANN, ANN, BOB, DRAFT, NOON, Api, Platform, Rows

READS: Final = (
    "/v1/connections",
    "/v1/executions",
    "/v1/positions",
    "/v1/signals",
    "/v1/notifications",
    "/v1/exchanges",
    "/v1/denial-codes",
    "/v1/me",
)
ADMIN_READS: Final = (
    "/v1/admin/connections",
    "/v1/admin/executions",
    "/v1/admin/positions",
    "/v1/admin/signals",
    "/v1/admin/system",
    "/v1/admin/audit",
)


@pytest.mark.parametrize("path", READS + ADMIN_READS)
async def test_nothing_is_told_without_a_token(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_every_route_but_these_asks_who_is_calling(service: Service) -> None:
    open_ones = {
        path
        for path, operations in service.openapi()["paths"].items()
        for operation in operations.values()
        if not operation.get("security")
    }
    assert open_ones == {"/livez", "/readyz", "/v1/webhooks/signals"}


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": datetime.now(UTC) - timedelta(seconds=2)},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 10**30},
        {"nbf": datetime.now(UTC) + timedelta(hours=1)},
        {"aud": "somebody-else"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "a" * 65},
        {"sub": "a\x00b"},
        {"sub": "a\nb"},
        {"role": None},
        {"role": "root"},
        {"role": ["admin"]},
        {"scope": ["trade"]},
    ],
)
async def test_a_token_that_lacks_something_is_no_token(
    http: httpx.AsyncClient, platform: Platform, claims: dict[str, Any]
) -> None:
    answer = await http.get("/v1/me", headers=platform.bearer(ANN, **claims))
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def _unsigned(claims: dict[str, Any], algorithm: str) -> str:
    parts = ({"alg": algorithm, "typ": "JWT"}, claims)
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )


async def test_the_algorithm_is_ours_to_choose(http: httpx.AsyncClient, platform: Platform) -> None:
    claims = jwt.decode(platform.token(ANN), options={"verify_signature": False})
    secret = platform.settings.jwt_secret.get_secret_value()
    tokens = [
        jwt.encode(claims, secret * 2, algorithm="HS512"),
        jwt.encode(claims, "another secret, also long enough here", algorithm="HS256"),
        jwt.encode(claims, "", algorithm="none"),
        _unsigned(claims, "none") + ".",
        _unsigned(claims, "nOnE") + ".",
        _unsigned(claims, "HS256") + ".",
        platform.token(ANN)[:-4],
        "nonsense",
    ]
    for token in tokens:
        answer = await http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, token


async def test_only_the_bearer_scheme_counts(http: httpx.AsyncClient, platform: Platform) -> None:
    for header in (f"Basic {platform.token(ANN)}", platform.token(ANN), "Bearer", ""):
        assert (await http.get("/v1/me", headers={"Authorization": header})).status_code == 401


async def test_a_platform_whose_clock_is_ahead_is_still_understood(
    http: httpx.AsyncClient, platform: Platform
) -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=30)
    assert (await http.get("/v1/me", headers=platform.bearer(ANN, iat=ahead))).status_code == 200


CHANGES: Final = (
    ("POST", "/v1/connections"),
    ("PATCH", "/v1/connections/{connection}"),
    ("DELETE", "/v1/connections/{connection}"),
    ("POST", "/v1/connections/{connection}/test"),
    ("POST", "/v1/connections/{connection}/activate"),
    ("POST", "/v1/connections/{connection}/deactivate"),
    ("POST", "/v1/connections/{connection}/mode"),
    ("POST", "/v1/connections/{connection}/close-all"),
    ("POST", "/v1/executions/{execution}/cancel"),
    ("POST", "/v1/executions/{execution}/resolve"),
    ("PATCH", "/v1/positions/{position}"),
    ("POST", "/v1/positions/{position}/close"),
    ("POST", "/v1/notifications/{notification}/read"),
    ("POST", "/v1/notifications/read-all"),
)
LOOKS: Final = (
    ("GET", "/v1/connections/{connection}"),
    ("GET", "/v1/connections/{connection}/balance"),
    ("GET", "/v1/positions/{position}"),
    ("GET", "/v1/executions/{execution}"),
    ("GET", "/v1/signals/{signal}"),
    ("POST", "/v1/signals/preview"),
)
ADMIN_CHANGES: Final = (
    ("POST", "/v1/admin/trading"),
    ("POST", "/v1/admin/connections/{connection}/mode"),
    ("POST", "/v1/admin/connections/{connection}/close-all"),
)
BODIES: Final[dict[str, Any]] = {
    "/v1/connections": DRAFT,
    "/v1/connections/{connection}": {"name": "Taken over"},
    "/v1/connections/{connection}/mode": {"mode": "halted", "reason": "Taken over"},
    "/v1/executions/{execution}/resolve": {"outcome": "absent"},
    "/v1/positions/{position}": {"stop_loss": "26600"},
    "/v1/positions/{position}/close": {"portion": "0.5"},
}


@pytest.fixture
async def owned_by_ann(rows: Rows) -> dict[str, str]:
    """One of everything that the user ann owns."""
    await rows.entitle(ANN)
    await rows.entitle(BOB)
    connection = await rows.connection(ANN)
    position = await rows.position(connection)
    notification = await rows.notification(ANN)
    return {
        "connection": str(connection.id),
        "position": str(position.id),
        "execution": str(position.execution_id),
        "signal": str(position.signal_id),
        "notification": str(notification.id),
    }


async def _state(sessions: Sessions) -> list[Any]:
    """Everything that a change could have changed."""
    async with sessions() as session:
        connection = await session.connection()
        tables = sorted(Connection.metadata.tables.values(), key=lambda table: table.name)
        return [list(await connection.execute(table.select())) for table in tables]


def test_the_lists_above_are_complete(service: Service) -> None:
    named = {(method, path.replace("_id}", "}")) for path, method in _operations(service)}
    listed = {*CHANGES, *ADMIN_CHANGES, *LOOKS, *(("GET", path) for path in READS + ADMIN_READS)}
    elsewhere = {
        (method, path) for method, path in named if path.startswith(("/v1/analytics", "/v1/webhooks"))
    }
    assert {(m, p) for m, p in named if p.startswith("/v1")} - elsewhere == listed


def _operations(service: Service) -> list[tuple[str, str]]:
    return [
        (path, method.upper())
        for path, operations in service.openapi()["paths"].items()
        for method in operations
    ]


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_reading_tokens_change_nothing(
    http: httpx.AsyncClient,
    platform: Platform,
    sessions: Sessions,
    owned_by_ann: dict[str, str],
    method: str,
    path: str,
) -> None:
    before = await _state(sessions)
    answer = await http.request(
        method,
        path.format(**owned_by_ann),
        headers=platform.bearer(ANN, scope="read"),
        json=BODIES.get(path),
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_required")
    assert await _state(sessions) == before


@pytest.mark.parametrize("scope", ["trade", "", "admin everything"])
async def test_reading_takes_the_scope_read(http: httpx.AsyncClient, platform: Platform, scope: str) -> None:
    answer = await http.get("/v1/positions", headers=platform.bearer(ANN, scope=scope))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_required")


@pytest.mark.parametrize("stranger", [BOB, ADMIN_ANN], ids=["another user", "same sub, other role"])
@pytest.mark.parametrize(
    ("method", "path"), [each for each in CHANGES + LOOKS if "{" in each[1] and "signal" not in each[1]]
)
async def test_what_another_owns_is_not_there(
    api: Api,
    sessions: Sessions,
    owned_by_ann: dict[str, str],
    stranger: Any,
    method: str,
    path: str,
) -> None:
    before = await _state(sessions)
    body = {"json": BODIES[path]} if path in BODIES else {}
    foreign = await api.call(stranger, method, path.format(**owned_by_ann), 404, **body)
    nowhere = {name: str(uuid4()) for name in owned_by_ann}
    missing = await api.call(stranger, method, path.format(**nowhere), 404, **body)
    assert {**foreign, "request_id": ""} == {**missing, "request_id": ""}
    assert await _state(sessions) == before


@pytest.mark.parametrize("path", READS[:5])
async def test_lists_hold_what_one_owns(api: Api, owned_by_ann: dict[str, str], path: str) -> None:
    assert len((await api.call(ANN, "GET", path, 200))["items"]) == 1
    assert (await api.call(BOB, "GET", path, 200))["items"] == []
    if path != "/v1/signals":
        assert (await api.call(ADMIN_ANN, "GET", path, 200))["items"] == []
    for filtered in ({"connection_id": owned_by_ann["connection"]}, {"signal_id": owned_by_ann["signal"]}):
        answer = await api.http.get(path, params=filtered, headers=api.platform.bearer(BOB))
        assert answer.status_code == 422 or answer.json()["items"] == []


async def test_everything_read_by_one_owner_leaves_the_others_unread(
    api: Api, owned_by_ann: dict[str, str]
) -> None:
    assert await api.call(BOB, "POST", "/v1/notifications/read-all", 200) == {"read": 0}
    unread = await api.call(ANN, "GET", "/v1/notifications", 200, params={"unread": "true"})
    assert [item["id"] for item in unread["items"]] == [owned_by_ann["notification"]]


async def test_a_user_sees_signals_that_reached_them_and_an_admin_all(
    api: Api, rows: Rows, owned_by_ann: dict[str, str]
) -> None:
    path = f"/v1/signals/{owned_by_ann['signal']}"
    assert len((await api.call(ANN, "GET", path, 200))["executions"]) == 1
    await api.call(BOB, "GET", path, 404)
    seen_by_admin = await api.call(ADMIN_ANN, "GET", path, 200)
    assert seen_by_admin["executions"] == []
    unheard = await rows.signal()
    await api.call(ANN, "GET", f"/v1/signals/{unheard.id}", 404)
    assert (await api.call(ADMIN_ANN, "GET", f"/v1/signals/{unheard.id}", 200))["executions"] == []


@pytest.mark.parametrize("path", ADMIN_READS)
async def test_what_is_for_admins_is_for_admins(api: Api, path: str) -> None:
    assert (await api.call(ANN, "GET", path, 403))["code"] == "admin_required"
    await api.call(ADMIN_ANN, "GET", path, 200)
    answer = await api.http.get(path, headers=api.platform.bearer(ADMIN_ANN, scope="trade"))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_required")


async def test_me_with_a_plan(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN, plans=["gold", "fx"], expires_at=NOON + timedelta(days=30), max_connections=3)
    await rows.connection(ANN)
    me = await api.call(ANN, "GET", "/v1/me", 200)
    expires_at = datetime.fromisoformat(me.pop("token_expires_at"))
    assert timedelta(0) < expires_at - datetime.now(UTC) <= timedelta(hours=1)
    assert me == {
        "id": "ann",
        "role": "user",
        "scopes": ["read", "trade"],
        "entitlement": {
            "required": True,
            "is_current": True,
            "plans": ["gold", "fx"],
            "expires_at": "2026-12-24T12:00:00Z",
        },
        "connections": {"used": 1, "allowed": 3},
    }


async def test_me_without_one(api: Api) -> None:
    me = await api.call(BOB, "GET", "/v1/me", 200)
    assert me["entitlement"] == {"required": True, "is_current": False, "plans": [], "expires_at": None}
    assert me["connections"] == {"used": 0, "allowed": None}


async def test_me_as_an_admin(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN, max_connections=3)
    me = await api.call(ADMIN_ANN, "GET", "/v1/me", 200)
    assert me["entitlement"] == {"required": False, "is_current": True, "plans": [], "expires_at": None}
    assert me["connections"] == {"used": 0, "allowed": None}
