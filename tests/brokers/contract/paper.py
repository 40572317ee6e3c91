"""The paper venue under the contract's hand: a recording that grows by a candle whenever the price is to move."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.brokers.directory import Access
from app.brokers.paper.recording import COLUMNS
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import PaperBroker, PaperVenue, open_paper
from app.brokers.port import Broker
from app.domain.market import MarketType
from app.domain.orders import OrderReport
from tests.brokers.contract.stage import START, Handles, charged

STARTED_AT = datetime(2023, 3, 10, tzinfo=UTC)

TERMS: Mapping[str, Any] = {
    "prices": "recording",
    "balance": "100000",
    "currency": "USDT",
    "fee_percent": "0.1",
    "slippage_percent": "0.05",
}


def access_of(
    market_type: MarketType,
    terms: Mapping[str, Any] | None = None,
    *,
    native: bool = True,
) -> Access:
    """A new paper connection; `terms` change those of TERMS."""
    return Access(
        connection_id=uuid4(),
        credentials_version=1,
        kind="paper",
        exchange="paper",
        market_type=market_type,
        sandbox=False,
        leverage=Decimal(5),
        native_protection=native,
        paper={**TERMS, **(terms or {})},
        credentials_sealed=None,
    )


@dataclass
class PaperStage:
    """A stage on the paper venue. Each candle lasts a second; the clock stands at the close of the last one."""

    sessions: async_sessionmaker[AsyncSession]
    file: Path
    access: Access
    lines: list[str] = field(default_factory=list)
    last: Decimal = START
    opened: PaperBroker | None = None
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
        """The venue's rate."""
        return charged(self, report)

    @property
    def broker(self) -> Broker:
        """The broker on the recording as far as it goes."""
        assert self.opened is not None
        return self.opened

    @property
    def market_type(self) -> MarketType:
        """Of the account."""
        return self.access.market_type

    @property
    def symbol(self) -> str:
        """BTC against USDT."""
        return "BTC/USDT" if self.market_type is MarketType.SPOT else "BTC/USDT:USDT"

    def now(self) -> datetime:
        """The close of the last candle."""
        return STARTED_AT + timedelta(seconds=len(self.lines)) - timedelta(milliseconds=250)

    async def move(self, price: int) -> None:
        """Play a candle that opens at the last price and closes at this one."""
        self._record(Decimal(price))
        await self.restart()

    async def advance(self, seconds: int) -> None:
        """Play flat candles."""
        for _ in range(seconds):
            self._record(self.last)
        await self.restart()

    def thin(self, fraction: str) -> bool:
        """A recording says nothing of who else traded."""
        del fraction
        return False

    async def restart(self) -> None:
        """Open a new venue on the same book."""
        self.file.write_text("\n".join([",".join(COLUMNS), *self.lines]))
        self.opened = await self.venue(self.now).open(self.access)

    def venue(self, now: Callable[[], datetime], pair: str = "BTC/USDT") -> PaperVenue:
        """The venue of another process, with a clock of its own; `pair` is what it takes the recording for."""
        return open_paper(self.sessions, Recordings({pair: self.file}, Decimal(1), STARTED_AT), now)

    def _record(self, close: Decimal) -> None:
        low, high = min(self.last, close), max(self.last, close)
        time = int((STARTED_AT + timedelta(minutes=len(self.lines))).timestamp()) * 1000
        self.lines.append(f"{time},{self.last},{high},{low},{close},0.0")
        self.last = close


async def paper_stage(
    sessions: async_sessionmaker[AsyncSession],
    file: Path,
    market_type: MarketType,
    terms: Mapping[str, Any] | None = None,
) -> PaperStage:
    """A fresh account with the price at START."""
    stage = PaperStage(sessions, file, access_of(market_type, terms))
    await stage.advance(1)
    return stage
