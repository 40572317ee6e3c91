"""Trades: an execution, its orders and its position as one.

The execution's row lock guards the whole: every write to one of its orders or to its position happens under it,
so there is one order of locking (connection, then execution) and no deadlock.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain.errors import Conflict, NotFound
from app.domain.money import floor_to_step
from app.domain.orders import OrderStatus, Purpose
from app.domain.owners import Owner
from app.store import audit, executions, orders, positions
from app.store.audit import Action
from app.store.connections import Connection
from app.store.executions import Execution
from app.store.orders import Order
from app.store.positions import Position

TOO_SMALL = frozenset({"quantity_below_minimum", "notional_below_minimum"})
"""Codes of refusals that a larger order would not meet."""

NOT_FREE = "insufficient_balance"
"""The code of an exit of coins that other orders of the owner hold."""

PAUSE = timedelta(seconds=15)
"""When a close is sent again that its venue can do nothing for at present: nobody to sell to, nothing free to sell."""

CUT_SHORT = (OrderStatus.CANCELLED, OrderStatus.EXPIRED)
"""How a market order ends that its venue did not fill whole."""

NEVER_ARRIVED = "never_arrived"
"""The code of an order that provably did not reach its venue."""

LAPSED = "signal_expired"
"""The code of an entry whose time was over."""

VANISHED = "vanished"
"""The code of an order that is no longer at its venue although nobody here took it back."""

TAKEN_BACK = "Taken back, because everything was to be closed."
"""Why an entry ends that nobody wants any more."""

LEFT_OPEN = "Its connection was deleted before the venue said what became of it; please look there."
"""Why nobody will find out any more about an order that is in doubt, or that rests."""

IN_DOUBT = (OrderStatus.SENDING, OrderStatus.NEEDS_REVIEW)
"""States in which an order may or may not be at its venue."""


@dataclass(slots=True)
class Trade:
    """One execution under lock, with everything that hangs on it."""

    session: AsyncSession
    execution: Execution
    orders: list[Order]
    position: Position | None

    @property
    def entry(self) -> Order | None:
        """The entry order, once it was claimed for the first time."""
        return next((order for order in self.orders if order.purpose is Purpose.ENTRY), None)

    @property
    def live_protection(self) -> list[Order]:
        """Protective orders that may still fill."""
        return [order for order in self.orders if order.purpose is Purpose.PROTECTION and order.is_live]

    @property
    def live_close(self) -> Order | None:
        """The close under way, which everything else waits for.

        One in review is not waited for, except where closes are told apart by what is left of a position that the
        venue names: another would be taken for it.
        """
        closes = (order for order in self.orders if order.purpose is Purpose.CLOSE and order.is_live)
        return next((order for order in closes if order not in self.doubted_closes), None)

    @property
    def doubted_closes(self) -> list[Order]:
        """Closes in review beside which another may be sent, oldest first."""
        return [
            order
            for order in self.orders
            if order.purpose is Purpose.CLOSE
            and order.status is OrderStatus.NEEDS_REVIEW
            and order.handle is None
        ]

    def order(self, order_id: UUID) -> Order:
        """One of its orders."""
        return next(order for order in self.orders if order.id == order_id)


async def locked(session: AsyncSession, execution_id: UUID) -> Trade:
    """The trade under its lock, as it stands now."""
    execution = await executions.locked(session, execution_id)
    if execution is None:
        raise LookupError(f"execution {execution_id} vanished; executions are never deleted")
    rows = await orders.of_execution(session, execution_id)
    position = await session.scalar(
        select(Position)
        .where(Position.execution_id == execution_id)
        .execution_options(populate_existing=True)
    )
    return Trade(session, execution, list(rows), position)


async def locked_for(session: AsyncSession, owner: Owner, position_id: UUID) -> tuple[Trade, Position]:
    """The trade of an owner's position under its lock, and that position.

    Raises NotFound, and Conflict when its connection was deleted and nobody manages it any more.
    """
    known = await positions.of_owner(session, owner, position_id)
    if known is None:
        raise NotFound("position")
    connection = await session.get_one(Connection, known.connection_id)
    if connection.deleted_at is not None:
        raise Conflict("conflict", "Its connection was deleted; the position is no longer managed here.")
    trade = await locked(session, known.execution_id)
    return trade, trade.position or known


def write_down(trade: Trade, action: Action, actor: Owner, now: datetime, **detail: Any) -> None:
    """Keep in the audit what somebody did to a trade by hand."""
    audit.record(
        trade.session,
        action,
        actor,
        None,
        now,
        connection_id=trade.execution.connection_id,
        execution_id=trade.execution.id,
        position_id=trade.position.id if trade.position else None,
        **detail,
    )


def is_unwanted(trade: Trade) -> bool:
    """Whether whatever is filled is to be closed: its position had ended before, or somebody wants nothing held."""
    position, entry = trade.position, trade.entry
    return (position is not None and position.close_reason is not None) or (
        entry is not None and entry.reason is not None
    )


def is_undecided(order: Order) -> bool:
    """Whether an order may have changed what the venue holds without our knowing."""
    return order.status in IN_DOUBT or (order.code == VANISHED and order.due_at is not None)


def is_refused_for_size(order: Order, position: Position) -> bool:
    """Whether the venue has called an exit too small that was for all that is left: it is dust on its word."""
    is_whole = order.quantity >= floor_to_step(position.remaining_quantity, position.quantity_step)
    return order.purpose is Purpose.CLOSE and order.code in TOO_SMALL and is_whole
