"""Surveying: an account is asked what rests there, and in larger steps what is held; what has changed is taken over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog

from app.brokers.port import ABSENT, Broker, Silence, Traits, VenueError
from app.desk import Desk
from app.domain.money import ZERO
from app.domain.orders import FINAL, OrderReport, OrderStatus, Purpose
from app.domain.risk import Mode
from app.engine import adopting, endings, guarding, naming, placing, protection, reconciling, strikes, trades
from app.engine.access import in_time
from app.engine.trades import Trade
from app.store.connections import Connection
from app.store.orders import Order
from app.store.positions import Position

log = structlog.get_logger(__name__)

MISSES = 2
"""How many clean looks, a read-lag apart, must miss a resting order before it counts as gone."""


@dataclass(slots=True)
class Watched:
    """One connection of a round with what is open on it."""

    connection: Connection
    broker: Broker
    trading: Mode
    """How far the whole engine may trade."""
    positions: list[Position] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)

    @property
    def symbols(self) -> set[str]:
        """Every symbol a quote is needed for."""
        entering = {order.symbol for order in self.orders if order.purpose is Purpose.ENTRY}
        return entering | {position.symbol for position in self.positions}


@dataclass(slots=True)
class News:
    """What a survey of the resting orders of a connection has brought."""

    changed: set[UUID] = field(default_factory=set)
    """Executions of which something is new."""
    unclear: set[str] = field(default_factory=set)
    """Symbols with an order that the venue did not tell of."""
    lost_a_leg: bool = False
    """Whether a protective order is gone that we did not cancel."""


async def survey(desk: Desk, watched: Watched) -> None:
    """Ask the venue about what rests there, and in larger steps what is held; take over what has changed."""
    connection, broker = watched.connection, watched.broker
    seen = None
    if reconciling.is_due(connection, desk.now()):
        seen = await reconciling.look(desk, connection, broker, may_confirm=True)
    news = await _hear(desk, watched)
    if news is None:
        return
    if seen is None and news.lost_a_leg:
        # A native order is gone that we did not cancel: whoever closed the position by hand took it along.
        seen = await reconciling.look(desk, connection, broker, may_confirm=False)
    if seen is not None:
        await reconciling.reconcile(desk, connection, broker, seen, news.unclear)
    for execution_id in news.changed:
        await protection.after(desk, execution_id)


async def _hear(desk: Desk, watched: Watched) -> News | None:
    """Take over what the venue says of the orders that rest there; None when it does not answer."""
    news = News()
    if not watched.orders:
        return news
    try:
        answers = await in_time(watched.broker.survey([order.key for order in watched.orders]))
    except VenueError as failure:
        log.warning("survey_failed", connection_id=str(watched.connection.id), reason=failure.message)
        await strikes.of_read(desk, watched.connection.id, failure)
        return None
    for order in watched.orders:
        answer = answers.get(order.key.client_order_id)
        if isinstance(answer, OrderReport):
            if order.misses:
                await _find_again(desk, order)
            if await adopting.adopt(desk, order, answer):
                news.changed.add(order.execution_id)
            if _tells_news(order, answer) and await placing.record(desk, watched.broker, order, answer):
                news.changed.add(order.execution_id)
                news.lost_a_leg |= _is_lost(order, answer)
        elif answer is ABSENT and await _miss(desk, order, watched.broker.traits):
            news.changed.add(order.execution_id)
            news.lost_a_leg |= order.purpose is Purpose.PROTECTION
        else:
            news.unclear.add(order.symbol)
    shown = {order.id for order in watched.orders if _stands(answers, order)}
    await guarding.prove(desk, watched.orders, shown)
    return news


def _is_lost(order: Order, report: OrderReport) -> bool:
    """Whether a protective order has ended without having done its work."""
    has_ended = report.status in FINAL and report.status is not OrderStatus.FILLED
    return order.purpose is Purpose.PROTECTION and has_ended


def _stands(answers: Mapping[str, OrderReport | Silence], order: Order) -> bool:
    """Whether the venue has just shown that an order rests there, untouched: a fill may have ended its stop."""
    answer = answers.get(order.key.client_order_id)
    if not isinstance(answer, OrderReport) or answer.status is not OrderStatus.OPEN:
        return False
    return answer.filled_quantity == ZERO


def _tells_news(order: Order, report: OrderReport) -> bool:
    return (order.status, order.filled_quantity, order.exchange_order_id) != (
        report.status,
        report.filled_quantity,
        report.exchange_order_id,
    )


def _was_shown(trade: Trade, order: Order, since: datetime) -> bool:
    """Whether the venue has shown a stop since it took it."""
    seen_at = None if trade.position is None else trade.position.stop_seen_at
    is_stop = order.purpose is Purpose.PROTECTION and order.trigger_price is not None
    return is_stop and seen_at is not None and seen_at >= since


async def _find_again(desk: Desk, order: Order) -> None:
    """A resting order that was missed is there: the looks that missed it count no more."""
    async with desk.sessions.begin() as session:
        current = (await trades.locked(session, order.execution_id)).order(order.id)
        if current.status is OrderStatus.OPEN and current.attempt == order.attempt:
            current.misses, current.missed_at = 0, None


async def _miss(desk: Desk, order: Order, traits: Traits) -> bool:
    """Count a clean look that did not find a resting order; True when it is now known to be gone.

    A venue may need its time to show what it has acknowledged, unless it has shown it since, and looks closer together
    than its answers lag behind are one look, whoever took them.
    """
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current = trade.order(order.id)
        if current.status is not OrderStatus.OPEN or current.attempt != order.attempt:
            return False
        taken_at = current.acknowledged_at
        is_settled = taken_at is not None and (
            now >= taken_at + traits.settle or _was_shown(trade, current, taken_at)
        )
        is_another = current.missed_at is None or now >= current.missed_at + traits.read_lag
        if not is_settled or not is_another:
            return False
        current.misses += 1
        current.missed_at = now
        if current.misses < MISSES:
            return False
        log.warning("resting_order_gone", **naming.of_order(trade.execution, order))
        endings.vanish(trade, current, now)
        return True
