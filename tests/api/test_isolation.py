"""Isolation: every operation of the OpenAPI document, asked by everybody who may not be served by it.

A new route is asked like the others. One that takes a parameter or a body nobody has given an example of fails.
"""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import jwt
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from sqlalchemy import text

from app.api.sessions import reading, reading_all
from app.desk import Sessions
from app.domain.owners import Owner, Role
from app.main import RESOURCES
from app.store import ownership
from app.store.connections import Connection
from tests.api.estate import Estate, fingerprint, settle
from tests.api.operations import Operation, operations
from tests.api.scene import ADMIN_ANN, ANN, BOB, NOON, Api, Clock, Platform, Rows
from tests.api.streams import listening

pytestmark = pytest.mark.usefixtures("finite_streams")

ADMIN_ZOE: Final = Owner(Role.ADMIN, "zoe")

OPEN_TO_ALL: Final = {"live": 200, "ready": 200, "get_metrics": 200, "receive_event": 401}
"""What is asked without a token, and what it answers; an event has a signature of its own, missing here."""


def _unsigned(platform: Platform, algorithm: str) -> str:
    claims = jwt.decode(platform.token(ADMIN_ANN), options={"verify_signature": False})
    parts = ({"alg": algorithm, "typ": "JWT"}, claims)
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join((*encoded, ""))


def _signed(platform: Platform, algorithm: str, key: str) -> str:
    claims = jwt.decode(platform.token(ADMIN_ANN), options={"verify_signature": False})
    return jwt.encode(claims, key, algorithm=algorithm)


IMPOSTORS: Final[dict[str, Callable[[Platform], dict[str, str]]]] = {
    "nobody": lambda _: {},
    "expired": lambda them: them.bearer(ADMIN_ANN, exp=datetime.now(UTC) - timedelta(seconds=5)),
    "of another audience": lambda them: them.bearer(ADMIN_ANN, aud="somebody-else"),
    "unsigned": lambda them: {"Authorization": f"Bearer {_unsigned(them, 'none')}"},
    "unsigned, and says otherwise": lambda them: {"Authorization": f"Bearer {_unsigned(them, 'HS256')}"},
    "of another algorithm": lambda them: {
        "Authorization": f"Bearer {_signed(them, 'HS512', them.secret * 2)}"
    },
    "of another secret": lambda them: {"Authorization": f"Bearer {_signed(them, 'HS256', 'x' * 40)}"},
    "without a role": lambda them: them.bearer(ADMIN_ANN, role=None),
    "not a bearer": lambda them: {"Authorization": f"Basic {them.token(ADMIN_ANN)}"},
}


@pytest.fixture
async def estates(api: Api, rows: Rows) -> dict[Owner, Estate]:
    """What a user owns, and what an admin owns."""
    async with listening(api.service, api.platform.bearer(ANN)) as stream:
        await stream.block()
    return {owner: await settle(rows, owner, stream.last_id) for owner in (ANN, ADMIN_ZOE)}


@pytest.mark.parametrize("impostor", IMPOSTORS)
async def test_without_a_good_token_nothing_is_told_and_nothing_done(
    api: Api, sessions: Sessions, estates: dict[Owner, Estate], clock: Clock, impostor: str
) -> None:
    headers = IMPOSTORS[impostor](api.platform)
    before = await fingerprint(sessions)
    for operation in operations():
        # Whoever guesses is told to slow down, which is another test's business.
        clock.move(timedelta(minutes=1))
        for estate in estates.values():
            answer = await _ask(api, operation, estate, headers)
            expected = 401 if operation.is_guarded else OPEN_TO_ALL[operation.id]
            assert answer.status_code == expected, operation
            assert not estate.shows_in(answer.text), operation
            if operation.is_guarded:
                assert answer.json()["code"] == "unauthenticated", operation
        assert await fingerprint(sessions) == before, operation


async def test_a_token_to_read_with_changes_nothing(
    api: Api, sessions: Sessions, estates: dict[Owner, Estate]
) -> None:
    before = await fingerprint(sessions)
    for operation in _guarded():
        owner = ADMIN_ZOE if operation.is_for_admins else ANN
        headers = api.platform.bearer(owner, scope="read")
        answer = await _ask(api, operation, estates[owner], headers)
        if operation.changes:
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_required"), operation
        else:
            assert answer.status_code == 200, (operation, answer.text)
        assert await fingerprint(sessions) == before, operation


async def test_a_token_to_trade_with_reads_nothing_and_changes_all(
    api: Api, estates: dict[Owner, Estate]
) -> None:
    for operation in _guarded():
        owner = ADMIN_ZOE if operation.is_for_admins else ANN
        answer = await _ask(api, operation, estates[owner], api.platform.bearer(owner, scope="trade"))
        if operation.changes:
            assert answer.status_code != 403, (operation, answer.text)
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_required"), operation


async def test_what_is_for_admins_is_for_admins(
    api: Api, sessions: Sessions, estates: dict[Owner, Estate]
) -> None:
    before = await fingerprint(sessions)
    admins_alone = [operation for operation in _guarded() if operation.is_for_admins]
    assert len(admins_alone) >= 8
    for operation in admins_alone:
        for estate in estates.values():
            answer = await _ask(api, operation, estate, api.platform.bearer(ANN))
            assert (answer.status_code, answer.json()["code"]) == (403, "admin_required"), operation
    assert await fingerprint(sessions) == before


@pytest.mark.parametrize(
    ("stranger", "owner"),
    [
        (BOB, ANN),
        (ADMIN_ANN, ANN),
        (BOB, ADMIN_ZOE),
        (ADMIN_ANN, ADMIN_ZOE),
        (Owner(Role.USER, "zoe"), ADMIN_ZOE),
    ],
    ids=lambda owner: f"{owner.role}-{owner.id}",
)
async def test_what_another_owns_is_not_there(
    api: Api, rows: Rows, sessions: Sessions, estates: dict[Owner, Estate], stranger: Owner, owner: Owner
) -> None:
    if stranger.role is Role.USER:
        await rows.entitle(stranger)
    estate, headers = estates[owner], api.platform.bearer(stranger)
    nowhere = Estate(stranger, "", dict.fromkeys(estate.ids, uuid4()), dict.fromkeys(estate.special, uuid4()))
    before = await fingerprint(sessions)
    for operation in _guarded():
        if operation.is_for_admins or _every_admin_sees(operation, stranger):
            continue
        if not operation.names("path"):
            await _check_own_list(api, operation, estate, headers)
            continue
        foreign = await _ask(api, operation, estate, headers)
        missing = await _ask(api, operation, nowhere, headers)
        assert foreign.status_code == missing.status_code == 404, (operation, foreign.text)
        assert foreign.json() | {"request_id": ""} == missing.json() | {"request_id": ""}, operation
        assert await fingerprint(sessions) == before, operation


def _every_admin_sees(operation: Operation, caller: Owner) -> bool:
    """Signals are nobody's: an admin sees them all, without what became of them elsewhere."""
    return caller.role is Role.ADMIN and operation.id in ("get_signal", "list_signals")


async def _check_own_list(api: Api, operation: Operation, estate: Estate, headers: dict[str, str]) -> None:
    """A list, a sum or an export holds nothing foreign, whichever of the foreign things it is asked for."""
    if operation.changes:
        return
    ids = {name: str(estate.ids[name]) for name in operation.names("query") if name in estate.ids}
    for asked in ({}, *({name: value} for name, value in ids.items())):
        options = operation.options()
        options["params"] |= asked
        answer = await api.http.request(
            operation.method, operation.path, headers=_whole(operation, estate, headers), **options
        )
        assert answer.status_code == (404 if asked and "/analytics/" in operation.path else 200), operation
        assert not estate.shows_in(answer.text), operation


async def test_signals_show_an_admin_nothing_of_other_owners(api: Api, estates: dict[Owner, Estate]) -> None:
    for estate in estates.values():
        signal_id = estate.ids["signal_id"]
        seen = await api.call(ADMIN_ANN, "GET", f"/v1/signals/{signal_id}", 200)
        assert (seen["title"], seen["executions"]) == (estate.marker, [])


@pytest.mark.usefixtures("estates")
async def test_all_that_is_read_by_one_leaves_the_others_unread(api: Api, sessions: Sessions) -> None:
    before = await fingerprint(sessions)
    for stranger in (BOB, ADMIN_ANN):
        assert await api.call(stranger, "POST", "/v1/notifications/read-all", 200) == {"read": 0}
    assert await fingerprint(sessions) == before


async def test_a_lapsed_plan_stops_what_the_document_says_it_stops(
    api: Api, rows: Rows, sessions: Sessions
) -> None:
    stopped = set()
    for number, operation in enumerate(_guarded()):
        if operation.is_for_admins:
            continue
        owner = Owner(Role.USER, f"lapsed-{number}")
        estate = await settle(rows, owner)
        await rows.entitle(owner, expires_at=NOON - timedelta(days=1))
        if operation.id == "set_connection_mode":
            await api.call(
                owner,
                "POST",
                f"/v1/connections/{estate.ids['connection_id']}/mode",
                200,
                json={"mode": "halted"},
            )
        before = await fingerprint(sessions)
        answer = await _ask(api, operation, estate, api.platform.bearer(owner))
        if "plan_required" in operation.codes():
            stopped.add(operation.id)
            assert (answer.status_code, answer.json()["code"]) == (403, "plan_required"), operation
            assert await fingerprint(sessions) == before, operation
        else:
            assert answer.is_success, (operation, answer.text)
    assert stopped == {"create_connection", "test_connection", "activate_connection", "set_connection_mode"}


async def test_owners_are_served(api: Api, rows: Rows) -> None:
    """The other side of all of the above: what is refused to everybody else is served to its owner."""
    for number, operation in enumerate(_guarded()):
        owner = Owner(Role.ADMIN if operation.is_for_admins else Role.USER, f"owner-{number}")
        estate = await settle(rows, owner)
        answer = await _ask(api, operation, estate, api.platform.bearer(owner))
        assert answer.is_success, (operation, answer.text)


async def test_a_stream_tells_owners_what_it_keeps_from_others(
    api: Api, estates: dict[Owner, Estate]
) -> None:
    """What strangers are asked for above is all there, or it would prove nothing."""
    [stream] = [operation for operation in _guarded() if "Last-Event-ID" in operation.names("header")]
    for owner, estate in estates.items():
        answer = await _ask(api, stream, estate, api.platform.bearer(owner))
        assert estate.shows_in(answer.text)


async def test_what_asks_a_venue_reads_behind_the_second_wall_too(
    api: Api, rows: Rows, sessions: Sessions
) -> None:
    """Whatever PostgreSQL hides from the reader of owners' rows is not seen, not even by who owns it."""
    await rows.entitle(ANN)
    id_ = await api.connect(ANN, limits={"max_open_positions": 1})
    async with sessions() as session:
        connection = await session.get_one(Connection, UUID(id_))
    await rows.position(connection)
    signal = {"symbol": "BTCUSDT", "direction": "buy", "stop_loss": "50000"}

    async def decided() -> tuple[str, str | None]:
        [seen] = (await api.call(ANN, "POST", "/v1/signals/preview", 200, json=signal))["connections"]
        return seen["decision"], seen["code"]

    assert await decided() == ("denied", "max_open_positions")
    await _hide(sessions, "execution_positions", "execution_logs")
    assert await decided() == ("order", None)
    await _hide(sessions, "execution_entitlements")
    assert await decided() == ("denied", "plan_required")
    await api.call(ANN, "GET", f"/v1/connections/{id_}/balance", 200)
    await _hide(sessions, "execution_connections")
    await api.call(ANN, "GET", f"/v1/connections/{id_}/balance", 404)
    empty = await api.call(ANN, "POST", "/v1/signals/preview", 200, json=signal)
    assert empty == {"connections": []}


async def _hide(sessions: Sessions, *tables: str) -> None:
    async with sessions.begin() as session:
        for table in tables:
            hidden = f"current_user <> '{ownership.READER}'"
            await session.execute(text(f"ALTER POLICY own_rows ON {table} USING ({hidden})"))


def test_only_admins_are_served_from_sessions_over_all_owners() -> None:
    over_all = {
        resource.__name__
        for resource in RESOURCES
        for route in resource.router.routes
        if isinstance(route, APIRoute) and reading_all in _calls(route.dependant)
    }
    assert over_all == {"app.api.admin", "app.api.system"}


def test_no_transaction_is_open_while_something_is_changed() -> None:
    """What changes something may ask a venue, and a bound session has a transaction open from its beginning."""
    for resource in RESOURCES:
        for route in resource.router.routes:
            if isinstance(route, APIRoute) and route.methods != {"GET"}:
                assert not {reading, reading_all} & set(_calls(route.dependant)), route.path


def _calls(dependant: Dependant) -> Iterator[Any]:
    """Everything a route depends on, however deep."""
    yield dependant.call
    for each in dependant.dependencies:
        yield from _calls(each)


def _guarded() -> list[Operation]:
    return [operation for operation in operations() if operation.is_guarded]


async def _ask(api: Api, operation: Operation, estate: Estate, headers: dict[str, str]) -> Any:
    path = operation.at(estate.for_operation(operation.id))
    headers = _whole(operation, estate, headers)
    return await api.http.request(operation.method, path, headers=headers, **operation.options())


def _whole(operation: Operation, estate: Estate, headers: dict[str, str]) -> dict[str, str]:
    """Headers by which a stream tells all there is, from before the estate was there."""
    asks = estate.since and "Last-Event-ID" in operation.names("header")
    return headers | {"Last-Event-ID": estate.since} if asks else headers
