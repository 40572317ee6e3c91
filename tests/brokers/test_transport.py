"""The transport below the exchange classes: redirected without their knowledge, and never repeating a request."""

import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientError, web
from yarl import URL

from app.brokers.crypto.transport import Transport, redirected


def test_scheme_host_and_port_change_and_nothing_else() -> None:
    url = URL("https://api.binance.com/api/v3/order?symbol=%5B%22A%22%5D&signature=a%2Bb", encoded=True)
    moved = redirected(url, URL("http://127.0.0.1:9000"))
    assert str(moved) == "http://127.0.0.1:9000/api/v3/order?symbol=%5B%22A%22%5D&signature=a%2Bb"


class Counting:
    """A server that notes every request and hangs up on it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.url = ""

    async def hang_up(self, request: web.BaseRequest) -> web.StreamResponse:
        """Cut the connection without an answer."""
        self.seen.append((request.method, request.headers["Host"]))
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


@pytest.fixture
async def server() -> AsyncIterator[Counting]:
    """Such a server, running."""
    counting = Counting()
    runner = web.ServerRunner(web.Server(counting.hang_up, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    counting.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield counting
    await runner.cleanup()


async def test_a_get_that_was_dropped_is_not_sent_again(server: Counting) -> None:
    transport = Transport()
    line = transport.to(server.url)
    with pytest.raises(ClientError):
        async with line.get(URL("https://www.deribit.com/api/v2/private/buy?amount=1"), headers={}):
            pass
    assert server.seen == [("GET", "www.deribit.com")]
    await transport.close()


def test_a_process_that_trades_on_paper_only_never_imports_ccxt() -> None:
    looked = "import sys, app.main, workers.main; print('ccxt' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
