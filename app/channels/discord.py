"""Discord: incoming webhooks of a server's channel."""

import json
import re
from dataclasses import dataclass
from typing import Final

import httpx

from app.channels.port import Destination, Message
from app.channels.posting import check_success, post

URL: Final = "url"
"""The credential: whoever has a webhook's URL may write to its channel."""
FORM: Final = r"^https://discord\.com/api/webhooks/\d{1,20}/[A-Za-z0-9_-]{16,128}$"
HOME: Final = "https://discord.com"
_MOST: Final = 2000
_MARKUP: Final = re.compile(r"([\\`*_~|>#\[\]()<@:-])")


@dataclass(frozen=True, slots=True)
class Discord:
    """Plain words: neither markup nor mentions of a text do anything."""

    endpoint: str = HOME

    def objection(self, _target: str | None) -> None:
        """Nothing speaks against a URL of Discord's own."""

    async def send(self, message: Message, to: Destination) -> None:
        """Post it. Raises NotDelivered."""
        words = _MARKUP.sub(r"\\\1", message.words(_MOST))[:_MOST]
        body = {"content": words, "allowed_mentions": {"parse": []}}
        url = httpx.URL(self.endpoint).copy_with(raw_path=httpx.URL(to.credentials[URL]).raw_path)
        status, _ = await post(url, json.dumps(body).encode())
        check_success(status)
