"""Rekeying: every stored credential under the newest vault key, and no process without a key that is in use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from app import vault
from app.desk import Desk
from app.store import sealed
from app.store.channels import Channel
from app.store.connections import Connection
from app.vault import KEY_ID_BYTES, CannotOpen

log = structlog.get_logger(__name__)

BATCH: Final = 200
"""How many rows are read at a time."""


class MissingKeys(Exception):
    """Credentials are sealed under vault keys this process was not given; the text names the setting and the ids."""


@dataclass(frozen=True, slots=True)
class Rekeying:
    """What a rotation did."""

    resealed: int
    """Rows whose credentials are under the newest key now and were not before."""
    unopened: Sequence[UUID]
    """Rows whose credentials no key of this process opens: they were left as they are."""


KINDS: Final[Mapping[sealed.Holder, vault.Holder]] = {Connection: "connection", Channel: "channel"}
"""What the vault calls the rows of a table."""


async def rotate(desk: Desk) -> Rekeying:
    """Put every stored credential under the newest key, a row at a time; started again, it goes on where it was.

    Credentials changed meanwhile are left alone: whoever changed them has sealed them. The processes that open
    them need the newest key before this runs, in any place of their list.
    """
    resealed, unopened = 0, list[UUID]()
    for holder in sealed.HOLDERS:
        after: UUID | None = None
        while rows := await _under_others(desk, holder, after):
            after = rows[-1].id
            for row in rows:
                try:
                    resealed += await _reseal(desk, row)
                except CannotOpen as failure:
                    log.warning("credentials_unopened", row_id=str(row.id), reason=str(failure))
                    unopened.append(row.id)
    return Rekeying(resealed, unopened)


async def _under_others(
    desk: Desk, holder: sealed.Holder, after: UUID | None
) -> Sequence[Connection | Channel]:
    async with desk.sessions() as session:
        return await sealed.sealed_under_others(session, holder, desk.vault.sealing_key_id, after, BATCH)


async def _reseal(desk: Desk, row: Connection | Channel) -> bool:
    """Whether a row is under the newest key now. Raises CannotOpen."""
    before = row.credentials_sealed
    assert before is not None, "the question asks for sealed rows"
    holder = type(row)
    anew = desk.vault.rewrap(before, kind=KINDS[holder], row_id=row.id, version=row.credentials_version)
    # A transaction a row: several row locks at once could meet those of a claim the other way round.
    async with desk.sessions.begin() as session:
        return await sealed.replace_seal(session, holder, row.id, before, anew)


async def check_keys(desk: Desk) -> None:
    """Make sure that this process has every vault key in use. Raises MissingKeys, and whatever the database does."""
    async with desk.sessions() as session:
        in_use = await sealed.vault_keys_in_use(session, KEY_ID_BYTES)
    missing = {key_id: count for key_id, count in in_use.items() if key_id not in desk.vault.key_ids}
    if missing:
        named = ", ".join(f"{key_id} ({count} credentials)" for key_id, count in sorted(missing.items()))
        raise MissingKeys(f"ENGINE_VAULT_KEYS lacks keys that stored credentials are sealed under: {named}")


async def keys_checked(desk: Desk) -> bool:
    """The same for a process that starts; False where it has to be asked again. Raises MissingKeys.

    A database that is away or was never migrated is no reason: a process starts without one and waits for it.
    """
    try:
        await check_keys(desk)
    except (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as failure:
        log.warning("vault_keys_unchecked", reason=type(failure).__name__)
        return False
    return True
