"""One server on loopback for all simulated exchanges, told apart by the Host header.

async with running_exchange() as venue:
    keys = venue.open_account({"USDT": "100000"})
    ...                                   # point a client at venue.url, hosts and paths unchanged
    venue.move("BTC/USDT", 21000)
"""

import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any

from aiohttp import web

from tests.venues.accounts import Account
from tests.venues.binance_spot import BinanceSpot
from tests.venues.binance_usdm import BinanceUsdm
from tests.venues.bybit import Bybit
from tests.venues.clock import Clock
from tests.venues.delivery import Courier
from tests.venues.faults import Faults, Page
from tests.venues.floor import Floor
from tests.venues.orders import Force, Kind, Listing, Market, Order
from tests.venues.wire import Conditions, Dialect, Reply, WireRequest

LISTINGS = (
    Listing("BTC", "USDT", Kind.SPOT, Decimal(20000)),
    Listing("ETH", "USDT", Kind.SPOT, Decimal(1000), step=Decimal("0.0001"), min_quantity=Decimal("0.0001")),
    Listing("BNB", "USDT", Kind.SPOT, Decimal(300), step=Decimal("0.001"), min_quantity=Decimal("0.001")),
    Listing("BTC", "USDT", Kind.SWAP, Decimal(20000)),
    Listing("ETH", "USDT", Kind.SWAP, Decimal(1000), step=Decimal("0.001"), min_quantity=Decimal("0.001")),
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The credentials of an account; the same open one at each of the exchanges."""

    api_key: str
    secret: str


class Exchange:
    """The hand of a test on the exchanges: their prices, their clock, their accidents, their books."""

    def __init__(self, clock: Clock, listings: Sequence[Listing]) -> None:
        self.clock = clock
        self.faults = Faults()
        self.spot = BinanceSpot(clock, listings)
        self.usdm = BinanceUsdm(clock, listings)
        self.bybit = Bybit(clock, listings)
        self.port = 0
        self.requests: deque[WireRequest] = deque(maxlen=50_000)
        """What came in, newest last."""
        self.crashes: list[Exception] = []
        """Requests the simulators themselves could not cope with; a client sees a 500 and must not hide it."""
        self._hosts: dict[str, Dialect] = {
            host: dialect for dialect in (self.spot, self.usdm, self.bybit) for host in dialect.hosts
        }
        self._uids = count(100_000_001)
        self._courier = Courier(clock, self._answer)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def hosts(self) -> frozenset[str]:
        """The names it answers to."""
        return frozenset(self._hosts)

    @property
    def floors(self) -> tuple[Floor, Floor, Floor]:
        """Binance spot, Binance USD-M, Bybit."""
        return self.spot.floor, self.usdm.floor, self.bybit.floor

    def open_account(self, deposit: Mapping[str, str], **terms: Any) -> Keys:
        """Open an account at each of the exchanges, with this deposit in each; `terms` as Account has them."""
        keys, uid = Keys(secrets.token_hex(32), secrets.token_hex(32)), next(self._uids)
        amounts = {currency: Decimal(amount) for currency, amount in deposit.items()}
        for floor in self.floors:
            floor.accounts[keys.api_key] = Account(keys.api_key, keys.secret, uid, dict(amounts), **terms)
        return keys

    def another_key(self, keys: Keys) -> Keys:
        """A second key of the same account, beside the first; their secrets are the same."""
        another = Keys(secrets.token_hex(32), keys.secret)
        for floor in self.floors:
            floor.accounts[another.api_key] = floor.accounts[keys.api_key]
        return another

    def markets(self, symbol: str) -> list[Market]:
        """The markets of a unified symbol at all exchanges."""
        return [market for floor in self.floors if (market := floor.market_of(symbol)) is not None]

    def move(self, symbol: str, price: Decimal | int | str, *, gap: bool = False) -> None:
        """Let a price walk, at all exchanges, through every level between; or jump, with `gap`."""
        for floor in self.floors:
            if (market := floor.market_of(symbol)) is not None:
                floor.move(market, Decimal(price), gap=gap)

    def pin_mark(self, symbol: str, price: Decimal | int | str | None) -> None:
        """Hold the mark price somewhere while the last price moves on; None lets it follow again."""
        for floor in self.floors:
            if (market := floor.market_of(symbol)) is not None:
                floor.pin(market, None if price is None else Decimal(price))

    def liquidate(self, symbol: str, force: Force = Force.LIQUIDATION) -> None:
        """Let the exchanges close every position of a symbol by themselves, at the present price."""
        for dialect in (self.usdm, self.bybit):
            for account in dialect.floor.accounts.values():
                for position in account.open_positions:
                    if position.market.listing.symbol == symbol:
                        dialect.force(account, position, force)

    def settle_funding(self, symbol: str, rate: Decimal | str) -> None:
        """Let a funding time pass for a symbol, at all exchanges: above zero, longs pay shorts."""
        for floor in self.floors:
            if (market := floor.market_of(symbol)) is not None:
                floor.settle(market, Decimal(rate))

    def delist(self, symbol: str, *, gone: bool = False) -> None:
        """Stop trading a symbol, at all exchanges; with `gone` they do not even describe it any more."""
        for floor in self.floors:
            if (market := floor.market_of(symbol)) is not None:
                floor.close_market(market, gone=gone)

    def thin(self, symbol: str, fraction: Decimal | str) -> None:
        """From now on, one point of the price fills only this fraction of an order."""
        for market in self.markets(symbol):
            market.fraction = Decimal(fraction)

    async def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        await self.clock.advance(seconds)
        for floor in self.floors:
            floor.expire()

    def accepted(self, client_order_id: str) -> list[Order]:
        """Every order accepted under a client id, at any exchange."""
        return [
            order
            for floor in self.floors
            for account in floor.accounts.values()
            for order in account.known_as(client_order_id)
        ]

    def audit(self) -> None:
        """Prove that no exchange made or lost money, or broke down."""
        assert self.crashes == []
        for floor in self.floors:
            for account in floor.accounts.values():
                account.audit()

    async def respond(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request, or let it meet its accident."""
        request = await self._read(incoming)
        if isinstance(request, web.Response):
            return request
        self.requests.append(request)
        return await self._courier.carry(incoming, request, self.faults.next_for(request))

    async def close(self) -> None:
        """Let go of whoever waits."""
        await self._courier.close()

    async def _read(self, incoming: web.BaseRequest) -> WireRequest | web.Response:
        host = incoming.headers.get("Host", "").split(":")[0].lower()
        dialect = self._hosts.get(host)
        if dialect is None:
            return web.Response(status=421, text=f"no exchange answers on {host or 'no host'}")
        body = (await incoming.read()).decode()
        path, _, query = incoming.raw_path.partition("?")
        intent, named = dialect.describe(host, incoming.method, path, query, body)
        return WireRequest(
            host, incoming.method, path, query, body, incoming.headers, intent, named, incoming.remote or ""
        )

    def _answer(self, request: WireRequest, conditions: Conditions) -> Page:
        try:
            reply = self._hosts[request.host].answer(request, conditions)
        except Exception as crash:
            self.crashes.append(crash)
            raise
        return page_of(reply)


def page_of(reply: Reply) -> Page:
    """What is said on the wire."""
    return Page(reply.status, reply.text(), "application/json", reply.headers)


@asynccontextmanager
async def running_exchange(
    *, start: datetime | None = None, listings: Sequence[Listing] = LISTINGS, port: int = 0
) -> AsyncIterator[Exchange]:
    """Run the exchanges; with `start` their clock stands there until `advance` moves it."""
    exchange = Exchange(Clock(start), listings)
    runner = web.ServerRunner(web.Server(exchange.respond, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    exchange.port = runner.addresses[0][1]
    try:
        yield exchange
    finally:
        await exchange.close()
        await runner.cleanup()
