"""Portfolios: connections' trades in one currency, taken together over a period of UTC days.

What performance is made of comes from here, for one connection as for many: the trades, the capital that stood
behind them, and what venues said of the accounts. Pure; `performance` holds the formulas.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, NamedTuple
from uuid import UUID

from app.domain.money import SCALE, ZERO, exact, kept, stored, text
from app.domain.performance import (
    Capital,
    CurvePoint,
    Flow,
    Statistics,
    Trade,
    by_day,
    curve,
    pooled,
    statistics,
    utc_day,
)

ONE_DAY: Final = timedelta(days=1)

FIGURES: Final = tuple(field.name for field in fields(Statistics))
"""The columns that can be computed again from positions at any time."""


_SIGNIFICANT: Final = Context(prec=38, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999)


@exact
def rounded(figure: Decimal) -> Decimal:
    """A computed figure as rows keep it and answers carry it, half to even.

    It has 18 decimal places as an amount has; from 10^20 on, where only a quotient can come, 38 digits.
    """
    digits = _SIGNIFICANT.plus(figure)
    return stored(digits) if abs(digits) < Decimal(1).scaleb(_SIGNIFICANT.prec - SCALE) else digits


def published(figures: Statistics) -> dict[str, Decimal | int | None]:
    """Figures by name, `rounded`: as rows keep them and answers carry them."""
    return {
        name: rounded(value) if isinstance(value, Decimal) else value
        for name, value in asdict(figures).items()
    }


class HistoryKey(NamedTuple):
    """What a history is known by: one connection in one currency."""

    connection_id: UUID
    currency: str


class Snapshot(NamedTuple):
    """What venues said of accounts in one currency; None where one of them did not answer."""

    balance: Decimal | None
    equity: Decimal | None

    @classmethod
    def parse(cls, said: Mapping[str, str | None]) -> "Snapshot":
        """From the JSON that a connection keeps per currency."""
        return cls(*(None if (told := said.get(name)) is None else kept(told) for name in cls._fields))

    def text(self) -> dict[str, str | None]:
        """As the JSON that a connection keeps per currency."""
        return {name: None if said is None else text(stored(said)) for name, said in self._asdict().items()}


UNANSWERED: Final = Snapshot(None, None)


@dataclass(frozen=True, slots=True)
class History:
    """The trades of some days, in order, of a connection in one currency, and what there was before them.

    A connection has a history in each currency that it began with or has traded in. `since` is its first
    activation, or its first trade where nobody knows what it began with. `earlier` is the net PnL of the
    trades before those days, `snapshot` what the venue last said.
    """

    key: HistoryKey
    is_active: bool
    since: datetime
    starting_balance: Decimal | None
    earlier: Decimal
    trades: Sequence[Trade]
    snapshot: Snapshot

    @property
    def begins(self) -> date:
        """The UTC day from which it counts."""
        return utc_day(self.since)

    def is_reported(self, day: date) -> bool:
        """Whether the day in progress has a row for it: it is active, or traded."""
        return self.is_active or any(utc_day(trade.closed_at) == day for trade in self.trades)


@dataclass(frozen=True, slots=True)
class Period:
    """UTC days, both included, the capital that stood behind them and the trades they saw."""

    first_day: date
    last_day: date
    starting_balance: Decimal | None
    flows: tuple[Flow, ...]
    trades: Sequence[Trade]

    def statistics(self) -> Statistics:
        """Every figure of the period."""
        return statistics(
            self.trades,
            starting_balance=self.starting_balance,
            flows=self.flows,
            first_day=self.first_day,
            last_day=self.last_day,
        )

    def curve(self) -> list[CurvePoint]:
        """The equity curve: where it starts, then a point per trade."""
        opening = midnight(self.first_day)
        start = CurvePoint(opening, self._opening_capital(opening), ZERO, ZERO)
        points = curve(
            self.trades,
            self.starting_balance,
            self.flows,
            first_day=self.first_day,
            last_day=self.last_day,
        )
        return [start, *points]

    def parts(self, labels: Mapping[UUID, str]) -> "dict[str, Period]":
        """Its trades by the label of each, labels in order; trades without one are left out.

        Nobody can say which part of the capital stood behind which of them, so a part has none.
        """
        grouped = defaultdict(list)
        for trade in self.trades:
            if trade.id in labels:
                grouped[labels[trade.id]].append(trade)
        return {
            label: replace(self, starting_balance=None, flows=(), trades=grouped[label])
            for label in sorted(grouped)
        }

    @exact
    def _opening_capital(self, opening: datetime) -> Decimal | None:
        """Starting balance and what came up to the opening."""
        if self.starting_balance is None:
            return None
        return sum((flow.amount for flow in self.flows if flow.time <= opening), self.starting_balance)


def midnight(day: date) -> datetime:
    """00:00 UTC, where a day begins."""
    return datetime.combine(day, time.min, UTC)


def period(histories: Sequence[History], first_day: date | None, last_day: date) -> Period | None:
    """The period of histories in one currency that were loaded from `first_day` on, taken as one portfolio.

    It begins no earlier than the first of them, and is None when it would end before that. What was earned
    before it is a flow at its opening, which makes it part of the opening capital.
    """
    begun = [history for history in histories if history.begins <= last_day]
    capital = _capital(begun)
    if capital is None or (first_day or date.min) > last_day:
        return None
    opening_day = max(first_day or date.min, utc_day(capital.since))
    earlier = tuple(Flow(midnight(opening_day), history.earlier) for history in begun if history.earlier)
    trades = [trade for history in begun for trade in history.trades]
    return Period(opening_day, last_day, capital.starting_balance, capital.flows + earlier, trades)


@exact
def daily(histories: Sequence[History], days: Iterable[date]) -> dict[date, Statistics]:
    """The figures of each of these days by which any of the histories, all in one currency, had begun.

    No day is before the first that the histories were loaded from.
    """
    wanted = set(days)
    trades = by_day(trade for history in histories for trade in history.trades)
    earned = sum((history.earlier for history in histories), ZERO)
    figures = {}
    for day in sorted(wanted | trades.keys()):
        traded = trades.get(day, [])
        capital = _capital(history for history in histories if history.begins <= day)
        if day in wanted and capital is not None:
            flows = (*capital.flows, Flow(midnight(day), earned))
            figures[day] = Period(day, day, capital.starting_balance, flows, traded).statistics()
        earned += sum((trade.net_pnl for trade in traded), ZERO)
    return figures


def by_currency(histories: Iterable[History]) -> dict[str, list[History]]:
    """The histories of each currency, currencies in order."""
    grouped = defaultdict(list)
    for history in histories:
        grouped[history.key.currency].append(history)
    return dict(sorted(grouped.items()))


def combined(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of what venues said; None as soon as one did not answer, never the sum of the others."""
    said = list(snapshots)
    return Snapshot(_total([each.balance for each in said]), _total([each.equity for each in said]))


@exact
def _total(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """The sum, None when something is missing or there is nothing to add."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known, ZERO) if known and len(known) == len(amounts) else None


def _capital(histories: Iterable[History]) -> Capital | None:
    """What histories began with, taken as one portfolio; None when there are none."""
    return pooled(Capital(history.since, history.starting_balance) for history in histories)
