"""Simulated exchanges under the contract's hand, reached through the unmodified ccxt classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from app.brokers.crypto import LazyCryptoVenue, open_crypto
from app.brokers.directory import Access
from app.brokers.port import Broker
from app.domain.market import MarketType
from app.domain.orders import OrderReport
from app.settings import new_vault_key, vault_key_bytes
from app.vault import Vault
from tests.brokers.contract.stage import Handles, charged
from tests.venues.accounts import FeesIn
from tests.venues.exchange import Exchange, Keys

STARTED_AT = datetime(2026, 3, 10, 12, tzinfo=UTC)


@dataclass
class ExchangeStage:
    """A fresh account at one exchange. The exchange's clock is ours too."""

    venue: Exchange
    exchange: str
    market_type: MarketType
    keys: Keys
    leverage: Decimal = Decimal(5)
    native: bool = True
    margin_mode: str | None = None
    sandbox: bool = False
    skew: timedelta = timedelta(0)
    """How far our clock is ahead of the exchange's."""
    connection_id: UUID = field(default_factory=uuid4)
    vault: Vault = field(default_factory=lambda: Vault([vault_key_bytes(new_vault_key())]))
    accounts: LazyCryptoVenue | None = None
    opened: Broker | None = None
    handles: Handles = field(default_factory=Handles)

    @property
    def contract(self) -> Decimal:
        """Quantities are coins."""
        return Decimal(1)

    @property
    def currency(self) -> str:
        """Of the account."""
        return "USDT"

    def entry_fees(self, report: OrderReport) -> Mapping[str, Decimal]:
        """The exchange's rate."""
        return charged(self, report)

    @property
    def broker(self) -> Broker:
        """The broker of the account."""
        assert self.opened is not None
        return self.opened

    @property
    def symbol(self) -> str:
        """BTC against USDT."""
        return "BTC/USDT" if self.market_type is MarketType.SPOT else "BTC/USDT:USDT"

    def now(self) -> datetime:
        """Our clock, which is the exchange's unless a test says otherwise."""
        return self.venue.clock.now() + self.skew

    async def move(self, price: int) -> None:
        """Let the price walk."""
        self.venue.move(self.symbol, price)

    async def advance(self, seconds: int) -> None:
        """Let time pass."""
        await self.venue.advance(seconds)

    def thin(self, fraction: str) -> bool:
        """At every exchange."""
        self.venue.thin(self.symbol, fraction)
        return True

    async def restart(self) -> None:
        """Open the account anew, in a process that knows nothing."""
        await self.close()
        self.accounts = open_crypto(self.vault, {self.exchange: self.venue.url}, self.now)
        self.opened = await self.accounts.open(self.access())

    async def close(self) -> None:
        """Let go of broker and session."""
        if self.opened is not None:
            await self.opened.close()
        if self.accounts is not None:
            await self.accounts.close()

    def access(self) -> Access:
        """What a connection's row says."""
        credentials = {"api_key": self.keys.api_key, "api_secret": self.keys.secret}
        return Access(
            connection_id=self.connection_id,
            credentials_version=1,
            kind="crypto",
            exchange=self.exchange,
            market_type=self.market_type,
            sandbox=self.sandbox,
            leverage=self.leverage,
            native_protection=self.native,
            paper=None,
            credentials_sealed=self.vault.seal(credentials, row_id=self.connection_id, version=1),
            margin_mode=self.margin_mode,
        )


async def exchange_stage(
    venue: Exchange, exchange: str, market_type: MarketType, *, fees_in: FeesIn = FeesIn.QUOTE
) -> ExchangeStage:
    """A fresh account with 100,000 USDT."""
    keys = venue.open_account({"USDT": "100000"}, fees_in=fees_in)
    stage = ExchangeStage(venue, exchange, market_type, keys)
    await stage.restart()
    return stage
