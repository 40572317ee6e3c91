"""What admins are told of differences between venues and books."""

from datetime import timedelta
from uuid import uuid4

from app.store.connections import ConnectionStatus
from tests.api.scene import ADMIN_ANN, ANN, BOB, Api, Clock, Rows


async def test_every_connection_is_compared_with_its_venue(api: Api, rows: Rows, clock: Clock) -> None:
    empty = await rows.connection(BOB, status=ConnectionStatus.INACTIVE)
    holding = await rows.connection(ANN)
    await rows.position(holding)
    path = "/v1/admin/discrepancies"
    _, moving = (await api.call(ADMIN_ANN, "GET", path, 200))["items"]
    assert moving["discrepancies"] == [], "it was filled this very moment"
    assert moving["unanswered"] == [
        "What is held in BTC: an order of ours there is undecided or has just been filled."
    ]
    clock.move(timedelta(minutes=1))
    first, second = (await api.call(ADMIN_ANN, "GET", path, 200))["items"]
    assert (first["connection_id"], first["owner"]["id"]) == (str(empty.id), "bob")
    assert (first["discrepancies"], first["unanswered"], first["symbols"]) == ([], [], None)
    # Nothing of it was ever bought at the paper venue.
    assert second["connection_id"] == str(holding.id)
    assert second["unanswered"] == []
    [missing] = second["discrepancies"]
    assert missing == {
        "kind": "missing_holding",
        "symbol": "BTC",
        "side": "long",
        "quantity": "0.01",
        "price": None,
        "client_order_id": None,
        "exchange_order_id": None,
        "status": None,
        "time": None,
    }


async def test_one_connection_may_be_asked_for(api: Api, rows: Rows) -> None:
    wanted, *_ = [await rows.connection(owner) for owner in (ANN, BOB)]
    path = "/v1/admin/discrepancies"
    asked = {"connection_id": str(wanted.id), "since": "2026-11-24T08:00:00Z"}
    [item] = (await api.call(ADMIN_ANN, "GET", path, 200, params=asked))["items"]
    assert (item["connection_id"], item["since"]) == (str(wanted.id), "2026-11-24T08:00:00Z")
    await api.call(ADMIN_ANN, "GET", path, 404, params={"connection_id": str(uuid4())})
