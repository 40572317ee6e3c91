"""Stages: one account, on the paper venue or at a simulated exchange, with its owner's own hand beside the engine."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import open_paper
from app.brokers.port import Broker, Holding
from app.desk import Desk, open_database, open_sessions
from app.domain.market import MarketType
from app.domain.orders import OrderReport, OrderRequest, OrderStatus, OrderType, Purpose, Side
from app.engine import closing, connections, monitoring
from app.engine.access import broker_of
from app.store.connections import Connection, Kind
from app.store.notifications import Notification, NotificationType
from app.store.orders import Order
from app.store.positions import Position
from tests.desks import START, USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, orders, positions, sweep_all
from tests.faults import FaultyVenue
from tests.venues.accounts import Account
from tests.venues.exchange import Exchange
from tests.venues.floor import Floor

DEPOSIT = Decimal(100000)


def flat(price: str, minutes: int) -> list[tuple[str, str, str, str]]:
    """Candles at one price, of which the paper venue plays one a second."""
    return [(price, price, price, price)] * minutes


@dataclass
class Stage(ABC):
    """A desk, and what is asked of it and of its venue."""

    desk: Desk

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Let time pass."""

    async def connection(self) -> Connection:
        """The one connection."""
        async with self.desk.sessions() as session:
            return (await session.scalars(select(Connection))).one()

    async def broker(self) -> Broker:
        """The account's broker."""
        return await broker_of(self.desk, await self.connection())

    async def rounds(self, count: int, seconds: float = 6) -> None:
        """Let monitor, bells and sweep do their work this many times, `seconds` apart."""
        for _ in range(count):
            await self.advance(seconds)
            await monitoring.watch(self.desk)
            await execute_all(self.desk)
            await sweep_all(self.desk)

    async def position(self) -> Position:
        """The one position."""
        [position] = await positions(self.desk)
        return position

    async def orders(self, purpose: Purpose) -> list[Order]:
        """The orders of a purpose, oldest first."""
        return [order for order in await orders(self.desk) if order.purpose is purpose]

    async def standing(self) -> list[Order]:
        """The protective orders that stand at the venue."""
        return [o for o in await self.orders(Purpose.PROTECTION) if o.status is OrderStatus.OPEN]

    async def intend_close(self, portion: str | None = None) -> None:
        """The owner asks for the position, or a portion of it, to be closed; nobody has heard the bell yet."""
        position, part = await self.position(), None if portion is None else Decimal(portion)
        await closing.request_close(self.desk, USER, position.id, part, idempotency_key=None)

    async def close(self, portion: str | None = None) -> None:
        """The owner closes the position, or a portion of it."""
        await self.intend_close(portion)
        await execute_all(self.desk)

    async def hand(
        self, symbol: str, side: Side, quantity: str, *, price: str | None = None, reduces: bool = False
    ) -> OrderReport:
        """An order of the owner's own, from the venue's own pages."""
        request = OrderRequest(
            client_order_id=f"web-{uuid4().hex[:16]}",
            symbol=symbol,
            side=side,
            type=OrderType.MARKET if price is None else OrderType.LIMIT,
            quantity=Decimal(quantity),
            signed_at=self.desk.now(),
            price=None if price is None else Decimal(price),
            reduce_only=reduces,
        )
        return await (await self.broker()).place(request)

    async def held(self) -> Sequence[Holding]:
        """What the venue says the account holds."""
        return await (await self.broker()).holdings()

    async def told(self, kind: NotificationType) -> list[str]:
        """What the owner was told of a kind, oldest first."""
        async with self.desk.sessions() as session:
            rows = await session.scalars(
                select(Notification).where(Notification.type == kind).order_by(Notification.id)
            )
            return [f"{row.title}: {row.message}" for row in rows]


@dataclass
class OnPaper(Stage):
    """The paper venue, behind faults."""

    clock: Clock
    venue: FaultyVenue

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.move(seconds)

    async def connect(self, **terms: Any) -> Connection:
        """An active connection: swap with five times its money unless told otherwise."""
        return await add_connection(
            self.desk, **{"market_type": MarketType.SWAP, "leverage": Decimal(5), **terms}
        )


@asynccontextmanager
async def on_paper(
    database_url: str,
    directory: Path,
    candles: Sequence[tuple[str, str, str, str]],
    faulty: type[FaultyVenue] = FaultyVenue,
) -> AsyncIterator[OnPaper]:
    """A stage on a recording of BTC, a second after its beginning."""
    clock = Clock()
    recording = write_recording(directory / "btc.csv", candles)
    database = open_database(database_url)
    played = Recordings({"BTC/USDT": recording}, Decimal(1), START)
    venue = faulty(open_paper(open_sessions(database), played, clock))
    try:
        async with opened_desk(database_url, clock, venues={"paper": venue}) as desk:
            clock.move(1)
            yield OnPaper(desk, clock, venue)
    finally:
        await database.dispose()


@dataclass
class AtExchange(Stage):
    """A simulated exchange."""

    venue: Exchange
    exchange: str
    market_type: MarketType

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        await self.venue.advance(seconds)

    @property
    def symbol(self) -> str:
        """BTC against USDT."""
        return "BTC/USDT" if self.market_type is MarketType.SPOT else "BTC/USDT:USDT"

    @property
    def floor(self) -> Floor:
        """The floor of the exchange."""
        if self.exchange == "bybit":
            return self.venue.bybit.floor
        return self.venue.spot.floor if self.market_type is MarketType.SPOT else self.venue.usdm.floor

    @property
    def account(self) -> Account:
        """The account as the exchange has it."""
        [account] = self.floor.accounts.values()
        return account

    async def connect(self, sizing: dict[str, Any] | None = None, *, native: bool = True) -> Connection:
        """An active connection that buys 0.1 unless told otherwise."""
        keys = self.venue.open_account({"USDT": str(DEPOSIT)})
        connection = await connections.create(
            self.desk,
            USER,
            kind=Kind.CRYPTO,
            exchange=self.exchange,
            market_type=self.market_type,
            sandbox=False,
            terms={
                "name": "test",
                "credentials": {"api_key": keys.api_key, "api_secret": keys.secret},
                "sizing": sizing or {"strategy": "fixed", "value": "0.1"},
                "leverage": Decimal(5) if self.market_type is MarketType.SWAP else None,
                "protection": {"native": native},
            },
        )
        examination = await connections.test(self.desk, USER, connection.id)
        assert examination.ok, examination.message
        return await connections.activate(self.desk, USER, connection.id)


@asynccontextmanager
async def at_exchange(
    database_url: str, venue: Exchange, exchange: str, market_type: MarketType
) -> AsyncIterator[AtExchange]:
    """A stage at one of the simulated exchanges, by their clock."""
    async with opened_desk(database_url, Clock()) as opened:
        now = venue.clock.now
        endpoints = dict.fromkeys(("binance", "binanceusdm", "bybit"), venue.url)
        brokers = Directory({"crypto": open_crypto(opened.vault, endpoints, now)})
        desk = replace(opened, brokers=brokers, now=now)
        try:
            yield AtExchange(desk, venue, exchange, market_type)
        finally:
            await brokers.close()
