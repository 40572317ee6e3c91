"""One server on loopback for all simulated exchanges, told apart by the Host header.

async with running_exchange() as venue:
    keys = venue.open_account({"USDT": "100000"})
    ...                                   # point a client at venue.url, hosts and paths unchanged
    venue.move("BTC/USDT", 21000)
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
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
from tests.venues.faults import Delivery, Fault, Faults, Page
from tests.venues.floor import Floor
from tests.venues.orders import Force, Kind, Listing, Market, Order
from tests.venues.wire import CALM, Conditions, Dialect, Reply, WireRequest

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
        self._closing = asyncio.Event()
        self._late: set[asyncio.Task[None]] = set()

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
        fault = self.faults.next_for(request)
        if fault is None:
            return response_of(self._answer(request, CALM))
        return await self._strike(incoming, request, fault)

    async def close(self) -> None:
        """Let go of whoever waits."""
        self._closing.set()
        for task in list(self._late):
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

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

    def _answer(self, request: WireRequest, conditions: Conditions) -> Reply:
        try:
            return self._hosts[request.host].answer(request, conditions)
        except Exception as crash:
            self.crashes.append(crash)
            raise

    async def _strike(
        self, incoming: web.BaseRequest, request: WireRequest, fault: Fault
    ) -> web.StreamResponse:
        reply = Reply({})
        if fault.executed and fault.late is None:
            reply = fault.alter(self._answer(request, fault.conditions))
        elif fault.late is not None:
            self._carry_out_later(request, fault, fault.late)
        if fault.slow:
            await self.clock.sleep(fault.slow)
        match fault.delivery:
            case Delivery.ANSWERED:
                return response_of(reply)
            case Delivery.REPLACED:
                assert fault.page is not None
                return response_of_page(fault.page)
            case Delivery.TRUNCATED:
                return await cut_in_half(incoming, reply)
            case Delivery.SILENT:
                await self._closing.wait()
            case Delivery.DROPPED:
                pass
        cut(incoming)
        return web.Response()

    def _carry_out_later(self, request: WireRequest, fault: Fault, seconds: float) -> None:
        judged_at = None if fault.fenced else self.clock.milliseconds()

        async def later() -> None:
            await self.clock.sleep(seconds)
            self._answer(replace(request, judged_at=judged_at), fault.conditions)

        task = asyncio.create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)


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


def response_of(reply: Reply) -> web.Response:
    """A reply on the wire."""
    return web.Response(
        status=reply.status, text=reply.text(), content_type="application/json", headers=reply.headers
    )


def response_of_page(page: Page) -> web.Response:
    """What is said in place of an answer, on the wire."""
    return web.Response(
        status=page.status, text=page.text, content_type=page.content_type, headers=page.headers
    )


async def cut_in_half(incoming: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Send half of a body and cut the connection."""
    body = reply.text().encode()
    response = web.StreamResponse(status=reply.status, headers={"Content-Length": str(len(body))})
    response.content_type = "application/json"
    await response.prepare(incoming)
    await response.write(body[: len(body) // 2])
    if incoming.transport is not None:
        incoming.transport.close()
    return response


def cut(incoming: web.BaseRequest) -> None:
    """Cut the connection."""
    if incoming.transport is not None:
        incoming.transport.abort()
