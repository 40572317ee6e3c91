"""Legs: the protective orders that stand at the venue for a position, beside those that should."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from app.domain.exits import NativeStyle, ProtectiveOrder, Rung, protective_orders
from app.domain.money import ZERO, exact
from app.domain.orders import Leg, OrderStatus, OrderType, Purpose
from app.domain.positions import PositionStatus
from app.engine.trades import NEVER_ARRIVED, Trade
from app.store.orders import Order
from app.store.positions import Position


@dataclass(frozen=True, slots=True)
class Difference:
    """What has to happen at the venue: first the cancels, each confirmed, then the placements."""

    surplus: Sequence[Order]
    missing: Sequence[ProtectiveOrder]
    has_ended: bool = False
    """Whether the position has, by our books."""

    @property
    def moves_a_stop(self) -> bool:
        """Whether some of the position is without its stop at the venue until this is mended."""
        return any(order.trigger_price is not None for order in self.surplus) or any(
            leg.stop is not None for leg in self.missing
        )


def standing(trade: Trade, position: Position) -> list[Order]:
    """Live orders at the venue that protection is responsible for: of a closed position also a rest of its entry."""
    entry = trade.entry
    rest = position.remaining_quantity == ZERO and entry is not None and entry.is_live
    return trade.live_protection + ([entry] if rest and entry is not None else [])


def difference(trade: Trade, position: Position, style: NativeStyle) -> Difference:
    """What differs between the plan and what stands."""
    wanted = list(_wanted(trade, position, style))
    surplus = []
    for order in standing(trade, position):
        leg = _as_wanted(order)
        if style is NativeStyle.ATTACHED:
            leg = replace(leg, quantity=position.remaining_quantity)
        if leg in wanted and not _has_lost_its_stop(order, style):
            wanted.remove(leg)
        elif style is not NativeStyle.ATTACHED or not _is_net(position, order):
            surplus.append(order)
    return Difference(surplus, wanted, position.status is PositionStatus.CLOSED)


def bare_since(surplus: Sequence[Order], style: NativeStyle, now: datetime) -> datetime | None:
    """Since when the rest of a bracket stands without its stop; None where none of these has lost it."""
    lost = [order.filled_at or now for order in surplus if _has_lost_its_stop(order, style)]
    return min(lost, default=None)


def hold_the_plan(trade: Trade, position: Position) -> bool:
    """Whether the venue watches over a position: it has the plan's stop, or the targets of a plan without one."""
    if not position.native or position.refused_leg is Leg.STOP:
        return False
    return any(position.stop_loss in (None, order.trigger_price) for order in trade.live_protection)


def hold_the_stop(trade: Trade, position: Position, difference: Difference) -> bool:
    """Whether the plan's stop stands at the venue for all that is held, whatever is in doubt beside it."""
    stops = [order for order in trade.live_protection if order.trigger_price is not None]
    stands = bool(stops) and all(order.status is OrderStatus.OPEN for order in stops)
    return stands and not difference.moves_a_stop and hold_the_plan(trade, position)


def hold_a_net(trade: Trade) -> bool:
    """Whether a stop stands at the venue, be it the plan's or an earlier one."""
    return any(order.trigger_price is not None for order in trade.live_protection)


def were_taken_since(trade: Trade, moment: datetime) -> bool:
    """Whether the venue has acknowledged every stop that stands since then."""
    taken = [order.acknowledged_at for order in trade.live_protection if order.trigger_price is not None]
    return bool(taken) and all(at is not None and at >= moment for at in taken)


def refused(sent: Sequence[Order]) -> Leg | None:
    """Which leg the venue will not hold, by the orders it has refused; None where it has refused none.

    Of a stop and a target in one order it is the target: the stop by itself has not been tried.
    """
    orders = [each for each in sent if _is_refused(each)]
    if any(each.price is None for each in orders):
        return Leg.STOP
    return Leg.TARGET if orders else None


def refused_since(trade: Trade, moment: datetime) -> bool:
    """Whether the venue has refused a protective order since then."""
    return any(
        order.purpose is Purpose.PROTECTION and _is_refused(order) and order.updated_at >= moment
        for order in trade.orders
    )


def follow_a_refusal(trade: Trade, sent: Sequence[Order]) -> bool:
    """Whether one of these is the earlier stop, back at the venue right after that has refused the plan's."""
    stops = _stops(trade)
    return any(
        after.status is OrderStatus.OPEN and after in sent and _is_refused(before)
        for before, after in pairwise(stops)
    )


def _has_lost_its_stop(order: Order, style: NativeStyle) -> bool:
    """Whether a bracket's target has begun to be filled: its venue has ended the stop, and the rest stands bare."""
    return style is NativeStyle.BRACKET and order.type is OrderType.OCO and order.filled_quantity > ZERO


def _is_refused(order: Order) -> bool:
    return order.status is OrderStatus.REJECTED and order.code != NEVER_ARRIVED


def _was_taken(order: Order) -> bool:
    return order.status is not OrderStatus.REJECTED and order.acknowledged_at is not None


def _stops(trade: Trade) -> list[Order]:
    """Every protective order with a stop, oldest first."""
    return [
        order
        for order in trade.orders
        if order.purpose is Purpose.PROTECTION and order.trigger_price is not None
    ]


def _is_net(position: Position, order: Order) -> bool:
    """Whether a leg stays as a net below our monitor, because the venue took it and refused a newer plan."""
    is_ours_to_watch = not position.native or position.refused_leg is Leg.STOP
    is_leg = order.purpose is Purpose.PROTECTION
    return is_leg and is_ours_to_watch and position.status is not PositionStatus.CLOSED


def _wanted(trade: Trade, position: Position, style: NativeStyle) -> Sequence[ProtectiveOrder]:
    remaining, grain = position.at_hand, position.grain
    if position.status is PositionStatus.CLOSED or not position.native:
        return ()
    if position.refused_leg is Leg.STOP:
        # What is set on a position is replaced by what follows it, never taken away: it stands still.
        net = None if style is NativeStyle.ATTACHED else _net(trade, position)
        return protective_orders((), remaining, net, grain, style)
    rungs = () if position.refused_leg is Leg.TARGET else capped(position.rungs_left, remaining)
    return protective_orders(rungs, remaining, position.stop_loss, grain, style)


def _net(trade: Trade, position: Position) -> Decimal | None:
    """The stop that the venue took last, where it refused the plan's; None once it refuses that, or it is crossed."""
    earlier = [each for each in _stops(trade) if each.trigger_price != position.stop_loss]
    taken = next((each for each in reversed(earlier) if _was_taken(each)), None)
    price = None if taken is None else taken.trigger_price
    if taken is None or price is None or position.stop_loss is None:
        return None
    present, sign = position.current_price or position.entry_price, position.side.entry_side.sign
    later = earlier[earlier.index(taken) :]
    is_refused = any(_is_refused(each) and each.trigger_price == price for each in later)
    return None if is_refused or price * sign >= present * sign else price


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
