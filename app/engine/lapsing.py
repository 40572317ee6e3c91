"""Lapsing: entries that rest are taken back, with the reason, when they are not meant any more.

Their time is over, their connection takes no entries, or the price has been at their stop or their first target
before it was at their own: what they would open then is not what the signal meant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Self
from uuid import UUID

import structlog
from sqlalchemy import select

from app.brokers.port import Broker
from app.desk import Desk
from app.domain.errors import Denied
from app.domain.market import Quote
from app.domain.money import parse
from app.domain.orders import OrderStatus, Purpose
from app.domain.risk import Mode, check_mode, check_not_passed
from app.engine import naming, placing, protection, trades
from app.store.connections import Connection, ConnectionStatus
from app.store.executions import Execution
from app.store.orders import Order
from app.store.positions import Position
from app.store.signals import levels_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why an entry is taken back: a code of the catalogue, where there is one, and a sentence."""

    code: str | None
    message: str

    @classmethod
    def of(cls, denial: Denied) -> Self:
        """For the reason that would deny it now."""
        return cls(denial.code, denial.message)


@dataclass(frozen=True, slots=True)
class Exits:
    """Where an entry that rests is to be left again."""

    stop_loss: Decimal | None
    first_target: Decimal | None


async def take_back(desk: Desk, broker: Broker, order: Order, why: Ending) -> bool:
    """Take an entry back that rests at the venue, and protect what was filled of it; True when it has ended."""
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current = trade.order(order.id)
        if current.status is OrderStatus.OPEN:
            trades.intend_end(trade, current, why.code, why.message, desk.now())
        execution = trade.execution
    with naming.bound(execution.signal_id, execution.id, execution.connection_id):
        log.info("entry_taken_back", order_id=str(order.id), code=why.code, reason=why.message)
        has_ended = await placing.cancel(desk, broker, order)
        await protection.after(desk, order.execution_id)
    return has_ended


async def review(
    desk: Desk,
    broker: Broker,
    connection: Connection,
    trading: Mode,
    orders: Sequence[Order],
    quotes: Mapping[tuple[str, str], Quote],
) -> None:
    """Take back those of a connection's resting entries that are not meant any more."""
    entries = [order for order in orders if order.purpose is Purpose.ENTRY and order.is_live]
    if not entries:
        return
    now = desk.now()
    barred = _barred(connection, trading, now)
    exits = await _exits(desk, [order.execution_id for order in entries])
    for order in entries:
        quote = quotes.get((broker.market_key, order.symbol))
        if quote is not None and not quote.is_usable(now, desk.quote_max_age):
            quote = None
        why = lapsed(order, now) or barred or _overtaken(order, exits.get(order.execution_id), quote)
        if why is not None:
            await take_back(desk, broker, order, why)


def lapsed(order: Order, now: datetime) -> Ending | None:
    """The end of an entry whose time is over."""
    if order.expires_at is None or order.expires_at > now:
        return None
    return Ending(trades.LAPSED, f"It was good until {order.expires_at:%Y-%m-%d %H:%M:%S} UTC.")


def _barred(connection: Connection, trading: Mode, now: datetime) -> Ending | None:
    """Why the connection, or the whole engine, takes no entries."""
    if connection.status is not ConnectionStatus.ACTIVE:
        return Ending("connection_inactive", "The connection is not active.")
    try:
        check_mode(trading, whole_engine=True)
        check_mode(connection.mode)
    except Denied as denial:
        return Ending.of(denial)
    if connection.reduces_by_itself(now):
        return Ending("max_daily_loss", f"It only reduces until {connection.reducing_until:%Y-%m-%dT%H:%MZ}.")
    return None


def _overtaken(order: Order, exits: Exits | None, quote: Quote | None) -> Ending | None:
    """Whether the price has reached the stop or the first target while the entry still rests."""
    if exits is None or quote is None:
        return None
    try:
        check_not_passed(order.side, exits.stop_loss, exits.first_target, quote)
    except Denied as denial:
        return Ending(denial.code, f"{denial.message} It was not filled before.")
    return None


async def _exits(desk: Desk, execution_ids: Sequence[UUID]) -> Mapping[UUID, Exits]:
    """Stop and first target by execution: of what has been opened already, else as the entry was claimed."""
    async with desk.sessions() as session:
        rows = await session.execute(
            select(Execution.id, Execution.plan, Position)
            .outerjoin(Position, Position.execution_id == Execution.id)
            .where(Execution.id.in_(execution_ids))
        )
        known = [(id_, plan or {}, position) for id_, plan, position in rows]
    exits: dict[UUID, Exits] = {}
    for execution_id, plan, position in known:
        if position is None:
            stop, levels = plan.get("stop_loss"), levels_of(plan.get("levels") or [])
            stop = None if stop is None else parse(stop)
        else:
            stop, levels = position.stop_loss, levels_of(position.levels)
        exits[execution_id] = Exits(stop, levels[0].price if levels else None)
    return exits
