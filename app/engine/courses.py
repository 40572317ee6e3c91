"""Courses: what has become of a signal, read from the events that came about it, in whatever order they came."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.domain import signals
from app.domain.money import parse
from app.domain.signals import Course, EventType, Update
from app.store import events
from app.store.events import Event
from app.store.signals import SignalRow

LATER = (EventType.UPDATED, EventType.CANCELLED, EventType.CLOSED)


async def course_of(session: AsyncSession, signal: SignalRow) -> Course:
    """The signal in its present wording, and whether it is still meant."""
    heard = await events.about(session, signal.provider, signal.source_id, LATER)
    return signals.course_of(
        signal.meaning(),
        [update_of(event) for event in heard if event.type == EventType.UPDATED],
        cancelled=any(event.type == EventType.CANCELLED for event in heard),
        closed_portions=[portion_of(event) for event in heard if event.type == EventType.CLOSED],
    )


async def updates_of(session: AsyncSession, provider: str, source_id: str) -> Sequence[Event]:
    """Every update of a signal that was heard, oldest first by the source's clock."""
    return await events.about(session, provider, source_id, [EventType.UPDATED])


async def closes_of(session: AsyncSession, provider: str, source_id: str) -> Sequence[Event]:
    """Every close of a signal that was heard, of all of it or of a portion."""
    return await events.about(session, provider, source_id, [EventType.CLOSED])


def portion_of(event: Event) -> Decimal:
    """What part of what remains a close is about."""
    return parse(event.data.get("portion") or "1")


def update_of(event: Event) -> Update:
    """What an update says."""
    data: dict[str, Any] = event.data
    stop, ends = data.get("stop_loss"), data.get("expires_at")
    return Update(
        timestamp=event.timestamp,
        fields=frozenset(data) & {"stop_loss", "take_profits", "expires_at"},
        stop_loss=None if stop is None else parse(stop),
        take_profits=tuple(
            (parse(level["price"]), None if level.get("portion") is None else parse(level["portion"]))
            for level in data.get("take_profits") or ()
        ),
        expires_at=None if ends is None else datetime.fromisoformat(ends),
    )
