"""Named errors of the house: each carries a stable `code` and a sentence a person can act on.

    EngineError
    ├── Denied      we said no to an entry (a code of `denials.CATALOGUE`)
    ├── Invalid     the request itself is wrong; says where
    ├── NotFound    no such thing for this caller
    ├── Forbidden   the caller is known and may not
    └── Conflict    right request, wrong moment

Nothing in here knows HTTP; `api/problems.py` holds the one table from kind to status.
What a venue answers is not an error of ours: see `brokers/port.py`.
"""

from app.domain.denials import CATALOGUE


class EngineError(Exception):
    """Anything the engine says no to on purpose."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Denied(EngineError):
    """We refuse to open a position; `code` is one of the denial catalogue."""

    def __init__(self, code: str, message: str) -> None:
        if code not in CATALOGUE:
            raise KeyError(f"{code} is not in the denial catalogue")
        super().__init__(code, message)


class Invalid(EngineError):
    """A value cannot be meant; `path` names the field, in dotted form."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__("invalid", message)
        self.path = path


class NotFound(EngineError):
    """No such row for this caller: absent and somebody else's read alike."""

    def __init__(self, what: str) -> None:
        super().__init__("not_found", f"There is no such {what}.")


class Forbidden(EngineError):
    """The caller is known and may not do this."""


class Conflict(EngineError):
    """The request is right and comes at the wrong moment."""
