"""Addresses: what a host name leads to, and whether that is the public internet.

An owner chooses where a webhook goes. It must not lead to what only this machine or its network can reach.
"""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from app.channels.port import NotDelivered

_WRAPPED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
"""IPv4 addresses in another form: behind a translator of the network's own, and as nobody writes them any more."""


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, and leads to no other by translation or tunnel."""
    ip: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(ip, IPv6Address) and (ip.sixtofour or ip.teredo or any(ip in each for each in _WRAPPED)):
        return False
    return ip.is_global and not ip.is_multicast


def literal(host: str) -> str | None:
    """The address that a host is written as; None for a name."""
    try:
        return str(ip_address(host.strip("[]")))
    except ValueError:
        return None


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, in the order they are to be tried. Raises NotDelivered."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except (OSError, UnicodeError):
        raise NotDelivered("The host's name is not known.") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))
