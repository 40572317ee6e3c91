"""Positions over HTTP: seen, edited, closed."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.desk import Sessions
from app.domain.orders import Purpose
from app.store.orders import Order
from tests.api.scene import ANN, NOON, Api, Rings, Rows


async def test_a_position_in_full(api: Api, rows: Rows) -> None:
    connection = await rows.connection(ANN)
    position = await rows.position(connection, marked_at=NOON + timedelta(microseconds=125_000))
    seen = await api.call(ANN, "GET", f"/v1/positions/{position.id}", 200)
    orders = seen.pop("orders")
    assert seen == {
        "id": str(position.id),
        "execution_id": str(position.execution_id),
        "signal_id": str(position.signal_id),
        "connection_id": str(connection.id),
        "symbol": "BTC/USDT",
        "side": "long",
        "status": "open",
        "quantity_unit": "base",
        "quantity": "0.01",
        "remaining_quantity": "0.01",
        "dust": "0",
        "entry_price": "26850.5",
        "exit_price": None,
        "current_price": "26900",
        "marked_at": "2026-11-24T12:00:00.125000Z",
        "stop_loss": "26500",
        "take_profits": [{"price": "27150.5", "quantity": "0.01", "filled_quantity": "0"}],
        "take_profits_note": None,
        "protection": "software",
        "trigger_source": None,
        "protected_at": None,
        "unprotected_since": None,
        "unprotected_seconds": "0",
        "stop_seen_at": None,
        "gross_pnl": "0",
        "fees": "0",
        "funding": "0",
        "realized_pnl": "0",
        "unrealized_pnl": "0",
        "pnl_complete": True,
        "foreign_quantity": "0",
        "foreign_orders": 0,
        "delisted_at": None,
        "currency": "USDT",
        "close_reason": None,
        "opened_at": "2026-11-24T12:00:00Z",
        "closed_at": None,
        "created_at": "2026-11-24T12:00:00Z",
        "updated_at": "2026-11-24T12:00:00Z",
    }
    assert [order["purpose"] for order in orders] == ["entry"]
    assert orders[0]["fees"] == [{"currency": "USDT", "amount": "0.268505"}]
    assert orders[0]["average_price"] == "26850.5"


async def test_lists_are_filtered(api: Api, rows: Rows) -> None:
    first, second = await rows.connection(ANN), await rows.connection(ANN)
    open_one = await rows.position(first)
    other = await rows.position(second, symbol="ETH/USDT")
    closed = await rows.closed_position(first)

    async def found(**query: Any) -> list[str]:
        page = await api.call(ANN, "GET", "/v1/positions", 200, params=query)
        return [item["id"] for item in page["items"]]

    assert await found() == [str(closed.id), str(other.id), str(open_one.id)]
    assert await found(status="open") == [str(other.id), str(open_one.id)]
    assert await found(status=["closed", "closing"]) == [str(closed.id)]
    assert await found(connection_id=str(first.id), status="open") == [str(open_one.id)]
    assert await found(symbol="ETH/USDT") == [str(other.id)]
    assert await found(symbol="ETH") == []


@pytest.mark.parametrize("query", [{"symbol": "\0"}, {"symbol": ""}, {"connection_id": "1"}, {"status": "x"}])
async def test_a_filter_that_cannot_be_meant_is_named(api: Api, query: dict[str, str]) -> None:
    problem = await api.call(ANN, "GET", "/v1/positions", 422, params=query)
    assert problem["code"] == "invalid"


async def test_stop_and_targets_are_edited(api: Api, rows: Rows, rings: Rings) -> None:
    position = await rows.position(await rows.connection(ANN))
    edit = {"stop_loss": "26600", "take_profits": [{"price": 27200, "portion": 0.5}]}
    edited = await api.call(ANN, "PATCH", f"/v1/positions/{position.id}", 200, json=edit)
    assert edited["stop_loss"] == "26600"
    assert edited["take_profits"] == [{"price": "27200", "quantity": "0.005", "filled_quantity": "0"}]
    assert rings.heard == [("protect", position.id)]


async def test_what_is_not_named_stays(api: Api, rows: Rows) -> None:
    position = await rows.position(await rows.connection(ANN))
    edited = await api.call(ANN, "PATCH", f"/v1/positions/{position.id}", 200, json={"stop_loss": None})
    assert edited["stop_loss"] is None
    assert [rung["price"] for rung in edited["take_profits"]] == ["27150.5"]
    bare = await api.call(ANN, "PATCH", f"/v1/positions/{position.id}", 200, json={"take_profits": []})
    assert bare["take_profits"] == []


@pytest.mark.parametrize(
    ("edit", "path"),
    [
        ({}, "body"),
        ({"stop_loss": "27000"}, "stop_loss"),
        ({"stop_loss": "0"}, "stop_loss"),
        ({"take_profits": [{"price": "26000"}]}, "take_profits"),
        ({"take_profits": [{"price": "27200", "portion": "1.1"}]}, "take_profits.0.portion"),
        ({"take_profits": [{"price": "27200"}, {"price": "27300"}]}, "take_profits"),
        ({"take_profits": [{"portion": "1"}]}, "take_profits.0.price"),
        ({"quantity": "5"}, "quantity"),
    ],
)
async def test_an_edit_that_cannot_be_meant_changes_nothing(
    api: Api, rows: Rows, rings: Rings, edit: dict[str, Any], path: str
) -> None:
    position = await rows.position(await rows.connection(ANN))
    before = await api.call(ANN, "GET", f"/v1/positions/{position.id}", 200)
    problem = await api.call(ANN, "PATCH", f"/v1/positions/{position.id}", 422, json=edit)
    assert [error["path"] for error in problem["errors"]] == [path]
    assert await api.call(ANN, "GET", f"/v1/positions/{position.id}", 200) == before
    assert rings.heard == []


async def test_closing_all_of_it(api: Api, rows: Rows, rings: Rings, sessions: Sessions) -> None:
    position = await rows.position(await rows.connection(ANN))
    closing = await api.call(ANN, "POST", f"/v1/positions/{position.id}/close", 202)
    assert closing["status"] == "closing"
    async with sessions() as session:
        order = await session.scalar(select(Order).where(Order.purpose == Purpose.CLOSE))
        assert order is not None
        assert rings.heard == [("close_position", order.id)]


async def test_closing_a_part_of_it(api: Api, rows: Rows) -> None:
    position = await rows.position(await rows.connection(ANN))
    path = f"/v1/positions/{position.id}/close"
    closing = await api.call(ANN, "POST", path, 202, json={"portion": 0.5})
    assert closing["status"] == "open"
    assert (await api.call(ANN, "POST", path, 409))["code"] == "conflict"


async def test_the_same_close_twice_is_one(api: Api, rows: Rows, rings: Rings) -> None:
    position = await rows.position(await rows.connection(ANN))
    path, named = f"/v1/positions/{position.id}/close", {"Idempotency-Key": "close-7f3a"}
    first = await api.call(ANN, "POST", path, 202, headers=named)
    again = await api.call(ANN, "POST", path, 202, headers=named)
    assert (first["id"], first["status"]) == (again["id"], again["status"])
    assert len(rings.heard) == 1


@pytest.mark.parametrize("close", [{"portion": "0"}, {"portion": "1.01"}, {"portion": "NaN"}, {"all": True}])
async def test_a_close_that_cannot_be_meant_closes_nothing(
    api: Api, rows: Rows, rings: Rings, close: dict[str, Any]
) -> None:
    position = await rows.position(await rows.connection(ANN))
    await api.call(ANN, "POST", f"/v1/positions/{position.id}/close", 422, json=close)
    assert rings.heard == []


@pytest.mark.parametrize("key", ["", "k" * 65, "tab\there"])
async def test_an_idempotency_key_is_a_short_name(api: Api, rows: Rows, key: str) -> None:
    position = await rows.position(await rows.connection(ANN))
    path = f"/v1/positions/{position.id}/close"
    problem = await api.call(ANN, "POST", path, 422, headers={"Idempotency-Key": key})
    assert [error["path"] for error in problem["errors"]] == ["idempotency-key"]


async def test_what_is_closed_is_closed(api: Api, rows: Rows) -> None:
    position = await rows.closed_position(await rows.connection(ANN))
    path = f"/v1/positions/{position.id}"
    assert (await api.call(ANN, "POST", f"{path}/close", 409))["code"] == "conflict"
    edit = {"stop_loss": "26600"}
    assert (await api.call(ANN, "PATCH", path, 409, json=edit))["code"] == "conflict"
