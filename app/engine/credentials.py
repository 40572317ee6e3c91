"""Credentials: an account's keys, sealed for their row, and others of the same account in their place."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from app.brokers.port import is_of_key
from app.desk import Desk
from app.domain.errors import Conflict
from app.engine.access import access_of
from app.engine.examining import examine_aside
from app.store.connections import Connection, Kind

_KEY_FIELDS: Final = ("api_key", "account_id")
_LOGIN_FIELDS: Final = ("account_id",)
"""Which credential names the account, in the order they are looked for; its end is the hint. On fx the key is a
gateway's, which many accounts share."""
_HINT_LENGTH: Final = 4


def seal(desk: Desk, connection: Connection, credentials: Mapping[str, str], *, version: int) -> None:
    """Give a connection its credentials, sealed for this row and version; they have passed no test yet."""
    connection.credentials_sealed = desk.vault.seal(credentials, row_id=connection.id, version=version)
    connection.credentials_version = version
    connection.credentials_hint = _hint(
        credentials, _LOGIN_FIELDS if connection.kind is Kind.FX else _KEY_FIELDS
    )
    connection.tested_version = None
    connection.account_identity = None
    connection.last_error = None
    connection.refused_in_a_row = 0


def _hint(credentials: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The end of the key or login, where that gives away less than half of it."""
    key = next((credentials[field] for field in names if field in credentials), "")
    return key[-_HINT_LENGTH:] if len(key) >= 2 * _HINT_LENGTH else None


async def check_same_account(desk: Desk, connection: Connection, credentials: Mapping[str, str]) -> str:
    """The identity of the account that a connection trades, which these credentials open as well.

    Asks the venue, beside the broker in use. Raises Conflict `positions_open` where they open another one, none that
    may be traded, or one that nobody can tell apart from others.
    """
    known, version = connection.account_identity, connection.credentials_version + 1
    if known is None:
        raise _open("the account has not been named by a passed test yet")
    sealed = desk.vault.seal(credentials, row_id=connection.id, version=version)
    access = replace(access_of(connection), credentials_version=version, credentials_sealed=sealed)
    found = await examine_aside(desk, access)
    if not found.ok or found.account is None:
        raise _open(f"these do not pass its test. {found.message.rstrip('.')}")
    identity = found.account.identity
    if identity == known:
        return identity
    if is_of_key(identity):
        raise _open("the venue does not tell which account a key is of, so these may be another's")
    if is_of_key(known):
        raise _open(
            "so far the account is known by its key alone. Test the connection with the present ones first"
        )
    raise _open("these open another account")


def _open(why: str) -> Conflict:
    return Conflict(
        "positions_open",
        f"While something is open, credentials are replaced by others of the same account only: {why}.",
    )
