"""Wire: the bridge's answers, read tolerantly in form and strictly in meaning.

Keys come in camel, Pascal and snake case; text answers come bare or quoted; amounts as JSON numbers, read exactly.
An answer that lacks what was asked for is an error, never an empty one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from app.brokers.port import Uncertain
from app.domain.money import exact, trimmed

_NEVER: Final = 1971
"""Times before this year stand for "none"."""

_DIGITS: Final = 20
"""No number of a broker's has more before the point: the longest are the tickets."""

_HOURS: Final = 15
"""No clock on earth is further from UTC."""


class Unreadable(Uncertain):
    """An answer that cannot be what was asked for."""


def parsed(body: str) -> Any:
    """The JSON of an answer, numbers exact; what is no JSON is taken as bare text."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=Decimal)
    except (ValueError, InvalidOperation, RecursionError):
        return body.strip()


def is_page(body: str) -> bool:
    """Whether an answer is a page for people, which no bridge and no gateway of one says anything with."""
    return body.lstrip().startswith("<")


def amount_in(value: Any) -> Decimal | None:
    """The exact amount that a value is, or None."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    return tidy(amount) if amount.is_finite() and amount.adjusted() < _DIGITS else None


def _plain(key: str) -> str:
    return key.replace("_", "").lower()


@dataclass(frozen=True, slots=True)
class Record:
    """One object of an answer, its keys read in any case."""

    _fields: Mapping[str, Any]

    @classmethod
    def of(cls, value: Any) -> "Record":
        """Raises Unreadable for anything but an object."""
        if not isinstance(value, Mapping):
            raise Unreadable("The bridge's answer is no object.")
        return cls({_plain(str(key)): each for key, each in value.items()})

    def has(self, key: str) -> bool:
        """Whether there is a value."""
        return self._fields.get(_plain(key)) is not None

    def raw(self, key: str) -> Any:
        """The value as it came; None without one."""
        return self._fields.get(_plain(key))

    def text(self, key: str) -> str:
        """A text, empty without one."""
        value = self.raw(key)
        return "" if value is None else str(value).strip()

    def amount(self, key: str) -> Decimal:
        """An exact amount. Raises Unreadable without one."""
        found = self.amount_or_none(key)
        if found is None:
            raise Unreadable(f"The bridge's answer lacks {key}.")
        return found

    def amount_or_none(self, key: str) -> Decimal | None:
        """An exact amount, or None where there is none."""
        return amount_in(self.raw(key))

    def whole(self, key: str) -> int:
        """A whole number; 0 without one."""
        found = self.amount_or_none(key)
        return 0 if found is None else int(found)

    def flag(self, key: str) -> bool | None:
        """True, false, or None where nothing is said."""
        value = self.raw(key)
        if isinstance(value, bool):
            return value
        return {"true": True, "false": False}.get(str(value).lower())

    def record(self, key: str) -> "Record | None":
        """An object inside, or None."""
        value = self.raw(key)
        return Record.of(value) if isinstance(value, Mapping) else None

    def records(self, key: str) -> list["Record"]:
        """The objects of a list inside; empty without one."""
        value = self.raw(key)
        return [Record.of(each) for each in value] if isinstance(value, list) else []


def records(value: Any) -> list[Record]:
    """A list of objects. Raises Unreadable for anything else: a missing list never means an empty one."""
    if not isinstance(value, list):
        raise Unreadable("The bridge's answer is no list.")
    return [Record.of(each) for each in value]


@exact
def tidy(amount: Decimal) -> Decimal:
    """An amount without the noise of a binary double, at most ten decimal places."""
    return trimmed(amount.quantize(Decimal("1e-10")))


@dataclass(frozen=True, slots=True)
class ServerTime:
    """The broker's clock: naive times on the wire are its own."""

    offset: timedelta

    @classmethod
    def of_hours(cls, said: Any) -> "ServerTime":
        """From what the bridge says of the server's time zone. Raises Unreadable."""
        hours = amount_in(said)
        if hours is None or abs(hours) > _HOURS:
            raise Unreadable("The bridge's answer is no time zone.")
        return cls(timedelta(hours=float(hours)))

    def read(self, text: str) -> datetime | None:
        """Aware UTC, or None for the times that stand for none."""
        try:
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=timezone(self.offset))
            return moment.astimezone(UTC) if moment.year >= _NEVER else None
        except (ValueError, OverflowError):
            return None

    def read_ms(self, milliseconds: int) -> datetime | None:
        """Aware UTC from the milliseconds of the broker's own clock, or None for what is no time."""
        if milliseconds <= 0:
            return None
        try:
            return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds) - self.offset
        except OverflowError:
            return None

    def text(self, moment: datetime) -> str:
        """As the bridge takes times."""
        return moment.astimezone(timezone(self.offset)).strftime("%Y-%m-%dT%H:%M:%S")


def names(value: Any) -> Sequence[str]:
    """The names in a list of symbols, whichever of its forms the bridge chose. Raises Unreadable."""
    if isinstance(value, Mapping):
        inner = Record.of(value).raw("names")
        return names(inner) if isinstance(inner, list) else [str(key) for key in value]
    if not isinstance(value, list):
        raise Unreadable("The bridge's answer is no list of symbols.")
    found = [each if isinstance(each, str) else Record.of(each).text("symbol") for each in value]
    return [each for each in found if each]
