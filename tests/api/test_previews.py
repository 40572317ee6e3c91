"""Previews over HTTP."""

from datetime import timedelta
from typing import Any

from tests.api.scene import ADMIN_ANN, ANN, BOB, NOON, Api, Rows

SIGNAL: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "direction": "buy",
    "stop_loss": "50000",
    "take_profits": [{"price": "70000", "portion": "0.5"}, {"price": "80000", "portion": 0.5}],
}


async def _preview(api: Api, status: int = 200, **changes: Any) -> Any:
    return await api.call(ANN, "POST", "/v1/signals/preview", status, json=SIGNAL | changes)


async def test_a_preview_in_full(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    id_ = await api.connect(ANN)
    await api.connect(ADMIN_ANN)
    [seen] = (await _preview(api))["connections"]
    price = seen["order"].pop("price")
    notional, fees = (float(seen["order"].pop(name)) for name in ("notional", "estimated_fees"))
    quantity = float(seen["order"].pop("quantity"))
    assert 0 < notional <= 100
    assert abs(notional - float(price) * quantity) < 1e-6
    assert abs(fees - notional * 0.001) < 1e-6
    halves = [target.pop("quantity") for target in seen["protection"]["take_profits"]]
    assert abs(sum(map(float, halves)) - quantity) < 1e-9
    assert seen == {
        "connection_id": id_,
        "decision": "order",
        "code": None,
        "message": None,
        "order": {"symbol": "BTC/USDT", "side": "buy", "type": "market", "currency": "USDT"},
        "protection": {
            "stop_loss": "50000",
            "take_profits": [{"price": "70000"}, {"price": "80000"}],
            "message": None,
            "mode": "native",
        },
    }
    assert (await api.call(ANN, "GET", "/v1/signals", 200))["items"] == []


async def test_a_limit_is_previewed_at_its_price(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    await api.connect(ANN)
    [seen] = (await _preview(api, order_type="limit", entry_price="55000.001"))["connections"]
    assert (seen["order"]["type"], seen["order"]["price"]) == ("limit", "55000")


async def test_a_denial_is_previewed_with_its_reason(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    id_ = await api.connect(ANN)
    [seen] = (await _preview(api, symbol="XYZ/USDT"))["connections"]
    assert seen == {
        "connection_id": id_,
        "decision": "denied",
        "code": "symbol_unknown",
        "message": "XYZ/USDT is not listed as spot at this venue.",
        "order": None,
        "protection": None,
    }
    old = (NOON - timedelta(seconds=301)).isoformat()
    [late] = (await _preview(api, published_at=old))["connections"]
    assert late["code"] == "signal_too_old"


async def test_what_the_plan_does_not_cover_is_previewed_as_denied(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN, plans=["gold"])
    await api.connect(ANN)
    [other] = (await _preview(api, plans=["silver"]))["connections"]
    assert (other["decision"], other["code"]) == ("denied", "plan_required")
    [covered] = (await _preview(api, plans=["silver", "gold"]))["connections"]
    assert covered["decision"] == "order"


async def test_whoever_may_read_may_preview(api: Api) -> None:
    headers = api.platform.bearer(BOB, scope="read")
    answer = await api.http.post("/v1/signals/preview", json=SIGNAL, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"connections": []})


async def test_a_signal_that_contradicts_itself_is_not_previewed(api: Api) -> None:
    problem = await _preview(api, 422, entry_price="40000")
    assert [error["path"] for error in problem["errors"]] == ["stop_loss"]
    assert (await _preview(api, 422, order_type="limit"))["errors"][0]["path"] == "entry_price"
    ahead = (NOON + timedelta(minutes=6)).isoformat()
    assert (await _preview(api, 422, published_at=ahead))["errors"][0]["path"] == "published_at"
