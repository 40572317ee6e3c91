"""Telling: what the owner of a trade hears about it, in words and figures."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.domain.errors import Denied
from app.domain.exits import CloseReason
from app.domain.money import ZERO, stored, text
from app.domain.orders import FINAL, OrderStatus, Purpose
from app.domain.owners import Role
from app.domain.risk import Limits, Mode, OnDailyLoss
from app.engine.notifying import notify
from app.store.connections import Connection
from app.store.executions import Execution, ExecutionStatus
from app.store.notifications import NotificationType, tell_active_owners
from app.store.orders import Order
from app.store.positions import Position

_WORTH_TELLING = {
    ExecutionStatus.OPEN: "rests at the venue",
    ExecutionStatus.EXECUTED: "was filled",
    ExecutionStatus.PARTIAL: "was filled in part",
    ExecutionStatus.REJECTED: "was rejected by the venue",
    ExecutionStatus.CANCELLED: "was cancelled",
    ExecutionStatus.EXPIRED: "expired unfilled",
    ExecutionStatus.NEEDS_REVIEW: "needs your review: the venue cannot say whether it was placed",
}

_HITS = {
    CloseReason.STOP_LOSS: (NotificationType.SL_HIT, "stop-loss"),
    CloseReason.TRAILING_STOP: (NotificationType.SL_HIT, "trailing stop"),
    CloseReason.TAKE_PROFIT: (NotificationType.TP_HIT, "take-profit"),
}


def execution_changed(session: AsyncSession, execution: Execution, entry: Order, now: datetime) -> None:
    """An entry has reached a state its owner wants to know of."""
    status = execution.status
    if status not in _WORTH_TELLING:
        return
    kind = NotificationType.ERROR if status is ExecutionStatus.NEEDS_REVIEW else NotificationType.EXECUTION
    summary = f"The {entry.side} of {text(entry.quantity)} {entry.symbol} {_WORTH_TELLING[status]}."
    detail = f" {entry.message}" if entry.message else ""
    _tell(
        session,
        execution,
        kind,
        f"{entry.symbol}: order {status}",
        summary + detail,
        now,
        position_id=entry.position_id,
        status=status,
    )


def execution_denied(session: AsyncSession, execution: Execution, denial: Denied, now: datetime) -> None:
    """A signal was not executed, and why."""
    _tell(
        session,
        execution,
        NotificationType.EXECUTION,
        f"{execution.symbol}: signal not executed ({denial.code})",
        denial.message,
        now,
        status=ExecutionStatus.DENIED,
        code=denial.code,
    )


def execution_withdrawn(session: AsyncSession, execution: Execution, now: datetime) -> None:
    """An entry was taken back before anything was sent."""
    _tell(
        session,
        execution,
        NotificationType.EXECUTION,
        f"{execution.symbol}: entry taken back",
        execution.message or "The entry was taken back.",
        now,
        status=execution.status,
    )


_MODES = {
    Mode.ACTIVE: "takes entries again",
    Mode.REDUCING: "only reduces positions",
    Mode.HALTED: "is halted",
}


def mode_set(
    session: AsyncSession, connection: Connection, reason: str | None, now: datetime, *, by_admin: bool
) -> None:
    """How far a connection may trade was changed."""
    who = "An administrator" if by_admin and connection.owner_role is Role.USER else "You"
    because = f": {reason}" if reason else "."
    notify(
        session,
        connection.owner,
        NotificationType.CONNECTION,
        f"Connection {connection.name} {_MODES[connection.mode]}",
        f"{who} set its mode to {connection.mode}{because}",
        now=now,
        data={"mode": connection.mode},
        connection_id=connection.id,
    )


async def trading_set(session: AsyncSession, state: Mode, reason: str, now: datetime) -> None:
    """How far the whole engine may trade was changed: everybody who trades with it hears so."""
    then = (
        "New signals are executed again."
        if state is Mode.ACTIVE
        else "No entries are taken and unfilled ones are taken back; open positions stay watched and closable."
    )
    await tell_active_owners(
        session,
        NotificationType.RISK,
        f"Trading {_MODES[state]}",
        f"An administrator set trading as a whole to {state}: {reason} {then}",
        {"mode": state},
        now,
    )


def daily_loss_reached(session: AsyncSession, connection: Connection, denial: Denied, now: datetime) -> None:
    """A connection takes no entries for the rest of the day."""
    closes = Limits.read(connection.limits).on_daily_loss is OnDailyLoss.CLOSE
    then = "Its open positions are being closed." if closes else "Open positions stay open and watched."
    notify(
        session,
        connection.owner,
        NotificationType.RISK,
        f"Connection {connection.name}: daily loss limit reached",
        f"{denial.message} It takes no entries until {connection.reducing_until:%Y-%m-%d %H:%M} UTC. {then}",
        now=now,
        data={"code": denial.code, "mode": Mode.REDUCING},
        connection_id=connection.id,
    )


def position_opened(session: AsyncSession, position: Position, note: str | None, now: datetime) -> None:
    """The first unit of an entry was filled; `note` is what its owner would not expect of its targets."""
    _tell(
        session,
        position,
        NotificationType.OPEN,
        f"{position.symbol}: {position.side} opened",
        f"Opened a {position.side} position of {text(position.quantity)} {position.symbol} "
        f"at {text(position.entry_price)}." + (f" {note}" if note else ""),
        now,
        position_id=position.id,
        quantity=text(position.quantity),
        price=text(position.entry_price),
    )


def exit_filled(session: AsyncSession, execution: Execution, order: Order, now: datetime) -> None:
    """A stop or target has done its work."""
    if order.reason not in _HITS or order.average_price is None or order.status not in FINAL:
        return
    kind, what = _HITS[order.reason]
    _tell(
        session,
        execution,
        kind,
        f"{order.symbol}: {what} hit",
        f"The {what} closed {text(order.filled_quantity)} {order.symbol} at {text(order.average_price)}.",
        now,
        position_id=order.position_id,
        quantity=text(order.filled_quantity),
        price=text(order.average_price),
    )


def exit_refused(
    session: AsyncSession,
    execution: Execution,
    order: Order,
    reason: str,
    now: datetime,
    *,
    is_held_elsewhere: bool,
) -> None:
    """The venue did not take an order that was to protect or close a position."""
    what, then = "protective order", "The position stays watched by the engine."
    if order.purpose is Purpose.CLOSE:
        what, then = "closing order", "It is sent again until the venue takes it."
    if is_held_elsewhere:
        then = (
            f"Orders of your own hold some of the {order.base}: what is free is closed now, the rest as soon as it "
            "is free."
        )
    if order.purpose is Purpose.CLOSE and order.status is OrderStatus.REJECTED:
        again = "when the market is open" if order.code == "market_closed" else "if that is still wanted"
        then = f"It is not sent again and has closed nothing: close the position again {again}."
        if order.reason is not CloseReason.MANUAL:
            then = "It is not sent again: it would always be refused."
    _tell(
        session,
        execution,
        NotificationType.ERROR,
        f"{order.symbol}: {what} refused" + (" (market closed)" if order.code == "market_closed" else ""),
        f"The venue refused the {what}: {reason} {then}",
        now,
        position_id=order.position_id,
        order_id=str(order.id),
    )


def exit_in_review(session: AsyncSession, execution: Execution, order: Order, now: datetime) -> None:
    """Nobody can say what became of an order that was to protect or close a position."""
    what, then = "protective order", "watches the position itself"
    if order.purpose is Purpose.CLOSE:
        what, then = "closing order", "protects what that order does not cover"
    _tell(
        session,
        execution,
        NotificationType.ERROR,
        f"{order.symbol}: {what} needs your review",
        f"The venue cannot say whether the {what} of {text(order.quantity)} {order.symbol} was placed; please look "
        f"there. The engine goes on asking, and {then}.",
        now,
        position_id=order.position_id,
        order_id=str(order.id),
    )


def filled_late(session: AsyncSession, position: Position, now: datetime) -> None:
    """The venue filled more of an entry after its position had been closed."""
    quantity = text(position.remaining_quantity)
    _tell(
        session,
        position,
        NotificationType.ERROR,
        f"{position.symbol}: filled after it was closed",
        f"The venue filled {quantity} {position.symbol} after the position had been closed; that is closed as well.",
        now,
        position_id=position.id,
        quantity=quantity,
    )


def opened_unmanaged(
    session: AsyncSession, position: Position, connection: Connection, now: datetime
) -> None:
    """The venue filled an entry when its connection had been deleted already."""
    quantity = text(position.remaining_quantity)
    _tell(
        session,
        position,
        NotificationType.ERROR,
        f"{position.symbol}: filled after its connection was deleted",
        f"The venue filled {quantity} {position.symbol} after the connection {connection.name} had been deleted: "
        "nobody manages or watches that here; please look there.",
        now,
        position_id=position.id,
        quantity=quantity,
    )


def unprotected_too_long(session: AsyncSession, position: Position, now: datetime) -> None:
    """Nobody could watch a stop in time, so its position is given up."""
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: closed for want of protection",
        f"The stop-loss of {text(position.remaining_quantity)} {position.symbol} could not be placed within "
        f"{position.deadline_seconds} seconds, so the position is closed at market.",
        now,
        position_id=position.id,
        close_reason=CloseReason.RISK,
    )


def stop_put_back(session: AsyncSession, position: Position, now: datetime) -> None:
    """The stop that the venue held was gone there, and stands again."""
    stop = text(position.stop_loss or ZERO)
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: stop-loss put back",
        f"The stop-loss of {position.symbol} at {stop} was gone at the venue; the engine has put it back. "
        "To take it away, edit the position.",
        now,
        position_id=position.id,
        stop_loss=stop,
    )


def earlier_stop_back(session: AsyncSession, position: Position, order: Order, now: datetime) -> None:
    """The venue has refused the plan's stop, and the one before stands there again."""
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: stop-loss watched by the engine",
        f"The venue does not take the stop-loss of {position.symbol} at {text(position.stop_loss or ZERO)}, so the "
        f"engine watches it; the one at {text(order.trigger_price or ZERO)} stands at the venue again.",
        now,
        position_id=position.id,
        order_id=str(order.id),
    )


def price_lost(session: AsyncSession, position: Position, now: datetime) -> None:
    """There is no price by which the engine could watch a stop."""
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: no price to watch the stop-loss by",
        f"The engine watches the stop-loss of {position.symbol} at {text(position.stop_loss or ZERO)} and has had no "
        "sound price for it for a minute, so it can close nothing by itself. The position stays open, and counts as "
        "unprotected until there is a price; you can close it.",
        now,
        position_id=position.id,
    )


def stop_doubted(session: AsyncSession, position: Position, now: datetime) -> None:
    """The venue has not shown for long that it holds a stop."""
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: stop-loss not shown by the venue",
        f"The venue has not shown for some minutes that it holds the stop-loss of {position.symbol} at "
        f"{text(position.stop_loss or ZERO)}; the engine watches it as well until the venue does.",
        now,
        position_id=position.id,
    )


def watched_again(session: AsyncSession, position: Position, why: str, now: datetime) -> None:
    """A stop that was out of sight is watched again; `why` ends the sentence."""
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: stop-loss watched again",
        f"The stop-loss of {position.symbol} at {text(position.stop_loss or ZERO)} is watched again: {why}.",
        now,
        position_id=position.id,
    )


def position_closed(session: AsyncSession, position: Position, now: datetime) -> None:
    """Nothing is left of a position but its result."""
    reason = position.close_reason or CloseReason.DUST
    realized = text(stored(position.realized_pnl))
    rest = f" {text(position.dust)} was too small to sell and stays as dust." if position.dust else ""
    _tell(
        session,
        position,
        NotificationType.CLOSE,
        f"{position.symbol}: {position.side} closed ({reason})",
        f"Closed {text(position.quantity)} {position.symbol}: realised {realized} {position.currency} "
        f"after fees.{rest}",
        now,
        position_id=position.id,
        close_reason=reason,
        realized_pnl=realized,
        currency=position.currency,
    )


def left_without_us(session: AsyncSession, execution: Execution, order: Order, now: datetime) -> None:
    """Something of a position was closed by hand at the venue, or by the venue itself."""
    forced = order.reason is CloseReason.LIQUIDATION
    who = "The venue liquidated" if forced else "Closed outside the engine:"
    guess = "" if order.fees_complete else " No trade accounts for it, so the price is the last one seen."
    _tell(
        session,
        execution,
        NotificationType.LIQUIDATION if forced else NotificationType.CLOSE,
        f"{order.symbol}: {'liquidated' if forced else 'closed outside the engine'}",
        f"{who} {text(order.filled_quantity)} {order.symbol} at {text(order.average_price or ZERO)}.{guess}",
        now,
        position_id=order.position_id,
        quantity=text(order.filled_quantity),
        reason=order.reason or CloseReason.EXTERNAL,
    )


def size_added(session: AsyncSession, position: Position, now: datetime) -> None:
    """The account holds more in a symbol than we opened."""
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: more is held than the engine opened",
        f"The account holds {text(position.foreign_quantity)} {position.symbol} beyond the engine's position. "
        "It is yours: the engine neither protects nor closes it.",
        now,
        position_id=position.id,
        foreign_quantity=text(position.foreign_quantity),
    )


def delisted(session: AsyncSession, position: Position, now: datetime) -> None:
    """The venue no longer lists the symbol of an open position."""
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: no longer traded at the venue",
        f"The venue no longer lists {position.symbol}. The engine can neither protect nor close the "
        f"{text(position.remaining_quantity)} still held; please look there.",
        now,
        position_id=position.id,
    )


def moved_by_hand(session: AsyncSession, position: Position, what: str, order: Order, now: datetime) -> None:
    """An order of ours was changed at the venue, and the plan follows."""
    price = order.trigger_price if what == "stop-loss" else order.price
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: {what} moved at the venue",
        f"The {what} was moved to {text(price or ZERO)} at the venue; the exit plan follows it.",
        now,
        position_id=position.id,
        order_id=str(order.id),
    )


def stop_resized(session: AsyncSession, position: Position, order: Order, now: datetime) -> None:
    """The owner gave our stop another size: it is replaced by one for all that is held."""
    held = text(position.remaining_quantity)
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: stop-loss resized at the venue",
        f"The stop-loss of {position.symbol} at {text(order.trigger_price or ZERO)} was changed to "
        f"{text(order.quantity)} at the venue; the engine lets it cover all {held} that is held.",
        now,
        position_id=position.id,
        order_id=str(order.id),
    )


def target_resized(session: AsyncSession, position: Position, order: Order, now: datetime) -> None:
    """The owner gave a target of ours another size, and the plan follows."""
    _tell(
        session,
        position,
        NotificationType.RISK,
        f"{position.symbol}: take-profit resized at the venue",
        f"The take-profit of {position.symbol} at {text(order.price or ZERO)} was changed to "
        f"{text(order.quantity)} at the venue; the exit plan follows it.",
        now,
        position_id=position.id,
        order_id=str(order.id),
    )


def entry_resized(
    session: AsyncSession, execution: Execution, order: Order, before: Decimal, now: datetime
) -> None:
    """The owner gave an entry that rests another size."""
    _tell(
        session,
        execution,
        NotificationType.RISK,
        f"{order.symbol}: entry resized at the venue",
        f"The {order.side} of {text(before)} {order.symbol} was changed to {text(order.quantity)} at the venue; "
        "whatever it fills is protected.",
        now,
        position_id=order.position_id,
        order_id=str(order.id),
    )


def _tell(
    session: AsyncSession,
    about: Execution | Position,
    kind: NotificationType,
    title: str,
    message: str,
    now: datetime,
    *,
    position_id: UUID | None = None,
    **data: str,
) -> None:
    execution_id = about.execution_id if isinstance(about, Position) else about.id
    notify(
        session,
        about.owner,
        kind,
        title,
        message,
        now=now,
        data={"execution_id": str(execution_id), **data},
        connection_id=about.connection_id,
        signal_id=about.signal_id,
        position_id=position_id,
    )
