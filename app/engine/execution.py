"""Execution: a pending execution becomes an order at the venue, or a denial; exactly once.

Look (venue reads, no transaction) → claim (one short transaction: decide, store the intent) → place → record.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select

from app.brokers.port import CREDENTIALS_REFUSED, Broker, VenueError
from app.desk import Desk
from app.domain import stops
from app.domain.entries import Entry, check_course
from app.domain.errors import Denied
from app.domain.exits import NativeStyle, final_target
from app.domain.money import ZERO, exact, stored, text
from app.domain.orders import OrderStatus, Purpose
from app.domain.signals import Course
from app.domain.sizing import Funds
from app.engine import (
    funding,
    naming,
    openings,
    placing,
    projecting,
    protection,
    situations,
    strikes,
    telling,
    trades,
    updating,
)
from app.engine.courses import closes_of, course_of, updates_of
from app.engine.situations import Idea, Planned, View
from app.engine.trades import Trade
from app.store import connections, events, trading
from app.store.connections import Connection
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.schema import new_id
from app.store.signals import SignalRow

log = structlog.get_logger(__name__)


_OF_AGE = frozenset({"signal_too_old", "signal_expired"})


@dataclass(frozen=True, slots=True)
class Work:
    """A pending execution with what it is about."""

    execution: Execution
    signal: SignalRow
    connection: Connection
    course: Course

    def idea(self, course: Course) -> Idea:
        """What is to be entered, as the signal stands by now."""
        return Idea(course, self.signal.plans, self.signal.published_at)


async def execute(desk: Desk, execution_id: UUID) -> None:
    """Carry a pending execution as far as the venue. Calling it twice, anywhere, at any time, places one order."""
    work = await _load(desk, execution_id)
    if work is None:
        return
    with naming.bound(work.signal.id, execution_id, work.connection.id):
        await _execute(desk, work)


async def _execute(desk: Desk, work: Work) -> None:
    execution_id = work.execution.id
    try:
        view = await situations.look(desk, work.connection, work.idea(work.course))
        order = await _claim(desk, work, view)
    except Denied as denial:
        await _deny(desk, execution_id, denial)
        return
    except VenueError as failure:
        await _put_off(desk, execution_id, failure)
        await strikes.of_read(desk, work.connection.id, failure)
        return
    if order is not None:
        if await placing.send(desk, view.broker, order):
            await strikes.acknowledged(desk, work.connection)
        await protection.after(desk, order.execution_id)


async def _load(desk: Desk, execution_id: UUID) -> Work | None:
    async with desk.sessions() as session:
        row = (
            await session.execute(
                select(Execution, SignalRow, Connection)
                .join(SignalRow, SignalRow.id == Execution.signal_id)
                .join(Connection, Connection.id == Execution.connection_id)
                .where(Execution.id == execution_id, Execution.status == ExecutionStatus.PENDING)
            )
        ).one_or_none()
        if row is None:
            return None
        execution, signal, connection = row
        return Work(execution, signal, connection, await course_of(session, signal))


async def _claim(desk: Desk, work: Work, view: View) -> Order | None:
    """Decide under the connection's lock and store the intent; None when somebody else has it already."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        await events.listen(session, work.signal.provider, work.signal.source_id)
        await trading.listen(session)
        connection = await connections.locked(session, work.execution.connection_id)
        trade = await trades.locked(session, work.execution.id)
        if connection is None or trade.execution.status is not ExecutionStatus.PENDING:
            return None
        course = await course_of(session, work.signal)
        standing = await situations.held_standing(session, connection)
        planned = await situations.plan(
            session,
            desk,
            connection,
            standing,
            work.idea(course),
            view,
            execution_id=trade.execution.id,
            now=now,
        )
        order = _intend(trade, connection, planned, course, view.broker, now)
        updates = await updates_of(session, work.signal.provider, work.signal.source_id)
        closes = await closes_of(session, work.signal.provider, work.signal.source_id)
        updating.note_wording(trade.execution, work.signal.meaning(), updates, closes, now)
        connection.last_used_at = now
        funding.expect(connection, view.broker, now)
        projecting.refresh(trade, now)
    log.info(
        "order_claimed",
        **naming.of_order(work.execution, order),
        attempt=order.attempt,
        symbol=order.symbol,
        quantity=text(order.quantity),
    )
    return order


def _intend(
    trade: Trade, connection: Connection, planned: Planned, course: Course, broker: Broker, now: datetime
) -> Order:
    """The entry order with its next attempt, and the exit plan on the execution, ready to be committed."""
    execution, entry = trade.execution, planned.entry
    execution.symbol = entry.instrument.symbol
    execution.requested_quantity = entry.quantity
    execution.plan = openings.plan_of(
        entry,
        connection.protection,
        _management(connection, entry),
        broker.traits,
        multiplier=planned.multiplier,
    )
    order = trade.entry
    if order is None:
        order = Order(
            id=new_id(),
            connection_id=execution.connection_id,
            execution_id=execution.id,
            purpose=Purpose.ENTRY,
            side=execution.direction,
            attempt=0,
            filled_quantity=ZERO,
            fees={},
            reduce_only=False,
            created_at=now,
        )
        trade.session.add(order)
        trade.orders.append(order)
    order.symbol = entry.instrument.symbol
    order.base = entry.instrument.base
    order.currency = entry.instrument.currency
    order.type = entry.type
    order.quantity = entry.quantity
    order.price = entry.price
    order.expires_at = course.signal.entry_ends_at(execution.received_at)
    order.code, order.message = None, entry.note
    order.reserved = _reserve(entry.notional, planned.funds)
    if broker.traits.native_style is NativeStyle.ATTACHED and broker.traits.native_protection:
        order.stop_loss = entry.stop_loss
        order.take_profit = final_target(entry.rungs, entry.quantity)
    placing.claim(order, broker, now)
    return order


def _management(connection: Connection, entry: Entry) -> dict[str, Any]:
    """How the position is managed while it is open; empty when it is left alone."""
    terms = {term: connection.protection[term] for term in stops.KEPT if connection.protection.get(term)}
    return {**terms, "fee_rate": text(stored(entry.fee_rate))} if terms else {}


@exact
def _reserve(notional: Decimal, funds: Funds) -> Decimal:
    """Margin, fee and slippage allowance of an entry, in its currency."""
    return notional * (1 / funds.leverage + funds.fee_rate + funds.slippage)


async def _deny(desk: Desk, execution_id: UUID, denial: Denied) -> None:
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        if trade.execution.status is ExecutionStatus.PENDING:
            deny(trade, _explained(denial, trade.execution), desk.now())


def _explained(denial: Denied, execution: Execution) -> Denied:
    """The denial, with what kept a signal waiting until it was too old."""
    if denial.code not in _OF_AGE or execution.message is None:
        return denial
    return Denied(denial.code, f"{denial.message} Until then: {execution.message}")


def deny(trade: Trade, denial: Denied, now: datetime) -> None:
    """Say no to a pending execution and tell its owner; an order proven never to have arrived ends with it."""
    execution = trade.execution
    if trade.entry is not None:
        trade.entry.status = OrderStatus.CANCELLED
        trade.entry.due_at = None
        trade.entry.updated_at = now
    execution.status = ExecutionStatus.DENIED
    execution.code, execution.message = denial.code, denial.message
    execution.due_at = None
    execution.updated_at = now
    log.info("execution_denied", **naming.of_execution(execution), code=denial.code)
    telling.execution_denied(trade.session, execution, denial, now)


async def deny_if_over(trade: Trade, now: datetime) -> None:
    """Deny a pending execution whose signal was cancelled or closed."""
    signal = await trade.session.get_one(SignalRow, trade.execution.signal_id)
    try:
        check_course(await course_of(trade.session, signal))
    except Denied as denial:
        deny(trade, denial, now)


async def _put_off(desk: Desk, execution_id: UUID, failure: VenueError) -> None:
    """The venue could not be asked: try again with back-off. The signal's age ends it, at the next look."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        execution = trade.execution
        if execution.status is not ExecutionStatus.PENDING:
            return
        execution.due_at = now + placing.backoff(execution.tries)
        execution.tries += 1
        is_key = failure.code == CREDENTIALS_REFUSED
        why = "The venue does not accept the credentials" if is_key else "The venue could not be asked"
        execution.message = f"{why}: {failure.message}"
        execution.updated_at = now
        log.warning("execution_put_off", **naming.of_execution(execution), reason=failure.message)
