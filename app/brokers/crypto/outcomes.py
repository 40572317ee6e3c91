"""Outcomes: what an error of an exchange class proves, and it rarely proves anything.

A closed list of answers means no: first the venue's own codes, then a few classes of errors that no venue's table
misuses. Everything else that came after a request had left is Uncertain; only a look-up can tell.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import ccxt.async_support as library

from app.brokers.crypto.answers import code_in, parts
from app.brokers.crypto.exchange import Call
from app.brokers.crypto.ways import Profile
from app.brokers.port import BANNED, CREDENTIALS_REFUSED, Refused, Uncertain, Unreachable, VenueError

_LONGEST_MESSAGE: Final = 300

_BAN: Final = 418
_FORBIDDEN: Final = 403
_TOO_FREQUENT: Final = "too frequent"
"""How an address is told that it is shut out: a status of its own, or this of a status with other meanings too."""

_REFUSALS: Final[Mapping[type[Exception], str]] = {
    library.InsufficientFunds: "insufficient_balance",
    library.BadSymbol: "symbol_unknown",
    library.MarketClosed: "market_closed",
    library.ArgumentsRequired: "rejected_by_venue",
    library.NotSupported: "rejected_by_venue",
    library.AuthenticationError: CREDENTIALS_REFUSED,
    library.PermissionDenied: CREDENTIALS_REFUSED,
    library.AccountSuspended: CREDENTIALS_REFUSED,
    library.AccountNotEnabled: CREDENTIALS_REFUSED,
}
"""Exactly these classes, none of their children, mean no whichever venue raised them, but for what a profile says."""

_SAYING_NO: Final = (
    AssertionError,
    library.ArgumentsRequired,
    library.AuthenticationError,
    library.BadRequest,
    library.InsufficientFunds,
    library.InvalidOrder,
    library.NotSupported,
    library.OperationRejected,
)
"""What a class raises of an order that it will not send, whatever the venue has answered before."""

_TEXT_KEYS: Final = ("msg", "retMsg", "ret_msg", "err-msg", "err_msg", "sMsg", "message", "error", "detail")


def of_order(error: Exception, call: Call, profile: Profile) -> VenueError:
    """What an error means for the order that was to be placed."""
    return _marked(_of_order(error, call, profile), call)


def _of_order(error: Exception, call: Call, profile: Profile) -> VenueError:
    has_left = call.may_have_acted(profile)
    if isinstance(error, VenueError):
        is_certain = has_left or not isinstance(error, Uncertain)
        return error if is_certain else Unreachable(error.message, code=error.code)
    code, words = code_in(call.body), words_of(error, call)
    if not has_left:
        return _before_sending(error, call, words)
    # A page with a status that means no is that of whatever stands before the venue.
    if code in profile.uncertain or not call.is_clean:
        return Uncertain(words)
    if code in profile.not_executed | profile.ban_codes or call.status in profile.not_executed_statuses:
        return Unreachable(words)
    # Some codes have more than one meaning; where the class could tell them apart, its word is the finer one.
    if type(error) in _REFUSALS:
        return Refused(words, code=_REFUSALS[type(error)])
    if code is not None and code in profile.refusals:
        return Refused(words, code=profile.refusals[code])
    if any(each in words for each in profile.refusing_words):
        return Refused(words)
    if type(error) is library.InvalidNonce and profile.dates_requests:
        return Unreachable(words)
    return Uncertain(words)


def of_read(error: Exception, call: Call) -> VenueError:
    """What an error means for a question, which can be asked again."""
    return _marked(_of_read(error, call), call)


def of_keyless_read(error: Exception, call: Call) -> VenueError:
    """What an error means for a question that was asked without a key: nothing that any account was refused."""
    failure = of_read(error, call)
    return Unreachable(failure.message) if isinstance(failure, Refused) else failure


def _of_read(error: Exception, call: Call) -> VenueError:
    if isinstance(error, VenueError):
        return error
    words = words_of(error, call)
    if code_in(call.body) in call.ban_codes:
        return Unreachable(words)
    if type(error) in _REFUSALS:
        return Refused(words, code=_REFUSALS[type(error)])
    if isinstance(error, library.OperationFailed):
        return Unreachable(words)
    return Uncertain(words)


def _marked(failure: VenueError, call: Call) -> VenueError:
    """The same with the code of a ban or of a key that is not accepted, where the answer was one."""
    code = code_in(call.body)
    if code in call.credential_codes:
        failure.code = CREDENTIALS_REFUSED
    is_too_frequent = call.status == _FORBIDDEN and _TOO_FREQUENT in failure.message
    if code in call.ban_codes or call.status == _BAN or is_too_frequent:
        failure.code = BANNED
    return failure


def _before_sending(error: Exception, call: Call, words: str) -> VenueError:
    """Nothing that acts had left: either we could not get through to it, or the class would not send this.

    The class asks some venues first; an answer that did not come, or that it could not use, says nothing of the order.
    """
    if isinstance(error, library.OperationFailed | library.ExchangeClosedByUser):
        return Unreachable(words)
    is_answered = call.status is not None and call.is_clean and isinstance(error, _SAYING_NO)
    if call.methods and not is_answered:
        return Unreachable(words)
    return Refused(words, code=_REFUSALS.get(type(error), "rejected_by_venue"))


def is_not_found(error: Exception) -> bool:
    """Whether the class says, cleanly, that there is no such order."""
    return isinstance(error, library.OrderNotFound)


def words_of(error: Exception, call: Call) -> str:
    """What went wrong in the venue's own words. Never the text of the error: it may hold a signed URL."""
    for part in parts(call.body):
        for key in _TEXT_KEYS:
            if isinstance(part.get(key), str) and part[key].strip():
                return _redacted(str(part[key]), call.secrets).strip()[:_LONGEST_MESSAGE]
    if call.status is not None:
        return f"The venue's answer (status {call.status}) cannot be used: {type(error).__name__}."
    if call.methods:
        return f"The venue did not answer: {type(error).__name__}."
    return f"Nothing was sent: {type(error).__name__}."


def _redacted(words: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        words = words.replace(secret, "…")
    return words
