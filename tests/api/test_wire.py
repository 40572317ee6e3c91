"""What all resources share on the wire."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.api.sessions import reading_all, reading_of
from app.api.wire import Amount, Instant, Percentage, PercentageOrZero, Portion, PositiveAmount, Text
from app.desk import Desk
from tests.api.scene import ANN


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("1.500", "1.5"),
        (Decimal("1E+3"), "1000"),
        (7, "7"),
        ("-0.0", "0"),
        ("1e-18", "0.000000000000000001"),
        ("9" * 19 + "." + "9" * 18, "9" * 19 + "." + "9" * 18),
    ],
)
def test_amounts_travel_as_exact_text(given: Any, sent: str) -> None:
    adapter = TypeAdapter[Decimal](Amount)
    assert adapter.dump_python(adapter.validate_python(given), mode="json") == sent


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (PositiveAmount, ["0.1"], ["0", "-1"]),
        (Percentage, ["0.1", "100"], ["0", "100.1"]),
        (PercentageOrZero, ["0", "100"], ["-1", "100.1"]),
        (Portion, ["0.1", "1"], ["0", "1.1", "-1"]),
        (Amount, ["-1"], [0.1, True, None, [], "NaN", "1e19", "1e-19", " 1"]),
        (Text, ["x", "é／"], ["", "x" * 65, "a\nb", "a\0b", "\ud800", 1, b"x"]),
        (
            Instant,
            ["2026-11-24T12:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)],
            ["2026-11-24T12:00:00", 1795330000, "1795330000x", True, "0001-01-01T00:00:00+14:00"],
        ),
    ],
)
def test_values_are_taken_or_refused(kind: Any, good: list[Any], bad: list[Any]) -> None:
    adapter = TypeAdapter(kind)
    for value in good:
        adapter.validate_python(value)
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_times_travel_in_utc() -> None:
    adapter = TypeAdapter[datetime](Instant)
    moment = adapter.validate_python("2026-11-24T12:00:00.5+02:00")
    assert adapter.dump_python(moment, mode="json") == "2026-11-24T10:00:00.500000Z"


@pytest.mark.parametrize("opened", [asynccontextmanager(reading_all), partial(reading_of, owner=ANN)])
async def test_a_reading_session_cannot_write(desk: Desk, opened: Any) -> None:
    async with opened(desk) as session:
        with pytest.raises(DBAPIError, match=r"read-only transaction|permission denied"):
            await session.execute(text("DELETE FROM execution_notifications"))
    async with desk.sessions.begin() as writer:
        await writer.execute(text("DELETE FROM execution_notifications"))
