"""Exits: how a ladder is cut, which orders protect a position, and what a price asks for."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.exits import (
    CloseReason,
    Exit,
    Grain,
    Plan,
    ProtectiveOrder,
    Rung,
    decide,
    ladder,
    merging,
    protective_orders,
)
from app.domain.orders import OrderType, Side
from app.domain.positions import rungs_left
from app.domain.signals import Level, ladder_of
from tests.domain.samples import D, assert_unmoved, decimals

GRAIN = Grain(quantity_step=D("0.001"), min_quantity=D("0.001"), min_notional=D(5))
FINE = Grain(quantity_step=D("0.001"), min_quantity=D("0.001"), min_notional=None)


def levels(*pairs: tuple[str, str]) -> list[Level]:
    """Take-profits: price and portion."""
    return [Level(D(price), D(portion)) for price, portion in pairs]


def rungs(*pairs: tuple[str, str]) -> tuple[Rung, ...]:
    """Rungs: price and quantity."""
    return tuple(Rung(D(price), D(quantity)) for price, quantity in pairs)


# What a ladder's owner is told


@pytest.mark.parametrize(
    ("quantity", "said"),
    [
        ("1", None),
        ("0.2", "The take-profit at 110 is too small by itself and joins the one at 120."),
        ("0.15", "The take-profit at 130 is too small by itself and joins the one at 120."),
        ("0.06", "The take-profits at 110, 120 are too small by themselves and join the one at 130."),
        ("0.01", "Every take-profit is too small for the venue, so none is placed."),
    ],
)
def test_who_has_levels_too_small_is_told_what_became_of_them(quantity: str, said: str | None) -> None:
    portions = ("0.4", "0.4", "0.2") if quantity == "0.15" else ("0.2", "0.3", "0.5")
    steps = levels(*zip(("110", "120", "130"), portions, strict=True))
    assert merging(steps, ladder(steps, D(quantity), None, GRAIN)) == said


def test_levels_at_one_price_are_one_and_no_levels_are_nothing_to_tell() -> None:
    twice = levels(("110", "0.5"), ("110", "0.5"))
    assert merging(twice, rungs(("110", "1"))) is None
    assert merging([], ()) is None


# What a venue takes


@pytest.mark.parametrize(
    ("quantity", "price", "taken"),
    [
        ("0.05", "100", True),
        ("0.05", "99.99", False),  # 4.9995
        ("0.001", "5000", True),
        ("0.0009", "100000", False),
        ("0", "100", False),
        ("-1", "100", False),
    ],
)
def test_an_order_is_taken_from_both_minimums_on(quantity: str, price: str, taken: bool) -> None:
    assert GRAIN.takes(D(quantity), D(price)) is taken


def test_nothing_is_never_an_order() -> None:
    assert not Grain(D("0.001"), D(0), None).takes(D(0), D(100))
    assert Grain(D("0.001"), D(0), None).takes(D("0.001"), D(100))


# The ladder


def test_each_level_takes_its_portion_down_to_the_step() -> None:
    thirds = levels(("110", "0.3"), ("120", "0.3"), ("130", "0.3"))
    assert ladder(thirds, D("0.999"), D(95), FINE) == rungs(
        ("110", "0.299"), ("120", "0.299"), ("130", "0.299")
    )


def test_portions_that_add_up_to_one_leave_nothing_over() -> None:
    # 0.3 of 0.999 is 0.2997, 0.299 down to the step; the last takes what the others left.
    all_of_it = levels(("110", "0.3"), ("120", "0.3"), ("130", "0.4"))
    assert ladder(all_of_it, D("0.999"), D(95), FINE) == rungs(
        ("110", "0.299"), ("120", "0.299"), ("130", "0.401")
    )
    # Coins under a step cannot be sold: 0.0004 of 0.9994 stays.
    assert ladder(levels(("110", "1")), D("0.9994"), None, FINE) == rungs(("110", "0.999"))


def test_a_level_too_small_joins_the_next_farther() -> None:
    # 0.04 at 110 is worth 4.4; with the next 0.04 it is 0.08 at 120.
    steps = levels(("110", "0.2"), ("120", "0.2"), ("130", "0.6"))
    assert ladder(steps, D("0.2"), None, GRAIN) == rungs(("120", "0.08"), ("130", "0.12"))


def test_the_last_level_too_small_joins_the_previous() -> None:
    steps = levels(("110", "0.4"), ("120", "0.4"), ("130", "0.2"))
    assert ladder(steps, D("0.15"), None, GRAIN) == rungs(("110", "0.06"), ("120", "0.09"))
    some = levels(("110", "0.4"), ("120", "0.1"))  # half of it stays with the stop alone
    assert ladder(some, D("0.15"), None, GRAIN) == rungs(("110", "0.075"))


def test_all_levels_too_small_for_themselves_leave_at_the_last() -> None:
    steps = levels(("110", "0.5"), ("120", "0.5"))
    assert ladder(steps, D("0.06"), D(95), GRAIN) == rungs(("120", "0.06"))


def test_a_level_is_too_small_when_its_stop_leg_is() -> None:
    # 0.052 is worth 5.72 at 110, and 4.94 at its stop at 95.
    steps = levels(("110", "0.4"), ("120", "0.6"))
    assert ladder(steps, D("0.13"), D(95), GRAIN) == rungs(("120", "0.13"))
    assert ladder(steps, D("0.13"), None, GRAIN) == rungs(("110", "0.052"), ("120", "0.078"))


def test_a_shorts_levels_are_checked_at_their_own_lower_prices() -> None:
    # 0.054 is worth 5.67 at the stop at 105, and 4.86 at 90.
    steps = levels(("90", "0.5"), ("80", "0.5"))
    assert ladder(steps, D("0.108"), D(105), GRAIN) == rungs(("80", "0.108"))


def test_there_is_no_ladder_where_nothing_can_be_taken() -> None:
    assert ladder([], D(1), D(95), GRAIN) == ()
    assert ladder(levels(("110", "1")), D("0.04"), D(95), GRAIN) == ()
    assert ladder(levels(("110", "1")), D(0), D(95), FINE) == ()


# The orders that protect


def orders(rungs_: Sequence[Rung], remaining: str, stop: str | None) -> tuple[ProtectiveOrder, ...]:
    """The protective orders of a position at a venue with minimums."""
    return protective_orders(rungs_, D(remaining), None if stop is None else D(stop), GRAIN)


def oco(quantity: str, stop: str, target: str) -> ProtectiveOrder:
    """Stop and target at once."""
    return ProtectiveOrder(OrderType.OCO, D(quantity), D(stop), D(target))


def test_every_rung_has_a_stop_leg_of_its_own() -> None:
    assert orders(rungs(("110", "0.3"), ("120", "0.7")), "1", "95") == (
        oco("0.3", "95", "110"),
        oco("0.7", "95", "120"),
    )


def test_what_no_rung_covers_has_a_stop_alone() -> None:
    assert orders(rungs(("110", "0.3")), "1", "95") == (
        oco("0.3", "95", "110"),
        ProtectiveOrder(OrderType.STOP, D("0.7"), D(95), None),
    )
    assert orders((), "1", "95") == (ProtectiveOrder(OrderType.STOP, D(1), D(95), None),)


def test_a_rest_too_small_for_a_stop_joins_the_farthest_rung() -> None:
    # 0.052 is worth 4.94 at the stop.
    assert orders(rungs(("110", "0.3"), ("120", "0.648")), "1", "95") == (
        oco("0.3", "95", "110"),
        oco("0.7", "95", "120"),
    )
    assert orders(rungs(("110", "0.947")), "1", "95") == (
        oco("0.947", "95", "110"),
        ProtectiveOrder(OrderType.STOP, D("0.053"), D(95), None),
    )


def test_without_a_stop_there_are_targets_and_the_rest_waits() -> None:
    assert orders(rungs(("110", "0.3"), ("120", "0.6")), "1", None) == (
        ProtectiveOrder(OrderType.TAKE_PROFIT, D("0.3"), None, D(110)),
        ProtectiveOrder(OrderType.TAKE_PROFIT, D("0.6"), None, D(120)),
    )
    assert orders((), "1", None) == ()


def test_where_less_remains_than_the_rungs_would_take_the_nearest_come_first() -> None:
    both = rungs(("110", "0.3"), ("120", "0.7"))
    assert orders(both, "0.8", "95") == (oco("0.3", "95", "110"), oco("0.5", "95", "120"))
    assert orders(both, "0.2", "95") == (oco("0.2", "95", "110"),)
    # What remains after a fee in coins is on no step; the orders are.
    assert orders(both, "0.8009", "95") == (oco("0.3", "95", "110"), oco("0.5", "95", "120"))
    assert orders(both, "0", "95") == ()


def test_coins_under_a_step_are_not_ordered() -> None:
    assert orders(rungs(("110", "0.3")), "0.3009", "95") == (oco("0.3", "95", "110"),)
    assert orders((), "0.3009", "95") == (ProtectiveOrder(OrderType.STOP, D("0.3"), D(95), None),)
    assert orders((), "0.0009", "95") == ()


# What a price asks for

LONG = Plan(Side.BUY, D(1), D(95), rungs(("110", "0.3"), ("120", "0.7")))
SHORT = Plan(Side.SELL, D(1), D(105), rungs(("90", "0.3"), ("80", "0.7")))


@pytest.mark.parametrize(
    ("plan", "mark", "exit_"),
    [
        (LONG, "100", None),
        (LONG, "95.01", None),
        (LONG, "95", Exit(CloseReason.STOP_LOSS, D(1))),
        (LONG, "1", Exit(CloseReason.STOP_LOSS, D(1))),
        (LONG, "109.99", None),
        (LONG, "110", Exit(CloseReason.TAKE_PROFIT, D("0.3"))),
        (LONG, "120", Exit(CloseReason.TAKE_PROFIT, D(1))),  # it gapped over both
        (SHORT, "104.99", None),
        (SHORT, "105", Exit(CloseReason.STOP_LOSS, D(1))),
        (SHORT, "90.01", None),
        (SHORT, "90", Exit(CloseReason.TAKE_PROFIT, D("0.3"))),
        (SHORT, "79", Exit(CloseReason.TAKE_PROFIT, D(1))),
        (replace(LONG, stop_loss=None), "1", None),
        (replace(LONG, rungs=()), "999", None),
        (replace(LONG, remaining=D("0.2")), "110", Exit(CloseReason.TAKE_PROFIT, D("0.2"))),
        # An owner may have moved the stop past a target: the stop goes first.
        (replace(LONG, stop_loss=D(111)), "110", Exit(CloseReason.STOP_LOSS, D(1))),
    ],
)
def test_what_a_price_asks_for(plan: Plan, mark: str, exit_: Exit | None) -> None:
    assert decide(plan, D(mark)) == exit_


# For any ladder

grains = st.builds(
    Grain,
    st.sampled_from([D(each) for each in ("0.00001", "0.001", "0.03", "1")]),
    decimals("0", "2", 3),
    st.none() | decimals("0.01", "50", 2),
)
sides = st.sampled_from(Side)
quantities = decimals("0", "20", 5)
prices = decimals("1", "1000", 1)
stops = st.none() | prices


@st.composite
def ladders(draw: st.DrawFn) -> list[Level]:
    """Take-profits at distinct prices, nearest first; half of them of everything, the others of a part."""
    at = draw(st.lists(prices, max_size=5, unique=True))
    weights = draw(st.lists(st.integers(1, 40), min_size=len(at), max_size=len(at)))
    whole = sum(weights)
    everything: bool = draw(st.booleans())
    if weights and everything:
        portions = [(D(weight) / whole).quantize(D("1e-6")) for weight in weights]
        portions[-1] += 1 - sum(portions)
    else:
        portions = [D(weight) / 200 for weight in weights]
    return list(ladder_of(list(zip(at, portions, strict=True)), draw(sides)))


def total(parts: Sequence[Rung] | Sequence[ProtectiveOrder]) -> Fraction:
    """The quantity of all of them."""
    return sum((Fraction(part.quantity) for part in parts), Fraction(0))


@given(ladders(), quantities, stops, grains)
def test_a_ladder_can_be_placed_and_never_takes_more_than_there_is(
    steps: list[Level], quantity: Decimal, stop: Decimal | None, grain: Grain
) -> None:
    cut = ladder(steps, quantity, stop, grain)
    assert total(cut) <= quantity
    for rung in cut:
        assert Fraction(rung.quantity) % Fraction(grain.quantity_step) == 0
        assert grain.takes(rung.quantity, rung.price)
        assert stop is None or grain.takes(rung.quantity, stop)
    # Nearest first, and none that was not asked for.
    remaining_prices = iter([level.price for level in steps])
    assert all(rung.price in remaining_prices for rung in cut)


@given(ladders(), quantities, stops, grains)
def test_portions_of_everything_leave_less_than_a_step(
    steps: list[Level], quantity: Decimal, stop: Decimal | None, grain: Grain
) -> None:
    cut = ladder(steps, quantity, stop, grain)
    portion = sum((Fraction(level.portion) for level in steps), Fraction(0))
    step = Fraction(grain.quantity_step)
    if cut and portion == 1:
        assert Fraction(quantity) - total(cut) < step
    if not cut and steps:
        # Only where even all of them together, at the farthest, are too little.
        together = Fraction(quantity) * portion // step * step
        low = steps[-1].price if stop is None else min(steps[-1].price, stop)
        assert not grain.takes(D(together.numerator) / D(together.denominator), low)


@given(ladders(), quantities, stops, grains)
def test_nothing_is_taken_before_it_was_asked_for(
    steps: list[Level], quantity: Decimal, stop: Decimal | None, grain: Grain
) -> None:
    """A part moves to a farther rung, never to a nearer one; but the last may have to join the previous."""
    cut = ladder(steps, quantity, stop, grain)
    asked_by, asked = {}, Fraction(0)
    for level in steps:
        asked += Fraction(quantity) * Fraction(level.portion)
        asked_by[level.price] = asked
    for number in range(1, len(cut)):
        assert total(cut[:number]) <= asked_by[cut[number - 1].price]


@given(ladders(), quantities, stops)
def test_where_nothing_is_too_small_every_level_is_a_rung(
    steps: list[Level], quantity: Decimal, stop: Decimal | None
) -> None:
    smallest = Grain(D("0.00001"), D("0.00001"), None)
    cut = ladder(steps, quantity + 1, stop, smallest)
    assert [rung.price for rung in cut] == [level.price for level in steps]
    for rung, level in zip(cut[:-1], steps, strict=False):
        exact = Fraction(quantity + 1) * Fraction(level.portion)
        assert 0 <= exact - Fraction(rung.quantity) < Fraction("0.00001")


@given(ladders(), quantities, prices, grains, quantities, quantities)
def test_protection_covers_what_remains_exactly_once(
    steps: list[Level], quantity: Decimal, stop: Decimal, grain: Grain, taken: Decimal, gone: Decimal
) -> None:
    """Whatever the ladder has taken, and whatever went another way."""
    step = Fraction(grain.quantity_step)
    left = rungs_left(ladder(steps, quantity, stop, grain), taken)
    remaining = max(quantity - taken - gone, D(0))
    placed = protective_orders(left, remaining, stop, grain)
    assert total(placed) == Fraction(remaining) // step * step
    assert all(order.stop == stop and order.quantity > 0 for order in placed)
    assert all(Fraction(order.quantity) % step == 0 for order in placed)
    targets = [order.target for order in placed]
    assert len(set(targets)) == len(targets)  # one order a rung, at most one without a target
    rung_prices = iter([rung.price for rung in left])
    assert all(target in rung_prices for target in targets if target is not None)
    for order in placed:
        assert order.type is (OrderType.STOP if order.target is None else OrderType.OCO)
    if len(placed) > 1 and placed[-1].target is None:
        # A rest stands alone only where it can; else it has joined the farthest rung.
        assert grain.takes(placed[-1].quantity, stop)


@given(ladders(), quantities, grains)
def test_without_a_stop_every_rung_is_a_target_and_nothing_else(
    steps: list[Level], quantity: Decimal, grain: Grain
) -> None:
    cut = ladder(steps, quantity, None, grain)
    placed = protective_orders(cut, quantity, None, grain)
    assert placed == tuple(
        ProtectiveOrder(OrderType.TAKE_PROFIT, rung.quantity, None, rung.price) for rung in cut
    )


# For any plan and price


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any plan, sensible or not: an owner may move a stop past a target."""
    side = draw(sides)
    cut = [Rung(price, draw(decimals("0.001", "5", 3))) for price in draw(st.lists(prices, max_size=4))]
    cut.sort(key=lambda rung: rung.price * side.sign)
    return Plan(side, draw(decimals("0.001", "10", 3)), draw(stops), tuple(cut))


def mirrored(plan: Plan) -> Plan:
    """The same plan of a position in the other direction."""
    return Plan(
        plan.side.opposite,
        plan.remaining,
        None if plan.stop_loss is None else 1001 - plan.stop_loss,
        tuple(Rung(1001 - rung.price, rung.quantity) for rung in plan.rungs),
    )


@given(plans(), prices)
def test_longs_and_shorts_mirror_each_other(plan: Plan, mark: Decimal) -> None:
    assert decide(plan, mark) == decide(mirrored(plan), 1001 - mark)


@given(plans(), prices)
def test_an_exit_is_for_a_reason_and_never_of_more_than_remains(plan: Plan, mark: Decimal) -> None:
    way_out = decide(plan, mark)
    long = plan.side is Side.BUY
    stopped = plan.stop_loss is not None and (mark <= plan.stop_loss if long else mark >= plan.stop_loss)
    reached = [rung for rung in plan.rungs if (mark >= rung.price if long else mark <= rung.price)]
    if stopped:
        assert way_out == Exit(CloseReason.STOP_LOSS, plan.remaining)
    elif reached:
        quantity = min(total(reached), Fraction(plan.remaining))
        assert way_out is not None
        assert (way_out.reason, Fraction(way_out.quantity)) == (CloseReason.TAKE_PROFIT, quantity)
    else:
        assert way_out is None


@given(plans(), prices, prices)
def test_a_better_price_never_takes_less_profit(plan: Plan, one: Decimal, other: Decimal) -> None:
    unstopped = replace(plan, stop_loss=None)
    worse, better = sorted((one, other), key=lambda price: price * plan.side.sign)
    here, there = decide(unstopped, worse), decide(unstopped, better)
    assert here is None or (there is not None and here.quantity <= there.quantity)


@given(ladders(), decimals("0", "20", 15), stops, grains, plans(), decimals("1", "1000", 12))
def test_the_global_decimal_context_does_not_matter(
    steps: list[Level], quantity: Decimal, stop: Decimal | None, grain: Grain, plan: Plan, mark: Decimal
) -> None:
    grain = replace(grain, quantity_step=D("0.00000001"))
    cut = ladder(steps, quantity, stop, grain)
    assert_unmoved(lambda: ladder(steps, quantity, stop, grain))
    assert_unmoved(lambda: protective_orders(cut, quantity, stop, grain))
    assert_unmoved(lambda: grain.takes(quantity, mark))
    assert_unmoved(lambda: decide(plan, mark))
