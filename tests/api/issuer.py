"""An issuer of tokens that publishes its keys over real HTTP, and can rotate them, be slow, or talk nonsense."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey


def rsa_key(bits: int = 2048) -> RSAPrivateKey:
    """A new key for RS256."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def ec_key() -> EllipticCurvePrivateKey:
    """A new key for ES256."""
    return ec.generate_private_key(ec.SECP256R1())


def published(key: PrivateKey, kid: str | None, **members: Any) -> dict[str, Any]:
    """The public half of a key, as it is published."""
    named = members if kid is None else {**members, "kid": kid}
    if isinstance(key, RSAPrivateKey):
        return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **named}
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), **named}


@dataclass
class Issuer:
    """Where the keys are published."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    body: bytes | None = None
    """What is answered instead of the keys."""
    status: str = "200 OK"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing is answered before it is set."""
    fetches: int = 0
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        await reader.readuntil(b"\r\n\r\n")
        self.fetches += 1
        await self.gate.wait()
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    def sign(self, key: PrivateKey, kid: str | None, claims: dict[str, Any], **headers: Any) -> str:
        """A token of this key."""
        algorithm = "RS256" if isinstance(key, RSAPrivateKey) else "ES256"
        return jwt.encode(claims, key, algorithm=algorithm, headers=headers | ({"kid": kid} if kid else {}))


@asynccontextmanager
async def running_issuer() -> AsyncIterator[Issuer]:
    """Run one on a free port."""
    issuer = Issuer()
    issuer.gate.set()
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/.well-known/jwks.json"
    async with server:
        yield issuer
