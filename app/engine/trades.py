"""Trades: an execution, its orders and its position as one, and how a venue's report changes all three.

The execution's row lock guards the whole: every write to one of its orders or to its position happens under it,
so there is one order of locking (connection, then execution) and no deadlock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.port import Traits
from app.domain.entries import Entry
from app.domain.errors import Conflict, NotFound
from app.domain.exits import CloseReason, Protection, Rung, ladder
from app.domain.market import QuantityUnit
from app.domain.money import ZERO, exact, floor_to_step, kept, parse, stored, text
from app.domain.orders import (
    FINAL,
    Leg,
    OrderReport,
    OrderStatus,
    OrderType,
    Purpose,
    status_after,
    supersedes,
)
from app.domain.owners import Owner
from app.domain.positions import (
    Figures,
    PositionSide,
    PositionStatus,
    blended_rates,
    fold,
    is_over,
    rungs_left,
    unrealized,
    value_fees,
)
from app.domain.signals import Level
from app.engine import naming, telling
from app.store import audit, executions, orders, positions
from app.store.audit import Action
from app.store.connections import Connection
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import DEADLINE, Position
from app.store.schema import new_id
from app.store.signals import levels_of

log = structlog.get_logger(__name__)

_AFTER_ENTRY = {
    OrderStatus.PENDING: ExecutionStatus.PENDING,
    OrderStatus.SENDING: ExecutionStatus.SENDING,
    OrderStatus.OPEN: ExecutionStatus.OPEN,
    OrderStatus.FILLED: ExecutionStatus.EXECUTED,
    OrderStatus.CANCELLED: ExecutionStatus.CANCELLED,
    OrderStatus.REJECTED: ExecutionStatus.REJECTED,
    OrderStatus.EXPIRED: ExecutionStatus.EXPIRED,
    OrderStatus.NEEDS_REVIEW: ExecutionStatus.NEEDS_REVIEW,
}


_ENDED_WITHOUT_ALL = (
    ExecutionStatus.REJECTED,
    ExecutionStatus.CANCELLED,
    ExecutionStatus.EXPIRED,
    ExecutionStatus.PARTIAL,
)
"""States whose code says why not all of an entry was filled."""

_CUT_SHORT = (OrderStatus.CANCELLED, OrderStatus.EXPIRED)
"""How a market order ends that its venue did not fill whole."""

TOO_SMALL = frozenset({"quantity_below_minimum", "notional_below_minimum"})
"""Codes of refusals that a larger order would not meet."""

NOT_FREE = "insufficient_balance"
"""The code of an exit of coins that other orders of the owner hold."""

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

_LATE_LOOK = timedelta(seconds=30)

_AGAIN = timedelta(seconds=1)
"""When a close that nobody has carried out yet is taken up."""

PAUSE = timedelta(seconds=15)
"""When a close is sent again that its venue can do nothing for at present: nobody to sell to, nothing free to sell."""


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


def let_go(trade: Trade, now: datetime) -> None:
    """Stop looking after a trade whose connection goes: what only our monitor protected is protected no more.

    What waits is not sent. What is on its way may still be answered; what rests unconfirmed is a human's to look for.
    """
    for order in trade.orders:
        if order.status is OrderStatus.SENDING:
            continue
        order.due_at = None
        if order.status is OrderStatus.PENDING:
            order.status, order.message = (
                OrderStatus.CANCELLED,
                "Its connection was deleted before it was sent.",
            )
            order.updated_at = now
        elif order.status is OrderStatus.OPEN and order.purpose is Purpose.ENTRY:
            order.status, order.message = OrderStatus.NEEDS_REVIEW, LEFT_OPEN
            order.updated_at = now
    _forget_wishes(trade)
    refresh(trade, now)
    if trade.position is not None:
        trade.position.protect_due_at = trade.position.protect_by = None
        if trade.position.protection is Protection.SOFTWARE:
            trade.position.protection = Protection.NONE


def _forget_wishes(trade: Trade) -> None:
    """Nobody can close any more what somebody has wanted closed."""
    if trade.entry is not None:
        trade.entry.reason = None
    if trade.position is not None and trade.position.remaining_quantity:
        trade.position.leave_reason = trade.position.close_reason = None


def plan_of(
    entry: Entry,
    terms: Mapping[str, Any],
    management: Mapping[str, Any],
    traits: Traits,
    *,
    multiplier: Decimal,
) -> dict[str, Any]:
    """What an execution remembers of its decision until the position exists; `terms` are of protection,
    `multiplier` is for what its signal says later."""
    usual = traits.trigger_sources[0] if traits.trigger_sources else None
    source = terms.get("trigger_source") if usual else None
    instrument = entry.instrument
    return {
        "stop_loss": None if entry.stop_loss is None else text(entry.stop_loss),
        "levels": stored_levels(entry.levels),
        "management": dict(management),
        "native": traits.native_protection,
        "trigger_source": source or usual,
        "deadline_seconds": terms.get("deadline_seconds") or int(DEADLINE.total_seconds()),
        "unit_value": text(stored(entry.unit_value)),
        "multiplier": text(multiplier),
        "quantity_unit": instrument.quantity_unit.value,
        "quantity_step": text(instrument.quantity_step),
        "price_tick": text(instrument.price_tick),
        "min_quantity": text(instrument.min_quantity),
        "min_notional": None if instrument.min_notional is None else text(instrument.min_notional),
        "netting": traits.netting,
    }


def stored_levels(levels: Sequence[Level]) -> list[dict[str, str]]:
    """Take-profit levels as a row keeps them."""
    return [{"price": text(level.price), "portion": text(level.portion)} for level in levels]


def set_ladder(position: Position, levels: Sequence[Level]) -> None:
    """Give a position other take-profits, for what remains of it."""
    position.levels = stored_levels(levels)
    position.plan_revision += 1
    position.plan_base = closed_quantity(position)


@exact
def closed_quantity(position: Position) -> Decimal:
    """How much of a position has been left so far."""
    return position.quantity - position.remaining_quantity


def apply(
    trade: Trade,
    order: Order,
    report: OrderReport,
    now: datetime,
    *,
    rates: Mapping[str, Decimal],
    holds_coins: bool,
) -> bool:
    """Take over what the venue says of an order; False when it tells nothing new or comes too late.

    `rates` are the present prices of coins that fees were taken in, and `holds_coins` says whether the account holds
    what it bought (spot) or nets it on margin.
    """
    known_status = _known_status(trade, order)
    if not _is_news(trade, order, report, known_status):
        return False
    filled_before = order.filled_quantity
    was_live = order.is_live
    if order.status in FINAL:
        log.warning(
            "order_was_not_final",
            **naming.of_order(trade.execution, order),
            filled=text(report.filled_quantity),
        )
        order.code = order.message = None
    if trade.position is not None:
        trade.position.funding += report.funding - order.funding
    order.profit, order.funding = report.profit, report.funding
    order.status = status_after(known_status, report)
    order.exchange_order_id = report.exchange_order_id
    order.filled_quantity = report.filled_quantity
    order.average_price = None if report.average_price is None else stored(report.average_price)
    _count_fees(order, report, rates, holds_coins=holds_coins)
    order.leg = report.leg
    _explain_end(order, report)
    order.acknowledged_at = order.acknowledged_at or now
    order.misses, order.missed_at = 0, None
    order.due_at = None
    if report.filled_quantity > filled_before:
        order.filled_at = report.time or now
    if order.purpose is Purpose.PROTECTION and report.leg is not None:
        order.reason = _stop_reason(trade, order) if report.leg is Leg.STOP else CloseReason.TAKE_PROFIT
    order.updated_at = now
    if order.status in FINAL and not order.filled_quantity:
        _miss_stop(trade, order, now)
    if order.purpose is not Purpose.ENTRY and report.filled_quantity > filled_before:
        telling.exit_filled(trade.session, trade.execution, order, now)
    refresh(trade, now)
    if was_live:
        _carry_on(trade, order, now)
    if report.handle is not None:
        rename(trade, report.handle)
    _end_others(trade, order, now)
    return True


def _is_news(trade: Trade, order: Order, report: OrderReport, known_status: OrderStatus) -> bool:
    """Whether a report tells something that is not known, and is to be believed."""
    known = (order.status, order.filled_quantity, order.exchange_order_id)
    if known == (report.status, report.filled_quantity, report.exchange_order_id):
        return False
    return not _has_fired(trade, order) and supersedes(known_status, order.filled_quantity, report)


def rename(trade: Trade, handle: str) -> None:
    """Remember what the venue calls the position from now on: for what is sent about it, and what stands on it."""
    if trade.position is None:
        return
    trade.position.handle = handle
    for leg in trade.live_protection:
        if leg.handle is not None:
            leg.handle = handle


def _end_others(trade: Trade, leg: Order, now: datetime) -> None:
    """When what stands on a position has fired, whatever else was set on it is gone with it."""
    if leg.handle is not None and leg.leg is not None:
        for other in trade.live_protection:
            supersede(trade, other, now)


def supersede(trade: Trade, leg: Order, now: datetime) -> None:
    """Record that a leg stands no more, because another has taken its place or its position has ended."""
    leg.status = OrderStatus.CANCELLED
    leg.message = "Another one has taken its place, or its position has ended."
    leg.due_at = None
    leg.updated_at = now
    refresh(trade, now)


def _has_fired(trade: Trade, leg: Order) -> bool:
    """Whether what stood on a position was taken already, as another leg's: of all that are set only one is there."""
    return (
        leg.handle is not None
        and leg.purpose is Purpose.PROTECTION
        and any(
            other.purpose is Purpose.PROTECTION and other.filled_quantity > ZERO
            for other in trade.orders
            if other is not leg
        )
    )


def _known_status(trade: Trade, order: Order) -> OrderStatus:
    """The status to hold a report against: of an order that vanished its venue never said that it was final."""
    # A close that vanished may have been followed by another.
    is_doubtful = (
        order.code == VANISHED and order.purpose is not Purpose.CLOSE and not _is_succeeded(trade, order)
    )
    return OrderStatus.OPEN if is_doubtful else order.status


def _count_fees(
    order: Order, report: OrderReport, rates: Mapping[str, Decimal], *, holds_coins: bool
) -> None:
    """Take over the fees, and what they are worth at the rates of when each was taken."""
    taken = {currency: stored(amount) for currency, amount in report.fees.items()}
    counted = {currency: kept(amount) for currency, amount in order.fees.items()}
    known = {coin: kept(rate) for coin, rate in order.fee_rates.items()}
    blended = blended_rates(known, counted, taken, rates)
    fees = value_fees(
        taken, order.base, order.currency, order.average_price, blended, holds_coins=holds_coins
    )
    order.fees = {currency: text(amount) for currency, amount in taken.items()}
    order.fee_rates = {coin: text(stored(rate)) for coin, rate in blended.items()}
    order.base_fee, order.fee_value = fees.base, fees.value
    order.fees_complete = fees.complete and report.fees_told


def _is_succeeded(trade: Trade, leg: Order) -> bool:
    """Whether another leg stands, or has fired, on the same position of a venue that names positions.

    What is set on a position has no name of its own: what is found there is that other leg.
    """
    return leg.handle is not None and any(
        other.purpose is Purpose.PROTECTION and (other.is_live or other.filled_quantity > ZERO)
        for other in trade.orders
        if other is not leg
    )


def _explain_end(order: Order, report: OrderReport) -> None:
    """Why an order ended: what we took it back for, else what the venue says of it."""
    if order.status is OrderStatus.FILLED and order.code is not None:
        # Whoever wanted it back came too late.
        order.code = order.message = None
    if order.code is None:
        order.message = report.message or order.message
    is_over = order.expires_at is not None and report.time is not None and order.expires_at <= report.time
    if order.status is OrderStatus.EXPIRED and order.purpose is Purpose.ENTRY and is_over:
        order.code = LAPSED
    elif order.status is OrderStatus.CANCELLED and order.code == LAPSED:
        # Its venue knows no end for an order; we have kept the time for it.
        order.status = OrderStatus.EXPIRED


def intend_end(trade: Trade, order: Order, code: str | None, message: str, now: datetime) -> None:
    """Note why an order that rests is being taken back; it counts when the venue says that it has ended."""
    order.code, order.message = code, message
    order.updated_at = now
    refresh(trade, now)


def is_unwanted(trade: Trade) -> bool:
    """Whether whatever is filled is to be closed: its position had ended before, or somebody wants nothing held."""
    position, entry = trade.position, trade.entry
    return (position is not None and position.close_reason is not None) or (
        entry is not None and entry.reason is not None
    )


def unwant_entry(trade: Trade, reason: CloseReason, now: datetime) -> None:
    """Let the entry open nothing more: what rests of it is taken back, and whatever it fills until then is closed."""
    entry = trade.entry
    if entry is not None and entry.is_live:
        entry.reason = reason
        refresh(trade, now)


def _stop_reason(trade: Trade, order: Order) -> CloseReason:
    """What leaving at the stop of a protective order is called; one of an earlier plan is a plain stop-loss."""
    position = trade.position
    if position is None or order.trigger_price != position.stop_loss:
        return CloseReason.STOP_LOSS
    return position.stop_reason


def refuse(trade: Trade, order: Order, code: str, message: str, now: datetime) -> None:
    """Record that the venue certainly did not and will not take an order."""
    order.status = OrderStatus.REJECTED
    order.code, order.message = code, message
    order.due_at = None
    order.updated_at = now
    refresh(trade, now)


def leave_unwatched(trade: Trade, order: Order, now: datetime) -> None:
    """While a close is in doubt nobody watches the stop of what it has taken the legs from; what a venue carries on
    the position itself stays."""
    position = trade.position
    if (
        order.purpose is Purpose.CLOSE
        and position is not None
        and position.protection is not Protection.NATIVE
    ):
        position.expose(now)


def vanish(trade: Trade, order: Order, now: datetime) -> None:
    """Record that an order that rested at the venue is no longer there, and nobody can say what became of it.

    The venue is asked once more later: a fill may be slower to show than the order was to go.
    """
    order.status = OrderStatus.CANCELLED
    order.code = VANISHED
    order.due_at = now + _LATE_LOOK
    order.message = "The order is no longer at the venue."
    order.updated_at = now
    if order.purpose is Purpose.PROTECTION and order.trigger_price is not None and trade.position is not None:
        trade.position.expose(now)
    _miss_stop(trade, order, now)
    refresh(trade, now)


def is_undecided(order: Order) -> bool:
    """Whether an order may have changed what the venue holds without our knowing."""
    return order.status in IN_DOUBT or (order.code == VANISHED and order.due_at is not None)


def _miss_stop(trade: Trade, order: Order, now: datetime) -> None:
    """Remember that the venue's stop is gone without having done its work, where no close of ours has taken it away."""
    is_stop = order.purpose is Purpose.PROTECTION and order.trigger_price is not None
    if is_stop and trade.position is not None and trade.live_close is None:
        trade.position.miss_stop(now)


def put_back(trade: Trade, order: Order, message: str, due_at: datetime, now: datetime) -> None:
    """Record that an attempt certainly was not executed: the order is intended again, from `due_at`.

    A close in review that another has followed is not: there is one close to be sent. Nor is an entry that nobody
    wants any more.
    """
    order.status = OrderStatus.PENDING
    order.message = message
    order.due_at = due_at
    _take_up_again(order)
    if order.purpose is Purpose.CLOSE and any(
        _is_to_be_sent(each) for each in trade.orders if each is not order
    ):
        order.status, order.due_at = OrderStatus.CANCELLED, None
    order.misses = 0
    order.updated_at = now
    if order.purpose is Purpose.ENTRY:
        trade.execution.due_at = due_at
        order.due_at = None
        if order.reason is not None:
            order.status, order.message = OrderStatus.CANCELLED, TAKEN_BACK
    refresh(trade, now)


@exact
def _take_up_again(order: Order) -> None:
    """What was held back of an order that was not executed is part of it again."""
    order.quantity, order.held_back = order.quantity + order.held_back, ZERO


def _is_to_be_sent(order: Order) -> bool:
    return order.purpose is Purpose.CLOSE and order.status in (OrderStatus.PENDING, OrderStatus.SENDING)


def refresh(trade: Trade, now: datetime) -> None:
    """Project execution and position from the orders as they stand."""
    entry = trade.entry
    if entry is None:
        return
    was = trade.execution.status
    _project_execution(trade.execution, entry, now)
    if trade.execution.status is not was:
        telling.execution_changed(trade.session, trade.execution, entry, now)
    if entry.filled() is not None:
        _project_position(trade, entry, now)


def _project_execution(execution: Execution, entry: Order, now: datetime) -> None:
    status = _AFTER_ENTRY[entry.status]
    if entry.filled_quantity > ZERO and status in (ExecutionStatus.CANCELLED, ExecutionStatus.EXPIRED):
        status = ExecutionStatus.PARTIAL
    execution.status = status
    execution.code = entry.code if status in _ENDED_WITHOUT_ALL else None
    execution.message = entry.message
    execution.filled_quantity = entry.filled_quantity
    execution.average_price = entry.average_price
    execution.fees = [{"currency": currency, "amount": amount} for currency, amount in entry.fees.items()]
    execution.client_order_id = entry.client_order_id
    execution.exchange_order_id = entry.exchange_order_id
    execution.attempts = entry.attempt
    execution.sent_at = entry.signed_at
    execution.acknowledged_at = entry.acknowledged_at
    execution.filled_at = entry.filled_at
    if status is not ExecutionStatus.PENDING:
        execution.due_at = None
    execution.updated_at = now


def _project_position(trade: Trade, entry: Order, now: datetime) -> None:
    filled = entry.filled()
    if filled is None:
        return
    side = PositionSide.opened_by(entry.side)
    exits = [each for order in trade.orders if order is not entry and (each := order.filled()) is not None]
    figures = fold(side, filled, exits, _unit_value(trade))
    is_new = False
    if trade.position is None:
        trade.position = _open_position(trade, entry, side, figures, now)
        trade.position.expose(now, entry.filled_at)
        trade.session.add(trade.position)
        is_new = True
    position = trade.position
    position.begin_day(now)
    if figures.quantity > position.quantity:
        # Nobody's stop covers what has just been filled.
        position.expose(now, entry.filled_at)
    _take_over(position, figures)
    position.doubtful_quantity = ZERO if position.netting else _unknown(trade.doubted_closes)
    position.take_profits = _cut_ladder(position, trade.orders)
    if is_new:
        note = position.take_profits_note if entry.status in FINAL else None
        telling.position_opened(trade.session, position, note, now)
    position.protect_due_at = now
    position.updated_at = now
    if _is_finished(trade, entry, position):
        _finish(trade, position, now)
    else:
        if trade.live_close is None and position.at_hand > ZERO:
            _go_on_leaving(trade, entry, position, now)
        position.status = (
            PositionStatus.CLOSING if _closes_everything(trade, entry, position) else PositionStatus.OPEN
        )
    _remark(position)


@exact
def _unknown(doubted: Sequence[Order]) -> Decimal:
    """What closes in review may have sold beyond what is known of them."""
    return sum((order.quantity - order.filled_quantity for order in doubted), ZERO)


def _unit_value(trade: Trade) -> Decimal:
    """What a price move of one is worth, as the position was last marked, else as its entry was decided."""
    if trade.position is not None:
        return trade.position.unit_value
    return parse((trade.execution.plan or {}).get("unit_value") or "1")


def _go_on_leaving(trade: Trade, entry: Order, position: Position, now: datetime) -> None:
    """Close what was filled after a position had ended, for the reason that ended it; what an entry fills that nobody
    wants any more; and what another close has left of a position that somebody wants closed."""
    if position.close_reason is not None:
        position.closed_at = None
        intend_close(trade, position, position.at_hand, position.close_reason, now)
        telling.filled_late(trade.session, position, now)
    elif entry.reason is not None:
        intend_close(trade, position, position.at_hand, entry.reason, now)
    elif position.leave_reason is not None:
        intend_close(trade, position, position.at_hand, position.leave_reason, now)
        position.leave_reason = None


@exact
def _carry_on(trade: Trade, close: Order, now: datetime) -> None:
    """A close that its venue has cut short, or that was held back in part, goes on with another order for the rest.

    Not at a target, which is a price and not a wish to leave: the monitor sees whether that price still stands.
    """
    position = trade.position
    if close.purpose is not Purpose.CLOSE or close.status not in (*_CUT_SHORT, OrderStatus.FILLED):
        return
    if position is None or position.status is PositionStatus.CLOSED or trade.live_close is not None:
        return
    unfilled = close.quantity - close.filled_quantity if close.status in _CUT_SHORT else ZERO
    rest = min(unfilled + close.held_back, position.at_hand)
    price = position.current_price or position.entry_price
    if close.reason in (None, CloseReason.TAKE_PROFIT) or not position.grain.takes(rest, price):
        return
    following = intend_close(trade, position, rest, close.reason, now)
    if close.held_back:
        # Who looks first finds out what is free.
        following.code = NOT_FREE
    if close.held_back or close.filled_quantity == ZERO:
        following.due_at = now + PAUSE
    refresh(trade, now)


def intend_close(
    trade: Trade, position: Position, quantity: Decimal, reason: CloseReason, now: datetime
) -> Order:
    """Add the order that closes `quantity` at market; the sweep carries it out where nobody does so sooner."""
    entry = trade.entry
    if entry is None:
        raise ValueError(f"position {position.id} has no entry order")
    order = Order(
        id=new_id(),
        connection_id=position.connection_id,
        execution_id=position.execution_id,
        position_id=position.id,
        purpose=Purpose.CLOSE,
        symbol=position.symbol,
        base=entry.base,
        currency=entry.currency,
        side=position.side.entry_side.opposite,
        type=OrderType.MARKET,
        quantity=quantity,
        held_back=ZERO,
        reduce_only=True,
        reserved=ZERO,
        reason=reason,
        plan_revision=position.plan_revision,
        status=OrderStatus.PENDING,
        attempt=0,
        filled_quantity=ZERO,
        fees={},
        due_at=now + _AGAIN,
        created_at=now,
        updated_at=now,
    )
    trade.session.add(order)
    trade.orders.append(order)
    return order


def _open_position(
    trade: Trade, entry: Order, side: PositionSide, figures: Figures, now: datetime
) -> Position:
    execution = trade.execution
    plan = execution.plan
    if plan is None:
        raise ValueError(f"execution {execution.id} was claimed without a plan")
    stop = None if plan["stop_loss"] is None else parse(plan["stop_loss"])
    guarded = stop is not None or bool(plan["levels"])
    position = Position(
        id=new_id(),
        execution_id=execution.id,
        signal_id=execution.signal_id,
        connection_id=execution.connection_id,
        owner_role=execution.owner_role,
        owner_id=execution.owner_id,
        symbol=entry.symbol,
        currency=entry.currency,
        quantity_unit=QuantityUnit(plan["quantity_unit"]),
        unit_value=_unit_value(trade),
        side=side,
        quantity=figures.quantity,
        remaining_quantity=figures.remaining,
        entry_price=figures.entry_price,
        stop_loss=stop,
        levels=plan["levels"],
        management=plan["management"],
        stop_reason=CloseReason.STOP_LOSS,
        edited=[],
        native=plan["native"],
        # Our monitor is on from the first unit; the venue takes over when it has acknowledged its orders.
        protection=Protection.SOFTWARE if guarded else Protection.NONE,
        status=PositionStatus.OPEN,
        trigger_source=plan.get("trigger_source"),
        deadline_seconds=plan.get("deadline_seconds") or int(DEADLINE.total_seconds()),
        unprotected_seconds=ZERO,
        quantity_step=parse(plan["quantity_step"]),
        price_tick=parse(plan["price_tick"]),
        min_quantity=parse(plan["min_quantity"]),
        min_notional=None if plan["min_notional"] is None else parse(plan["min_notional"]),
        netting=plan.get("netting", False),
        plan_revision=1,
        plan_base=ZERO,
        realized_pnl=ZERO,
        unrealized_pnl=ZERO,
        dust=ZERO,
        funding=ZERO,
        funding_complete=True,
        missing_quantity=ZERO,
        foreign_quantity=ZERO,
        foreign_orders=0,
        opened_at=entry.filled_at or now,
        created_at=now,
    )
    entry.position_id = position.id
    return position


def _take_over(position: Position, figures: Figures) -> None:
    if position.remaining_quantity != figures.remaining:
        # What the venue seemed to hold less than ours was seen beside another quantity.
        position.missing_quantity, position.missing_since = ZERO, None
    position.quantity = figures.quantity
    position.remaining_quantity = figures.remaining
    position.entry_price = figures.entry_price
    position.exit_price = figures.exit_price
    position.gross_pnl = figures.gross_pnl
    position.fees = figures.fees
    position.realized_pnl = figures.realized_pnl + position.funding
    position.pnl_complete = figures.pnl_complete and position.funding_complete


@exact
def pay(position: Position, amount: Decimal, now: datetime) -> None:
    """Book funding on a position under its trade's lock; negative was paid."""
    position.begin_day(now)
    position.funding += amount
    position.realized_pnl += amount
    position.updated_at = now


def miss_funding(position: Position, now: datetime) -> None:
    """Funding of a position is not known: its figures are not complete, and never will be."""
    position.funding_complete = position.pnl_complete = False
    position.updated_at = now


@exact
def _cut_ladder(position: Position, all_orders: Sequence[Order]) -> list[dict[str, str]]:
    """The levels cut for what was held when they were set, and what of each rung has been taken."""
    held = position.quantity - position.plan_base
    rungs = _distinct(ladder(levels_of(position.levels), held, position.stop_loss, position.grain))
    taken = sum(
        (
            order.filled_quantity
            for order in all_orders
            if order.reason is CloseReason.TAKE_PROFIT and order.plan_revision == position.plan_revision
        ),
        ZERO,
    )
    left = {rung.price: rung.quantity for rung in rungs_left(rungs, taken)}
    return [
        {
            "price": text(rung.price),
            "quantity": text(rung.quantity),
            "filled_quantity": text(rung.quantity - left.get(rung.price, ZERO)),
        }
        for rung in rungs
    ]


def _distinct(rungs: Sequence[Rung]) -> list[Rung]:
    """Rungs at the same price are one."""
    merged: dict[Decimal, Decimal] = {}
    for rung in rungs:
        merged[rung.price] = merged.get(rung.price, ZERO) + rung.quantity
    return [Rung(price, quantity) for price, quantity in merged.items()]


def _is_finished(trade: Trade, entry: Order, position: Position) -> bool:
    """Nothing is left that could be sold, and nothing is under way that could change that."""
    if entry.status not in FINAL:
        return False
    if position.remaining_quantity == ZERO:
        return True
    if trade.live_close is not None or trade.doubted_closes:
        return False
    if any(order.filled_quantity for order in trade.live_protection):
        return False
    price = position.current_price or position.entry_price
    return is_over(position.remaining_quantity, price, position.grain) or any(
        is_refused_for_size(order, position) for order in trade.orders if order.status is OrderStatus.REJECTED
    )


def is_refused_for_size(order: Order, position: Position) -> bool:
    """Whether the venue has called an exit too small that was for all that is left: it is dust on its word."""
    is_whole = order.quantity >= floor_to_step(position.remaining_quantity, position.quantity_step)
    return order.purpose is Purpose.CLOSE and order.code in TOO_SMALL and is_whole


def _closes_everything(trade: Trade, entry: Order, position: Position) -> bool:
    close = trade.live_close
    if close is None:
        return position.remaining_quantity == ZERO and entry.reason is not None
    return close.quantity + close.held_back - close.filled_quantity >= position.at_hand


def _finish(trade: Trade, position: Position, now: datetime) -> None:
    position.dust = position.remaining_quantity
    position.remaining_quantity = ZERO
    position.end_exposure(now)
    position.price_lost_at = position.stop_doubted_at = None
    position.leave_reason = None
    for close in trade.doubted_closes:
        # All of it is accounted for without this one, so that it has sold nothing and finds nothing any more.
        close.status, close.due_at = OrderStatus.CANCELLED, None
        close.message = "The position has ended without it."
        close.updated_at = now
    position.doubtful_quantity = ZERO
    if position.status is PositionStatus.CLOSED:
        return
    ended = [order for order in trade.orders if order.purpose is not Purpose.ENTRY and order.filled_quantity]
    last = max(ended, key=lambda order: (order.filled_at or now, order.id), default=None)
    position.status = PositionStatus.CLOSED
    position.closed_at = (last.filled_at if last else None) or now
    position.close_reason = (last.reason if last else None) or CloseReason.DUST
    position.protection = Protection.NONE
    telling.position_closed(trade.session, position, now)


def _remark(position: Position) -> None:
    if position.status is PositionStatus.CLOSED:
        position.unrealized_pnl = ZERO
    elif position.current_price is not None:
        position.unrealized_pnl = unrealized(
            position.side,
            position.remaining_quantity,
            position.entry_price,
            position.current_price,
            position.unit_value,
        )
    else:
        position.unrealized_pnl = ZERO
