"""Posting an event to the webhook as a source of signals does: signed, over HTTP."""

from datetime import datetime
from typing import Final
from uuid import uuid4

import httpx
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

PATH: Final = "/v1/webhooks/signals"
_TIMEOUT_SECONDS: Final = 30.0


class CannotPost(Exception):
    """The API was not reached, or gave no answer."""


def post_event(url: str, secret: SecretStr, body: str, now: datetime) -> httpx.Response:
    """Sign `body` and post it to the API at `url`; answers whatever it says. Raises CannotPost."""
    address = url.rstrip("/") + PATH
    try:
        return httpx.post(
            address,
            content=body.encode(),
            headers=signed_headers(secret, body, now),
            timeout=_TIMEOUT_SECONDS,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CannotPost(f"{address} does not answer: {error}") from error


def signed_headers(secret: SecretStr, body: str, now: datetime) -> dict[str, str]:
    """Answer the headers of Standard Webhooks for a new message; `now` is aware, in UTC."""
    message = f"msg_{uuid4().hex}"
    return {
        "content-type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret.get_secret_value()).sign(message, now, body),
    }
