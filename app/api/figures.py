"""Figures: performance as answers carry it, each figure with its definition."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, PlainSerializer, WithJsonSchema
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.selections import Question
from app.api.wire import Amount, View
from app.domain import portfolios
from app.domain.money import text
from app.domain.performance import FORMULAS, Statistics
from app.domain.portfolios import History, HistoryKey, Period, Snapshot
from app.store import analytics


def _defined(name: str, example: object) -> Any:
    """What the OpenAPI page says of a figure: its definition and an example."""
    return Field(description=FORMULAS[name], examples=[example])


Figure = Annotated[
    Decimal,
    PlainSerializer(text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^-?\d+(\.\d{1,18})?$"}, mode="serialization"),
]
"""A computed figure: a decimal string without trailing zeros, at most 18 places, of any size."""


class Figures(View):
    """The figures of a period in one currency."""

    currency: str = Field(examples=["USDT"])
    """The currency that all amounts are in; currencies are never added up."""
    trades: Annotated[int, _defined("trades", 4)]
    wins: Annotated[int, _defined("wins", 2)]
    losses: Annotated[int, _defined("losses", 1)]
    breakeven: Annotated[int, _defined("breakeven", 1)]
    win_rate: Annotated[Figure | None, _defined("win_rate", "50")]
    profit_factor: Annotated[Figure | None, _defined("profit_factor", "4")]
    gross_profit: Annotated[Figure, _defined("gross_profit", "80")]
    gross_loss: Annotated[Figure, _defined("gross_loss", "20")]
    net_pnl: Annotated[Figure, _defined("net_pnl", "60")]
    fees: Annotated[Figure, _defined("fees", "6.75")]
    average_win: Annotated[Figure | None, _defined("average_win", "40")]
    average_loss: Annotated[Figure | None, _defined("average_loss", "20")]
    expectancy: Annotated[Figure | None, _defined("expectancy", "15")]
    largest_win: Annotated[Figure | None, _defined("largest_win", "50")]
    largest_loss: Annotated[Figure | None, _defined("largest_loss", "20")]
    longest_win_streak: Annotated[int, _defined("longest_win_streak", 1)]
    longest_loss_streak: Annotated[int, _defined("longest_loss_streak", 1)]
    average_holding_seconds: Annotated[Figure | None, _defined("average_holding_seconds", "5400")]
    max_drawdown: Annotated[Figure, _defined("max_drawdown", "20")]
    max_drawdown_percent: Annotated[Figure | None, _defined("max_drawdown_percent", "1.904761904761904762")]
    sharpe: Annotated[Figure | None, _defined("sharpe", "1.25")]
    sortino: Annotated[Figure | None, _defined("sortino", "2.5")]
    calmar: Annotated[Figure | None, _defined("calmar", "3.75")]
    balance: Amount | None = Field(examples=["1060"])
    """What the venues said at 00:00 UTC when the last day ended (today: what they said last), in `currency`.

    The sum over the connections that were active or traded that day; null when one of them did not answer.
    """
    equity: Amount | None = Field(examples=["1072.5"])
    """The same of equity: `balance` plus the unrealised profit where the venue counts it, in `currency`."""
    complete: bool = Field(examples=[True])
    """False while the last day is today: what is closed until midnight will still change the figures."""


class Summary(Figures):
    """The figures of the whole period in one currency."""

    first_day: date = Field(examples=["2026-11-01"])
    """The first UTC day of the period: `from`, but no earlier than the first activation."""
    last_day: date = Field(examples=["2026-11-24"])
    """The last UTC day of the period: `to`, but no later than today."""


def shown(figures: Statistics, currency: str, snapshot: Snapshot, *, complete: bool) -> dict[str, object]:
    """The fields of `Figures`."""
    return {
        **portfolios.published(figures),
        **snapshot._asdict(),
        "currency": currency,
        "complete": complete,
    }


@dataclass(frozen=True, slots=True)
class Performance:
    """What a question comes to in one currency, for one group of its connections."""

    currency: str
    group: str
    period: Period
    snapshot: Snapshot
    """What the venues said of the connections of the group when the period ended."""
    complete: bool
    """Whether the period is over."""

    def shown(self) -> dict[str, object]:
        """The fields of `Summary`."""
        return {
            **shown(self.period.statistics(), self.currency, self.snapshot, complete=self.complete),
            "first_day": self.period.first_day,
            "last_day": self.period.last_day,
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of the trades that a question is about."""

    asked: Question
    histories: Sequence[History]
    said: Mapping[HistoryKey, Snapshot]
    """What the venues said when the period ended."""

    def performances(self, groups: Mapping[UUID, str] | None = None) -> list[Performance]:
        """By currency, and in each by group: those that had begun by the end of the period.

        `groups` names the group of each connection; without it all are one portfolio.
        """
        found = []
        for currency, own in portfolios.by_currency(self.histories).items():
            grouped = defaultdict(list)
            for history in own:
                grouped["" if groups is None else groups[history.key.connection_id]].append(history)
            for group, members in sorted(grouped.items()):
                period = portfolios.period(members, self.asked.first_day, self.asked.last_day)
                if period is not None:
                    snapshot = portfolios.combined(
                        self.said[each.key] for each in members if each.key in self.said
                    )
                    found.append(
                        Performance(currency, group, period, snapshot, complete=not self.asked.is_live)
                    )
        return found


async def find(session: AsyncSession, asked: Question) -> Findings:
    """Look up what a question is about."""
    histories = await analytics.histories_of(session, asked.scope, asked.first_day, asked.last_day)
    if asked.is_live:
        said = {each.key: each.snapshot for each in histories if each.is_reported(asked.today)}
    else:
        said = await analytics.snapshots_on(session, asked.scope, asked.last_day)
    return Findings(asked, histories, said)
