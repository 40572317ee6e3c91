"""Workers: the heartbeat of every worker process, so that anyone can see that work is being done."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import String, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.store.schema import Base, JsonList, Moment

FORGET_AFTER = timedelta(days=1)


class Worker(Base):
    """One worker process, by host and process id."""

    __tablename__ = "execution_workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    version: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[Moment]
    seen_at: Mapped[Moment]
    metrics: Mapped[JsonList] = mapped_column(server_default=text("'[]'::jsonb"), default=list)
    """What it had counted by then, as a snapshot (see app/metrics.py)."""


async def beat(
    session: AsyncSession, name: str, version: str, now: datetime, metrics: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Record that the worker is alive and what it has counted, and forget those that have been silent for a day."""
    news = {"seen_at": now, "version": version, "metrics": list(metrics)}
    alive = insert(Worker).values(name=name, started_at=now, **news)
    await session.execute(alive.on_conflict_do_update(index_elements=[Worker.name], set_=news))
    await session.execute(delete(Worker).where(Worker.seen_at < now - FORGET_AFTER))


async def latest_heartbeat(session: AsyncSession) -> datetime | None:
    """When any worker was last seen; None when there never was one."""
    return await session.scalar(select(func.max(Worker.seen_at)))


async def alive(session: AsyncSession, since: datetime) -> Sequence[Worker]:
    """The workers that have been seen since, by name."""
    return (await session.scalars(select(Worker).where(Worker.seen_at >= since).order_by(Worker.name))).all()
