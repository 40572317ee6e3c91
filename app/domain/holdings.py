"""Holdings: our books beside what the venue holds, and how what is gone without us is accounted for. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from app.domain.money import ZERO, exact, floor_to_step
from app.domain.orders import Side, merged_fees


@dataclass(frozen=True, slots=True)
class Stake:
    """What our books say of one position. Quantity in base units (lots for FX)."""

    id: UUID
    opened_at: datetime
    quantity: Decimal
    step: Decimal
    """The step of its symbol: less than one can neither be sold nor be missed."""
    held: Decimal | None = None
    """What the venue holds of just this one, where its positions have names; None where only the sum is told."""


@exact
def missing(stakes: Sequence[Stake], held: Decimal) -> dict[UUID, Decimal]:
    """What has been taken from each stake when the venue holds `held` of all of them together.

    A stake whose own part is told has lost what that lacks. Of the others the newest lose first, and only where
    less is held than could be sold of ours: what a venue cuts off in the last decimals is nobody's doing.
    """
    taken = {
        stake.id: stake.quantity - stake.held
        for stake in stakes
        if stake.held is not None and stake.held < floor_to_step(stake.quantity, stake.step)
    }
    nameless = [stake for stake in stakes if stake.held is None]
    left = held - sum((stake.held for stake in stakes if stake.held is not None), ZERO)
    if left >= sum((floor_to_step(stake.quantity, stake.step) for stake in nameless), ZERO):
        return taken
    gone = sum((stake.quantity for stake in nameless), ZERO) - max(left, ZERO)
    for stake in newest_first(nameless):
        part = min(gone, stake.quantity)
        if part > ZERO:
            taken[stake.id] = part
            gone -= part
    return taken


def newest_first(stakes: Sequence[Stake]) -> list[Stake]:
    """The order in which stakes lose where the venue does not say whose is gone."""
    return sorted(stakes, key=lambda stake: (stake.opened_at, stake.id), reverse=True)


@exact
def surplus(stakes: Sequence[Stake], held: Decimal) -> Decimal:
    """What the venue holds beyond ours: the owner's, neither managed nor closed."""
    ours = (stake.quantity if stake.held is None else min(stake.quantity, stake.held) for stake in stakes)
    return max(held - sum(ours, ZERO), ZERO)


@dataclass(frozen=True, slots=True)
class Fill:
    """One trade of an account as the venue lists it. Base units, quote currency."""

    exchange_order_id: str | None
    side: Side
    quantity: Decimal
    price: Decimal
    time: datetime
    fees: Mapping[str, Decimal] | None = field(default_factory=dict)
    """By currency, positive is paid; None where the venue does not tell."""
    forced: bool = False
    """On the venue's word: liquidated, or deleveraged."""
    profit: Decimal | None = None
    """What the venue booked for it before fees, in the account's currency; None where prices say it."""
    funding: Decimal = ZERO
    """Swap booked with it, in the account's currency; negative is paid."""
    ours: bool = False
    """Whether a request of ours did it that was meant for something else: to take back what had just been filled."""


@dataclass(frozen=True, slots=True)
class Payment:
    """Funding that a venue charged, or paid, for what was held in a symbol at one moment."""

    id: str
    """The venue's own: heard twice it is one payment."""
    symbol: str
    time: datetime
    amount: Decimal
    """Negative is paid."""
    currency: str


@exact
def part_of(payment: Decimal, ours: Decimal, foreign: Decimal) -> Decimal:
    """What of a payment is for `ours`, where the owner holds `foreign` of the same symbol beside it."""
    return payment * ours / (ours + foreign) if foreign else payment


def passes_an_hour(opened_at: datetime, until: datetime) -> bool:
    """Whether a full hour has been reached: perpetuals settle their funding at some of them."""
    return until.replace(minute=0, second=0, microsecond=0) >= opened_at


@dataclass(frozen=True, slots=True)
class Departure:
    """A quantity that left a position without us."""

    quantity: Decimal
    forced: bool = False
    price: Decimal | None = None
    """Average; None where no trade accounts for it."""
    fees: Mapping[str, Decimal] | None = None
    """None where they are not told."""
    time: datetime | None = None
    """Of the last trade in it."""
    exchange_order_id: str | None = None
    """The order behind its last trade."""
    profit: Decimal | None = None
    """As its trades'; None where prices say it."""
    funding: Decimal = ZERO
    ours: bool = False
    """As its trades'."""


@exact
def departures(
    shares: Sequence[tuple[UUID, Decimal]], fills: Sequence[Fill]
) -> dict[UUID, tuple[Departure, ...]]:
    """Account for what left each position by the venue's trades, the newest of them first.

    `shares` come in the order in which they lost; no trade counts twice. Forced trades, ours and all others stay
    apart, and what no trade accounts for is a departure without a price.
    """
    heap = sorted(fills, key=lambda fill: fill.time)
    found: dict[UUID, tuple[Departure, ...]] = {}
    for name, quantity in shares:
        taken: list[Fill] = []
        while quantity > ZERO and heap:
            fill = heap.pop()
            used = min(quantity, fill.quantity)
            quantity -= used
            taken.append(_part(fill, used))
            if used < fill.quantity:
                heap.append(_part(fill, fill.quantity - used))
        kinds = sorted({(fill.forced, fill.ours) for fill in taken})
        parts = [_merged([fill for fill in taken if (fill.forced, fill.ours) == kind]) for kind in kinds]
        if quantity > ZERO:
            parts.append(Departure(quantity))
        found[name] = tuple(parts)
    return found


def _part(fill: Fill, quantity: Decimal) -> Fill:
    """A part of a fill, with its part of the money."""
    share = quantity / fill.quantity
    fees = None if fill.fees is None else {name: amount * share for name, amount in fill.fees.items()}
    profit = None if fill.profit is None else fill.profit * share
    return replace(fill, quantity=quantity, fees=fees, profit=profit, funding=fill.funding * share)


def _merged(fills: Sequence[Fill]) -> Departure:
    quantity = sum((fill.quantity for fill in fills), ZERO)
    told = [fill.fees for fill in fills if fill.fees is not None]
    profits = [fill.profit for fill in fills if fill.profit is not None]
    last = max(fills, key=lambda fill: fill.time)
    return Departure(
        quantity=quantity,
        forced=last.forced,
        price=sum((fill.quantity * fill.price for fill in fills), ZERO) / quantity,
        fees=merged_fees(told) if len(told) == len(fills) else None,
        time=last.time,
        exchange_order_id=last.exchange_order_id,
        profit=sum(profits, ZERO) if len(profits) == len(fills) else None,
        funding=sum((fill.funding for fill in fills), ZERO),
        ours=last.ours,
    )
