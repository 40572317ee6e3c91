"""Answers: where venues put what matters in a body."""

from collections.abc import Mapping
from typing import Any, Final

_CODE_KEYS: Final = (
    "code",
    "retCode",
    "ret_code",
    "err-code",
    "err_code",
    "sCode",
    "label",
    "error_code",
    "errorCode",
    "error",
)

_INNER: Final = ("data", "error", "response", "statuses")
"""Under what a body holds the objects that say it more exactly."""


def code_in(body: Any) -> str | None:
    """The venue's own code in an answer."""
    for part in parts(body):
        for key in _CODE_KEYS:
            if isinstance(part.get(key), str | int) and str(part[key]) not in ("", "0"):
                return str(part[key])
    return None


def parts(body: Any) -> list[Mapping[str, Any]]:
    """The objects of an answer that may hold a code: those further in say it more exactly."""
    if isinstance(body, list):
        return [part for each in body[:1] for part in parts(each)]
    if not isinstance(body, dict):
        return []
    inner = (part for key in _INNER for part in parts(body.get(key)))
    return [*inner, body]
