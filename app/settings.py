"""Every knob an operator can turn, read from the environment (prefix `ENGINE_`) and `.env`.

Insecure or missing values stop the start with one message that names the variables and never their values.
"""

import base64
import binascii
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import AwareDatetime, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.channel_settings import ChannelSettings, is_base_url

PREFIX: Final = "ENGINE_"
JWT_SECRET_BYTES: Final = 32
WEBHOOK_SECRET_PREFIX: Final = "whsec_"
WEBHOOK_SECRET_BYTES: Final = range(24, 65)
VAULT_KEY_PREFIX: Final = "k1_"
VAULT_KEY_BYTES: Final = 32
SECONDS_IN_A_MINUTE: Final = 60
BRIDGES: Final = ("mt4", "mt5")
"""Whose paths are ours to begin; an exchange's are signed as its class makes them."""

_ASYNCPG_SCHEME: Final = "postgresql+asyncpg"
_POSTGRES_SCHEMES: Final = ("postgresql", "postgres", _ASYNCPG_SCHEME)

SecretList = Annotated[tuple[SecretStr, ...], NoDecode]


class InvalidSettings(Exception):
    """Settings that may not be used; the text names the environment variables and never a value."""


class DatabaseSettings(BaseSettings):
    """What a migration needs; the rest of the settings may be missing where one runs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr
    """PostgreSQL, in the form SQLAlchemy's asyncpg dialect takes."""

    @field_validator("database_url", mode="before")
    @classmethod
    def _take_common_forms(cls, value: object) -> SecretStr:
        return SecretStr(asyncpg_url(_text(value)))


class Settings(ChannelSettings, DatabaseSettings):
    """The settings of one process; made by `load_settings` or `settings_from`."""

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")

    jwt_jwks_url: str | None = None
    """Where the platform publishes the keys (RS256, ES256) its tokens are signed with; HS256 is refused then."""
    jwt_secret: SecretStr | None = Field(default=None, validate_default=True)
    """HS256 secret, at least 32 bytes; for a platform that publishes no keys."""
    jwt_audience: str = "trading-execution-engine"
    jwt_issuer: str | None = None

    webhook_secrets: SecretList
    """`whsec_` and base64; any of them verifies, the first one signs."""
    vault_keys: SecretList
    """`k1_` and urlsafe base64 of 32 bytes; the first seals, all open. See `vault_key_bytes`."""

    entitlements: Literal["required", "off"] = "required"
    monitor_seconds: int = Field(default=5, ge=1, le=SECONDS_IN_A_MINUTE)
    """How often open positions are looked at, in seconds; a divisor of 60."""

    rate_limit_per_minute: int = Field(default=1200, ge=1)
    """Requests a minute of one principal; what is read and what is changed are counted apart."""
    unsigned_limit_per_minute: int = Field(default=60, ge=1)
    """Webhook messages a minute of one address whose signature does not fit, and, by themselves, requests whose token
    is refused. Signed messages are never limited, and good tokens by themselves alone."""

    broker_endpoints: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Where requests of an exchange or bridge really go: its id to a base URL of scheme, host and port; a bridge's may
    have a path."""

    egress: str = "default"
    """The address that requests to exchanges leave from, by any name: processes with the same one share its limits."""

    metrics_token: SecretStr | None = None
    """What a scrape of `/metrics` has to carry as a bearer token; None lets everybody who reaches the port read."""

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    candles: Annotated[dict[str, Path], NoDecode] = Field(default_factory=dict)
    """Recordings the paper market plays: unified symbol to CSV file."""
    candles_speed: Decimal = Field(default=Decimal(1), gt=0)
    """Candles a second."""
    candles_started_at: AwareDatetime | None = Field(default=None, validate_default=True)
    """When the first candle of every recording opened, on our clock; None when nothing is played."""

    @property
    def entitlements_required(self) -> bool:
        """Whether a user needs a current entitlement."""
        return self.entitlements == "required"

    @field_validator("jwt_jwks_url")
    @classmethod
    def _cannot_be_forged(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://nowhere")
        nearby = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and nearby)):
            raise ValueError("must be an https:// URL: whoever can change the keys can sign tokens")
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            if info.data.get("jwt_jwks_url", "") is None:
                raise ValueError(f"is not set, and {variable_name('jwt_jwks_url')} is not: one is needed")
            return None
        if len(value.get_secret_value().encode()) < JWT_SECRET_BYTES:
            raise ValueError(f"must be at least {JWT_SECRET_BYTES} bytes long")
        return value

    @field_validator("webhook_secrets", "vault_keys", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("webhook_secrets")
    @classmethod
    def _webhook_secrets_well_formed(cls, values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not values:
            raise ValueError("needs at least one secret")
        return tuple(SecretStr(padded_webhook_secret(value.get_secret_value())) for value in values)

    @field_validator("vault_keys")
    @classmethod
    def _vault_keys_well_formed(cls, values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not values:
            raise ValueError("needs at least one key (`engine keys new` makes one)")
        for value in values:
            vault_key_bytes(value.get_secret_value())
        return values

    @field_validator("monitor_seconds")
    @classmethod
    def _divides_a_minute(cls, value: int) -> int:
        if SECONDS_IN_A_MINUTE % value:
            raise ValueError("must be a divisor of 60")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("candles", mode="before")
    @classmethod
    def _parse_candles(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError("must be a JSON object of symbol to file") from error

    @field_validator("broker_endpoints", mode="before")
    @classmethod
    def _parse_endpoints(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError("must be a JSON object of exchange to base URL") from error

    @field_validator("broker_endpoints")
    @classmethod
    def _are_base_urls(cls, values: dict[str, str]) -> dict[str, str]:
        for venue, url in values.items():
            if not is_base_url(url, may_have_path=venue in BRIDGES):
                raise ValueError("each must be a base URL like https://proxy.example:8443")
        return values

    @field_validator("candles_started_at")
    @classmethod
    def _start_of_what_is_played(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is None and info.data.get("candles"):
            raise ValueError("must say when the candles began to play: every process has to agree on it")
        return value


def load_settings(env_files: Sequence[Path] = (Path(".env"),)) -> Settings:
    """Read the settings where a process starts; invalid ones are printed to stderr and end it with code 2.

    The environment wins over the files, a later file over an earlier one; missing files are skipped.
    """
    try:
        return read_settings(env_files)
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None


def read_settings(env_files: Sequence[Path] = (Path(".env"),)) -> Settings:
    """Read the settings from the environment and files as `load_settings` does; raises InvalidSettings."""
    try:
        return Settings(_env_file=tuple(env_files))
    except ValidationError as error:
        raise InvalidSettings(_explain(error)) from None


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Make settings from `ENGINE_…` variables of a mapping; what it lacks comes from the process environment.

    Raises InvalidSettings.
    """
    given: dict[str, Any] = {
        field: environment[variable_name(field)]
        for field in Settings.model_fields
        if environment.get(variable_name(field))
    }
    try:
        return Settings(_env_file=None, **given)
    except ValidationError as error:
        raise InvalidSettings(_explain(error)) from None


def read_database_settings() -> DatabaseSettings:
    """Read what a migration needs; raises InvalidSettings."""
    try:
        return DatabaseSettings()
    except ValidationError as error:
        raise InvalidSettings(_explain(error)) from None


def variable_name(field: str) -> str:
    """Answer the environment variable of a field of Settings: `jwt_secret` is `ENGINE_JWT_SECRET`."""
    return PREFIX + field.upper()


def asyncpg_url(url: str) -> str:
    """Answer a PostgreSQL URL for SQLAlchemy's asyncpg dialect; raises ValueError, which never holds the URL.

    `postgres://` and `postgresql://` are taken, and libpq's `sslmode` becomes asyncpg's `ssl`.
    """
    parts = urlsplit(url)
    if parts.scheme not in _POSTGRES_SCHEMES:
        raise ValueError("must be a postgresql:// URL")
    query = [("ssl" if name == "sslmode" else name, value) for name, value in parse_qsl(parts.query)]
    return urlunsplit(parts._replace(scheme=_ASYNCPG_SCHEME, query=urlencode(query)))


def new_vault_key() -> str:
    """Make a vault key: `k1_` and the urlsafe base64 of 32 random bytes."""
    return VAULT_KEY_PREFIX + base64.urlsafe_b64encode(os.urandom(VAULT_KEY_BYTES)).decode()


def vault_key_bytes(text: str) -> bytes:
    """Answer the 32 bytes of a vault key; raises ValueError, which never holds the key."""
    message = f"each key must be `{VAULT_KEY_PREFIX}` and the urlsafe base64 of {VAULT_KEY_BYTES} bytes"
    if not text.startswith(VAULT_KEY_PREFIX):
        raise ValueError(message)
    try:
        key = _strict_base64(text.removeprefix(VAULT_KEY_PREFIX), altchars=b"-_")
    except binascii.Error:
        raise ValueError(message) from None
    if len(key) != VAULT_KEY_BYTES:
        raise ValueError(message)
    return key


def vault_key_id(key: bytes) -> str:
    """Answer the name a key goes by beside what it sealed: the first 8 hex digits of its SHA-256."""
    return hashlib.sha256(key).hexdigest()[:8]


def new_webhook_secret() -> str:
    """Make a webhook secret: `whsec_` and the base64 of 32 random bytes."""
    return WEBHOOK_SECRET_PREFIX + base64.b64encode(os.urandom(32)).decode()


def padded_webhook_secret(text: str) -> str:
    """A webhook secret with its padding, without which nobody else decodes it.

    Raises ValueError, which never holds it.
    """
    message = (
        f"each secret must be `{WEBHOOK_SECRET_PREFIX}` and the base64 of "
        f"{WEBHOOK_SECRET_BYTES.start} to {WEBHOOK_SECRET_BYTES.stop - 1} bytes"
    )
    if not text.startswith(WEBHOOK_SECRET_PREFIX):
        raise ValueError(message)
    try:
        secret = _strict_base64(text.removeprefix(WEBHOOK_SECRET_PREFIX), altchars=None)
    except binascii.Error:
        raise ValueError(message) from None
    if len(secret) not in WEBHOOK_SECRET_BYTES:
        raise ValueError(message)
    return WEBHOOK_SECRET_PREFIX + base64.b64encode(secret).decode()


def _strict_base64(text: str, altchars: bytes | None) -> bytes:
    """Decode base64 whose padding may be missing; raises binascii.Error for anything else."""
    try:
        encoded = text.rstrip("=").encode("ascii")
    except UnicodeEncodeError as error:
        raise binascii.Error("not ASCII") from error
    return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=altchars, validate=True)


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, str):
        return value
    raise ValueError("must be text")


def _explain(error: ValidationError) -> str:
    """Answer one line for each variable that is wrong; no line holds a value."""
    lines = {
        variable_name(str(problem["loc"][0])): (
            "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
        )
        for problem in error.errors(include_input=False, include_url=False)
    }
    return "Cannot start, the settings are not usable:\n" + "\n".join(
        f"  {name}: {reason}" for name, reason in sorted(lines.items())
    )
