"""Events: every webhook message, stored as it came, and what is known of a signal from them."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Index, LargeBinary, String, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.store.schema import Base, Json, Key, Moment, checked


class Reception(StrEnum):
    """What became of a webhook message when it came in."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"


class Event(Base):
    """One webhook message that was accepted or ignored, kept for good: the id is what a replay is known by."""

    __tablename__ = "execution_events"

    id: Mapped[Key]
    webhook_id: Mapped[str] = mapped_column(String(256), unique=True)
    type: Mapped[str] = mapped_column(String(64))
    provider: Mapped[str | None] = mapped_column(String(64))
    source_id: Mapped[str | None] = mapped_column(String(64))
    timestamp: Mapped[Moment]
    """When the source says it happened; per field the greatest wins."""
    data: Mapped[Json]
    body_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[Reception] = mapped_column(checked(Reception, "status"))
    received_at: Mapped[Moment]
    due_at: Mapped[Moment | None]
    """When what it says has to be carried out on what is already open; null when it has been."""

    __table_args__ = (
        Index("ix_execution_events_source", "provider", "source_id", "type"),
        Index("ix_execution_events_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )


async def about(
    session: AsyncSession, provider: str, source_id: str, types: Sequence[str]
) -> Sequence[Event]:
    """The accepted events of these types about one signal, oldest first by the source's clock."""
    rows = await session.scalars(
        select(Event)
        .where(
            Event.provider == provider,
            Event.source_id == source_id,
            Event.type.in_(types),
            Event.status == Reception.ACCEPTED,
        )
        .order_by(Event.timestamp, Event.id)
    )
    return rows.all()


def _source_key(provider: str, source_id: str) -> Any:
    return func.hashtextextended(f"signal:{provider}:{source_id}", 0)


async def speak(session: AsyncSession, provider: str, source_id: str) -> None:
    """Wait until no claim of this signal is running, and let none run until this transaction ends.

    An advisory lock, since the event may come before its signal, when there is no row to lock. It makes what an
    event says hold from the moment its 202 is sent.
    """
    await session.execute(select(func.pg_advisory_xact_lock(_source_key(provider, source_id))))


async def listen(session: AsyncSession, provider: str, source_id: str) -> None:
    """The claim's side of `speak`: many claims at once, none while an event is being stored."""
    await session.execute(select(func.pg_advisory_xact_lock_shared(_source_key(provider, source_id))))
