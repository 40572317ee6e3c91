"""Metering: what becomes of executions, counted when the transaction that says so has been committed.

It listens to the sessions of a desk, not to the activities: a change of an execution cannot be made without it.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.orm import Session

from app.desk import Desk
from app.metrics import Metrics
from app.store.executions import Execution

_NOTED = "metering"

Observation = Callable[[Metrics], Any]


def attach(desk: Desk) -> None:
    """Count what this desk's sessions commit in its metrics."""

    def note(session: Session, _: object) -> None:
        noted: list[Observation] = session.info.setdefault(_NOTED, [])
        for row in (*session.new, *session.dirty):
            if isinstance(row, Execution):
                noted.extend(_seen(row))

    def count(session: Session) -> None:
        for observation in session.info.pop(_NOTED, ()):
            observation(desk.metrics)

    def drop(session: Session) -> None:
        session.info.pop(_NOTED, None)

    watched = desk.sessions.kw["sync_session_class"]
    event.listen(watched, "after_flush", note)
    event.listen(watched, "after_commit", count)
    event.listen(watched, "after_rollback", drop)


def _seen(execution: Execution) -> list[Observation]:
    """What a flush changes of an execution that is worth counting."""
    changed = inspect(execution).attrs
    seen: list[Observation] = []
    if changed.status.history.added:
        status, code = execution.status.value, execution.code or ""
        seen.append(lambda metrics: metrics.executions.labels(status, code).inc())
    if _first_time(changed.sent_at) and execution.sent_at is not None:
        sent = _between(execution.received_at, execution.sent_at)
        seen.append(lambda metrics: metrics.sent_seconds.observe(sent))
    if _first_time(changed.filled_at) and execution.filled_at is not None:
        filled = _between(execution.received_at, execution.filled_at)
        seen.append(lambda metrics: metrics.filled_seconds.observe(filled))
    return seen


def _first_time(attribute: Any) -> bool:
    return bool(attribute.history.added) and not any(attribute.history.deleted)


def _between(start: datetime, end: datetime) -> float:
    # A venue's clock may be behind ours.
    return max(0.0, (end - start).total_seconds())
