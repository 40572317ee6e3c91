"""Notifications over HTTP."""

from datetime import timedelta

from app.store.notifications import NotificationType
from tests.api.scene import ANN, BOB, NOON, Api, Clock, Rows


async def test_what_one_was_told(api: Api, rows: Rows) -> None:
    connection = await rows.connection(ANN)
    told = await rows.notification(ANN, connection_id=connection.id)
    page = await api.call(ANN, "GET", "/v1/notifications", 200)
    assert page == {
        "items": [
            {
                "id": str(told.id),
                "type": "open",
                "title": "BTC/USDT: long opened",
                "message": "Opened a long position.",
                "data": {"price": "26850.5"},
                "connection_id": str(connection.id),
                "signal_id": None,
                "position_id": None,
                "read_at": None,
                "created_at": "2026-11-24T12:00:00Z",
                "deliveries": [],
            }
        ],
        "next_cursor": None,
    }


async def test_reading_keeps_the_first_time(api: Api, rows: Rows, clock: Clock) -> None:
    told = await rows.notification(ANN)
    path = f"/v1/notifications/{told.id}/read"
    read = await api.call(ANN, "POST", path, 200)
    clock.move(timedelta(minutes=1))
    again = await api.call(ANN, "POST", path, 200)
    assert read["read_at"] == again["read_at"] == "2026-11-24T12:00:00Z"


async def test_reading_all(api: Api, rows: Rows) -> None:
    for _ in range(3):
        await rows.notification(ANN)
    await rows.notification(ANN, read_at=NOON)
    await rows.notification(BOB)
    assert await api.call(ANN, "POST", "/v1/notifications/read-all", 200) == {"read": 3}
    assert await api.call(ANN, "POST", "/v1/notifications/read-all", 200) == {"read": 0}
    assert len((await api.call(BOB, "GET", "/v1/notifications?unread=true", 200))["items"]) == 1


async def test_lists_are_filtered(api: Api, rows: Rows) -> None:
    read = await rows.notification(ANN, read_at=NOON)
    unread = await rows.notification(ANN, type=NotificationType.SL_HIT)

    async def found(query: str) -> list[str]:
        page = await api.call(ANN, "GET", f"/v1/notifications?{query}", 200)
        return [item["id"] for item in page["items"]]

    assert await found("unread=true") == [str(unread.id)]
    assert await found("unread=false") == [str(read.id)]
    assert await found("type=sl_hit&type=tp_hit") == [str(unread.id)]
    assert await found("type=risk") == []
