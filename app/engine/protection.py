"""Protection: the venue's protective orders are brought in line with the exit plan of a position.

What the plan wants is computed from the position as it stands; what stands at the venue is compared with it;
the difference is cancelled, confirmed, and placed. Running it again when all is well changes nothing.
While venue and plan differ the monitor watches the position itself (`protection: software`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select

from app.brokers.port import Broker
from app.desk import Desk
from app.domain.errors import Conflict
from app.domain.exits import CloseReason, NativeStyle, Protection, ProtectiveOrder
from app.domain.money import ZERO, round_to_tick, text
from app.domain.orders import Leg, OrderStatus, Purpose
from app.domain.owners import Owner
from app.domain.positions import PositionStatus
from app.domain.signals import Level, check_sides, ladder_of
from app.engine import endings, ladders, legs, naming, placing, projecting, telling, trades
from app.engine.access import broker_of
from app.engine.legs import Difference
from app.engine.trades import Trade
from app.store.audit import Action
from app.store.connections import Connection
from app.store.orders import Order
from app.store.positions import Position
from app.store.schema import new_id
from app.store.signals import levels_of

log = structlog.get_logger(__name__)

AGAIN = timedelta(seconds=2)
"""When to look again while an order of ours is still undecided."""

DOUBT = timedelta(minutes=2)
"""How long orders are held back while the venue seems to hold less than ours; our monitor watches meanwhile."""

ROUNDS = 6
"""Compare-and-mend rounds of one run; what takes longer is taken up by the sweep."""


@dataclass(frozen=True, slots=True)
class PlanChange:
    """An edit of an exit plan; `fields` says which of the two it names (null takes it away)."""

    fields: frozenset[str]
    stop_loss: Decimal | None = None
    take_profits: tuple[tuple[Decimal, Decimal | None], ...] = ()


async def after(desk: Desk, execution_id: UUID) -> None:
    """Protect what an execution has opened, if it has opened anything that needs it."""
    async with desk.sessions() as session:
        position_id = await session.scalar(
            select(Position.id).where(
                Position.execution_id == execution_id, Position.protect_due_at.is_not(None)
            )
        )
    if position_id is not None:
        await protect(desk, position_id)


async def protect(desk: Desk, position_id: UUID) -> None:
    """Bring the venue's protective orders in line with the plan of one position."""
    async with desk.sessions() as session:
        row = (
            await session.execute(
                select(Position.execution_id, Position.signal_id, Connection)
                .join(Connection, Connection.id == Position.connection_id)
                .where(Position.id == position_id, Connection.deleted_at.is_(None))
            )
        ).one_or_none()
    if row is None:
        return
    execution_id, signal_id, connection = row
    with naming.bound(signal_id, execution_id, connection.id):
        broker = await broker_of(desk, connection)
        for _ in range(ROUNDS):
            difference = await _compare(desk, broker, execution_id)
            if difference is None:
                return
            if not await _mend(desk, broker, execution_id, difference):
                return


async def _compare(desk: Desk, broker: Broker, execution_id: UUID) -> Difference | None:
    """What differs between plan and venue; None when nothing does, or nothing can be done about it now."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        position = trade.position
        if position is None:
            return None
        if trade.live_close is not None:
            # A close under way owns the legs; it asks for protection of the rest when it ends.
            _watch_beside(trade, position, now)
            return None
        style = broker.traits.native_style
        difference = legs.difference(trade, position, style)
        undecided = [
            order for order in legs.standing(trade, position) if order.status is not OrderStatus.OPEN
        ]
        if undecided:
            if legs.hold_the_stop(trade, position, difference) and position.stop_doubted_at is None:
                # A target in doubt, which some venues never resolve, is no reason to sell what its stop protects.
                position.secure(now)
            position.protect_due_at = now + AGAIN
            return None
        if style is NativeStyle.ATTACHED:
            difference = _without_replaced(trade, difference, now)
        if not difference.surplus and not difference.missing:
            _settle(trade, position, now)
            return None
        is_closed = position.status is PositionStatus.CLOSED
        if difference.moves_a_stop and not is_closed and not _stands_meanwhile(difference, style):
            position.expose(now, legs.bare_since(difference.surplus, style, now))
        if position.protection is Protection.NATIVE:
            position.protection = Protection.SOFTWARE
        position.protect_due_at = now + AGAIN
        if is_in_doubt(position, now):
            # Whoever closed it by hand took its orders with it: they are put back once it is clear what is left.
            position.give_time(now)
            return None
    return difference


def _stands_meanwhile(difference: Difference, style: NativeStyle) -> bool:
    """Whether the stop that is to be replaced protects until the very moment at which the new one does."""
    replaced = bool(difference.missing) and any(leg.trigger_price is not None for leg in difference.surplus)
    return style is NativeStyle.ATTACHED and replaced


def is_in_doubt(position: Position, now: datetime) -> bool:
    """Whether the venue seems to hold less than ours, and it is not clear yet what is left to protect."""
    return position.missing_since is not None and now - position.missing_since < DOUBT


def _without_replaced(trade: Trade, difference: Difference, now: datetime) -> Difference:
    """Let go of legs that another one has replaced: to set it was to take them off, and there is nothing to cancel."""
    stand = [leg for leg in trade.live_protection if leg not in difference.surplus]
    if difference.missing or not stand:
        return difference
    for leg in difference.surplus:
        endings.supersede(trade, leg, now)
    return replace(difference, surplus=())


def _watch_beside(trade: Trade, position: Position, now: datetime) -> None:
    """Let our monitor watch a position whose close has taken its legs away and waits to be sent again."""
    close = trade.live_close
    if close is not None and close.status is OrderStatus.PENDING and not trade.live_protection:
        _settle(trade, position, now)


def _settle(trade: Trade, position: Position, now: datetime) -> None:
    """Plan and venue agree: say who protects the position now.

    Our monitor does so only when it has seen a price: until then the position counts as unprotected, unless the venue
    holds an earlier stop below it.
    """
    position.protect_due_at = None
    if position.stop_doubted_at is not None and legs.were_taken_since(trade, position.stop_doubted_at):
        position.stop_doubted_at = None
        telling.watched_again(trade.session, position, "the venue has taken it anew", now)
    has_plan = position.stop_loss is not None or bool(position.rungs_left)
    if position.status is PositionStatus.CLOSED or not has_plan:
        position.protection = Protection.NONE
    elif legs.hold_the_plan(trade, position) and position.stop_doubted_at is None:
        position.protection = Protection.NATIVE
        position.secure(now)
        if position.stop_lost_at is not None and position.stop_loss is not None:
            telling.stop_put_back(trade.session, position, now)
        if position.price_lost_at is not None:
            telling.watched_again(trade.session, position, "the venue holds it", now)
            position.price_lost_at = None
    else:
        position.protection = Protection.SOFTWARE if position.at_hand else Protection.NONE
        if legs.hold_a_net(trade) and position.stop_doubted_at is None:
            position.secure(now)
        elif position.protected_at is None and not position.is_out_of_sight:
            position.expose(now)
    if position.status is PositionStatus.CLOSED or position.stop_loss is None:
        position.end_exposure(now)
        position.price_lost_at = position.stop_doubted_at = None
    position.stop_lost_at = None


async def _mend(desk: Desk, broker: Broker, execution_id: UUID, difference: Difference) -> bool:
    """Cancel what is too much, then place what is missing; False when it has to be tried later."""
    is_attached = broker.traits.native_style is NativeStyle.ATTACHED
    replaces = is_attached and bool(difference.missing)
    for order in () if replaces else difference.surplus:
        stays = is_attached and difference.has_ended and order.purpose is Purpose.PROTECTION
        take_off = placing.release if stays else placing.cancel
        if not await take_off(desk, broker, order):
            return False
    if difference.surplus and not replaces:
        # A cancelled leg may have been filled in part: what is missing is computed afresh.
        return True
    sent = []
    for leg in difference.missing:
        claimed = await _claim_leg(desk, broker, execution_id, leg)
        if claimed is None:
            return True
        await placing.send(desk, broker, claimed)
        sent.append(claimed.id)
    return await _accept_outcome(desk, execution_id, sent)


async def _claim_leg(desk: Desk, broker: Broker, execution_id: UUID, leg: ProtectiveOrder) -> Order | None:
    """Store the intent of one leg; None when the position has changed and the plan has to be read again."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        position, entry = trade.position, trade.entry
        if position is None or entry is None or trade.live_close is not None or is_in_doubt(position, now):
            return None
        if leg not in legs.difference(trade, position, broker.traits.native_style).missing:
            return None
        order = Order(
            id=new_id(),
            connection_id=position.connection_id,
            execution_id=execution_id,
            position_id=position.id,
            purpose=Purpose.PROTECTION,
            symbol=entry.symbol,
            base=entry.base,
            currency=entry.currency,
            side=position.side.entry_side.opposite,
            type=leg.type,
            quantity=leg.quantity,
            price=leg.target,
            trigger_price=leg.stop,
            handle=position.handle,
            trigger_source=position.trigger_source,
            reduce_only=True,
            reserved=ZERO,
            plan_revision=position.plan_revision,
            attempt=0,
            filled_quantity=ZERO,
            fees={},
            created_at=now,
        )
        placing.claim(order, broker, now)
        session.add(order)
    return order


async def _accept_outcome(desk: Desk, execution_id: UUID, sent: Sequence[UUID]) -> bool:
    """Look at what became of the legs just sent; True when plan and venue can be compared again at once.

    What a venue refuses of a plan (it would trigger at once, it takes no such order) is ours to watch until the plan
    changes; one that could not be reached is asked again in a moment.
    """
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        position = trade.position
        orders = [order for order in trade.orders if order.id in sent]
        failed = [order for order in orders if order.status is OrderStatus.REJECTED]
        if position is None:
            return True
        if not failed:
            if position.refused_leg is Leg.STOP and legs.follow_a_refusal(trade, orders):
                telling.earlier_stop_back(session, position, orders[0], now)
            return True
        refused_leg = legs.refused(failed)
        if refused_leg is None:
            position.protect_due_at = now + AGAIN
            return False
        position.refused_leg = refused_leg
        position.protect_due_at = now
        log.warning("protection_refused", **naming.of_position(position), leg=refused_leg)
        return True


async def edit_plan(desk: Desk, owner: Owner, position_id: UUID, changes: PlanChange) -> Position:
    """Change stop-loss or take-profits of an open position. New ladders apply to what remains.

    Raises NotFound, Conflict when it is closed or closing, Invalid for prices on the wrong side.
    """
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade, position = await trades.locked_for(session, owner, position_id)
        if position.status is not PositionStatus.OPEN:
            raise Conflict("conflict", "The position is closed or being closed.")
        before = _plan(position)
        _change(position, changes)
        trades.write_down(trade, Action.EDIT, owner, now, before=before, after=_plan(position))
        position.protect_due_at = now
        position.replan()
        projecting.refresh(trade, now)
    await desk.queue.protect(position_id)
    return position


def _plan(position: Position) -> dict[str, Any]:
    """The exit plan as the audit keeps it."""
    stop = None if position.stop_loss is None else text(position.stop_loss)
    return {"stop_loss": stop, "take_profits": position.levels}


def _change(position: Position, changes: PlanChange) -> None:
    """Put the named fields on the position; both are checked against the last price, and against each other."""
    side, tick = position.side.entry_side, position.price_tick
    reference = position.current_price or position.entry_price
    if "take_profits" in changes.fields:
        levels = [
            Level(round_to_tick(level.price, tick), level.portion)
            for level in ladder_of(changes.take_profits, side)
        ]
        check_sides(side, reference, None, levels)
        ladders.set_ladder(position, levels)
    if "stop_loss" in changes.fields:
        stop = None if changes.stop_loss is None else round_to_tick(changes.stop_loss, tick)
        check_sides(side, reference, stop, levels_of(position.levels) if position.rungs_left else ())
        position.stop_loss, position.stop_reason = stop, CloseReason.STOP_LOSS
    position.edited = sorted({*position.edited, *changes.fields})
