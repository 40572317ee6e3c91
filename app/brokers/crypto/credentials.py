"""Credentials: the fields of a connection in the words of an exchange class, and which of them it asks for."""

from collections.abc import Mapping
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
