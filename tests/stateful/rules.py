"""Rules: what must be so after every step, and what must be so once nothing is under way any more.

The checker of the chaos runs says what the venue's books and the database disagree on; here is what else must hold
when owners trade by hand beside the engine.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from sqlalchemy import select

from app.desk import Sessions
from app.domain.exits import CloseReason
from app.domain.money import ZERO, exact
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.domain.risk import Mode
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import Position
from tests.chaos.verdict import Verdict
from tests.stateful.steps import Terms

ALWAYS: Final = frozenset({"duplicate", "double close", "reversed", "simulator"})
"""What of the checker's rules holds at every moment; the others are for when nothing is under way."""

Findings = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class State:
    """What the database says at one moment."""

    executions: Sequence[Execution]
    orders: Sequence[Order]
    positions: Sequence[Position]

    @property
    def entered(self) -> set[UUID]:
        """Executions that take up room: an entry that is under way or rests, or a position that is open."""
        live = {row.execution_id for row in self.orders if row.purpose is Purpose.ENTRY and row.is_live}
        return live | {row.execution_id for row in self.open}

    @property
    def open(self) -> list[Position]:
        """Positions that are not closed."""
        return [each for each in self.positions if each.status is not PositionStatus.CLOSED]


async def read(sessions: Sessions) -> State:
    """The database as it is now."""
    async with sessions() as session:
        return State(
            (await session.scalars(select(Execution).order_by(Execution.id))).all(),
            (await session.scalars(select(Order).order_by(Order.created_at, Order.id))).all(),
            (await session.scalars(select(Position).order_by(Position.id))).all(),
        )


def broken_always(state: State, verdict: Verdict, terms: Terms) -> Findings:
    """What must not be at any moment."""
    found = [each for each in verdict.findings if each[0] in ALWAYS]
    found += closes(state.orders)
    found += limits(state, terms)
    found += [
        ("untruthful", f"{each.id} has {each.remaining_quantity} left of {each.quantity}")
        for each in state.positions
        if not ZERO <= each.remaining_quantity <= each.quantity
    ]
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """What has been asked for so far, and must have been done once nothing is under way."""

    withdrawn: Collection[UUID]
    """Executions of signals that their source took back, or closed whole."""
    mode: Mode
    max_hold: timedelta | None
    prices: Mapping[str, Decimal]
    """By our symbol, as they have been for a while."""
    now: datetime


def broken_when_settled(
    state: State, verdict: Verdict, held: Mapping[str, Decimal], asked: Asked, *, has_added: bool
) -> Findings:
    """What must not be once nothing is under way. `has_added`: the venue holds size of the owner's as well."""
    return [
        *verdict.findings,
        *_undone(state, asked),
        *_left_behind(state),
        *_uncovered(state),
        *_held(state, held, has_added=has_added),
    ]


def broken_when_flat(state: State, made: Decimal | None) -> Findings:
    """What must not be after everything was closed: something open, and money that is not in our figures.

    `made` is what trading has made by the venue's books; None where they are not only about ours.
    """
    found = [("open", f"{each.id} is {each.status}: {each.remaining_quantity} left") for each in state.open]
    found += [
        ("open", f"{each.id} is {each.status} after all was taken back")
        for each in state.executions
        if each.status in (ExecutionStatus.PENDING, ExecutionStatus.SENDING, ExecutionStatus.OPEN)
    ]
    if made is not None and not found and all(each.pnl_complete for each in state.positions):
        found += _money(state, made)
    return found


def closes(orders: Iterable[Order]) -> Findings:
    """One close of a position at a time, those in review aside."""
    live = Counter(
        row.position_id
        for row in orders
        if row.purpose is Purpose.CLOSE and row.is_live and row.status is not OrderStatus.NEEDS_REVIEW
    )
    return [("two closes", f"{count} closes of {each} are live") for each, count in live.items() if count > 1]


def limits(state: State, terms: Terms) -> Findings:
    """No limit is ever exceeded, whoever claims at the same time."""
    entered = state.entered
    by_symbol = Counter(each.symbol for each in state.executions if each.id in entered)
    sent = {row.execution_id for row in state.orders if row.purpose is Purpose.ENTRY and row.attempt > 0}
    counts = (
        ("max_open_positions", len(entered), terms.max_open_positions),
        ("max_positions_per_symbol", max(by_symbol.values(), default=0), terms.max_positions_per_symbol),
        ("max_daily_trades", len(sent), terms.max_daily_trades),
    )
    return [
        ("limit", f"{name} is {most}, there are {count}")
        for name, count, most in counts
        if most is not None and count > most
    ]


def _left_behind(state: State) -> Findings:
    """Nothing of a position that is closed stands any more."""
    closed = {each.execution_id for each in state.positions if each.status is PositionStatus.CLOSED}
    return [
        ("left behind", f"{row.purpose} {row.type} {row.id} is {row.status}, its position is closed")
        for row in state.orders
        if row.execution_id in closed and row.is_live
    ]


_BEYOND: Final = Decimal("0.001")
"""How far beyond a level a price has to be, as a fraction, whichever side of the spread counts."""


@exact
def _undone(state: State, asked: Asked) -> Findings:
    """No entry rests that is not wanted any more, and nothing is held that was to be left by now."""
    found = [
        ("undone", f"{each.id} still rests: its signal was taken back, or the mode is {asked.mode}")
        for each in state.executions
        if each.status is ExecutionStatus.OPEN
        and (each.id in asked.withdrawn or asked.mode is not Mode.ACTIVE)
    ]
    for each in state.open:
        sign, price = each.side.entry_side.sign, asked.prices[each.symbol]
        if each.stop_loss is not None and (each.stop_loss - price) * sign > price * _BEYOND:
            found.append(("undone", f"{each.id} is held at {price}, its stop is {each.stop_loss}"))
        found += [
            ("undone", f"{each.id} is held at {price}, its target for {rung.quantity} is {rung.price}")
            for rung in each.rungs_left
            if (price - rung.price) * sign > price * _BEYOND
        ]
        if asked.max_hold is not None and asked.now - each.opened_at > asked.max_hold + timedelta(minutes=1):
            found.append(("undone", f"{each.id} has been held since {each.opened_at}"))
    return found


def _uncovered(state: State) -> Findings:
    """Every stop is watched by somebody."""
    return [
        ("unprotected", f"{each.id} ({each.protection}) has been unwatched since {each.unprotected_since}")
        for each in state.open
        if each.stop_loss is not None and each.unprotected_since is not None
    ]


@exact
def _held(state: State, held: Mapping[str, Decimal], *, has_added: bool) -> Findings:
    """The venue holds what our positions hold together; where its owner has added to it, no less."""
    ours: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for each in state.positions:
        ours[each.symbol] += (each.remaining_quantity + each.dust) * each.side.entry_side.sign
    found = []
    for symbol in {*ours, *held}:
        theirs = held.get(symbol, ZERO)
        is_less = abs(theirs) < abs(ours[symbol]) or theirs * ours[symbol] < ZERO
        if is_less if has_added else theirs != ours[symbol]:
            found.append(("untruthful", f"the venue holds {theirs} {symbol}, our positions {ours[symbol]}"))
    return found


_GRAIN: Final = Decimal("0.00000001")


@exact
def _money(state: State, made: Decimal) -> Findings:
    """What all positions have realised is what the account has made, to what the venue counts in per fill."""
    realized = sum((each.realized_pnl for each in state.positions), ZERO)
    bought = {row.execution_id: row.filled_quantity for row in state.orders if row.purpose is Purpose.ENTRY}
    # What is too small to be sold was paid for, fee included, and is in no figure of ours.
    left = sum(
        (
            each.dust * each.entry_price * bought[each.execution_id] / each.quantity
            for each in state.positions
            if each.dust
        ),
        ZERO,
    )
    allowed = _GRAIN * (len(state.orders) + 1) * 4
    if abs(realized - made - left) > allowed:
        return [("money", f"our positions have realised {realized}, the account has made {made}")]
    return []


def reasons(state: State) -> Counter[str]:
    """What became of everything: for a look at what a run has really been through."""
    told = Counter(f"execution {each.status} {each.code or ''}".strip() for each in state.executions)
    told.update(f"closed for {each.close_reason or CloseReason.MANUAL}" for each in state.positions)
    return told
