"""Situations: what an entry is decided from. The venue's view, our own books, the owner's standing, the clock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.port import Account, Broker, Holding, Unreachable
from app.desk import Desk
from app.domain import risk
from app.domain.denials import CATALOGUE
from app.domain.entries import Entry, Situation, check_course, decide
from app.domain.errors import Denied
from app.domain.market import Instrument, MarketType, Quote
from app.domain.money import ZERO, summed
from app.domain.orders import Side
from app.domain.owners import Role
from app.domain.risk import Exposure, Limits, Mode
from app.domain.signals import Course
from app.domain.sizing import Funds, Sizing
from app.domain.symbols import names_for, names_of, resolve
from app.engine.access import broker_of
from app.store import entitlements, orders, positions, trading
from app.store.connections import Connection, ConnectionStatus
from app.store.entitlements import Entitlement
from app.store.executions import Execution, ExecutionStatus
from app.store.positions import OPEN, Position


@dataclass(frozen=True, slots=True)
class Idea:
    """What is to be entered: a signal in its present wording, whom it is for, and since when it counts."""

    course: Course
    plans: Sequence[str]
    published_at: datetime


@dataclass(frozen=True, slots=True)
class View:
    """What the venue said about an entry, before the claim."""

    broker: Broker
    instrument: Instrument
    quote: Quote | None
    account: Account
    holdings: Sequence[Holding]
    """What the account holds, where symbols are netted; it is not asked elsewhere."""
    conflict: str | None
    """Why the account's settings are in its way, in words."""
    multiplier: Decimal
    """How many of the signal's coins one of the instrument's is."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides, beside the connection itself, whether its owner may open positions."""

    trading: Mode
    """How far the whole engine may trade."""
    entitlement: Entitlement | None


@dataclass(frozen=True, slots=True)
class Planned:
    """An entry that may be sent, and the funds it was sized by."""

    entry: Entry
    funds: Funds
    multiplier: Decimal


async def look(desk: Desk, connection: Connection, idea: Idea) -> View:
    """Check what takes no venue, then ask it what an entry is decided from. Raises Denied, and VenueError."""
    signal = idea.course.signal
    check_course(idea.course)
    risk.check_market(signal, connection.market_type)
    risk.check_age(signal, idea.published_at, Limits.read(connection.limits), desk.now())
    broker = await broker_of(desk, connection)
    listed = await broker.instruments(names_for(signal.symbol, connection.symbol_map))
    meant = resolve(signal.symbol, listed, connection.market_type, connection.symbol_map)
    symbol = meant.instrument.symbol
    quotes = await broker.quotes([symbol])
    # Out of its hours a venue shows no account that may trade: that is not why it does not.
    risk.check_session(quotes.get(symbol), symbol)
    account = await broker.account()
    if account.barred is not None:
        raise Denied(account.barred, CATALOGUE[account.barred].title)
    holdings = await broker.holdings() if broker.traits.netting else ()
    conflict = await broker.conflict(symbol)
    return View(broker, meant.instrument, quotes.get(symbol), account, holdings, conflict, meant.multiplier)


async def held_standing(session: AsyncSession, connection: Connection) -> Standing:
    """For a claim that listens to the kill switch: none of it changes before the session's transaction ends."""
    return Standing(await trading.state(session), await entitlements.held(session, connection.owner_id))


async def plan(
    session: AsyncSession,
    desk: Desk,
    connection: Connection,
    standing: Standing,
    idea: Idea,
    view: View,
    *,
    execution_id: UUID | None,
    now: datetime,
) -> Planned:
    """The entry that an idea means on a connection, not counting `execution_id` itself. Raises Denied.

    The claim of an execution and a preview both decide here: under the connection's lock, and without.
    """
    check_standing(desk, connection, standing, idea.plans, now)
    if connection.sizing is None:
        raise Denied("connection_inactive", "The connection has no sizing.")
    situation = await _situate(session, desk, connection, idea, view, execution_id, now)
    course = replace(idea.course, signal=idea.course.signal.scaled(view.multiplier))
    sizing = Sizing.read(connection.sizing).scaled(view.multiplier)
    entry = decide(course, sizing, Limits.read(connection.limits), situation)
    if view.conflict is not None:
        raise Denied("venue_settings_conflict", view.conflict)
    return Planned(entry, situation.funds, view.multiplier)


def check_standing(
    desk: Desk, connection: Connection, standing: Standing, plans: Sequence[str], now: datetime
) -> None:
    """Connection and owner may still open positions: what was true when the signal came may have changed.

    Raises Denied.
    """
    if connection.deleted_at is not None or connection.status is not ConnectionStatus.ACTIVE:
        raise Denied("connection_inactive", "The connection is not active.")
    risk.check_mode(standing.trading, whole_engine=True)
    risk.check_mode(connection.mode)
    if connection.reduces_by_itself(now):
        raise Denied("max_daily_loss", f"It only reduces until {connection.reducing_until:%Y-%m-%dT%H:%MZ}.")
    if connection.owner_role is Role.ADMIN or not desk.entitlements_required:
        return
    if standing.entitlement is None or not standing.entitlement.covers(plans, now):
        raise Denied("plan_required", "The owner's plan does not cover this signal.")


async def _situate(
    session: AsyncSession,
    desk: Desk,
    connection: Connection,
    idea: Idea,
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
    leverage = connection.leverage if instrument.market_type is MarketType.SWAP else view.account.leverage
    return Situation(
        now=now,
        published_at=idea.published_at,
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
        exposure=replace(
            await _exposure(session, connection.id, instrument.symbol, execution_id, now),
            foreign_quantity=await _foreign(session, connection.id, view),
        ),
        netting=traits.netting,
        aliases=names_of(instrument.symbol, connection.symbol_map),
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


async def _foreign(session: AsyncSession, connection_id: UUID, view: View) -> Decimal:
    """What the account holds in the symbol beyond positions of ours, whichever its side.

    Raises Unreachable when it may be what we have just closed: a venue's answer lags behind its own fills.
    """
    symbol = view.instrument.symbol
    held = [holding.quantity for holding in view.holdings if holding.symbol == symbol]
    if not held:
        return ZERO
    ours = await session.scalar(
        select(func.sum(Position.remaining_quantity)).where(
            Position.connection_id == connection_id, Position.symbol == symbol, Position.status.in_(OPEN)
        )
    )
    foreign = max(summed(held) - (ours or ZERO), ZERO)
    since = view.account.as_of - view.broker.traits.read_lag
    if foreign and await orders.filled_lately(session, connection_id, symbol, since):
        raise Unreachable("It does not show our last order in this symbol in what it holds yet.")
    return foreign


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
    lost = await positions.lost_today(session, connection_id, now)
    in_review = await orders.in_review(session, connection_id, symbol)
    return Exposure(len(rows), len(sides), frozenset(sides), today or 0, lost, in_review=in_review)
