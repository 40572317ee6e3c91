"""Market: which side of a quote counts, when a quote may be relied on, and what money is counted in."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.market import MarketType
from app.domain.orders import Side
from tests.domain.samples import HALF_A_MINUTE, NOON, SPOT, SWAP, D, assert_unmoved, decimals, quote

prices = decimals("0.01", "100000", 8)


def test_buys_pay_the_ask_and_sells_get_the_bid() -> None:
    seen = quote("99", "101")
    assert seen.entering(Side.BUY) == D(101)
    assert seen.entering(Side.SELL) == D(99)


def test_longs_leave_on_the_bid_and_shorts_on_the_ask() -> None:
    seen = quote("99", "101")
    assert seen.leaving(Side.BUY) == D(99)
    assert seen.leaving(Side.SELL) == D(101)


@given(prices, prices, st.sampled_from(Side))
def test_a_position_is_left_where_the_opposite_order_enters(one: Decimal, other: Decimal, side: Side) -> None:
    seen = quote(min(one, other), max(one, other))
    assert seen.leaving(side) == seen.entering(side.opposite)
    # Going in and out at once never earns anything.
    assert seen.leaving(side) * side.sign <= seen.entering(side) * side.sign


def test_the_spread_is_measured_against_the_mid() -> None:
    assert quote("99", "101").spread == D(2)
    assert quote("99", "101").spread_percent == D(2)  # 2 ÷ 100
    assert quote("100", "100").spread_percent == D(0)


@pytest.mark.parametrize(
    ("bid", "ask", "age", "usable"),
    [
        ("99", "101", timedelta(0), True),
        ("100", "100", timedelta(0), True),
        ("99", "101", HALF_A_MINUTE, True),
        ("99", "101", HALF_A_MINUTE + timedelta(microseconds=1), False),
        ("101", "99", timedelta(0), False),  # crossed
        ("0", "101", timedelta(0), False),
        ("0", "0", timedelta(0), False),
        ("-1", "101", timedelta(0), False),
    ],
)
def test_a_quote_is_usable_while_it_is_fresh_and_sound(
    bid: str, ask: str, age: timedelta, usable: bool
) -> None:
    assert quote(bid, ask, age=age).is_usable(NOON, HALF_A_MINUTE) is usable


def test_money_is_counted_in_the_settle_currency_else_in_the_quote_currency() -> None:
    assert SPOT.currency == "USDT"
    assert SWAP.currency == "USDT"
    assert replace(SWAP, quote="USD", settle="BTC").currency == "BTC"
    assert replace(SPOT, quote="JPY", market_type=MarketType.FX).currency == "JPY"


@given(prices, prices)
def test_the_global_decimal_context_does_not_matter(one: Decimal, other: Decimal) -> None:
    seen = quote(min(one, other), max(one, other))
    assert_unmoved(lambda: (seen.spread, seen.spread_percent, seen.is_usable(NOON, HALF_A_MINUTE)))
