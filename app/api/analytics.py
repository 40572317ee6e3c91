"""Analytics: how an owner's trading performs, per currency, with the definition of every figure.

All figures are computed from closed positions when they are asked for, those of today like those of any other
day. The stored daily rows add what cannot be computed: what the venue said when a day ended (`balance` and
`equity`), and which days had a row without a trade.
"""

import base64
import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.bodies import ExactRoute
from app.api.callers import Caller, Reader
from app.api.problems import raises
from app.api.sessions import OpenDesk, Reading, reading_of
from app.api.wire import Amount, Body, Instant, View
from app.desk import Desk
from app.domain import portfolios
from app.domain.errors import Invalid, NotFound
from app.domain.money import exact, text
from app.domain.performance import FORMULAS, Statistics, utc_day
from app.domain.portfolios import ONE_DAY, UNANSWERED, History, Period, Snapshot, midnight
from app.store import analytics
from app.store.analytics import ClosedPosition, DayKey, Scope

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=ExactRoute)


# What is asked


def _iso_day(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        raise ValueError("a day is a date, YYYY-MM-DD")
    return value


Day = Annotated[date, BeforeValidator(_iso_day)]
"""A UTC day; numbers, which would read as seconds since 1970, and times are refused."""


class Selection(Body):
    """Which trades are meant, by the UTC day of their `closed_at`."""

    connection_id: UUID | None = Field(default=None, examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """Only this connection, which may have been deleted; without it all of yours, taken as one portfolio."""
    from_: Day | None = Field(default=None, alias="from", examples=["2026-11-01"])
    """The first UTC day, included; without it, or before it, the day of the first activation."""
    to: Day | None = Field(default=None, examples=["2026-11-30"])
    """The last UTC day, included; without it, or after it, today."""
    timezone: Literal["UTC"] = "UTC"
    """The zone in which days begin and end: always UTC."""


class DailySelection(Selection):
    """Which daily rows are wanted; newest first."""

    limit: int = Field(default=50, ge=1, le=200, examples=[50])
    """How many items at most, 1 to 200."""
    cursor: str | None = Field(default=None, max_length=400, examples=["MjAyNi0xMS0yMyBVU0RU"])
    """The `next_cursor` of the page before; without it the newest items."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A selection that is allowed and makes sense. `last_day` is never after `today`."""

    scope: Scope
    first_day: date | None
    last_day: date
    today: date

    @property
    def is_live(self) -> bool:
        """Whether it includes today, which is not complete."""
        return self.last_day == self.today and (self.first_day or date.min) <= self.today


async def _ask(session: AsyncSession, caller: Caller, desk: Desk, selection: Selection) -> _Question:
    """What a caller wants to know. Raises Invalid, and NotFound for a connection that is not theirs."""
    first_day, last_day, today = selection.from_, selection.to, utc_day(desk.now())
    if first_day is not None and last_day is not None and first_day > last_day:
        raise Invalid("from", "`from` is not after `to`.")
    scope = Scope(caller.owner, selection.connection_id)
    if not await analytics.is_owned(session, scope):
        raise NotFound("connection")
    return _Question(scope, first_day, min(last_day or today, today), today)


# What is answered


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


# Summary and curve


@router.get("/summary", responses=raises("not_found"))
async def get_summary(
    caller: Reader, session: Reading, desk: OpenDesk, selection: Annotated[Selection, Query()]
) -> Summaries:
    """How your trading performed in a period, per currency."""
    asked = await _ask(session, caller, desk, selection)
    said = await analytics.snapshots_on(session, asked.scope, asked.last_day)
    items = []
    for currency, histories, period in await _periods(session, asked):
        snapshot = _live(histories, asked.today) if asked.is_live else said.get(currency, UNANSWERED)
        items.append(
            Summary.model_validate(
                {
                    **_shown(period.statistics(), currency, snapshot, complete=not asked.is_live),
                    "first_day": period.first_day,
                    "last_day": period.last_day,
                }
            )
        )
    return Summaries(items=items)


@router.get("/equity-curve", responses=raises("not_found"))
async def get_equity_curve(
    caller: Reader, session: Reading, desk: OpenDesk, selection: Annotated[Selection, Query()]
) -> EquityCurve:
    """How your balance moved from trade to trade, per currency; the whole curve, not in pages."""
    asked = await _ask(session, caller, desk, selection)
    return EquityCurve(
        items=[
            EquityPoint.of(point, currency=currency)
            for currency, _, period in await _periods(session, asked)
            for point in period.curve()
        ]
    )


async def _periods(
    session: AsyncSession, asked: _Question
) -> Iterable[tuple[str, Sequence[History], Period]]:
    """The period asked for in each currency that had begun by its end."""
    histories = await analytics.histories_of(session, asked.scope, asked.first_day, asked.last_day)
    return [
        (currency, own, period)
        for currency, own in portfolios.by_currency(histories).items()
        if (period := portfolios.period(own, asked.first_day, asked.last_day)) is not None
    ]


def _live(histories: Iterable[History], today: date) -> Snapshot:
    """What the venues said last of the connections that today has a row for."""
    return portfolios.combined(history.snapshot for history in histories if history.is_reported(today))


def _shown(figures: Statistics, currency: str, snapshot: Snapshot, *, complete: bool) -> dict[str, object]:
    """The fields of `Figures`."""
    return {
        **portfolios.published(figures),
        **snapshot._asdict(),
        "currency": currency,
        "complete": complete,
    }


# Day by day


@router.get("/daily", responses=raises("not_found"))
async def list_days(
    caller: Reader, session: Reading, desk: OpenDesk, selection: Annotated[DailySelection, Query()]
) -> DailyPage:
    """How your trading performed day by day, one row per day and currency; today's row is live."""
    after = None if selection.cursor is None else _read_cursor(selection.cursor)
    asked = await _ask(session, caller, desk, selection)
    days, histories = await _days(session, asked, after, selection.limit + 1)
    shown = dict(list(days.items())[: selection.limit])
    figures = {
        DayKey(day, currency): statistics
        for currency, own in portfolios.by_currency(histories).items()
        for day, statistics in portfolios.daily(own, [k.day for k in shown if k.currency == currency]).items()
    }
    return DailyPage(
        items=[
            DailyFigures.model_validate(
                {
                    "day": key.day,
                    **_shown(figures[key], key.currency, snapshot, complete=key.day < asked.today),
                }
            )
            for key, snapshot in shown.items()
            if key in figures
        ],
        next_cursor=_cursor(list(shown)[-1]) if len(days) > len(shown) else None,
    )


async def _days(
    session: AsyncSession, asked: _Question, after: DayKey | None, limit: int
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


# Trades

COLUMNS: Final = (
    "position_id",
    "connection_id",
    "signal_id",
    "provider",
    "symbol",
    "side",
    "quantity",
    "entry_price",
    "exit_price",
    "gross_pnl",
    "fees",
    "funding",
    "realized_pnl",
    "pnl_complete",
    "currency",
    "opened_at",
    "closed_at",
    "holding_seconds",
    "close_reason",
)
"""The columns of trades.csv, in order."""

BATCH: Final = 1000
"""Trades that are read at a time while a file is sent."""

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What makes a spreadsheet take a text for a formula."""


class CsvResponse(StreamingResponse):
    """A file of comma-separated values (RFC 4180), sent while it is read."""

    media_type = "text/csv"


@router.get(
    "/trades.csv",
    response_class=CsvResponse,
    responses=raises("not_found")
    | {
        200: {
            "description": f"A line per closed position, oldest first, below `{','.join(COLUMNS)}`.",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        }
    },
)
async def export_trades(
    caller: Reader, session: Reading, desk: OpenDesk, selection: Annotated[Selection, Query()]
) -> CsvResponse:
    """Your closed positions of a period as a file for spreadsheets.

    Amounts are in `currency`, quantities in the position's unit, times in UTC, `holding_seconds` is
    `closed_at` − `opened_at`. A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    asked = await _ask(session, caller, desk, selection)
    return CsvResponse(
        _lines(desk, asked), headers={"Content-Disposition": 'attachment; filename="trades.csv"'}
    )


async def _lines(desk: Desk, asked: _Question) -> AsyncIterator[str]:
    """The file in pieces. No database connection waits while a slow reader takes one of them in."""
    yield _csv([COLUMNS])
    start = None if asked.first_day is None else midnight(asked.first_day)
    end, after = midnight(asked.last_day + ONE_DAY), None
    while True:
        async with reading_of(desk, asked.scope.owner) as session:
            batch = await analytics.closed_positions(
                session, asked.scope, start, end, after=after, limit=BATCH
            )
        yield _csv(_line(closed) for closed in batch)
        if len(batch) < BATCH:
            return
        after = batch[-1].place


def _csv(lines: Iterable[Iterable[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(lines)
    return buffer.getvalue()


def _line(closed: ClosedPosition) -> list[str]:
    """One trade in the order of `COLUMNS`."""
    beside = {
        "position_id": closed.position.id,
        "provider": closed.provider,
        "holding_seconds": _seconds(closed.closed_at - closed.position.opened_at),
    }
    return [_cell(beside[name] if name in beside else getattr(closed.position, name)) for name in COLUMNS]


def _cell(value: object) -> str:
    """A value as it stands in the file."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return text(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case str():
            return f"'{value}" if value.startswith(_FORMULA_STARTS) else str(value)
        case _:
            return str(value)


@exact
def _seconds(duration: timedelta) -> Decimal:
    """A duration in seconds, exact to the microsecond."""
    return Decimal(duration // timedelta(microseconds=1)) / 1_000_000
