"""Executions, signals and denial codes over HTTP."""

import asyncio
from typing import Any

from app.brokers.crypto.catalogue import catalogue
from app.desk import Desk
from app.domain.denials import CATALOGUE
from app.main import create_app
from app.settings import Settings
from app.store.executions import ExecutionStatus
from tests.api.scene import ANN, NOON, Api, Rows


async def test_an_execution_in_full(api: Api, rows: Rows) -> None:
    position = await rows.position(await rows.connection(ANN))
    seen = await api.call(ANN, "GET", f"/v1/executions/{position.execution_id}", 200)
    assert seen == {
        "id": str(position.execution_id),
        "signal_id": str(position.signal_id),
        "connection_id": str(position.connection_id),
        "position_id": str(position.id),
        "status": "executed",
        "code": None,
        "message": None,
        "symbol": "BTC/USDT",
        "direction": "buy",
        "order_type": "market",
        "quantity_unit": "base",
        "requested_quantity": "0.01",
        "filled_quantity": "0.01",
        "average_price": "26850.5",
        "fees": [{"currency": "USDT", "amount": "0.268505"}],
        "client_order_id": None,
        "exchange_order_id": None,
        "attempts": 1,
        "signal_events": [],
        "timeline": {
            "received": "2026-11-24T12:00:00Z",
            "queued": "2026-11-24T12:00:00.004000Z",
            "sent": "2026-11-24T12:00:00.039000Z",
            "acknowledged": "2026-11-24T12:00:00.159000Z",
            "filled": "2026-11-24T12:00:00.161000Z",
            "milliseconds": {"queued": 4, "sent": 35, "acknowledged": 120, "filled": 2, "total": 161},
        },
        "created_at": "2026-11-24T12:00:00Z",
        "updated_at": "2026-11-24T12:00:00Z",
    }


async def test_a_denied_execution_went_no_further(api: Api, rows: Rows) -> None:
    nowhere = dict.fromkeys(("queued_at", "sent_at", "acknowledged_at", "filled_at"))
    denied = await rows.execution(
        await rows.connection(ANN, market_type="fx"),
        status=ExecutionStatus.DENIED,
        code="signal_too_old",
        message="The signal is 400 s old; 300 s are accepted.",
        **nowhere,
    )
    seen = await api.call(ANN, "GET", f"/v1/executions/{denied.id}", 200)
    assert (seen["status"], seen["code"], seen["position_id"]) == ("denied", "signal_too_old", None)
    assert seen["quantity_unit"] == "lots"
    assert set(seen["timeline"]["milliseconds"].values()) == {None}


async def test_a_skipped_step_is_counted_from_the_one_before(api: Api, rows: Rows) -> None:
    execution = await rows.execution(await rows.connection(ANN), queued_at=None)
    seen = await api.call(ANN, "GET", f"/v1/executions/{execution.id}", 200)
    assert (
        seen["timeline"]["milliseconds"].items()
        >= {"queued": None, "sent": 39, "acknowledged": 120, "total": 161}.items()
    )


async def test_lists_of_executions_are_filtered(api: Api, rows: Rows) -> None:
    first, second = await rows.connection(ANN), await rows.connection(ANN)
    signal = await rows.signal()
    one = await rows.execution(first, signal)
    two = await rows.execution(second, signal, status=ExecutionStatus.PENDING, due_at=NOON)
    three = await rows.execution(second)

    async def found(**query: Any) -> list[str]:
        page = await api.call(ANN, "GET", "/v1/executions", 200, params=query)
        return [item["id"] for item in page["items"]]

    assert await found() == [str(three.id), str(two.id), str(one.id)]
    assert await found(signal_id=str(signal.id)) == [str(two.id), str(one.id)]
    assert await found(connection_id=str(second.id)) == [str(three.id), str(two.id)]
    assert await found(status="pending") == [str(two.id)]
    assert await found(limit="1") == [str(three.id)]


async def test_a_signal_with_its_executions(api: Api, rows: Rows) -> None:
    signal = await rows.signal(title="Breakout", plans=["gold"], timeframe="4h")
    execution = await rows.execution(await rows.connection(ANN), signal)
    seen = await api.call(ANN, "GET", f"/v1/signals/{signal.id}", 200)
    assert [each["id"] for each in seen.pop("executions")] == [str(execution.id)]
    assert seen == {
        "id": str(signal.id),
        "provider": "default",
        "source_id": signal.source_id,
        "symbol": "BTC/USDT",
        "market": None,
        "direction": "buy",
        "order_type": "market",
        "entry_price": "26850.5",
        "stop_loss": None,
        "take_profits": [{"price": "27150.5", "portion": "1"}],
        "quantity": None,
        "timeframe": "4h",
        "plans": ["gold"],
        "published_at": "2026-11-24T12:00:00Z",
        "expires_at": None,
        "title": "Breakout",
        "note": None,
        "received_at": "2026-11-24T12:00:00Z",
    }


async def test_lists_of_signals_are_filtered(api: Api, rows: Rows) -> None:
    connection = await rows.connection(ANN)
    one = await rows.signal(provider="east", symbol="ETH/USDT")
    two = await rows.signal()
    for signal in (one, two):
        await rows.execution(connection, signal)

    async def found(**query: Any) -> list[str]:
        page = await api.call(ANN, "GET", "/v1/signals", 200, params=query)
        return [item["id"] for item in page["items"]]

    assert await found() == [str(two.id), str(one.id)]
    assert await found(provider="east") == [str(one.id)]
    assert await found(symbol="BTC/USDT") == [str(two.id)]


async def test_every_reason_is_listed(api: Api) -> None:
    listed = (await api.call(ANN, "GET", "/v1/denial-codes", 200))["items"]
    assert {each["code"] for each in listed} == set(CATALOGUE)
    assert all(set(each) == {"code", "kind", "title", "what_to_do"} for each in listed)


async def test_what_can_be_connected_is_looked_up_before_anybody_asks(settings: Settings, desk: Desk) -> None:
    catalogue.cache_clear()
    app = create_app(settings, desk)
    async with app.router.lifespan_context(app), asyncio.timeout(60):
        while catalogue.cache_info().currsize == 0:
            await asyncio.sleep(0.02)


async def test_paper_and_every_exchange_of_ccxt_can_be_connected(api: Api) -> None:
    listed = (await api.call(ANN, "GET", "/v1/exchanges", 200))["items"]
    by_id = {each["id"]: each for each in listed}
    assert by_id["paper"] == {
        "id": "paper",
        "name": "Paper trading",
        "kind": "paper",
        "market_types": ["spot", "swap"],
        "credential_fields": [],
        "credential_labels": {},
        "optional_credential_fields": [],
        "credential_alternatives": {},
        "sandbox": False,
        "native_stops": True,
        "native_protection": {"spot": "bracket", "swap": "bracket"},
        "trigger_sources": {key: ["mark", "last", "index"] for key in ("spot", "swap")},
        "tier": "certified",
        "tiers": {"spot": "certified", "swap": "certified"},
        "limitations": {},
        "client_order_ids": {"spot": True, "swap": True},
        "proves_absence": {"spot": True, "swap": True},
    }
    assert by_id["binance"] == {
        "id": "binance",
        "name": "Binance",
        "kind": "crypto",
        "market_types": ["spot", "swap"],
        "credential_fields": ["api_key", "api_secret"],
        "credential_labels": {"api_key": "API key", "api_secret": "API secret"},
        "optional_credential_fields": [],
        "credential_alternatives": {},
        "sandbox": True,
        "native_stops": True,
        "native_protection": {"spot": "bracket", "swap": "stop_and_targets"},
        "trigger_sources": {"swap": ["mark", "last"]},
        "tier": "certified",
        "tiers": {"spot": "certified", "swap": "certified"},
        "limitations": {},
        "client_order_ids": {"spot": True, "swap": True},
        "proves_absence": {"spot": True, "swap": True},
    }
    okx = by_id["okx"]
    assert okx["credential_fields"] == ["api_key", "api_secret", "api_passphrase"]
    assert okx["credential_labels"]["api_passphrase"] == "API passphrase"
    assert okx["native_protection"] == {"spot": "stop_only", "swap": "stop_and_targets"}
    assert by_id["gate"]["native_protection"] == {"spot": "none", "swap": "stop_only"}
    assert okx["trigger_sources"] == {"swap": ["mark", "last"]}
    assert (okx["client_order_ids"]["swap"], okx["proves_absence"]["swap"]) == (True, False)
    assert by_id["cryptocom"]["tiers"] == {"spot": "compatible", "swap": "listed"}
    assert "only reduce" in by_id["cryptocom"]["limitations"]["swap"]
    assert by_id["bitflyer"]["client_order_ids"]["spot"] is False
    assert by_id["bitstamp"]["client_order_ids"]["spot"] is True
    assert by_id["dydx"]["client_order_ids"]["swap"] is None
    assert len(by_id) > 90
    assert {each["id"] for each in listed if each["tier"] == "certified"} >= {"binance", "bybit", "paper"}
