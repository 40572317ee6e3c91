"""Orders: every order ever sent or meant to be, with what the venue last said of it."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.exits import CloseReason
from app.domain.money import ZERO
from app.domain.orders import (
    LIVE,
    Leg,
    OrderKey,
    OrderRequest,
    OrderStatus,
    OrderType,
    Purpose,
    Side,
    TriggerSource,
)
from app.domain.positions import Fees, Filled
from app.store.connections import connection_key
from app.store.schema import Amount, Base, Json, Key, Moment, Name, checked


class Order(Base):
    """One thing asked of a venue. `attempt` counts how often it was claimed, and fences every later write."""

    __tablename__ = "execution_orders"

    id: Mapped[Key]
    connection_id: Mapped[UUID] = mapped_column(connection_key(), index=True)
    execution_id: Mapped[UUID] = mapped_column(ForeignKey("execution_logs.id"), index=True)
    position_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("execution_positions.id", deferrable=True, initially="DEFERRED"), index=True
    )
    purpose: Mapped[Purpose] = mapped_column(checked(Purpose, "purpose"))
    symbol: Mapped[Name]
    base: Mapped[Name]
    currency: Mapped[Name]
    side: Mapped[Side] = mapped_column(checked(Side, "side"))
    type: Mapped[OrderType] = mapped_column(checked(OrderType, "type"))
    quantity: Mapped[Amount]
    price: Mapped[Amount | None]
    trigger_price: Mapped[Amount | None]
    trigger_source: Mapped[TriggerSource | None] = mapped_column(checked(TriggerSource, "trigger_source"))
    """Which price reaches the trigger, where the venue offers a choice."""
    reduce_only: Mapped[bool] = mapped_column(default=False)
    expires_at: Mapped[Moment | None]
    stop_loss: Mapped[Amount | None]
    take_profit: Mapped[Amount | None]
    """What an entry carries to the venue beside itself, where orders there can."""
    handle: Mapped[str | None] = mapped_column(String(128))
    """The position an exit was sent for, as the venue named it then."""
    reserved: Mapped[Amount] = mapped_column(default=ZERO)
    """What an entry will need of the free balance, in `currency`, until the venue's own figures include it."""
    reason: Mapped[CloseReason | None] = mapped_column(checked(CloseReason, "reason"))
    """Why it leaves; of an entry, why it is taken back and whatever it fills until then is closed."""
    plan_revision: Mapped[int] = mapped_column(default=1)
    """The revision of the exit plan it was made for."""
    idempotency_key: Mapped[str | None] = mapped_column(String(128))
    """The caller's own key of a close request; a repeated one starts nothing new."""
    status: Mapped[OrderStatus] = mapped_column(checked(OrderStatus, "status"))
    attempt: Mapped[int] = mapped_column(default=0)
    client_order_id: Mapped[str | None] = mapped_column(String(64))
    exchange_order_id: Mapped[str | None] = mapped_column(String(128))
    signed_at: Mapped[Moment | None]
    """The time of the claim; the validity window on the wire counts from it."""
    due_at: Mapped[Moment | None]
    """When somebody has to look after it again; null when final."""
    misses: Mapped[int] = mapped_column(default=0)
    """Clean look-ups of this attempt that found nothing, after the settle time."""
    missed_at: Mapped[Moment | None]
    """When the last of them was; null once the order is seen again."""
    held_back: Mapped[Amount] = mapped_column(server_default=text("0"), default=ZERO)
    """What a close leaves to the next one, because the account could not part with all of it."""
    filled_quantity: Mapped[Amount] = mapped_column(default=ZERO)
    average_price: Mapped[Amount | None]
    leg: Mapped[Leg | None] = mapped_column(checked(Leg, "leg"))
    fees: Mapped[Json] = mapped_column(default=dict)
    """As the venue took them: {"USDT": "0.12"}."""
    fee_rates: Mapped[Json] = mapped_column(default=dict)
    """What a coin that is neither base nor currency cost in `currency` when it was taken: {"BNB": "612.3"}."""
    base_fee: Mapped[Amount] = mapped_column(default=ZERO)
    fee_value: Mapped[Amount] = mapped_column(default=ZERO)
    """All fees in `currency`, as far as a rate was known."""
    fees_complete: Mapped[bool] = mapped_column(default=True)
    profit: Mapped[Amount | None]
    """What the venue booked for an exit before fees, in `currency`; null where prices say it."""
    funding: Mapped[Amount] = mapped_column(server_default=text("0"), default=ZERO)
    """Swap that the venue booked with it, in `currency`; negative is paid."""
    code: Mapped[str | None] = mapped_column(String(64))
    message: Mapped[str | None]
    refused_at: Mapped[Moment | None]
    """When its venue first refused it; its owner is told then, and not of each time that it is sent again."""
    acknowledged_at: Mapped[Moment | None]
    filled_at: Mapped[Moment | None]
    created_at: Mapped[Moment]
    updated_at: Mapped[Moment]

    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity_positive"),
        Index("uq_execution_orders_client_id", "connection_id", "client_order_id", unique=True),
        Index(
            "uq_execution_orders_entry",
            "execution_id",
            unique=True,
            postgresql_where=text("purpose = 'entry'"),
        ),
        # One close to be sent per position is this index, not a lock: whoever comes second is told. One in review
        # may have another beside it, and be found open at the venue then.
        Index(
            "uq_execution_orders_live_close",
            "position_id",
            unique=True,
            postgresql_where=text("purpose = 'close' AND status IN ('pending', 'sending')"),
        ),
        Index(
            "uq_execution_orders_idempotency",
            "position_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("ix_execution_orders_open", "connection_id", postgresql_where=text("status = 'open'")),
        Index("ix_execution_orders_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    @property
    def is_live(self) -> bool:
        """Whether it may still change what we hold."""
        return self.status in LIVE

    @property
    def key(self) -> OrderKey:
        """What the venue is asked by. Only for orders that were claimed."""
        if self.client_order_id is None or self.signed_at is None:
            raise ValueError(f"order {self.id} was never claimed")
        return OrderKey(
            self.client_order_id,
            self.exchange_order_id,
            self.symbol,
            self.type,
            self.signed_at,
            self.handle,
            self.price,
            self.trigger_price,
            self.quantity,
        )

    def request(self) -> OrderRequest:
        """The order as it is put to the venue. Only for orders that were claimed."""
        return OrderRequest(
            client_order_id=self.key.client_order_id,
            symbol=self.symbol,
            side=self.side,
            type=self.type,
            quantity=self.quantity,
            signed_at=self.key.signed_at,
            price=self.price,
            trigger_price=self.trigger_price,
            reduce_only=self.reduce_only,
            expires_at=self.expires_at,
            handle=self.handle,
            stop_loss=self.stop_loss,
            take_profit=self.take_profit,
            trigger_source=self.trigger_source,
        )

    def filled(self) -> Filled | None:
        """What a position folds; None while nothing is filled."""
        if self.average_price is None or self.filled_quantity == ZERO:
            return None
        fees = Fees(self.base_fee, self.fee_value, self.fees_complete)
        return Filled(self.filled_quantity, self.average_price, fees, self.profit)


async def of_execution(session: AsyncSession, execution_id: UUID) -> Sequence[Order]:
    """All orders of an execution, oldest first, as they stand now."""
    rows = await session.scalars(
        select(Order)
        .where(Order.execution_id == execution_id)
        .order_by(Order.created_at, Order.id)
        .execution_options(populate_existing=True)
    )
    return rows.all()


async def open_at_venue(session: AsyncSession, connection_ids: Sequence[UUID]) -> Sequence[Order]:
    """The orders that rest at a venue, entries and protection alike."""
    rows = await session.scalars(
        select(Order)
        .where(Order.connection_id.in_(connection_ids), Order.status == OrderStatus.OPEN)
        .order_by(Order.id)
    )
    return rows.all()


async def resting_entries(
    session: AsyncSession, connection_ids: Sequence[UUID] | None = None
) -> Sequence[Order]:
    """Entries that rest at a venue, not or not wholly filled; of all connections, or of these."""
    wanted = select(Order).where(Order.purpose == Purpose.ENTRY, Order.status == OrderStatus.OPEN)
    if connection_ids is not None:
        wanted = wanted.where(Order.connection_id.in_(connection_ids))
    return (await session.scalars(wanted.order_by(Order.id))).all()


async def doubted_entries(session: AsyncSession, connection_id: UUID) -> Sequence[UUID]:
    """Entries of a connection that may or may not be at its venue."""
    rows = await session.scalars(
        select(Order.id)
        .where(
            Order.connection_id == connection_id,
            Order.purpose == Purpose.ENTRY,
            Order.status.in_((OrderStatus.SENDING, OrderStatus.NEEDS_REVIEW)),
        )
        .order_by(Order.id)
    )
    return rows.all()


async def reserved(session: AsyncSession, connection_id: UUID, currency: str, as_of: datetime) -> Decimal:
    """What our own entries will take from the free balance that the venue told `as_of` does not show yet."""
    unseen = or_(
        Order.status.in_((OrderStatus.SENDING, OrderStatus.NEEDS_REVIEW)),
        Order.acknowledged_at >= as_of,
    )
    total = await session.scalar(
        select(func.sum(Order.reserved)).where(
            Order.connection_id == connection_id,
            Order.purpose == Purpose.ENTRY,
            Order.currency == currency,
            unseen,
        )
    )
    return total or ZERO


async def filled_lately(session: AsyncSession, connection_id: UUID, symbol: str, since: datetime) -> bool:
    """Whether an order of ours in a symbol has been filled since then."""
    found = await session.scalar(
        select(Order.id)
        .where(Order.connection_id == connection_id, Order.symbol == symbol, Order.filled_at >= since)
        .limit(1)
    )
    return found is not None


async def in_review(session: AsyncSession, connection_id: UUID, symbol: str) -> bool:
    """Whether nobody knows what became of an order of ours in a symbol."""
    found = await session.scalar(
        select(Order.id)
        .where(
            Order.connection_id == connection_id,
            Order.symbol == symbol,
            Order.status == OrderStatus.NEEDS_REVIEW,
        )
        .limit(1)
    )
    return found is not None
