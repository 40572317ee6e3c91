"""The event stream: what has changed is told to its owner, all of it, once it is certain, and to nobody else."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import text, update
from starlette.types import Message
from structlog.testing import capture_logs

from app.api.events import BATCH, EventStream
from app.api.feed import MOST_STREAMS, Feed, Pace
from app.desk import Desk, Sessions
from app.domain.owners import Owner
from app.main import create_app
from app.settings import Settings
from app.store.executions import Execution, ExecutionStatus
from app.store.notifications import Notification
from app.store.positions import Position
from app.store.schema import new_id
from tests.api.estate import settle
from tests.api.scene import ADMIN_ANN, ANN, BOB, NOON, Api, Rows
from tests.api.streams import LONG, Stream, Told, listening

QUICK: Final = Pace(look=0.05)


@pytest.fixture
def quick(api: Api, desk: Desk) -> Feed:
    """A feed that looks often."""
    feed = Feed(desk.sessions, QUICK)
    api.service.state.feed = feed
    return feed


def stream_of(
    api: Api, owner: Owner, last_id: str | None = None, **claims: Any
) -> AbstractAsyncContextManager[Stream]:
    """What an owner is told."""
    return listening(api.service, api.platform.bearer(owner, **claims), last_id)


async def beginning(api: Api, owner: Owner) -> str:
    """The id to be told everything from that changes from now on."""
    async with stream_of(api, owner) as stream:
        assert await stream.news() == []
        return stream.last_id


async def told_since(api: Api, owner: Owner, last_id: str) -> list[Told]:
    """Everything that an owner is told who comes back."""
    async with stream_of(api, owner, last_id) as stream:
        return await stream.news()


async def listed(api: Api, owner: Owner) -> dict[str, Any]:
    """Everything that the lists show, by id."""
    return {
        item["id"]: item
        for path in ("executions", "positions", "notifications")
        for item in (await api.call(owner, "GET", f"/v1/{path}?limit=200", 200))["items"]
    }


async def tell(sessions: Sessions, owner: Owner, count: int, **columns: Any) -> list[UUID]:
    """Notifications of one transaction."""
    told = [
        Notification(
            id=new_id(),
            owner_role=owner.role,
            owner_id=owner.id,
            type="open",
            title="Opened",
            message="Opened.",
            created_at=NOON,
            **columns,
        )
        for _ in range(count)
    ]
    async with sessions.begin() as session:
        session.add_all(told)
    return [each.id for each in told]


async def mark(sessions: Sessions, ids: list[UUID], number: int) -> None:
    """Change notifications, in a transaction of its own."""
    async with sessions.begin() as session:
        await session.execute(
            update(Notification).where(Notification.id.in_(ids)).values(data={"number": number})
        )


async def test_what_changes_is_told_as_the_lists_show_it(api: Api, rows: Rows, sessions: Sessions) -> None:
    connection = await rows.connection(ANN)
    async with stream_of(api, ANN) as stream:
        assert await stream.news() == []
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert stream.headers["cache-control"] == "no-store"
        position = await rows.position(connection)
        note = await rows.notification(ANN, position_id=position.id)
        events = {told.data["id"]: told for told in [await stream.next() for _ in range(3)]}
        shown = await listed(api, ANN)
        assert {id_: told.data for id_, told in events.items()} == shown
        assert {id_: told.event for id_, told in events.items()} == {
            str(position.execution_id): "execution",
            str(position.id): "position",
            str(note.id): "notification",
        }
        async with sessions.begin() as session:
            await session.execute(update(Position).values(current_price=Decimal(26950), marked_at=NOON))
        marked = await stream.next()
        assert (marked.event, marked.data["current_price"]) == ("position", "26950")
        await api.call(ANN, "POST", f"/v1/notifications/{note.id}/read", 200)
        read = await stream.next()
        assert (read.data["id"], read.data["read_at"]) == (str(note.id), "2026-11-24T12:00:00Z")
        async with sessions.begin() as session:
            await session.execute(update(Execution).values(status=ExecutionStatus.PARTIAL))
        assert (await stream.next()).data["status"] == "partial"


async def test_a_signal_that_comes_in_is_told(api: Api, rows: Rows) -> None:
    await rows.entitle(ANN)
    await rows.connection(ANN)
    now = api.service.state.desk.now()
    data = {"id": "s1", "symbol": "BTC/USDT", "direction": "buy"}
    body = json.dumps({"type": "signal.published", "timestamp": now.isoformat(), "data": data}).encode()
    async with stream_of(api, ANN) as stream:
        await stream.news()
        await api.call(
            None,
            "POST",
            "/v1/webhooks/signals",
            202,
            content=body,
            headers=api.platform.signed(body, now) | {"content-type": "application/json"},
        )
        told = await stream.next()
        assert (told.event, told.data["status"]) == ("execution", "pending")


# Without a gap


async def test_what_commits_out_of_order_is_not_lost(api: Api, sessions: Sessions) -> None:
    first, second = await tell(sessions, ANN, 2)
    last_id = await beginning(api, ANN)
    told = []
    async with sessions() as early, sessions() as late:
        for session, id_ in ((early, first), (late, second)):
            await session.execute(update(Notification).where(Notification.id == id_).values(read_at=NOON))
        await late.commit()
        async with stream_of(api, ANN, last_id) as stream:
            told += await stream.news()
            await early.commit()
            last_id = stream.last_id
        async with stream_of(api, ANN, last_id) as stream:
            told += await stream.news()
            last_id = stream.last_id
    assert sorted(each.data["id"] for each in told) == [str(first), str(second)]
    assert all(each.data["read_at"] is not None for each in told)
    assert await told_since(api, ANN, last_id) == []


async def test_what_is_rolled_back_is_not_told(api: Api, sessions: Sessions) -> None:
    await tell(sessions, ANN, 1)
    last_id = await beginning(api, ANN)
    async with sessions() as session:
        await session.execute(update(Notification).values(read_at=NOON))
        await session.rollback()
    assert await told_since(api, ANN, last_id) == []


@pytest.mark.parametrize("seed", range(3))
async def test_many_writers_and_many_reconnects_lose_nothing(
    api: Api, sessions: Sessions, quick: Feed, seed: int
) -> None:
    chance = random.Random(seed)
    ids = await tell(sessions, ANN, 120)
    last_id = await beginning(api, ANN)
    told: set[str] = set()

    async def write(mine: list[UUID]) -> None:
        """Change each once, two to a transaction: what is not told then is never made up for."""
        while mine:
            async with sessions() as session:
                for id_ in (mine.pop(), mine.pop()):
                    change = update(Notification).where(Notification.id == id_)
                    await session.execute(change.values(read_at=NOON))
                    await asyncio.sleep(chance.random() / 20)
                await session.commit()

    async def read() -> None:
        nonlocal last_id
        while len(told) < len(ids):
            async with stream_of(api, ANN, last_id) as stream:
                # It keeps up with the writers: only there is an order of commits to be caught by.
                told.update(each.data["id"] for each in await stream.news())
                for _ in range(min(chance.randint(0, 2), len(ids) - len(told))):
                    told.add((await stream.next()).data["id"])
                last_id = stream.last_id

    async with quick.running():
        await asyncio.gather(read(), *(write(ids[number::3]) for number in range(3)))
    assert told == {str(id_) for id_ in ids}
    assert await told_since(api, ANN, last_id) == []


async def test_one_transaction_is_gone_on_with_in_its_middle(api: Api, sessions: Sessions) -> None:
    last_id = await beginning(api, ANN)
    ids = await tell(sessions, ANN, 2 * BATCH + 30)
    async with stream_of(api, ANN, last_id) as stream:
        told = [await stream.next() for _ in range(BATCH + 20)]
        assert stream.last_id == told[-1].id
    told += await told_since(api, ANN, told[-1].id)
    assert [each.data["id"] for each in told] == [str(each) for each in sorted(ids)]


async def test_every_event_is_a_place_to_go_on_from(api: Api, rows: Rows) -> None:
    last_id = await beginning(api, ANN)
    await settle(rows, ANN)
    everything = await told_since(api, ANN, last_id)
    assert len(everything) == 7
    for number, told in enumerate(everything, 1):
        assert await told_since(api, ANN, told.id) == everything[number:]


async def test_what_changes_often_is_told_in_its_newest_state(api: Api, sessions: Sessions) -> None:
    [id_] = await tell(sessions, ANN, 1)
    last_id = await beginning(api, ANN)
    for number in range(20):
        await mark(sessions, [id_], number)
    [told] = await told_since(api, ANN, last_id)
    assert told.data["data"] == {"number": 19}


@pytest.mark.parametrize("broken", ["another database", "the future"])
async def test_an_id_that_means_nothing_here_is_answered_with_reload(
    api: Api, sessions: Sessions, broken: str
) -> None:
    await tell(sessions, ANN, 1)
    mark_, xid, resource = (await beginning(api, ANN)).split("-")
    lost = f"00000000-{xid}-{resource}" if broken == "another database" else f"{mark_}-{'9' * 18}-{resource}"
    async with stream_of(api, ANN, lost) as stream:
        reload = await stream.next()
        assert (reload.event, reload.data, reload.id) == ("reload", {}, stream.last_id)
        assert await stream.news() == []
    [id_] = await tell(sessions, ANN, 1)
    assert [each.data["id"] for each in await told_since(api, ANN, reload.id)] == [str(id_)]


@pytest.mark.parametrize("id_", ["x", "7d5a1c09-1-2", "7d5a1c09--" + "0" * 32, "9" * 300])
async def test_an_id_that_is_none_is_refused(api: Api, id_: str) -> None:
    refused = await api.call(ANN, "GET", "/v1/events", 422, headers={"Last-Event-ID": id_})
    assert refused["errors"][0]["path"] == "Last-Event-ID"


# To their owner alone


@pytest.mark.parametrize("owner", [ANN, BOB, ADMIN_ANN], ids=lambda owner: f"{owner.role}-{owner.id}")
async def test_nobody_is_told_of_what_another_owns(api: Api, rows: Rows, owner: Owner) -> None:
    last_id = await beginning(api, owner)
    estates = {each: await settle(rows, each) for each in (ANN, BOB, ADMIN_ANN)}
    told = str(await told_since(api, owner, last_id))
    assert {each for each, estate in estates.items() if estate.shows_in(told)} == {owner}
    # A place is one in the order of all: what is told from it is the caller's all the same.
    others = next(each for each in estates if each != owner)
    for event in await told_since(api, others, last_id):
        assert not estates[others].shows_in(str(await told_since(api, owner, event.id)))


async def test_the_second_wall_stands_before_the_stream_too(api: Api, rows: Rows, sessions: Sessions) -> None:
    """Whatever PostgreSQL hides from the reader of owners' rows is not told, not even to who owns it."""
    last_id = await beginning(api, ANN)
    await rows.notification(ANN)
    async with sessions.begin() as session:
        await session.execute(
            text("ALTER POLICY own_rows ON execution_changes USING (current_user <> 'engine_reader')")
        )
    assert await told_since(api, ANN, last_id) == []


async def test_a_stream_ends_when_its_token_does(api: Api) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=4)
    async with stream_of(api, ANN, exp=ends) as stream:
        assert await stream.news() == []
        assert await stream.news(until=None) == []
        assert datetime.now(UTC) >= ends.replace(microsecond=0)
    again = await api.call(None, "GET", "/v1/events", 401, headers=api.platform.bearer(ANN, exp=ends))
    assert again["code"] == "unauthenticated"


async def test_an_owner_may_have_so_many_open(api: Api) -> None:
    async with asyncio.timeout(LONG):
        streams = [stream_of(api, ANN) for _ in range(MOST_STREAMS)]
        for stream in streams:
            await (await stream.__aenter__()).news()
        refused = await api.http.get("/v1/events", headers=api.platform.bearer(ANN))
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused.headers["Retry-After"]) > 0
        async with stream_of(api, BOB) as of_another:
            await of_another.news()
        await streams.pop().__aexit__(None, None, None)
        async with stream_of(api, ANN) as another:
            await another.news()
        for stream in streams:
            await stream.__aexit__(None, None, None)


# Without holding anything up


async def nobody_borrows(desk: Desk) -> None:
    """Wait until no connection is out of the pool, where one that is held would stay so."""
    async with asyncio.timeout(LONG):
        while desk.sessions.kw["bind"].pool.checkedout():
            await asyncio.sleep(0.005)


async def test_who_waits_holds_no_connection(api: Api, desk: Desk) -> None:
    async with stream_of(api, ANN) as stream, stream_of(api, BOB) as other:
        await stream.news()
        await other.news()
        await nobody_borrows(desk)


async def test_who_is_slow_holds_nothing_up_and_misses_nothing(
    api: Api, desk: Desk, sessions: Sessions, quick: Feed
) -> None:
    ids = await tell(sessions, ANN, BATCH)
    async with quick.running(), stream_of(api, ANN) as slow, stream_of(api, ANN) as other:
        await slow.news()
        await other.news()
        slow.takes.clear()
        for number in range(20):
            await mark(sessions, ids, number)
            # The other one hears of each round, so the slow one has had its chance, too.
            while (await other.next()).data["data"] != {"number": number}:
                pass
        await nobody_borrows(desk)
        slow.takes.set()
        seen: dict[str, list[int]] = {}
        while len(seen) < len(ids) or any(numbers[-1] != 19 for numbers in seen.values()):
            told = await slow.next()
            seen.setdefault(told.data["id"], []).append(told.data["data"]["number"])
        # What it was being sent when it stopped, and what there was when it went on.
        assert all(len(numbers) <= 3 for numbers in seen.values())


async def test_who_takes_in_nothing_is_let_go() -> None:
    closed = asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b": \n\n"
        finally:
            closed.set()

    async def takes_the_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async with asyncio.timeout(LONG):
        await EventStream(pieces(), patience=0.05).stream_response(takes_the_head)
    assert closed.is_set()


async def test_a_comment_keeps_the_connection_open(api: Api, desk: Desk) -> None:
    api.service.state.feed = Feed(desk.sessions, Pace(quiet=0.05))
    async with stream_of(api, ANN) as stream:
        await stream.news()
        assert (await stream.block(), await stream.block()) == (": ", ": ")


async def test_a_look_that_fails_is_made_up_for(api: Api, sessions: Sessions, quick: Feed) -> None:
    async def rename(old: str, new: str) -> None:
        async with sessions.begin() as session:
            await session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    async with quick.running(), stream_of(api, ANN) as stream:
        await stream.news()
        with capture_logs() as logged:
            await rename("execution_changes", "elsewhere")
            async with asyncio.timeout(LONG):
                while not any(each["event"] == "feed_look_failed" for each in logged):
                    await asyncio.sleep(0.02)
        await rename("elsewhere", "execution_changes")
        [id_] = await tell(sessions, ANN, 1)
        assert (await stream.next()).data["id"] == str(id_)


@pytest.fixture
async def another_process(settings: Settings, desk: Desk) -> AsyncIterator[Any]:
    """The service in another process, where Redis is away."""
    app = create_app(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}), desk)
    async with app.router.lifespan_context(app):
        yield app


async def test_every_process_tells_the_same(api: Api, rows: Rows, another_process: Any) -> None:
    async with stream_of(api, ANN) as here:
        await here.news()
        async with listening(another_process, api.platform.bearer(ANN)) as there:
            await there.news()
            note = await rows.notification(ANN)
            for stream in (here, there):
                assert (await stream.next()).data["id"] == str(note.id)
            last_id = there.last_id
        later = await rows.notification(ANN)
        async with listening(another_process, api.platform.bearer(ANN), last_id) as there:
            assert [each.data["id"] for each in await there.news()] == [str(later.id)]


async def test_a_feed_that_is_over_tells_what_there_is_and_ends(api: Api, rows: Rows) -> None:
    last_id = await beginning(api, ANN)
    async with stream_of(api, ANN) as open_before:
        await open_before.news()
        note = await rows.notification(ANN)
        api.service.state.feed.stop()
        assert [each.data["id"] for each in await open_before.news(until=None)] == [str(note.id)]
    async with stream_of(api, ANN, last_id) as opened_after:
        assert [each.data["id"] for each in await opened_after.news(until=None)] == [str(note.id)]
