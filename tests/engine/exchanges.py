"""A crypto connection for tests: simulated exchanges, and a desk that reaches nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, cast

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk
from app.domain.market import MarketType
from app.domain.owners import Owner
from app.engine import connections, monitoring
from app.engine.connections import Terms
from app.store.connections import Connection, Kind
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import execute_all, sweep_all
from tests.venues.accounts import Account
from tests.venues.exchange import LISTINGS, Exchange, Keys, running_exchange
from tests.venues.floor import Floor
from tests.venues.orders import Listing, Market

SWAP = MarketType.SWAP
SPOT = MarketType.SPOT


@dataclass
class Stage:
    """A desk, the exchanges, and one account at one of them."""

    desk: Desk
    venue: Exchange
    exchange: str
    market_type: MarketType
    symbol: str = ""
    keys: Keys = field(default_factory=lambda: Keys("", ""))

    def __post_init__(self) -> None:
        """BTC against USDT, with 100,000 USDT to begin with."""
        self.symbol = self.symbol or ("BTC/USDT" if self.market_type is SPOT else "BTC/USDT:USDT")
        self.keys = self.venue.open_account({"USDT": "100000"})

    @property
    def floor(self) -> Floor:
        """Where the account trades."""
        if self.exchange == "bybit":
            return self.venue.bybit.floor
        return self.venue.spot.floor if self.market_type is SPOT else self.venue.usdm.floor

    @property
    def ledger(self) -> Account:
        """The account's book at the exchange."""
        return self.floor.accounts[self.keys.api_key]

    @property
    def market(self) -> Market:
        """What is traded."""
        market = self.floor.market_of(self.symbol)
        assert market is not None
        return market

    async def activate(self, owner: Owner = USER, **terms: Any) -> Connection:
        """A tested, active connection that buys a tenth of a coin unless told otherwise."""
        given = {
            "name": "crypto",
            "credentials": {"api_key": self.keys.api_key, "api_secret": self.keys.secret},
            "sizing": {"strategy": "fixed", "value": "0.1"},
            **terms,
        }
        connection = await connections.create(
            self.desk,
            owner,
            kind=Kind.CRYPTO,
            exchange=self.exchange,
            market_type=self.market_type,
            sandbox=False,
            terms=cast("Terms", given),
        )
        examination = await connections.test(self.desk, owner, connection.id)
        assert examination.ok, examination.message
        return await connections.activate(self.desk, owner, connection.id)

    async def walk(self, price: Decimal | int | str | None, *, rounds: int = 4, seconds: float = 6) -> None:
        """Move the price, and let monitor, sweep and bells do their work."""
        if price is not None:
            self.venue.move(self.symbol, price)
        for _ in range(rounds):
            await self.venue.advance(seconds)
            await monitoring.watch(self.desk)
            await execute_all(self.desk)
            await sweep_all(self.desk)


@asynccontextmanager
async def opened_stage(
    database_url: str,
    exchange: str,
    market_type: MarketType,
    *,
    symbol: str = "",
    listings: tuple[Listing, ...] = LISTINGS,
) -> AsyncIterator[Stage]:
    """An account at an exchange whose clock is the desk's. Ends with the exchanges' audit."""
    async with (
        running_exchange(start=START, listings=listings) as venue,
        opened_desk(database_url, Clock()) as opened,
    ):
        now = venue.clock.now
        endpoints = dict.fromkeys(("binance", "binanceusdm", "bybit"), venue.url)
        brokers = Directory({"crypto": open_crypto(opened.vault, endpoints, now)})
        try:
            yield Stage(replace(opened, brokers=brokers, now=now), venue, exchange, market_type, symbol)
            venue.audit()
        finally:
            await brokers.close()
