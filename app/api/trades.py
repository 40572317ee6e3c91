"""Trades: every closed position of a period, as a file for spreadsheets."""

import csv
import io
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from app.api.bodies import ExactRoute
from app.api.callers import Reader
from app.api.problems import raises
from app.api.selections import Question, Selection, ask
from app.api.sessions import OpenDesk, Reading
from app.desk import Desk
from app.domain.money import exact, text
from app.domain.portfolios import ONE_DAY, midnight
from app.store import analytics, ownership
from app.store.analytics import ClosedPosition

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=ExactRoute)

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
    asked = await ask(session, caller, desk, selection)
    return CsvResponse(
        _lines(desk, asked), headers={"Content-Disposition": 'attachment; filename="trades.csv"'}
    )


async def _lines(desk: Desk, asked: Question) -> AsyncIterator[str]:
    """The file in pieces. No database connection waits while a slow reader takes one of them in."""
    yield _csv([COLUMNS])
    start = None if asked.first_day is None else midnight(asked.first_day)
    end, after = midnight(asked.last_day + ONE_DAY), None
    while True:
        async with ownership.reading(desk.sessions, asked.scope.owner) as session:
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
