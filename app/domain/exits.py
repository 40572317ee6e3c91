"""Exits: where a position is left. The ladder of take-profits, the orders that protect it, and what a price means."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from app.domain.money import ZERO, exact, floor_to_step, text
from app.domain.orders import OrderType, Side
from app.domain.signals import Level


class CloseReason(StrEnum):
    """Why a position ended; with several exits, the last one's."""

    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"
    TRAILING_STOP = "trailing_stop"
    MANUAL = "manual"
    SIGNAL = "signal"
    LIQUIDATION = "liquidation"
    EXTERNAL = "external"
    RISK = "risk"
    TIMEOUT = "timeout"
    DUST = "dust"


class Protection(StrEnum):
    """Who watches over a position's stop and targets: the venue, our monitor, or nobody: it has none, or nothing of it
    is left for certain."""

    NATIVE = "native"
    SOFTWARE = "software"
    NONE = "none"


class NativeStyle(StrEnum):
    """What a venue can hold of an exit plan at the same time."""

    BRACKET = "bracket"
    """A stop and a target as one order, for each rung; whichever is reached first takes the quantity."""
    STOP_AND_TARGETS = "stop_and_targets"
    """One stop for everything beside a target for each rung: orders that only reduce do not hold each other up."""
    STOP_ONLY = "stop_only"
    """One stop for everything; targets are our monitor's to watch."""
    ATTACHED = "attached"
    """A stop and the last target on the position itself, for whatever is left of it: setting them again replaces
    both at once, and a close finds them no obstacle. Nearer targets are our monitor's to watch."""
    NONE = "none"
    """Nothing."""


@dataclass(frozen=True, slots=True)
class Grain:
    """How finely what is held can be cut at the venue, and how small an exit may be."""

    quantity_step: Decimal
    min_quantity: Decimal
    min_notional: Decimal | None

    @exact
    def takes(self, quantity: Decimal, price: Decimal) -> bool:
        """Whether the venue takes an exit of `quantity`, of which an order can name whole steps, at `price`."""
        order = floor_to_step(quantity, self.quantity_step)
        if order <= ZERO or order < self.min_quantity:
            return False
        return self.min_notional is None or order * price >= self.min_notional


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a ladder as it can really be placed: at `price`, close `quantity` (base units)."""

    price: Decimal
    quantity: Decimal


@exact
def ladder(
    levels: Sequence[Level], quantity: Decimal, stop: Decimal | None, grain: Grain
) -> tuple[Rung, ...]:
    """Cut the filled `quantity` (net of base-coin fees) into rungs the venue takes.

    Each rung is checked at its own price and, since its stop leg closes the same quantity, at the stop's. A rung
    too small joins the next farther one, the last the previous. Portions that add up to 1 leave nothing over.
    """
    rungs: list[Rung] = []
    carried, left = ZERO, quantity
    all_out = sum((level.portion for level in levels), ZERO) == 1
    for number, level in enumerate(levels, 1):
        last = number == len(levels)
        part = left - carried if last and all_out else min(quantity * level.portion, left - carried)
        wanted = floor_to_step(carried + part, grain.quantity_step)
        if grain.takes(wanted, level.price if stop is None else min(level.price, stop)):
            rungs.append(Rung(level.price, wanted))
            left -= wanted
            carried = ZERO
        else:
            carried += part
    if carried and rungs:
        rungs[-1] = Rung(rungs[-1].price, rungs[-1].quantity + floor_to_step(carried, grain.quantity_step))
    return tuple(rungs)


def merging(levels: Sequence[Level], rungs: Sequence[Rung]) -> str | None:
    """What became of levels that are too small to be orders of their own, in words; None where there are none.

    `rungs` is what `ladder` made of `levels`.
    """
    if not levels or not rungs:
        return None if not levels else "Every take-profit is too small for the venue, so none is placed."
    joined: dict[Decimal, list[Decimal]] = {}
    own = [rung.price for rung in rungs]
    for number, level in enumerate(levels):
        if level.price not in own:
            farther = next((later.price for later in levels[number:] if later.price in own), own[-1])
            joined.setdefault(farther, []).append(level.price)
    sentences = [
        f"The take-profit at {text(prices[0])} is too small by itself and joins the one at {text(target)}."
        if len(prices) == 1
        else f"The take-profits at {', '.join(map(text, prices))} are too small by themselves and join the one "
        f"at {text(target)}."
        for target, prices in joined.items()
    ]
    return " ".join(sentences) or None


@dataclass(frozen=True, slots=True)
class ProtectiveOrder:
    """One order that waits at the venue: a stop, a target, or both with the same quantity."""

    type: OrderType
    quantity: Decimal
    stop: Decimal | None
    target: Decimal | None


def protective_orders(
    rungs: Sequence[Rung],
    remaining: Decimal,
    stop: Decimal | None,
    grain: Grain,
    style: NativeStyle = NativeStyle.BRACKET,
) -> tuple[ProtectiveOrder, ...]:
    """The orders that protect `remaining` at a venue of this style. Nothing ever stands without its stop."""
    match style:
        case NativeStyle.BRACKET:
            return _brackets(rungs, remaining, stop, grain)
        case NativeStyle.STOP_AND_TARGETS:
            return _stop_for_all(remaining, stop, grain) + tuple(
                ProtectiveOrder(OrderType.TAKE_PROFIT, rung.quantity, None, rung.price) for rung in rungs
            )
        case NativeStyle.STOP_ONLY:
            return _stop_for_all(remaining, stop, grain)
        case NativeStyle.ATTACHED:
            return _attached(rungs, remaining, stop)
        case NativeStyle.NONE:
            return ()


@exact
def final_target(rungs: Sequence[Rung], remaining: Decimal) -> Decimal | None:
    """The price of the last rung, where it ends the position: nothing is left over once all rungs are taken."""
    if not rungs or sum((rung.quantity for rung in rungs), ZERO) < remaining:
        return None
    return rungs[-1].price


def _attached(rungs: Sequence[Rung], remaining: Decimal, stop: Decimal | None) -> tuple[ProtectiveOrder, ...]:
    target = final_target(rungs, remaining)
    if remaining <= ZERO or (stop is None and target is None):
        return ()
    kind = OrderType.STOP if target is None else OrderType.TAKE_PROFIT if stop is None else OrderType.OCO
    return (ProtectiveOrder(kind, remaining, stop, target),)


def targets_beside(rungs: Sequence[Rung], remaining: Decimal, style: NativeStyle) -> tuple[Rung, ...]:
    """The rungs that are our monitor's to watch although the venue protects the position."""
    match style:
        case NativeStyle.STOP_ONLY:
            return tuple(rungs)
        case NativeStyle.ATTACHED:
            return tuple(rungs) if final_target(rungs, remaining) is None else tuple(rungs[:-1])
        case _:
            return ()


def _stop_for_all(remaining: Decimal, stop: Decimal | None, grain: Grain) -> tuple[ProtectiveOrder, ...]:
    quantity = floor_to_step(remaining, grain.quantity_step)
    if stop is None or not grain.takes(quantity, stop):
        return ()
    return (ProtectiveOrder(OrderType.STOP, quantity, stop, None),)


@exact
def _brackets(
    rungs: Sequence[Rung], remaining: Decimal, stop: Decimal | None, grain: Grain
) -> tuple[ProtectiveOrder, ...]:
    """One order per rung with its own stop leg, and a stop for what no rung covers.

    A remainder too small for an order of its own joins the farthest rung, so that nothing stands without a stop;
    what too little is left of a rung joins the next farther one, of the last the previous. Where less remains than
    the rungs would take, the nearest come first.
    """
    steps: list[Rung] = []
    rest = floor_to_step(remaining, grain.quantity_step)
    carried = ZERO
    for rung in rungs:
        quantity = floor_to_step(min(rung.quantity + carried, rest), grain.quantity_step)
        if grain.takes(quantity, rung.price if stop is None else min(rung.price, stop)):
            steps.append(Rung(rung.price, quantity))
            rest -= quantity
            carried = ZERO
        else:
            carried = quantity
    if steps and carried:
        steps[-1] = Rung(steps[-1].price, steps[-1].quantity + carried)
        rest -= carried
    if steps and rest > ZERO and stop is not None and not grain.takes(rest, stop):
        steps[-1] = Rung(steps[-1].price, steps[-1].quantity + rest)
        rest = ZERO
    kind = OrderType.TAKE_PROFIT if stop is None else OrderType.OCO
    orders = [ProtectiveOrder(kind, rung.quantity, stop, rung.price) for rung in steps]
    if stop is not None and rest > ZERO:
        orders.append(ProtectiveOrder(OrderType.STOP, rest, stop, None))
    return tuple(orders)


@dataclass(frozen=True, slots=True)
class Plan:
    """When to leave a position that our monitor watches."""

    side: Side
    """The side that opened it."""
    remaining: Decimal
    stop_loss: Decimal | None
    rungs: tuple[Rung, ...]
    """What is still to be taken, nearest first."""
    stop_reason: CloseReason = CloseReason.STOP_LOSS
    """What leaving at the stop is called."""


@dataclass(frozen=True, slots=True)
class Exit:
    """Leave `quantity` now, for `reason`."""

    reason: CloseReason
    quantity: Decimal


@exact
def decide(plan: Plan, mark: Decimal) -> Exit | None:
    """What the price `mark` (bid for longs, ask for shorts) asks for. The stop goes before any target."""
    sign = plan.side.sign
    if plan.stop_loss is not None and mark * sign <= plan.stop_loss * sign:
        return Exit(plan.stop_reason, plan.remaining)
    reached = sum((rung.quantity for rung in plan.rungs if mark * sign >= rung.price * sign), ZERO)
    if reached > ZERO:
        return Exit(CloseReason.TAKE_PROFIT, min(reached, plan.remaining))
    return None
