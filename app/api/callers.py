"""Callers: who a bearer token says is calling, and what they may do.

The algorithm is fixed by the key, never by the token. A caller sees what `(role, sub)` owns and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.keys import Keys
from app.api.problems import Unauthenticated
from app.api.rates import Counted, Rates
from app.domain.errors import Forbidden
from app.domain.owners import Owner, Role

REQUIRED_CLAIMS: Final = ("sub", "role", "aud", "exp")
MAX_SUB_LENGTH: Final = 64


class Scope(StrEnum):
    """What a token allows: `read` alone may not change anything."""

    READ = "read"
    TRADE = "trade"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, and what their token allows."""

    owner: Owner
    scopes: frozenset[Scope]
    expires_at: datetime

    def seconds_left(self) -> float:
        """How long the token is good for, by the clock that tokens are read by."""
        return (self.expires_at - datetime.now(UTC)).total_seconds()


class Tokens:
    """Reads the bearer tokens of one platform."""

    def __init__(self, keys: Keys, audience: str, issuer: str | None) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer

    async def read(self, token: str) -> Caller:
        """The caller a token names. Raises Unauthenticated, and Unavailable while its key cannot be fetched."""
        try:
            key = await self._keys.find(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise _refused("The token is not valid here.")
            claims = jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                # A platform whose clock is ahead of ours still issues good tokens, hence no look at iat.
                options={"require": list(REQUIRED_CLAIMS), "verify_iat": False},
            )
            return Caller(
                owner=Owner(_role(claims["role"]), _subject(claims["sub"])),
                scopes=_scopes(claims.get("scope")),
                expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
            )
        except jwt.ExpiredSignatureError:
            raise _refused("The token has expired.") from None
        except (jwt.InvalidTokenError, ValueError, OverflowError, OSError):
            raise _refused("The token is not valid here.") from None


def _refused(message: str) -> Unauthenticated:
    return Unauthenticated(message, challenge='Bearer error="invalid_token"')


def _role(claim: object) -> Role:
    if not isinstance(claim, str):
        raise ValueError("role is a text")  # noqa: TRY004 - refused with the other claims
    return Role(claim)


def _subject(claim: object) -> str:
    if not isinstance(claim, str) or not 1 <= len(claim) <= MAX_SUB_LENGTH or not claim.isprintable():
        raise ValueError("sub is 1 to 64 printable characters")
    return claim


def _scopes(claim: object) -> frozenset[Scope]:
    """The scopes named; absent means both, and words we do not know mean nothing."""
    if claim is None:
        return frozenset(Scope)
    if not isinstance(claim, str):
        raise ValueError("scope is a text")  # noqa: TRY004 - refused with the other claims
    words = set(claim.split())
    return frozenset(scope for scope in Scope if scope in words)


bearer = HTTPBearer(
    scheme_name="bearer",
    bearerFormat="JWT",
    description="The platform's token, or one printed by `engine token --sub ID --role user|admin`.",
    auto_error=False,
)


async def caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Caller:
    """Who is calling. Raises Unauthenticated, and RateLimited for who calls, or guesses tokens, too often."""
    if credentials is None:
        raise Unauthenticated("Send a token: Authorization: Bearer …")
    tokens: Tokens = request.app.state.tokens
    rates: Rates = request.app.state.rates
    try:
        known = await tokens.read(credentials.credentials)
    except Unauthenticated:
        await rates.count(Counted.REFUSED, request.client.host if request.client else "")
        raise
    what = Counted.READS if request.method == "GET" else Counted.CHANGES
    await rates.count(what, f"{known.owner.role}:{known.owner.id}")
    return known


Identified = Annotated[Caller, Depends(caller)]
"""Whoever has a token that is good, whatever it allows."""


def _allowed(scope: Scope) -> Callable[..., Any]:
    """A dependency that passes callers with this scope."""

    async def allowed(caller: Identified) -> Caller:
        return _with_scope(caller, scope)

    return allowed


async def _admin(request: Request, caller: Identified) -> Caller:
    """Passes admins: to look with the scope for it, to do anything else with the one to trade."""
    if caller.owner.role is not Role.ADMIN:
        raise Forbidden("admin_required", "This needs a token with the role admin.")
    return _with_scope(caller, Scope.READ if request.method == "GET" else Scope.TRADE)


def _with_scope(caller: Caller, scope: Scope) -> Caller:
    if scope not in caller.scopes:
        raise Forbidden("scope_required", f"This needs a token with the scope {scope}.")
    return caller


READERS_ONLY = Depends(_allowed(Scope.READ))
ADMINS_ONLY = Depends(_admin)
"""For the `dependencies` of a router whose handlers need not know who is calling."""

Reader = Annotated[Caller, READERS_ONLY]
"""Anybody who may look."""
Trader = Annotated[Caller, Depends(_allowed(Scope.TRADE))]
"""Anybody who may change something."""
Admin = Annotated[Caller, ADMINS_ONLY]
"""An admin who may do this."""
