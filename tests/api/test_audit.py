"""The audit over HTTP: every change leaves an entry, in its own transaction, without secrets, for those it concerns."""

from typing import Any, Final

import pytest
from sqlalchemy import select, text

from app.desk import Sessions
from app.domain.owners import Owner, Role
from app.store.audit import AuditEntry
from app.store.connections import Connection
from tests.api.estate import Estate, fingerprint, settle
from tests.api.operations import UNAUDITED, Operation, operations
from tests.api.scene import ADMIN_ANN, ANN, BOB, PAPER, Api, Rows

AUDITED: Final = [each for each in operations() if each.changes and each.id not in UNAUDITED]

ABOUT_NO_CONNECTION: Final = {"set_trading", "replace_notification_settings"}


async def _entries(sessions: Sessions) -> list[AuditEntry]:
    async with sessions() as session:
        return list(await session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


async def _act(api: Api, operation: Operation, estate: Estate, status: int | None = None) -> Any:
    """Do it as the owner of everything; answers what is answered."""
    path = operation.at(estate.for_operation(operation.id))
    headers = api.platform.bearer(estate.owner)
    answer = await api.http.request(operation.method, path, headers=headers, **operation.options())
    assert answer.status_code == status if status else answer.is_success, (operation, answer.text)
    return answer.json() if answer.content else {}


def _acting(operation: Operation) -> Owner:
    return ADMIN_ANN if operation.is_for_admins else ANN


@pytest.mark.parametrize("operation", AUDITED, ids=lambda operation: operation.id)
async def test_every_change_leaves_an_entry(
    api: Api, rows: Rows, sessions: Sessions, operation: Operation
) -> None:
    owner = _acting(operation)
    estate = await settle(rows, owner)
    [before] = await _entries(sessions)
    answer = await _act(api, operation, estate)
    [_, entry] = await _entries(sessions)
    ids: dict[str, Any] = estate.for_operation(operation.id)
    if operation.id == "create_connection":
        ids["connection_id"] = answer["id"]
    assert entry.id > before.id
    assert entry.actor == owner
    if operation.id not in ABOUT_NO_CONNECTION:
        assert str(entry.connection_id) == str(ids["connection_id"])
    if "execution_id" in operation.names("path"):
        assert entry.execution_id == ids["execution_id"]
    if "position_id" in operation.names("path"):
        assert (entry.position_id, entry.execution_id) == (ids["position_id"], ids["execution_id"])


@pytest.mark.parametrize("operation", AUDITED, ids=lambda operation: operation.id)
async def test_without_its_entry_nothing_is_changed(
    api: Api, rows: Rows, sessions: Sessions, operation: Operation
) -> None:
    estate = await settle(rows, _acting(operation))
    async with sessions.begin() as session:
        await session.execute(
            text(
                "CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$"
            )
        )
        await session.execute(
            text("CREATE TRIGGER no_room BEFORE INSERT ON execution_audit EXECUTE FUNCTION disk_is_full()")
        )
    before = await fingerprint(sessions, apart_from_looks=True)
    problem = await _act(api, operation, estate, 503)
    assert problem["code"] == "unavailable"
    assert await fingerprint(sessions, apart_from_looks=True) == before


async def test_nothing_secret_is_written_down(api: Api, rows: Rows, sessions: Sessions) -> None:
    canary = "canary-4d1c7a"
    await rows.entitle(ANN)
    keys = {"api_key": f"{canary}-key", "api_secret": f"{canary}-secret"}
    draft = {"name": "Mine", "kind": "crypto", "exchange": "binance", "credentials": keys}
    id_ = (await api.call(ANN, "POST", "/v1/connections", 201, json=draft))["id"]
    change = {"credentials": keys | {"api_secret": f"{canary}-other"}, "name": "Ours"}
    await api.call(ANN, "PATCH", f"/v1/connections/{id_}", 200, json=change)
    created, changed = await _entries(sessions)
    assert created.detail["credentials"] == 1
    assert changed.detail == {
        "before": {"credentials": 1, "name": "Mine"},
        "after": {"credentials": 2, "name": "Ours"},
    }
    async with sessions() as session:
        written = await session.scalars(text("SELECT row::text FROM execution_audit AS row"))
        assert canary not in "".join(written)


async def test_what_a_change_changed(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    row = await rows.connection(ANN)
    sizing = {"strategy": "fixed", "value": "0.02", "on_too_small": "skip"}
    change = {"sizing": sizing, "paper": PAPER | {"fee_percent": "0.2"}}
    await api.call(ANN, "PATCH", f"/v1/connections/{row.id}", 200, json=change)
    position = await rows.position(row)
    plan = {"stop_loss": "26600", "take_profits": [{"price": "27000"}]}
    await api.call(ANN, "PATCH", f"/v1/positions/{position.id}", 200, json=plan)
    edit, changed = (await api.call(ANN, "GET", "/v1/audit", 200))["items"]
    assert changed["action"] == "change"
    assert changed["detail"]["before"]["sizing"] == {"strategy": "fixed", "value": "0.01"}
    assert changed["detail"]["after"]["sizing"] == sizing
    assert (edit["action"], edit["position_id"]) == ("edit", str(position.id))
    assert edit["detail"] == {
        "before": {"stop_loss": "26500", "take_profits": [{"price": "27150.5", "portion": "1"}]},
        "after": {"stop_loss": "26600", "take_profits": [{"price": "27000", "portion": "1"}]},
    }
    found = await api.call(ANN, "GET", "/v1/audit", 200, params={"position_id": str(position.id)})
    assert [each["id"] for each in found["items"]] == [edit["id"]]


async def test_owners_read_what_concerns_them(api: Api, rows: Rows, sessions: Sessions) -> None:
    zoe = Owner(Role.ADMIN, "zoe")
    for owner in (ANN, BOB):
        await rows.entitle(owner)
    anns, bobs = await rows.connection(ANN), await rows.connection(BOB)
    halt = {"mode": "halted", "reason": "odd"}
    await api.call(zoe, "POST", f"/v1/admin/connections/{anns.id}/mode", 200, json=halt)
    await api.call(BOB, "POST", f"/v1/connections/{bobs.id}/deactivate", 200)
    await api.call(ANN, "DELETE", f"/v1/connections/{anns.id}", 204)
    await api.call(zoe, "POST", "/v1/admin/trading", 200, json={"state": "active", "reason": "drill"})

    async def read_by(owner: Owner, path: str = "/v1/audit") -> list[str]:
        return [each["action"] for each in (await api.call(owner, "GET", path, 200))["items"]]

    assert await read_by(ANN) == ["delete", "mode"]
    assert await read_by(BOB) == ["deactivate"]
    assert await read_by(zoe) == ["trading", "mode"]
    assert await read_by(ADMIN_ANN) == []
    assert await read_by(ADMIN_ANN, "/v1/admin/audit") == ["trading", "delete", "deactivate", "mode"]
    async with sessions() as session:
        assert (await session.get_one(Connection, anns.id)).deleted_at is not None
