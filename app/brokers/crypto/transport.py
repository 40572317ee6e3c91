"""Transport: one HTTP session for all connections, able to send a venue's requests somewhere else.

A redirected request keeps its path and names the original host in `Host`. The exchange class above never learns
of it: its error tables are chosen by the URLs it believes in.
"""

import ssl
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import certifi
from yarl import URL

from app.brokers.crypto.bounds import BoundedResponse
from app.brokers.port import Unreachable


class Transport:
    """The session and the TLS context that every exchange object of this process shares."""

    def __init__(self) -> None:
        self.tls = ssl.create_default_context(cafile=certifi.where())
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, opened on first use inside the running loop. Raises Unreachable once it was closed."""
        if self._is_closed:
            # Classes leave requests behind that nobody waits for any more: they must not open sockets again.
            raise Unreachable("The connection to the venue is closed.")
        if self._session is None:
            # The rate budget bounds how many requests are under way: what it lets through waits for nothing more.
            connector = aiohttp.TCPConnector(ssl=self.tls, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, response_class=BoundedResponse, trust_env=False
            )
            # Some venues take orders by GET, and aiohttp repeats a GET whose connection dropped: that is two orders.
            self._session._retry_connection = False
        return self._session

    def to(self, endpoint: str | None) -> "Line":
        """The session as one exchange sees it; `endpoint` is where its requests really go."""
        return Line(self, None if endpoint is None else URL(endpoint))

    async def close(self) -> None:
        """Close the sockets for good."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None


class Line:
    """What an exchange object takes for its session: the methods of HTTP, and nothing to close."""

    def __init__(self, transport: Transport, endpoint: URL | None) -> None:
        self.headers: dict[str, str] = {}
        """What a class adds to every request of this session: nothing."""
        self._transport = transport
        self._endpoint = endpoint

    def get(self, url: URL, **details: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """GET."""
        return self._request("GET", url, details)

    def post(self, url: URL, **details: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """POST."""
        return self._request("POST", url, details)

    def put(self, url: URL, **details: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """PUT."""
        return self._request("PUT", url, details)

    def patch(self, url: URL, **details: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """PATCH."""
        return self._request("PATCH", url, details)

    def delete(self, url: URL, **details: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """DELETE."""
        return self._request("DELETE", url, details)

    def _request(
        self, method: str, url: URL, details: dict[str, Any]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._endpoint is not None:
            details["headers"] = {**details["headers"], "Host": str(url.host_port_subcomponent)}
            url = redirected(url, self._endpoint)
        return self._transport.session.request(method, url, allow_redirects=False, **details)


def redirected(url: URL, endpoint: URL) -> URL:
    """`url` with scheme, host and port of `endpoint`; path and query stay as they were encoded."""
    return URL(f"{endpoint.origin()}{url.raw_path_qs}", encoded=True)
