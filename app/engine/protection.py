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
from app.domain.exits import CloseReason, NativeStyle, Protection, ProtectiveOrder, Rung, protective_orders
from app.domain.money import ZERO, exact, round_to_tick, text
from app.domain.orders import OrderStatus, Purpose
from app.domain.owners import Owner
from app.domain.positions import PositionStatus
from app.domain.signals import Level, check_sides, ladder_of
from app.engine import naming, placing, telling, trades
from app.engine.access import broker_of
from app.engine.trades import NEVER_ARRIVED, Trade
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

ROUNDS = 4
"""Compare-and-mend rounds of one run; what takes longer is taken up by the sweep."""


@dataclass(frozen=True, slots=True)
class PlanChange:
    """An edit of an exit plan; `fields` says which of the two it names (null takes it away)."""

    fields: frozenset[str]
    stop_loss: Decimal | None = None
    take_profits: tuple[tuple[Decimal, Decimal | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """What has to happen at the venue: first the cancels, each confirmed, then the placements."""

    surplus: Sequence[Order]
    missing: Sequence[ProtectiveOrder]

    @property
    def moves_a_stop(self) -> bool:
        """Whether some of the position is without its stop at the venue until this is mended."""
        return any(order.trigger_price is not None for order in self.surplus) or any(
            leg.stop is not None for leg in self.missing
        )


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
        difference = _difference(trade, position, broker.traits.native_style)
        undecided = [order for order in _legs(trade, position) if order.status is not OrderStatus.OPEN]
        if undecided:
            position.protect_due_at = now + AGAIN
            return None
        if not difference.surplus and not difference.missing:
            _settle(trade, position, now)
            return None
        if difference.moves_a_stop:
            position.expose(now)
        if position.protection is Protection.NATIVE:
            position.protection = Protection.SOFTWARE
        position.protect_due_at = now + AGAIN
        if is_in_doubt(position, now):
            # Whoever closed it by hand took its orders with it: they are put back once it is clear what is left.
            position.give_time(now)
            return None
    return difference


def is_in_doubt(position: Position, now: datetime) -> bool:
    """Whether the venue seems to hold less than ours, and it is not clear yet what is left to protect."""
    return position.missing_since is not None and now - position.missing_since < DOUBT


def _legs(trade: Trade, position: Position) -> list[Order]:
    """Live orders at the venue that protection is responsible for: of a closed position also a rest of its entry."""
    entry = trade.entry
    rest = position.remaining_quantity == ZERO and entry is not None and entry.is_live
    return trade.live_protection + ([entry] if rest and entry is not None else [])


def _difference(trade: Trade, position: Position, style: NativeStyle) -> Difference:
    wanted = list(_wanted(position, style))
    surplus = []
    for order in _legs(trade, position):
        leg = _as_wanted(order)
        if style is NativeStyle.ATTACHED:
            leg = replace(leg, quantity=position.remaining_quantity)
        if leg in wanted:
            wanted.remove(leg)
        elif style is not NativeStyle.ATTACHED or not _is_net(position, order):
            surplus.append(order)
    return Difference(surplus, wanted)


def _is_net(position: Position, order: Order) -> bool:
    """Whether a leg stays as a net below our monitor, because the venue took it and refused a newer plan."""
    is_leg = order.purpose is Purpose.PROTECTION
    return is_leg and not position.native and position.status is not PositionStatus.CLOSED


def _wanted(position: Position, style: NativeStyle) -> Sequence[ProtectiveOrder]:
    if position.status is PositionStatus.CLOSED or not position.native:
        return ()
    rungs = capped(position.rungs_left, position.at_hand)
    return protective_orders(rungs, position.at_hand, position.stop_loss, position.grain, style)


@exact
def capped(rungs: Sequence[Rung], remaining: Decimal) -> tuple[Rung, ...]:
    """A ladder of never more than what remains, the nearest rungs first."""
    kept: list[Rung] = []
    for rung in rungs:
        quantity = min(rung.quantity, remaining)
        remaining -= quantity
        if quantity > ZERO:
            kept.append(Rung(rung.price, quantity))
    return tuple(kept)


@exact
def _as_wanted(order: Order) -> ProtectiveOrder:
    return ProtectiveOrder(
        order.type, order.quantity - order.filled_quantity, order.trigger_price, order.price
    )


def _watch_beside(trade: Trade, position: Position, now: datetime) -> None:
    """Let our monitor watch a position whose close has taken its legs away and waits to be sent again."""
    close = trade.live_close
    if close is not None and close.status is OrderStatus.PENDING and not trade.live_protection:
        _settle(trade, position, now)


def _settle(trade: Trade, position: Position, now: datetime) -> None:
    """Plan and venue agree: say who protects the position now.

    Our monitor does so only when it has seen a price: until then the position counts as unprotected.
    """
    position.protect_due_at = None
    if position.status is PositionStatus.CLOSED:
        position.protection = Protection.NONE
    elif position.native and trade.live_protection and _holds_the_stop(trade, position):
        position.protection = Protection.NATIVE
        position.secure(now)
        if position.stop_lost_at is not None and position.stop_loss is not None:
            telling.stop_put_back(trade.session, position, now)
    elif position.stop_loss is not None or position.rungs_left:
        if position.protected_at is None:
            position.expose(now)
        position.protection = Protection.SOFTWARE if position.at_hand else Protection.NONE
    else:
        position.protection = Protection.NONE
    if position.stop_loss is None:
        position.end_exposure(now)
    position.stop_lost_at = None


def _holds_the_stop(trade: Trade, position: Position) -> bool:
    """Whether the venue has the stop, where there is one: targets alone leave the watch with us."""
    return position.stop_loss is None or any(
        order.trigger_price is not None for order in trade.live_protection
    )


async def _mend(desk: Desk, broker: Broker, execution_id: UUID, difference: Difference) -> bool:
    """Cancel what is too much, then place what is missing; False when it has to be tried later."""
    replaces = broker.traits.native_style is NativeStyle.ATTACHED and bool(difference.missing)
    for order in () if replaces else difference.surplus:
        if not await placing.cancel(desk, broker, order):
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
        if leg not in _difference(trade, position, broker.traits.native_style).missing:
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
            trigger_source=None if leg.stop is None else position.trigger_source,
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

    A venue that refuses a leg (it would trigger at once, it takes no such order) leaves the whole position to our
    monitor; one that could not be reached is asked again in a moment.
    """
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        position = trade.position
        failed = [
            order for order in trade.orders if order.id in sent and order.status is OrderStatus.REJECTED
        ]
        if position is None or not failed:
            return True
        if all(order.code == NEVER_ARRIVED for order in failed):
            position.protect_due_at = desk.now() + AGAIN
            return False
        position.native = False
        position.protect_due_at = desk.now()
        log.warning("protection_refused", **naming.of_position(position))
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
        # Until the venue has acknowledged the new orders, the monitor watches the new plan.
        position.protection = Protection.SOFTWARE
        trades.refresh(trade, now)
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
        trades.set_ladder(position, levels)
    if "stop_loss" in changes.fields:
        stop = None if changes.stop_loss is None else round_to_tick(changes.stop_loss, tick)
        check_sides(side, reference, stop, levels_of(position.levels) if position.rungs_left else ())
        position.stop_loss, position.stop_reason = stop, CloseReason.STOP_LOSS
    position.edited = sorted({*position.edited, *changes.fields})
