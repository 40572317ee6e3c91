"""Event streams as a client sees them: what it is told, when it looks, and how it comes back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from starlette.types import ASGIApp, Message

LONG: Final = 60
"""Seconds that anything may take on a busy machine."""

UP_TO_DATE: Final = ": up to date"


@dataclass(frozen=True)
class Told:
    """One event."""

    event: str
    id: str
    data: Any

    @classmethod
    def parse(cls, block: str) -> Self | None:
        """An event from its lines; None for a comment, or an `id` alone."""
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        return cls(fields["event"], fields["id"], json.loads(fields["data"])) if "data" in fields else None


class Stream:
    """One open stream."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.last_id = ""
        """What is sent to go on from here."""
        self.takes = asyncio.Event()
        """Whether it takes in what it is sent."""
        self.takes.set()
        self._read: asyncio.Queue[str | None] = asyncio.Queue()
        self._begun = asyncio.Event()
        self._rest = ""

    async def hear(self, message: Message) -> None:
        """Take a message of the server, when it takes any."""
        await self.takes.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self._begun.set()
            return
        *blocks, self._rest = (self._rest + message["body"].decode()).split("\n\n")
        for block in blocks:
            self._read.put_nowait(block)
        if not message.get("more_body", False):
            self._read.put_nowait(None)

    async def begun(self) -> None:
        """Wait for the head of the answer."""
        async with asyncio.timeout(LONG):
            await self._begun.wait()

    async def block(self) -> str | None:
        """The next event or comment as it was sent; None at the end."""
        async with asyncio.timeout(LONG):
            block = await self._read.get()
        for line in (block or "").split("\n"):
            if line.startswith("id: "):
                self.last_id = line.removeprefix("id: ")
        return block

    async def next(self) -> Told:
        """The next event."""
        while (block := await self.block()) is not None:
            if told := Told.parse(block):
                return told
        raise AssertionError("the stream has ended")

    async def news(self, until: str | None = UP_TO_DATE) -> list[Told]:
        """The events up to a comment, or up to the end."""
        told = []
        while (block := await self.block()) != until:
            assert block is not None, "the stream has ended"
            if each := Told.parse(block):
                told.append(each)
        return told


@asynccontextmanager
async def listening(
    app: ASGIApp, headers: dict[str, str], last_event_id: str | None = None
) -> AsyncIterator[Stream]:
    """Ask for the stream, and hang up afterwards."""
    stream, gone = Stream(), asyncio.Event()
    asked = {name.lower(): value for name, value in headers.items()}
    if last_event_id is not None:
        asked["last-event-id"] = last_event_id
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/v1/events",
        "raw_path": b"/v1/events",
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in asked.items()],
        "client": ("127.0.0.1", 1),
        "server": ("engine", 80),
    }
    is_asked = False

    async def receive() -> Message:
        nonlocal is_asked
        if not is_asked:
            is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def serve() -> None:
        await app(scope, receive, stream.hear)

    serving = asyncio.create_task(serve())
    try:
        await stream.begun()
        yield stream
    finally:
        gone.set()
        stream.takes.set()
        async with asyncio.timeout(LONG):
            await serving
