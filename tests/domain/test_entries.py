"""Entries: whole decisions worked out by hand, every way to say no, and what holds for any order that may be sent."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from app.domain.entries import Entry, Situation, check_course, decide, grain_of
from app.domain.errors import Denied
from app.domain.exits import Grain, Rung
from app.domain.orders import OrderType, Side
from app.domain.risk import Exposure, Limits
from app.domain.signals import Course, Level, Signal
from app.domain.sizing import Funds, OnTooSmall, Sizing, Strategy
from tests.domain.samples import (
    HALF_A_MINUTE,
    NOON,
    SPOT,
    SWAP,
    D,
    No,
    assert_unmoved,
    decimals,
    outcome,
    quote,
)

FUNDS = Funds(free=D(1000), equity=D(2000), fee_rate=D("0.001"), slippage=D("0.004"))
FLAT = Exposure(0, 0, frozenset(), 0)
NO_LIMITS = Limits()

ON_SPOT = Situation(
    now=NOON,
    published_at=NOON - timedelta(seconds=5),
    instrument=SPOT,
    quote=quote("99.9", "100.1"),
    quote_max_age=HALF_A_MINUTE,
    funds=FUNDS,
    exposure=FLAT,
    netting=False,
)
ON_SWAP = replace(ON_SPOT, instrument=SWAP, funds=replace(FUNDS, leverage=D(5)), netting=True)

BUY = Signal(
    "BTC/USDT",
    Side.BUY,
    entry_price=D(100),
    stop_loss=D(95),
    take_profits=(Level(D(110), D("0.5")), Level(D(120), D("0.5"))),
)
SELL = Signal(
    "BTC/USDT",
    Side.SELL,
    entry_price=D(100),
    stop_loss=D(105),
    take_profits=(Level(D(90), D("0.5")), Level(D(80), D("0.5"))),
)
RISK = Sizing(Strategy.RISK_PERCENTAGE, D(1))
HALF_A_COIN = Sizing(Strategy.FIXED, D("0.5"))


def decided(
    signal: Signal = BUY,
    sizing: Sizing = HALF_A_COIN,
    situation: Situation = ON_SPOT,
    limits: Limits = NO_LIMITS,
    **course: Any,
) -> object:
    """The entry, or the denial."""
    return outcome(lambda: decide(Course(signal, **course), sizing, limits, situation))


# Worked out by hand


def test_a_market_buy_on_spot() -> None:
    # 1 % of 2 000 over (100.1 − 95) + 0.001 × (100.1 + 95) = 5.2951: 3.777…
    assert decided(BUY, RISK) == Entry(
        instrument=SPOT,
        side=Side.BUY,
        type=OrderType.MARKET,
        quantity=D("3.777"),
        price=None,
        reference_price=D("100.1"),  # a buy pays the ask
        notional=D("378.0777"),
        fee_rate=D("0.001"),
        estimated_fees=D("0.3780777"),
        unit_value=D(1),
        stop_loss=D(95),
        levels=BUY.take_profits,
        rungs=(Rung(D(110), D("1.888")), Rung(D(120), D("1.889"))),
    )


def test_a_market_sell_on_margin() -> None:
    # 1 % of 2 000 over (105 − 99.9) + 0.001 × (99.9 + 105) = 5.3049: 3.770…
    assert decided(SELL, RISK, ON_SWAP) == Entry(
        instrument=SWAP,
        side=Side.SELL,
        type=OrderType.MARKET,
        quantity=D("3.770"),
        price=None,
        reference_price=D("99.9"),  # a sell gets the bid
        notional=D("376.623"),
        fee_rate=D("0.001"),
        estimated_fees=D("0.376623"),
        unit_value=D(1),
        stop_loss=D(105),
        levels=SELL.take_profits,
        rungs=(Rung(D(90), D("1.885")), Rung(D(80), D("1.885"))),
    )


def test_a_limit_entry_is_sized_at_its_own_price() -> None:
    # 250 at 98 = 2.551…; the market is elsewhere.
    limit = replace(BUY, order_type=OrderType.LIMIT, entry_price=D(98))
    assert decided(limit, Sizing(Strategy.FIXED_AMOUNT, D(250))) == Entry(
        instrument=SPOT,
        side=Side.BUY,
        type=OrderType.LIMIT,
        quantity=D("2.551"),
        price=D(98),
        reference_price=D(98),
        notional=D("249.998"),
        fee_rate=D("0.001"),
        estimated_fees=D("0.249998"),
        unit_value=D(1),
        stop_loss=D(95),
        levels=BUY.take_profits,
        rungs=(Rung(D(110), D("1.275")), Rung(D(120), D("1.276"))),
    )


def test_a_signal_without_exits() -> None:
    bare = Signal("BTC/USDT", Side.BUY)
    entry = decided(bare)
    assert isinstance(entry, Entry)
    assert (entry.stop_loss, entry.rungs, entry.quantity) == (None, (), D("0.5"))


def test_an_early_close_of_a_part_reduces_the_entry() -> None:
    entry = decided(open_portion=D("0.3333"))
    assert isinstance(entry, Entry)
    assert entry.quantity == D("0.166")  # 0.16665
    assert entry.rungs == (Rung(D(110), D("0.083")), Rung(D(120), D("0.083")))
    assert entry.notional == D("16.6166")


# On the tick


@pytest.mark.parametrize(
    ("signal", "price"),
    [
        (replace(BUY, entry_price=D("98.09")), "98"),  # never dearer than said
        (replace(BUY, entry_price=D("98.1")), "98.1"),
        (replace(SELL, entry_price=D("102.01")), "102.1"),  # never cheaper
        (replace(SELL, entry_price=D("102")), "102"),
    ],
)
def test_a_limit_price_is_rounded_in_the_signals_favour(signal: Signal, price: str) -> None:
    entry = decided(replace(signal, order_type=OrderType.LIMIT), situation=ON_SWAP)
    assert isinstance(entry, Entry)
    assert entry.price == entry.reference_price == D(price)


def test_exits_are_rounded_to_the_nearest_tick() -> None:
    entry = decided(replace(BUY, stop_loss=D("95.04"), take_profits=(Level(D("110.06"), D(1)),)))
    assert isinstance(entry, Entry)
    assert entry.stop_loss == D(95)
    assert entry.rungs == (Rung(D("110.1"), D("0.5")),)


def test_what_is_judged_is_the_exit_that_can_be_placed() -> None:
    # 99.86 is below the bid of 99.9, but a stop can only stand at 99.9.
    assert decided(replace(BUY, stop_loss=D("99.86"))) == No(
        "stop_already_passed", "The price is 99.9, already beyond the stop-loss 99.9."
    )
    assert decided(replace(BUY, take_profits=(Level(D("99.94"), D(1)),))) == No(
        "target_already_passed", "The price is 99.9, already beyond the first take-profit 99.9."
    )


def test_an_exit_is_at_least_one_tick() -> None:
    entry = decided(replace(BUY, stop_loss=D("0.01"), take_profits=()), Sizing(Strategy.FIXED, D(60)),
                    replace(ON_SPOT, funds=replace(FUNDS, free=D(10_000))))  # fmt: skip
    assert isinstance(entry, Entry)
    assert entry.stop_loss == D("0.1")


def test_a_limit_price_below_every_price_is_of_another_market() -> None:
    penny = replace(BUY, order_type=OrderType.LIMIT, entry_price=D("0.09"), stop_loss=None)
    assert decided(penny) == No(
        "market_mismatch", "The entry price 0.09 is below 0.1, the lowest price of BTC/USDT."
    )


# Every way to say no


def test_what_the_provider_took_back() -> None:
    assert decided(cancelled=True) == No(
        "signal_cancelled", "The provider cancelled the signal before it was executed."
    )
    assert decided(closed=True, open_portion=D(0)) == No(
        "signal_closed", "The provider closed the signal before it was executed."
    )
    check_course(Course(BUY))


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("signal_expired", {"signal": replace(BUY, expires_at=NOON)}),
        ("signal_too_old", {"situation": replace(ON_SPOT, published_at=NOON - timedelta(seconds=301))}),
        (
            "signal_expired",
            {
                "signal": replace(BUY, order_type=OrderType.LIMIT),
                "situation": replace(ON_SPOT, published_at=NOON - timedelta(hours=24)),
            },
        ),
        ("short_not_supported", {"signal": SELL}),
        ("symbol_not_allowed", {"limits": Limits(deny_symbols=["BTCUSDT"])}),
        ("max_open_positions", {"limits": Limits(max_open_positions=0)}),
        ("max_positions_per_symbol", {"limits": Limits(max_positions_per_symbol=0)}),
        ("max_daily_trades", {"limits": Limits(max_daily_trades=0)}),
        (
            "symbol_in_use",
            {"situation": replace(ON_SWAP, exposure=Exposure(1, 1, frozenset({Side.BUY}), 1))},
        ),
        (
            "opposite_position",
            {"situation": replace(ON_SWAP, exposure=Exposure(1, 1, frozenset({Side.SELL}), 1))},
        ),
        ("quote_stale", {"situation": replace(ON_SPOT, quote=None)}),
        ("quote_stale", {"situation": replace(ON_SPOT, quote=quote("99", "100", age=timedelta(minutes=1)))}),
        ("quote_stale", {"situation": replace(ON_SPOT, quote=quote("100", "99"))}),
        ("stop_already_passed", {"situation": replace(ON_SPOT, quote=quote("95", "96"))}),
        ("target_already_passed", {"situation": replace(ON_SPOT, quote=quote("110", "111"))}),
        ("price_drift", {"limits": Limits(max_price_drift_percent=D("0.09"))}),
        ("spread_too_wide", {"limits": Limits(max_spread_percent=D("0.19"))}),
        ("stop_too_close", {"signal": replace(BUY, stop_loss=D("99.8")), "sizing": RISK}),
        (
            "stop_beyond_liquidation",
            {"situation": replace(ON_SWAP, funds=replace(FUNDS, leverage=D(20)))},
        ),
        ("stop_loss_required", {"signal": replace(BUY, stop_loss=None), "sizing": RISK}),
        ("quantity_missing", {"sizing": Sizing(Strategy.SIGNAL_BASED, D(1))}),
        ("insufficient_balance", {"sizing": Sizing(Strategy.FIXED, D(10))}),
        ("quantity_below_minimum", {"sizing": Sizing(Strategy.FIXED, D("0.0009"))}),
        ("notional_below_minimum", {"sizing": Sizing(Strategy.FIXED, D("0.049"))}),
    ],
)
def test_every_check_is_made(code: str, changes: Mapping[str, Any]) -> None:
    denial = decided(**changes)
    assert isinstance(denial, No)
    assert denial.code == code


def test_nothing_stands_against_the_examples() -> None:
    for situation in (ON_SPOT, ON_SWAP):
        assert isinstance(decided(situation=situation), Entry)
    assert isinstance(decided(SELL, situation=ON_SWAP), Entry)
    # A stop this close matters only where it sizes the order.
    assert isinstance(decided(replace(BUY, stop_loss=D("99.8"))), Entry)


def test_a_limit_beyond_the_stop_that_an_update_set_is_denied() -> None:
    # The market is at 110, so the stop has not been passed; but an entry at 100 would begin beyond it.
    limit = replace(BUY, order_type=OrderType.LIMIT, stop_loss=D(105), take_profits=())
    assert decided(limit, RISK, replace(ON_SPOT, quote=quote("110", "110.1"))) == No(
        "stop_already_passed", "The stop-loss 105 is not below the entry at 100."
    )


def test_a_stop_on_the_entry_itself_is_denied_where_nothing_else_would_be_lost() -> None:
    # Without spread and fees there would be no risk to divide by.
    free = replace(ON_SPOT, quote=quote("100", "100"), funds=replace(FUNDS, fee_rate=D(0)))
    limit = replace(BUY, order_type=OrderType.LIMIT, entry_price=D("99.91"), stop_loss=D("99.87"))
    for signal in (replace(BUY, stop_loss=D("99.96")), limit):
        denial = decided(signal, RISK, free)
        assert isinstance(denial, No)
        assert denial.code == "stop_already_passed"


def test_what_an_early_close_leaves_may_be_too_small() -> None:
    # 0.06 of which a fifth is left; on spot 5 ÷ 95 = 0.05263… and 0.053 ÷ 0.999 make 0.054 the smallest.
    small = Sizing(Strategy.FIXED, D("0.06"))
    assert isinstance(decided(sizing=small), Entry)
    assert decided(sizing=small, open_portion=D("0.2")) == No(
        "notional_below_minimum", "The order would be worth 1.2012 USDT; the venue takes 5 or more."
    )
    assert decided(sizing=small, open_portion=D("0.01")) == No(
        "quantity_below_minimum", "The size comes to 0 BTC; the venue takes 0.054 or more."
    )


def test_an_entry_that_could_not_be_protected_is_denied() -> None:
    # 0.053 is worth 5.035 at the stop, but after the fee 0.052 is left, worth 4.94.
    assert decided(sizing=Sizing(Strategy.FIXED, D("0.053"))) == No(
        "notional_below_minimum",
        "0.053 BTC, less the fee, could not be protected at 95; it takes 0.054 or more.",
    )
    assert isinstance(decided(sizing=Sizing(Strategy.FIXED, D("0.053")), situation=ON_SWAP), Entry)


def test_the_grain_of_an_instrument() -> None:
    assert grain_of(SPOT, netting=False) == Grain(D("0.001"), D("0.001"), D(5))
    assert grain_of(SPOT, netting=True) == Grain(D("0.001"), D("0.001"), None), (
        "what only reduces is always taken"
    )


def test_targets_on_a_netting_account_may_be_worth_less_than_an_entry() -> None:
    signal = replace(BUY, take_profits=(Level(D(110), D("0.05")), Level(D(120), D("0.95"))))
    small = Sizing(Strategy.FIXED, D("0.1"))
    on_swap = decided(signal=signal, sizing=small, situation=ON_SWAP)
    assert isinstance(on_swap, Entry)
    assert [rung.quantity for rung in on_swap.rungs] == [D("0.005"), D("0.095")]
    on_spot = decided(signal=signal, sizing=small)
    assert isinstance(on_spot, Entry)
    assert [rung.quantity for rung in on_spot.rungs] == [D("0.1")]


# For any signal, terms and account

prices = decimals("80", "120", 2)
portions = st.sampled_from([(), (D(1),), (D("0.3"), D("0.7")), (D("0.2"), D("0.2"), D("0.1"))])


@st.composite
def signals(draw: st.DrawFn) -> Signal:
    """A signal as it may be after updates: its prices need not fit each other any more."""
    side = draw(st.sampled_from(Side))
    parts = draw(portions)
    ahead = draw(st.lists(decimals("1", "40", 2), min_size=len(parts), max_size=len(parts)))
    return Signal(
        "BTC/USDT",
        side,
        draw(st.sampled_from([OrderType.MARKET, OrderType.LIMIT])),
        draw(decimals("97", "103", 2)),
        draw(st.none() | prices | decimals("3", "15", 2).map(lambda behind: 100 - behind * side.sign)),
        tuple(Level(100 + far * side.sign, part) for far, part in zip(sorted(ahead), parts, strict=True)),
        draw(decimals("0.01", "5", 3)),
    )


sizings = st.builds(
    Sizing,
    st.sampled_from(Strategy),
    decimals("0.05", "20", 2),
    st.none() | decimals("0.05", "5", 3),
    st.none() | decimals("10", "5000", 2),
    st.sampled_from(OnTooSmall),
)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """An account with something on it, and a market around 100."""
    bid = draw(decimals("98", "102", 1))
    funds = Funds(
        draw(decimals("0", "50000", 2)),
        draw(decimals("0", "50000", 2)),
        draw(decimals("0", "0.002", 4)),
        draw(decimals("0", "0.01", 3)),
    )
    seen = quote(bid, bid + draw(decimals("0", "0.5", 1)))
    if not draw(st.integers(0, 3)):
        return replace(ON_SPOT, quote=seen, funds=funds)
    return replace(
        ON_SWAP, quote=seen, funds=replace(funds, leverage=draw(st.sampled_from([D(1), D(3), D(10)])))
    )


open_portions = st.just(D(1)) | decimals("0.05", "1", 3)


@settings(max_examples=400)
@given(signals(), sizings, situations(), open_portions)
def test_an_order_that_may_be_sent_can_be_paid_protected_and_left(
    signal: Signal, sizing: Sizing, situation: Situation, open_portion: Decimal
) -> None:
    try:
        entry = decide(Course(signal, open_portion=open_portion), sizing, NO_LIMITS, situation)
    except Denied as denial:
        event(denial.code)
        return
    event(f"{entry.type} {signal.direction}")
    instrument, funds, sign = situation.instrument, situation.funds, signal.direction.sign
    grain, price, quantity = (
        grain_of(instrument, netting=False),
        entry.reference_price,
        Fraction(entry.quantity),
    )
    assert situation.quote is not None
    # The right side of the market, and never a worse limit than the signal's.
    if entry.type is OrderType.MARKET:
        assert entry.price is None
        assert price == (situation.quote.ask if sign > 0 else situation.quote.bid)
    else:
        assert entry.price == price
        assert signal.entry_price is not None
        assert 0 <= (signal.entry_price - price) * sign < instrument.price_tick
        assert price % instrument.price_tick == 0
    # It can be paid for, and says what it costs.
    cost = 1 / Fraction(funds.leverage) + Fraction(funds.fee_rate) + Fraction(funds.slippage)
    assert quantity * Fraction(price) * cost <= Fraction(funds.free)
    assert Fraction(entry.notional) == quantity * Fraction(price)
    assert Fraction(entry.estimated_fees) == quantity * Fraction(price) * Fraction(funds.fee_rate)
    # It is on the step and the venue takes it, also what is left of it at its stop.
    assert entry.quantity % instrument.quantity_step == 0
    assert grain.takes(entry.quantity, price)
    if entry.stop_loss is not None:
        assert grain.takes(entry.quantity, entry.stop_loss)
        assert entry.stop_loss * sign < price * sign
        assert entry.stop_loss * sign < situation.quote.leaving(signal.direction) * sign
        assert entry.stop_loss % instrument.price_tick == 0
        if sizing.strategy is Strategy.RISK_PERCENTAGE:
            lost = abs(Fraction(price) - Fraction(entry.stop_loss)) + Fraction(funds.fee_rate) * (
                Fraction(price) + Fraction(entry.stop_loss)
            )
            assert quantity * lost <= Fraction(funds.equity) * Fraction(sizing.value) / 100
    # Its targets lie ahead of the market and take no more than there is.
    assert sum((Fraction(rung.quantity) for rung in entry.rungs), Fraction(0)) <= quantity
    for rung in entry.rungs:
        assert rung.price * sign > situation.quote.leaving(signal.direction) * sign
        assert rung.price % instrument.price_tick == 0
        assert grain_of(instrument, netting=situation.netting).takes(rung.quantity, rung.price)


@given(signals(), sizings, situations(), open_portions)
def test_the_global_decimal_context_does_not_matter(
    signal: Signal, sizing: Sizing, situation: Situation, open_portion: Decimal
) -> None:
    limits = Limits(max_price_drift_percent=D(1), max_spread_percent=D("0.4"))
    course = Course(signal, open_portion=open_portion)
    assert_unmoved(lambda: decide(course, sizing, NO_LIMITS, situation))
    assert_unmoved(lambda: decide(course, sizing, limits, situation))
