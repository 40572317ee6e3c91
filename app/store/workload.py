"""The workload: how much waits, and since when."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain.exits import Protection
from app.domain.orders import OrderStatus, Purpose
from app.store.channels import Delivery, DeliveryStatus
from app.store.connections import Connection
from app.store.events import Event
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import OPEN, Position


@dataclass(frozen=True, slots=True)
class Workload:
    """How much work there is."""

    pending_executions: int
    """Entries that wait for a worker."""
    sending_orders: int
    """Orders that may or may not have reached their venue."""
    orders_in_review: int
    """Orders whose venue cannot say what became of them."""
    open_positions: int
    """Positions that are open or closing."""
    positions_to_protect: int
    """Positions whose protective orders are not yet as planned."""
    unprotected_positions: int
    """Open positions with a stop that nobody watches at the moment."""
    pending_deliveries: int
    """Notifications that wait to go out on a channel."""
    pending_since: datetime | None
    """When the oldest pending execution came in."""
    sending_since: datetime | None
    """When the oldest order whose outcome is unknown was sent."""
    closing_since: datetime | None
    """When the oldest close that waits to be sent was asked for."""
    protecting_since: datetime | None
    """Since when a position has been without protective orders as planned, the one that has been for longest."""
    following_since: datetime | None
    """When the oldest event about a signal that is not carried out yet came in."""
    unprotected_since: datetime | None
    """Since when the stop that has been watched by nobody for longest has been so."""
    unmarked_since: datetime | None
    """When the price was seen that is oldest among the last ones of positions that our monitor protects."""


def _least(moment: Any, *conditions: Any) -> ScalarSelect[datetime | None]:
    return select(func.min(moment)).where(*conditions).scalar_subquery()


def _count(*conditions: Any) -> ScalarSelect[int]:
    return select(func.count()).where(*conditions).scalar_subquery()


async def present(session: AsyncSession) -> Workload:
    """The workload as it is."""
    pending, sending = Execution.status == ExecutionStatus.PENDING, Order.status == OrderStatus.SENDING
    # Nobody looks after what a deleted connection holds: it is not ours to protect.
    connected = select(Connection.id).where(Connection.deleted_at.is_(None))
    held = Position.status.in_(OPEN), Position.connection_id.in_(connected)
    exposed = *held, Position.unprotected_since.is_not(None)
    closing = (
        Order.purpose == Purpose.CLOSE,
        Order.status == OrderStatus.PENDING,
        Order.connection_id.in_(connected),
    )
    to_protect = Position.protect_due_at.is_not(None)
    # What is due is moved ahead by whoever takes it up; the time without a stop is not.
    lacking = func.coalesce(Position.unprotected_since, Position.protect_due_at)
    marked = func.coalesce(Position.marked_at, Position.opened_at)
    row = (
        await session.execute(
            select(
                _count(pending).label("pending_executions"),
                _count(sending).label("sending_orders"),
                _count(Order.status == OrderStatus.NEEDS_REVIEW).label("orders_in_review"),
                _count(Position.status.in_(OPEN)).label("open_positions"),
                _count(to_protect).label("positions_to_protect"),
                _count(*exposed).label("unprotected_positions"),
                _count(Delivery.status == DeliveryStatus.PENDING).label("pending_deliveries"),
                _least(Execution.received_at, pending).label("pending_since"),
                _least(Order.signed_at, sending).label("sending_since"),
                _least(Order.created_at, *closing).label("closing_since"),
                _least(lacking, to_protect).label("protecting_since"),
                _least(Event.received_at, Event.due_at.is_not(None)).label("following_since"),
                _least(Position.unprotected_since, *exposed).label("unprotected_since"),
                _least(marked, *held, Position.protection == Protection.SOFTWARE).label("unmarked_since"),
            )
        )
    ).one()
    return Workload(**row._asdict())
