"""Credentials: how an account at a broker is named and opened, in the words of a connection."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from app.domain.errors import Invalid

REQUIRED: Final = ("account_id", "api_secret")
KNOWN_FIELDS: Final = frozenset({*REQUIRED, "server", "host", "port", "api_key"})
"""Login and password; the server by name, or host and port; the key of a gateway that asks for one."""

LABELS: Final[Mapping[str, str]] = {
    "account_id": "Login",
    "api_secret": "Password",
    "server": "Server",
    "host": "Host of the server",
    "port": "Port of the server",
    "api_key": "Key of the gateway",
}
"""What people are asked for, by field."""

_HIGHEST_PORT: Final = 65535

_NAME: Final = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z][a-z0-9-]*")
"""A host's name. One that ends in a number is an address in one of its shorter forms: `127.1`, `0x7f.1`."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What opens an account. Nothing of it is printed but where the account is."""

    login: str
    password: str = field(repr=False)
    server: str | None
    host: str | None
    port: int | None
    gateway_key: str | None = field(repr=False)

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Self:
        """From a connection's credentials. Raises Invalid, naming fields only."""
        check(given)
        port = given.get("port")
        return cls(
            login=given["account_id"].lstrip("0") or "0",
            password=given["api_secret"],
            server=given.get("server") or None,
            host=given.get("host") or None,
            port=int(port) if port else None,
            gateway_key=given.get("api_key") or None,
        )

    @property
    def identity(self) -> str:
        """The account's name as these credentials have it: a server's name and its address make two."""
        return self.identity_at(self.server)

    def identity_at(self, server: str | None) -> str:
        """The account's own name at a server; without its name, at the address."""
        return f"{self.login}@{server or self.server or f'{self.host}:{self.port}'}".lower()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be repeated in words of ours."""
        return tuple(each for each in (self.password, self.gateway_key) if each)


def check(given: Mapping[str, str]) -> None:
    """Raise Invalid where credentials lack something, or say something nobody knows. Names fields only."""
    missing = [name for name in REQUIRED if not given.get(name)]
    if missing:
        raise Invalid("credentials", f"MetaTrader needs {', '.join(missing)}.")
    unknown = sorted(given.keys() - KNOWN_FIELDS)
    if unknown:
        raise Invalid("credentials", f"There is no credential field {', '.join(unknown)}.")
    if not (given["account_id"].isascii() and given["account_id"].isdigit()):
        raise Invalid("credentials.account_id", "The login of a MetaTrader account is a number.")
    if not given.get("server"):
        _check_address(given.get("host"), given.get("port"))


def _check_address(host: str | None, port: str | None) -> None:
    if not host or not port:
        raise Invalid("credentials", "MetaTrader needs the server by name, or its host and port.")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT):
        raise Invalid("credentials.port", "A port is a number from 1 to 65535.")
    if _is_private(host):
        # The bridge opens the connection, and it may stand in the operator's own network.
        raise Invalid("credentials.host", "The host of a broker is a public name or address.")


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_global
    except ValueError:
        name = host.lower().removesuffix(".")
        return _NAME.fullmatch(name) is None or name.endswith((".local", ".internal", ".localhost"))
