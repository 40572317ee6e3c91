"""What the operator says of the channels that notifications go out on; a part of the settings."""

import json
import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode

_BOT_TOKEN: Final = re.compile(r"\d{1,20}:[A-Za-z0-9_-]{20,}")
_ADDRESS: Final = re.compile(r"[^\s<>@,;]+@[^\s<>@,;]+")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def is_base_url(url: str, *, may_have_path: bool = False) -> bool:
    """Whether it is a scheme, a host and perhaps a port, with nothing behind them but a path where one may be."""
    try:
        parts = urlsplit(url)
        # Reading it is what checks it.
        _ = parts.port
    except ValueError:
        return False
    has_more = parts.query or parts.fragment or (parts.path.strip("/") and not may_have_path)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not has_more


class ChannelSettings(BaseSettings):
    """A channel that needs something of the operator is offered to owners once that is set."""

    telegram_token: SecretStr | None = None
    """The bot that writes to owners on Telegram; None: no Telegram."""

    smtp_host: str | None = None
    """The mail server that e-mail leaves by; None: no e-mail."""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_tls: Literal["starttls", "tls", "off"] = "starttls"
    """`tls` from the first byte on, `starttls` before anything is said, `off` for a server without either."""
    smtp_sender: str | None = Field(default=None, validate_default=True)
    """The address e-mail comes from."""
    smtp_user: str | None = None
    smtp_password: SecretStr | None = Field(default=None, validate_default=True)

    channel_endpoints: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Where requests to `discord` and `telegram` really go: a base URL of scheme, host and port each."""

    private_targets: Literal["refused", "allowed"] = "refused"
    """Whether owners' webhooks may lead to private addresses, and be http://."""

    @field_validator("telegram_token")
    @classmethod
    def _is_a_bots(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _BOT_TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError("must be a bot's token as BotFather gives it: digits, a colon, letters")
        return value

    @field_validator("smtp_sender")
    @classmethod
    def _comes_from_somewhere(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("smtp_host"):
            raise ValueError("is not set, and e-mail has to come from an address")
        if value is not None and not _ADDRESS.fullmatch(value):
            raise ValueError("must be an address like engine@platform.example")
        return value

    @field_validator("smtp_password")
    @classmethod
    def _is_not_overheard(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if (value is None) != (info.data.get("smtp_user") is None):
            raise ValueError("user and password belong together")
        if value and info.data.get("smtp_tls") == "off" and info.data.get("smtp_host") not in _LOOPBACK:
            raise ValueError("must not be sent without TLS to another machine")
        return value

    @field_validator("channel_endpoints", mode="before")
    @classmethod
    def _parse_channel_endpoints(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError("must be a JSON object of channel to base URL") from error

    @field_validator("channel_endpoints")
    @classmethod
    def _are_channels(cls, values: dict[str, str]) -> dict[str, str]:
        if values.keys() - {"discord", "telegram"}:
            raise ValueError("takes discord and telegram, no other")
        if not all(map(is_base_url, values.values())):
            raise ValueError("each must be a base URL like https://proxy.example:8443")
        return values
