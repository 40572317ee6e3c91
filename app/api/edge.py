"""The edge: what every request passes first, and every answer last."""

import re
from typing import Final
from uuid import uuid4

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import problems
from app.api.bodies import MAX_SIZE

log = structlog.get_logger(__name__)

HEADER: Final = "X-Request-ID"
_ACCEPTED_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)


class Edge:
    """Names the request, in the log and in its answer, and refuses a body that is declared too large.

    It stands outside the framework, whose own refusals of large bodies and own last resort lie within.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _id_of(headers)
        scope.setdefault("state", {})["request_id"] = request_id

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            if _declared_size(headers) > MAX_SIZE:
                answer = await problems.answer(Request(scope), problems.TooLarge())
                await answer(scope, receive, named)
                return
            await self._serve(scope, receive, named)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - the process's edge; the framework has logged and answered it
            log.debug("request_ended_by", reason=type(error).__name__)


def _id_of(headers: Headers) -> str:
    """The caller's own id for the request, when it can be printed safely; else a new one."""
    given = headers.get(HEADER, "")
    return given if _ACCEPTED_ID.fullmatch(given) else uuid4().hex


def _declared_size(headers: Headers) -> int:
    declared = headers.get("content-length", "")
    return int(declared[:20]) if declared.isdecimal() else 0
