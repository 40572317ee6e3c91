"""Simulated MetaTrader brokers under the contract's hand, reached through their REST bridges."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

from app.brokers.directory import Access
from app.brokers.metatrader import open_metatrader
from app.brokers.metatrader.gateway import Patience
from app.brokers.metatrader.venue import MetaTraderVenue as Accounts
from app.brokers.port import Broker
from app.domain.market import MarketType
from app.domain.money import ZERO
from app.domain.orders import OrderReport
from app.settings import new_vault_key, vault_key_bytes
from app.vault import Vault
from tests.brokers.contract.stage import START, Handles
from tests.venues.metatrader import Credentials, Listing, MetaTraderVenue, Method, Platform

STARTED_AT = datetime(2026, 3, 10, 12, tzinfo=UTC)

BITCOIN = Listing(
    "BTC",
    "USD",
    START,
    digits=2,
    spread=1,
    contract_size=Decimal(1),
    min_lots=Decimal("0.00001"),
    lot_step=Decimal("0.00001"),
    forex=False,
)
"""A CFD of which one lot is one coin, so that lots are what other venues call base units."""

TENS = replace(BITCOIN, contract_size=Decimal(10))
"""The same with ten coins to the lot."""

COMMISSION = Decimal("2.5")

QUICK = Patience(connect=2, read=2, order=1)


@dataclass
class MetaTraderStage:
    """A fresh account with 100,000 USD at a leverage of 5. The broker's clock is ours too."""

    venue: MetaTraderVenue
    exchange: str
    owner: Credentials
    native: bool = True
    market_type: MarketType = MarketType.FX
    connection_id: UUID = field(default_factory=uuid4)
    vault: Vault = field(default_factory=lambda: Vault([vault_key_bytes(new_vault_key())]))
    accounts: Accounts | None = None
    opened: Broker | None = None
    handles: Handles = field(default_factory=Handles)

    @property
    def broker(self) -> Broker:
        """The broker of the account."""
        assert self.opened is not None
        return self.opened

    @property
    def symbol(self) -> str:
        """The broker's own name."""
        return "BTCUSD"

    @property
    def contract(self) -> Decimal:
        """What the listing says of a lot."""
        return self.venue.bridge(self.exchange).server.markets[self.symbol].listing.contract_size

    @property
    def currency(self) -> str:
        """Of the account."""
        return "USD"

    def entry_fees(self, report: OrderReport) -> Mapping[str, Decimal]:
        """MT5 charges a commission per lot and side; MT4 charges both sides with the close."""
        charged = ZERO if self.exchange == Platform.MT4 else COMMISSION * report.filled_quantity
        return {"USD": charged} if charged else {}

    def now(self) -> datetime:
        """The broker's clock."""
        return self.venue.clock.now()

    async def move(self, price: int) -> None:
        """Let the price walk."""
        self.venue.move(self.symbol, price)

    async def advance(self, seconds: int) -> None:
        """Let time pass."""
        await self.venue.advance(seconds)

    def thin(self, fraction: str) -> bool:
        """A dealer fills whatever it takes."""
        del fraction
        return False

    async def restart(self) -> None:
        """Open the account anew, in a process that knows nothing."""
        await self.close()
        urls = {bridge.platform.value: bridge.url for bridge in self.venue.bridges}
        self.accounts = open_metatrader(self.vault, urls, self.now, QUICK)
        self.opened = await self.accounts.open(self.access())

    async def close(self) -> None:
        """Let go of broker and sockets."""
        if self.opened is not None:
            await self.opened.close()
        if self.accounts is not None:
            await self.accounts.close()

    def access(self) -> Access:
        """What a connection's row says."""
        credentials = {
            "account_id": str(self.owner.user),
            "api_secret": self.owner.password,
            "server": self.owner.server,
        }
        return Access(
            connection_id=self.connection_id,
            credentials_version=1,
            kind="fx",
            exchange=self.exchange,
            market_type=self.market_type,
            sandbox=False,
            leverage=Decimal(1),
            native_protection=self.native,
            paper=None,
            credentials_sealed=self.vault.seal(credentials, row_id=self.connection_id, version=1),
        )


async def metatrader_stage(
    venue: MetaTraderVenue, exchange: str, method: Method = Method.HEDGING
) -> MetaTraderStage:
    """A fresh account on the bridge of a platform."""
    owner = venue.open_account(
        exchange,
        balance="100000",
        leverage=5,
        method=method,
        commission=str(COMMISSION),
        money_digits=8,
    )
    stage = MetaTraderStage(venue, exchange, owner)
    await stage.restart()
    return stage
