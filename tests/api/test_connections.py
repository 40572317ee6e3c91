"""Connections over HTTP: their life from created to deleted, and everything that is refused on the way."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from app.desk import Desk, Sessions
from app.domain.exits import Protection
from app.domain.orders import OrderStatus
from app.store.connections import Connection
from app.store.executions import Execution, ExecutionStatus
from app.store.notifications import Notification
from tests.api.scene import ADMIN_ANN, ANN, BOB, DRAFT, NOON, PAPER, Api, Clock, Rows


async def _count(sessions: Sessions) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(Connection)) or 0


async def _told(sessions: Sessions) -> list[str]:
    async with sessions() as session:
        return list(await session.scalars(select(Notification.title).order_by(Notification.id)))


async def test_a_connection_from_created_to_deleted(api: Api, rows: Rows, sessions: Sessions) -> None:
    await rows.entitle(ANN)
    created = await api.call(ANN, "POST", "/v1/connections", 201, json=DRAFT)
    assert created["status"] == "inactive"
    assert created["is_tested"] is False
    assert created["paper"] == PAPER | {"partial_fill_percent": None}
    path = f"/v1/connections/{created['id']}"

    refused = await api.call(ANN, "POST", f"{path}/activate", 409)
    assert refused["code"] == "not_tested"

    tested = await api.call(ANN, "POST", f"{path}/test", 200)
    assert tested == {
        "ok": True,
        "code": None,
        "message": "The account can be reached and traded.",
        "balances": [{"currency": "USDT", "free": "10000", "total": "10000"}],
        "permissions": {"trade": True, "withdraw": False, "transfer": None},
        "checked_at": "2026-11-24T12:00:00Z",
    }
    seen = await api.call(ANN, "GET", path, 200)
    assert (seen["status"], seen["is_tested"], seen["last_error"]) == ("inactive", True, None)

    active = await api.call(ANN, "POST", f"{path}/activate", 200)
    assert (active["status"], active["first_activated_at"]) == ("active", "2026-11-24T12:00:00Z")
    async with sessions() as session:
        row = await session.get_one(Connection, created["id"])
        assert row.starting_balances == {"USDT": "10000"}

    balance = await api.call(ANN, "GET", f"{path}/balance", 200)
    assert balance["balances"] == [{"currency": "USDT", "free": "10000", "total": "10000"}]
    assert balance["equity"] == [{"currency": "USDT", "amount": "10000"}]

    retested = await api.call(ANN, "POST", f"{path}/test", 200)
    assert retested["ok"] is True
    assert (await api.call(ANN, "GET", path, 200))["status"] == "active"

    inactive = await api.call(ANN, "POST", f"{path}/deactivate", 200)
    assert inactive["status"] == "inactive"
    await api.call(ANN, "DELETE", path, 204)
    await api.call(ANN, "GET", path, 404)
    assert (await api.call(ANN, "GET", "/v1/connections", 200))["items"] == []
    assert await _told(sessions) == [
        "Connection Paper is active",
        "Connection Paper is inactive",
        "Connection Paper deleted",
    ]


async def test_activating_twice_changes_nothing_more(api: Api, rows: Rows, sessions: Sessions) -> None:
    await rows.entitle(ANN)
    id_ = await api.connect(ANN)
    again = await api.call(ANN, "POST", f"/v1/connections/{id_}/activate", 200)
    assert again["status"] == "active"
    assert await _told(sessions) == ["Connection Paper is active"]


async def test_without_sizing_there_is_no_activation(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    draft = {field: value for field, value in DRAFT.items() if field != "sizing"}
    id_ = (await api.call(ANN, "POST", "/v1/connections", 201, json=draft))["id"]
    await api.call(ANN, "POST", f"/v1/connections/{id_}/test", 200)
    problem = await api.call(ANN, "POST", f"/v1/connections/{id_}/activate", 422)
    assert [error["path"] for error in problem["errors"]] == ["sizing"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"kind": "fx", "exchange": "mt6"}, "exchange"),
        ({"kind": "fx", "exchange": "mt5", "market_type": "spot"}, "market_type"),
        ({"kind": "fx", "exchange": "mt5", "sandbox": True, "market_type": "fx"}, "sandbox"),
        ({"kind": "bank"}, "kind"),
        ({"exchange": "binance"}, "exchange"),
        ({"market_type": "fx"}, "market_type"),
        ({"sandbox": True}, "sandbox"),
        ({"sandbox": "true"}, "sandbox"),
        ({"paper": None}, "paper"),
        ({"credentials": {"api_key": "k" * 20}}, "credentials"),
        ({"leverage": "3"}, "leverage"),
        ({"leverage": "0.5"}, "leverage"),
        ({"margin_mode": "isolated"}, "margin_mode"),
        ({"margin_mode": "portfolio"}, "margin_mode"),
        ({"name": ""}, "name"),
        ({"name": "n" * 101}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"status": "active"}, "status"),
        ({"owner_id": "bob"}, "owner_id"),
        ({"limits": {"max_daily_loss": "0"}}, "limits.max_daily_loss"),
        ({"limits": {"on_daily_loss": "panic"}}, "limits.on_daily_loss"),
        ({"limits": {"max_open_positions": 0}}, "limits.max_open_positions"),
        ({"limits": {"max_open_positions": "3"}}, "limits.max_open_positions"),
        ({"limits": {"max_open_positions": True}}, "limits.max_open_positions"),
        ({"limits": {"max_spread_percent": "101"}}, "limits.max_spread_percent"),
        ({"protection": {"trailing": {}}}, "protection.trailing.activation_percent"),
        (
            {"protection": {"trailing": {"activation_percent": "1", "distance_percent": "100"}}},
            "protection.trailing.distance_percent",
        ),
        ({"protection": {"break_even_after_tp": 0}}, "protection.break_even_after_tp"),
        ({"protection": {"break_even_at_percent": "0"}}, "protection.break_even_at_percent"),
        ({"protection": {"max_hold_minutes": 1.5}}, "protection.max_hold_minutes"),
        ({"sizing": {"strategy": "fixed"}}, "sizing"),
        ({"sizing": {"strategy": "all_in", "value": "1"}}, "sizing.strategy"),
        ({"sizing": {"strategy": "fixed", "value": "0"}}, "sizing.value"),
        ({"sizing": {"strategy": "fixed", "value": "-1"}}, "sizing.value"),
        ({"sizing": {"strategy": "risk_percentage", "value": "101"}}, "sizing"),
        ({"sizing": {"strategy": "fixed", "value": "1", "max_quantity": "0"}}, "sizing.max_quantity"),
        ({"paper": PAPER | {"prices": "mtgox"}}, "paper.prices"),
        ({"paper": PAPER | {"prices": "binanceusdm"}}, "paper.prices"),
        ({"paper": PAPER | {"balance": "0"}}, "paper.balance"),
        ({"paper": PAPER | {"fee_percent": "-1"}}, "paper.fee_percent"),
        ({"paper": PAPER | {"seed": 1.5}}, "paper.seed"),
        ({"symbol_map": {"XAU": 1}}, "symbol_map.XAU"),
        ({"symbol_map": {"XAU": ""}}, "symbol_map.XAU.symbol"),
        ({"symbol_map": {"XAU": {"multiplier": "10"}}}, "symbol_map.XAU.symbol"),
        ({"symbol_map": {"XAU": {"symbol": "A/B", "multiplier": "0"}}}, "symbol_map.XAU.multiplier"),
        ({"symbol_map": {"XAU": {"symbol": "A/B", "multiplier": "-1"}}}, "symbol_map.XAU.multiplier"),
        ({"symbol_map": {"XAU": {"symbol": "A/B", "times": "10"}}}, "symbol_map.XAU.times"),
    ],
)
async def test_what_cannot_be_meant_is_named_and_nothing_is_written(
    api: Api, rows: Rows, sessions: Sessions, change: dict[str, Any], path: str
) -> None:
    await rows.entitle(ANN)
    problem = await api.call(ANN, "POST", "/v1/connections", 422, json=DRAFT | change)
    assert problem["code"] == "invalid"
    assert path in [error["path"] for error in problem["errors"]]
    assert await _count(sessions) == 0


LOGIN = {"account_id": "20011234", "api_secret": "secret-key-1", "server": "Broker-Demo"}


async def test_a_metatrader_account_is_connected_by_login_and_server(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    draft = {"name": "FX", "kind": "fx", "exchange": "mt5", "credentials": LOGIN | {"api_key": "gateway-key"}}
    created = await api.call(ANN, "POST", "/v1/connections", 201, json=draft)
    assert (created["market_type"], created["credentials_hint"]) == ("fx", "1234")
    assert "secret-key-1" not in str(created)
    listed = await api.call(ANN, "GET", "/v1/exchanges", 200)
    offered = {each["id"]: each for each in listed["items"] if each["kind"] == "fx"}
    assert sorted(offered) == ["mt4", "mt5"]
    for each in offered.values():
        assert each["credential_fields"] == ["account_id", "api_secret", "server"]
        assert each["optional_credential_fields"] == ["api_key"]
        assert each["credential_alternatives"] == {"server": ["host", "port"]}
    binance = next(each for each in listed["items"] if each["id"] == "binance")
    assert (binance["optional_credential_fields"], binance["credential_alternatives"]) == ([], {})
    assert (offered["mt5"]["market_types"], offered["mt5"]["native_stops"]) == (["fx"], True)


async def test_a_login_and_a_port_may_be_numbers(
    api: Api, rows: Rows, desk: Desk, sessions: Sessions
) -> None:
    await rows.entitle(ANN)
    given = {"account_id": 20011234, "api_secret": "secret-key-1", "host": "mt5.example.org", "port": 443}
    draft = {"name": "FX", "kind": "fx", "exchange": "mt5", "credentials": given}
    created = await api.call(ANN, "POST", "/v1/connections", 201, json=draft)
    async with sessions() as session:
        row = await session.get_one(Connection, UUID(created["id"]))
    opened = desk.vault.unseal(row.credentials_sealed or b"", row_id=row.id, version=1)
    assert opened == {name: str(value) for name, value in given.items()}
    for value in (443.5, True, None, [443], {"port": 443}):
        wrong = draft | {"credentials": given | {"port": value}}
        refused = await api.call(ANN, "POST", "/v1/connections", 422, json=wrong)
        assert [error["path"] for error in refused["errors"]] == ["credentials.port"]


@pytest.mark.parametrize(
    ("credentials", "path"),
    [
        ({"account_id": "20011234"}, "credentials"),
        ({"account_id": "20011234", "api_secret": "secret-key-1"}, "credentials"),
        (LOGIN | {"account_id": "twenty"}, "credentials.account_id"),
        (LOGIN | {"token": "t"}, "credentials"),
        (LOGIN | {"server": "", "host": "203.0.114.7", "port": "443"}, "credentials.server"),
        ({**LOGIN, "host": "10.0.0.1", "port": "443", "server": "x"}, None),
        ({"account_id": "1", "api_secret": "s", "host": "10.0.0.1", "port": "443"}, "credentials.host"),
        ({"account_id": "1", "api_secret": "s", "host": "127.0.0.1", "port": "443"}, "credentials.host"),
        ({"account_id": "1", "api_secret": "s", "host": "redis", "port": "6379"}, "credentials.host"),
        ({"account_id": "1", "api_secret": "s", "host": "mt5.example.org", "port": "0"}, "credentials.port"),
    ],
)
async def test_credentials_that_open_no_account_are_named(
    api: Api, rows: Rows, credentials: dict[str, str], path: str | None
) -> None:
    await rows.entitle(ANN)
    draft = {"name": "FX", "kind": "fx", "exchange": "mt4", "credentials": credentials}
    answer = await api.call(ANN, "POST", "/v1/connections", 201 if path is None else 422, json=draft)
    assert "secret-key-1" not in str(answer)
    if path is not None:
        assert [error["path"] for error in answer["errors"]] == [path]


async def test_amounts_are_kept_exact(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    body = '{"name":"P","kind":"paper","exchange":"paper","paper":{"balance":10000.10,"fee_percent":0.1},'
    body += '"sizing":{"strategy":"fixed","value":0.100000000000000005}}'
    headers = {"Content-Type": "application/json"}
    created = await api.call(ANN, "POST", "/v1/connections", 201, content=body, headers=headers)
    assert created["paper"]["balance"] == "10000.1"
    assert created["paper"]["fee_percent"] == "0.1"
    assert created["sizing"]["value"] == "0.100000000000000005"


async def test_a_swap_account_has_leverage(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    id_ = await api.connect(ANN, market_type="swap", leverage="3.0")
    assert (await api.call(ANN, "GET", f"/v1/connections/{id_}", 200))["leverage"] == "3"


async def test_a_change_replaces_what_it_names(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    id_ = await api.connect(ANN, limits={"max_open_positions": 3, "max_daily_trades": 9})
    change = {
        "name": "Renamed",
        "limits": {"max_open_positions": 5, "deny_symbols": ["DOGE/USDT"]},
        "symbol_map": {
            "XBT": "BTC/USDT",
            "PEPE/USDT": {"symbol": "1000PEPE/USDT:USDT", "multiplier": "1000"},
        },
        "protection": {
            "native": False,
            "trailing": {"activation_percent": 1, "distance_percent": "0.50"},
            "max_hold_minutes": 90,
        },
        "paper": PAPER | {"fee_percent": "0.2"},
    }
    changed = await api.call(ANN, "PATCH", f"/v1/connections/{id_}", 200, json=change)
    assert (changed["name"], changed["status"]) == ("Renamed", "active")
    assert changed["limits"]["max_open_positions"] == 5
    assert changed["limits"]["max_daily_trades"] is None
    assert changed["limits"]["deny_symbols"] == ["DOGE/USDT"]
    assert changed["protection"] == {
        "native": False,
        "break_even_after_tp": None,
        "break_even_at_percent": None,
        "trailing": {"activation_percent": "1", "distance_percent": "0.5"},
        "max_hold_minutes": 90,
        "trigger_source": None,
        "deadline_seconds": None,
    }
    assert changed["symbol_map"] == {
        "XBT": "BTC/USDT",
        "PEPE/USDT": {"symbol": "1000PEPE/USDT:USDT", "multiplier": "1000"},
    }
    assert changed["paper"]["fee_percent"] == "0.2"
    assert changed["sizing"]["value"] == "100"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"sizing": None}, "sizing cannot be null"),
        ({"name": None}, "name cannot be null"),
        ({"exchange": "paper"}, "Extra inputs are not permitted"),
        ({"paper": PAPER | {"balance": "1"}}, "A paper account keeps what it was opened with"),
        ({"paper": PAPER | {"seed": 8}}, "A paper account keeps what it was opened with"),
    ],
)
async def test_what_cannot_be_changed_is_said(
    api: Api, rows: Rows, change: dict[str, Any], path: str
) -> None:
    await rows.entitle(ANN)
    id_ = await api.connect(ANN)
    before = await api.call(ANN, "GET", f"/v1/connections/{id_}", 200)
    problem = await api.call(ANN, "PATCH", f"/v1/connections/{id_}", 422, json=change)
    assert path in problem["errors"][0]["message"]
    assert await api.call(ANN, "GET", f"/v1/connections/{id_}", 200) == before


async def test_a_paper_account_may_still_be_changed_before_it_is_opened(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    id_ = (await api.call(ANN, "POST", "/v1/connections", 201, json=DRAFT))["id"]
    paper = PAPER | {"balance": "500"}
    await api.call(ANN, "PATCH", f"/v1/connections/{id_}", 200, json={"paper": paper})
    tested = await api.call(ANN, "POST", f"/v1/connections/{id_}/test", 200)
    assert tested["balances"][0]["total"] == "500"


async def test_a_venue_that_cannot_serve_the_terms_fails_the_test(
    api: Api, rows: Rows, sessions: Sessions
) -> None:
    await rows.entitle(ANN)
    draft = DRAFT | {"paper": PAPER | {"prices": "recording"}}
    id_ = (await api.call(ANN, "POST", "/v1/connections", 201, json=draft))["id"]
    tested = await api.call(ANN, "POST", f"/v1/connections/{id_}/test", 200)
    assert tested["ok"] is False
    assert tested["code"] == "terms_not_served"
    assert (tested["balances"], tested["permissions"]) == (
        [],
        dict.fromkeys(("trade", "withdraw", "transfer")),
    )
    seen = await api.call(ANN, "GET", f"/v1/connections/{id_}", 200)
    assert (seen["status"], seen["last_error"]) == ("error", tested["message"])
    assert (await api.call(ANN, "POST", f"/v1/connections/{id_}/activate", 409))["code"] == "not_tested"
    assert await _told(sessions) == ["Connection Paper is in error"]


async def test_going_inactive_denies_what_waits(api: Api, rows: Rows, sessions: Sessions) -> None:
    connection = await rows.connection(ANN)
    waiting = await rows.execution(connection, status=ExecutionStatus.PENDING, due_at=NOON)
    done = await rows.execution(connection)
    await api.call(ANN, "POST", f"/v1/connections/{connection.id}/deactivate", 200)
    async with sessions() as session:
        denied = await session.get_one(Execution, waiting.id)
        assert (denied.status, denied.code) == (ExecutionStatus.DENIED, "connection_inactive")
        assert denied.due_at is None
        assert (await session.get_one(Execution, done.id)).status is ExecutionStatus.EXECUTED


async def test_deleting_while_something_is_open_takes_force(api: Api, rows: Rows, sessions: Sessions) -> None:
    connection = await rows.connection(ANN)
    position = await rows.position(connection)
    path = f"/v1/connections/{connection.id}"
    problem = await api.call(ANN, "DELETE", path, 409)
    assert problem["code"] == "positions_open"
    assert "open positions: 1, entries under way: 0" in problem["detail"]
    await api.call(ANN, "GET", path, 200)

    await api.call(ANN, "DELETE", path, 204, params={"force": "true"})
    await api.call(ANN, "GET", path, 404)
    seen = await api.call(ANN, "GET", f"/v1/positions/{position.id}", 200)
    assert (seen["status"], seen["protection"]) == ("open", Protection.NONE)
    async with sessions() as session:
        told = await session.scalar(select(Notification))
        assert told is not None
        assert "No longer managed: 1 of its positions are open." in told.message
        assert "Nobody watches stop and targets any more for BTC/USDT." in told.message
        assert told.data["positions"] == [str(position.id)]
    assert [order["status"] for order in seen["orders"]] == [OrderStatus.FILLED]


async def test_an_entry_under_way_counts_as_open(api: Api, rows: Rows) -> None:
    connection = await rows.connection(ANN)
    await rows.execution(connection, status=ExecutionStatus.SENDING)
    problem = await api.call(ANN, "DELETE", f"/v1/connections/{connection.id}", 409)
    assert "entries under way: 1" in problem["detail"]


async def test_one_active_connection_per_account(api: Api, rows: Rows) -> None:
    await rows.connection(BOB, account_identity="shared", status="active")
    mine = await rows.connection(ANN, account_identity="shared", status="inactive")
    await rows.entitle(ANN)
    problem = await api.call(ANN, "POST", f"/v1/connections/{mine.id}/activate", 409)
    assert problem["code"] == "account_in_use"
    seen = await api.call(ANN, "GET", f"/v1/connections/{mine.id}", 200)
    assert (seen["status"], seen["first_activated_at"]) == ("inactive", None)


async def test_the_plan_bounds_the_number_of_connections(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN, max_connections=1)
    first = await api.call(ANN, "POST", "/v1/connections", 201, json=DRAFT)
    problem = await api.call(ANN, "POST", "/v1/connections", 409, json=DRAFT)
    assert problem["code"] == "max_connections"
    await api.call(ANN, "DELETE", f"/v1/connections/{first['id']}", 204)
    await api.call(ANN, "POST", "/v1/connections", 201, json=DRAFT)


async def test_who_has_no_plan_may_only_reduce_risk(
    api: Api, rows: Rows, clock: Clock, sessions: Sessions
) -> None:
    await rows.entitle(ANN, expires_at=NOON + timedelta(minutes=1))
    id_ = await api.connect(ANN)
    clock.move(timedelta(minutes=1))
    path = f"/v1/connections/{id_}"
    for method, where in (
        ("POST", "/v1/connections"),
        ("POST", f"{path}/test"),
        ("POST", f"{path}/activate"),
    ):
        body = {"json": DRAFT} if where == "/v1/connections" else {}
        assert (await api.call(ANN, method, where, 403, **body))["code"] == "plan_required"
    assert await _count(sessions) == 1
    await api.call(ANN, "GET", path, 200)
    await api.call(ANN, "PATCH", path, 200, json={"limits": {"max_open_positions": 1}})
    await api.call(ANN, "POST", f"{path}/deactivate", 200)
    await api.call(ANN, "DELETE", path, 204)


async def test_who_never_had_a_plan_cannot_connect(api: Api, sessions: Sessions) -> None:
    assert (await api.call(BOB, "POST", "/v1/connections", 403, json=DRAFT))["code"] == "plan_required"
    assert await _count(sessions) == 0


async def test_admins_need_no_plan(api: Api) -> None:
    id_ = await api.connect(ADMIN_ANN)
    assert (await api.call(ADMIN_ANN, "GET", f"/v1/connections/{id_}", 200))["status"] == "active"


async def test_a_list_comes_in_pages_newest_first(api: Api, rows: Rows) -> None:
    ids = [str((await rows.connection(ANN, name=f"No. {number}")).id) for number in range(5)]
    await rows.connection(BOB)
    seen: list[str] = []
    cursor: str | None = None
    for size in (2, 2, 1):
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = await api.call(ANN, "GET", "/v1/connections", 200, params=query)
        assert len(page["items"]) == size
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert sorted(seen) == sorted(ids)
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "201"}, {"cursor": "x"}, {"status": "gone"}, {"color": "red"}]
)
async def test_a_wrong_query_is_named(api: Api, query: dict[str, str]) -> None:
    problem = await api.call(ANN, "GET", "/v1/connections", 422, params=query)
    assert problem["errors"][0]["path"].partition(".")[0] in query


async def test_a_list_can_be_of_one_status(api: Api, rows: Rows) -> None:
    await rows.connection(ANN)
    broken = await rows.connection(ANN, status="error", leverage=Decimal("2.50"), market_type="swap")
    page = await api.call(ANN, "GET", "/v1/connections", 200, params={"status": ["error", "testing"]})
    assert [(item["id"], item["leverage"]) for item in page["items"]] == [(str(broken.id), "2.5")]


async def test_a_connection_shows_that_it_only_reduces_for_the_loss_of_the_day(
    api: Api, rows: Rows, clock: Clock
) -> None:
    midnight = NOON + timedelta(hours=12)
    connection = await rows.connection(
        ANN, limits={"max_daily_loss": "100", "on_daily_loss": "close"}, reducing_until=midnight
    )
    path = f"/v1/connections/{connection.id}"
    seen = await api.call(ANN, "GET", path, 200)
    assert (seen["mode"], seen["reducing_until"]) == ("reducing", "2026-11-25T00:00:00Z")
    assert (seen["limits"]["max_daily_loss"], seen["limits"]["on_daily_loss"]) == ("100", "close")
    [listed] = (await api.call(ADMIN_ANN, "GET", "/v1/admin/connections", 200))["items"]
    assert listed["mode"] == "reducing"
    clock.move(timedelta(hours=12))
    seen = await api.call(ANN, "GET", path, 200)
    assert (seen["mode"], seen["reducing_until"]) == ("active", None)
