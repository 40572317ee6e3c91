"""Signals: what providers published and what became of it."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import Field
from sqlalchemy import ColumnElement, select, true

from app.api.bodies import ExactRoute
from app.api.callers import Reader
from app.api.executions import Execution, listing
from app.api.problems import raises
from app.api.sessions import OpenDesk, Reading
from app.api.webhooks import PublishedSignal, check_not_ahead
from app.api.wire import Amount, Instant, Page, Paging, Text, View, page
from app.domain.errors import Denied, NotFound
from app.domain.exits import Protection
from app.domain.orders import OrderType, Side
from app.domain.owners import Owner, Role
from app.domain.signals import Market
from app.engine import previewing
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


class SignalDraft(PublishedSignal):
    """A signal to be previewed: it need not be named, and nothing is published."""

    id: Text = Field(default="preview", examples=["sig-2026-11-24-001"])
    """The source's id of the signal; it plays no part in a preview."""


class PreviewedOrder(View):
    """The entry that would be sent now."""

    symbol: str = Field(examples=["BTC/USDT"])
    """The instrument, in unified form."""
    side: Side = Field(examples=["buy"])
    """The direction of the order."""
    type: OrderType = Field(examples=["market"])
    """How it would enter."""
    quantity: Amount = Field(examples=["0.01"])
    """How much would be ordered, in base units or lots."""
    price: Amount = Field(examples=["26850.5"])
    """The limit price, or for a market order the ask (buy) or bid (sell) it was sized by, in quote currency."""
    notional: Amount = Field(examples=["268.505"])
    """What that is worth, in `currency`."""
    currency: str = Field(examples=["USDT"])
    """The currency of the money."""
    estimated_fees: Amount = Field(examples=["0.268505"])
    """What the entry would cost in fees, in `currency`."""


class PreviewedTarget(View):
    """A take-profit as it would be placed."""

    price: Amount = Field(examples=["27150.5"])
    """Where it closes, in quote currency."""
    quantity: Amount = Field(examples=["0.005"])
    """How much it closes; levels too small for the venue have been merged."""


class PreviewedProtection(View):
    """What would protect the position, were the order filled whole."""

    stop_loss: Amount | None = Field(examples=["26500"])
    """Where all of it is closed at a loss, in quote currency."""
    take_profits: list[PreviewedTarget]
    """Where parts of it are closed at a profit, nearest first."""
    message: str | None = Field(
        examples=["The take-profit at 27000 is too small by itself and joins the one at 27150.5."]
    )
    """What became of take-profits that are too small for the venue; null where there are none."""
    mode: Protection = Field(examples=["native"])
    """Who would watch: the venue (`native`), the engine (`software`), or nobody (`none`)."""


class ConnectionPreview(View):
    """What a signal would do on one connection."""

    connection_id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """The account."""
    decision: Literal["order", "denied"] = Field(examples=["order"])
    """Whether an order would be sent."""
    code: str | None = Field(examples=["insufficient_balance"])
    """Why not; see GET /v1/denial-codes. Null for an order."""
    message: str | None = Field(examples=["The order is worth 100 USDT; the free balance covers 42."])
    """The same in a sentence with its numbers."""
    order: PreviewedOrder | None
    """The order; null when it would be denied."""
    protection: PreviewedProtection | None
    """Its protection; null when it would be denied."""

    @classmethod
    def seen(cls, preview: previewing.Preview) -> "ConnectionPreview":
        """From what the engine decided."""
        outcome = preview.outcome
        if isinstance(outcome, Denied):
            return cls(
                connection_id=preview.connection_id,
                decision="denied",
                code=outcome.code,
                message=outcome.message,
                order=None,
                protection=None,
            )
        entry = outcome.entry
        return cls(
            connection_id=preview.connection_id,
            decision="order",
            code=None,
            message=None,
            order=PreviewedOrder.of(
                entry,
                symbol=entry.instrument.symbol,
                price=entry.reference_price,
                currency=entry.instrument.currency,
            ),
            protection=PreviewedProtection.of(
                entry,
                take_profits=[PreviewedTarget.of(rung) for rung in entry.rungs],
                message=entry.note,
                mode=outcome.protection,
            ),
        )


class SignalPreview(View):
    """What a signal would do, at the prices and balances of this moment."""

    connections: list[ConnectionPreview]
    """One for each of your connections, oldest first."""


@router.get("")
async def list_signals(
    caller: Reader, session: Reading, query: Annotated[SignalQuery, Query()]
) -> Page[Signal]:
    """Signals that came in, newest first: for an admin all, for a user those that reached a connection."""
    seen = select(rows.SignalRow).where(visible_to(caller.owner), *query.conditions())
    return await page(session, seen, rows.SignalRow.id, query, Signal.of)


@router.post("/preview")
async def preview_signal(draft: SignalDraft, caller: Reader, desk: OpenDesk) -> SignalPreview:
    """What a signal would do on each of your connections, decided as an execution decides it; trades nothing."""
    now = desk.now()
    if draft.published_at is not None:
        check_not_ahead("published_at", draft.published_at, desk)
    previews = await previewing.preview(
        desk, caller.owner, draft.meaning(), draft.plans, draft.published_at or now
    )
    return SignalPreview(connections=[ConnectionPreview.seen(each) for each in previews])


@router.get("/{signal_id}", responses=raises("not_found"))
async def get_signal(signal_id: SignalId, caller: Reader, session: Reading) -> SignalWithExecutions:
    """One signal with your executions of it. An admin finds those of all owners at `/v1/admin/signals/{signal_id}`."""
    row = await session.scalar(
        select(rows.SignalRow).where(rows.SignalRow.id == signal_id, visible_to(caller.owner))
    )
    if row is None:
        raise NotFound("signal")
    mine = listing(executions.owned_by(caller.owner), executions.Execution.signal_id == signal_id)
    reached = (await session.execute(mine.order_by(executions.Execution.id))).all()
    return SignalWithExecutions.of(row, executions=[Execution.seen(*each) for each in reached])
