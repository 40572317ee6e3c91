"""Positions: what is held, earned and paid, folded from the totals of the orders, to the last digit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.exits import Grain, Rung
from app.domain.money import floor_to_step
from app.domain.orders import Side
from app.domain.positions import (
    Fees,
    Figures,
    Filled,
    PositionSide,
    blended_rates,
    fold,
    is_over,
    rungs_left,
    unrealized,
    value_fees,
)
from tests.domain.samples import D, assert_unmoved, decimals

LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
NO_FEES = Fees(D(0), D(0), complete=True)


def paid(value: str, *, base: str = "0", complete: bool = True) -> Fees:
    """Fees worth `value`, of which `base` coins were taken from what is held."""
    return Fees(D(base), D(value), complete)


def filled(quantity: str, price: str, fees: Fees = NO_FEES) -> Filled:
    """An order's totals."""
    return Filled(D(quantity), D(price), fees)


def test_a_side_is_opened_by_its_order() -> None:
    assert PositionSide.opened_by(Side.BUY) is LONG
    assert PositionSide.opened_by(Side.SELL) is SHORT
    assert (LONG.entry_side, SHORT.entry_side) == (Side.BUY, Side.SELL)


# Fees


@pytest.mark.parametrize(
    ("fees", "price", "rates", "expected"),
    [
        ({}, "100", {}, paid("0")),
        ({"USDT": "0.5"}, "100", {}, paid("0.5")),
        ({"BTC": "0.001"}, "100", {}, paid("0.1", base="0.001")),  # at its fill's price
        ({"BNB": "0.002"}, "100", {"BNB": "600"}, paid("1.2")),
        ({"BNB": "0.002"}, "100", {}, paid("0", complete=False)),  # never zero in silence
        (
            {"USDT": "0.5", "BTC": "0.001", "BNB": "0.002"},
            "100",
            {},
            paid("0.6", base="0.001", complete=False),
        ),
        ({"USDC": "0.5"}, "100", {}, paid("0", complete=False)),  # a dollar coin is not another
        ({"USDT": "-0.2"}, "100", {}, paid("-0.2")),  # a rebate
        ({"BTC": "0.001"}, None, {}, paid("0", base="0.001", complete=False)),
    ],
)
def test_fees_are_valued_in_the_positions_currency(
    fees: Mapping[str, str], price: str | None, rates: Mapping[str, str], expected: Fees
) -> None:
    assert (
        value_fees(
            {coin: D(amount) for coin, amount in fees.items()},
            "BTC",
            "USDT",
            None if price is None else D(price),
            {coin: D(rate) for coin, rate in rates.items()},
            holds_coins=True,
        )
        == expected
    )


def test_on_margin_a_fee_in_the_base_coin_leaves_the_position_whole() -> None:
    fees = {"BNB": D("0.01")}
    assert value_fees(fees, "BNB", "USDT", D("300"), {}, holds_coins=False) == paid("3")
    assert value_fees(fees, "BNB", "USDT", D("300"), {}, holds_coins=True) == paid("3", base="0.01")


@pytest.mark.parametrize(
    ("known", "counted", "total", "now", "blended"),
    [
        ({}, {}, "0.01", "300", "300"),
        ({"BNB": "300"}, {"BNB": "0.01"}, "0.01", None, "300"),  # nothing new: the stored rate stays
        ({"BNB": "300"}, {"BNB": "0.01"}, "0.04", "340", "330"),
        ({"BNB": "300"}, {"BNB": "0.01"}, "0.04", None, None),  # a part without a rate
        ({}, {"BNB": "0.01"}, "0.04", "340", None),
        ({}, {}, "0.01", None, None),
    ],
)
def test_a_fee_keeps_the_rate_of_the_moment_it_was_taken(
    known: dict[str, str], counted: dict[str, str], total: str, now: str | None, blended: str | None
) -> None:
    rates = blended_rates(
        {coin: D(rate) for coin, rate in known.items()},
        {coin: D(amount) for coin, amount in counted.items()},
        {"BNB": D(total)},
        {} if now is None else {"BNB": D(now)},
    )
    assert rates == ({} if blended is None else {"BNB": D(blended)})


# Worked out by hand


def test_an_entry_alone() -> None:
    # Nothing is closed, so nothing of the entry's fee is booked yet.
    assert fold(LONG, filled("2", "100", paid("0.2")), []) == Figures(
        quantity=D(2),
        remaining=D(2),
        entry_price=D(100),
        exit_price=None,
        gross_pnl=D(0),
        fees=D(0),
        realized_pnl=D(0),
        pnl_complete=True,
    )


def test_a_long_left_in_part() -> None:
    # (110 − 100) × 0.5 = 5; a quarter of the entry's 0.2 and all of the exit's 0.055.
    figures = fold(LONG, filled("2", "100", paid("0.2")), [filled("0.5", "110", paid("0.055"))])
    assert figures == Figures(
        quantity=D(2),
        remaining=D("1.5"),
        entry_price=D(100),
        exit_price=D(110),
        gross_pnl=D(5),
        fees=D("0.105"),
        realized_pnl=D("4.895"),
        pnl_complete=True,
    )


def test_a_short_left_twice() -> None:
    # Σ (100 − exit) × quantity = 10 × 0.5 − 5 × 1.5 = −2.5; the average exit is (45 + 157.5) ÷ 2.
    exits = [filled("0.5", "90", paid("0.045")), filled("1.5", "105", paid("0.1575"))]
    figures = fold(SHORT, filled("2", "100", paid("0.2")), exits)
    assert figures == Figures(
        quantity=D(2),
        remaining=D(0),
        entry_price=D(100),
        exit_price=D("101.25"),
        gross_pnl=D("-2.5"),
        fees=D("0.4025"),
        realized_pnl=D("-2.9025"),
        pnl_complete=True,
    )


def test_a_fee_in_coins_shrinks_what_is_held() -> None:
    # 1 BTC for 100 USDT, 0.001 BTC of it kept by the venue; the 0.999 left sold at 110 for 109.89.
    entry = filled("1", "100", paid("0.1", base="0.001"))
    assert fold(LONG, entry, []).quantity == D("0.999")
    figures = fold(LONG, entry, [filled("0.999", "110", paid("0.10989"))])
    assert (figures.quantity, figures.remaining) == (D("0.999"), D(0))
    assert figures.gross_pnl == D("9.99")
    assert figures.fees == D("0.20989")
    assert figures.realized_pnl == D("109.89") - D(100) - D("0.10989")


def test_coins_that_an_exit_costs_leave_the_position_with_it() -> None:
    # 1 BTC bought at 100; 0.999 sold at 110 and 0.001 kept as the fee of that: 109.89 came in for 100.
    figures = fold(
        LONG, filled("1", "100", paid("0.1")), [filled("0.999", "110", paid("0.11", base="0.001"))]
    )
    assert figures.remaining == D(0)
    assert figures.exit_price == D(110)
    assert figures.gross_pnl == D(10)
    assert figures.fees == D("0.21")
    assert figures.realized_pnl == D("109.89") - D(100) - D("0.1")


def test_coins_of_the_owners_own_that_an_exit_costs_are_a_cost_alone() -> None:
    # All of the position was sold; the fee was taken from coins that were never ours.
    figures = fold(LONG, filled("1", "100"), [filled("1", "110", paid("0.11", base="0.001"))])
    assert (figures.remaining, figures.gross_pnl, figures.fees) == (D(0), D(10), D("0.11"))


def test_a_rebate_in_coins_is_held() -> None:
    # Half is sold, and 0.001 BTC comes back for it: 55 − 50, and the coin at what coins have cost.
    figures = fold(LONG, filled("1", "100"), [filled("0.5", "110", paid("-0.11", base="-0.001"))])
    assert (figures.remaining, figures.exit_price) == (D("0.501"), D(110))
    assert figures.realized_pnl == D("5.1")


def test_a_fee_without_a_rate_makes_the_profit_incomplete() -> None:
    unknown = paid("0", complete=False)
    assert fold(LONG, filled("1", "100"), []).pnl_complete
    assert not fold(LONG, filled("1", "100", unknown), []).pnl_complete
    assert not fold(LONG, filled("2", "100"), [filled("1", "90"), filled("1", "90", unknown)]).pnl_complete


def test_what_is_still_held_is_worth_its_mark() -> None:
    assert unrealized(LONG, D("1.5"), D(100), D(104)) == D(6)
    assert unrealized(SHORT, D("1.5"), D(100), D(104)) == D(-6)
    assert unrealized(SHORT, D("1.5"), D(100), D("99.5")) == D("0.75")


# What is left of a ladder

LADDER = (Rung(D(110), D("0.3")), Rung(D(120), D("0.7")))


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ("0", LADDER),
        ("0.1", (Rung(D(110), D("0.2")), Rung(D(120), D("0.7")))),
        ("0.3", (Rung(D(120), D("0.7")),)),
        ("0.4", (Rung(D(120), D("0.6")),)),
        ("1", ()),
        ("5", ()),
    ],
)
def test_the_nearest_rungs_were_taken_first(taken: str, left: tuple[Rung, ...]) -> None:
    assert rungs_left(LADDER, D(taken)) == left


def test_a_position_is_over_when_nothing_is_left_that_could_be_sold() -> None:
    grain = Grain(D("0.001"), D("0.001"), D(5))
    assert is_over(D(0), D(100), grain)
    assert is_over(D("0.049"), D(100), grain)
    assert not is_over(D("0.05"), D(100), grain)
    assert is_over(D("0.0009"), D(100_000), grain)


# For any fills

prices = decimals("0.01", "100000", 2)
quantities = decimals("0.00001", "100", 5)
signed_fees = decimals("-1", "10", 4)  # a rebate is a negative fee
both_sides = st.sampled_from(PositionSide)


@dataclass(frozen=True)
class Trade:
    """A position with its exits, of which the last leaves nothing."""

    side: PositionSide
    entry: Filled
    exits: Sequence[Filled]

    @property
    def figures(self) -> Figures:
        """What it amounts to."""
        return fold(self.side, self.entry, self.exits)

    @property
    def cash(self) -> Fraction:
        """What came in less what went out, counted in money alone."""
        cash = Fraction(0)
        for sign, order in [(-1, self.entry), *((1, each) for each in self.exits)]:
            amount = Fraction(order.quantity) * Fraction(order.average_price)
            in_money = Fraction(order.fees.value) - Fraction(order.fees.base) * Fraction(order.average_price)
            cash += sign * self.side.entry_side.sign * amount - in_money
        return cash


@st.composite
def closed_trades(draw: st.DrawFn, *, in_coins: bool) -> Trade:
    """A trade closed to the last unit; on spot any order may take its fee in coins."""
    side = LONG if in_coins else draw(both_sides)
    parts = draw(st.lists(quantities, min_size=1, max_size=5))
    held = sum(parts, D(0))

    def fees(coins: Decimal, price: Decimal) -> Fees:
        return Fees(coins, draw(signed_fees) + coins * price, complete=True)

    coins, price = D(0), draw(prices)
    if in_coins:
        coins = (held * draw(decimals("0", "0.01", 4))).quantize(D("1e-8"))
    entry = Filled(held + coins, price, fees(coins, price))
    exits = []
    for part in parts:
        price = draw(prices)
        coins = (part * draw(decimals("0", "0.01", 4))).quantize(D("1e-8")) if in_coins else D(0)
        exits.append(Filled(part - coins, price, fees(coins, price)))
    return Trade(side, entry, exits)


@given(closed_trades(in_coins=False))
def test_money_in_less_money_out_is_the_profit(trade: Trade) -> None:
    figures = trade.figures
    assert figures.remaining == 0
    assert Fraction(figures.realized_pnl) == trade.cash


@given(closed_trades(in_coins=True))
def test_so_it_is_on_spot_where_fees_are_coins(trade: Trade) -> None:
    figures = trade.figures
    assert figures.remaining == 0
    assert Fraction(figures.realized_pnl) == trade.cash


@given(closed_trades(in_coins=False), st.integers(0, 4))
def test_profit_is_gross_less_the_fees_of_what_was_closed(trade: Trade, number: int) -> None:
    exits = trade.exits[:number]
    figures = fold(trade.side, trade.entry, exits)
    closed = sum((Fraction(each.quantity) for each in exits), Fraction(0))
    entry, sign = Fraction(trade.entry.average_price), trade.side.entry_side.sign
    gross = sum(
        ((Fraction(each.average_price) - entry) * Fraction(each.quantity) * sign for each in exits),
        Fraction(0),
    )
    share = closed / Fraction(trade.entry.quantity)
    fees = Fraction(trade.entry.fees.value) * share + sum(
        (Fraction(each.fees.value) for each in exits), Fraction(0)
    )
    assert Fraction(figures.gross_pnl) == gross
    assert abs(Fraction(figures.fees) - fees) < Fraction(1, 10**40)  # the share may have no end
    assert abs(Fraction(figures.realized_pnl) - (gross - fees)) < Fraction(1, 10**40)
    assert Fraction(figures.remaining) == Fraction(trade.entry.quantity) - closed


@given(st.booleans().flatmap(lambda in_coins: closed_trades(in_coins=in_coins)), st.data())
def test_the_order_of_exits_does_not_matter(trade: Trade, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(trade.exits)))
    exits = data.draw(st.permutations(trade.exits[:number]))
    assert fold(trade.side, trade.entry, exits) == fold(trade.side, trade.entry, trade.exits[:number])


@given(closed_trades(in_coins=False))
def test_a_short_earns_what_a_long_loses(trade: Trade) -> None:
    other = LONG if trade.side is SHORT else SHORT
    here, there = trade.figures, fold(other, trade.entry, trade.exits)
    assert here.gross_pnl == -there.gross_pnl
    assert (here.fees, here.remaining, here.exit_price) == (there.fees, there.remaining, there.exit_price)


@given(closed_trades(in_coins=False), prices, st.integers(0, 4))
def test_what_is_closed_and_what_is_held_add_up_to_the_whole_at_any_mark(
    trade: Trade, mark: Decimal, number: int
) -> None:
    exits = trade.exits[:number]
    figures = fold(trade.side, trade.entry, exits)
    floating = unrealized(trade.side, figures.remaining, figures.entry_price, mark)
    at_once = fold(trade.side, trade.entry, [*exits, Filled(figures.remaining, mark, NO_FEES)])
    assert Fraction(figures.gross_pnl) + Fraction(floating) == Fraction(at_once.gross_pnl)


@given(closed_trades(in_coins=True), decimals("1", "5", 1))
def test_more_than_everything_is_never_left_over(trade: Trade, factor: Decimal) -> None:
    # What a venue sold beyond ours was never ours: nothing remains, and the entry's fee is booked once.
    exits = [Filled(each.quantity * factor, each.average_price, NO_FEES) for each in trade.exits]
    figures = fold(trade.side, trade.entry, exits)
    assert figures.remaining >= 0
    assert abs(figures.fees) <= abs(trade.entry.fees.value)


ladders = st.lists(st.builds(Rung, prices, quantities), max_size=5)


@given(ladders, decimals("0", "300", 5), decimals("0", "300", 5))
def test_a_ladder_loses_exactly_what_was_taken(rungs: list[Rung], taken: Decimal, more: Decimal) -> None:
    whole = sum(rung.quantity for rung in rungs)
    left = rungs_left(rungs, taken)
    assert sum(rung.quantity for rung in left) == max(whole - taken, 0)
    assert all(rung.quantity > 0 for rung in left)
    # It is only the nearest that are gone, and taking twice is taking the sum.
    assert [rung.price for rung in left] == [rung.price for rung in rungs[len(rungs) - len(left) :]]
    assert rungs_left(left, more) == rungs_left(rungs, taken + more)


@given(
    st.dictionaries(st.sampled_from(["BTC", "USDT", "USDC", "BNB"]), decimals("-5", "50", 8)),
    st.none() | prices,
    st.dictionaries(st.sampled_from(["USDC", "BNB"]), prices),
)
def test_a_coin_counts_at_its_rate_or_makes_the_fees_incomplete(
    fees: dict[str, Decimal], price: Decimal | None, rates: dict[str, Decimal]
) -> None:
    valued = value_fees(fees, "BTC", "USDT", price, rates, holds_coins=True)
    known = {"USDT": D(1), **rates} | ({} if price is None else {"BTC": price})
    assert valued.complete == (set(fees) <= set(known))
    assert valued.base == fees.get("BTC", 0)
    assert Fraction(valued.value) == sum(
        (Fraction(amount) * Fraction(known[coin]) for coin, amount in fees.items() if coin in known),
        Fraction(0),
    )
    assert_unmoved(lambda: value_fees(fees, "BTC", "USDT", price, rates, holds_coins=True))


@given(st.booleans().flatmap(lambda in_coins: closed_trades(in_coins=in_coins)), ladders, prices)
def test_the_global_decimal_context_does_not_matter(trade: Trade, rungs: list[Rung], mark: Decimal) -> None:
    quantity = trade.entry.quantity
    assert_unmoved(lambda: trade.figures)
    assert_unmoved(lambda: unrealized(trade.side, quantity, trade.entry.average_price, mark))
    assert_unmoved(lambda: rungs_left(rungs, quantity))
    assert_unmoved(lambda: is_over(quantity, mark, Grain(D("0.001"), D("0.001"), D("12345.6789"))))


GRAINS = st.builds(
    Grain,
    quantity_step=st.sampled_from([D("0.00001"), D("0.001"), D("0.5"), D(1), D(100)]),
    min_quantity=decimals("0", "250", 4),
    min_notional=st.none() | decimals("0", "500", 2),
)


@given(
    remaining=decimals("0", "1000", 7),
    price=decimals("0.0001", "100000", 4),
    grain=GRAINS,
)
def test_whatever_is_left_can_be_sold_or_is_over(remaining: Decimal, price: Decimal, grain: Grain) -> None:
    order = floor_to_step(remaining, grain.quantity_step)
    assert is_over(remaining, price, grain) is not grain.takes(order, price)
