"""Journal: one log line for everything that becomes of an execution, its orders and its position.

A line is written when the change has been committed, and names signal, execution, connection and order.
"""

from collections.abc import Iterator
from typing import Any

import structlog
from sqlalchemy import inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import identity_key

from app.desk import Desk
from app.domain.money import text
from app.domain.positions import PositionStatus
from app.engine import committing, naming
from app.engine.committing import Consequence
from app.store.executions import Execution
from app.store.orders import Order
from app.store.positions import Position

log = structlog.get_logger(__name__)


def attach(desk: Desk) -> None:
    """Write the journal of what this desk's sessions commit."""
    committing.attach(desk, _read)


def _read(session: Session, row: object) -> Iterator[Consequence]:
    if isinstance(row, Execution):
        yield from _of_execution(row)
    elif isinstance(row, Order):
        yield from _of_order(session, row)
    elif isinstance(row, Position):
        yield from _of_position(row)


def _line(event: str, **words: Any) -> Consequence:
    return lambda: log.info(event, **words)


def _of_execution(execution: Execution) -> Iterator[Consequence]:
    if _changed(execution, "status"):
        names = naming.of_execution(execution)
        yield _line("execution_changed", **names, status=execution.status, code=execution.code)


def _of_order(session: Session, order: Order) -> Iterator[Consequence]:
    if not _changed(order, "status", "filled_quantity"):
        return
    # Whoever changes an order holds its execution under lock, so it is here; an import of rows would not.
    execution = session.identity_map.get(identity_key(Execution, order.execution_id))
    names = naming.of_order(execution, order) if isinstance(execution, Execution) else {}
    yield _line(
        "order_changed",
        **(names or {"order_id": str(order.id), "execution_id": str(order.execution_id)}),
        purpose=order.purpose,
        status=order.status,
        filled=text(order.filled_quantity),
        attempt=order.attempt,
        client_order_id=order.client_order_id,
        exchange_order_id=order.exchange_order_id,
    )


def _of_position(position: Position) -> Iterator[Consequence]:
    names = naming.of_position(position)
    if _changed(position, "opened_at"):
        yield _line("position_opened", **names, side=position.side, quantity=text(position.quantity))
    if _changed(position, "protected_at"):
        event = "position_exposed" if position.protected_at is None else "position_protected"
        if position.protected_at is not None or position.status is not PositionStatus.CLOSED:
            yield _line(event, **names, protection=position.protection)
    if _changed(position, "status") and position.status is PositionStatus.CLOSED:
        yield _line(
            "position_closed",
            **names,
            reason=position.close_reason,
            realized_pnl=text(position.realized_pnl),
            currency=position.currency,
        )


def _changed(row: object, *fields: str) -> bool:
    attributes = inspect(row, raiseerr=True).attrs
    return any(attributes[field].history.added for field in fields)
