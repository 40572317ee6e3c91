"""Analytics: how an owner's trading performs, per currency, with the definition of every figure.

All figures are computed from closed positions when they are asked for, those of today like those of any other
day. The stored daily rows add what cannot be computed: what the venue said when a day ended (`balance` and
`equity`), and which days had a row without a trade.
"""

import base64
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.bodies import ExactRoute
from app.api.callers import Reader
from app.api.figures import Figure, Figures, Summary, find, shown
from app.api.problems import raises
from app.api.selections import Question, Selection, ask
from app.api.sessions import OpenDesk, Reading
from app.api.wire import Instant, View
from app.domain import portfolios
from app.domain.errors import Invalid
from app.domain.portfolios import History, Snapshot
from app.store import analytics
from app.store.analytics import DayKey

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=ExactRoute)


class DailySelection(Selection):
    """Which daily rows are wanted; newest first."""

    limit: int = Field(default=50, ge=1, le=200, examples=[50])
    """How many items at most, 1 to 200."""
    cursor: str | None = Field(default=None, max_length=400, examples=["MjAyNi0xMS0yMyBVU0RU"])
    """The `next_cursor` of the page before; without it the newest items."""


class Summaries(View):
    """A period in each of its currencies."""

    items: list[Summary]
    """One per currency, in the order of their names."""


class DailyFigures(Figures):
    """The figures of one UTC day in one currency; a day is too short for `sharpe`, `sortino` and `calmar`."""

    day: date = Field(examples=["2026-11-23"])
    """The UTC day, to which a trade belongs by its `closed_at`."""


class DailyPage(View):
    """One page of daily figures, newest day first, then by currency."""

    items: list[DailyFigures]
    """The items of this page: days with a trade, days of active connections, and today, which is live."""
    next_cursor: str | None = Field(examples=["MjAyNi0xMS0yMyBVU0RU"])
    """What to pass as `cursor` for the page after this one; null on the last."""


class EquityPoint(View):
    """The equity curve after one trade, or at its start."""

    time: Instant
    """When the trade was closed; for the starting point the 00:00 UTC at which the period begins."""
    currency: str = Field(examples=["USDT"])
    """The currency of the amounts."""
    balance: Figure | None = Field(examples=["1060"])
    """Starting balance + deposits and withdrawals + net PnL so far; null when the start is not known."""
    net_pnl: Figure = Field(examples=["60"])
    """Net PnL from the beginning of the period up to here, in `currency`."""
    drawdown: Figure = Field(examples=["20"])
    """Highest balance so far − `balance`, where deposits and withdrawals shift both; never negative."""


class EquityCurve(View):
    """An equity curve in each of a period's currencies."""

    items: list[EquityPoint]
    """By currency; in each the starting point, then a point per trade, oldest first."""
    next_cursor: None = Field(default=None, examples=[None])
    """Always null: the curve is whole."""


# Summary and curve


@router.get("/summary", responses=raises("not_found"))
async def get_summary(
    caller: Reader, session: Reading, desk: OpenDesk, selection: Annotated[Selection, Query()]
) -> Summaries:
    """How your trading performed in a period, per currency."""
    asked = await ask(session, caller, desk, selection)
    found = await find(session, asked)
    return Summaries(items=[Summary.model_validate(each.shown()) for each in found.performances()])


@router.get("/equity-curve", responses=raises("not_found"))
async def get_equity_curve(
    caller: Reader, session: Reading, desk: OpenDesk, selection: Annotated[Selection, Query()]
) -> EquityCurve:
    """How your balance moved from trade to trade, per currency; the whole curve, not in pages."""
    found = await find(session, await ask(session, caller, desk, selection))
    return EquityCurve(
        items=[
            EquityPoint.of(point, currency=each.currency)
            for each in found.performances()
            for point in each.period.curve()
        ]
    )


# Day by day


@router.get("/daily", responses=raises("not_found"))
async def list_days(
    caller: Reader, session: Reading, desk: OpenDesk, selection: Annotated[DailySelection, Query()]
) -> DailyPage:
    """How your trading performed day by day, one row per day and currency; today's row is live."""
    after = None if selection.cursor is None else _read_cursor(selection.cursor)
    asked = await ask(session, caller, desk, selection)
    days, histories = await _days(session, asked, after, selection.limit + 1)
    listed = dict(list(days.items())[: selection.limit])
    figures = {
        DayKey(day, currency): statistics
        for currency, own in portfolios.by_currency(histories).items()
        for day, statistics in portfolios.daily(
            own, [k.day for k in listed if k.currency == currency]
        ).items()
    }
    return DailyPage(
        items=[
            DailyFigures.model_validate(
                {
                    "day": key.day,
                    **shown(figures[key], key.currency, snapshot, complete=key.day < asked.today),
                }
            )
            for key, snapshot in listed.items()
            if key in figures
        ],
        next_cursor=_cursor(list(listed)[-1]) if len(days) > len(listed) else None,
    )


async def _days(
    session: AsyncSession, asked: Question, after: DayKey | None, limit: int
) -> tuple[dict[DayKey, Snapshot], Sequence[History]]:
    """The next days by age, each with its snapshot, and the histories from the oldest of them on."""
    days = await analytics.page_of_days(
        session, asked.scope, asked.first_day, asked.last_day, after=after, limit=limit
    )
    newest = asked.last_day if after is None else min(after.day, asked.last_day)
    oldest = min((key.day for key in days), default=newest)
    histories = await analytics.histories_of(session, asked.scope, oldest, newest)
    if asked.is_live:
        for currency, own in portfolios.by_currency(histories).items():
            key = DayKey(asked.today, currency)
            if any(history.is_reported(asked.today) for history in own) and _follows(key, after):
                days[key] = _live(own, asked.today)
    return {key: days[key] for key in sorted(days, key=DayKey.age)[:limit]}, histories


def _live(histories: Iterable[History], today: date) -> Snapshot:
    """What the venues said last of the connections that today has a row for."""
    return portfolios.combined(history.snapshot for history in histories if history.is_reported(today))


def _follows(key: DayKey, after: DayKey | None) -> bool:
    return after is None or key.age() > after.age()


def _cursor(key: DayKey) -> str:
    """A place in the list, in a form nobody is tempted to make up."""
    return base64.urlsafe_b64encode(f"{key.day.isoformat()} {key.currency}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> DayKey:
    """The place a cursor names. Raises Invalid."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        day, _, currency = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(" ")
        if not currency.isprintable():
            raise ValueError("a currency is printable")
        return DayKey(date.fromisoformat(day), currency)
    except ValueError:
        raise Invalid("cursor", "This is no cursor of this list.") from None
