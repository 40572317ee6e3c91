"""Resolution: what became of orders whose outcome is unknown. The venue is asked by our client order id.

Found: its report is taken over. Absent counts only from clean look-ups later than the venue's settle time, and
more than one of them; then an entry or close is intended again, a protective order is planned again. A venue
that cannot say for long, or shows two, ends in `needs_review`: a human is told, and the engine goes on asking.
"""

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import and_, or_, select

from app.brokers.port import ABSENT, AMBIGUOUS, CANNOT_SAY, Broker, Silence, Traits, VenueError
from app.desk import Desk
from app.domain.orders import FINAL, OrderReport, OrderStatus, Purpose
from app.engine import endings, naming, placing, projecting, protection, telling, trades
from app.engine.access import broker_of
from app.engine.trades import Trade
from app.store import connections
from app.store.connections import Connection
from app.store.executions import Execution
from app.store.orders import Order

log = structlog.get_logger(__name__)

_BETWEEN_LOOKS = timedelta(seconds=2)
_REVIEW_AFTER = timedelta(minutes=5)
_EXIT_REVIEW_AFTER = timedelta(seconds=30)
"""Sooner than an entry: until then nobody watches a stop that the exit has taken away."""
_REVIEW_EVERY = timedelta(minutes=1)

_UNTOLD = "The venue cannot say whether this order was placed; please look there."
_TWICE = "The venue shows more than one that may be this order; please look there."


async def resolve(desk: Desk, order_id: UUID) -> None:
    """Ask the venue about one order that is `sending`, in review or was seen to vanish; record what it says.

    Of a connection that was deleted nobody can ask any more: what was on its way then ends in review.
    """
    async with desk.sessions() as session:
        row = (
            await session.execute(
                select(Order, Connection, Execution.signal_id)
                .join(Connection, Connection.id == Order.connection_id)
                .join(Execution, Execution.id == Order.execution_id)
                .where(
                    Order.id == order_id,
                    or_(
                        Order.status.in_(trades.IN_DOUBT),
                        and_(Order.code == trades.VANISHED, Order.due_at.is_not(None)),
                    ),
                )
            )
        ).one_or_none()
    if row is None:
        return
    order, connection, signal_id = row
    with naming.bound(signal_id, order.execution_id, connection.id):
        if connection.deleted_at is not None:
            await _give_up(desk, order)
        else:
            await _resolve(desk, order, connection)


async def _give_up(desk: Desk, order: Order) -> None:
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current = trade.order(order.id)
        if current.status is OrderStatus.SENDING and current.attempt == order.attempt:
            log.warning("order_given_up", order_id=str(order.id))
            current.status, current.message = OrderStatus.NEEDS_REVIEW, trades.LEFT_OPEN
            current.updated_at = now
        endings.let_go(trade, now)


async def _resolve(desk: Desk, order: Order, connection: Connection) -> None:
    try:
        broker = await broker_of(desk, connection)
    except VenueError as failure:
        # An account that cannot even be opened cannot say either: its orders come to review like any other's.
        log.warning("broker_unavailable", order_id=str(order.id), reason=failure.message)
        await record_silence(desk, None, order, CANNOT_SAY, desk.now())
        return
    # An answer tells how it was when it was asked for, however long it took.
    asked_at = desk.now()
    answer = await _ask(broker, order)
    if isinstance(answer, OrderReport):
        log.info("order_found", order_id=str(order.id), status=answer.status)
        if not await placing.record(desk, broker, order, answer):
            await _keep_as_it_is(desk, order)
    elif await record_silence(desk, broker.traits, order, answer, asked_at):
        # It would open something that nobody waits for, if it showed itself all the same.
        async with desk.sessions.begin() as session:
            await connections.reconcile_at(session, order.connection_id, desk.now())
        await _send_again(desk, order)
    await protection.after(desk, order.execution_id)


async def _send_again(desk: Desk, order: Order) -> None:
    """Ring for what was put back: whoever wants to be in or out has waited for the whole settle time already."""
    if order.purpose is Purpose.ENTRY:
        await desk.queue.execute([order.execution_id])
    elif order.purpose is Purpose.CLOSE:
        await desk.queue.close_position(order.id)


async def _ask(broker: Broker, order: Order) -> OrderReport | Silence:
    try:
        return await broker.find(order.key)
    except VenueError as failure:
        log.warning("lookup_failed", order_id=str(order.id), reason=failure.message)
        return CANNOT_SAY


async def record_silence(
    desk: Desk, traits: Traits | None, order: Order, silence: Silence, asked_at: datetime
) -> bool:
    """Take over that the venue says nothing; True when the order counts as absent by now.

    Without its `traits` it could not be asked at all.
    """
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current = trade.order(order.id)
        if current.attempt != order.attempt:
            return False
        if trades.is_undecided(current) and current.status in FINAL:
            current.due_at = None if silence is ABSENT else now + _REVIEW_EVERY
            return False
        if current.status not in trades.IN_DOUBT:
            # Somebody else has found out about it since the venue was asked.
            return False
        signed_at = current.key.signed_at
        settled = traits is not None and asked_at >= signed_at + traits.settle
        # Two processes that look at the same moment have looked once.
        is_another = current.missed_at is None or asked_at >= current.missed_at + _BETWEEN_LOOKS
        if silence is ABSENT and settled and is_another:
            current.misses += 1
            current.missed_at = asked_at
        if traits is not None and current.misses >= traits.clean_misses:
            _record_absence(trade, current, now)
            return True
        patience = _REVIEW_AFTER if current.purpose is Purpose.ENTRY else _EXIT_REVIEW_AFTER
        if silence is AMBIGUOUS or now - signed_at > patience:
            _put_in_review(trade, current, _TWICE if silence is AMBIGUOUS else _UNTOLD, now)
        else:
            current.due_at = now + _BETWEEN_LOOKS
        return False


def _put_in_review(trade: Trade, order: Order, message: str, now: datetime) -> None:
    """Nobody can say what became of an order: a human is told, and what an exit does not cover is protected again."""
    is_old = now - order.key.signed_at > _REVIEW_AFTER
    order.due_at = now + (_REVIEW_EVERY if is_old else _BETWEEN_LOOKS)
    order.message = message
    if order.status is OrderStatus.NEEDS_REVIEW:
        return
    if order.purpose is not Purpose.ENTRY and not trade.doubted_closes:
        telling.exit_in_review(trade.session, trade.execution, order, now)
    order.status = OrderStatus.NEEDS_REVIEW
    order.updated_at = now
    projecting.refresh(trade, now)
    endings.leave_unwatched(trade, order, now)
    if order.purpose is Purpose.CLOSE and trade.position is not None:
        trade.position.give_time(now)


async def _keep_as_it_is(desk: Desk, order: Order) -> None:
    """The venue says nothing of a vanished order that is not known: it has not to be asked again."""
    async with desk.sessions.begin() as session:
        current = (await trades.locked(session, order.execution_id)).order(order.id)
        if current.status in FINAL:
            current.due_at = None


def _record_absence(trade: Trade, order: Order, now: datetime) -> None:
    """The attempt is proven never to have reached the venue: nothing can come of it any more."""
    log.info("order_absent", order_id=str(order.id), attempt=order.attempt)
    message = f"Attempt {order.attempt} never reached the venue."
    if order.purpose is Purpose.PROTECTION:
        endings.refuse(trade, order, trades.NEVER_ARRIVED, message, now)
    else:
        endings.put_back(trade, order, message, now, now)
