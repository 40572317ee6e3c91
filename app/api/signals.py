"""Signals: what providers published and what became of it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import Field
from sqlalchemy import ColumnElement, select, true

from app.api.bodies import ExactRoute
from app.api.callers import Reader
from app.api.executions import Execution, listing
from app.api.problems import raises
from app.api.sessions import Reading
from app.api.wire import Amount, Instant, Page, Paging, Text, View, page
from app.domain.errors import NotFound
from app.domain.orders import OrderType, Side
from app.domain.owners import Owner, Role
from app.domain.signals import Market
from app.store import executions
from app.store import signals as rows

router = APIRouter(prefix="/signals", tags=["signals"], route_class=ExactRoute)

SignalId = Annotated[UUID, Path(description="The signal's id.")]


class Level(View):
    """One take-profit as it was published."""

    price: Amount = Field(examples=["27150.5"])
    """Where to close, in quote currency."""
    portion: Amount = Field(examples=["0.5"])
    """What part of what was filled, above 0 and at most 1."""


class Signal(View):
    """A signal as its provider published it. Prices in quote currency."""

    id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000003"])
    """Our id."""
    provider: str = Field(examples=["default"])
    """Who published it."""
    source_id: str = Field(examples=["sig-2026-11-24-001"])
    """The provider's id."""
    symbol: str = Field(examples=["BTC/USDT"])
    """The symbol as it was published; each connection resolves it at its venue."""
    market: Market | None = Field(examples=["crypto"])
    """The kind of market it is for; null for any."""
    direction: Side = Field(examples=["buy"])
    """Buy or sell."""
    order_type: OrderType = Field(examples=["market"])
    """How to enter."""
    entry_price: Amount | None = Field(examples=["26850"])
    """The limit price, or for market signals the price it was made at."""
    stop_loss: Amount | None = Field(examples=["26500"])
    """Where to leave at a loss."""
    take_profits: list[Level]
    """Where to leave at a profit, nearest first."""
    quantity: Amount | None = Field(examples=["0.01"])
    """The quantity suggested, in base units or lots; used by the sizing `signal_based`."""
    timeframe: str | None = Field(examples=["4h"])
    """The chart it was made on."""
    plans: list[str] = Field(examples=[["gold"]])
    """Which plans it is for; empty for all."""
    published_at: Instant
    """When the provider says it was published; its age counts from here."""
    expires_at: Instant | None
    """When an entry lapses."""
    title: str | None = Field(examples=["Breakout"])
    """The provider's headline."""
    note: str | None = Field(examples=["Invalid below 26,500."])
    """The provider's remark."""
    received_at: Instant
    """When it came in."""


class SignalWithExecutions(Signal):
    """A signal with what became of it on your connections."""

    executions: list[Execution]
    """One for each of your connections it reached."""


class SignalQuery(Paging):
    """Which signals are wanted."""

    provider: Text | None = Field(default=None, examples=["default"])
    """Only those of this provider."""
    symbol: Text | None = Field(default=None, examples=["BTC/USDT"])
    """Only those of this symbol, as it was published."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same, as the database reads it."""
        wanted: list[ColumnElement[bool]] = []
        if self.provider is not None:
            wanted.append(rows.SignalRow.provider == self.provider)
        if self.symbol is not None:
            wanted.append(rows.SignalRow.symbol == self.symbol)
        return wanted


def visible_to(owner: Owner) -> ColumnElement[bool]:
    """An admin sees every signal, a user those that reached a connection of theirs."""
    if owner.role is Role.ADMIN:
        return true()
    return (
        select(executions.Execution.id)
        .where(executions.Execution.signal_id == rows.SignalRow.id, executions.owned_by(owner))
        .exists()
    )


@router.get("")
async def list_signals(
    caller: Reader, session: Reading, query: Annotated[SignalQuery, Query()]
) -> Page[Signal]:
    """Signals that came in, newest first: for an admin all, for a user those that reached a connection."""
    seen = select(rows.SignalRow).where(visible_to(caller.owner), *query.conditions())
    return await page(session, seen, rows.SignalRow.id, query, Signal.of)


@router.get("/{signal_id}", responses=raises("not_found"))
async def get_signal(signal_id: SignalId, caller: Reader, session: Reading) -> SignalWithExecutions:
    """One signal with your executions of it."""
    row = await session.scalar(
        select(rows.SignalRow).where(rows.SignalRow.id == signal_id, visible_to(caller.owner))
    )
    if row is None:
        raise NotFound("signal")
    mine = listing(executions.owned_by(caller.owner), executions.Execution.signal_id == signal_id)
    reached = (await session.execute(mine.order_by(executions.Execution.id))).all()
    return SignalWithExecutions.of(row, executions=[Execution.seen(*each) for each in reached])
