"""Lapsing: entries that rest are taken back, with the reason, when they are not meant any more.

Their time is over, their connection takes no entries, their owner's plan has ended or does not cover the signal any
more, somebody wants them back or everything closed, or the price has been at their stop or their first target before
it was at their own: what they would open then is not what the signal meant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Self
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.port import Broker
from app.desk import Desk
from app.domain.errors import Denied
from app.domain.market import Quote
from app.domain.money import parse
from app.domain.orders import OrderStatus, Purpose
from app.domain.risk import Mode, check_not_passed
from app.engine import endings, naming, placing, protection, situations, trades
from app.engine.situations import Standing
from app.store import entitlements
from app.store.connections import Connection
from app.store.executions import Execution
from app.store.orders import Order
from app.store.positions import Position
from app.store.signals import SignalRow, levels_of

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
class Meaning:
    """Whom an entry that rests is for, and where it is to be left again."""

    plans: Sequence[str]
    stop_loss: Decimal | None
    first_target: Decimal | None


async def take_back(desk: Desk, broker: Broker, order: Order, why: Ending) -> bool:
    """Take an entry back that rests at the venue, and protect what was filled of it; True when it has ended."""
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current = trade.order(order.id)
        if current.status is OrderStatus.OPEN:
            endings.intend_end(trade, current, why.code, why.message, desk.now())
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
    async with desk.sessions() as session:
        standing = Standing(trading, await entitlements.of_user(session, connection.owner_id))
        meant = await _meant(session, [order.execution_id for order in entries])
    for order in entries:
        meaning = meant[order.execution_id]
        quote = quotes.get((broker.market_key, order.symbol))
        if quote is not None and not quote.is_usable(now, desk.quote_max_age):
            quote = None
        why = (
            lapsed(order, now)
            or _barred(desk, connection, standing, meaning.plans, now)
            or _overtaken(order, meaning, quote)
            or _unwanted(order)
        )
        if why is not None:
            await take_back(desk, broker, order, why)


def lapsed(order: Order, now: datetime) -> Ending | None:
    """The end of an entry whose time is over."""
    if order.expires_at is None or order.expires_at > now:
        return None
    return Ending(trades.LAPSED, f"It was good until {order.expires_at:%Y-%m-%d %H:%M:%S} UTC.")


def _unwanted(order: Order) -> Ending | None:
    """Whether somebody wants it back, or everything closed, and its venue has not confirmed it."""
    if order.code is not None and order.message is not None:
        return Ending(order.code, order.message)
    return None if order.reason is None else Ending(None, trades.TAKEN_BACK)


def _barred(
    desk: Desk, connection: Connection, standing: Standing, plans: Sequence[str], now: datetime
) -> Ending | None:
    """Why the connection, its owner, or the whole engine takes no entries that are for these plans."""
    try:
        situations.check_standing(desk, connection, standing, plans, now)
    except Denied as denial:
        return Ending.of(denial)
    return None


def _overtaken(order: Order, meaning: Meaning, quote: Quote | None) -> Ending | None:
    """Whether the price has reached the stop or the first target while the entry still rests."""
    if quote is None:
        return None
    try:
        check_not_passed(order.side, meaning.stop_loss, meaning.first_target, quote)
    except Denied as denial:
        return Ending(denial.code, f"{denial.message} It was not filled before.")
    return None


async def _meant(session: AsyncSession, execution_ids: Sequence[UUID]) -> Mapping[UUID, Meaning]:
    """By execution, with the exits of what has been opened already, else as the entry was claimed."""
    rows = await session.execute(
        select(Execution.id, Execution.plan, SignalRow.plans, Position)
        .join(SignalRow, SignalRow.id == Execution.signal_id)
        .outerjoin(Position, Position.execution_id == Execution.id)
        .where(Execution.id.in_(execution_ids))
    )
    meant: dict[UUID, Meaning] = {}
    for execution_id, plan, plans, position in rows:
        if position is None:
            claimed = plan or {}
            stop, levels = claimed.get("stop_loss"), levels_of(claimed.get("levels") or [])
            stop = None if stop is None else parse(stop)
        else:
            stop, levels = position.stop_loss, levels_of(position.levels)
        meant[execution_id] = Meaning(plans, stop, levels[0].price if levels else None)
    return meant
