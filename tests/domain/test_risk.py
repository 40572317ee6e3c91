"""Risk: each check an entry passes, at its boundary, with the numbers it says no with."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.domain.market import Instrument, MarketType, Quote
from app.domain.orders import OrderType, Side
from app.domain.risk import (
    DEFAULT_MAX_AGE,
    LIQUIDATION_BUFFER,
    Exposure,
    Limits,
    Mode,
    check_age,
    check_direction,
    check_exposure,
    check_liquidation,
    check_mode,
    check_price,
    check_quote,
    check_stop_distance,
    check_stop_side,
    check_symbol,
)
from app.domain.signals import Level, Signal
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

BUY = Signal("BTC/USDT", Side.BUY, entry_price=D(100), stop_loss=D(95), take_profits=(Level(D(110), D(1)),))
SELL = Signal("BTC/USDT", Side.SELL, entry_price=D(100), stop_loss=D(105), take_profits=(Level(D(90), D(1)),))
NO_LIMITS = Limits()
FLAT = Exposure(0, 0, frozenset(), 0)

prices = decimals("1", "1000", 2)


def passes(check: Callable[[], object]) -> bool:
    """Whether a check says nothing against it."""
    return not isinstance(outcome(check), No)


# Mode


def test_a_name_of_the_symbol_map_counts_in_the_owners_lists() -> None:
    aliases = ("GOLD", "PEPE/USDT")
    assert passes(lambda: check_symbol(SWAP, Limits(allow_symbols=["gold"]), aliases))
    assert passes(lambda: check_symbol(SWAP, Limits(allow_symbols=["PEPEUSDT"]), aliases))
    assert not passes(lambda: check_symbol(SWAP, Limits(deny_symbols=["GOLD"]), aliases))
    assert not passes(lambda: check_symbol(SWAP, Limits(allow_symbols=["SILVER"]), aliases))
    assert passes(lambda: check_symbol(SWAP, Limits(deny_symbols=["GOLD"])))


def test_only_an_active_mode_opens_positions() -> None:
    assert passes(lambda: check_mode(Mode.ACTIVE))
    assert outcome(lambda: check_mode(Mode.REDUCING)) == No(
        "trading_reducing", "The connection only reduces positions at the moment."
    )
    assert outcome(lambda: check_mode(Mode.HALTED)) == No("trading_halted", "The connection is halted.")


# Age


def aged(signal: Signal, seconds: float, limits: Limits = NO_LIMITS) -> object:
    """The check of a signal published that many seconds ago."""
    return outcome(lambda: check_age(signal, NOON - timedelta(seconds=seconds), limits, NOON))


def test_market_signals_are_young_for_five_minutes() -> None:
    assert timedelta(seconds=300) == DEFAULT_MAX_AGE
    assert aged(BUY, 300) is None
    assert aged(BUY, 301) == No("signal_too_old", "The signal is 301 s old; 300 s are accepted.")
    assert aged(BUY, 300.001) == No("signal_too_old", "The signal is 300 s old; 300 s are accepted.")
    assert aged(BUY, -60) is None  # the source's clock may be ahead


def test_a_connection_says_for_itself_how_old_is_too_old() -> None:
    strict, patient = Limits(max_signal_age=timedelta(seconds=10)), Limits(max_signal_age=timedelta(hours=1))
    limit = replace(BUY, order_type=OrderType.LIMIT)
    for signal in (BUY, limit):
        assert aged(signal, 10, strict) is None
        assert aged(signal, 11, strict) == No("signal_too_old", "The signal is 11 s old; 10 s are accepted.")
    assert aged(BUY, 3600, patient) is None
    assert aged(BUY, 1, Limits(max_signal_age=timedelta(0))) == No(
        "signal_too_old", "The signal is 1 s old; 0 s are accepted."
    )


def test_an_expired_signal_is_denied_from_its_last_moment_on() -> None:
    for signal in (BUY, replace(BUY, order_type=OrderType.LIMIT)):
        ending = replace(signal, expires_at=NOON)
        assert aged(ending, 5) == No("signal_expired", "The signal expired at 2026-03-01T12:00:00Z.")
        assert aged(replace(ending, expires_at=NOON + timedelta(microseconds=1)), 5) is None


def test_a_limit_without_an_expiry_may_wait_for_a_day_and_no_longer() -> None:
    limit, day = replace(BUY, order_type=OrderType.LIMIT), 24 * 3600
    assert aged(limit, day - 1) is None
    assert aged(limit, day) == No("signal_expired", "The signal expired at 2026-03-01T12:00:00Z.")
    assert aged(replace(limit, expires_at=NOON + timedelta(days=9)), 3 * day) is None


# Symbol and direction


def is_denied(instrument: Instrument, name: str) -> bool:
    """Whether a deny list with this name means the instrument."""
    return not passes(lambda: check_symbol(instrument, Limits(deny_symbols=[name])))


@pytest.mark.parametrize(
    "name",
    ["BTC/USDT", "BTC/USDT:USDT", "BTCUSDT", "BTCUSDT.P", "BTC-USDT", "btc/usdt", "btcusdt.p"],
)
def test_a_list_names_a_symbol_in_any_of_its_forms(name: str) -> None:
    assert passes(lambda: check_symbol(SWAP, Limits(allow_symbols=[name])))
    assert outcome(lambda: check_symbol(SWAP, Limits(deny_symbols=[name]))) == No(
        "symbol_not_allowed", "BTC/USDT:USDT is on the connection's deny list."
    )


def test_a_brokers_own_name_is_a_name_too() -> None:
    listed = replace(SPOT, symbol="EURUSD.m", base="EUR", quote="USD", market_type=MarketType.FX)
    for name in ("EURUSD.m", "EURUSD", "EUR/USD"):
        assert is_denied(listed, name)


@pytest.mark.parametrize("name", ["ETH/USDT", "BTC/USD", "BTC", "BTC/USDT:BTC", "USDTBTC", ""])
def test_a_list_means_no_other_symbol(name: str) -> None:
    assert passes(lambda: check_symbol(SWAP, Limits(deny_symbols=[name])))
    assert outcome(lambda: check_symbol(SWAP, Limits(allow_symbols=[name]))) == No(
        "symbol_not_allowed", "BTC/USDT:USDT is not on the connection's allow list."
    )


def test_a_perpetual_on_a_list_is_not_the_coin() -> None:
    for name in ("BTCUSDT.P", "BTC/USDT:USDT"):
        assert not is_denied(SPOT, name)


def test_an_empty_allow_list_allows_all_and_the_deny_list_has_the_last_word() -> None:
    assert passes(lambda: check_symbol(SPOT, NO_LIMITS))
    both = Limits(allow_symbols=["BTC/USDT"], deny_symbols=["BTCUSDT"])
    assert not passes(lambda: check_symbol(SPOT, both))


def test_spot_opens_long_only() -> None:
    assert outcome(lambda: check_direction(SELL, SPOT)) == No(
        "short_not_supported", "BTC/USDT is spot, which opens long only."
    )
    assert passes(lambda: check_direction(BUY, SPOT))
    assert passes(lambda: check_direction(BUY, SWAP))
    assert passes(lambda: check_direction(SELL, SWAP))


# Quote


def test_a_usable_quote_is_handed_on() -> None:
    seen = quote("99", "101", age=HALF_A_MINUTE)
    assert check_quote(seen, "BTC/USDT", NOON, HALF_A_MINUTE) is seen


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (None, "The venue quotes no price for BTC/USDT."),
        (
            quote("99", "101", age=timedelta(seconds=31)),
            "The last quote of BTC/USDT is 31 s old (bid 99, ask 101); at most 30 s are accepted.",
        ),
        (quote("101", "99"), "The quote of BTC/USDT is unsound: bid 101, ask 99."),
        (quote("0", "101"), "The quote of BTC/USDT is unsound: bid 0, ask 101."),
        (quote("0", "0"), "The quote of BTC/USDT is unsound: bid 0, ask 0."),
    ],
)
def test_a_quote_on_which_nothing_can_rest(seen: Quote | None, message: str) -> None:
    assert outcome(lambda: check_quote(seen, "BTC/USDT", NOON, HALF_A_MINUTE)) == No("quote_stale", message)


# Price


def priced(signal: Signal, bid: str, ask: str, limits: Limits = NO_LIMITS) -> object:
    """The check of a signal against a live quote."""
    return outcome(lambda: check_price(signal, quote(bid, ask), limits))


@pytest.mark.parametrize(
    ("signal", "bid", "ask", "denial"),
    [
        # A long is stopped and takes its profit on the bid, a short on the ask.
        (BUY, "95.01", "95.02", None),
        (BUY, "95", "101", No("stop_already_passed", "The price is 95, already beyond the stop-loss 95.")),
        (BUY, "94", "101", No("stop_already_passed", "The price is 94, already beyond the stop-loss 95.")),
        (BUY, "109.99", "111", None),
        (
            BUY,
            "110",
            "111",
            No("target_already_passed", "The price is 110, already beyond the first take-profit 110."),
        ),
        (SELL, "104.98", "104.99", None),
        (SELL, "99", "105", No("stop_already_passed", "The price is 105, already beyond the stop-loss 105.")),
        (SELL, "89", "90.01", None),
        (
            SELL,
            "89",
            "89.5",
            No("target_already_passed", "The price is 89.5, already beyond the first take-profit 90."),
        ),
    ],
)
def test_stop_and_first_target_are_not_passed_yet(
    signal: Signal, bid: str, ask: str, denial: No | None
) -> None:
    assert priced(signal, bid, ask) == denial
    # A limit entry is checked against the live price as well.
    assert priced(replace(signal, order_type=OrderType.LIMIT), bid, ask) == denial


def test_only_the_first_target_counts() -> None:
    ladder = (Level(D(110), D("0.5")), Level(D(120), D("0.5")))
    assert isinstance(priced(replace(BUY, take_profits=ladder), "115", "116"), No)


DRIFT = Limits(max_price_drift_percent=D("0.5"))


@pytest.mark.parametrize(
    ("signal", "bid", "ask", "denial"),
    [
        (BUY, "99", "100.5", None),  # (100.5 − 100) ÷ 100 = 0.5 %
        (
            BUY,
            "99",
            "100.51",
            No("price_drift", "The price 100.51 is 0.5100 % worse than the entry 100; 0.5 % are accepted."),
        ),
        (BUY, "95.5", "96", None),  # a better price is no drift
        (SELL, "99.5", "101", None),
        (
            SELL,
            "99.4",
            "101",
            No("price_drift", "The price 99.4 is 0.6000 % worse than the entry 100; 0.5 % are accepted."),
        ),
        (SELL, "104", "104.5", None),
    ],
)
def test_drift_is_the_adverse_move_of_the_price_paid(
    signal: Signal, bid: str, ask: str, denial: No | None
) -> None:
    assert priced(signal, bid, ask, DRIFT) == denial


def test_a_drift_limit_needs_an_entry_price_to_measure_from() -> None:
    assert priced(replace(BUY, entry_price=None), "99", "100", DRIFT) == No(
        "price_drift", "The connection limits price drift and the signal names no entry_price."
    )
    assert priced(replace(BUY, entry_price=None), "99", "100") is None


def test_a_limit_entry_does_not_drift() -> None:
    # It pays its own price, wherever the market is.
    assert priced(replace(BUY, order_type=OrderType.LIMIT), "107", "108", DRIFT) is None


def test_the_spread_is_measured_against_the_mid() -> None:
    one = Limits(max_spread_percent=D(1))
    assert priced(BUY, "99.5", "100.5", one) is None  # 1 ÷ 100
    assert priced(BUY, "99.4", "100.6", one) == No(
        "spread_too_wide", "The spread is 1.2000 %; 1 % are accepted."
    )
    assert isinstance(priced(replace(BUY, order_type=OrderType.LIMIT), "99.4", "100.6", one), No)


@given(prices, prices, prices, prices, st.sampled_from(Side))
def test_buys_and_sells_mirror_each_other(
    bid: Decimal, ask: Decimal, stop: Decimal, target: Decimal, side: Side
) -> None:
    bid, ask = min(bid, ask), max(bid, ask)
    signal = Signal("BTC/USDT", side, stop_loss=stop, take_profits=(Level(target, D(1)),))
    mirrored = Signal(
        "BTC/USDT", side.opposite, stop_loss=1001 - stop, take_profits=(Level(1001 - target, D(1)),)
    )
    here = outcome(lambda: check_price(signal, quote(bid, ask), NO_LIMITS))
    there = outcome(lambda: check_price(mirrored, quote(1001 - ask, 1001 - bid), NO_LIMITS))
    assert (here.code if isinstance(here, No) else None) == (there.code if isinstance(there, No) else None)


@given(prices, prices, prices, st.sampled_from(Side), decimals("0", "20", 2))
def test_drift_is_denied_exactly_beyond_the_limit(
    bid: Decimal, ask: Decimal, entry: Decimal, side: Side, most: Decimal
) -> None:
    bid, ask = min(bid, ask), max(bid, ask)
    signal = Signal("BTC/USDT", side, entry_price=entry)
    worse = (ask - entry) if side is Side.BUY else (entry - bid)
    drifted = Fraction(worse) / Fraction(entry) * 100 > Fraction(most)
    limits = Limits(max_price_drift_percent=most)
    assert passes(lambda: check_price(signal, quote(bid, ask), limits)) is not drifted


# Stop


@pytest.mark.parametrize(
    ("side", "stop", "message"),
    [
        (Side.BUY, "99.99", None),
        (Side.BUY, "100", "The stop-loss 100 is not below the entry at 100."),
        (Side.BUY, "105", "The stop-loss 105 is not below the entry at 100."),
        (Side.SELL, "100.01", None),
        (Side.SELL, "100", "The stop-loss 100 is not above the entry at 100."),
        (Side.SELL, "95", "The stop-loss 95 is not above the entry at 100."),
    ],
)
def test_a_stop_lies_on_the_losing_side_of_the_entry(side: Side, stop: str, message: str | None) -> None:
    denial = None if message is None else No("stop_already_passed", message)
    assert outcome(lambda: check_stop_side(side, D(100), D(stop))) == denial
    assert passes(lambda: check_stop_side(side, D(100), None))


@pytest.mark.parametrize(
    ("price", "stop", "denied"),
    [
        # Spread 0.2, fees 0.001 × (100 + 99.6) = 0.1996: together 0.3996.
        ("100", "99.6", False),
        ("100", "99.7", True),
        # 0.2 + 0.001 × 200.4 = 0.4004
        ("100", "100.4", True),
        ("100", "100.5", False),
    ],
)
def test_a_stop_is_further_off_than_spread_and_fees(price: str, stop: str, denied: bool) -> None:
    seen = quote("99.9", "100.1")
    assert passes(lambda: check_stop_distance(D(price), D(stop), seen, D("0.001"))) is not denied


def test_a_stop_as_far_as_the_spread_is_far_enough() -> None:
    assert passes(lambda: check_stop_distance(D(100), D("99.8"), quote("99.9", "100.1"), D(0)))
    assert not passes(lambda: check_stop_distance(D(100), D("99.81"), quote("99.9", "100.1"), D(0)))


def test_a_stop_too_close_says_how_close() -> None:
    seen = quote("99.9", "100.1")
    assert outcome(lambda: check_stop_distance(D(100), D("99.7"), seen, D("0.001"))) == No(
        "stop_too_close", "The stop is 0.3 from the price; spread and fees alone are 0.39970000."
    )


# Liquidation


def liquidated(side: Side, stop: str, leverage: str, instrument: Instrument = SWAP) -> object:
    """The check of an entry at 100."""
    return outcome(lambda: check_liquidation(side, D(100), D(stop), D(leverage), instrument))


def test_the_stop_comes_before_liquidation_with_a_tenth_of_the_way_to_spare() -> None:
    assert D("0.1") == LIQUIDATION_BUFFER
    # At 10x with 0.5 % maintenance a long is liquidated near 100 − 9.5 = 90.5; 0.9 × 9.5 = 8.55.
    assert liquidated(Side.BUY, "91.45", "10") is None
    assert liquidated(Side.BUY, "91.44", "10") == No(
        "stop_beyond_liquidation",
        "At 10x the position would be liquidated near 90.50000000, before or too close to the stop 91.44.",
    )
    # A short above its entry, near 109.5.
    assert liquidated(Side.SELL, "108.55", "10") is None
    assert liquidated(Side.SELL, "108.56", "10") == No(
        "stop_beyond_liquidation",
        "At 10x the position would be liquidated near 109.50000000, before or too close to the stop 108.56.",
    )


def test_where_maintenance_eats_the_whole_margin_no_stop_is_in_time() -> None:
    risky = replace(SWAP, maintenance_margin=D("0.01"))
    assert liquidated(Side.BUY, "99.9", "100", risky) == No(
        "stop_beyond_liquidation",
        "At 100x the position would be liquidated near 100.00000000, before or too close to the stop 99.9.",
    )


def test_what_is_not_on_margin_or_has_no_stop_is_not_liquidated_before_it() -> None:
    assert liquidated(Side.BUY, "1", "10", SPOT) is None
    assert passes(lambda: check_liquidation(Side.BUY, D(100), None, D(10), SWAP))


@given(decimals("1", "99", 2), st.sampled_from([D(1), D(3), D(10), D(75)]), decimals("0.01", "1000", 2))
def test_liquidation_mirrors_and_scales_with_the_price(
    distance: Decimal, leverage: Decimal, scale: Decimal
) -> None:
    def denied(side: Side, price: Decimal, stop: Decimal) -> bool:
        return not passes(lambda: check_liquidation(side, price, stop, leverage, SWAP))

    long = denied(Side.BUY, D(100), 100 - distance)
    assert long == denied(Side.SELL, D(100), 100 + distance)
    assert long == denied(Side.BUY, 100 * scale, (100 - distance) * scale)
    room = (1 / Fraction(leverage) - Fraction("0.005")) * 100
    assert long == (Fraction(distance) > room * Fraction("0.9"))


# Exposure


def exposed(
    exposure: Exposure, limits: Limits = NO_LIMITS, side: Side = Side.BUY, *, netting: bool = True
) -> object:
    """The check of one more entry in BTC/USDT."""
    return outcome(lambda: check_exposure(limits, exposure, side, "BTC/USDT", netting=netting))


LONG = Exposure(3, 1, frozenset({Side.BUY}), 5)


def test_a_netting_account_holds_one_position_of_a_symbol() -> None:
    assert exposed(FLAT) is None
    assert exposed(replace(LONG, positions_of_symbol=0, sides_of_symbol=frozenset())) is None
    assert exposed(LONG) == No("symbol_in_use", "BTC/USDT already has a position or pending entry of ours.")
    assert exposed(LONG, side=Side.SELL) == No(
        "opposite_position", "BTC/USDT is already held in the other direction."
    )


def test_a_symbol_with_an_order_in_review_takes_no_more() -> None:
    doubted = replace(LONG, in_review=True)
    assert exposed(doubted, netting=False) == No(
        "order_in_review",
        "What became of an order of ours in BTC/USDT is not known; nothing is entered there until it is.",
    )
    assert exposed(replace(FLAT, in_review=True), netting=True) == exposed(doubted, netting=False)


def test_other_accounts_hold_several_in_both_directions() -> None:
    assert exposed(LONG, netting=False) is None
    assert exposed(LONG, side=Side.SELL, netting=False) is None


@pytest.mark.parametrize(
    ("limits", "room", "denial"),
    [
        (
            Limits(max_open_positions=3),
            Limits(max_open_positions=4),
            No("max_open_positions", "3 positions are open; the limit is 3."),
        ),
        (
            Limits(max_positions_per_symbol=1),
            Limits(max_positions_per_symbol=2),
            No("max_positions_per_symbol", "1 positions of BTC/USDT are open; the limit is 1."),
        ),
        (
            Limits(max_daily_trades=5),
            Limits(max_daily_trades=6),
            No("max_daily_trades", "5 entries were sent today; the limit is 5."),
        ),
    ],
)
def test_a_limit_that_is_reached_leaves_room_for_no_more(limits: Limits, room: Limits, denial: No) -> None:
    assert exposed(LONG, limits, netting=False) == denial
    assert exposed(LONG, room, netting=False) is None


def test_a_limit_of_zero_is_a_limit() -> None:
    for limits in (
        Limits(max_open_positions=0),
        Limits(max_positions_per_symbol=0),
        Limits(max_daily_trades=0),
    ):
        assert isinstance(exposed(FLAT, limits), No)


# Limits as they are stored


def test_limits_are_read_from_what_a_connection_keeps() -> None:
    assert Limits.read({}) == NO_LIMITS
    assert Limits.read(
        {
            "max_open_positions": 3,
            "max_positions_per_symbol": 1,
            "max_daily_trades": 0,
            "allow_symbols": ["BTC/USDT"],
            "deny_symbols": None,
            "max_signal_age_seconds": 0,
            "max_price_drift_percent": "0.5",
            "max_spread_percent": "0",
        }
    ) == Limits(
        max_open_positions=3,
        max_positions_per_symbol=1,
        max_daily_trades=0,
        allow_symbols=("BTC/USDT",),
        deny_symbols=(),
        max_signal_age=timedelta(0),
        max_price_drift_percent=D("0.5"),
        max_spread_percent=D(0),
    )


long_prices = decimals("1", "1000", 12)


@given(
    long_prices,
    long_prices,
    long_prices,
    long_prices,
    long_prices,
    st.sampled_from(Side),
    decimals("0.01", "100", 2),
)
def test_the_global_decimal_context_does_not_matter(
    bid: Decimal, ask: Decimal, entry: Decimal, stop: Decimal, target: Decimal, side: Side, most: Decimal
) -> None:
    assume(bid != ask)
    seen = quote(min(bid, ask), max(bid, ask))
    signal = Signal("BTC/USDT", side, entry_price=entry, stop_loss=stop, take_profits=(Level(target, D(1)),))
    limits = Limits(max_price_drift_percent=most, max_spread_percent=most)
    assert_unmoved(lambda: check_price(signal, seen, limits))
    assert_unmoved(lambda: check_price(Signal("BTC/USDT", side, entry_price=entry), seen, limits))
    assert_unmoved(lambda: check_quote(seen, "BTC/USDT", NOON, HALF_A_MINUTE))
    assert_unmoved(lambda: check_stop_side(side, entry, stop))
    assert_unmoved(lambda: check_stop_distance(entry, stop, seen, D("0.0007")))
    assert_unmoved(lambda: check_liquidation(side, entry, stop, D(3), SWAP))
