"""Positions: what is held and what was, with protection to edit and a way out."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query
from pydantic import Field, model_validator
from sqlalchemy import ColumnElement, select

from app.api.bodies import ExactRoute
from app.api.callers import Reader, Trader
from app.api.orders import Order
from app.api.problems import raises
from app.api.sessions import OpenDesk, Reading
from app.api.wire import (
    Amount,
    Body,
    Instant,
    OwnerView,
    Page,
    Paging,
    Portion,
    PositiveAmount,
    Text,
    View,
    page,
)
from app.domain.errors import NotFound
from app.domain.exits import CloseReason, Protection
from app.domain.market import QuantityUnit
from app.domain.orders import TriggerSource
from app.domain.positions import PositionSide, PositionStatus
from app.engine.closing import request_close
from app.engine.protection import PlanChange, edit_plan
from app.store import orders as order_rows
from app.store import positions as rows

router = APIRouter(prefix="/positions", tags=["positions"], route_class=ExactRoute)

PositionId = Annotated[UUID, Path(description="The position's id.")]


class Rung(View):
    """One take-profit as it was cut for what is held."""

    price: Amount = Field(examples=["27150.5"])
    """Where it closes, in quote currency."""
    quantity: Amount = Field(examples=["0.005"])
    """How much it closes, in `quantity_unit`."""
    filled_quantity: Amount = Field(examples=["0"])
    """How much of that has been closed, in `quantity_unit`."""


class Position(View):
    """What one execution opened and what is left of it."""

    id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000001"])
    """The position's id."""
    execution_id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000002"])
    """The execution that opened it."""
    signal_id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000003"])
    """The signal behind it."""
    connection_id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """The account that holds it."""
    symbol: str = Field(examples=["BTC/USDT"])
    """The instrument, in unified form."""
    side: PositionSide = Field(examples=["long"])
    """Whether it gains when the price rises (`long`) or falls (`short`)."""
    status: PositionStatus = Field(examples=["open"])
    """`closing` while an exit of everything is under way."""
    quantity_unit: QuantityUnit = Field(examples=["base"])
    """What quantities count: base units of the symbol, or lots."""
    quantity: Amount = Field(examples=["0.00999"])
    """What was really opened, after fees taken in the base coin, in `quantity_unit`."""
    remaining_quantity: Amount = Field(examples=["0.00999"])
    """What is still held, in `quantity_unit`."""
    dust: Amount = Field(examples=["0"])
    """What was too small to be sold when it ended, in `quantity_unit`."""
    entry_price: Amount = Field(examples=["26850.25"])
    """Average price it was opened at, in quote currency."""
    exit_price: Amount | None = Field(examples=["27150.5"])
    """Average price of what has been closed, in quote currency."""
    current_price: Amount | None = Field(examples=["26900"])
    """The price it could last be left at, in quote currency."""
    marked_at: Instant | None
    """When `current_price` was seen."""
    stop_loss: Amount | None = Field(examples=["26500"])
    """Where all of it is closed at a loss, in quote currency."""
    take_profits: list[Rung]
    """Where parts of it are closed at a profit, nearest first."""
    take_profits_note: str | None = Field(
        examples=["The take-profit at 27000 is too small by itself and joins the one at 27150.5."]
    )
    """What became of take-profits that are too small for the venue; null where there are none."""
    protection: Protection = Field(examples=["native"])
    """Who watches stop and targets: the venue (`native`), the engine (`software`), or nobody (`none`): it has neither,
    or a close in review may have sold all of it."""
    trigger_source: TriggerSource | None = Field(examples=["mark"])
    """Which price its stop and targets go by; null is the price it could be left at."""
    protected_at: Instant | None
    """Since when the stop of all of it is watched: acknowledged by the venue, or seen by the engine with a price."""
    unprotected_since: Instant | None
    """Since when nobody watches the stop of a part of it, or nobody can tell; null while it is protected, or has no
    stop."""
    unprotected_seconds: Amount = Field(examples=["0.342"])
    """For how long in all that was so before, in seconds: after fills, while the venue's stop was replaced, and while
    there was no price for a stop of the engine's own or no word of the venue on its."""
    stop_seen_at: Instant | None
    """When the venue last showed that it holds the stop, to within a minute."""
    gross_pnl: Amount = Field(examples=["3.0025"])
    """Profit of what has been closed before fees, in `currency`; negative is a loss."""
    fees: Amount = Field(examples=["0.5375"])
    """Fees of what has been closed, with their part of the entry's, in `currency`."""
    funding: Amount = Field(examples=["0"])
    """Funding and swap received (paid when negative), in `currency`; a venue may tell of it after the end."""
    realized_pnl: Amount = Field(examples=["2.465"])
    """`gross_pnl` - `fees` + `funding`, in `currency`."""
    unrealized_pnl: Amount = Field(examples=["0.497"])
    """Profit of what is still held at `current_price`, before fees, in `currency`."""
    pnl_complete: bool = Field(examples=[True])
    """False when the figures lack something: a fee without a known rate, an exit without a known price, funding at a
    venue that does not tell it once a full hour has passed."""
    currency: str = Field(examples=["USDT"])
    """The currency its money is counted in."""
    close_reason: CloseReason | None = Field(examples=["take_profit"])
    """Why it ended; with several exits, the last one's reason."""
    foreign_quantity: Amount = Field(examples=["0"])
    """What the account holds of the symbol on this side beyond the engine's, in `quantity_unit`: the owner's own,
    neither protected nor closed. Always 0 on spot, where coins are not told apart."""
    foreign_orders: int = Field(examples=[0])
    """How many orders rest in the symbol that the engine did not place; they are never touched."""
    delisted_at: Instant | None
    """When the venue was first seen without this symbol; nothing can be placed in it until it is listed again."""
    opened_at: Instant
    """When it was first filled."""
    closed_at: Instant | None
    """When it ended."""
    created_at: Instant
    """When the engine recorded it."""
    updated_at: Instant
    """When the engine last changed it."""


class PositionWithOrders(Position):
    """A position with everything that was asked of the venue for it."""

    orders: list[Order]
    """Its orders, oldest first."""


class OwnedPosition(Position):
    """A position of any owner."""

    owner: OwnerView
    """Whose it is."""


class PositionQuery(Paging):
    """Which positions are wanted."""

    status: list[PositionStatus] = Field(default_factory=list, examples=[["open"]])
    """Only those in this state; may be given more than once."""
    connection_id: UUID | None = Field(default=None, examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """Only those of this account."""
    symbol: Text | None = Field(default=None, examples=["BTC/USDT"])
    """Only those of this instrument, in unified form."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same, as the database reads it."""
        wanted: list[ColumnElement[bool]] = []
        if self.status:
            wanted.append(rows.Position.status.in_(self.status))
        if self.connection_id is not None:
            wanted.append(rows.Position.connection_id == self.connection_id)
        if self.symbol is not None:
            wanted.append(rows.Position.symbol == self.symbol)
        return wanted


class Target(Body):
    """A take-profit as it is asked for."""

    price: PositiveAmount = Field(examples=["27150.5"])
    """Where to close, in quote currency."""
    portion: Portion | None = Field(default=None, examples=["0.5"])
    """What part of what remains, above 0 and at most 1; a single target may leave it out and closes all."""


class PlanEdit(Body):
    """A change of the exit plan: a field that is named is replaced, one that is left out stays as it is."""

    stop_loss: PositiveAmount | None = Field(default=None, examples=["26600"])
    """The new stop-loss in quote currency; null takes it away."""
    take_profits: list[Target] | None = Field(default=None, max_length=20)
    """The new take-profits, all of them, for what remains; null or an empty list takes them away."""

    @model_validator(mode="after")
    def _names_something(self) -> "PlanEdit":
        if not self.model_fields_set:
            raise ValueError("name stop_loss, take_profits or both")
        return self

    def changes(self) -> PlanChange:
        """The same, as the engine takes it."""
        return PlanChange(
            fields=frozenset(self.model_fields_set),
            stop_loss=self.stop_loss,
            take_profits=tuple((target.price, target.portion) for target in self.take_profits or ()),
        )


class CloseRequest(Body):
    """How much to close."""

    portion: Portion | None = Field(default=None, examples=["0.5"])
    """What part of what remains, above 0 and at most 1; without it, all."""


IdempotencyKey = Annotated[
    Text | None,
    Header(
        description="Your name for this close: sending it again with the same name starts nothing new.",
        examples=["close-7f3a"],
    ),
]


@router.get("")
async def list_positions(
    caller: Reader, session: Reading, query: Annotated[PositionQuery, Query()]
) -> Page[Position]:
    """Your positions, newest first."""
    mine = select(rows.Position).where(rows.owned_by(caller.owner), *query.conditions())
    return await page(session, mine, rows.Position.id, query, Position.of)


@router.get("/{position_id}", responses=raises("not_found"))
async def get_position(position_id: PositionId, caller: Reader, session: Reading) -> PositionWithOrders:
    """One of your positions, with its orders."""
    row = await rows.of_owner(session, caller.owner, position_id)
    if row is None:
        raise NotFound("position")
    orders = await order_rows.of_execution(session, row.execution_id)
    return PositionWithOrders.of(row, orders=[Order.seen(order) for order in orders])


@router.patch("/{position_id}", responses=raises("not_found", "conflict"))
async def edit_position(position_id: PositionId, edit: PlanEdit, caller: Trader, desk: OpenDesk) -> Position:
    """Change stop-loss and take-profits of an open position."""
    return Position.of(await edit_plan(desk, caller.owner, position_id, edit.changes()))


@router.post("/{position_id}/close", status_code=202, responses=raises("not_found", "conflict"))
async def close_position(
    position_id: PositionId,
    caller: Trader,
    desk: OpenDesk,
    close: CloseRequest | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Position:
    """Close a position at market, all or part of it. Answered when the intent is stored; the sale follows."""
    portion = close.portion if close else None
    return Position.of(
        await request_close(desk, caller.owner, position_id, portion, idempotency_key=idempotency_key)
    )
