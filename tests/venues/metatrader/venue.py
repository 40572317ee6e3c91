"""Two servers on loopback, one for the bridge of each platform, in front of brokers with the same prices."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID

from aiohttp import web

from tests.venues.clock import Clock
from tests.venues.delivery import Courier
from tests.venues.faults import Faults, Page
from tests.venues.metatrader.accounts import Login, Method, Order, Platform
from tests.venues.metatrader.bridge import Bridge
from tests.venues.metatrader.instruments import LISTINGS, UNLISTED_RATES, Listing, Market, TradeMode
from tests.venues.metatrader.mt4 import Mt4Bridge
from tests.venues.metatrader.mt5 import Mt5Bridge
from tests.venues.metatrader.server import TradeServer
from tests.venues.wire import Conditions, Intent, WireRequest

SERVER_NAMES = {Platform.MT4: "Simbroker-Demo4", Platform.MT5: "Simbroker-Demo5"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an owner knows of an account: login and password, and where it is."""

    user: int
    password: str
    investor_password: str
    server: str
    host: str
    port: int


class MetaTraderVenue:
    """The hand of a test on both brokers: their prices, their clock, their accidents, their books."""

    def __init__(self, clock: Clock, listings: Sequence[Listing], utc_offset: timedelta, suffix: str) -> None:
        self.clock = clock
        self.faults = Faults()
        self.mt4 = Mt4Bridge(self._server(Platform.MT4, listings, utc_offset, suffix))
        self.mt5 = Mt5Bridge(self._server(Platform.MT5, listings, utc_offset, suffix))
        self.requests: deque[WireRequest] = deque(maxlen=50_000)
        """What came in, newest last."""
        self.crashes: list[Exception] = []
        """Requests the simulators themselves could not cope with; a client sees a 500 and must not hide it."""
        self._couriers = {
            bridge.platform: Courier(clock, partial(self._answer, bridge)) for bridge in self.bridges
        }

    @property
    def bridges(self) -> tuple[Bridge, Bridge]:
        """MT4 and MT5."""
        return self.mt4, self.mt5

    def bridge(self, platform: str) -> Bridge:
        """The bridge of `mt4` or `mt5`."""
        return self.mt4 if Platform(platform) is Platform.MT4 else self.mt5

    def open_account(
        self,
        platform: str,
        *,
        balance: str = "10000",
        currency: str = "USD",
        leverage: int = 100,
        method: Method = Method.HEDGING,
        commission: str = "0",
        money_digits: int = 2,
        real: bool = False,
    ) -> Credentials:
        """Open an account; the commission is per lot and side."""
        server = self.bridge(platform).server
        login = Login(
            user=server.next_user(),
            password=secrets.token_urlsafe(12),
            investor_password=secrets.token_urlsafe(12),
            platform=server.platform,
            currency=currency,
            leverage=leverage,
            method=method,
            commission=Decimal(commission),
            money_digits=money_digits,
            real=real,
        )
        server.open_login(login, Decimal(balance))
        host, _, port = server.access[0].partition(":")
        return Credentials(login.user, login.password, login.investor_password, server.name, host, int(port))

    def login(self, platform: str, user: int) -> Login:
        """An account's book."""
        return self.bridge(platform).server.logins[user]

    def markets(self, pair: str) -> list[tuple[TradeServer, Market]]:
        """A symbol at both brokers, by `EUR/USD` or by the broker's own name."""
        servers = [bridge.server for bridge in self.bridges]
        found = [(server, market) for server in servers if (market := server.market_of(pair)) is not None]
        if not found:
            raise LookupError(f"nobody lists {pair}")
        return found

    def move(self, pair: str, bid: Decimal | int | str, *, gap: bool = False) -> None:
        """Let a bid walk, at both brokers, through every level between; or jump, with `gap`."""
        for server, market in self.markets(pair):
            server.move(market, Decimal(bid), gap=gap)

    def widen(self, pair: str, points: int) -> None:
        """Let the spread be so many points from now on."""
        for server, market in self.markets(pair):
            server.widen(market, points)

    def restrict(self, pair: str, mode: TradeMode) -> None:
        """Let a symbol take only some orders from now on."""
        for _, market in self.markets(pair):
            market.mode = mode

    def close_session(self, pair: str | None = None) -> None:
        """Close a market, or all of them: then it is the weekend for the bridges, too."""
        for market in self._all_markets(pair):
            market.is_open = False

    def open_session(self, pair: str | None = None) -> None:
        """Open a market, or all of them, at the prices they have moved to meanwhile."""
        for bridge in self.bridges:
            for market in bridge.server.markets.values():
                if pair in (None, market.listing.pair, market.name):
                    bridge.server.open_session(market)

    def roll_over(self) -> None:
        """Charge the swaps of one night."""
        for bridge in self.bridges:
            bridge.server.roll_over()

    async def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        await self.clock.advance(seconds)
        for bridge in self.bridges:
            bridge.server.expire()

    def accepted(self, *, magic: int | None = None, comment: str | None = None) -> list[Order]:
        """Every order accepted under a magic number, a comment, or both, on any account."""
        return [order for login in self.logins for order in login.accepted(magic=magic, comment=comment)]

    @property
    def logins(self) -> list[Login]:
        """Every account at both brokers."""
        return [login for bridge in self.bridges for login in bridge.server.logins.values()]

    @property
    def secrets(self) -> set[str]:
        """Whatever must never be read anywhere: passwords, tokens and gateway keys."""
        passwords = {login.password for login in self.logins} | {
            login.investor_password for login in self.logins
        }
        keys = {bridge.api_key for bridge in self.bridges if bridge.api_key is not None}
        return passwords.union(keys, *(bridge.sessions.tokens for bridge in self.bridges))

    def calls(self, name: str) -> list[WireRequest]:
        """Every request to an endpoint of that name."""
        return [request for request in self.requests if request.path.lower() == f"/{name.lower()}"]

    def audit(self) -> None:
        """Prove that no broker made or lost money or broke down, and that nobody asked for what nobody means."""
        assert self.crashes == []
        for bridge in self.bridges:
            assert bridge.misuse == []
            # Whatever else a token is, two accounts may come to share it.
            assert all(str(UUID(token)) == token for token in bridge.sessions.tokens)
        for login in self.logins:
            login.audit()
        passwords = {login.password for login in self.logins}
        for request in self.requests:
            if request.intent is not Intent.SESSION:
                assert not any(password in request.query for password in passwords), request.path

    async def respond(self, bridge: Bridge, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request, or let it meet its accident."""
        body = (await incoming.read()).decode()
        path, _, query = incoming.raw_path.partition("?")
        intent, named = bridge.describe(path, query)
        host = incoming.headers.get("Host", "")
        request = WireRequest(
            host, incoming.method, path, query, body, incoming.headers, intent, named, incoming.remote or ""
        )
        self.requests.append(request)
        fault = self.faults.next_for(request)
        return await self._couriers[bridge.platform].carry(incoming, request, fault)

    async def close(self) -> None:
        """Let go of whoever waits."""
        await asyncio.gather(*(courier.close() for courier in self._couriers.values()))

    def _server(
        self, platform: Platform, listings: Sequence[Listing], utc_offset: timedelta, suffix: str
    ) -> TradeServer:
        return TradeServer(
            platform,
            self.clock,
            listings,
            name=SERVER_NAMES[platform],
            utc_offset=utc_offset,
            suffix=suffix,
            unlisted_rates=UNLISTED_RATES,
        )

    def _all_markets(self, pair: str | None) -> list[Market]:
        if pair is not None:
            return [market for _, market in self.markets(pair)]
        return [market for bridge in self.bridges for market in bridge.server.markets.values()]

    def _answer(self, bridge: Bridge, request: WireRequest, conditions: Conditions) -> Page:
        try:
            return bridge.answer(request, conditions)
        except Exception as crash:
            self.crashes.append(crash)
            raise


@asynccontextmanager
async def running_bridge(
    *,
    start: datetime | None = None,
    listings: Sequence[Listing] = LISTINGS,
    utc_offset: timedelta = timedelta(hours=3),
    suffix: str = "",
) -> AsyncIterator[MetaTraderVenue]:
    """Run both bridges; with `start` their clock stands there until `advance` moves it."""
    venue = MetaTraderVenue(Clock(start), listings, utc_offset, suffix)
    runners = []
    for bridge in venue.bridges:
        server = web.Server(partial(venue.respond, bridge), access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        bridge.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        runners.append(runner)
    try:
        yield venue
    finally:
        await venue.close()
        for runner in runners:
            await runner.cleanup()
