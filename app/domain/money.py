"""Amounts: exact decimals, our own arithmetic context, and the strings they travel as."""

import re
from collections.abc import Callable, Iterable
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

ZERO = Decimal(0)
HUNDRED = Decimal(100)

# Libraries of this process change the global decimal context (ccxt sets its rounding and traps), and asyncio
# tasks share it. Money is therefore computed only inside this one.
ARITHMETIC = Context(
    prec=50,
    rounding=ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    traps=[InvalidOperation, DivisionByZero, Overflow],
)

SCALE = 18
"""Decimal places a column keeps; the database type is Numeric(38, 18)."""

_GRAIN = Decimal(1).scaleb(-SCALE)
_DIGITS = 19
_AMOUNT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` in our own decimal context, whatever a library did to the global one."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(ARITHMETIC):
            return function(*args, **kwargs)

    return inside


@exact
def parse(value: object) -> Decimal:
    """The exact amount in a decimal string, an int or a Decimal.

    Raises ValueError for floats, booleans, NaN, infinities, exponents beyond ±18 and anything that the
    database column could not hold exactly (19 digits before the point, 18 behind it).
    """
    if isinstance(value, bool | float) or not isinstance(value, str | int | Decimal):
        raise ValueError("an amount is a decimal string or a JSON number")  # noqa: TRY004 - pydantic reads ValueError
    if isinstance(value, str) and not _AMOUNT.fullmatch(value):
        raise ValueError("an amount looks like 12.5: digits, a point, digits")
    amount = Decimal(value)
    if not amount.is_finite():
        raise ValueError("an amount is finite")
    # The magnitude first: beyond it even a comparison, or a zero written out, is more than arithmetic can bear.
    if not -SCALE <= amount.adjusted() < _DIGITS or amount != amount.quantize(_GRAIN):
        raise ValueError("an amount has at most 19 digits before and 18 digits after the point")
    return amount


@exact
def summed(amounts: Iterable[Decimal]) -> Decimal:
    """Their exact sum; zero of none."""
    return sum(amounts, ZERO)


@exact
def text(amount: Decimal) -> str:
    """The exact string without exponent and without trailing zeros: `Decimal("1.500")` is `1.5`."""
    plain = format(amount, "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain in ("-0", "") else plain


@exact
def trimmed(amount: Decimal) -> Decimal:
    """The same amount without trailing zeros and without an exponent."""
    plain = amount.normalize()
    return plain.quantize(Decimal(1)) if plain == plain.to_integral_value() else plain


@exact
def stored(amount: Decimal) -> Decimal:
    """`amount` as a database column keeps it: 18 decimal places, half to even."""
    return amount.quantize(_GRAIN)


def kept(written: str) -> Decimal:
    """The amount in a row's text: rows of old may hold more digits than a column keeps, which `parse` refuses."""
    return stored(Decimal(written))


@exact
def floor_to_step(amount: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of `step` that is not above `amount`."""
    return (amount / step).to_integral_value(ROUND_FLOOR) * step


@exact
def ceil_to_step(amount: Decimal, step: Decimal) -> Decimal:
    """The smallest multiple of `step` that is not below `amount`."""
    return (amount / step).to_integral_value(ROUND_CEILING) * step


@exact
def round_to_tick(price: Decimal, tick: Decimal) -> Decimal:
    """The multiple of `tick` nearest to `price`."""
    return (price / tick).to_integral_value(ROUND_HALF_EVEN) * tick


@exact
def percent_of(amount: Decimal, percent: Decimal) -> Decimal:
    """`percent` per cent of `amount`; 1 means one per cent."""
    return amount * percent / HUNDRED
