"""Trading: how far the whole engine may trade, in one row; without the row it is active."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, String, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.risk import Mode
from app.store.schema import Base, Moment, Name, checked

_ONLY_ROW = 1


class Trading(Base):
    """The kill switch: the state of the whole engine, and which admin set it, when and why."""

    __tablename__ = "execution_trading"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[Mode] = mapped_column(checked(Mode, "state"))
    reason: Mapped[str] = mapped_column(String(500))
    set_by: Mapped[Name]
    """The admin's id."""
    set_at: Mapped[Moment]

    __table_args__ = (CheckConstraint("id = 1", name="only_row"),)


async def present(session: AsyncSession) -> Trading | None:
    """The state as it was last set; None when it never was, which is `active`."""
    return await session.get(Trading, _ONLY_ROW, populate_existing=True)


async def state(session: AsyncSession) -> Mode:
    """How far the engine may trade."""
    return await session.scalar(select(Trading.state)) or Mode.ACTIVE


async def set_state(session: AsyncSession, state: Mode, reason: str, set_by: str, now: datetime) -> None:
    """Put the switch; call `speak` before."""
    wording = {"state": state, "reason": reason, "set_by": set_by, "set_at": now}
    await session.execute(
        insert(Trading)
        .values(id=_ONLY_ROW, **wording)
        .on_conflict_do_update(index_elements=[Trading.id], set_=wording)
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
