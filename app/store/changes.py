"""Changes: where in the order of commits each resource of an owner was last changed.

Triggers write it (see migration 0016) in the transaction that changes an execution, a position or a notification: one
row per resource, which moves on to the newest transaction. So what changes often is read once, in its newest state,
no place in the order is ever too old, and nothing has to be cleared away.

Transactions get their numbers before they commit, and commit in any order. Only below the horizon, the oldest that
still runs, can no more appear: nobody reads beyond it.
"""

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, Index, func, literal_column, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.owners import Owner, Role
from app.store.schema import Base, Name, checked
from app.store.trading import MARK


class Kind(StrEnum):
    """What has changed."""

    EXECUTION = "execution"
    POSITION = "position"
    NOTIFICATION = "notification"


class Place(NamedTuple):
    """A place in the order: behind the change of this resource in this transaction."""

    xid: int
    resource_id: UUID


class Change(Base):
    """The last change of one resource."""

    __tablename__ = "execution_changes"

    resource_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[Kind] = mapped_column(checked(Kind, "kind"))
    owner_role: Mapped[Role] = mapped_column(checked(Role, "owner_role"))
    owner_id: Mapped[Name]
    xid: Mapped[int] = mapped_column(BigInteger)
    """The number of the transaction that made it: PostgreSQL's, of 64 bits, which never comes again."""

    __table_args__ = (Index("ix_execution_changes_owner", "owner_role", "owner_id", "xid", "resource_id"),)

    @property
    def place(self) -> Place:
        """The place behind it."""
        return Place(self.xid, self.resource_id)


class Present(NamedTuple):
    """Which database this is, and what was committed in it up to now."""

    mark: str
    """Another one where it was restored or promoted: numbers of transactions mean nothing there."""
    horizon: int

    @property
    def place(self) -> Place:
        """The place behind all that was committed before the horizon."""
        return Place(self.horizon, UUID(int=0))


_HORIZON: Final = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint", BigInteger)


async def present(session: AsyncSession) -> Present:
    """Where the order ends at this moment."""
    mark = func.left(func.md5(literal_column(MARK)), 8)
    return Present(*(await session.execute(select(mark, _HORIZON))).one())


async def after(session: AsyncSession, owner: Owner, place: Place, *, limit: int) -> Sequence[Change]:
    """What of the owner's has changed behind a place, up to the horizon, in order."""
    rows = await session.scalars(
        select(Change)
        .where(
            Change.owner_role == owner.role,
            Change.owner_id == owner.id,
            tuple_(Change.xid, Change.resource_id) > place,
            Change.xid < _HORIZON,
        )
        .order_by(Change.xid, Change.resource_id)
        .limit(limit)
    )
    return rows.all()


# One probe of the index for each owner, however many changes there are.
_CONCERNED: Final = text(
    """
    SELECT owner.role, owner.id
    FROM unnest(CAST(:roles AS varchar[]), CAST(:ids AS varchar[])) AS owner (role, id)
    CROSS JOIN LATERAL (
        SELECT FROM execution_changes AS change
        WHERE change.owner_role = owner.role AND change.owner_id = owner.id
          AND change.xid >= :start AND change.xid < :horizon
        LIMIT 1
    ) AS changed
    """
)


async def concerned(session: AsyncSession, owners: Collection[Owner], start: int, horizon: int) -> set[Owner]:
    """Those of the owners of whose something was changed by the transactions from `start` up to the horizon."""
    asked: dict[str, Any] = {
        "roles": [owner.role.value for owner in owners],
        "ids": [owner.id for owner in owners],
    }
    rows = await session.execute(_CONCERNED, asked | {"start": start, "horizon": horizon})
    return {Owner(Role(role), id_) for role, id_ in rows}
