"""Signals: what a source told us to do, the rules that make one meaningful, and how later events change it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from app.domain.errors import Invalid
from app.domain.money import ZERO, exact
from app.domain.orders import OrderType, Side

LIMIT_ENTRY_LIFETIME = timedelta(hours=24)
"""How long a limit entry rests when its signal names no end."""


class Market(StrEnum):
    """The kind of market a signal is for."""

    CRYPTO = "crypto"
    FX = "fx"


@dataclass(frozen=True, slots=True)
class Level:
    """One take-profit: at `price`, close `portion` (0 < p ≤ 1) of the filled quantity."""

    price: Decimal
    portion: Decimal


@dataclass(frozen=True, slots=True)
class Signal:
    """One trading idea of a provider. Prices are in quote currency; times are aware UTC."""

    symbol: str
    direction: Side
    order_type: OrderType = OrderType.MARKET
    entry_price: Decimal | None = None
    stop_loss: Decimal | None = None
    take_profits: tuple[Level, ...] = ()
    quantity: Decimal | None = None
    market: Market | None = None
    published_at: datetime | None = None
    expires_at: datetime | None = None

    @exact
    def scaled(self, multiplier: Decimal) -> "Signal":
        """The same for an instrument of which one coin is `multiplier` of this signal's."""
        return replace(
            self,
            entry_price=_times(self.entry_price, multiplier),
            stop_loss=_times(self.stop_loss, multiplier),
            take_profits=tuple(replace(level, price=level.price * multiplier) for level in self.take_profits),
            quantity=None if self.quantity is None else self.quantity / multiplier,
        )

    def entry_ends_at(self, received_at: datetime) -> datetime | None:
        """When an entry of this signal lapses: its own expiry; for a limit without one 24 h after it came."""
        if self.expires_at is not None or self.order_type is OrderType.MARKET:
            return self.expires_at
        return received_at + LIMIT_ENTRY_LIFETIME


def _times(price: Decimal | None, multiplier: Decimal) -> Decimal | None:
    return None if price is None else price * multiplier


@exact
def ladder_of(levels: Sequence[tuple[Decimal, Decimal | None]], direction: Side) -> tuple[Level, ...]:
    """The take-profits of a signal, nearest first.

    Portions are in (0, 1] and add up to at most 1; a single level may leave its portion out and means all.
    Raises Invalid.
    """
    if len(levels) > 1 and any(portion is None for _, portion in levels):
        raise Invalid("take_profits", "Each of several take-profits says its portion, for example 0.5.")
    ladder = [Level(price, Decimal(1) if portion is None else portion) for price, portion in levels]
    if any(not ZERO < level.portion <= 1 for level in ladder):
        raise Invalid("take_profits", "A portion is above 0 and at most 1.")
    if sum((level.portion for level in ladder), ZERO) > 1:
        raise Invalid("take_profits", "The portions add up to more than 1.")
    return tuple(sorted(ladder, key=lambda level: level.price * direction.sign))


def check(signal: Signal) -> None:
    """Raise Invalid where a signal contradicts itself: a limit without price, a stop or target on the wrong side."""
    if signal.order_type is OrderType.LIMIT and signal.entry_price is None:
        raise Invalid("entry_price", "A limit signal needs an entry_price.")
    check_sides(signal.direction, signal.entry_price, signal.stop_loss, signal.take_profits)


def check_sides(
    direction: Side, reference: Decimal | None, stop: Decimal | None, targets: Sequence[Level]
) -> None:
    """Raise Invalid unless stop < reference < targets for buys, the mirror for sells; unknown ones are passed over."""
    below, above = ("below", "above") if direction is Side.BUY else ("above", "below")
    nearest = targets[0].price if targets else None
    if stop is not None and reference is not None and not _precedes(direction, stop, reference):
        raise Invalid("stop_loss", f"The stop-loss of a {direction} is {below} the entry price.")
    if nearest is not None and reference is not None and not _precedes(direction, reference, nearest):
        raise Invalid("take_profits", f"The take-profits of a {direction} are {above} the entry price.")
    if stop is not None and nearest is not None and not _precedes(direction, stop, nearest):
        raise Invalid("stop_loss", f"The stop-loss of a {direction} is {below} its take-profits.")


def _precedes(direction: Side, first: Decimal, second: Decimal) -> bool:
    return first < second if direction is Side.BUY else first > second


class EventType(StrEnum):
    """The webhook events we understand."""

    PUBLISHED = "signal.published"
    UPDATED = "signal.updated"
    CANCELLED = "signal.cancelled"
    CLOSED = "signal.closed"
    SUBSCRIPTION = "subscription.updated"


@dataclass(frozen=True, slots=True)
class Update:
    """What `signal.updated` changes; `fields` says which of them it names (null is a value: it takes away)."""

    timestamp: datetime
    fields: frozenset[str]
    stop_loss: Decimal | None = None
    take_profits: tuple[tuple[Decimal, Decimal | None], ...] = ()
    expires_at: datetime | None = None

    @exact
    def scaled(self, multiplier: Decimal) -> "Update":
        """The same for an instrument of which one coin is `multiplier` of its signal's."""
        return replace(
            self,
            stop_loss=_times(self.stop_loss, multiplier),
            take_profits=tuple((price * multiplier, portion) for price, portion in self.take_profits),
        )


class Outcome(StrEnum):
    """What a later event about a signal came to on one execution."""

    APPLIED = "applied"
    SUPERSEDED = "superseded"
    KEPT = "kept"
    REFUSED = "refused"
    CLOSED = "closed"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome, and why where that is not plain."""

    outcome: Outcome
    message: str | None = None


_EDITED = Verdict(Outcome.KEPT, "You have set it yourself.")


def new_stop(
    direction: Side,
    present: Decimal | None,
    wanted: Decimal | None,
    targets: Sequence[Level],
    *,
    edited: bool,
) -> Verdict:
    """Whether an update's stop replaces the present one: it may tighten it, never loosen it or take it away."""
    if edited:
        return _EDITED
    if wanted is None:
        if present is None:
            return Verdict(Outcome.APPLIED)
        return Verdict(Outcome.KEPT, "An update may not take a stop-loss away.")
    if present is not None and _precedes(direction, wanted, present):
        return Verdict(Outcome.KEPT, "An update may not loosen a stop-loss.")
    return _checked(direction, wanted, targets)


def new_ladder(direction: Side, levels: Sequence[Level], stop: Decimal | None, *, edited: bool) -> Verdict:
    """Whether an update's take-profits replace the present ones."""
    return _EDITED if edited else _checked(direction, stop, levels)


def _checked(direction: Side, stop: Decimal | None, targets: Sequence[Level]) -> Verdict:
    try:
        check_sides(direction, None, stop, targets)
    except Invalid as wrong:
        return Verdict(Outcome.REFUSED, wrong.message)
    return Verdict(Outcome.APPLIED)


@dataclass(frozen=True, slots=True)
class Course:
    """What later events made of a signal: its present wording, and whether it is still meant."""

    signal: Signal
    cancelled: bool = False
    closed: bool = False
    open_portion: Decimal = field(default=Decimal(1))
    """What part of an entry is still wanted after closes with a portion that came before it."""


@exact
def course_of(
    signal: Signal, updates: Iterable[Update], *, cancelled: bool, closed_portions: Iterable[Decimal]
) -> Course:
    """Fold later events into a signal. Per field the update with the greatest timestamp wins, in any order heard;
    of two with the same timestamp what they say decides, never which was heard first. A stop-loss that would loosen
    the one before it is passed over.

    A close of everything ends the signal; one of a portion p leaves 1 − p of what was still open.
    """
    current = signal
    for update in sorted(updates, key=precedence):
        if "stop_loss" in update.fields and _tightens(current, update):
            current = replace(current, stop_loss=update.stop_loss)
        if "take_profits" in update.fields:
            current = replace(current, take_profits=ladder_of(update.take_profits, signal.direction))
        if "expires_at" in update.fields:
            current = replace(current, expires_at=update.expires_at)
    open_portion = Decimal(1)
    for portion in sorted(closed_portions):
        open_portion *= 1 - portion
    return Course(current, cancelled, open_portion == ZERO, open_portion)


def _tightens(signal: Signal, update: Update) -> bool:
    verdict = new_stop(signal.direction, signal.stop_loss, update.stop_loss, (), edited=False)
    return verdict.outcome is Outcome.APPLIED


def stop_verdicts(signal: Signal, updates: Sequence[Update]) -> list[Verdict]:
    """What each of these updates, in their order of precedence, came to for the stop of an entry not claimed yet."""
    verdicts = []
    for update in updates:
        verdicts.append(new_stop(signal.direction, signal.stop_loss, update.stop_loss, (), edited=False))
        if verdicts[-1].outcome is Outcome.APPLIED:
            signal = replace(signal, stop_loss=update.stop_loss)
    return verdicts


def precedence(update: Update) -> tuple[datetime, str]:
    """The order in which updates count, the last one most; it does not depend on which was heard first."""
    return (
        update.timestamp,
        f"{sorted(update.fields)} {update.stop_loss} {update.take_profits} {update.expires_at}",
    )
