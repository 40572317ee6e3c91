"""Webhooks: owners' own receivers, addressed by the Standard Webhooks scheme."""

import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import httpx

from app.channels.addresses import is_public, literal, resolve
from app.channels.port import Destination, Message, NotDelivered
from app.channels.posting import NotConnected, check_success, post
from app.settings import WEBHOOK_SECRET_PREFIX

SECRET: Final = "secret"
"""The credential: `whsec_` and base64."""
_PRIVATE: Final = "The address is not one of the public internet."
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Signed messages to any https:// URL of the public internet.

    The address that was looked at is the one connected to: a name that is asked again may answer otherwise.
    """

    private_targets: bool = False
    """Whether private addresses, and http://, are taken as well."""
    tls: ssl.SSLContext | None = None
    """Who is believed; None: the authorities of the public internet."""

    def objection(self, target: str | None) -> str | None:
        """What the URL itself gives away; names are looked up when something is sent."""
        try:
            url = httpx.URL(target or "")
        except httpx.InvalidURL:
            return "This is no URL."
        # What cannot stand in a name, httpx escapes.
        named = url.host and "%" not in url.host
        plain = named and url.scheme in _PORTS and not (url.userinfo or url.fragment)
        if not plain or not 0 < (url.port or _PORTS[url.scheme]) < 65536:
            return "A webhook's URL is https://, with a host, and without a user and a fragment."
        if self.private_targets:
            return None
        if url.scheme != "https":
            return "A webhook's URL is https://."
        address = literal(url.host)
        return _PRIVATE if address and not is_public(address) else None

    async def send(self, message: Message, to: Destination) -> None:
        """Post it, signed. Raises NotDelivered."""
        if objection := self.objection(to.target):
            raise NotDelivered(objection)
        url = httpx.URL(to.target or "")
        event = {
            "type": f"notification.{message.data['type']}",
            "timestamp": message.data["created_at"],
            "data": message.data,
        }
        body = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        headers = signed(to.credentials[SECRET], message.id, message.sent_at, body)
        check_success(await self._post(url, body, headers))

    async def _post(self, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> int:
        addresses = await resolve(url.raw_host.decode(), url.port or _PORTS[url.scheme])
        if not self.private_targets and not all(map(is_public, addresses)):
            raise NotDelivered(_PRIVATE)
        failure = NotConnected("The host has no address.")
        for address in addresses:
            try:
                status, _ = await post(url, body, headers, address=address, tls=self.tls)
            except NotConnected as error:
                failure = error
            else:
                return status
        raise failure


def signed(secret: str, id_: UUID, sent_at: datetime, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks."""
    key = base64.b64decode(secret.removeprefix(WEBHOOK_SECRET_PREFIX))
    seconds = int(sent_at.timestamp())
    digest = hmac.digest(key, f"{id_}.{seconds}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": str(id_),
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
