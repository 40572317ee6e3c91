"""Entries: the one decision from a signal and what is known about an account to an order, or a denial.

The execution and everything that shows a plan beforehand call the same function.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from app.domain import risk
from app.domain.errors import Denied
from app.domain.exits import Grain, Rung, ladder, merging
from app.domain.market import Instrument, Quote
from app.domain.money import ceil_to_step, exact, floor_to_step, round_to_tick, text
from app.domain.orders import OrderType, Side
from app.domain.risk import Exposure, Limits
from app.domain.signals import Course, Level, Signal
from app.domain.sizing import Funds, Sizing, Strategy, size, smallest_entry, too_small


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
    aliases: tuple[str, ...] = ()
    """The owner's own names for the instrument."""


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
    fee_rate: Decimal
    """What one fill costs, as a fraction of its value, a commission by quantity included."""
    estimated_fees: Decimal
    unit_value: Decimal
    """What a price move of one is worth per unit of quantity."""
    stop_loss: Decimal | None
    levels: tuple[Level, ...]
    """The take-profits on the venue's tick, as they are cut again when more is filled."""
    rungs: tuple[Rung, ...]

    @property
    def note(self) -> str | None:
        """What became of take-profits too small to be orders of their own; None where there are none."""
        return merging(self.levels, self.rungs)


@exact
def decide(course: Course, sizing: Sizing, limits: Limits, situation: Situation) -> Entry:
    """The entry that `course` asks for under these terms. Raises Denied with a code of the catalogue."""
    instrument, funds, now = situation.instrument, situation.funds, situation.now
    signal = _on_tick(course.signal, instrument.price_tick)
    check_course(course)
    risk.check_age(signal, situation.published_at, limits, now)
    risk.check_direction(signal, instrument)
    risk.check_symbol(instrument, limits, situation.aliases)
    risk.check_exposure(
        limits, situation.exposure, signal.direction, instrument.symbol, netting=situation.netting
    )
    risk.check_daily_loss(limits, situation.exposure.lost_today)
    quote = risk.check_quote(situation.quote, instrument.symbol, now, situation.quote_max_age)
    risk.check_price(signal, quote, limits)

    limit, stop = _limit_price(signal, instrument), signal.stop_loss
    price = quote.entering(signal.direction) if limit is None else limit
    risk.check_stop_side(signal.direction, price, stop)
    if quote.worth is None:
        raise Denied(
            "conversion_unavailable",
            f"There is no rate that says what a lot of {instrument.symbol} is worth in {instrument.currency}.",
        )
    funds = replace(funds, worth=quote.worth)
    risk.check_stop_level(signal.direction, quote, limit, stop, instrument)
    if stop is not None and sizing.strategy is Strategy.RISK_PERCENTAGE:
        risk.check_stop_distance(price, stop, quote, funds.fee_rate)
    risk.check_liquidation(signal.direction, price, stop, funds.leverage, instrument)
    quantity = size(sizing, instrument, price, stop, signal.quantity, funds)
    quantity = floor_to_step(quantity * course.open_portion, instrument.quantity_step)
    smallest = smallest_entry(instrument, price, stop, funds.fee_rate)
    if quantity < smallest:
        raise too_small(quantity, instrument, price, stop, smallest)
    notional, worth = quantity * funds.worth.at(price), funds.worth
    fee_rate = funds.fee_rate + worth.commission / (2 * worth.move * price)
    return Entry(
        instrument=instrument,
        side=signal.direction,
        type=signal.order_type,
        quantity=quantity,
        price=limit,
        reference_price=price,
        notional=notional,
        fee_rate=fee_rate,
        estimated_fees=quantity * price * worth.move * fee_rate,
        unit_value=worth.move,
        stop_loss=stop,
        levels=signal.take_profits,
        rungs=ladder(signal.take_profits, quantity, stop, grain_of(instrument, netting=situation.netting)),
    )


def check_course(course: Course) -> None:
    """The provider still means the signal."""
    if course.cancelled:
        raise Denied("signal_cancelled", "The provider cancelled the signal before it was executed.")
    if course.closed:
        raise Denied("signal_closed", "The provider closed the signal before it was executed.")


def grain_of(instrument: Instrument, *, netting: bool) -> Grain:
    """How finely a position in `instrument` can be left: the least value of an order is for what may open something."""
    return Grain(
        instrument.quantity_step, instrument.min_quantity, None if netting else instrument.min_notional
    )


def _on_tick(signal: Signal, tick: Decimal) -> Signal:
    """The signal with the exits that can be placed: on the tick nearest to what it says, at least one tick."""

    def nearest(price: Decimal) -> Decimal:
        return max(round_to_tick(price, tick), tick)

    return replace(
        signal,
        stop_loss=None if signal.stop_loss is None else nearest(signal.stop_loss),
        take_profits=tuple(replace(level, price=nearest(level.price)) for level in signal.take_profits),
    )


def _limit_price(signal: Signal, instrument: Instrument) -> Decimal | None:
    """The price of a limit entry, on the tick that is never worse than what the signal says."""
    if signal.order_type is not OrderType.LIMIT or signal.entry_price is None:
        return None
    round_off = floor_to_step if signal.direction is Side.BUY else ceil_to_step
    limit = round_off(signal.entry_price, instrument.price_tick)
    if limit <= 0:
        raise Denied(
            "market_mismatch",
            f"The entry price {text(signal.entry_price)} is below {text(instrument.price_tick)}, "
            f"the lowest price of {instrument.symbol}.",
        )
    return limit
