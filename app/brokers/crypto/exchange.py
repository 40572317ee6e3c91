"""The exchange object: an unmodified class of ccxt below a thin layer of ours.

The layer decides when a request goes (the rate budget), by which clock it is signed (the time of the claim), and
remembers of each call what an error alone does not tell: whether anything was sent, and what came back.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.crypto.answers import code_in
from app.brokers.crypto.clock import VenueClock
from app.brokers.crypto.tariffs import Asked, Toll
from app.brokers.crypto.transport import Line, Transport
from app.brokers.crypto.ways import VALIDITY, Deadline, Practice, Profile
from app.brokers.limits.buckets import Urgency
from app.brokers.limits.gate import Stopped
from app.brokers.port import Refused, Uncertain, Unreachable

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
    "login",
    "twofa",
)
"""Where an exchange object keeps what must never be shown."""

_PAGE: Final = "<"
_UNREADABLE: Final = (_PAGE, "{", "[")
"""How an answer begins that is a page, or JSON that was cut off."""

_GATEKEEPING: Final = frozenset({401, 407, 511})
"""Statuses that are taken for a refusal of the key; with a page they are a proxy's, which refuses none."""

PATIENCE: Final = 10.0
"""Seconds a request that nothing dates waits for its turn; a claimed order waits for as long as it is valid."""


MOST_REQUESTS: Final = 200
"""Of one call. Classes ask for page after page for as long as an answer names another one."""


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
    ban_codes: frozenset[str] = frozenset()
    """The venue's codes that say that it has shut this address out."""
    secrets: tuple[str, ...] = ()
    """What must not be repeated of it: some venues answer with the key they were sent."""

    def may_have_acted(self, profile: Profile) -> bool:
        """Whether a request that changes something may have left."""
        return any(method != "GET" or profile.places_by_get for method in self.methods)


_CALL: ContextVar[Call | None] = ContextVar("call", default=None)


def _present() -> Call:
    """The call under way; a request outside any belongs to one of its own."""
    return _CALL.get() or Call()


@dataclass(slots=True)
class _Request:
    """One request of a call, of which several may be under way at once."""

    asked: Asked
    sent_at: float = 0.0
    """By the clock of the rate budget."""


_REQUEST: ContextVar[_Request] = ContextVar("request")


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
    now: Callable[[], datetime]
    clock: VenueClock = field(default_factory=VenueClock)


class _Layer:
    """Methods of ours that come before those of the class."""

    id: str
    surroundings: Surroundings
    toll: Toll
    deadline: Deadline | None
    credential_codes: frozenset[str]
    ban_codes: frozenset[str]

    async def fetch2(
        self, path: str, api: Any = "public", method: str = "GET", params: Any = None, config: Any = None
    ) -> Any:
        """Carry out one request when its turn has come; ccxt's own throttler is off."""
        call = _present()
        if len(call.methods) >= MOST_REQUESTS:
            raise Uncertain(f"{self.id} answers without an end.")
        params, config = {} if params is None else params, config or {}
        units = self.calculate_rate_limiter_cost(api, method, path, params, config)  # type: ignore[attr-defined]
        section = api if isinstance(api, str) else str(api[0])
        asked = Asked(method, path, float(units or 1), section)
        try:
            async with self.toll.turn(asked, call.urgency, self._patience(call)):
                _REQUEST.set(_Request(asked))
                return await super().fetch2(path, api, method, params, config)  # type: ignore[misc]
        except Stopped:
            raise Unreachable(f"{self.id} has asked us to slow down; nothing was sent.") from None

    def _patience(self, call: Call) -> float:
        if call.signed_at is None:
            return PATIENCE
        return (VALIDITY - (self.surroundings.now() - call.signed_at)).total_seconds()

    def _moment(self) -> datetime:
        """The time of the claim, or of sending, as the venue's clock shows it."""
        return self.surroundings.clock.at(_present().signed_at or self.surroundings.now())

    def milliseconds(self) -> int:
        """The clock requests are signed by."""
        return int(self._moment().timestamp() * 1000)

    def seconds(self) -> int:
        """The same in seconds."""
        return int(self._moment().timestamp())

    def microseconds(self) -> int:
        """The same in microseconds."""
        return int(self._moment().timestamp() * 1_000_000)

    def sign(self, *what: Any, **more: Any) -> Any:
        """Sign a request; one that places an order says until when it may be accepted, where headers say that."""
        signed = super().sign(*what, **more)  # type: ignore[misc]
        acts = _present().signed_at is not None and signed["method"] != "GET"
        if acts and self.deadline is not None and self.deadline.is_header:
            signed["headers"] = {
                **signed["headers"],
                self.deadline.key: str(self.deadline.of(self._moment())),
            }
        return signed

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        """Send one request; a claim that is too old by now is not sent any more."""
        call = _present()
        if call.signed_at is not None and self.surroundings.now() - call.signed_at > VALIDITY:
            raise Unreachable(
                "The request was held up and would have been stale on arrival; it was not sent."
            )
        call.methods.append(method)
        call.status = call.body = None
        _REQUEST.get().sent_at = self.toll.now()
        try:
            return await super().fetch(url, method, headers, body)  # type: ignore[misc]
        finally:
            await self.toll.tell()

    def handle_errors(self, status: int, reason: str, url: str, method: str, headers: Any, *rest: Any) -> Any:
        """Note what came back before the class makes an error of it."""
        call = _present()
        call.status, call.body = status, rest[1]
        call.credential_codes, call.ban_codes = self.credential_codes, self.ban_codes
        call.secrets = tuple(filter(None, (getattr(self, each, None) for each in CREDENTIALS)))
        is_word = call.body is not None or _is_word(rest[0])
        call.is_clean &= is_word
        request = _REQUEST.get()
        self.toll.heed(request.asked, code_in(call.body), status, headers, request.sent_at)
        try:
            handled = super().handle_errors(status, reason, url, method, headers, *rest)  # type: ignore[misc]
        except library.BaseError as error:
            if isinstance(error, library.InvalidNonce) or _doubts_time(call.body):
                self.surroundings.clock.doubt()
            raise
        if not is_word:
            begins = str(rest[0] or "").lstrip()[:1]
            if begins in _UNREADABLE and status < 400:
                raise library.BadResponse("neither the answer nor an error")
            if begins == _PAGE and status in _GATEKEEPING:
                raise library.ExchangeNotAvailable("a page, not the venue")
        return handled


def _is_word(text: object) -> bool:
    """Whether an answer is one JSON string, which classes are not given as parsed JSON."""
    try:
        return isinstance(json.loads(str(text or "")), str)
    except ValueError:
        return False


def _doubts_time(body: Any) -> bool:
    """Whether an answer has the code that several venues share for a time outside their window."""
    return isinstance(body, dict) and str(body.get("code")) == "-1021"


_TABLES: Final = ("api", "exceptions", "features")
"""What is large in an exchange object, the same in all of a class, and never changed once it was made."""


@lru_cache
def _tables(exchange: str) -> Mapping[str, Any]:
    """The tables of one object, for all others of its class: nine tenths of what each would hold by itself."""
    first = getattr(library, exchange)()
    return {name: getattr(first, name) for name in _TABLES}


@lru_cache
def _layered(exchange: str) -> type[Any]:
    return type(exchange, (_Layer, getattr(library, exchange)), {})


def exchange_of(
    exchange: str,
    profile: Profile,
    surroundings: Surroundings,
    toll: Toll,
    credentials: Mapping[str, str] = MappingProxyType({}),
    *,
    sandbox: bool,
) -> Any:
    """An exchange object, with the credentials of one account or without any. Raises Refused."""
    options = {"maxRetriesOnFailure": 0, **profile.options, **profile.alone}
    if profile.window_option is not None:
        options[profile.window_option] = VALIDITY // profile.window_unit
    opened = _layered(exchange)(
        {
            "number": str,
            "enableRateLimit": False,
            "timeout": TIMEOUT_MS,
            "session": surroundings.line,
            # Without an account it is a market table of megabytes, which nobody looks at again.
            "enableLastHttpResponse": bool(credentials),
            "options": options,
            **credentials,
        }
    )
    opened.surroundings = surroundings
    opened.toll = toll
    for name, table in _tables(exchange).items():
        setattr(opened, name, table)
    opened.deadline = profile.deadline
    opened.credential_codes, opened.ban_codes = profile.credential_codes, profile.ban_codes
    opened.ssl_context = surroundings.transport.tls
    opened.timeout_on_exit = 0
    if sandbox:
        _practise(opened, profile)
    return opened


def _practise(opened: Any, profile: Profile) -> None:
    """Point an exchange object at the venue's practice accounts, before it loads any market."""
    try:
        if profile.practice is Practice.NONE:
            raise library.NotSupported(opened.id)
        if profile.practice is Practice.DEMO:
            opened.enable_demo_trading(True)
        else:
            opened.set_sandbox_mode(True)
    except (library.NotSupported, KeyError, TypeError):
        # A class without such an address fails in its own way. The session is everybody's, so there is none to close.
        opened.session = None
        raise Refused(
            f"{opened.name} has no sandbox that can be connected.", code="terms_not_served"
        ) from None
