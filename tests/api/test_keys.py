"""Published keys: rotation, outages and made-up tokens, against an issuer that speaks real HTTP."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.api import keys
from app.api.callers import Caller, Tokens
from app.api.keys import PublishedKeys
from app.api.problems import Unauthenticated, Unavailable
from app.domain.owners import Owner, Role
from app.main import create_app
from app.settings import Settings
from tests.api.issuer import Issuer, ec_key, published, rsa_key, running_issuer
from tests.api.scene import ANN

RSA: Final = rsa_key()
EC: Final = ec_key()
OTHER: Final = rsa_key()


class Stopwatch:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.seconds


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """An issuer with a key of either kind."""
    async with running_issuer() as running:
        running.keys = [published(RSA, "rsa-1"), published(EC, "ec-1", use="sig", alg="ES256")]
        yield running


@pytest.fixture
def stopwatch() -> Stopwatch:
    """The clock of the keys."""
    return Stopwatch()


@pytest.fixture
def tokens(issuer: Issuer, stopwatch: Stopwatch) -> Tokens:
    """Who reads the issuer's tokens."""
    return Tokens(PublishedKeys(issuer.url, stopwatch), "engine", None)


def _claims(**changes: Any) -> dict[str, Any]:
    exp = datetime.now(UTC) + timedelta(hours=1)
    return {"sub": "ann", "role": "user", "aud": "engine", "exp": exp} | changes


async def _is_refused(tokens: Tokens, token: str) -> bool:
    try:
        await tokens.read(token)
    except Unauthenticated:
        return True
    return False


async def _settled(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_either_kind_of_key_is_taken_and_fetched_once(tokens: Tokens, issuer: Issuer) -> None:
    callers = [
        await tokens.read(issuer.sign(key, kid, _claims()))
        for key, kid in ((RSA, "rsa-1"), (EC, "ec-1"), (RSA, "rsa-1"))
    ]
    assert {caller.owner for caller in callers} == {ANN}
    assert issuer.fetches == 1


async def test_claims_count_as_ever(tokens: Tokens, issuer: Issuer) -> None:
    past = datetime.now(UTC) - timedelta(seconds=5)
    for wrong in ({"exp": past}, {"aud": "other"}, {"role": "root"}, {"sub": ""}):
        assert await _is_refused(tokens, issuer.sign(RSA, "rsa-1", _claims(**wrong))), wrong


async def test_no_token_chooses_its_own_algorithm_or_key(tokens: Tokens, issuer: Issuer) -> None:
    claims = _claims()
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    forged = {
        "public key as a secret": _hs256(claims, "rsa-1", pem),
        "published modulus as a secret": _hs256(claims, "rsa-1", issuer.keys[0]["n"].encode()),
        "unsigned": jwt.encode(claims, "", algorithm="none", headers={"kid": "rsa-1"}),
        "of another key": issuer.sign(OTHER, "rsa-1", claims),
        "of the other kind": issuer.sign(EC, "rsa-1", claims),
        "of a longer hash": jwt.encode(claims, RSA, algorithm="RS512", headers={"kid": "rsa-1"}),
        "of another padding": jwt.encode(claims, RSA, algorithm="PS256", headers={"kid": "rsa-1"}),
        "with its key in it": issuer.sign(OTHER, "rsa-1", claims, jwk=published(OTHER, "rsa-1")),
        "with an address of keys": issuer.sign(OTHER, "rsa-1", claims, jku="https://elsewhere.example/keys"),
        "without a name among many": issuer.sign(RSA, None, claims),
        "with half of it": issuer.sign(RSA, "rsa-1", claims)[:-40],
    }
    for how, token in forged.items():
        assert await _is_refused(tokens, token), how
    assert issuer.fetches == 1


def _hs256(claims: dict[str, Any], kid: str, secret: bytes) -> str:
    """By hand, as PyJWT refuses to sign with a public key."""
    header = {"alg": "HS256", "typ": "JWT", "kid": kid}
    exp = int(claims["exp"].timestamp())
    parts = [_base64(json.dumps(part).encode()) for part in (header, claims | {"exp": exp})]
    signature = hmac.digest(secret, ".".join(parts).encode(), hashlib.sha256)
    return ".".join((*parts, _base64(signature)))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


async def test_a_single_key_needs_no_name(tokens: Tokens, issuer: Issuer) -> None:
    issuer.keys = [published(EC, None)]
    assert isinstance(await tokens.read(issuer.sign(EC, None, _claims())), Caller)


async def test_a_new_key_is_fetched_when_a_token_names_it(
    tokens: Tokens, issuer: Issuer, stopwatch: Stopwatch
) -> None:
    await tokens.read(issuer.sign(RSA, "rsa-1", _claims()))
    issuer.keys = [published(OTHER, "rsa-2")]
    stopwatch.seconds += keys.PAUSE_SECONDS
    await tokens.read(issuer.sign(OTHER, "rsa-2", _claims()))
    assert issuer.fetches == 2
    assert await _is_refused(tokens, issuer.sign(RSA, "rsa-1", _claims()))


async def test_a_withdrawn_key_stops_working_by_and_by(
    tokens: Tokens, issuer: Issuer, stopwatch: Stopwatch
) -> None:
    withdrawn = issuer.sign(RSA, "rsa-1", _claims())
    await tokens.read(withdrawn)
    issuer.keys = [published(EC, "ec-1")]
    stopwatch.seconds += keys.LIFETIME_SECONDS + 1
    await tokens.read(withdrawn)
    await _settled(lambda: issuer.fetches == 2)
    async with asyncio.timeout(10):
        while not await _is_refused(tokens, withdrawn):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "trouble",
    [
        {"status": "503 Service Unavailable"},
        {"status": "302 Found"},
        {"body": b"<html>"},
        {"body": b"[" * 100_000},
        {"body": b"{}"},
        {"body": b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "rsa-1"}]}'},
        {"body": b'{"keys": []}' + b" " * keys.MAX_SIZE},
    ],
)
async def test_an_outage_is_outlived(
    tokens: Tokens, issuer: Issuer, stopwatch: Stopwatch, trouble: dict[str, Any]
) -> None:
    known = issuer.sign(RSA, "rsa-1", _claims())
    await tokens.read(known)
    for name, value in trouble.items():
        setattr(issuer, name, value)
    for fetches in (2, 3):
        stopwatch.seconds += keys.LIFETIME_SECONDS + 1
        async with asyncio.timeout(10):
            while issuer.fetches < fetches:
                await tokens.read(known)
                await asyncio.sleep(0.01)
    stopwatch.seconds += keys.PAUSE_SECONDS
    with pytest.raises(Unavailable):
        await tokens.read(issuer.sign(OTHER, "rsa-2", _claims()))
    issuer.status, issuer.body, issuer.keys = "200 OK", None, [published(OTHER, "rsa-2")]
    stopwatch.seconds += keys.PAUSE_SECONDS
    await tokens.read(issuer.sign(OTHER, "rsa-2", _claims()))


async def test_before_the_first_keys_nobody_can_say(tokens: Tokens, issuer: Issuer) -> None:
    issuer.status = "500 Internal Server Error"
    for _ in range(5):
        with pytest.raises(Unavailable):
            await tokens.read(issuer.sign(RSA, "rsa-1", _claims()))
    assert issuer.fetches == 1


async def test_made_up_names_cannot_storm_the_issuer(
    tokens: Tokens, issuer: Issuer, stopwatch: Stopwatch
) -> None:
    known = issuer.sign(RSA, "rsa-1", _claims())
    await tokens.read(known)
    made_up = [issuer.sign(OTHER, f"made-up-{number}", _claims()) for number in range(40)]
    for round_ in range(3):
        stopwatch.seconds += keys.PAUSE_SECONDS
        issuer.gate.clear()
        asked = [asyncio.ensure_future(_is_refused(tokens, token)) for token in made_up]
        await _settled(lambda expected=round_ + 2: issuer.fetches == expected)
        # Who holds a good token does not wait for the fetch that others have caused.
        await tokens.read(known)
        issuer.gate.set()
        assert all(await asyncio.gather(*asked))
        assert all([await _is_refused(tokens, token) for token in made_up])
        assert issuer.fetches == round_ + 2


async def test_one_who_hangs_up_does_not_end_the_fetch_of_others(tokens: Tokens, issuer: Issuer) -> None:
    issuer.gate.clear()
    token = issuer.sign(RSA, "rsa-1", _claims())
    first, second = (asyncio.ensure_future(tokens.read(token)) for _ in range(2))
    await _settled(lambda: issuer.fetches == 1)
    first.cancel()
    issuer.gate.set()
    assert (await second).owner == ANN
    assert issuer.fetches == 1


async def test_a_weak_or_foreign_key_is_passed_over(tokens: Tokens, issuer: Issuer) -> None:
    weak = rsa_key(1024)
    issuer.keys = [
        published(weak, "weak"),
        published(RSA, "to-encrypt", use="enc"),
        published(RSA, "other", alg="RS512"),
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": "oct", "kid": "shared", "k": _base64(b"x" * 32)},
        "nonsense",  # type: ignore[list-item]
        published(EC, "ec-1"),
    ]
    with pytest.warns(match="1024"):
        weakly_signed = issuer.sign(weak, "weak", _claims())
    for token in (
        weakly_signed,
        issuer.sign(RSA, "to-encrypt", _claims()),
        issuer.sign(RSA, "other", _claims()),
        _hs256(_claims(), "shared", b"x" * 32),
    ):
        assert await _is_refused(tokens, token)
    await tokens.read(issuer.sign(EC, "ec-1", _claims()))


# The same over HTTP, as an operator configures it


@asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://engine") as client,
    ):
        yield client


async def test_where_keys_are_published_no_secret_is_taken(settings: Settings, issuer: Issuer) -> None:
    configured = settings.model_copy(update={"jwt_jwks_url": issuer.url})
    claims = _claims(aud=settings.jwt_audience, role=Role.ADMIN.value)
    assert settings.jwt_secret is not None
    shared = jwt.encode(claims, settings.jwt_secret.get_secret_value(), algorithm="HS256")
    named = jwt.encode(
        claims, settings.jwt_secret.get_secret_value(), algorithm="HS256", headers={"kid": "rsa-1"}
    )
    async with _served(configured) as client:
        good = {"Authorization": f"Bearer {issuer.sign(RSA, 'rsa-1', claims)}"}
        me = await client.get("/v1/me", headers=good)
        assert (me.json()["role"], me.json()["id"]) == (Owner(Role.ADMIN, "ann").role, "ann")
        for token in (shared, named):
            assert (
                await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
            ).status_code == 401
