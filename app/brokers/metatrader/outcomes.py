"""Outcomes: what the bridge's word about a request proves. The status of HTTP proves nothing: errors come as 201.

An error is an object with a `code` and no ticket, whatever the status. Its code `DONE` or `OK` is no success.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from app.brokers.metatrader.platforms import Platform
from app.brokers.metatrader.wire import Record
from app.brokers.port import (
    BANNED,
    CREDENTIALS_REFUSED,
    Refused,
    Uncertain,
    Unreachable,
    VenueError,
)

_LONGEST_MESSAGE: Final = 300

NO_TOKEN: Final = "INVALID_TOKEN"
UNCHANGED: Final = frozenset({"NO_CHANGES", "SAME_PARAMS"})
"""Codes of a change to what is so already: it is done."""
GONE: Final = frozenset({"INVALID_TICKET", "POSITION_NOT_EXISTS"})
"""Codes that say that a ticket is not open."""
TOO_NEAR: Final = frozenset({"INVALID_PRICE", "INVALID_PRICES"})
"""Codes of a pending order that cannot wait where the price is now, as inside the spread."""
NO_END: Final = frozenset({"INVALID_EXPIRATION", "EXPIRATION_DISABLED", "INVALID_PARAM"})
"""Codes of a pending order whose end the broker does not take: none at all, or none so near."""

_SHUT_OUT: Final = "TOO_FREQUENT_FAIL_CONNECT"
_UNKNOWN: Final = "client with id"
_BROKEN: Final = "not connected"
_SERVER_WORDS: Final = ("server", "not found")


@dataclass(frozen=True, slots=True)
class Fault:
    """An error the bridge reported; `message` holds none of our secrets."""

    code: str
    message: str

    @property
    def is_session(self) -> bool:
        """Whether the session has to be opened again.

        That proves nothing about an order: a line that broke may have carried it before, and a session that ends
        tells so to whatever is under way on it.
        """
        words = self.message.lower()
        return self.code == NO_TOKEN or _UNKNOWN in words or _BROKEN in words


def fault_in(answer: Any, secrets: Iterable[str]) -> Fault | None:
    """The error in an answer, if it is one."""
    if not isinstance(answer, dict):
        return None
    record = Record.of(answer)
    code = record.text("code")
    if not code or record.whole("ticket") > 0:
        return None
    return Fault(code.upper(), redacted(record.text("message") or code, secrets))


def redacted(words: str, secrets: Iterable[str]) -> str:
    """Words of the bridge's without what opens the account: it repeats passwords and tokens."""
    for secret in secrets:
        words = words.replace(secret, "…")
    return words[:_LONGEST_MESSAGE]


def of_order(fault: Fault, platform: Platform) -> VenueError:
    """What an error proves about the order that was to be sent, closed or changed."""
    if fault.code in platform.not_executed:
        return Unreachable(fault.message)
    if fault.code in platform.refusals:
        return Refused(fault.message, code=platform.refusals[fault.code])
    return Uncertain(fault.message)


def of_read(fault: Fault, platform: Platform) -> VenueError:
    """What an error means for a question, which can be asked again."""
    if fault.code in platform.refusals:
        return Refused(fault.message, code=platform.refusals[fault.code])
    return Unreachable(fault.message)


def of_connect(fault: Fault, platform: Platform) -> VenueError:
    """What an error means for the attempt to open the account."""
    words = fault.message.lower()
    if all(each in words for each in _SERVER_WORDS):
        return Refused(fault.message)
    if fault.code in platform.refusals:
        return Refused(fault.message, code=CREDENTIALS_REFUSED)
    return Unreachable(fault.message, code=BANNED) if fault.code == _SHUT_OUT else Unreachable(fault.message)
