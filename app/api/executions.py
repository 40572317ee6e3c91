"""Executions: one signal on one connection and what became of it, for ever."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, Field, Strict, StringConstraints
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.bodies import ExactRoute
from app.api.callers import Reader, Trader
from app.api.problems import raises
from app.api.sessions import OpenDesk, Reading
from app.api.wire import (
    Amount,
    Body,
    CurrencyAmount,
    Instant,
    OwnerView,
    Page,
    Paging,
    Rows,
    View,
    page,
    printable,
)
from app.domain.errors import NotFound
from app.domain.market import MarketType, QuantityUnit
from app.domain.orders import OrderType, Side
from app.domain.owners import Owner
from app.domain.signals import Outcome
from app.engine import reviewing, withdrawing
from app.engine.reviewing import Finding
from app.store import executions as rows
from app.store import ownership
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from app.store.positions import Position

router = APIRouter(prefix="/executions", tags=["executions"], route_class=ExactRoute)

ExecutionId = Annotated[UUID, Path(description="The execution's id.")]


class Milliseconds(View):
    """Milliseconds from the step before it that happened; null for a step that did not."""

    queued: int | None = Field(examples=[4])
    """From received to queued."""
    sent: int | None = Field(examples=[35])
    """From queued to sent."""
    acknowledged: int | None = Field(examples=[120])
    """From sent to acknowledged."""
    filled: int | None = Field(examples=[2])
    """From acknowledged to filled."""
    total: int | None = Field(examples=[161])
    """From received to the last step that happened."""


class Timeline(View):
    """When an execution took which step."""

    received: Instant
    """When the signal came in."""
    queued: Instant | None
    """When a worker was rung for it."""
    sent: Instant | None
    """When the last attempt was claimed and sent to the venue."""
    acknowledged: Instant | None
    """When the venue first knew of the order."""
    filled: Instant | None
    """When the order was last filled."""
    milliseconds: Milliseconds
    """How long each step took."""


class SignalEvent(View):
    """What a later event about the signal came to on this execution."""

    event_id: str = Field(examples=["msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"])
    """The `webhook-id` it came with."""
    type: str = Field(examples=["signal.updated"])
    """What happened."""
    timestamp: Instant
    """When, by the source's clock."""
    field: str | None = Field(examples=["stop_loss"])
    """Of an update, the field this is about."""
    outcome: Outcome = Field(examples=["applied"])
    """`applied`; `closed` at market; `superseded` by a later update; `kept` as it was, since an update may not loosen
    a stop or change what the owner has set; `refused`, since it cannot be meant; `nothing` was left to change."""
    message: str | None = Field(examples=["An update may not loosen a stop-loss."])
    """Why, where that is not plain."""
    applied_at: Instant
    """When the engine did so."""


class Execution(View):
    """One signal on one connection."""

    id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000002"])
    """The execution's id."""
    signal_id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000003"])
    """The signal."""
    connection_id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """The account."""
    position_id: UUID | None = Field(examples=["019aa5c2-7c00-7000-8000-000000000001"])
    """What it opened."""
    status: ExecutionStatus = Field(examples=["executed"])
    """`denied`: the engine said no. `rejected`: the venue said no. `partial` is final: the rest is gone."""
    code: str | None = Field(examples=["insufficient_balance"])
    """Why it was denied or rejected, or why not all of it was filled; see GET /v1/denial-codes."""
    message: str | None = Field(examples=["The order is worth 100 USDT; the free balance covers 42."])
    """The same in a sentence with its numbers."""
    symbol: str = Field(examples=["BTC/USDT"])
    """The instrument, in unified form once it is resolved; before that as the signal wrote it."""
    direction: Side = Field(examples=["buy"])
    """The signal's direction."""
    order_type: OrderType = Field(examples=["market"])
    """The signal's order type."""
    quantity_unit: QuantityUnit = Field(examples=["base"])
    """What quantities count: base units of the symbol, or lots."""
    requested_quantity: Amount | None = Field(examples=["0.01"])
    """What was ordered, in `quantity_unit`; null before it was sized."""
    filled_quantity: Amount = Field(examples=["0.01"])
    """What was filled, in `quantity_unit`."""
    average_price: Amount | None = Field(examples=["26850.25"])
    """Average price of what was filled, in quote currency."""
    fees: list[CurrencyAmount]
    """What the venue took, by currency."""
    client_order_id: str | None = Field(examples=["3f2a9c0d4b1e48f7a6c5d2e1f0b9a8c7"])
    """Our name for the order at the venue."""
    exchange_order_id: str | None = Field(examples=["28412345"])
    """The venue's name for the order."""
    attempts: int = Field(examples=[1])
    """How often the order was sent."""
    signal_events: list[SignalEvent]
    """What later events about the signal came to here, in the order they were applied."""
    timeline: Timeline
    """When it took which step."""
    created_at: Instant
    """When the signal reached the connection."""
    updated_at: Instant
    """When the engine last changed it."""

    @classmethod
    def seen(
        cls, row: rows.Execution, position_id: UUID | None, market_type: MarketType, **beside: Any
    ) -> Self:
        """An execution from a row of `listing`."""
        unit = QuantityUnit.LOTS if market_type is MarketType.FX else QuantityUnit.BASE
        fees = [CurrencyAmount.kept(**fee) for fee in row.fees]
        return cls.of(
            row, position_id=position_id, quantity_unit=unit, fees=fees, timeline=_timeline(row), **beside
        )


class OwnedExecution(Execution):
    """An execution of any owner."""

    owner: OwnerView
    """Whose it is."""


ExchangeOrderId = Annotated[
    str, Strict(), StringConstraints(min_length=1, max_length=128), AfterValidator(printable)
]


class Resolution(Body):
    """What you found at the venue."""

    outcome: Finding = Field(examples=["placed"])
    """`absent`: the order is not there; an entry is over, an exit is sent again. `placed`: it is there; the venue
    is asked about it once more, and its answer is taken over."""
    exchange_order_id: ExchangeOrderId | None = Field(default=None, examples=["28412345"])
    """The venue's name for the order, where you know it; only for `placed`."""


class ExecutionQuery(Paging):
    """Which executions are wanted."""

    status: list[ExecutionStatus] = Field(default_factory=list, examples=[["denied"]])
    """Only those in this state; may be given more than once."""
    connection_id: UUID | None = Field(default=None, examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """Only those on this account."""
    signal_id: UUID | None = Field(default=None, examples=["019aa5c2-7c00-7000-8000-000000000003"])
    """Only those of this signal."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same, as the database reads it."""
        wanted: list[ColumnElement[bool]] = []
        if self.status:
            wanted.append(rows.Execution.status.in_(self.status))
        if self.connection_id is not None:
            wanted.append(rows.Execution.connection_id == self.connection_id)
        if self.signal_id is not None:
            wanted.append(rows.Execution.signal_id == self.signal_id)
        return wanted


def listing(*conditions: ColumnElement[bool]) -> Rows:
    """Executions with what their rows do not hold: the position opened, and the market traded."""
    return (
        select(rows.Execution, Position.id, Connection.market_type)
        .join(Connection, Connection.id == rows.Execution.connection_id)
        .outerjoin(Position, Position.execution_id == rows.Execution.id)
        .where(*conditions)
    )


def _timeline(row: rows.Execution) -> Timeline:
    steps = {
        "queued": row.queued_at,
        "sent": row.sent_at,
        "acknowledged": row.acknowledged_at,
        "filled": row.filled_at,
    }
    before, between = row.received_at, {}
    for step, moment in steps.items():
        # A venue may date a fill before the answer that told us of it: no step takes less than nothing.
        reached = before if moment is None else max(before, moment)
        between[step] = None if moment is None else _milliseconds(before, reached)
        before = reached
    total = None if before == row.received_at else _milliseconds(row.received_at, before)
    return Timeline.model_validate(
        {"received": row.received_at, **steps, "milliseconds": {**between, "total": total}}
    )


def _milliseconds(start: datetime, end: datetime) -> int:
    return round((end - start).total_seconds() * 1000)


@router.get("")
async def list_executions(
    caller: Reader, session: Reading, query: Annotated[ExecutionQuery, Query()]
) -> Page[Execution]:
    """Your executions, newest first."""
    mine = listing(rows.owned_by(caller.owner), *query.conditions())
    return await page(session, mine, rows.Execution.id, query, Execution.seen)


@router.get("/{execution_id}", responses=raises("not_found"))
async def get_execution(execution_id: ExecutionId, caller: Reader, session: Reading) -> Execution:
    """One of your executions."""
    return await _seen(session, caller.owner, execution_id)


async def _seen(session: AsyncSession, owner: Owner, execution_id: UUID) -> Execution:
    mine = listing(rows.owned_by(owner), rows.Execution.id == execution_id)
    row = (await session.execute(mine)).one_or_none()
    if row is None:
        raise NotFound("execution")
    return Execution.seen(*row)


@router.post("/{execution_id}/cancel", responses=raises("not_found", "conflict"))
async def cancel_execution(execution_id: ExecutionId, caller: Trader, desk: OpenDesk) -> Execution:
    """Take back an entry that is not filled yet, waiting or resting at the venue. What was filled of it stays."""
    await withdrawing.cancel(desk, caller.owner, execution_id)
    async with ownership.reading(desk.sessions, caller.owner) as session:
        return await _seen(session, caller.owner, execution_id)


@router.post("/{execution_id}/resolve", responses=raises("not_found", "conflict"))
async def resolve_execution(
    execution_id: ExecutionId, resolution: Resolution, caller: Trader, desk: OpenDesk
) -> Execution:
    """Say what became of an order that `needs_review`, because the venue cannot tell the engine."""
    await reviewing.resolve(
        desk, caller.owner, execution_id, resolution.outcome, resolution.exchange_order_id
    )
    async with ownership.reading(desk.sessions, caller.owner) as session:
        return await _seen(session, caller.owner, execution_id)
