"""Stops that move: to break-even, and trailing behind the best price. They only ever tighten."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Self

from app.domain.exits import CloseReason, Rung
from app.domain.money import HUNDRED, ceil_to_step, exact, floor_to_step, parse, percent_of, round_to_tick
from app.domain.orders import Side
from app.domain.signals import Level


@dataclass(frozen=True, slots=True)
class Trailing:
    """Once the gain over the average entry reaches `activation_percent`, the stop follows the best price."""

    activation_percent: Decimal
    distance_percent: Decimal


@dataclass(frozen=True, slots=True)
class Management:
    """How a position is managed while it is open; None leaves a thing alone. Fixed when its entry is claimed."""

    break_even_after_tp: int | None = None
    break_even_at_percent: Decimal | None = None
    trailing: Trailing | None = None
    max_hold: timedelta | None = None
    fee_rate: Decimal = Decimal(0)
    """Of one fill, as a fraction of its notional."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """From the JSON that a connection, a plan and a position keep (amounts as decimal strings)."""
        gain, trailing = stored.get("break_even_at_percent"), stored.get("trailing")
        minutes = stored.get("max_hold_minutes")
        return cls(
            break_even_after_tp=stored.get("break_even_after_tp"),
            break_even_at_percent=None if gain is None else parse(gain),
            trailing=None
            if trailing is None
            else Trailing(parse(trailing["activation_percent"]), parse(trailing["distance_percent"])),
            max_hold=None if minutes is None else timedelta(minutes=minutes),
            fee_rate=parse(stored.get("fee_rate") or "0"),
        )


KEPT = ("break_even_after_tp", "break_even_at_percent", "trailing", "max_hold_minutes")
"""Which of a connection's protection terms manage a position."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a position has come."""

    side: Side
    """The side that opened it."""
    entry_price: Decimal
    best_price: Decimal
    """The most favourable price seen since it was opened."""
    targets_taken: int

    @property
    @exact
    def gain_percent(self) -> Decimal:
        """The best gain over the average entry so far, in per cent of it."""
        return (self.best_price - self.entry_price) * self.side.sign / self.entry_price * HUNDRED


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a position is left at a loss or with what it gained, and what that is called."""

    price: Decimal
    reason: CloseReason


@exact
def best_of(side: Side, best: Decimal | None, price: Decimal) -> Decimal:
    """The more favourable of two prices for a position opened by `side`."""
    if best is None:
        return price
    return max(best, price) if side is Side.BUY else min(best, price)


@exact
def break_even(side: Side, entry_price: Decimal, fee_rate: Decimal, tick: Decimal) -> Decimal:
    """The price at which a position is left without loss, the fees of entry and exit included, on the tick."""
    if side is Side.BUY:
        return ceil_to_step(entry_price * (1 + fee_rate) / (1 - fee_rate), tick)
    return floor_to_step(entry_price * (1 - fee_rate) / (1 + fee_rate), tick)


@exact
def trail(side: Side, best_price: Decimal, distance_percent: Decimal, tick: Decimal) -> Decimal:
    """The stop that stands `distance_percent` behind the best price, on the tick."""
    return round_to_tick(best_price - side.sign * percent_of(best_price, distance_percent), tick)


def tightened(
    management: Management, progress: Progress, present: Decimal | None, tick: Decimal
) -> Stop | None:
    """The stop that replaces `present`; None where nothing asks for one that is tighter."""
    side = progress.side
    wanted: list[Stop] = []
    even = break_even(side, progress.entry_price, management.fee_rate, tick)
    # A gain within the fees asks for a stop that the price has not reached: it would sell at a loss, at once.
    if _is_past_break_even(management, progress) and progress.best_price * side.sign > even * side.sign:
        wanted.append(Stop(even, CloseReason.STOP_LOSS))
    trailing = management.trailing
    if trailing is not None and progress.gain_percent >= trailing.activation_percent:
        price = trail(side, progress.best_price, trailing.distance_percent, tick)
        wanted.append(Stop(price, CloseReason.TRAILING_STOP))
    tightest = max(wanted, key=lambda stop: stop.price * side.sign, default=None)
    if tightest is None or (present is not None and tightest.price * side.sign <= present * side.sign):
        return None
    return tightest


def _is_past_break_even(management: Management, progress: Progress) -> bool:
    after, at = management.break_even_after_tp, management.break_even_at_percent
    by_targets = after is not None and progress.targets_taken >= after
    return by_targets or (at is not None and progress.gain_percent >= at)


def targets_taken(side: Side, levels: Sequence[Level], rungs: Sequence[tuple[Rung, Decimal]]) -> int:
    """How many of `levels` have been taken; `rungs` come with what of them is filled.

    A level that was too small for the venue counts with the rung it was merged into.
    """
    reached = [rung.price * side.sign for rung, filled in rungs if filled >= rung.quantity]
    farthest = max(reached, default=None)
    return 0 if farthest is None else sum(level.price * side.sign <= farthest for level in levels)
