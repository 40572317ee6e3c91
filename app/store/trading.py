"""Trading: how far the whole engine may trade, in one row, and whether this is the database that row was set in.

A database restored from a backup, or promoted from a replica, may lack the last orders that were sent. It is known by
a mark: the server's identity, its timeline and the number of the table, none of which comes back with the rows. Until
an admin has set the state again in that database, it is halted.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import CheckConstraint, String, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.risk import Mode
from app.store.schema import Base, Moment, Name, checked

MARK: Final = (
    "(SELECT system_identifier FROM pg_control_system())"
    " || '/' || (SELECT timeline_id FROM pg_control_checkpoint())"
    " || '/' || 'execution_trading'::regclass::oid"
)
"""The SQL of the mark of the database that is asked."""

RESTORED: Final = (
    "This database was restored from a backup or promoted from a replica: it may lack orders that were sent. "
    "Compare it with the venues, then set the state."
)


class Trading(Base):
    """The kill switch: the state of the whole engine, and which admin set it, when and why."""

    __tablename__ = "execution_trading"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[Mode] = mapped_column(checked(Mode, "state"))
    reason: Mapped[str | None] = mapped_column(String(500))
    set_by: Mapped[Name | None]
    """The admin's id; null, like reason and time, while nobody has ever set it."""
    set_at: Mapped[Moment | None]
    database_mark: Mapped[str] = mapped_column(String(64))
    """The mark of the database it was set in."""

    __table_args__ = (CheckConstraint("id = 1", name="only_row"),)


@dataclass(frozen=True, slots=True)
class Switch:
    """How far the engine may trade, and who said so; all but the state is None where nobody did."""

    state: Mode
    reason: str | None
    set_by: str | None
    set_at: datetime | None


async def present(session: AsyncSession) -> Switch:
    """The state as it holds: the one last set, or halted in another database than it was set in."""
    row = (
        await session.execute(
            select(
                Trading.state,
                Trading.reason,
                Trading.set_by,
                Trading.set_at,
                (Trading.database_mark == text(MARK)).label("is_here"),
            )
        )
    ).one_or_none()
    if row is None or not row.is_here:
        return Switch(Mode.HALTED, RESTORED, None, None)
    return Switch(row.state, row.reason, row.set_by, row.set_at)


async def state(session: AsyncSession) -> Mode:
    """How far the engine may trade."""
    return (await present(session)).state


async def set_state(session: AsyncSession, state: Mode, reason: str, set_by: str, now: datetime) -> None:
    """Put the switch, in this database; call `speak` before."""
    await session.execute(
        update(Trading).values(
            state=state, reason=reason, set_by=set_by, set_at=now, database_mark=text(MARK)
        )
    )


def _key() -> Any:
    return func.hashtextextended("trading", 0)


async def speak(session: AsyncSession) -> None:
    """Wait until no claim is running, and let none run until this transaction ends.

    Without it a claim that read the old state could commit after the new one.
    """
    await session.execute(select(func.pg_advisory_xact_lock(_key())))


async def listen(session: AsyncSession) -> None:
    """The claim's side of `speak`: many claims at once, none while the state is being set."""
    await session.execute(select(func.pg_advisory_xact_lock_shared(_key())))
