"""Ownership, the second wall: PostgreSQL itself shows a bound transaction what one owner owns, and nothing else.

The first wall is the owner clause of every query. Should one ever be forgotten, the row-level policies of the
migrations leave nothing of anybody else's to be read. What serves an owner binds its transactions; intake and the
engine, who work for all owners, do not, and their own role is not held by the policies.
"""

from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain.owners import Owner

READER: Final = "engine_reader"
"""The PostgreSQL role that the policies hold: it can log in nowhere, and can read what has a policy."""


async def bind(session: AsyncSession, owner: Owner) -> None:
    """Show only this owner's rows until the transaction ends."""
    await session.execute(
        select(
            func.set_config("engine.owner_role", owner.role.value, True),
            func.set_config("engine.owner_id", owner.id, True),
            func.set_config("role", READER, True),
        )
    )


_MAY_BYPASS: Final = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
_UNGUARDED: Final = text(
    """
    SELECT relname FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
      AND NOT relrowsecurity AND has_table_privilege(oid, 'SELECT')
    ORDER BY relname
    """
)


async def gaps(session: AsyncSession) -> list[str]:
    """What a transaction that is bound could read past the policies; empty as it should be."""
    found = ["every row, as its role passes by policies"] if await session.scalar(_MAY_BYPASS) else []
    return found + [f"all of {table}" for table in await session.scalars(_UNGUARDED)]
