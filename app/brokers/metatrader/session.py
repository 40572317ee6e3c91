"""The session: one account kept open at the bridge under a token of ours, and opened again when it is forgotten."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from app.brokers.metatrader import outcomes
from app.brokers.metatrader.credentials import Credentials
from app.brokers.metatrader.gateway import Gateway, NoSuchRoute
from app.brokers.metatrader.platforms import Platform
from app.brokers.metatrader.wire import Record, ServerTime
from app.brokers.port import Refused, Unreachable, VenueError

log = structlog.get_logger(__name__)

BEAT_SECONDS: Final = 60.0
"""How often a session is kept alive: the bridge forgets one that is idle for five minutes."""

CONNECT_SECONDS: Final = 30
"""How long the bridge may try to reach the broker."""

REFUSAL_LASTS: Final = timedelta(seconds=30)
"""For so long a refused login is not tried again: brokers lock accounts that are knocked at."""

TIME_ZONE_LASTS: Final = timedelta(minutes=15)
"""The broker's clock is put forward and back twice a year."""

_CHECK: Final = "CheckConnect"
_OFF_HOURS: Final = "SERVICE_NOT_AVAILABLE"
_OK: Final = "OK"


def token_of(connection_id: UUID, version: int, credentials: Credentials) -> str:
    """The session's name: the same in every process of ours, and beyond guessing, since who knows it can trade."""
    name = f"{connection_id}:{version}:{credentials.identity}".encode()
    return str(UUID(bytes=hmac.digest(credentials.password.encode(), name, hashlib.sha256)[:16]))


class Session:
    """One account at one bridge. Any number of requests may be under way."""

    def __init__(
        self,
        gateway: Gateway,
        platform: Platform,
        credentials: Credentials,
        token: str,
        now: Callable[[], datetime],
    ) -> None:
        self.platform = platform
        self._gateway = gateway
        self._credentials = credentials
        self._token = token
        self._now = now
        self._is_open = False
        self._lacking: set[str] = set()
        """Requests that the bridge of this session has not."""
        self._opening = asyncio.Lock()
        self._refused: tuple[datetime, VenueError] | None = None
        self._server_time: tuple[datetime, ServerTime] | None = None
        self._beating: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Have the account open. Raises Refused for a login that is, Unreachable."""
        if self._is_open:
            return
        async with self._opening:
            if not self._is_open:
                await self._open()

    async def ask(self, path: str, **parameters: Any) -> Any:
        """The answer to a question; a session that was forgotten is opened again, once. Raises VenueError."""
        try:
            return await self._asked(path, parameters)
        except NoSuchRoute:
            raise Unreachable(f"This bridge has no request {path}.") from None

    async def has(self, path: str, **parameters: Any) -> Any:
        """The same for a request that not every bridge has; None where it has not."""
        if path in self._lacking:
            return None
        try:
            return await self._asked(path, parameters)
        except NoSuchRoute:
            await self._prove()
        try:
            return await self._asked(path, parameters)
        except NoSuchRoute:
            self._lacking.add(path)
            return None

    async def act(self, *paths: str, **parameters: Any) -> Any:
        """Send an order once, by the first of `paths` the bridge has, on a session that is ready.

        Raises Refused, Unreachable when it certainly was not executed, Uncertain.
        """
        was_lacking = self._lacking.issuperset(paths)
        for path in paths:
            try:
                answer = await self._gateway.act(path, self._signed(parameters), key=self._key)
            except NoSuchRoute:
                continue
            fault = self._fault_in(answer)
            if fault is None:
                return answer
            if fault.is_session:
                self._is_open = False
            raise OrderFault(fault.code, outcomes.of_order(fault, self.platform))
        if was_lacking:
            raise Refused("This bridge has no request for that.")
        # Certain only once it says so again: by the time it has proven itself the order may be stale.
        await self._prove()
        self._lacking.update(paths)
        raise Unreachable("This bridge does not seem to have a request for that.")

    async def server_time(self, *, anew: bool = False) -> ServerTime:
        """The broker's clock; asked `anew` when it has been found wrong. Raises VenueError."""
        now = self._now()
        if anew or self._server_time is None or now - self._server_time[0] > TIME_ZONE_LASTS:
            self._server_time = (now, ServerTime.of_hours(await self.ask("ServerTimezone")))
        return self._server_time[1]

    async def is_healthy(self) -> bool:
        """Whether what the bridge shows of the account at this moment is the broker's word."""
        try:
            if await self.ask(_CHECK) != _OK:
                return False
            return Record.of(await self.ask("AccountSummary")).flag("synced") is not False
        except VenueError:
            return False

    async def close(self) -> None:
        """Stop keeping it alive. The bridge may still serve other processes by the same token."""
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating
            self._beating = None

    @property
    def _key(self) -> str | None:
        return self._credentials.gateway_key

    def _signed(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"id": self._token, **parameters}

    def _fault_in(self, answer: Any) -> outcomes.Fault | None:
        return outcomes.fault_in(answer, (self._token, *self._credentials.secrets))

    async def _asked(self, path: str, parameters: dict[str, Any]) -> Any:
        await self.ready()
        answer = await self._ask(path, parameters)
        fault = self._fault_in(answer)
        if fault is not None and fault.is_session:
            self._is_open = False
            await self.ready()
            answer = await self._ask(path, parameters)
            fault = self._fault_in(answer)
        if fault is not None:
            raise outcomes.of_read(fault, self.platform)
        return answer

    async def _ask(self, path: str, parameters: dict[str, Any]) -> Any:
        return await self._gateway.ask(path, self._signed(parameters), key=self._key)

    async def _open(self) -> None:
        if self._refused is not None and self._now() - self._refused[0] < REFUSAL_LASTS:
            raise self._refused[1]
        if not (await self._is_alive() or await self._is_remembered()):
            await self._log_in()
        self._is_open = True
        self._refused = None
        self._lacking.clear()
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat())

    async def _is_alive(self) -> bool:
        """Whether the bridge has the session.

        Raises Refused, Unreachable where no bridge answers: whatever does is not told the password.
        """
        try:
            answer = await self._ask(_CHECK, {})
        except NoSuchRoute:
            raise Unreachable("No bridge answers where it should be.") from None
        if answer == _OK:
            return True
        fault = self._fault_in(answer)
        if fault is None:
            raise Unreachable("What answers in the bridge's place is no bridge.")
        # While the market is closed brokers take no connections; the session is there all the same.
        return fault.code == _OFF_HOURS

    async def _prove(self) -> None:
        """Make sure that a bridge answers: while it is deployed, a proxy says of every request that there is none.

        Raises Refused, Unreachable.
        """
        await self._is_alive()

    async def _is_remembered(self) -> bool:
        """Whether the bridge opens the session again by our own name for it."""
        try:
            return _is_token(answer := await self._ask("ConnectByToken", {})) and _same(answer, self._token)
        except (Unreachable, NoSuchRoute):
            # Some bridges cannot; this one has just answered for itself.
            return False

    async def _log_in(self) -> None:
        given = self._credentials
        place = {"server": given.server} if given.server else {"host": given.host, "port": given.port}
        parameters = {
            "user": given.login,
            "password": given.password,
            **place,
            "connectTimeoutSeconds": CONNECT_SECONDS,
        }
        path = "ConnectEx" if given.server else "Connect"
        try:
            answer = await self._ask(path, parameters)
        except NoSuchRoute:
            await self._prove()
            raise Refused(f"This bridge opens no accounts by {path}.") from None
        fault = self._fault_in(answer)
        if fault is not None:
            failure = outcomes.of_connect(fault, self.platform)
            if isinstance(failure, Refused):
                self._refused = (self._now(), failure)
            raise failure
        if not _is_token(answer):
            raise Unreachable("The bridge did not open the account: its answer is no session.")
        # One that does not take our name for the session gives it its own.
        self._token = answer

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if self._is_open and not await self._is_kept():
                self._is_open = False
                log.info("session_lost", platform=self.platform.id)

    async def _is_kept(self) -> bool:
        """The same of a session that is only to be kept alive."""
        try:
            return await self._is_alive()
        except VenueError:
            return False


class OrderFault(VenueError):
    """An order the bridge reported an error about; `verdict` is what that proves."""

    def __init__(self, bridge_code: str, verdict: VenueError) -> None:
        super().__init__(verdict.message, code=verdict.code)
        self.bridge_code = bridge_code
        self.verdict = verdict


def _is_token(answer: Any) -> bool:
    """Whether it is a UUID, as every token is: the words of a proxy would be one token for all accounts."""
    try:
        return isinstance(answer, str) and _same(answer, str(UUID(answer)))
    except ValueError:
        return False


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()
