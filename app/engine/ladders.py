"""Ladders: a position's take-profit levels as its row keeps them, and what of each rung has been taken."""

from collections.abc import Sequence
from decimal import Decimal

from app.domain.exits import CloseReason, Rung, ladder
from app.domain.money import ZERO, exact, text
from app.domain.positions import rungs_left
from app.domain.signals import Level
from app.store.orders import Order
from app.store.positions import Position
from app.store.signals import levels_of


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


@exact
def cut(position: Position, all_orders: Sequence[Order]) -> list[dict[str, str]]:
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
