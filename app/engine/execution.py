"""Execution: a pending execution becomes an order at the venue, or a denial; exactly once.

Look (venue reads, no transaction) → claim (one short transaction: decide, store the intent) → place → record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.port import Account, Broker, VenueError
from app.desk import Desk
from app.domain import risk
from app.domain.entries import Entry, Situation, check_course, decide
from app.domain.errors import Denied
from app.domain.market import Instrument, MarketType, Quote
from app.domain.money import ZERO, exact, text
from app.domain.orders import OrderStatus, Purpose, Side
from app.domain.owners import Role
from app.domain.risk import Exposure, Limits
from app.domain.signals import Course
from app.domain.sizing import Funds, Sizing
from app.domain.symbols import resolve
from app.engine import placing, protection, trades
from app.engine.connections import access_of
from app.engine.courses import course_of
from app.engine.notifying import notify
from app.engine.trades import Trade
from app.store import connections, entitlements, events, orders
from app.store.connections import Connection, ConnectionStatus
from app.store.executions import Execution, ExecutionStatus
from app.store.notifications import NotificationType
from app.store.orders import Order
from app.store.positions import OPEN, Position
from app.store.schema import new_id
from app.store.signals import SignalRow

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """A pending execution with what it is about."""

    execution: Execution
    signal: SignalRow
    connection: Connection
    course: Course


@dataclass(frozen=True, slots=True)
class View:
    """What the venue said about an entry, before the claim."""

    broker: Broker
    instrument: Instrument
    quote: Quote | None
    account: Account


async def execute(desk: Desk, execution_id: UUID) -> None:
    """Carry a pending execution as far as the venue. Calling it twice, anywhere, at any time, places one order."""
    work = await _load(desk, execution_id)
    if work is None:
        return
    try:
        check_course(work.course)
        risk.check_age(
            work.course.signal, work.signal.published_at, Limits.read(work.connection.limits), desk.now()
        )
        view = await look(desk, work.connection, work.course)
        order = await _claim(desk, work, view)
    except Denied as denial:
        await _deny(desk, execution_id, denial)
        return
    except VenueError as failure:
        await _put_off(desk, execution_id, failure)
        return
    if order is not None:
        await placing.send(desk, view.broker, order)
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


async def look(desk: Desk, connection: Connection, course: Course) -> View:
    """Ask the venue what an entry is decided from. Raises Denied for the symbol, and VenueError."""
    broker = await desk.brokers.open(access_of(connection))
    instrument = resolve(
        course.signal.symbol, await broker.instruments(), connection.market_type, connection.symbol_map
    )
    quotes = await broker.quotes([instrument.symbol])
    return View(broker, instrument, quotes.get(instrument.symbol), await broker.account())


async def _claim(desk: Desk, work: Work, view: View) -> Order | None:
    """Decide under the connection's lock and store the intent; None when somebody else has it already."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        await events.listen(session, work.signal.provider, work.signal.source_id)
        connection = await connections.locked(session, work.execution.connection_id)
        trade = await trades.locked(session, work.execution.id)
        if connection is None or trade.execution.status is not ExecutionStatus.PENDING:
            return None
        course = await course_of(session, work.signal)
        await check_standing(session, desk, connection, work.signal.plans, now)
        if connection.sizing is None:
            raise Denied("connection_inactive", "The connection has no sizing.")
        situation = await situate(session, desk, connection, work.signal, view, trade.execution.id, now)
        entry = decide(course, Sizing.read(connection.sizing), Limits.read(connection.limits), situation)
        order = _intend(trade, entry, situation.funds, course, view.broker, now)
        connection.last_used_at = now
        trades.refresh(trade, now)
    log.info(
        "order_claimed",
        execution_id=str(order.execution_id),
        order_id=str(order.id),
        attempt=order.attempt,
        symbol=order.symbol,
        quantity=text(order.quantity),
    )
    return order


def _intend(trade: Trade, entry: Entry, funds: Funds, course: Course, broker: Broker, now: datetime) -> Order:
    """The entry order with its next attempt, and the exit plan on the execution, ready to be committed."""
    execution = trade.execution
    execution.symbol = entry.instrument.symbol
    execution.requested_quantity = entry.quantity
    execution.plan = trades.plan_of(entry, course.signal.take_profits, native=broker.traits.native_protection)
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
    order.reserved = _reserve(entry.notional, funds)
    placing.claim(order, broker, now)
    return order


@exact
def _reserve(notional: Decimal, funds: Funds) -> Decimal:
    """Margin, fee and slippage allowance of an entry, in its currency."""
    return notional * (1 / funds.leverage + funds.fee_rate + funds.slippage)


async def check_standing(
    session: AsyncSession, desk: Desk, connection: Connection, plans: Sequence[str], now: datetime
) -> None:
    """Connection and owner may still open positions: what was true when the signal came may have changed."""
    if connection.deleted_at is not None or connection.status is not ConnectionStatus.ACTIVE:
        raise Denied("connection_inactive", "The connection is no longer active.")
    risk.check_mode(connection.mode)
    if connection.owner_role is Role.ADMIN or not desk.entitlements_required:
        return
    entitlement = await entitlements.held(session, connection.owner_id)
    if entitlement is None or not entitlement.covers(plans, now):
        raise Denied("plan_required", "The owner's plan no longer covers this signal.")


async def situate(
    session: AsyncSession,
    desk: Desk,
    connection: Connection,
    signal: SignalRow,
    view: View,
    execution_id: UUID | None,
    now: datetime,
) -> Situation:
    """What an entry is decided from: the venue's view, our own books under the connection's lock, the clock."""
    instrument, currency = view.instrument, view.instrument.currency
    traits = view.broker.traits
    balance = view.account.balances.get(currency)
    reserved = await orders.reserved(session, connection.id, currency, view.account.as_of)
    equity = view.account.equity.get(currency, ZERO)
    if instrument.market_type is MarketType.SPOT:
        equity += await _held_value(session, connection.id, currency)
    leverage = connection.leverage if instrument.market_type is MarketType.SWAP else None
    return Situation(
        now=now,
        published_at=signal.published_at,
        instrument=instrument,
        quote=view.quote,
        quote_max_age=desk.quote_max_age,
        funds=Funds(
            free=(balance.free if balance else ZERO) - reserved,
            equity=equity,
            fee_rate=traits.fee_rate,
            slippage=traits.slippage,
            leverage=leverage or Decimal(1),
        ),
        exposure=await _exposure(session, connection.id, instrument.symbol, execution_id, now),
        netting=traits.netting,
    )


async def _held_value(session: AsyncSession, connection_id: UUID, currency: str) -> Decimal:
    """Our open spot positions at their last mark."""
    value = await session.scalar(
        select(
            func.sum(
                Position.remaining_quantity * func.coalesce(Position.current_price, Position.entry_price)
            )
        ).where(
            Position.connection_id == connection_id, Position.currency == currency, Position.status.in_(OPEN)
        )
    )
    return value or ZERO


def _counts() -> ColumnElement[bool]:
    """Entries that have been claimed and may still open something, and positions that are open."""
    under_way = Execution.status.in_(
        (ExecutionStatus.SENDING, ExecutionStatus.OPEN, ExecutionStatus.NEEDS_REVIEW)
    )
    waiting_again = and_(Execution.status == ExecutionStatus.PENDING, Execution.attempts > 0)
    return or_(under_way, waiting_again, Position.status.in_(OPEN))


async def _exposure(
    session: AsyncSession, connection_id: UUID, symbol: str, execution_id: UUID | None, now: datetime
) -> Exposure:
    rows = (
        await session.execute(
            select(Execution.symbol, Execution.direction)
            .outerjoin(Position, Position.execution_id == Execution.id)
            .where(Execution.connection_id == connection_id, Execution.id != execution_id, _counts())
        )
    ).all()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = await session.scalar(
        select(func.count())
        .select_from(Execution)
        .where(
            Execution.connection_id == connection_id,
            Execution.id != execution_id,
            Execution.sent_at >= midnight,
        )
    )
    sides = [Side(direction) for held, direction in rows if held == symbol]
    return Exposure(len(rows), len(sides), frozenset(sides), today or 0)


async def _deny(desk: Desk, execution_id: UUID, denial: Denied) -> None:
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        if trade.execution.status is ExecutionStatus.PENDING:
            deny(trade, denial, desk.now())


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
    log.info("execution_denied", execution_id=str(execution.id), code=denial.code)
    notify(
        trade.session,
        execution.owner,
        NotificationType.EXECUTION,
        f"{execution.symbol}: signal not executed ({denial.code})",
        denial.message,
        now=now,
        data={"execution_id": str(execution.id), "status": ExecutionStatus.DENIED, "code": denial.code},
        connection_id=execution.connection_id,
        signal_id=execution.signal_id,
    )


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
        execution.message = f"The venue could not be asked: {failure.message}"
        execution.updated_at = now
        log.warning("execution_put_off", execution_id=str(execution_id), reason=failure.message)


async def cancel_entries(desk: Desk, connection_id: UUID) -> None:
    """Take back the entries of a connection that rest at its venue.

    What is still on its way, or cannot be confirmed, the monitor takes back when it sees it resting.
    """
    async with desk.sessions() as session:
        connection = await session.get_one(Connection, connection_id)
        resting = await orders.resting_entries(session, [connection_id])
    if not resting:
        return
    broker = await desk.brokers.open(access_of(connection))
    for order in resting:
        await placing.cancel(desk, broker, order)
        await protection.after(desk, order.execution_id)
