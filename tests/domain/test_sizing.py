"""Sizing: the five formulas worked out by hand, and the bounds that no size ever crosses."""

from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from app.domain.errors import Denied
from app.domain.market import Instrument, MarketType
from app.domain.sizing import (
    Funds,
    OnTooSmall,
    Sizing,
    Strategy,
    size,
    smallest_entry,
    smallest_order,
    too_small,
)
from tests.domain.samples import SPOT, SWAP, D, No, assert_unmoved, decimals, outcome

RICH = Funds(free=D(100_000), equity=D(10_000), fee_rate=D("0.001"), slippage=D("0.004"))
"""More than any example here needs."""


def terms(
    strategy: Strategy,
    value: str = "1",
    *,
    max_quantity: str | None = None,
    max_notional: str | None = None,
    on_too_small: OnTooSmall = OnTooSmall.SKIP,
) -> Sizing:
    """Sizing terms."""
    caps = [None if cap is None else D(cap) for cap in (max_quantity, max_notional)]
    return Sizing(strategy, D(value), caps[0], caps[1], on_too_small)


def sized(
    sizing: Sizing,
    instrument: Instrument = SWAP,
    *,
    price: str = "100",
    stop: str | None = None,
    signal_quantity: str | None = None,
    funds: Funds = RICH,
) -> object:
    """The quantity, or the denial."""
    return outcome(
        lambda: size(
            sizing,
            instrument,
            D(price),
            None if stop is None else D(stop),
            None if signal_quantity is None else D(signal_quantity),
            funds,
        )
    )


# The five formulas


@pytest.mark.parametrize(
    ("strategy", "value"),
    [
        (Strategy.FIXED, "0.002"),
        (Strategy.FIXED_AMOUNT, "2"),
        (Strategy.PERCENTAGE, "2"),
        (Strategy.SIGNAL_BASED, "2"),
        (Strategy.RISK_PERCENTAGE, "2"),
    ],
)
def test_in_another_unit_of_the_coin_only_what_counts_coins_changes(strategy: Strategy, value: str) -> None:
    sizing = Sizing(strategy, Decimal(2), max_quantity=Decimal(5000), max_notional=Decimal(100))
    scaled = sizing.scaled(Decimal(1000))
    assert (scaled.strategy, scaled.value) == (strategy, Decimal(value))
    assert (scaled.max_quantity, scaled.max_notional) == (Decimal(5), Decimal(100))
    assert Sizing(strategy, Decimal(2)).scaled(Decimal(1000)).max_quantity is None


def test_fixed_is_the_quantity_down_to_the_step() -> None:
    assert sized(terms(Strategy.FIXED, "0.5")) == D("0.5")
    assert sized(terms(Strategy.FIXED, "0.5019")) == D("0.501")


def test_fixed_amount_is_the_notional() -> None:
    # 250 ÷ 99.9 = 2.50250…
    assert sized(terms(Strategy.FIXED_AMOUNT, "250"), price="99.9") == D("2.502")


def test_percentage_is_a_part_of_what_is_free() -> None:
    # 25 % of 1 000 is 250; 250 ÷ 100 = 2.5. Leverage changes the margin, never the size.
    for leverage in (D(1), D(20)):
        funds = replace(RICH, free=D(1000), leverage=leverage)
        assert sized(terms(Strategy.PERCENTAGE, "25"), funds=funds) == D("2.5")


def test_percentage_of_everything_leaves_room_for_fee_and_slippage() -> None:
    # 1 000 ÷ (1 + 0.001 + 0.004) = 995.02…, at 100 that is 9.9502…
    assert sized(terms(Strategy.PERCENTAGE, "100"), SPOT, funds=replace(RICH, free=D(1000))) == D("9.95")


def test_signal_based_multiplies_the_signals_quantity() -> None:
    assert sized(terms(Strategy.SIGNAL_BASED), signal_quantity="0.25") == D("0.25")
    assert sized(terms(Strategy.SIGNAL_BASED, "1.5"), signal_quantity="0.25") == D("0.375")


@pytest.mark.parametrize(
    ("stop", "quantity", "lost"),
    [
        ("95", "19.249", "99.998555"),  # 100 ÷ (5 + 0.001 × 195) = 19.2492…; × 5.195
        ("105", "19.212", "99.998460"),  # 100 ÷ (5 + 0.001 × 205) = 19.2122…; × 5.205
    ],
)
def test_risk_percentage_loses_one_per_cent_at_the_stop_with_fees(
    stop: str, quantity: str, lost: str
) -> None:
    assert sized(terms(Strategy.RISK_PERCENTAGE, "1"), stop=stop) == D(quantity)
    per_unit = abs(D(100) - D(stop)) + D("0.001") * (D(100) + D(stop))
    assert D(quantity) * per_unit == D(lost) <= D(100)


def test_risk_percentage_is_capped_by_free_margin_times_leverage() -> None:
    # 1 % of 10 000 over (0.5 + 0.1995) would be 142.959…
    poor = replace(RICH, free=D(1000))
    assert sized(terms(Strategy.RISK_PERCENTAGE), stop="99.5", funds=poor) == D("9.95")
    # 1 000 ÷ (1 ÷ 10 + 0.005) = 9 523.80…, at 100 that is 95.238
    leveraged = replace(poor, leverage=D(10))
    assert sized(terms(Strategy.RISK_PERCENTAGE), stop="99.5", funds=leveraged) == D("95.238")


# Caps


@pytest.mark.parametrize(
    ("max_quantity", "max_notional", "largest", "quantity"),
    [
        ("0.3333", None, None, "0.333"),
        (None, "40", None, "0.4"),
        ("0.2", "40", None, "0.2"),
        (None, None, "0.7", "0.7"),
        ("2", "200", "2", "1"),
    ],
)
def test_the_owners_and_the_venues_largest_order_shrink_the_size(
    max_quantity: str | None, max_notional: str | None, largest: str | None, quantity: str
) -> None:
    instrument = replace(SWAP, max_quantity=None if largest is None else D(largest))
    for strategy, value in ((Strategy.FIXED, "1"), (Strategy.FIXED_AMOUNT, "100")):
        sizing = terms(strategy, value, max_quantity=max_quantity, max_notional=max_notional)
        assert sized(sizing, instrument) == D(quantity)


# Denials


def test_risk_percentage_requires_a_stop() -> None:
    assert sized(terms(Strategy.RISK_PERCENTAGE)) == No(
        "stop_loss_required", "risk_percentage needs a stop-loss, and the signal has none."
    )


def test_signal_based_requires_a_quantity() -> None:
    assert sized(terms(Strategy.SIGNAL_BASED)) == No(
        "quantity_missing", "The signal names no quantity, and this connection sizes by it."
    )


@pytest.mark.parametrize("unsized", [Strategy.FIXED, Strategy.FIXED_AMOUNT, Strategy.SIGNAL_BASED])
def test_what_was_asked_for_in_so_many_words_is_not_shrunk_to_the_balance(unsized: Strategy) -> None:
    value = "1000" if unsized is Strategy.FIXED_AMOUNT else "10"
    assert sized(terms(unsized, value), signal_quantity="1", funds=replace(RICH, free=D(1000))) == No(
        "insufficient_balance",
        "The order is worth 1000 USDT; with fee and slippage allowance the free balance covers 995.02487562.",
    )


def test_the_last_cent_may_be_spent() -> None:
    # 10 at 100, and 0.5 % of it for fee and slippage.
    assert sized(terms(Strategy.FIXED, "10"), funds=replace(RICH, free=D(1005))) == D(10)
    assert isinstance(sized(terms(Strategy.FIXED, "10"), funds=replace(RICH, free=D("1004.99"))), No)


def test_a_debt_is_no_balance() -> None:
    owing = replace(RICH, free=D(-5), equity=D(-5))
    assert sized(terms(Strategy.FIXED, "1"), funds=owing) == No(
        "insufficient_balance",
        "The order is worth 100 USDT; with fee and slippage allowance the free balance covers 0.",
    )
    for strategy in (Strategy.PERCENTAGE, Strategy.RISK_PERCENTAGE):
        assert sized(terms(strategy), stop="95", funds=owing) == No(
            "quantity_below_minimum", "The size comes to 0 BTC; the venue takes 0.053 or more."
        )


def test_a_size_that_only_the_balance_made_too_small_is_denied_for_the_balance() -> None:
    # 100 % of 5.01 is 5.01 ≥ 5, but with fee and slippage only 4.985… can be paid.
    broke = replace(RICH, free=D("5.01"))
    assert sized(terms(Strategy.PERCENTAGE, "100"), funds=broke) == No(
        "insufficient_balance",
        "The order is worth 5 USDT; with fee and slippage allowance the free balance covers 4.98507463.",
    )


def test_below_the_smallest_quantity() -> None:
    assert sized(terms(Strategy.FIXED, "0.0009")) == No(
        "quantity_below_minimum", "The size comes to 0 BTC; the venue takes 0.05 or more."
    )
    coarse = replace(SWAP, min_quantity=D("0.1"), min_notional=None)
    assert sized(terms(Strategy.FIXED, "0.0999"), coarse) == No(
        "quantity_below_minimum", "The size comes to 0.099 BTC; the venue takes 0.1 or more."
    )


def test_below_the_smallest_notional() -> None:
    assert sized(terms(Strategy.FIXED, "0.049")) == No(
        "notional_below_minimum", "The order would be worth 4.9 USDT; the venue takes 5 or more."
    )
    coarse = replace(SWAP, min_quantity=D("0.04"))
    assert sized(terms(Strategy.FIXED, "0.04"), coarse) == No(
        "notional_below_minimum", "The order would be worth 4 USDT; the venue takes 5 or more."
    )


def test_nothing_is_a_quantity_below_any_minimum() -> None:
    assert sized(terms(Strategy.FIXED, "0.0001"), replace(SWAP, min_quantity=D(0))) == No(
        "quantity_below_minimum", "The size comes to 0 BTC; the venue takes 0.05 or more."
    )


def test_too_small_to_be_left_at_its_stop() -> None:
    # 0.051 is worth 5.1 now, and 4.845 at the stop: nothing could protect it there.
    assert sized(terms(Strategy.FIXED, "0.051"), stop="95") == No(
        "notional_below_minimum",
        "0.051 BTC, less the fee, could not be protected at 95; it takes 0.053 or more.",
    )
    assert sized(terms(Strategy.FIXED, "0.053"), stop="95") == D("0.053")  # 5.035
    # A short's stop lies above its entry, where the same quantity is worth more.
    assert sized(terms(Strategy.FIXED, "0.05"), stop="105") == D("0.05")


def test_too_small_to_be_sold_again_after_the_fee_in_coins() -> None:
    # On spot 0.05 less 0.1 % is 0.04995, of which 0.049 can be sold: worth 4.9.
    assert sized(terms(Strategy.FIXED, "0.05"), SPOT) == No(
        "notional_below_minimum", "0.05 BTC, less the fee, could not be closed; it takes 0.051 or more."
    )
    assert sized(terms(Strategy.FIXED, "0.051"), SPOT) == D("0.051")
    assert sized(terms(Strategy.FIXED, "0.05"), SPOT, funds=replace(RICH, fee_rate=D(0))) == D("0.05")


# Raising to the minimum

MINIMUM = OnTooSmall.MINIMUM


@pytest.mark.parametrize(
    ("sizing", "quantity"),
    [
        (terms(Strategy.FIXED, "0.001", on_too_small=MINIMUM), "0.05"),
        (terms(Strategy.FIXED_AMOUNT, "1", on_too_small=MINIMUM), "0.05"),
        (terms(Strategy.PERCENTAGE, "0.0001", on_too_small=MINIMUM), "0.05"),
        (terms(Strategy.SIGNAL_BASED, "0.01", on_too_small=MINIMUM), "0.05"),
        (terms(Strategy.FIXED, "0.001", on_too_small=MINIMUM, max_quantity="0.05"), "0.05"),
        (terms(Strategy.FIXED, "0.001", on_too_small=MINIMUM, max_notional="5"), "0.05"),
        (terms(Strategy.FIXED, "0.06", on_too_small=MINIMUM), "0.06"),
    ],
)
def test_a_small_size_is_raised_to_the_minimum(sizing: Sizing, quantity: str) -> None:
    assert sized(sizing, signal_quantity="0.1") == D(quantity)


def test_the_minimum_is_one_that_can_be_protected() -> None:
    # 5 ÷ 95 = 0.0526…; on spot then 0.053 ÷ 0.999 = 0.05305…
    raised = terms(Strategy.FIXED, "0.001", on_too_small=MINIMUM)
    assert sized(raised, stop="95") == D("0.053")
    assert sized(raised, SPOT, stop="95") == D("0.054")
    assert sized(replace(raised, value=D("0.052")), stop="95") == D("0.053")


@pytest.mark.parametrize(
    "sizing",
    [
        terms(Strategy.FIXED, "0.01", on_too_small=MINIMUM, max_quantity="0.0499"),
        terms(Strategy.FIXED, "0.01", on_too_small=MINIMUM, max_notional="4.99"),
    ],
)
def test_the_minimum_never_exceeds_a_cap(sizing: Sizing) -> None:
    assert sized(sizing) == No(
        "notional_below_minimum", "The order would be worth 1 USDT; the venue takes 5 or more."
    )


def test_the_minimum_never_exceeds_the_balance() -> None:
    for strategy in (Strategy.FIXED, Strategy.PERCENTAGE):
        sizing = terms(strategy, "0.01", on_too_small=MINIMUM)
        assert sized(sizing, funds=replace(RICH, free=D("5.01"))) == No(
            "insufficient_balance",
            "The order is worth 5 USDT; with fee and slippage allowance the free balance covers 4.98507463.",
        )


def test_the_minimum_never_exceeds_the_risk_budget() -> None:
    # 0.002 % of 10 000 is 0.2; ÷ 5.195 = 0.0384…
    sizing = terms(Strategy.RISK_PERCENTAGE, "0.002", on_too_small=MINIMUM)
    assert sized(sizing, stop="95") == No(
        "notional_below_minimum", "The order would be worth 3.8 USDT; the venue takes 5 or more."
    )


# The smallest order


@pytest.mark.parametrize(
    ("min_quantity", "min_notional", "price", "smallest"),
    [
        ("0.001", "5", "100", "0.05"),
        ("0.001", "5", "99.9", "0.051"),  # 5 ÷ 99.9 = 0.05005…
        ("0.001", "5", "26852", "0.001"),  # 5 ÷ 26 852 is less than a step
        ("0.001", None, "100", "0.001"),
        ("0", None, "100", "0.001"),
        ("0.0125", None, "100", "0.013"),
    ],
)
def test_the_smallest_order_is_up_to_the_step(
    min_quantity: str, min_notional: str | None, price: str, smallest: str
) -> None:
    least = None if min_notional is None else D(min_notional)
    instrument = replace(SWAP, min_quantity=D(min_quantity), min_notional=least)
    assert smallest_order(instrument, D(price)) == D(smallest)


# Terms as they are stored


def test_terms_are_read_from_what_a_connection_keeps() -> None:
    assert Sizing.read({"strategy": "signal_based"}) == Sizing(Strategy.SIGNAL_BASED, D(1))
    assert Sizing.read(
        {
            "strategy": "percentage",
            "value": "2.5",
            "max_quantity": "0.1",
            "max_notional": None,
            "on_too_small": "minimum",
        }
    ) == Sizing(Strategy.PERCENTAGE, D("2.5"), D("0.1"), None, OnTooSmall.MINIMUM)


# For any terms, instrument and account

prices = decimals("0.01", "10000", 2)
fees = decimals("0", "0.01", 4)
instruments = st.builds(
    replace,
    st.sampled_from([SPOT, SWAP]),
    quantity_step=st.sampled_from([D(each) for each in ("0.00001", "0.001", "0.03", "1")]),
    min_quantity=decimals("0", "0.5", 3),
    max_quantity=st.none() | decimals("1", "1000", 2),
    min_notional=st.none() | decimals("0.01", "50", 2),
)
accounts = st.builds(
    Funds,
    free=decimals("-10", "1000000", 2),
    equity=decimals("-10", "1000000", 2),
    fee_rate=fees,
    slippage=fees,
    leverage=st.sampled_from([D(1), D(3), D("7.5"), D(100)]),
)
all_terms = st.builds(
    Sizing,
    st.sampled_from(Strategy),
    decimals("0", "120", 4),
    st.none() | decimals("0.001", "100", 3),
    st.none() | decimals("1", "100000", 2),
    st.sampled_from(OnTooSmall),
)


@dataclass(frozen=True)
class Case:
    """Everything a size is made from, and the same worked out in fractions from the rules alone."""

    sizing: Sizing
    instrument: Instrument
    price: Decimal
    stop: Decimal | None
    signal_quantity: Decimal
    funds: Funds

    def size(self) -> Decimal:
        """What the engine makes of it."""
        return size(self.sizing, self.instrument, self.price, self.stop, self.signal_quantity, self.funds)

    @property
    def smallest(self) -> Fraction:
        """The smallest entry there is."""
        return Fraction(smallest_entry(self.instrument, self.price, self.stop, self.funds.fee_rate))

    @property
    def budget(self) -> Fraction:
        """What may be lost at the stop."""
        return max(Fraction(self.funds.equity), Fraction(0)) * Fraction(self.sizing.value) / 100

    @property
    def lost_per_unit(self) -> Fraction:
        """What a unit loses between entry and stop, both fees included."""
        assert self.stop is not None
        entry, stop = Fraction(self.price), Fraction(self.stop)
        return abs(entry - stop) + Fraction(self.funds.fee_rate) * (entry + stop)

    @property
    def meant(self) -> Fraction:
        """The quantity that the formula of the strategy asks for, before any bound."""
        value, price = Fraction(self.sizing.value), Fraction(self.price)
        match self.sizing.strategy:
            case Strategy.FIXED:
                return value
            case Strategy.FIXED_AMOUNT:
                return value / price
            case Strategy.PERCENTAGE:
                return max(Fraction(self.funds.free), Fraction(0)) * value / 100 / price
            case Strategy.SIGNAL_BASED:
                return Fraction(self.signal_quantity) * value
            case Strategy.RISK_PERCENTAGE:
                return self.budget / self.lost_per_unit

    @property
    def payable(self) -> Fraction:
        """The quantity of which margin, fee and slippage allowance can be paid."""
        share = (
            1 / Fraction(self.funds.leverage) + Fraction(self.funds.fee_rate) + Fraction(self.funds.slippage)
        )
        return max(Fraction(self.funds.free), Fraction(0)) / share / Fraction(self.price)

    def capped(self, quantity: Fraction) -> Fraction:
        """No more than the owner's two caps and the venue's largest order."""
        caps = [quantity]
        caps += [Fraction(cap) for cap in (self.sizing.max_quantity, self.instrument.max_quantity) if cap]
        if self.sizing.max_notional is not None:
            caps.append(Fraction(self.sizing.max_notional) / Fraction(self.price))
        return min(caps)

    def is_protectable(self, quantity: Fraction) -> bool:
        """Whether the venue takes it, and takes back what is left of it: on spot less the fee in coins."""
        step = Fraction(self.instrument.quantity_step)
        spot = self.instrument.market_type is MarketType.SPOT
        held = quantity * (1 - Fraction(self.funds.fee_rate)) if spot else quantity
        return self._takes(quantity, self.price) and self._takes(
            held // step * step, self.price if self.stop is None else min(self.price, self.stop)
        )

    def _takes(self, quantity: Fraction, price: Decimal) -> bool:
        least = max(Fraction(self.instrument.min_quantity), Fraction(self.instrument.quantity_step))
        return quantity >= least and quantity * Fraction(price) >= Fraction(self.instrument.min_notional or 0)


def is_complete(case: Case) -> bool:
    """There is a stop where one is needed, and it is not the entry."""
    return case.stop != case.price and (
        case.sizing.strategy is not Strategy.RISK_PERCENTAGE or case.stop is not None
    )


cases = st.builds(
    Case, all_terms, instruments, prices, st.none() | prices, decimals("0.0001", "50", 4), accounts
).filter(is_complete)


@settings(max_examples=300)
@given(cases)
def test_no_size_ever_crosses_a_bound(case: Case) -> None:
    try:
        quantity = Fraction(case.size())
    except Denied as denial:
        event(denial.code)
        return
    event("sized")
    assert quantity % Fraction(case.instrument.quantity_step) == 0
    assert quantity == case.capped(quantity)
    assert quantity <= case.payable
    assert case.is_protectable(quantity)
    if case.sizing.strategy is Strategy.RISK_PERCENTAGE:
        assert quantity * case.lost_per_unit <= case.budget
    if quantity > case.meant:
        # Only on the owner's word, and only to the smallest that will do.
        event("raised")
        assert case.sizing.on_too_small is OnTooSmall.MINIMUM
        assert quantity == case.smallest


@settings(max_examples=300)
@given(cases)
def test_a_size_is_the_largest_that_all_bounds_allow(case: Case) -> None:
    step = Fraction(case.instrument.quantity_step)
    wanted = case.capped(case.meant)
    shrinks = case.sizing.strategy in (Strategy.PERCENTAGE, Strategy.RISK_PERCENTAGE)
    target = (min(wanted, case.payable) if shrinks else wanted) // step * step
    answer = outcome(case.size)
    if target < case.smallest:
        if case.sizing.on_too_small is OnTooSmall.MINIMUM and not isinstance(answer, No):
            target = case.smallest
        else:
            assert isinstance(answer, No)
            small = answer.code in ("quantity_below_minimum", "notional_below_minimum")
            assert small or case.smallest > case.payable
            if case.sizing.on_too_small is OnTooSmall.MINIMUM:
                risks_more = case.sizing.strategy is Strategy.RISK_PERCENTAGE
                assert risks_more or case.smallest > min(case.payable, case.capped(case.smallest))
            return
    if target <= case.payable:
        assert answer == target
    else:
        assert isinstance(answer, No)
        assert answer.code == "insufficient_balance"


@given(cases)
def test_nothing_less_than_the_smallest_entry_would_do(case: Case) -> None:
    assert case.is_protectable(case.smallest)
    assert not case.is_protectable(case.smallest - Fraction(case.instrument.quantity_step))


@given(cases)
def test_the_global_decimal_context_does_not_matter(case: Case) -> None:
    assert_unmoved(case.size)
    assert_unmoved(lambda: (smallest_order(case.instrument, case.price), case.funds.affordable_notional()))


@given(
    instruments, decimals("1", "1000", 12), decimals("1", "1000", 12), fees, decimals("0.000000001", "1", 9)
)
def test_nor_does_it_for_numbers_of_many_digits(
    instrument: Instrument, price: Decimal, stop: Decimal, fee_rate: Decimal, quantity: Decimal
) -> None:
    assert_unmoved(lambda: smallest_entry(instrument, price, stop, fee_rate))

    def reason() -> tuple[str, str]:
        denial = too_small(quantity, instrument, price, stop, quantity)
        return denial.code, denial.message

    assert_unmoved(reason)
