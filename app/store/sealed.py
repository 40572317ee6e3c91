"""Sealed: the rows that hold credentials, of whichever table, as the change of a vault key sees them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.store.channels import Channel
from app.store.connections import Connection

Holder = type[Connection] | type[Channel]

HOLDERS: Final[Sequence[Holder]] = (Connection, Channel)
"""Every table with credentials in it."""


def _key_id(holder: Holder, length: int) -> Any:
    """The id of the vault key a row's credentials are sealed under: what they begin with."""
    # A literal, since a bound encoding would make the grouped expression another than the selected one.
    return func.convert_from(
        func.substr(holder.credentials_sealed, literal_column("1"), literal_column(str(length))),
        literal_column("'LATIN1'"),
    )


async def vault_keys_in_use(session: AsyncSession, key_id_length: int) -> Mapping[str, int]:
    """How many rows are sealed under each vault key, by the key's id."""
    in_use = Counter[str]()
    for holder in HOLDERS:
        name = _key_id(holder, key_id_length)
        found = select(name, func.count()).where(holder.credentials_sealed.is_not(None)).group_by(name)
        in_use.update(dict((await session.execute(found)).all()))
    return in_use


async def sealed_under_others(
    session: AsyncSession, holder: Holder, key_id: str, after: UUID | None, limit: int
) -> Sequence[Connection | Channel]:
    """Rows sealed under another key than this one, by id."""
    wanted: Select[Any] = select(holder).where(
        holder.credentials_sealed.is_not(None), _key_id(holder, len(key_id)) != key_id
    )
    if after is not None:
        wanted = wanted.where(holder.id > after)
    return (await session.scalars(wanted.order_by(holder.id).limit(limit))).all()


async def replace_seal(
    session: AsyncSession, holder: Holder, row_id: UUID, before: bytes, after: bytes
) -> bool:
    """Put the same credentials under another key; False when they were changed or deleted meanwhile."""
    found = await session.scalar(
        update(holder)
        .where(holder.id == row_id, holder.credentials_sealed == before)
        .values(credentials_sealed=after)
        .returning(holder.id)
    )
    return found is not None
