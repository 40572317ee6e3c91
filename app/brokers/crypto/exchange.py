"""The exchange object: an unmodified class of ccxt below a thin layer of ours.

The layer decides when a request goes (our limiter), by which clock it is signed (the time of the claim), and
remembers of each call what an error alone does not tell: whether anything was sent, and what came back.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.crypto.limiter import Limiter, Stopped, Urgency
from app.brokers.crypto.profiles import VALIDITY, Profile
from app.brokers.crypto.transport import Line, Transport
from app.brokers.port import Refused, Unreachable

Params = dict[str, Any]

TIMEOUT_MS: Final = 15_000
"""Longer than the longest processing time a venue states, so that we rarely give up before it has decided."""

CREDENTIALS: Final = (
    "apiKey",
    "secret",
    "password",
    "uid",
    "privateKey",
    "walletAddress",
    "token",
    "accountId",
)
"""Where an exchange object keeps what must never be shown."""

_UNREADABLE: Final = ("<", "{", "[")
"""How an answer begins that is a page, or JSON that was cut off."""

_LONG_SILENCE: Final = 60.0
_NO_RETRY_AFTER: Final = 5.0


@dataclass(slots=True)
class Call:
    """One call to a venue while it is under way, and what is known of it so far."""

    urgency: Urgency = Urgency.POLL
    signed_at: datetime | None = None
    """The time requests are signed with; None signs with the time of sending."""
    methods: list[str] = field(default_factory=list)
    """The methods of the requests that were given to the transport."""
    status: int | None = None
    """Status of the last answer."""
    body: Any = None
    """The last answer as parsed JSON; None when it was none."""
    is_clean: bool = True
    """Whether every answer was JSON: classes read a proxy's page as an empty list, which proves nothing."""
    credential_codes: frozenset[str] = frozenset()
    """The venue's codes that say that it does not accept the key, whatever error the class makes of them."""
    secrets: tuple[str, ...] = ()
    """What must not be repeated of it: some venues answer with the key they were sent."""

    def may_have_acted(self, profile: Profile) -> bool:
        """Whether a request that changes something may have left."""
        return any(method != "GET" or profile.places_by_get for method in self.methods)


_CALL: ContextVar[Call | None] = ContextVar("call", default=None)


def _present() -> Call:
    """The call under way; a request outside any belongs to one of its own."""
    return _CALL.get() or Call()


@contextmanager
def calling(call: Call) -> Iterator[Call]:
    """Everything asked inside belongs to `call`."""
    token = _CALL.set(call)
    try:
        yield call
    finally:
        _CALL.reset(token)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What exchange objects of one venue share."""

    transport: Transport
    line: Line
    limiter: Limiter
    now: Callable[[], datetime]


class _Layer:
    """Methods of ours that come before those of the class."""

    id: str
    surroundings: Surroundings
    credential_codes: frozenset[str]

    async def throttle(self, cost: float | None = None) -> None:
        """Wait for a turn at our limiter, not at ccxt's."""
        try:
            await self.surroundings.limiter.pass_through(float(cost or 1), _present().urgency)
        except Stopped:
            raise Unreachable(f"{self.id} has asked us to slow down; nothing was sent.") from None

    def _moment(self) -> datetime:
        return _present().signed_at or self.surroundings.now()

    def milliseconds(self) -> int:
        """The clock requests are signed by."""
        return int(self._moment().timestamp() * 1000)

    def seconds(self) -> int:
        """The same in seconds."""
        return int(self._moment().timestamp())

    def microseconds(self) -> int:
        """The same in microseconds."""
        return int(self._moment().timestamp() * 1_000_000)

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        """Send one request; a claim that is too old by now is not sent any more."""
        call = _present()
        if call.signed_at is not None and self.surroundings.now() - call.signed_at > VALIDITY:
            raise Unreachable(
                "The request was held up and would have been stale on arrival; it was not sent."
            )
        call.methods.append(method)
        call.status = call.body = None
        return await super().fetch(url, method, headers, body)  # type: ignore[misc]

    def handle_errors(self, status: int, reason: str, url: str, method: str, headers: Any, *rest: Any) -> Any:
        """Note what came back before the class makes an error of it."""
        call = _present()
        call.status, call.body = status, rest[1]
        call.credential_codes = self.credential_codes
        call.secrets = tuple(filter(None, (getattr(self, each, None) for each in CREDENTIALS)))
        if status in (418, 429):
            self.surroundings.limiter.stop(_retry_after(headers, status))
        handled = super().handle_errors(status, reason, url, method, headers, *rest)  # type: ignore[misc]
        if call.body is None:
            call.is_clean = False
            if str(rest[0] or "").lstrip()[:1] in _UNREADABLE and status < 400:
                raise library.BadResponse("neither the answer nor an error")
        return handled


def _retry_after(headers: Mapping[str, str], status: int) -> float:
    """Seconds the venue asks for, or what is usual."""
    given = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    if given.isdecimal():
        return float(given)
    return _LONG_SILENCE if status == 418 else _NO_RETRY_AFTER


@lru_cache
def _layered(exchange: str) -> type[Any]:
    return type(exchange, (_Layer, getattr(library, exchange)), {})


def exchange_of(
    exchange: str,
    profile: Profile,
    surroundings: Surroundings,
    credentials: Mapping[str, str] = MappingProxyType({}),
    *,
    sandbox: bool,
) -> Any:
    """An exchange object, with the credentials of one account or without any. Raises Refused."""
    options = {"maxRetriesOnFailure": 0, **profile.options, **profile.alone}
    if profile.window_option is not None:
        options[profile.window_option] = int(VALIDITY.total_seconds() * 1000)
    opened = _layered(exchange)(
        {
            "number": str,
            "enableRateLimit": True,
            "timeout": TIMEOUT_MS,
            "session": surroundings.line,
            "options": options,
            **credentials,
        }
    )
    opened.surroundings = surroundings
    opened.credential_codes = profile.credential_codes
    opened.ssl_context = surroundings.transport.tls
    opened.timeout_on_exit = 0
    if sandbox:
        _practise(opened, profile)
    return opened


def _practise(opened: Any, profile: Profile) -> None:
    """Point an exchange object at the venue's practice accounts, before it loads any market."""
    try:
        if profile.is_demo:
            opened.enable_demo_trading(True)
        else:
            opened.set_sandbox_mode(True)
    except (library.NotSupported, KeyError):
        raise Refused(
            f"{opened.name} has no sandbox that can be connected.", code="terms_not_served"
        ) from None
