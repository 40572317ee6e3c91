"""Which orders protect a position, by what a venue can hold at the same time."""

from decimal import Decimal

import pytest

from app.domain.exits import Grain, NativeStyle, ProtectiveOrder, Rung, protective_orders
from app.domain.orders import OrderType

GRAIN = Grain(Decimal("0.01"), Decimal("0.01"), Decimal(5))
RUNGS = (Rung(Decimal(110), Decimal("0.4")), Rung(Decimal(120), Decimal("0.3")))
ONE, STOP = Decimal(1), Decimal(90)

STOP_FOR_ALL = ProtectiveOrder(OrderType.STOP, ONE, STOP, None)
TARGETS = tuple(ProtectiveOrder(OrderType.TAKE_PROFIT, rung.quantity, None, rung.price) for rung in RUNGS)
BRACKETS = tuple(ProtectiveOrder(OrderType.OCO, rung.quantity, STOP, rung.price) for rung in RUNGS)
REST = ProtectiveOrder(OrderType.STOP, Decimal("0.3"), STOP, None)


@pytest.mark.parametrize(
    ("style", "orders"),
    [
        (NativeStyle.BRACKET, (*BRACKETS, REST)),
        (NativeStyle.STOP_AND_TARGETS, (STOP_FOR_ALL, *TARGETS)),
        (NativeStyle.STOP_ONLY, (STOP_FOR_ALL,)),
        (NativeStyle.NONE, ()),
    ],
)
def test_a_style_decides_what_stands(style: NativeStyle, orders: tuple[ProtectiveOrder, ...]) -> None:
    assert protective_orders(RUNGS, ONE, STOP, GRAIN, style) == orders


def test_without_a_stop_only_targets_stand() -> None:
    assert protective_orders(RUNGS, ONE, None, GRAIN, NativeStyle.STOP_AND_TARGETS) == TARGETS
    assert protective_orders(RUNGS, ONE, None, GRAIN, NativeStyle.STOP_ONLY) == ()


@pytest.mark.parametrize("style", [NativeStyle.STOP_AND_TARGETS, NativeStyle.STOP_ONLY])
def test_a_stop_too_small_for_the_venue_is_left_to_the_monitor(style: NativeStyle) -> None:
    assert protective_orders((), Decimal("0.05"), STOP, GRAIN, style) == ()
