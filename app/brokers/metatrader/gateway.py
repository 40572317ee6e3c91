"""The gateway: GET requests to one bridge. No retries, no redirects, and nothing that prints a URL.

Passwords and tokens travel in the query. The client of httpx logs every URL; its transport does not, so requests are
handed to that. What it raises is never passed on: its errors hold the request.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import certifi
import httpx

from app.brokers.metatrader import wire
from app.brokers.metatrader.outcomes import fault_in
from app.brokers.port import CREDENTIALS_REFUSED, Refused, Uncertain, Unreachable

_NEVER_LEFT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_KEY_HEADER: Final = "ApiKey"
_NOT_FOUND: Final = 404
_KEY_REFUSED: Final = 401

MAX_SIZE: Final = 32 * 1024 * 1024
"""Bytes of an answer, unpacked: no list of symbols or deals is near that."""


class TooLarge(httpx.DecodingError):
    """An answer that has no end."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds an answer is waited for."""

    connect: float = 10.0
    read: float = 35.0
    """The bridge itself waits 30 s for a broker."""
    order: float = 75.0
    """Longer than the bridge and the proxies before it wait (60 s): a doubt we make ourselves is the worst."""


PATIENCE: Final = Patience()


class NoSuchRoute(Exception):
    """Nobody has that request here; nothing was done. While a bridge is deployed, a proxy says so of every one."""


class Gateway:
    """One bridge, as all its accounts share it."""

    def __init__(self, endpoint: str, patience: Patience = PATIENCE) -> None:
        self._patience = patience
        tls = ssl.create_default_context(cafile=certifi.where())
        self._endpoint = httpx.URL(endpoint.rstrip("/") + "/")
        self._reading = httpx.AsyncHTTPTransport(verify=tls, retries=0)
        # A kept connection that the other side has closed loses the order or its answer: orders get fresh ones.
        fresh = httpx.Limits(max_connections=100, max_keepalive_connections=0)
        self._ordering = httpx.AsyncHTTPTransport(verify=tls, retries=0, limits=fresh)

    async def ask(self, path: str, parameters: Mapping[str, Any], *, key: str | None) -> Any:
        """The answer to a question. Raises Unreachable when there is none, Refused for the key, NoSuchRoute."""
        try:
            return await self._get(self._reading, path, parameters, key, self._patience.read)
        except httpx.HTTPError as error:
            raise Unreachable(f"The bridge did not answer {path}: {type(error).__name__}.") from None

    async def act(self, path: str, parameters: Mapping[str, Any], *, key: str | None) -> Any:
        """The answer to an order, sent once.

        Raises Unreachable when it never left, Refused for the key, Uncertain without an answer, NoSuchRoute.
        """
        try:
            return await self._get(self._ordering, path, parameters, key, self._patience.order)
        except _NEVER_LEFT as error:
            raise Unreachable(f"The bridge could not be reached: {type(error).__name__}.") from None
        except httpx.HTTPError as error:
            raise Uncertain(f"The bridge did not answer {path}: {type(error).__name__}.") from None

    async def close(self) -> None:
        """Close the sockets."""
        await self._reading.aclose()
        await self._ordering.aclose()

    async def _get(
        self,
        transport: httpx.AsyncHTTPTransport,
        path: str,
        parameters: Mapping[str, Any],
        key: str | None,
        seconds: float,
    ) -> Any:
        headers = {"Accept": "application/json", "User-Agent": "trading-execution-engine"}
        if key is not None:
            headers[_KEY_HEADER] = key
        timeout = httpx.Timeout(seconds, connect=self._patience.connect)
        request = httpx.Request(
            "GET",
            self._endpoint.join(path),
            params=parameters,
            headers=headers,
            extensions={"timeout": timeout.as_dict()},
        )
        try:
            # The transport's own time-out begins anew with every byte that drips in.
            async with asyncio.timeout(seconds + self._patience.connect):
                status, body = await _answer(transport, request)
        except TimeoutError:
            raise httpx.ReadTimeout("The answer did not end.") from None
        if status == _KEY_REFUSED and not wire.is_page(body):
            # Bridges do not answer so, whatever they mean: it was stopped at the gate before them. What proxies and
            # firewalls say instead, a 403 or a page for people, is no word about the key.
            raise Refused(
                "The gateway before the bridge does not let us in; its key is api_key.",
                code=CREDENTIALS_REFUSED,
            )
        answer = wire.parsed(body)
        if status == _NOT_FOUND and fault_in(answer, ()) is None:
            raise NoSuchRoute
        return answer


async def _answer(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> tuple[int, str]:
    """Status and body. Raises HTTPError."""
    response = await transport.handle_async_request(request)
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_SIZE:
                raise TooLarge("The answer is larger than any answer is.")
    finally:
        await response.aclose()
    return response.status_code, body.decode("utf-8", "replace")
