"""Credentials: the fields of a connection in the words of an exchange class, and which of them it asks for."""

from collections.abc import Iterable, Mapping
from typing import Final

_WORDS: Final[Mapping[str, str]] = {
    "api_key": "apiKey",
    "api_secret": "secret",
    "api_passphrase": "password",
    "uid": "uid",
    "login": "login",
    "account_id": "accountId",
    "two_factor_secret": "twofa",
    "private_key": "privateKey",
    "wallet_address": "walletAddress",
    "token": "token",
}
"""Our name of each field, and ccxt's."""

_FIELDS: Final = {word: field for field, word in _WORDS.items()}


def for_class(credentials: Mapping[str, str]) -> dict[str, str]:
    """A connection's credentials as the constructor of a class takes them; a PEM's line ends are its own."""
    return {
        word: credentials[field].replace("\\n", "\n")
        for field, word in _WORDS.items()
        if field in credentials
    }


def fields_of(required: Mapping[str, bool]) -> tuple[str, ...]:
    """The fields a class declares as required, in our words and a stable order."""
    wanted = {_FIELDS[word] for word, needed in required.items() if needed and word in _FIELDS}
    return tuple(field for field in _WORDS if field in wanted)


KNOWN_FIELDS: Final = frozenset(_WORDS)
"""Every field an exchange may be given."""


_LABELS: Final[Mapping[str, str]] = {
    "api_key": "API key",
    "api_secret": "API secret",
    "api_passphrase": "API passphrase",
    "uid": "User ID",
    "login": "Login",
    "account_id": "Account ID",
    "two_factor_secret": "Two-factor secret",
    "private_key": "Private key",
    "wallet_address": "Wallet address",
    "token": "Access token",
}

_OWN_LABELS: Final[Mapping[tuple[str, str], str]] = {
    ("coinbase", "api_key"): "API key name (organizations/…/apiKeys/…)",
    ("coinbase", "api_secret"): "Private key of the API key (PEM)",
    ("hyperliquid", "private_key"): "Private key of an API wallet",
    ("hyperliquid", "wallet_address"): "Address of the account, not of the API wallet",
}
"""Where a venue calls something by a name of its own."""


def labels_of(exchange: str, fields: Iterable[str]) -> dict[str, str]:
    """What people are asked for, by field."""
    return {field: _OWN_LABELS.get((exchange, field), _LABELS[field]) for field in fields}
