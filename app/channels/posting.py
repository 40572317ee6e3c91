"""Posting: one HTTP request of bounded size and no redirects, and nothing that prints a URL.

URLs hold tokens. The client of httpx logs them; its transport does not, so requests are handed to that. What it raises
is never passed on: its errors hold the request.
"""

import ssl
from collections.abc import Mapping
from functools import cache
from typing import Final

import certifi
import httpx

from app.channels.port import NotDelivered

MOST_READ: Final = 4096
"""Bytes of an answer: all that is wanted of it is a sentence."""


@cache
def public_tls() -> ssl.SSLContext:
    """Who is believed: the authorities of the public internet."""
    return ssl.create_default_context(cafile=certifi.where())


class NotConnected(NotDelivered):
    """Nobody was reached, so nothing was sent."""


async def post(
    url: httpx.URL,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    address: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """Status and beginning of the answer; `address` is where the URL's host is to be found, when that is known.

    Every request has a connection of its own: one kept for an address might be another name's. Raises NotDelivered.
    """
    request = httpx.Request(
        "POST",
        url.copy_with(host=address or url.host),
        content=body,
        headers={
            "Host": url.netloc.decode(),
            "Content-Type": "application/json",
            "User-Agent": "trading-execution-engine",
            # Not compressed: what is read is then what has to be held.
            "Accept-Encoding": "identity",
            **(headers or {}),
        },
        extensions={"sni_hostname": url.raw_host.decode()},
    )
    begun = b""
    try:
        async with httpx.AsyncHTTPTransport(verify=tls or public_tls(), retries=0) as transport:
            answer = await transport.handle_async_request(request)
            try:
                async for chunk in answer.aiter_raw():
                    begun += chunk
                    if len(begun) >= MOST_READ:
                        break
            finally:
                await answer.aclose()
    except httpx.ConnectError:
        raise NotConnected("No connection could be made.") from None
    except (httpx.HTTPError, OSError) as error:
        raise NotDelivered(f"There was no answer: {type(error).__name__}.") from None
    return answer.status_code, begun[:MOST_READ]


def check_success(status: int) -> None:
    """Anything but a 2xx is a failure. Raises NotDelivered."""
    if not httpx.codes.is_success(status):
        raise NotDelivered(f"The receiver answered {status}.")
