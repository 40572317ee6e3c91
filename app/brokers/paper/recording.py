"""Recordings: candles that somebody wrote down, read from CSV and played once from their start."""

import csv
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from app.brokers.paper.tape import POINTS, Candle, Pace
from app.domain.money import ZERO, parse

COLUMNS: Final = ("open_time", "open", "high", "low", "close", "volume")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


class RecordingError(ValueError):
    """A file that cannot be played; the text names the file and the line."""


class Recording:
    """A tape of recorded candles. Nothing is known between them, so each one may open with a gap."""

    def __init__(self, candles: Sequence[Candle], pace: Pace) -> None:
        if not candles:
            raise ValueError("a recording has at least one candle")
        self.pace = pace
        self._candles = candles
        # The two columns a quiet stretch is judged by, side by side in memory.
        self._lows = [candle.low for candle in candles]
        self._highs = [candle.high for candle in candles]

    @property
    def length(self) -> int:
        """How many candles there are."""
        return len(self._candles)

    def jumps_to(self, point: int) -> bool:
        """At every open: nothing is known between two candles."""
        return point % POINTS == 0

    def candle(self, number: int) -> Candle:
        """The candle of that number, counted from 0."""
        return self._candles[number]

    def extent(self, first: int, last: int) -> tuple[Decimal, Decimal]:
        """The lowest and the highest price in the candles `first` to `last`."""
        return min(self._lows[first : last + 1]), max(self._highs[first : last + 1])


def read_candles(file: Path) -> tuple[Candle, ...]:
    """The candles of a CSV file with the header `open_time,open,high,low,close,volume`.

    `open_time` is ISO 8601 with its zone, or epoch milliseconds, and rises; prices are exact decimals.
    Raises RecordingError.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return _candles_of(lines, str(file))
    except OSError as error:
        raise RecordingError(f"{file}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{file}: is not a CSV file in UTF-8 ({error})") from error


def _candles_of(lines: Iterable[str], name: str) -> tuple[Candle, ...]:
    rows = csv.reader(lines)
    header = next(rows, [])
    if tuple(header) != COLUMNS:
        raise RecordingError(
            f"{name}, line 1: the header must be {','.join(COLUMNS)}, not {','.join(header)}"
        )
    candles: list[Candle] = []
    opened: datetime | None = None
    for row in rows:
        try:
            time, candle = _read_row(row)
            if opened is not None and time <= opened:
                raise ValueError("open_time is not after the line before")
        except ValueError as error:
            raise RecordingError(f"{name}, line {rows.line_num}: {error}") from error
        opened = time
        candles.append(candle)
    if not candles:
        raise RecordingError(f"{name}: has no candles")
    return tuple(candles)


def _read_row(row: Sequence[str]) -> tuple[datetime, Candle]:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} values instead of {len(COLUMNS)}")
    fields = dict(zip(COLUMNS, row, strict=True))
    _read_amount(fields, "volume")
    candle = Candle(
        open=_read_amount(fields, "open"),
        high=_read_amount(fields, "high"),
        low=_read_amount(fields, "low"),
        close=_read_amount(fields, "close"),
    )
    if candle.low <= ZERO:
        raise ValueError("a price is above zero")
    if candle.low > min(candle.open, candle.close) or candle.high < max(candle.open, candle.close):
        raise ValueError("open and close lie between low and high")
    return _read_time(fields["open_time"]), candle


def _read_amount(fields: dict[str, str], column: str) -> Decimal:
    try:
        amount = parse(fields[column])
    except ValueError as error:
        raise ValueError(f"{column} is {fields[column]!r}: {error}") from None
    return amount


def _read_time(text: str) -> datetime:
    if _MILLISECONDS.fullmatch(text):
        return _EPOCH + timedelta(milliseconds=int(text))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"open_time is {text!r}: neither ISO 8601 nor epoch milliseconds") from None
    if time.tzinfo is None:
        raise ValueError(f"open_time is {text!r}: it has no time zone")
    return time.astimezone(UTC)
