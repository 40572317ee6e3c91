"""Modes, the kill switch, close-all and the audit trail over HTTP."""

from datetime import timedelta
from typing import Any

import pytest

from app.store.executions import ExecutionStatus
from tests.api.scene import ADMIN_ANN, ANN, BOB, NOON, Api, Clock, Rows


async def test_a_mode_is_set_and_shown(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    connection = await rows.connection(ANN)
    await rows.execution(connection, status=ExecutionStatus.PENDING, attempts=0, due_at=NOON)
    path = f"/v1/connections/{connection.id}"
    changed = await api.call(ANN, "POST", f"{path}/mode", 200, json={"mode": "reducing", "reason": "a break"})
    assert changed["mode"] == "reducing"
    assert (await api.call(ANN, "GET", path, 200))["mode"] == "reducing"
    [execution] = (await api.call(ANN, "GET", "/v1/executions", 200))["items"]
    assert (execution["status"], execution["code"]) == ("denied", "trading_reducing")
    [told] = (await api.call(ANN, "GET", "/v1/notifications", 200, params={"type": "connection"}))["items"]
    assert told["message"] == "You set its mode to reducing: a break"
    await api.call(ANN, "POST", f"{path}/mode", 422, json={"mode": "asleep"})
    await api.call(ANN, "POST", f"{path}/mode", 422, json={"reason": "none"})


async def test_a_lapsed_user_may_only_get_stricter(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN, expires_at=NOON - timedelta(days=1))
    path = f"/v1/connections/{(await rows.connection(ANN)).id}/mode"
    for mode in ("active", "reducing", "reducing", "halted"):
        await api.call(ANN, "POST", path, 200, json={"mode": mode, "reason": "lapsed"})
    for mode in ("reducing", "active"):
        problem = await api.call(ANN, "POST", path, 403, json={"mode": mode, "reason": "lapsed"})
        assert problem["code"] == "plan_required"


async def test_the_kill_switch_is_for_admins_and_shown(api: Api, rows: Rows, clock: Clock) -> None:
    before = await api.call(ADMIN_ANN, "GET", "/v1/admin/system", 200)
    assert before["trading"] == {"state": "active", "reason": None, "set_by": None, "set_at": None}
    clock.move(timedelta(seconds=1))
    change = {"state": "halted", "reason": "absurd prices"}
    state = await api.call(ADMIN_ANN, "POST", "/v1/admin/trading", 200, json=change)
    assert state == {**change, "set_by": "ann", "set_at": "2026-11-24T12:00:01Z"}
    assert (await api.call(ADMIN_ANN, "GET", "/v1/admin/system", 200))["trading"] == state

    await rows.entitle(ANN)
    await api.connect(ANN)
    draft = {"symbol": "BTC/USDT", "direction": "buy"}
    [seen] = (await api.call(ANN, "POST", "/v1/signals/preview", 200, json=draft))["connections"]
    assert (seen["code"], seen["message"]) == ("trading_halted", "The whole engine is halted.")

    await api.call(ADMIN_ANN, "POST", "/v1/admin/trading", 422, json={"state": "active"})
    change = {"state": "active", "reason": "good again"}
    await api.call(ADMIN_ANN, "POST", "/v1/admin/trading", 200, json=change)
    [seen] = (await api.call(ANN, "POST", "/v1/signals/preview", 200, json=draft))["connections"]
    assert seen["decision"] == "order"


async def test_an_admin_reaches_one_owners_connection_and_leaves_a_trail(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    id_ = await api.connect(ANN)
    path = f"/v1/admin/connections/{id_}"
    changed = await api.call(ADMIN_ANN, "POST", f"{path}/mode", 200, json={"mode": "halted", "reason": "odd"})
    assert (changed["mode"], changed["owner"]) == ("halted", {"role": "user", "id": "ann"})
    cleared = await api.call(ADMIN_ANN, "POST", f"{path}/close-all", 200, json={"reason": "out"})
    assert cleared == {"entries": [], "positions": []}
    await api.call(ADMIN_ANN, "POST", "/v1/admin/trading", 200, json={"state": "active", "reason": "drill"})

    trail = (await api.call(ADMIN_ANN, "GET", "/v1/admin/audit", 200))["items"]
    actions = [each["action"] for each in trail]
    assert actions == ["trading", "close_all", "mode", "activate", "test", "create"]
    mode = trail[2]
    assert mode | {"id": ""} == {
        "id": "",
        "action": "mode",
        "actor": {"role": "admin", "id": "ann"},
        "connection_id": id_,
        "execution_id": None,
        "position_id": None,
        "reason": "odd",
        "detail": {"before": "active", "after": "halted"},
        "created_at": "2026-11-24T12:00:00Z",
    }

    async def found(**query: Any) -> list[str]:
        page = await api.call(ADMIN_ANN, "GET", "/v1/admin/audit", 200, params=query)
        return [each["action"] for each in page["items"]]

    assert await found(action="trading") == ["trading"]
    assert await found(connection_id=id_) == ["close_all", "mode", "activate", "test", "create"]
    assert await found(limit="1") == ["trading"]
    [told] = (await api.call(ANN, "GET", "/v1/notifications", 200, params={"type": "connection"}))["items"][
        :1
    ]
    assert told["message"] == "An administrator set its mode to halted: odd"


async def test_close_all_reports_each(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    id_ = await api.connect(ANN)
    connection = await rows.connection(ANN)
    waiting = await rows.execution(connection, status=ExecutionStatus.PENDING, attempts=0, due_at=NOON)
    position = await rows.position(connection)
    cleared = await api.call(ANN, "POST", f"/v1/connections/{connection.id}/close-all", 200)
    assert cleared["entries"] == [
        {
            "execution_id": str(waiting.id),
            "symbol": "BTC/USDT",
            "status": "cancelled",
            "message": "Taken back by close-all.",
        }
    ]
    [reported] = cleared["positions"]
    # The paper account of this row never bought what the row says is held: its coins may be free later.
    assert reported.pop("message")
    assert reported == {
        "position_id": str(position.id),
        "symbol": "BTC/USDT",
        "status": "closing",
        "remaining_quantity": "0.01",
    }
    assert await api.call(ANN, "POST", f"/v1/connections/{id_}/close-all", 200, json={}) == {
        "entries": [],
        "positions": [],
    }


async def test_an_entry_is_taken_back(api: Api, rows: Rows) -> None:
    waiting = await rows.execution(
        await rows.connection(ANN), status=ExecutionStatus.PENDING, attempts=0, due_at=NOON
    )
    path = f"/v1/executions/{waiting.id}/cancel"
    cancelled = await api.call(ANN, "POST", path, 200)
    assert (cancelled["status"], cancelled["message"]) == ("cancelled", "Taken back before it was sent.")
    assert (await api.call(ANN, "POST", path, 409))["code"] == "conflict"


async def test_an_entry_in_review_is_resolved(api: Api, rows: Rows) -> None:
    position = await rows.position(await rows.connection(ANN))
    path = f"/v1/executions/{position.execution_id}/resolve"
    assert (await api.call(ANN, "POST", path, 409, json={"outcome": "absent"}))["code"] == "conflict"
    for wrong in ({"outcome": "lost"}, {}, {"outcome": "placed", "exchange_order_id": ""}):
        await api.call(ANN, "POST", path, 422, json=wrong)


KILL_SWITCHES = pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/admin/trading", {"state": "halted", "reason": "mine now"}),
        ("/v1/admin/connections/{id}/mode", {"mode": "halted", "reason": "mine now"}),
        ("/v1/admin/connections/{id}/close-all", {}),
    ],
)


@KILL_SWITCHES
async def test_a_token_to_trade_with_is_enough_for_the_kill_switch(
    api: Api, rows: Rows, path: str, body: dict[str, str]
) -> None:
    id_ = (await rows.connection(ANN)).id
    headers = api.platform.bearer(ADMIN_ANN, scope="trade")
    answer = await api.http.post(path.format(id=id_), json=body, headers=headers)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("caller", [ANN, BOB])
@KILL_SWITCHES
async def test_users_have_no_kill_switch(
    api: Api, rows: Rows, caller: Any, path: str, body: dict[str, str]
) -> None:
    id_ = (await rows.connection(ANN)).id
    problem = await api.call(caller, "POST", path.format(id=id_), 403, json=body)
    assert problem["code"] == "admin_required"
    headers = api.platform.bearer(ADMIN_ANN, scope="read")
    answer = await api.http.post(path.format(id=id_), json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_required")
    assert (await api.call(ADMIN_ANN, "GET", "/v1/admin/audit", 200))["items"] == []
