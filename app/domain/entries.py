"""Entries: the one decision from a signal and what is known about an account to an order, or a denial.

The execution and everything that shows a plan beforehand call the same function.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from app.domain import risk
from app.domain.errors import Denied
from app.domain.exits import Grain, Rung, ladder
from app.domain.market import Instrument, Quote
from app.domain.money import exact, floor_to_step, round_to_tick, text
from app.domain.orders import OrderType, Side
from app.domain.risk import Exposure, Limits
from app.domain.signals import Course
from app.domain.sizing import Funds, Sizing, Strategy, size


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything an entry is decided from, at one moment."""

    now: datetime
    published_at: datetime
    instrument: Instrument
    quote: Quote | None
    quote_max_age: timedelta
    funds: Funds
    exposure: Exposure
    netting: bool
    """Whether the account nets what it holds per symbol."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An order that may be sent, with the exit plan of what it opens. Money in the instrument's currency."""

    instrument: Instrument
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None
    """The limit price, on the venue's tick; None for market orders."""
    reference_price: Decimal
    notional: Decimal
    estimated_fees: Decimal
    stop_loss: Decimal | None
    rungs: tuple[Rung, ...]


@exact
def decide(course: Course, sizing: Sizing, limits: Limits, situation: Situation) -> Entry:
    """The entry that `course` asks for under these terms. Raises Denied with a code of the catalogue."""
    signal, instrument, now = course.signal, situation.instrument, situation.now
    check_course(course)
    risk.check_age(signal, situation.published_at, limits, now)
    risk.check_direction(signal, instrument)
    risk.check_symbol(instrument, limits)
    risk.check_exposure(
        limits, situation.exposure, signal.direction, instrument.symbol, netting=situation.netting
    )
    risk.check_daily_loss(limits, situation.exposure.lost_today)
    quote = risk.check_quote(situation.quote, instrument.symbol, now, situation.quote_max_age)
    risk.check_price(signal, quote, limits)

    limit = None
    if signal.order_type is OrderType.LIMIT and signal.entry_price is not None:
        limit = round_to_tick(signal.entry_price, instrument.price_tick)
    price = limit or quote.entering(signal.direction)
    stop = None if signal.stop_loss is None else round_to_tick(signal.stop_loss, instrument.price_tick)
    if stop is not None and sizing.strategy is Strategy.RISK_PERCENTAGE:
        risk.check_stop_distance(price, stop, quote, situation.funds.fee_rate)
    risk.check_liquidation(signal.direction, price, stop, situation.funds.leverage, instrument)
    quantity = size(sizing, instrument, price, stop, signal.quantity, situation.funds)
    quantity = floor_to_step(quantity * course.open_portion, instrument.quantity_step)
    _check_protectable(quantity, price, stop, instrument)
    return Entry(
        instrument=instrument,
        side=signal.direction,
        type=signal.order_type,
        quantity=quantity,
        price=limit,
        reference_price=price,
        notional=quantity * price,
        estimated_fees=quantity * price * situation.funds.fee_rate,
        stop_loss=stop,
        rungs=ladder(
            [
                type(level)(round_to_tick(level.price, instrument.price_tick), level.portion)
                for level in signal.take_profits
            ],
            quantity,
            stop,
            grain_of(instrument),
        ),
    )


def check_course(course: Course) -> None:
    """The provider still means the signal."""
    if course.cancelled:
        raise Denied("signal_cancelled", "The provider cancelled the signal before it was executed.")
    if course.closed:
        raise Denied("signal_closed", "The provider closed the signal before it was executed.")


def grain_of(instrument: Instrument) -> Grain:
    """How finely a position in `instrument` can be cut."""
    return Grain(instrument.quantity_step, instrument.min_quantity, instrument.min_notional)


def _check_protectable(
    quantity: Decimal, price: Decimal, stop: Decimal | None, instrument: Instrument
) -> None:
    """The whole order, and its stop at the stop's own price, are worth the venue's minimum."""
    grain = grain_of(instrument)
    lowest = price if stop is None else min(price, stop)
    if not grain.takes(quantity, lowest):
        raise Denied(
            "notional_below_minimum",
            f"{text(quantity)} {instrument.base} at {text(lowest)} is below the venue's minimum of "
            f"{text(instrument.min_quantity)} {instrument.base}"
            + (
                f" or {text(instrument.min_notional)} {instrument.currency}"
                if instrument.min_notional
                else ""
            )
            + ", so a stop could not be placed.",
        )
