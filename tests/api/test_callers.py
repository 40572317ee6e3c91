"""Who is calling: good tokens and bad ones, and what the token's owner is told; see test_isolation.py for the rest."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import jwt
import pytest

from app.main import Service
from tests.api.scene import ADMIN_ANN, ANN, BOB, NOON, Api, Platform, Rows

LISTS: Final = ("/v1/connections", "/v1/executions", "/v1/positions", "/v1/signals", "/v1/notifications")


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
    tokens = [
        jwt.encode(claims, platform.secret * 2, algorithm="HS512"),
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


@pytest.mark.parametrize("scope", ["trade", "", "admin everything"])
async def test_reading_takes_the_scope_read(http: httpx.AsyncClient, platform: Platform, scope: str) -> None:
    answer = await http.get("/v1/positions", headers=platform.bearer(ANN, scope=scope))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_required")


@pytest.mark.parametrize("path", LISTS)
async def test_lists_hold_what_one_owns(api: Api, owned_by_ann: dict[str, str], path: str) -> None:
    assert len((await api.call(ANN, "GET", path, 200))["items"]) == 1
    assert (await api.call(BOB, "GET", path, 200))["items"] == []
    if path != "/v1/signals":
        assert (await api.call(ADMIN_ANN, "GET", path, 200))["items"] == []
    for filtered in ({"connection_id": owned_by_ann["connection"]}, {"signal_id": owned_by_ann["signal"]}):
        answer = await api.http.get(path, params=filtered, headers=api.platform.bearer(BOB))
        assert answer.status_code == 422 or answer.json()["items"] == []


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
