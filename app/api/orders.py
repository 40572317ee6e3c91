"""Orders: what was asked of a venue and what it said, as positions show them."""

from typing import Self
from uuid import UUID

from pydantic import Field

from app.api.wire import Amount, CurrencyAmount, Instant, View
from app.domain.exits import CloseReason
from app.domain.orders import Leg, OrderStatus, OrderType, Purpose, Side
from app.store import orders as rows


class Order(View):
    """One thing asked of a venue. Quantities in the position's `quantity_unit`, prices in quote currency."""

    id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000005"])
    """The order's id."""
    purpose: Purpose = Field(examples=["entry"])
    """Why it exists: to open, to protect at the venue, or to leave now."""
    side: Side = Field(examples=["buy"])
    """Its direction."""
    type: OrderType = Field(examples=["market"])
    """How it is filled; `oco` is a stop and a target of which one takes the quantity."""
    status: OrderStatus = Field(examples=["filled"])
    """Where it stands; after `sending` it may or may not have reached the venue."""
    quantity: Amount = Field(examples=["0.01"])
    """How much was asked for."""
    price: Amount | None = Field(examples=["27150.5"])
    """Its limit or target price."""
    trigger_price: Amount | None = Field(examples=["26500"])
    """The price that sets its stop off."""
    filled_quantity: Amount = Field(examples=["0.01"])
    """How much of it was filled."""
    average_price: Amount | None = Field(examples=["26850.25"])
    """Average price of what was filled."""
    leg: Leg | None = Field(examples=["stop"])
    """Which leg of an `oco` was filled."""
    fees: list[CurrencyAmount]
    """What the venue took, by currency."""
    reason: CloseReason | None = Field(examples=["take_profit"])
    """For exits: why."""
    attempt: int = Field(examples=[1])
    """How often it was sent."""
    client_order_id: str | None = Field(examples=["3f2a9c0d4b1e48f7a6c5d2e1f0b9a8c7"])
    """Our name for it at the venue."""
    exchange_order_id: str | None = Field(examples=["28412345"])
    """The venue's name for it."""
    code: str | None = Field(examples=["rejected_by_venue"])
    """Why the venue refused it; see GET /v1/denial-codes."""
    message: str | None = Field(examples=["Filled."])
    """What the venue or the engine last said of it."""
    acknowledged_at: Instant | None
    """When the venue first knew of it."""
    filled_at: Instant | None
    """When it was last filled."""
    created_at: Instant
    """When it was intended."""
    updated_at: Instant
    """When the engine last changed it."""

    @classmethod
    def seen(cls, row: rows.Order) -> Self:
        """An order from its row."""
        fees = [CurrencyAmount.kept(currency, amount) for currency, amount in row.fees.items()]
        return cls.of(row, fees=fees)
