"""Problems: their shape, and that everything that goes wrong has it."""

from typing import Any

import httpx
import pytest
import structlog
from sqlalchemy.exc import OperationalError

from app.api.problems import CODES, STATUS, Unavailable, kind_of
from app.brokers.port import Refused, Uncertain, Unreachable
from app.desk import Desk, open_database, open_sessions
from app.domain.errors import Conflict, Denied, EngineError, Forbidden, Invalid, NotFound
from app.main import create_app
from app.settings import Settings
from app.vault import Vault
from tests.api.scene import ANN, Api, Clock, Platform, Rings


def test_every_kind_of_error_has_a_status() -> None:
    kinds = {Conflict, Denied, Forbidden, Invalid, NotFound}
    assert kinds <= set(STATUS)
    assert set(EngineError.__subclasses__()) <= set(STATUS)


def test_the_codes_of_the_contract_have_their_statuses() -> None:
    contract = {
        "malformed_body": 400,
        "unauthenticated": 401,
        "scope_required": 403,
        "admin_required": 403,
        "plan_required": 403,
        "not_found": 404,
        "not_tested": 409,
        "positions_open": 409,
        "account_in_use": 409,
        "max_connections": 409,
        "conflict": 409,
        "body_too_large": 413,
        "unsupported_media_type": 415,
        "invalid": 422,
        "unavailable": 503,
    }
    assert {code: CODES[code].status for code in contract} == contract


async def test_an_unknown_route_is_a_problem(http: httpx.AsyncClient) -> None:
    for path in ("/nowhere", "/v1", "/v1/positions/", "/v1/connections/1/2/3", "/docs/nothing.js"):
        answer = await http.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem == {
            "type": "urn:problem-type:not_found",
            "title": "Not found",
            "status": 404,
            "detail": "There is no such resource.",
            "code": "not_found",
            "request_id": answer.headers["x-request-id"],
        }


async def test_a_wrong_method_names_the_right_ones(api: Api) -> None:
    answer = await api.http.put("/v1/connections", headers=api.platform.bearer(ANN))
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


async def test_an_id_that_is_none_is_named(api: Api) -> None:
    problem = await api.call(ANN, "GET", "/v1/positions/none", 422)
    assert [error["path"] for error in problem["errors"]] == ["position_id"]


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-DEF.123_4", True), ("short", False), ("a b c d e f g", False)]
)
async def test_a_request_keeps_a_printable_id(http: httpx.AsyncClient, given: str, kept: bool) -> None:
    answer = await http.get("/livez", headers={"X-Request-ID": given})
    assert (answer.headers["x-request-id"] == given) is kept
    assert len(answer.headers["x-request-id"]) >= 8


class Broken:
    """A desk of which nothing works any more."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


async def _ask(settings: Settings, desk: Any, platform: Platform) -> httpx.Response:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client,
    ):
        app.state.desk = desk
        return await client.get("/v1/positions", headers=platform.bearer(ANN))


async def test_what_nobody_foresaw_says_nothing(settings: Settings, platform: Platform) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = await _ask(settings, Broken(KeyError("the secret of the house")), platform)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "internal"
    assert "secret" not in answer.text
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["request_failed"]


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT 1", {}, Exception("gone"), connection_invalidated=True),
        ConnectionRefusedError(),
        TimeoutError(),
        OSError("Multiple exceptions"),
        Unreachable("no answer"),
        Uncertain("no answer"),
        Unavailable("away"),
    ],
)
async def test_what_is_away_may_come_back(settings: Settings, platform: Platform, error: Exception) -> None:
    answer = await _ask(settings, Broken(error), platform)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


async def test_a_database_that_is_away_is_a_503(
    serverless_settings: Settings, clock: Clock, rings: Rings
) -> None:
    database = open_database(serverless_settings.database_url.get_secret_value())
    desk = Desk(
        sessions=open_sessions(database),
        brokers=None,  # type: ignore[arg-type] # nobody gets that far
        queue=rings,
        vault=Vault.open(serverless_settings.vault_keys),
        now=clock,
    )
    answer = await _ask(serverless_settings, desk, Platform(serverless_settings))
    await database.dispose()
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_what_a_venue_refuses_is_a_conflict_with_its_words() -> None:
    kind = kind_of(Refused("Invalid key."))
    assert isinstance(kind, Conflict)
    assert kind.message == "The venue refused: Invalid key."
