"""Senders: who may post events, proven by a signature of the Standard Webhooks scheme over the raw body."""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import SecretStr
from starlette.datastructures import Headers

from app.api.problems import Unauthenticated
from app.settings import WEBHOOK_SECRET_PREFIX

TOLERANCE: Final = timedelta(minutes=5)
"""How far a timestamp may be from our clock."""
_VERSION: Final = "v1"
_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_WEBHOOK_ID: Final = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)


class Senders:
    """Those who may send: whoever signs with one of our secrets."""

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        self._keys = [
            base64.b64decode(secret.get_secret_value().removeprefix(WEBHOOK_SECRET_PREFIX))
            for secret in secrets
        ]

    def verify(self, headers: Headers, body: bytes, now: datetime) -> str:
        """The webhook id of a message that is signed and fresh. Raises Unauthenticated.

        Every key and signature is compared, in constant time each, whichever fits.
        """
        id_, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not _WEBHOOK_ID.fullmatch(id_) or not _UNIX_SECONDS.fullmatch(sent_at):
            raise _unsigned()
        signed = f"{id_}.{sent_at}.".encode() + body
        expected = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in self._keys]
        given = [_signature(part) for part in headers.get("webhook-signature", "").split(" ")]
        matches = [hmac.compare_digest(one, other) for one in expected for other in given]
        if not any(matches):
            raise _unsigned()
        if abs(now.timestamp() - int(sent_at)) > TOLERANCE.total_seconds():
            raise Unauthenticated("The webhook-timestamp is more than 5 minutes off.", challenge="Webhook")
        return id_


def _unsigned() -> Unauthenticated:
    return Unauthenticated("The message is not signed with a secret known here.", challenge="Webhook")


def _signature(part: str) -> bytes:
    version, _, signature = part.partition(",")
    return signature.encode() if version == _VERSION else b""
