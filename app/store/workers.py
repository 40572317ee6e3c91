"""Workers: the heartbeat of every worker process, so that anyone can see that work is being done."""

from datetime import datetime, timedelta

from sqlalchemy import String, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.store.schema import Base, Moment

FORGET_AFTER = timedelta(days=1)


class Worker(Base):
    """One worker process, by host and process id."""

    __tablename__ = "execution_workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    version: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[Moment]
    seen_at: Mapped[Moment]


async def beat(session: AsyncSession, name: str, version: str, now: datetime) -> None:
    """Record that the worker is alive, and forget those that have been silent for a day."""
    alive = insert(Worker).values(name=name, version=version, started_at=now, seen_at=now)
    await session.execute(
        alive.on_conflict_do_update(index_elements=[Worker.name], set_={"seen_at": now, "version": version})
    )
    await session.execute(delete(Worker).where(Worker.seen_at < now - FORGET_AFTER))


async def latest_heartbeat(session: AsyncSession) -> datetime | None:
    """When any worker was last seen; None when there never was one."""
    return await session.scalar(select(func.max(Worker.seen_at)))
