"""Naming: the ids by which every log line about an entry, its orders and its position is found."""

from contextlib import AbstractContextManager
from uuid import UUID

from sqlalchemy import select
from structlog.contextvars import bound_contextvars

from app.desk import Desk
from app.store.executions import Execution
from app.store.orders import Order
from app.store.positions import Position

Names = dict[str, str]


def of_execution(execution: Execution) -> Names:
    """Signal, execution and connection."""
    return _names(execution.signal_id, execution.id, execution.connection_id)


def of_order(execution: Execution, order: Order) -> Names:
    """The same with one of its orders."""
    return {**of_execution(execution), "order_id": str(order.id)}


def of_position(position: Position) -> Names:
    """The same with its position."""
    names = _names(position.signal_id, position.execution_id, position.connection_id)
    return {**names, "position_id": str(position.id)}


async def looked_up(desk: Desk, order: Order) -> Names:
    """The names of an order whose execution is not at hand; for what is rarely told."""
    async with desk.sessions() as session:
        signal_id = await session.scalar(
            select(Execution.signal_id).where(Execution.id == order.execution_id)
        )
    return {**_names(signal_id, order.execution_id, order.connection_id), "order_id": str(order.id)}


def bound(signal_id: UUID, execution_id: UUID, connection_id: UUID) -> AbstractContextManager[None]:
    """Every line inside carries these; the order's own id, of which there are several, is each line's to tell."""
    return bound_contextvars(**_names(signal_id, execution_id, connection_id))


def _names(signal_id: UUID | None, execution_id: UUID, connection_id: UUID) -> Names:
    return {
        "signal_id": str(signal_id),
        "execution_id": str(execution_id),
        "connection_id": str(connection_id),
    }
