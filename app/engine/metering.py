"""Metering: what becomes of executions and positions, counted when the transaction that says so has been committed."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from app.desk import Desk
from app.domain.money import ZERO
from app.engine import committing
from app.engine.committing import Consequence
from app.metrics import Metrics
from app.store.executions import Execution
from app.store.positions import Position

Observation = Callable[[Metrics], Any]


def attach(desk: Desk) -> None:
    """Count what this desk's sessions commit in its metrics."""

    def read(_: Session, row: object) -> Iterator[Consequence]:
        for observation in _noted(row):
            yield partial(observation, desk.metrics)

    committing.attach(desk, read)


def _noted(row: object) -> list[Observation]:
    if isinstance(row, Execution):
        return _seen(row)
    return _exposed(row) if isinstance(row, Position) else []


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


def _exposed(position: Position) -> list[Observation]:
    """How long a position's stop had been watched by nobody, where that has just ended."""
    history = inspect(position).attrs.unprotected_since.history
    ended = [since for since in history.deleted or () if since is not None]
    if position.unprotected_since is not None or not ended:
        return []
    lasted = inspect(position).attrs.unprotected_seconds.history
    before = next((each for each in lasted.deleted or () if each is not None), ZERO)
    seconds = float(position.unprotected_seconds - before) if lasted.added else 0.0
    return [lambda metrics: metrics.unprotected_seconds.observe(seconds)]


def _first_time(attribute: Any) -> bool:
    return bool(attribute.history.added) and not any(attribute.history.deleted)


def _between(start: datetime, end: datetime) -> float:
    # A venue's clock may be behind ours.
    return max(0.0, (end - start).total_seconds())
