"""Sizing: how much to order. Five strategies, two caps, always down to the step.

With price the reference price (ask for buys, bid for sells, the limit price for limits), v the connection's value,
unit the notional of one unit of quantity (its price; for lots what the contract is worth in the account's currency):

    fixed             quantity = v
    fixed_amount      quantity = v ÷ unit                        v in quote (account) currency
    percentage        quantity = free × v% ÷ unit                free balance in that currency
    signal_based      quantity = signal quantity × v             v defaults to 1
    risk_percentage   quantity = equity × v% ÷ ((|price − stop| + fee rate × (price + stop)) × move + commission)

`move` is what a price move of one costs on one unit (1; for lots contract size × rate), `commission` what entering
and leaving one unit costs (0; for lots what the broker charges).

`max_quantity` and `max_notional` shrink the result, and so does the venue's largest order. `percentage` and
`risk_percentage` never ask for more than can be paid; the other strategies are denied instead.

The smallest entry is one of which the whole can be left again: at its stop, and after the fee in coins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

from app.domain.errors import Denied
from app.domain.market import PLAIN, Instrument, MarketType, Worth
from app.domain.money import ceil_to_step, exact, floor_to_step, parse, percent_of, text


class Strategy(StrEnum):
    """How a quantity is found; formulas in the module's docstring."""

    FIXED = "fixed"
    PERCENTAGE = "percentage"
    FIXED_AMOUNT = "fixed_amount"
    SIGNAL_BASED = "signal_based"
    RISK_PERCENTAGE = "risk_percentage"


class OnTooSmall(StrEnum):
    """What to do when the size falls below the venue's minimum."""

    SKIP = "skip"
    MINIMUM = "minimum"


@dataclass(frozen=True, slots=True)
class Sizing:
    """A connection's sizing terms."""

    strategy: Strategy
    value: Decimal
    max_quantity: Decimal | None = None
    max_notional: Decimal | None = None
    on_too_small: OnTooSmall = OnTooSmall.SKIP

    @exact
    def scaled(self, multiplier: Decimal) -> "Sizing":
        """The same for an instrument of which one coin is `multiplier` of the signal's: what counts coins shrinks."""
        counts_coins = self.strategy is Strategy.FIXED
        return replace(
            self,
            value=self.value / multiplier if counts_coins else self.value,
            max_quantity=None if self.max_quantity is None else self.max_quantity / multiplier,
        )

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """From the JSON a connection keeps (amounts as decimal strings)."""
        return cls(
            Strategy(stored["strategy"]),
            parse(stored.get("value") or "1"),
            _optional(stored.get("max_quantity")),
            _optional(stored.get("max_notional")),
            OnTooSmall(stored.get("on_too_small") or OnTooSmall.SKIP),
        )


def _optional(value: object) -> Decimal | None:
    return None if value is None else parse(value)


@dataclass(frozen=True, slots=True)
class Funds:
    """What an order may draw on, in the instrument's currency, and what it is counted by.

    `free` is the venue's free balance minus what our own unsettled entries will need. `fee_rate` and
    `slippage` are fractions of the notional; `leverage` is 1 on spot.
    """

    free: Decimal
    equity: Decimal
    fee_rate: Decimal
    slippage: Decimal
    leverage: Decimal = Decimal(1)
    worth: Worth = PLAIN

    @exact
    def affordable_notional(self) -> Decimal:
        """The largest notional that margin, fee and slippage allowance leave room for."""
        return max(self.free, Decimal(0)) / (1 / self.leverage + self.fee_rate + self.slippage)


@exact
def size(
    sizing: Sizing,
    instrument: Instrument,
    price: Decimal,
    stop: Decimal | None,
    signal_quantity: Decimal | None,
    funds: Funds,
) -> Decimal:
    """The quantity to order, in base units (lots for FX), a multiple of the step.

    Raises Denied: `stop_loss_required`, `quantity_missing`, `insufficient_balance`, `quantity_below_minimum`,
    `notional_below_minimum`.
    """
    unit = funds.worth.at(price)
    cap = _cap(sizing, instrument, unit)
    wanted = min(_wanted(sizing, price, stop, signal_quantity, funds), cap)
    quantity = wanted
    if sizing.strategy in (Strategy.PERCENTAGE, Strategy.RISK_PERCENTAGE):
        quantity = min(wanted, funds.affordable_notional() / unit)
    quantity = floor_to_step(quantity, instrument.quantity_step)
    smallest = smallest_entry(instrument, price, stop, funds.fee_rate)
    if quantity >= smallest:
        return _affordable(quantity, unit, instrument, funds)
    # Raising to the minimum may not go over a cap, nor, where risk is what is sized, risk more than was meant.
    # What was large enough before the balance shrank it is denied for the balance.
    raised = sizing.on_too_small is OnTooSmall.MINIMUM and sizing.strategy is not Strategy.RISK_PERCENTAGE
    if smallest <= (cap if raised else wanted):
        return _affordable(smallest, unit, instrument, funds)
    raise too_small(quantity, instrument, price, stop, smallest)


def _wanted(
    sizing: Sizing, price: Decimal, stop: Decimal | None, signal_quantity: Decimal | None, funds: Funds
) -> Decimal:
    match sizing.strategy:
        case Strategy.FIXED:
            return sizing.value
        case Strategy.FIXED_AMOUNT:
            return sizing.value / funds.worth.at(price)
        case Strategy.PERCENTAGE:
            return percent_of(max(funds.free, Decimal(0)), sizing.value) / funds.worth.at(price)
        case Strategy.SIGNAL_BASED:
            if signal_quantity is None:
                raise Denied(
                    "quantity_missing", "The signal names no quantity, and this connection sizes by it."
                )
            return signal_quantity * sizing.value
        case Strategy.RISK_PERCENTAGE:
            return _within_risk(sizing.value, price, stop, funds)


def _within_risk(percent: Decimal, price: Decimal, stop: Decimal | None, funds: Funds) -> Decimal:
    if stop is None:
        raise Denied("stop_loss_required", "risk_percentage needs a stop-loss, and the signal has none.")
    worth = funds.worth
    lost_per_unit = (abs(price - stop) + funds.fee_rate * (price + stop)) * worth.move + worth.commission
    return percent_of(max(funds.equity, Decimal(0)), percent) / lost_per_unit


def _cap(sizing: Sizing, instrument: Instrument, unit: Decimal) -> Decimal:
    """The lowest of the owner's and the venue's limits that shrink an order; infinite when there is none."""
    caps = [cap for cap in (sizing.max_quantity, instrument.max_quantity) if cap is not None]
    if sizing.max_notional is not None:
        caps.append(sizing.max_notional / unit)
    return min(caps, default=Decimal("Infinity"))


@exact
def smallest_order(instrument: Instrument, price: Decimal) -> Decimal:
    """The smallest quantity the venue takes at `price`: its minimum, and its minimum notional, up to the step."""
    smallest = max(instrument.min_quantity, instrument.quantity_step)
    if instrument.min_notional is not None:
        smallest = max(smallest, instrument.min_notional / price)
    return ceil_to_step(smallest, instrument.quantity_step)


@exact
def smallest_entry(
    instrument: Instrument, price: Decimal, stop: Decimal | None, fee_rate: Decimal
) -> Decimal:
    """The smallest quantity that the venue takes at `price` and of which it takes the rest back at `stop`.

    On spot the rest is what the fee leaves of the coins, wherever a venue takes it.
    """
    smallest = smallest_order(instrument, price if stop is None else min(price, stop))
    if instrument.market_type is MarketType.SPOT:
        smallest = ceil_to_step(smallest / (1 - fee_rate), instrument.quantity_step)
    return smallest


def _affordable(quantity: Decimal, unit: Decimal, instrument: Instrument, funds: Funds) -> Decimal:
    notional, limit = quantity * unit, funds.affordable_notional()
    if notional <= limit:
        return quantity
    raise Denied(
        "insufficient_balance",
        f"The order is worth {_short(notional)} {instrument.currency}; "
        f"with fee and slippage allowance the free balance covers {_short(limit)}.",
    )


@exact
def too_small(
    quantity: Decimal, instrument: Instrument, price: Decimal, stop: Decimal | None, smallest: Decimal
) -> Denied:
    """Why `quantity` is less than the `smallest` entry: itself, what it is worth, or what would be left of it."""
    base, currency = instrument.base, instrument.currency
    if quantity < instrument.min_quantity or quantity <= 0:
        return Denied(
            "quantity_below_minimum",
            f"The size comes to {text(quantity)} {base}; the venue takes {text(smallest)} or more.",
        )
    if instrument.min_notional is not None and quantity * price < instrument.min_notional:
        return Denied(
            "notional_below_minimum",
            f"The order would be worth {_short(quantity * price)} {currency}; "
            f"the venue takes {text(instrument.min_notional)} or more.",
        )
    way_out = "closed" if stop is None else f"protected at {text(stop)}"
    return Denied(
        "notional_below_minimum",
        f"{text(quantity)} {base}, less the fee, could not be {way_out}; it takes {text(smallest)} or more.",
    )


def _short(amount: Decimal) -> str:
    """An amount for a sentence: eight decimal places at most."""
    return text(amount.quantize(Decimal("1e-8")))
