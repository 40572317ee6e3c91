"""The unmodified ccxt classes, whose requests go to the simulated exchanges below the level of the class.

The class computes its URL, its signature and its errors for the real host; only the transport connects elsewhere.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
import yarl

from tests.venues.exchange import Exchange, Keys


class Redirected:
    """As much of a session as ccxt uses: every request goes to one server, the host it was meant for in its header."""

    def __init__(self, session: aiohttp.ClientSession, target: yarl.URL) -> None:
        self._target = target

        self.headers: dict[str, str] = {}
        self.get = partial(self._send, session.get)
        self.post = partial(self._send, session.post)
        self.put = partial(self._send, session.put)
        self.delete = partial(self._send, session.delete)

    def _send(
        self, verb: Callable[..., Any], url: yarl.URL, *, headers: Mapping[str, str], **options: Any
    ) -> Any:
        sent = url.with_scheme("http").with_host(self._target.host or "").with_port(self._target.port)
        return verb(sent, headers={**headers, "Host": url.host or ""}, **options)


@asynccontextmanager
async def redirected_session(venue: Exchange) -> AsyncIterator[Redirected]:
    """Open a session whose every request ends at the simulated exchanges."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield Redirected(session, yarl.URL(venue.url))


@asynccontextmanager
async def connected(
    venue: Exchange, name: str, keys: Keys | None = None, *, practice: str | None = None, **config: Any
) -> AsyncIterator[Any]:
    """Open the unmodified ccxt class of that name, its markets loaded, on the simulated exchange.

    `practice` names a method of the class, `set_sandbox_mode` or `enable_demo_trading`.
    """
    async with redirected_session(venue) as session:
        client = getattr(ccxt, name)(
            {
                "session": session,
                "enableRateLimit": False,
                "timeout": 2000,
                **({"apiKey": keys.api_key, "secret": keys.secret} if keys else {}),
                **config,
            }
        )
        client.timeout_on_exit = 0
        client.milliseconds = venue.clock.milliseconds
        if practice is not None:
            getattr(client, practice)(True)
        try:
            await client.load_markets()
            yield client
        finally:
            await client.close()
