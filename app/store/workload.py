"""The workload: how much waits, and since when."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain.orders import OrderStatus
from app.store.channels import Delivery, DeliveryStatus
from app.store.connections import Connection
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
    unprotected_since: datetime | None
    """Since when the stop that has been watched by nobody for longest has been so."""


def _count(*conditions: Any) -> ScalarSelect[int]:
    return select(func.count()).where(*conditions).scalar_subquery()


async def present(session: AsyncSession) -> Workload:
    """The workload as it is."""
    pending, sending = Execution.status == ExecutionStatus.PENDING, Order.status == OrderStatus.SENDING
    exposed = (
        Position.status.in_(OPEN),
        Position.unprotected_since.is_not(None),
        # Nobody looks after what a deleted connection holds: it is not ours to protect.
        Position.connection_id.in_(select(Connection.id).where(Connection.deleted_at.is_(None))),
    )
    row = (
        await session.execute(
            select(
                _count(pending).label("pending_executions"),
                _count(sending).label("sending_orders"),
                _count(Order.status == OrderStatus.NEEDS_REVIEW).label("orders_in_review"),
                _count(Position.status.in_(OPEN)).label("open_positions"),
                _count(Position.protect_due_at.is_not(None)).label("positions_to_protect"),
                _count(*exposed).label("unprotected_positions"),
                _count(Delivery.status == DeliveryStatus.PENDING).label("pending_deliveries"),
                select(func.min(Execution.received_at))
                .where(pending)
                .scalar_subquery()
                .label("pending_since"),
                select(func.min(Order.signed_at)).where(sending).scalar_subquery().label("sending_since"),
                select(func.min(Position.unprotected_since))
                .where(*exposed)
                .scalar_subquery()
                .label("unprotected_since"),
            )
        )
    ).one()
    return Workload(**row._asdict())
