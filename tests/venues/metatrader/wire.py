"""How the bridges speak: parameters in a query, answers in JSON or bare text, errors as an object with status 201."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl

from app.domain.money import ZERO
from tests.venues.faults import Delivery, Fault, Page

EMPTY_TIME = "0001-01-01T00:00:00"
"""What .NET writes for a moment that never was."""


class BridgeError(Exception):
    """The bridge answers with an error object."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class MalformedParameter(Exception):
    """The web server in front of the bridge does not understand a parameter."""


class Query:
    """The parameters of a call. Their names are read in any case."""

    def __init__(self, text: str) -> None:
        self._pairs = [(name.lower(), value) for name, value in parse_qsl(text, keep_blank_values=True)]

    def __contains__(self, name: str) -> bool:
        """Whether a parameter was sent."""
        return any(each == name.lower() for each, _ in self._pairs)

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Every parameter with its value."""
        return frozenset(self._pairs)

    def text(self, name: str) -> str:
        """The value of a parameter; empty without it."""
        return next((value for each, value in self._pairs if each == name.lower()), "")

    def required(self, name: str) -> str:
        """The value of a parameter that must be there. Raises BridgeError."""
        value = self.text(name)
        if not value:
            raise BridgeError("NULL_ARGUMENT", f"Value cannot be null. (Parameter '{name}')")
        return value

    def many(self, name: str) -> list[str]:
        """Every value of a parameter that may be repeated, or separated by commas."""
        values = [value for each, value in self._pairs if each == name.lower()]
        return [part for value in values for part in value.split(",") if part]

    def amount(self, name: str) -> Decimal:
        """A number; zero without it. Raises MalformedParameter."""
        value = self.text(name)
        if not value:
            return ZERO
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise MalformedParameter(name) from None
        if not number.is_finite() or "e" in value.lower():
            raise MalformedParameter(name)
        return number

    def integer(self, name: str) -> int | None:
        """A whole number; None without it. Raises MalformedParameter."""
        value = self.text(name)
        if not value:
            return None
        try:
            return int(value)
        except ValueError:
            raise MalformedParameter(name) from None

    def server_time(self, name: str) -> datetime | None:
        """A time without a zone; None without it. Raises MalformedParameter."""
        value = self.text(name)
        if not value:
            return None
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            raise MalformedParameter(name) from None
        if read.tzinfo is not None:
            raise MalformedParameter(name)
        return read


def refusal(code: str, message: str = "", *, executed: bool = False) -> Fault:
    """An error object is said, for a call that was never carried out; or that was, all the same."""
    name = f"{code} {'after' if executed else 'before'} acceptance"
    said = error_page(BridgeError(code, message or code))
    return Fault(name, Delivery.REPLACED, executed=executed, page=said)


def page(answer: Any, accept: str, *, pascal_case: bool = False) -> Page:
    """An answer on the wire. Text is quoted only for those who ask for JSON and nothing else will do."""
    if isinstance(answer, str) and "application/json" not in accept.lower():
        return Page(200, answer, "text/plain")
    return Page(200, written(answer, pascal_case=pascal_case), "application/json")


def error_page(error: BridgeError, *, pascal_case: bool = False) -> Page:
    """An error on the wire: status 201, as if something had been created."""
    said = {"message": error.message, "code": error.code, "stackTrace": None}
    return Page(201, written(said, pascal_case=pascal_case), "application/json")


def written(answer: Any, *, pascal_case: bool = False) -> str:
    """JSON as .NET writes it: amounts as doubles."""
    return json.dumps(_plain(answer, pascal_case=pascal_case), separators=(",", ":"))


def _plain(value: Any, *, pascal_case: bool) -> Any:
    if isinstance(value, Decimal):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < 1e15 else number
    if isinstance(value, Mapping):
        return {
            _name(key) if pascal_case else key: _plain(each, pascal_case=pascal_case)
            for key, each in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each, pascal_case=pascal_case) for each in value]
    return value


def _name(key: str) -> str:
    return key[:1].upper() + key[1:]
