"""Events: what changes of the caller's own, as it changes."""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Message, Send

from app.api.bodies import ExactRoute
from app.api.callers import Caller, Reader
from app.api.executions import Execution, listing
from app.api.feed import Feed
from app.api.notifications import Notification
from app.api.positions import Position
from app.api.problems import Unavailable, kind_of
from app.api.sessions import OpenDesk, Reading
from app.desk import Sessions
from app.domain.errors import Invalid
from app.domain.owners import Owner
from app.store import changes, executions, notifications, ownership, positions
from app.store.changes import Change, Kind, Place

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/events", tags=["events"], route_class=ExactRoute)

BATCH: Final = 100
"""How many events are read at a time."""
RETRY_MILLISECONDS: Final = 2000
"""How long clients wait before they come back."""


_CURSOR: Final = re.compile(r"([0-9a-f]{8})-(\d{1,18})-([0-9a-f]{32})", re.ASCII)

_EXAMPLE: Final = """\
id: 7d5a1c09-48211-00000000000000000000000000000000
retry: 2000

event: position
data: {"id":"019aa5c2-7c00-7000-8000-000000000001","symbol":"BTC/USDT","side":"long","status":"open"}
id: 7d5a1c09-48217-019aa5c27c0070008000000000000001

: up to date

"""


class EventStream(StreamingResponse):
    """Server-sent events; a client that takes in nothing of them is let go."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncGenerator[bytes], patience: float) -> None:
        # The second header keeps nginx from waiting for more before it passes on what there is.
        super().__init__(pieces, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._pieces = pieces
        self._patience = patience

    async def stream_response(self, send: Send) -> None:
        """Send every piece, and close what makes them however that ends."""

        async def sent(message: Message) -> None:
            async with asyncio.timeout(self._patience):
                await send(message)

        async with aclosing(self._pieces):
            try:
                await super().stream_response(sent)
            except Exception as error:
                if not isinstance(kind_of(error), Unavailable):
                    raise
                # Nothing was taken in, or the database is away: who comes back is told that.
                log.warning("stream_cut", reason=type(error).__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """Whose stream it is, and where what they are told begins."""

    caller: Caller
    mark: str
    """The mark of the database."""
    place: Place
    is_lost: bool
    """Whether the place they asked to go on from is none of this database."""

    def cursor(self, place: Place) -> str:
        """A place as the `id` of an event."""
        return f"{self.mark}-{place.xid}-{place.resource_id.hex}"


async def _subscribe(session: AsyncSession, caller: Caller, last_event_id: str | None) -> Subscription:
    """A stream from an event on, or from now on without one. Raises Invalid for what is no `id` of an event."""
    present = await changes.present(session)
    if not last_event_id:
        return Subscription(caller, present.mark, present.place, is_lost=False)
    read = _CURSOR.fullmatch(last_event_id)
    if read is None:
        raise Invalid("Last-Event-ID", "This is no id of an event.")
    place = Place(int(read[2]), UUID(hex=read[3]))
    if read[1] != present.mark or place.xid > present.horizon:
        return Subscription(caller, present.mark, present.place, is_lost=True)
    return Subscription(caller, present.mark, place, is_lost=False)


@router.get(
    "",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "description": "Events without end, as server-sent events.",
            "content": {EventStream.media_type: {"schema": {"type": "string"}, "example": _EXAMPLE}},
        }
    },
)
async def stream_events(
    request: Request,
    caller: Reader,
    session: Reading,
    desk: OpenDesk,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="The `id` you saw last: you are told what has changed since. Without it, from now on.",
            examples=["7d5a1c09-48217-019aa5c27c0070008000000000000001"],
        ),
    ] = None,
) -> EventStream:
    """Your executions, positions and notifications as they change, within about a second of the change.

    `event` is `execution`, `position` or `notification`; `data` is the resource as its list shows it; `id` is what
    to send as `Last-Event-ID` to go on behind it, however long ago that was. You get each resource in its newest
    state: of several changes since the last event you may see only what they came to, and one state more than once,
    but never an older one after a newer. Replace by `id` what you hold. How far a notification has come on your
    channels is told with it, and is no event of its own.

    The stream begins with an `id` of its own, so open it first and read the lists then: nothing is missed between.
    The comment `up to date` says that all has been told that changed before; other comments keep the connection
    open. `event: reload` says that the database has been restored or replaced since your `Last-Event-ID`: read the
    lists again; the stream goes on from there.

    It ends when your token expires, when the server stops, and when you take in nothing for a minute. You may have
    10 open at a time.
    """
    feed: Feed = request.app.state.feed
    feed.check_room(caller.owner)
    subscription = await _subscribe(session, caller, last_event_id)
    return EventStream(_tell(desk.sessions, feed, subscription), feed.pace.patience)


async def _tell(sessions: Sessions, feed: Feed, subscription: Subscription) -> AsyncGenerator[bytes]:
    """The stream in pieces. No database connection waits while a client takes one in, or for something to happen."""
    caller, place = subscription.caller, subscription.place
    with feed.listening(caller.owner) as bell:
        yield format_sse_event(id=subscription.cursor(place), retry=RETRY_MILLISECONDS)
        if subscription.is_lost:
            yield format_sse_event(event="reload", data_str="{}", id=subscription.cursor(place))
        is_up_to_date = False
        while caller.seconds_left() > 0:
            # Before it is read: what comes while that goes on rings again.
            bell.clear()
            changed, told = await _read(sessions, subscription, place)
            if changed:
                place = changed[-1].place
                yield told
            if feed.is_over:
                return
            if len(changed) == BATCH:
                continue
            if not is_up_to_date:
                is_up_to_date = True
                yield format_sse_event(comment="up to date")
            while not await _rings(bell, min(caller.seconds_left(), feed.pace.quiet)):
                if caller.seconds_left() <= 0:
                    return
                yield format_sse_event(comment="")


async def _rings(bell: asyncio.Event, seconds: float) -> bool:
    """Whether it is rung within this time; answers as soon as it is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()
    return bell.is_set()


async def _read(
    sessions: Sessions, subscription: Subscription, place: Place
) -> tuple[Sequence[Change], bytes]:
    """The next changes behind a place, and the events that tell of them."""
    owner = subscription.caller.owner
    async with ownership.reading(sessions, owner) as session:
        changed = await changes.after(session, owner, place, limit=BATCH)
        resources = await _resources(session, owner, changed)
    events = (
        format_sse_event(
            event=change.kind,
            data_str=resources[change.resource_id].model_dump_json(),
            id=subscription.cursor(change.place),
        )
        for change in changed
    )
    return changed, b"".join(events)


async def _resources(
    session: AsyncSession, owner: Owner, changed: Sequence[Change]
) -> dict[UUID, Execution | Position | Notification]:
    """What has changed as it is now, by id."""
    ids = defaultdict(list)
    for change in changed:
        ids[change.kind].append(change.resource_id)
    found: list[Execution | Position | Notification] = []
    if wanted := ids[Kind.EXECUTION]:
        mine = listing(executions.owned_by(owner), executions.Execution.id.in_(wanted))
        found += [Execution.seen(*row) for row in await session.execute(mine)]
    if wanted := ids[Kind.POSITION]:
        held = select(positions.Position).where(positions.owned_by(owner), positions.Position.id.in_(wanted))
        found += [Position.of(row) for row in await session.scalars(held)]
    if wanted := ids[Kind.NOTIFICATION]:
        told = select(notifications.Notification).where(
            notifications.owned_by(owner), notifications.Notification.id.in_(wanted)
        )
        rows = await session.scalars(told.options(notifications.WITH_DELIVERIES))
        found += [Notification.shown(row) for row in rows]
    return {each.id: each for each in found}
