"""Chores: what is done at fixed times, and who has taken it up, so that one process does it however many there are."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import String, and_, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.store.schema import Base, Moment


class ChoreRow(Base):
    """One chore: the last time it was due and somebody took it up."""

    __tablename__ = "execution_chores"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    due_at: Mapped[Moment]
    """The time it was due."""
    taken_until: Mapped[Moment | None]
    """Until when it is left to whoever took it up; null when it is done."""

    def is_free(self, due_at: datetime, now: datetime) -> bool:
        """Whether it can be taken up for a time it was due at, as `claim` has it."""
        lapsed = self.taken_until is not None and self.taken_until <= now
        return self.due_at < due_at or (self.due_at == due_at and lapsed)


async def present(session: AsyncSession) -> Mapping[str, ChoreRow]:
    """Every chore that was ever taken up, by name."""
    return {row.name: row for row in await session.scalars(select(ChoreRow))}


async def claim(session: AsyncSession, name: str, due_at: datetime, now: datetime, until: datetime) -> bool:
    """Take a chore up, unless it is done or somebody has it; true for one process at a time."""
    claimed = insert(ChoreRow).values(name=name, due_at=due_at, taken_until=until)
    claimed = claimed.on_conflict_do_update(
        index_elements=[ChoreRow.name],
        set_={"due_at": due_at, "taken_until": until},
        where=or_(
            ChoreRow.due_at < due_at,
            and_(ChoreRow.due_at == due_at, ChoreRow.taken_until <= now),
        ),
    )
    return await session.scalar(claimed.returning(ChoreRow.name)) is not None


async def finish(session: AsyncSession, name: str, due_at: datetime) -> None:
    """It is done, for the time it was due at."""
    await session.execute(
        update(ChoreRow)
        .where(ChoreRow.name == name, ChoreRow.due_at == due_at)
        .values(taken_until=None)
        .execution_options(synchronize_session=False)
    )
