"""Signals: what providers published, one row per (provider, source id)."""

from typing import Any
from uuid import UUID

from sqlalchemy import String, UniqueConstraint, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.money import parse
from app.domain.orders import OrderType, Side
from app.domain.signals import Level, Market, Signal
from app.store.schema import Amount, Base, JsonList, Key, Moment, Name, checked


class SignalRow(Base):
    """A published signal as it came in; what later events say of it stands in `execution_events`."""

    __tablename__ = "execution_signals"

    id: Mapped[Key]
    provider: Mapped[Name]
    source_id: Mapped[Name]
    symbol: Mapped[Name]
    market: Mapped[Market | None] = mapped_column(checked(Market, "market"))
    direction: Mapped[Side] = mapped_column(checked(Side, "direction"))
    order_type: Mapped[OrderType] = mapped_column(checked(OrderType, "order_type"))
    entry_price: Mapped[Amount | None]
    stop_loss: Mapped[Amount | None]
    take_profits: Mapped[JsonList] = mapped_column(default=list)
    quantity: Mapped[Amount | None]
    timeframe: Mapped[str | None] = mapped_column(String(32))
    plans: Mapped[list[str]] = mapped_column(ARRAY(String(64)), default=list)
    published_at: Mapped[Moment]
    """When the source says it published it: its `published_at`, else the event's timestamp."""
    expires_at: Mapped[Moment | None]
    title: Mapped[str | None] = mapped_column(String(200))
    note: Mapped[str | None] = mapped_column(String(4000))
    received_at: Mapped[Moment]

    __table_args__ = (UniqueConstraint("provider", "source_id"),)

    def meaning(self) -> Signal:
        """The signal as the rules read it."""
        return Signal(
            symbol=self.symbol,
            direction=self.direction,
            order_type=self.order_type,
            entry_price=self.entry_price,
            stop_loss=self.stop_loss,
            take_profits=levels_of(self.take_profits),
            quantity=self.quantity,
            market=self.market,
            published_at=self.published_at,
            expires_at=self.expires_at,
        )


def levels_of(stored: list[dict[str, Any]]) -> tuple[Level, ...]:
    """Take-profit levels from the JSON a row keeps."""
    return tuple(Level(parse(level["price"]), parse(level["portion"])) for level in stored)


async def id_of(session: AsyncSession, provider: str, source_id: str) -> UUID | None:
    """Our id of a provider's signal."""
    return await session.scalar(
        select(SignalRow.id).where(SignalRow.provider == provider, SignalRow.source_id == source_id)
    )
