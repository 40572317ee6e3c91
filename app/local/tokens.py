"""Bearer tokens of an installation that signs its own, for people at the command line."""

from datetime import datetime, timedelta
from typing import Any, Final, Literal

import jwt

from app.local.parts import LocalFailure
from app.settings import Settings

JWT_ALGORITHM: Final = "HS256"

Role = Literal["user", "admin"]


def bearer_token(
    settings: Settings, subject: str, role: Role, lifetime: timedelta, now: datetime, scope: str | None = None
) -> str:
    """Sign a token for `subject`, valid from `now`; `scope` is space-separated, None leaves it out (all).

    Raises LocalFailure where tokens are the platform's to sign.
    """
    if settings.jwt_secret is None or settings.jwt_jwks_url is not None:
        raise LocalFailure(f"Tokens come from the platform whose keys are at {settings.jwt_jwks_url}")
    claims: dict[str, Any] = {
        "sub": subject,
        "role": role,
        "aud": settings.jwt_audience,
        "iat": now,
        "exp": now + lifetime,
    }
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    if scope is not None:
        claims["scope"] = scope
    return jwt.encode(claims, settings.jwt_secret.get_secret_value(), algorithm=JWT_ALGORITHM)
