"""What the tests of the domain share: instruments, exact decimals to draw from, and a library with bad manners."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import (
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    Underflow,
    localcontext,
)
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from app.domain.errors import EngineError
from app.domain.market import Instrument, MarketType, Quote

D = Decimal

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HALF_A_MINUTE = timedelta(seconds=30)

SPOT = Instrument(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    settle=None,
    market_type=MarketType.SPOT,
    quantity_step=D("0.001"),
    price_tick=D("0.1"),
    min_quantity=D("0.001"),
    min_notional=D("5"),
)
SWAP = Instrument(
    symbol="BTC/USDT:USDT",
    base="BTC",
    quote="USDT",
    settle="USDT",
    market_type=MarketType.SWAP,
    quantity_step=D("0.001"),
    price_tick=D("0.1"),
    min_quantity=D("0.001"),
    min_notional=D("5"),
    maintenance_margin=D("0.005"),
)


def quote(bid: str | Decimal, ask: str | Decimal, *, age: timedelta = timedelta(0)) -> Quote:
    """Bid and ask at noon, or `age` before it."""
    return Quote("BTC/USDT", D(bid), D(ask), NOON - age)


def decimals(low: str, high: str, places: int) -> SearchStrategy[Decimal]:
    """Every decimal from `low` to `high` that has at most `places` places."""
    return st.decimals(D(low), D(high), places=places, allow_nan=False, allow_infinity=False)


@contextmanager
def careless_library() -> Iterator[None]:
    """What a library may do to the decimal context of the process.

    ccxt leaves ROUND_HALF_UP and a trap for Underflow behind; six digits and a trap for Inexact are worse, so
    that arithmetic outside our own context is either wrong or an exception.
    """
    traps: list[Any] = [Underflow, Inexact, InvalidOperation, DivisionByZero, Overflow]
    with localcontext(Context(prec=6, rounding=ROUND_HALF_UP, traps=traps)):
        yield


@dataclass(frozen=True)
class No:
    """A refusal, comparable."""

    code: str
    message: str


def outcome(function: Callable[[], object]) -> object:
    """What a function answers, or how it says no."""
    try:
        return function()
    except EngineError as error:
        return No(error.code, error.message)


def assert_unmoved(function: Callable[[], object]) -> None:
    """The outcome is the same, to the last digit, after a library has changed the global decimal context."""
    quiet = outcome(function)
    with careless_library():
        disturbed = outcome(function)
    assert repr(disturbed) == repr(quiet)
