"""Options of the command line that are more than a word; each raises typer.BadParameter for what cannot be meant."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

import typer


def parse_moment(text: str) -> datetime:
    """Read a date or time in any ISO form, UTC when it has no offset; raises typer.BadParameter."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date or time like 2026-12-31T18:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_hours(hours: float, now: datetime) -> timedelta:
    """Read for how long something is valid from now on; raises typer.BadParameter for an end beyond all dates."""
    try:
        lifetime = timedelta(hours=hours)
        _ = now + lifetime
    except (OverflowError, ValueError):
        raise typer.BadParameter("must end before the year 10000", param_hint="--hours") from None
    return lifetime


def parse_candles(pairs: list[str]) -> dict[str, Path]:
    """Read SYMBOL=FILE pairs; raises typer.BadParameter for another shape or a file that is not there."""
    recordings: dict[str, Path] = {}
    for pair in pairs:
        symbol, _, file = pair.partition("=")
        if not symbol or not file:
            raise typer.BadParameter(f"{pair!r} is not SYMBOL=FILE.csv", param_hint="--candles")
        if not Path(file).is_file():
            raise typer.BadParameter(f"there is no file {file}", param_hint="--candles")
        recordings[symbol] = Path(file)
    return recordings


def parse_speed(text: str) -> Decimal:
    """Read candles a second; raises typer.BadParameter for what is no number above zero."""
    try:
        speed = Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter("must be a number", param_hint="--speed") from None
    if not speed.is_finite() or speed <= 0:
        raise typer.BadParameter("must be above 0", param_hint="--speed")
    return speed
