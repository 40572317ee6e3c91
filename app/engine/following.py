"""Following: what a later event about a signal means for what is already under way from it.

An update changes stop and targets; a cancel takes back what is not filled; a close also closes what is open. A close
of a portion closes that part of what is held and of whatever a resting entry still fills: only an order whose end is
certain could be placed anew, and smaller. What an event means for an entry that is not claimed yet is read by the
claim itself (see courses), and is noted there.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.port import VenueError
from app.desk import Desk
from app.domain.errors import Invalid
from app.domain.exits import CloseReason
from app.domain.money import ZERO, exact, parse, text
from app.domain.orders import OrderStatus
from app.domain.positions import PositionStatus
from app.domain.signals import EventType, Outcome, Verdict
from app.engine import closing, endings, lapsing, naming, protection, trades, triggers, updating
from app.engine.access import broker_of
from app.engine.courses import portion_of, updates_of
from app.engine.execution import deny_if_over
from app.engine.lapsing import Ending
from app.engine.rooms import AT_ONCE, Room, side_by_side
from app.engine.trades import Trade
from app.store.connections import Connection
from app.store.events import Event
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import OPEN, Position
from app.store.signals import id_of

log = structlog.get_logger(__name__)

_MAY_STILL_OPEN = (ExecutionStatus.SENDING, ExecutionStatus.OPEN, ExecutionStatus.NEEDS_REVIEW)
"""An order in doubt may have been accepted, and rest or be filled by now."""
_WHY = {
    EventType.CANCELLED: Ending("signal_cancelled", "The provider cancelled the signal."),
    EventType.CLOSED: Ending("signal_closed", "The provider closed the signal."),
}


async def follow(desk: Desk, event_id: UUID) -> None:
    """Carry out what an event says on everything under way from its signal. Repeating it changes nothing.

    Each account by itself: one that waits for its venue, or fails, keeps nobody else waiting. Raises ExceptionGroup of
    what went wrong unforeseen with any of them, when the others have been dealt with.
    """
    async with desk.sessions() as session:
        event = await session.get_one(Event, event_id)
        if event.due_at is None or event.provider is None or event.source_id is None:
            return
        signal_id = await id_of(session, event.provider, event.source_id)
        under_way = await _under_way(session, signal_id, EventType(event.type))
    waiting: list[UUID] = []

    async def one(execution: Execution, connection: Connection) -> None:
        with naming.bound(execution.signal_id, execution.id, connection.id):
            if execution.status is ExecutionStatus.PENDING:
                await _deny(desk, execution.id)
            elif not await _CARRY_OUT[EventType(event.type)](desk, event, execution.id, connection):
                waiting.append(execution.id)

    failures = await _apart(under_way, one)
    if failures:
        raise ExceptionGroup("an event was not carried out on every account", failures)
    if not waiting:
        await _finish(desk, event_id)


async def _apart(
    accounts: Iterable[tuple[Execution, Connection]],
    work: Callable[[Execution, Connection], Awaitable[None]],
) -> list[Exception]:
    """Do something on every account, in a room for each venue; answers what went wrong."""
    by_venue: dict[str, list[Awaitable[None]]] = defaultdict(list)
    for execution, connection in accounts:
        by_venue[connection.exchange].append(work(execution, connection))
    answers = await asyncio.gather(*(side_by_side(each, Room(AT_ONCE)) for each in by_venue.values()))
    return [failure for failures in answers for failure in failures]


async def _under_way(
    session: AsyncSession, signal_id: UUID | None, type_: EventType
) -> Sequence[tuple[Execution, Connection]]:
    """What may still open something from a signal, and what it holds; what is not claimed only where it may be over."""
    unclaimed = [ExecutionStatus.PENDING] if type_ in _WHY else []
    rows = await session.execute(
        select(Execution, Connection)
        .join(Connection, Connection.id == Execution.connection_id)
        .outerjoin(Position, Position.execution_id == Execution.id)
        .where(
            Execution.signal_id == signal_id,
            Connection.deleted_at.is_(None),
            or_(Execution.status.in_([*_MAY_STILL_OPEN, *unclaimed]), Position.status.in_(OPEN)),
        )
        .order_by(Execution.id)
    )
    return [(execution, connection) for execution, connection in rows.all()]


async def _deny(desk: Desk, execution_id: UUID) -> None:
    """Deny what is not claimed yet, if its signal is over: its venue, which it may wait for, need not be asked."""
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        if trade.execution.status is ExecutionStatus.PENDING:
            await deny_if_over(trade, desk.now())


async def _cancel(desk: Desk, event: Event, execution_id: UUID, connection: Connection) -> bool:
    """Take back what is not filled; True when nothing has to be tried again."""
    await _take_back(desk, event, execution_id, connection)
    return not await _may_still_open(desk, execution_id)


async def _end(desk: Desk, event: Event, execution_id: UUID, connection: Connection) -> bool:
    """Close what is open, and take back what rests or let a part of it be closed; True when that is done."""
    if portion_of(event) == 1:
        await _take_back(desk, event, execution_id, connection)
    else:
        await _let_rest(desk, event, execution_id)
    # Before what is held is read: an entry that fills between the two is found held, or still under way.
    may_still_open = await _may_still_open(desk, execution_id)
    return await _close(desk, event, execution_id) and not may_still_open


async def _take_back(desk: Desk, event: Event, execution_id: UUID, connection: Connection) -> None:
    """Intend the end of an entry, which outlives whatever happens to it at its venue, and cancel one that rests."""
    why, now = _WHY[EventType(event.type)], desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        entry = trade.entry
        if entry is None or not entry.is_live or entry.status is OrderStatus.PENDING:
            return
        if entry.status is not OrderStatus.NEEDS_REVIEW:
            # There its message asks a human to look, and there is nothing to be taken back as long as nobody knows.
            endings.intend_end(trade, entry, why.code, why.message, now)
        if event.type == EventType.CLOSED:
            endings.unwant_entry(trade, CloseReason.SIGNAL, now)
        elif updating.note_of(trade.execution, event) is None:
            verdict = Verdict(Outcome.APPLIED, "What is not filled is taken back.")
            updating.note(trade.execution, event, verdict, now)
    if entry.status is OrderStatus.OPEN:
        await _cancelled(desk, entry, connection, why)


async def _let_rest(desk: Desk, event: Event, execution_id: UUID) -> None:
    """Note that a portion of whatever a resting entry fills will be closed."""
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        rests = trade.entry is not None and trade.entry.status is OrderStatus.OPEN
        if rests and trade.position is None and updating.note_of(trade.execution, event) is None:
            message = f"The order rests; {text(portion_of(event))} of whatever it fills is closed."
            verdict = Verdict(Outcome.APPLIED, message)
            updating.note(trade.execution, event, verdict, desk.now(), filled=ZERO)


async def _cancelled(desk: Desk, order: Order, connection: Connection, why: Ending) -> None:
    """Cancel an entry that rests; where its venue does not confirm it, the monitor takes it back."""
    try:
        await lapsing.take_back(desk, await broker_of(desk, connection), order, why)
    except VenueError as failure:
        log.warning("entry_not_cancelled", order_id=str(order.id), reason=failure.message)


async def _update(desk: Desk, event: Event, execution_id: UUID, connection: Connection) -> bool:
    """Apply an update to a position, or to what may still open one; always done with that.

    What is not claimed yet needs nothing: its claim reads the signal in its present wording.
    """
    async with desk.sessions() as session:
        position = await session.scalar(select(Position).where(Position.execution_id == execution_id))
    mark = None if position is None else await _mark(desk, position, connection)
    await _apply(desk, event, execution_id, connection, mark)
    return True


async def _mark(desk: Desk, position: Position, connection: Connection) -> Decimal | None:
    """What a position's stop goes by now, or its last mark where the venue has no fresh price."""
    try:
        price = await triggers.price(desk, await broker_of(desk, connection), position)
    except VenueError as failure:
        log.info("quote_unavailable", **naming.of_position(position), reason=failure.message)
        return position.current_price
    return position.current_price if price is None else price


async def _apply(
    desk: Desk, event: Event, execution_id: UUID, connection: Connection, mark: Decimal | None
) -> None:
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        if updating.note_of(trade.execution, event) is not None:
            return
        updates = await updates_of(session, event.provider or "", event.source_id or "")
        applied = updating.apply(trade, event, updates, mark, desk.now())
    why = None if applied.lapsed is None else lapsing.lapsed(applied.lapsed, desk.now())
    if applied.lapsed is not None and why is not None:
        # Where it is not confirmed, the monitor cancels it: its end has come.
        await _cancelled(desk, applied.lapsed, connection, why)
    if applied.close_id is not None:
        await closing.carry_out(desk, applied.close_id)
    try:
        await protection.after(desk, execution_id)
    except VenueError as failure:
        # It is due, so the sweep brings its orders in line.
        log.warning("protection_put_off", reason=failure.message)


async def _close(desk: Desk, event: Event, execution_id: UUID) -> bool:
    """Close what the event asks for of one position, once; False while that has to wait."""
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        position, now = trade.position, desk.now()
        if position is None or position.status is PositionStatus.CLOSED:
            return True
        if portion_of(event) == 1:
            order, is_done = _leave(trade, position, event, now), True
        else:
            order, is_done = _leave_part(trade, position, event, now)
    if order is not None:
        await closing.carry_out(desk, order.id)
    return is_done


def _leave(trade: Trade, position: Position, event: Event, now: datetime) -> Order | None:
    """Store that everything is to be closed; the order to carry out, if one waits to be."""
    if updating.note_of(trade.execution, event) is not None:
        return None
    quantity = text(position.remaining_quantity)
    verdict = Verdict(Outcome.CLOSED, f"{quantity} {position.symbol} is closed at market.")
    updating.note(trade.execution, event, verdict, now)
    return closing.leave_whole(trade, CloseReason.SIGNAL, now)


def _leave_part(trade: Trade, position: Position, event: Event, now: datetime) -> tuple[Order | None, bool]:
    """Store the close of a portion of what the event has not been applied to yet, and whether that is all for now.

    It waits while another close is on its way, and where more has to be filled before its portion is large enough.
    """
    fresh = _fresh(trade.execution, position, event)
    if fresh == ZERO:
        return None, True
    if trade.live_close is not None or not position.at_hand:
        return None, False
    may_grow = trade.entry is not None and trade.entry.is_live
    try:
        quantity = closing.closing_quantity(position, portion_of(event), fresh)
    except Invalid as too_small:
        if not may_grow:
            verdict = Verdict(Outcome.REFUSED, too_small.message)
            updating.note(trade.execution, event, verdict, now, filled=position.quantity)
        return None, not may_grow
    if may_grow and quantity == position.remaining_quantity:
        return None, False
    verdict = Verdict(Outcome.CLOSED, f"{text(quantity)} {position.symbol} is closed at market.")
    updating.note(trade.execution, event, verdict, now, filled=position.quantity)
    return closing.start(trade, quantity, CloseReason.SIGNAL, now), True


@exact
def _fresh(execution: Execution, position: Position, event: Event) -> Decimal:
    """What a close of a portion has not been applied to yet: what remains, or what was filled since."""
    noted = updating.note_of(execution, event)
    if noted is None:
        return position.remaining_quantity
    since = position.quantity - parse(noted["filled"]) if "filled" in noted else ZERO
    return min(max(since, ZERO), position.remaining_quantity)


async def _may_still_open(desk: Desk, execution_id: UUID) -> bool:
    """Whether an execution can still open something; until then its signal's end stays due."""
    async with desk.sessions() as session:
        return (await session.get_one(Execution, execution_id)).status in _MAY_STILL_OPEN


_CARRY_OUT: Final[Mapping[EventType, Callable[[Desk, Event, UUID, Connection], Awaitable[bool]]]] = {
    EventType.UPDATED: _update,
    EventType.CANCELLED: _cancel,
    EventType.CLOSED: _end,
}
"""What each event means for one execution; False where it has to be tried again."""


async def _finish(desk: Desk, event_id: UUID) -> None:
    async with desk.sessions.begin() as session:
        event = await session.get_one(Event, event_id)
        event.due_at = None
