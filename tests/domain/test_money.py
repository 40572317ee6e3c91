"""Money: what is an amount and what is not, how it is written, and rounding to a venue's steps."""

import re
from collections.abc import Callable
from decimal import Context, Decimal, getcontext, localcontext
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.money import (
    ARITHMETIC,
    SCALE,
    ceil_to_step,
    exact,
    floor_to_step,
    parse,
    percent_of,
    round_to_tick,
    stored,
    text,
    trimmed,
)
from tests.domain.samples import D, assert_unmoved, careless_library, decimals

LARGEST = "9999999999999999999.999999999999999999"
CANONICAL = re.compile(r"0|-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")

# Every amount a column can hold: 37 digits, 18 of them behind the point. Built without arithmetic.
amounts = st.integers(-(10**37) + 1, 10**37 - 1).map(
    lambda units: D((int(units < 0), tuple(int(digit) for digit in str(abs(units))), -SCALE))
)
prices = decimals("0.00000001", "1000000", 8).filter(bool)
steps = st.sampled_from([D(each) for each in ("0.00000001", "0.001", "0.25", "0.3", "1", "5", "100")])


# What is an amount


@pytest.mark.parametrize(
    ("given_", "meant"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("12.5", "12.5"),
        ("-12.50", "-12.5"),
        ("1e5", "100000"),
        ("1E+18", "1000000000000000000"),
        ("1e-18", "0.000000000000000001"),
        ("25e-3", "0.025"),
        (LARGEST, LARGEST),
        (f"-{LARGEST}", f"-{LARGEST}"),
        (7, "7"),
        (-(10**19) + 1, "-9999999999999999999"),
        (D("2.50"), "2.5"),
        (D("1.0000000000000000000000000"), "1"),
    ],
)
def test_amounts(given_: object, meant: str) -> None:
    assert text(parse(given_)) == meant


@pytest.mark.parametrize(
    "value",
    [
        0.1, 1.0, float("nan"), float("inf"), True, False, None, b"1", [1],
        "NaN", "nan", "sNaN", "Infinity", "-inf", D("NaN"), D("sNaN"), D("Infinity"), D("-Infinity"),
        "", " 1", "1 ", "1\n", "+1", "--1", ".5", "1.", "01", "00", "1,5", "1 000", "0x10", "1e", "e5", "1e5.0",
        "1e1000", "1_000", "1e1_0", "١٢", "１２", "1e١", "½", "²",
        "1e19", "-1e19", "10000000000000000000", "1e-19", "0.0000000000000000001", "1.0000000000000000001",
        "0e19", "0e-19", "0e999", 10**19, -(10**19), D("1E+19"), D("1E-19"),
    ],
)  # fmt: skip
def test_no_amounts(value: object) -> None:
    with pytest.raises(ValueError, match=r"^an amount "):
        parse(value)


@pytest.mark.parametrize(
    "number", ["1E+999999999", "-1E+999999999", "1E-999999999", "0E+999999999", "0E-999999999"]
)
def test_a_number_out_of_all_range_is_refused_before_anything_is_computed_from_it(number: str) -> None:
    # Such a JSON number is a Decimal by the time it gets here; to write its zeros out would take a gigabyte.
    with pytest.raises(ValueError, match="at most 19 digits before"):
        parse(D(number))


@given(st.text("0123456789.eE+-_ \nNanIif١", max_size=12))
def test_a_text_is_an_amount_or_a_value_error(written: str) -> None:
    try:
        amount = parse(written)
    except ValueError:
        return
    assert amount == D(written)
    assert written.isascii()
    assert "_" not in written


@given(st.decimals())
def test_a_decimal_is_an_amount_unchanged_or_a_value_error(number: Decimal) -> None:
    try:
        amount = parse(number)
    except ValueError:
        return
    assert amount == number
    assert abs(amount) < 10**19
    assert Fraction(amount) * 10**SCALE % 1 == 0


@given(st.integers(1, 9), st.integers(19, 400), st.sampled_from(["", "-"]))
def test_exponents_beyond_18_are_refused(digit: int, exponent: int, sign: str) -> None:
    for written in (f"{sign}{digit}e{exponent}", f"{sign}{digit}E-{exponent}"):
        with pytest.raises(ValueError, match=r"^an amount "):
            parse(written)
        with pytest.raises(ValueError, match=r"^an amount "):
            parse(D(written))


# How it is written


@given(amounts)
@example(D("0E-18"))
@example(D("-0E-18"))
def test_written_and_read_it_is_the_same_amount(amount: Decimal) -> None:
    written = text(amount)
    assert CANONICAL.fullmatch(written)
    assert parse(written) == amount
    assert text(parse(written)) == written
    assert stored(amount) == amount
    assert trimmed(amount) == amount


@given(amounts, st.integers(0, 5))
def test_however_an_amount_is_written_it_has_one_text(amount: Decimal, zeros: int) -> None:
    with localcontext(ARITHMETIC):
        padded = f"{amount:f}" + "0" * zeros
        scientific = f"{amount.normalize():E}"
    assert text(D(padded)) == text(D(scientific)) == text(amount)


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("1.500", "1.5"),
        ("1E+3", "1000"),
        ("100", "100"),
        ("-0.0", "0"),
        ("0E-7", "0"),
        ("0E+2", "0"),
        ("-0.10", "-0.1"),
        ("1E-18", "0.000000000000000001"),
    ],
)
def test_text(amount: str, written: str) -> None:
    assert text(D(amount)) == written


@pytest.mark.parametrize(
    ("amount", "same"),
    [("1.500", "1.5"), ("1E+3", "1000"), ("200.00", "200"), ("0E-7", "0"), ("0.10", "0.1")],
)
def test_trimmed_has_neither_trailing_zeros_nor_an_exponent(amount: str, same: str) -> None:
    assert str(trimmed(D(amount))) == same


@pytest.mark.parametrize(
    ("amount", "kept"),
    [
        ("0.0000000000000000005", "0E-18"),  # a tie, to even: down
        ("0.0000000000000000015", "2E-18"),  # a tie, to even: up
        ("0.00000000000000000149", "1E-18"),
        ("2.5", "2.500000000000000000"),
    ],
)
def test_stored_rounds_half_to_even_at_18_places(amount: str, kept: str) -> None:
    assert str(stored(D(amount))) == kept


# Rounding


@pytest.mark.parametrize(
    ("function", "amount", "step", "result"),
    [
        (floor_to_step, "0.123999", "0.001", "0.123"),
        (floor_to_step, "0.123", "0.001", "0.123"),
        (floor_to_step, "-0.1231", "0.001", "-0.124"),
        (floor_to_step, "17", "5", "15"),
        (floor_to_step, "0.7", "0.3", "0.6"),
        (floor_to_step, "0.0009", "0.001", "0"),
        (ceil_to_step, "0.1230001", "0.001", "0.124"),
        (ceil_to_step, "0.123", "0.001", "0.123"),
        (ceil_to_step, "0.7", "0.3", "0.9"),
        (round_to_tick, "100.04", "0.1", "100"),
        (round_to_tick, "100.06", "0.1", "100.1"),
        (round_to_tick, "100.05", "0.1", "100"),  # a tie, to the even multiple
        (round_to_tick, "100.15", "0.1", "100.2"),
        (round_to_tick, "26852", "0.5", "26852"),
    ],
)
def test_rounding(
    function: Callable[[Decimal, Decimal], Decimal], amount: str, step: str, result: str
) -> None:
    assert function(D(amount), D(step)) == D(result)


@given(amounts, steps)
def test_floor_and_ceiling_are_the_multiples_on_either_side(amount: Decimal, step: Decimal) -> None:
    low, high = Fraction(floor_to_step(amount, step)), Fraction(ceil_to_step(amount, step))
    grain = Fraction(step)
    assert low % grain == high % grain == 0
    assert low <= Fraction(amount) < low + grain
    assert high - grain < Fraction(amount) <= high


@given(prices, steps)
def test_the_tick_is_the_nearest(price: Decimal, tick: Decimal) -> None:
    rounded = Fraction(round_to_tick(price, tick))
    assert rounded % Fraction(tick) == 0
    assert abs(rounded - Fraction(price)) <= Fraction(tick) / 2


def test_one_per_cent_is_one() -> None:
    assert percent_of(D("2500"), D("1")) == D("25")
    assert percent_of(D("2500"), D("0.5")) == D("12.5")


# Our own arithmetic


@exact
def a_third() -> Decimal:
    """One third, as exactly as we compute."""
    return D(1) / 3


def test_exact_computes_to_50_digits_and_leaves_the_context_as_it_was() -> None:
    with careless_library():
        before = repr(getcontext())
        assert a_third() == D("0." + "3" * 50)
        with pytest.raises(ValueError, match=r"^an amount "):
            parse("NaN")
        assert repr(getcontext()) == before


def test_the_arithmetic_itself_is_never_changed() -> None:
    with localcontext(Context(prec=3)):
        a_third()
    assert ARITHMETIC.prec == 50
    assert not any(ARITHMETIC.flags.values())


@given(amounts, prices, steps)
def test_the_global_decimal_context_does_not_matter(amount: Decimal, price: Decimal, step: Decimal) -> None:
    assert_unmoved(lambda: (parse(str(amount)), text(amount), trimmed(amount), stored(amount)))
    assert_unmoved(lambda: (floor_to_step(amount, step), ceil_to_step(amount, step)))
    assert_unmoved(lambda: (round_to_tick(price, step), percent_of(price, amount)))
