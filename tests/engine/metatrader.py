"""A MetaTrader connection for tests: brokers behind simulated bridges, and a desk that reaches nothing else."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

from app.brokers.directory import Directory
from app.brokers.metatrader import open_metatrader
from app.brokers.metatrader.gateway import Patience
from app.desk import Desk
from app.domain.market import MarketType
from app.domain.owners import Owner
from app.engine import connections, monitoring
from app.engine.connections import Terms
from app.store.connections import Connection, Kind
from app.store.positions import Position
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import execute_all, positions, sweep_all
from tests.venues.metatrader import Credentials, MetaTraderVenue, Method, conduct, running_bridge
from tests.venues.metatrader.accounts import Login

ACCOUNTS = {
    "mt4": ("mt4", Method.HEDGING),
    "mt5-hedging": ("mt5", Method.HEDGING),
    "mt5-netting": ("mt5", Method.NETTING),
}
"""What there is: the platform, and how it holds positions."""

PATIENCE = Patience(connect=8, read=8, order=8)
"""Real seconds: a bridge that hangs must not hold a test up for long, and a busy machine gets its time."""


@dataclass
class Stage:
    """A desk, the brokers, and one account at one of them."""

    desk: Desk
    venue: MetaTraderVenue
    platform: str
    owner: Credentials
    connection: Connection | None = None
    may_take_stops_off: bool = False
    """Whether the owner wants a position without its stop in this test."""

    @property
    def login(self) -> Login:
        """The account's book at the broker."""
        return self.venue.login(self.platform, self.owner.user)

    def credentials(self, **other: str) -> dict[str, str]:
        """As an owner enters them."""
        return {
            "account_id": str(self.owner.user),
            "api_secret": self.owner.password,
            "server": self.owner.server,
            **other,
        }

    async def connect(
        self, credentials: dict[str, str] | None = None, owner: Owner = USER, **terms: Any
    ) -> Connection:
        """An untested connection; the size is half a lot unless told otherwise."""
        given = {
            "name": "fx",
            "credentials": credentials or self.credentials(),
            "sizing": {"strategy": "fixed", "value": "0.5"},
            **terms,
        }
        self.connection = await connections.create(
            self.desk,
            owner,
            kind=Kind.FX,
            exchange=self.platform,
            market_type=MarketType.FX,
            sandbox=False,
            terms=cast("Terms", given),
        )
        return self.connection

    async def activate(self, owner: Owner = USER, **terms: Any) -> Connection:
        """A tested, active connection."""
        connection = await self.connect(owner=owner, **terms)
        examination = await connections.test(self.desk, owner, connection.id)
        assert examination.ok, examination.message
        return await connections.activate(self.desk, owner, connection.id)

    async def walk(self, symbol: str, bid: str | None, *, rounds: int = 4, seconds: float = 6) -> None:
        """Move the bid, and let monitor, sweep and bells do their work."""
        await self.venue.advance(1)
        if bid is not None:
            self.venue.move(symbol, bid)
        for _ in range(rounds):
            await self.venue.advance(seconds)
            await monitoring.watch(self.desk)
            await execute_all(self.desk)
            await sweep_all(self.desk)

    async def until(
        self, is_so: Callable[[Position], bool], *, rounds: int = 40, seconds: float = 12
    ) -> Position:
        """Go on until something is so of the only position; it must become so."""
        for _ in range(rounds):
            await self.walk("EUR/USD", None, rounds=1, seconds=seconds)
            [position] = await positions(self.desk)
            if is_so(position):
                return position
        raise AssertionError(f"not so after {rounds} rounds")


@asynccontextmanager
async def opened_stage(
    database_url: str,
    account: str = "mt5-hedging",
    *,
    suffix: str = "",
    utc_offset: timedelta = timedelta(hours=3),
    **terms: Any,
) -> AsyncIterator[Stage]:
    """An account of 10,000 at a broker, and a desk; the broker's clock is the desk's. Ends with the broker's audit."""
    platform, method = ACCOUNTS[account]
    async with (
        running_bridge(start=START, suffix=suffix, utc_offset=utc_offset) as venue,
        opened_desk(database_url, Clock()) as opened,
    ):
        endpoints = {"mt4": venue.mt4.url, "mt5": venue.mt5.url}
        now = venue.clock.now
        brokers = Directory({"fx": open_metatrader(opened.vault, endpoints, now, PATIENCE)})
        owner = venue.open_account(platform, method=method, **terms)
        stage = Stage(replace(opened, brokers=brokers, now=now), venue, platform, owner)
        try:
            yield stage
            venue.audit()
            conduct.assert_sound(venue, may_take_stops_off=stage.may_take_stops_off)
        finally:
            await brokers.close()
