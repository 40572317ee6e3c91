"""Telegram: the operator's bot writes to a chat."""

import json
from dataclasses import dataclass
from typing import Final

import httpx
from pydantic import SecretStr

from app.channels.port import Destination, Message, NotDelivered
from app.channels.posting import post

HOME: Final = "https://api.telegram.org"
_MOST: Final = 4096


@dataclass(frozen=True, slots=True)
class Telegram:
    """Plain words: without a parse mode nothing in a text is markup."""

    token: SecretStr
    endpoint: str = HOME

    def objection(self, _target: str | None) -> None:
        """Nothing speaks against a chat before it was tried."""

    async def send(self, message: Message, to: Destination) -> None:
        """Have the bot send it. Raises NotDelivered, with Telegram's own words where it has any."""
        body = {
            "chat_id": to.target,
            # Telegram counts in UTF-16 and we in characters, of which each may be two.
            "text": message.words(_MOST // 2),
            "link_preview_options": {"is_disabled": True},
        }
        path = f"/bot{self.token.get_secret_value()}/sendMessage"
        url = httpx.URL(self.endpoint).copy_with(raw_path=path.encode())
        status, answer = await post(url, json.dumps(body).encode())
        if not httpx.codes.is_success(status):
            raise NotDelivered(f"Telegram answered {status}{_reason(answer)}.")


def _reason(answer: bytes) -> str:
    try:
        told = json.loads(answer)
    except ValueError:
        return ""
    words = told.get("description") if isinstance(told, dict) else None
    return f": {words[:200].rstrip('.')}" if isinstance(words, str) else ""
