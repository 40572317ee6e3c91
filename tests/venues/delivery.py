"""How an answer reaches a client over HTTP, or what becomes of it on the way."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from aiohttp import web

from tests.venues.clock import Clock
from tests.venues.faults import Delivery, Fault, Page
from tests.venues.wire import CALM, Conditions, Reply, WireRequest

Answer = Callable[[WireRequest, Conditions], Page]


class Courier:
    """Carries requests to whoever answers them, and the answers back; faults strike here."""

    def __init__(self, clock: Clock, answer: Answer) -> None:
        self._clock = clock
        self._answer = answer
        self._closing = asyncio.Event()
        self._late: set[asyncio.Task[Page]] = set()

    async def carry(
        self, incoming: web.BaseRequest, request: WireRequest, fault: Fault | None
    ) -> web.StreamResponse:
        """Answer one request, or let it meet its accident."""
        if fault is None:
            return response_of(self._answer(request, CALM))
        page = await self._carry_out(request, fault)
        if fault.slow:
            await self._clock.sleep(fault.slow)
        match fault.delivery:
            case Delivery.ANSWERED:
                return response_of(page)
            case Delivery.REPLACED:
                assert fault.page is not None
                return response_of(fault.page)
            case Delivery.TRUNCATED:
                return await cut_in_half(incoming, page)
            case Delivery.SILENT:
                await self._closing.wait()
            case Delivery.DROPPED:
                pass
        cut(incoming)
        return web.Response()

    async def close(self) -> None:
        """Let go of whoever waits."""
        self._closing.set()
        for task in list(self._late):
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    async def _carry_out(self, request: WireRequest, fault: Fault) -> Page:
        if fault.late is not None:
            task = self._carry_out_later(request, fault, fault.late)
            if fault.delivery is Delivery.ANSWERED:
                return await asyncio.shield(task)
        elif fault.executed:
            return altered(self._answer(request, fault.conditions), fault)
        return Page(200, "")

    def _carry_out_later(self, request: WireRequest, fault: Fault, seconds: float) -> asyncio.Task[Page]:
        judged_at = None if fault.fenced else self._clock.milliseconds()

        async def later() -> Page:
            await self._clock.sleep(seconds)
            return self._answer(replace(request, judged_at=judged_at), fault.conditions)

        task = asyncio.create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task


def altered(page: Page, fault: Fault) -> Page:
    """An answer with the change that an accident makes in it."""
    if fault.alter is None:
        return page
    reply = fault.alter(Reply(json.loads(page.text), page.status, headers=page.headers))
    return replace(page, text=reply.text(), status=reply.status)


def response_of(page: Page) -> web.Response:
    """A page on the wire."""
    return web.Response(
        status=page.status, text=page.text, content_type=page.content_type, headers=page.headers
    )


async def cut_in_half(incoming: web.BaseRequest, page: Page) -> web.StreamResponse:
    """Send half of a body and cut the connection."""
    body = page.text.encode()
    response = web.StreamResponse(status=page.status, headers={"Content-Length": str(len(body))})
    response.content_type = page.content_type
    # Whoever asked may be dead by now.
    with suppress(ConnectionResetError):
        await response.prepare(incoming)
        await response.write(body[: len(body) // 2])
    if incoming.transport is not None:
        incoming.transport.close()
    return response


def cut(incoming: web.BaseRequest) -> None:
    """Cut the connection."""
    if incoming.transport is not None:
        incoming.transport.abort()
