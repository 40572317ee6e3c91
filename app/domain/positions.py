"""Positions: what we hold, folded from the running totals of its orders. Hearing a report twice changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from app.domain.exits import Grain, Rung
from app.domain.money import ZERO, exact
from app.domain.orders import Side


class PositionSide(StrEnum):
    """Direction of a position."""

    LONG = "long"
    SHORT = "short"

    @classmethod
    def opened_by(cls, side: Side) -> "PositionSide":
        """What an entry of `side` opens."""
        return cls.LONG if side is Side.BUY else cls.SHORT

    @property
    def entry_side(self) -> Side:
        """The order side that opens it."""
        return Side.BUY if self is PositionSide.LONG else Side.SELL


class PositionStatus(StrEnum):
    """`closing` means an exit of everything is under way."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Fees:
    """Fees of one order as its position books them."""

    base: Decimal
    """What the venue took in the base coin: it shrinks what is held."""
    value: Decimal
    """All fees in the position's currency, as far as a rate is known."""
    complete: bool
    """False when a fee in a third coin had no rate: it is itemised on the order and missing in `value`."""


@exact
def value_fees(
    fees: Mapping[str, Decimal],
    base: str,
    currency: str,
    price: Decimal | None,
    rates: Mapping[str, Decimal],
    *,
    holds_coins: bool = True,
) -> Fees:
    """Value an order's fees in the position's currency.

    The base coin counts at the order's average fill price, a third coin at `rates[coin]`, its price in
    `currency` at that moment. A coin without a rate makes the result incomplete; it never counts as zero.
    Only where an account `holds_coins` (spot) does a fee in the base coin shrink what is held: on margin it
    comes out of the wallet.
    """
    total, complete = ZERO, True
    for coin, amount in fees.items():
        rate = Decimal(1) if coin == currency else price if coin == base else rates.get(coin)
        if rate is None:
            complete = False
        else:
            total += amount * rate
    shrinks = holds_coins and base != currency
    return Fees(fees.get(base, ZERO) if shrinks else ZERO, total, complete)


@exact
def blended_rates(
    known: Mapping[str, Decimal],
    counted: Mapping[str, Decimal],
    fees: Mapping[str, Decimal],
    rates: Mapping[str, Decimal],
) -> dict[str, Decimal]:
    """The rates of running totals of `fees`: what was `counted` keeps its `known` rate, what came since has `rates`.

    A coin of which any part had no rate has none.
    """
    blended: dict[str, Decimal] = {}
    for coin, total in fees.items():
        before = counted.get(coin, ZERO)
        parts = [(before, known.get(coin)), (total - before, rates.get(coin))]
        value = ZERO
        for amount, rate in parts:
            if amount and rate is None:
                break
            value += amount * (rate or ZERO)
        else:
            if total:
                blended[coin] = value / total
    return blended


@dataclass(frozen=True, slots=True)
class Filled:
    """An order's running totals: quantity in base units, average price, fees."""

    quantity: Decimal
    average_price: Decimal
    fees: Fees
    profit: Decimal | None = None
    """What the venue itself booked for an exit before fees; None where prices say it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A position's numbers. Quantities in base units (lots for FX), money in the position's currency.

    `gross_pnl` = Σ (exit − average entry) × quantity closed × sign, or what the venue booked where it counts in
    the account's currency; `realized_pnl` = gross − fees. Fees of the entry are booked in proportion to what is
    closed, so the identity holds at every moment.
    """

    quantity: Decimal
    remaining: Decimal
    entry_price: Decimal
    exit_price: Decimal | None
    gross_pnl: Decimal
    fees: Decimal
    realized_pnl: Decimal
    pnl_complete: bool


@exact
def fold(
    side: PositionSide, entry: Filled, exits: Sequence[Filled], unit_value: Decimal = Decimal(1)
) -> Figures:
    """The position that an entry and its exits amount to; a price move of one is worth `unit_value` per unit."""
    quantity = entry.quantity - entry.fees.base
    closed = sum((each.quantity for each in exits), ZERO)
    proceeds = sum((each.quantity * each.average_price for each in exits), ZERO)
    # Coins that a venue takes as the fee of an exit have left the position at that exit's price; what it takes
    # beyond the position was the owner's own, and is a cost alone.
    coins = sum((each.fees.base for each in exits), ZERO)
    ours = min(coins, max(quantity - closed, ZERO))
    if coins:
        proceeds += sum((each.fees.base * each.average_price for each in exits), ZERO) * (ours / coins)
    left = closed + ours
    gross = _gross(side, entry, exits, proceeds - left * entry.average_price, unit_value)
    booked = entry.fees.value * min(left / quantity, Decimal(1)) if quantity else ZERO
    fees = booked + sum((each.fees.value for each in exits), ZERO)
    return Figures(
        quantity=quantity,
        remaining=max(quantity - left, ZERO),
        entry_price=entry.average_price,
        exit_price=proceeds / left if left else None,
        gross_pnl=gross,
        fees=fees,
        realized_pnl=gross - fees,
        pnl_complete=entry.fees.complete and all(each.fees.complete for each in exits),
    )


def _gross(
    side: PositionSide, entry: Filled, exits: Sequence[Filled], moved: Decimal, unit_value: Decimal
) -> Decimal:
    """The gross profit of what was closed; `moved` is what prices alone say of it, for a rising position."""
    booked = [each for each in exits if each.profit is not None]
    by_price = moved - sum(
        ((each.average_price - entry.average_price) * each.quantity for each in booked), ZERO
    )
    return by_price * side.entry_side.sign * unit_value + sum((each.profit or ZERO for each in booked), ZERO)


@exact
def unrealized(
    side: PositionSide,
    remaining: Decimal,
    entry_price: Decimal,
    mark: Decimal,
    unit_value: Decimal = Decimal(1),
) -> Decimal:
    """(mark − average entry) × remaining quantity × sign × what a price move of one is worth per unit."""
    return (mark - entry_price) * remaining * side.entry_side.sign * unit_value


@exact
def rungs_left(rungs: Sequence[Rung], taken: Decimal) -> tuple[Rung, ...]:
    """What targets still have to take after `taken` of the ladder was filled, nearest first."""
    left: list[Rung] = []
    for rung in rungs:
        used = min(taken, rung.quantity)
        taken -= used
        if rung.quantity > used:
            left.append(Rung(rung.price, rung.quantity - used))
    return tuple(left)


def is_over(remaining: Decimal, price: Decimal, grain: Grain) -> bool:
    """Whether nothing is left that the venue would take an order for: flat, or dust."""
    return not grain.takes(remaining, price)
