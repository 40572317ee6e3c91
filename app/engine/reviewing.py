"""Reviewing: a human's word on an order whose venue cannot say what became of it.

`absent` ends an entry for good; an exit is intended again, since leaving is not optional. `placed` names the
venue's own id where our client id found nothing: the venue is asked once more, and its report is what counts.
Of a connection that was deleted nobody can ask, and nothing is sent there: `absent` is all there is to say.
"""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import structlog

from app.brokers.port import ABSENT, Silence
from app.desk import Desk
from app.domain.errors import Conflict, NotFound
from app.domain.orders import OrderStatus, Purpose
from app.domain.owners import Owner
from app.engine import endings, naming, placing, protection, trades, valuing
from app.engine.access import broker_of
from app.engine.trades import Trade
from app.store import connections, executions
from app.store.audit import Action
from app.store.connections import Connection
from app.store.orders import Order

log = structlog.get_logger(__name__)


class Finding(StrEnum):
    """What the human found at the venue."""

    ABSENT = "absent"
    PLACED = "placed"


async def resolve(
    desk: Desk, owner: Owner, execution_id: UUID, finding: Finding, exchange_order_id: str | None
) -> None:
    """Take a human's word on the order of an execution that is in review.

    Raises NotFound, Conflict when nothing is in review or the venue knows no such order, and VenueError.
    """
    if finding is Finding.ABSENT:
        await _take_as_absent(desk, owner, execution_id)
    else:
        await _look_for(desk, owner, execution_id, exchange_order_id)


async def _take_as_absent(desk: Desk, owner: Owner, execution_id: UUID) -> None:
    await _connection(desk, owner, execution_id)
    now = desk.now()
    message = "It was looked for at the venue by hand and is not there."
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        order = _in_review(trade)
        if order.purpose is Purpose.CLOSE:
            endings.put_back(trade, order, message, now, now)
        else:
            endings.refuse(trade, order, trades.NEVER_ARRIVED, message, now)
        connection = await session.get_one(Connection, order.connection_id)
        if connection.deleted_at is not None:
            endings.let_go(trade, now)
        _write_down(trade, owner, order, Finding.ABSENT, now)
        connection_id = order.connection_id
    async with desk.sessions.begin() as session:
        # Should it be there all the same, it is found.
        await connections.reconcile_at(session, connection_id, now)
    await protection.after(desk, execution_id)


async def _look_for(desk: Desk, owner: Owner, execution_id: UUID, exchange_order_id: str | None) -> None:
    connection = await _connection(desk, owner, execution_id)
    async with desk.sessions.begin() as session:
        order = _in_review(await trades.locked(session, execution_id))
    if connection.deleted_at is not None:
        raise Conflict(
            "conflict",
            "Its connection was deleted, so nobody can ask the venue; say absent to end the review.",
        )
    broker = await broker_of(desk, connection)
    report = await broker.find(
        replace(order.key, exchange_order_id=exchange_order_id or order.exchange_order_id)
    )
    if isinstance(report, Silence):
        why = "knows no such order" if report is ABSENT else "cannot say what became of it"
        raise Conflict("conflict", f"The venue {why}; check the exchange_order_id, or say absent.")
    rates = await valuing.rates_of(desk, broker, order, report)
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        await placing.take_over(trade, order, report, rates, now)
        _write_down(trade, owner, order, Finding.PLACED, now)
    await protection.after(desk, execution_id)


async def _connection(desk: Desk, owner: Owner, execution_id: UUID) -> Connection:
    """The connection of an execution of the owner's. Raises NotFound."""
    async with desk.sessions() as session:
        known = await executions.of_owner(session, owner, execution_id)
        if known is None:
            raise NotFound("execution")
        return await session.get_one(Connection, known.connection_id)


def _in_review(trade: Trade) -> Order:
    """The order that waits for a human, the entry before any other. Raises Conflict."""
    waiting = [order for order in trade.orders if order.status is OrderStatus.NEEDS_REVIEW]
    if not waiting:
        raise Conflict("conflict", "Nothing of this execution needs a review.")
    return min(waiting, key=lambda order: order.purpose is not Purpose.ENTRY)


def _write_down(trade: Trade, owner: Owner, order: Order, finding: Finding, now: datetime) -> None:
    log.info("order_resolved", **naming.of_order(trade.execution, order), finding=finding)
    trades.write_down(trade, Action.RESOLVE, owner, now, order_id=str(order.id), finding=finding)
