"""Keys: what bearer tokens are verified with, and the one algorithm that each key is for.

Either a secret shared with the platform, or the platform's public keys, fetched from where it publishes them (RFC
7517). Which of the two is the operator's choice. A token says by `kid` which key it was signed with, and nothing else.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from pydantic import SecretStr

from app.api.problems import Unavailable

log = structlog.get_logger(__name__)

LIFETIME_SECONDS: Final = 600.0
"""After this the keys are fetched again, so that one the platform withdrew stops working."""
PAUSE_SECONDS: Final = 10.0
"""Between two fetches, whatever tokens ask for and however the first ended."""
PATIENCE_SECONDS: Final = 5.0
"""For one fetch, from the first byte sent to the last received."""
MAX_SIZE: Final = 256 * 1024
"""Bytes of the document of keys."""
MIN_RSA_BITS: Final = 2048
_MAX_KID_LENGTH: Final = 256


@dataclass(frozen=True, slots=True)
class Key:
    """A key, and the algorithm it verifies."""

    material: Any
    algorithm: str


class Keys(Protocol):
    """Where a token's key is looked up."""

    async def find(self, kid: object) -> Key | None:
        """The key of that name. Raises Unavailable when nobody can say at the moment."""


class SharedSecret:
    """The secret of a platform that signs with HS256; it needs no name."""

    def __init__(self, secret: SecretStr) -> None:
        self._key = Key(secret.get_secret_value(), "HS256")

    async def find(self, _kid: object) -> Key | None:
        """The secret."""
        return self._key


class PublishedKeys:
    """The public keys of a platform that signs with RS256 or ES256.

    Keys once fetched go on working while their address is away. A name we do not know costs one fetch, shared by all
    who wait for it, and none within the pause after another: made-up tokens cannot make us storm the platform.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: Mapping[str | None, Key] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: object) -> Key | None:
        """The key of that name; without a name, the only one there is. Raises Unavailable."""
        if kid is not None and not (isinstance(kid, str) and len(kid) <= _MAX_KID_LENGTH):
            return None
        if (key := self._known(kid)) is not None:
            if self._clock() - self._fetched_at > LIFETIME_SECONDS:
                self._refresh()
            return key
        if (fetching := self._refresh()) is not None:
            # Others may be waiting for the same fetch: who hangs up does not end it.
            await asyncio.shield(fetching)
        key = self._known(kid)
        if key is None and self._fetched_at < self._tried_at:
            raise Unavailable("The keys that tokens are verified with cannot be fetched at the moment.")
        return key

    def _known(self, kid: str | None) -> Key | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _refresh(self) -> "asyncio.Task[None] | None":
        """The fetch under way, or a new one; None within the pause after the last."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if self._clock() - self._tried_at < PAUSE_SECONDS:
            return None
        self._tried_at = self._clock()
        self._fetching = asyncio.create_task(self._fetch(), name="fetch-jwks")
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                keys = dict(_usable(await self._document()))
            if not keys:
                raise ValueError("no key is one we use")
        except (httpx.HTTPError, OSError, ValueError, RecursionError) as error:
            log.warning("jwks_not_fetched", reason=type(error).__name__, known=len(self._keys))
            return
        if keys.keys() != self._keys.keys():
            log.info("jwks_fetched", kids=sorted(map(str, keys)))
        self._keys, self._fetched_at = keys, self._tried_at

    async def _document(self) -> Any:
        body = b""
        # Not compressed: what is sent is then what has to be held.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with (
            httpx.AsyncClient(timeout=PATIENCE_SECONDS, headers=headers) as client,
            client.stream("GET", self._url) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"status {answer.status_code}")
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > MAX_SIZE:
                    raise ValueError("larger than a document of keys is")
        return json.loads(body)


def _usable(document: Any) -> Iterator[tuple[str | None, Key]]:
    """The keys of a document that sign tokens, by name; others, and broken ones, are passed over."""
    published = document.get("keys") if isinstance(document, dict) else None
    for each in published if isinstance(published, list) else ():
        if isinstance(each, dict) and (key := _key(each)) is not None:
            kid = each.get("kid")
            yield kid if isinstance(kid, str) else None, key


def _key(published: Mapping[str, Any]) -> Key | None:
    """A key, bound to the algorithm of its type: a token cannot choose another for it."""
    algorithm = {("RSA", None): "RS256", ("EC", "P-256"): "ES256"}.get(
        (str(published.get("kty")), published.get("crv"))
    )
    if (
        algorithm is None
        or published.get("alg", algorithm) != algorithm
        or published.get("use", "sig") != "sig"
    ):
        return None
    try:
        material = jwt.PyJWK(dict(published), algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(material, RSAPublicKey) and material.key_size < MIN_RSA_BITS:
        return None
    return Key(material, algorithm)
