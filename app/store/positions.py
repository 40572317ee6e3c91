"""Positions: what connections hold, one row per execution that was filled."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Numeric, String, cast, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.exits import CloseReason, Grain, Protection, Rung, merging
from app.domain.market import QuantityUnit
from app.domain.money import ZERO, exact, floor_to_step, parse
from app.domain.orders import Leg, TriggerSource
from app.domain.owners import Owner, Role
from app.domain.positions import PositionSide, PositionStatus
from app.store.connections import Connection, connection_key
from app.store.schema import Amount, Base, Json, JsonList, Key, Moment, Name, checked
from app.store.signals import levels_of

DEADLINE = timedelta(seconds=30)
"""How long a stop may be watched by nobody, where the owner says nothing else."""

OPEN = (PositionStatus.OPEN, PositionStatus.CLOSING)
"""States in which something is held."""


class Position(Base):
    """What one execution opened and what is left of it. Money in `currency`; a projection of its orders."""

    __tablename__ = "execution_positions"

    id: Mapped[Key]
    execution_id: Mapped[UUID] = mapped_column(ForeignKey("execution_logs.id"), unique=True)
    signal_id: Mapped[UUID] = mapped_column(ForeignKey("execution_signals.id"), index=True)
    connection_id: Mapped[UUID] = mapped_column(connection_key())
    owner_role: Mapped[Role] = mapped_column(checked(Role, "owner_role"))
    owner_id: Mapped[Name]
    symbol: Mapped[Name]
    currency: Mapped[Name]
    quantity_unit: Mapped[QuantityUnit] = mapped_column(checked(QuantityUnit, "quantity_unit"))
    unit_value: Mapped[Amount] = mapped_column(server_default=text("1"), default=Decimal(1))
    """What a price move of one is worth per unit of quantity, in `currency`, when it was last marked."""
    handle: Mapped[str | None] = mapped_column(String(128))
    """What the venue calls it, for orders that have to say so (see domain/orders.py)."""
    side: Mapped[PositionSide] = mapped_column(checked(PositionSide, "side"))
    quantity: Mapped[Amount]
    remaining_quantity: Mapped[Amount]
    dust: Mapped[Amount] = mapped_column(default=ZERO)
    entry_price: Mapped[Amount]
    exit_price: Mapped[Amount | None]
    current_price: Mapped[Amount | None]
    marked_at: Mapped[Moment | None]
    stop_loss: Mapped[Amount | None]
    stop_reason: Mapped[CloseReason] = mapped_column(
        checked(CloseReason, "stop_reason"), default=CloseReason.STOP_LOSS
    )
    """What leaving at the stop is called: a stop-loss, or a trailing stop."""
    management: Mapped[Json] = mapped_column(default=dict)
    """How its stop moves and how long it is held at most, as its entry was claimed (see domain/stops.py)."""
    best_price: Mapped[Amount | None]
    """The most favourable mark since it was opened."""
    levels: Mapped[JsonList] = mapped_column(default=list)
    """The take-profits as they were asked for: [{"price", "portion"}], nearest first."""
    take_profits: Mapped[JsonList] = mapped_column(default=list)
    """The rungs the levels were cut into: [{"price", "quantity", "filled_quantity"}], nearest first."""
    plan_revision: Mapped[int] = mapped_column(default=1)
    """Counts the owner's edits; an exit order belongs to the ladder of its revision."""
    plan_base: Mapped[Amount] = mapped_column(default=ZERO)
    """What had been closed when the present ladder was set: it applies to what remained then."""
    edited: Mapped[JsonList] = mapped_column(default=list)
    """Which of stop_loss and take_profits the owner has set by hand: no update of the signal changes them."""
    native: Mapped[bool]
    """Whether the venue is to hold stop and targets."""
    refused_leg: Mapped[Leg | None] = mapped_column(checked(Leg, "refused_leg"))
    """What the venue has refused of the present plan: its targets are ours to watch then, or its stop as well."""
    gross_pnl: Mapped[Amount] = mapped_column(default=ZERO)
    fees: Mapped[Amount] = mapped_column(default=ZERO)
    funding: Mapped[Amount] = mapped_column(default=ZERO)
    funding_complete: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    """Whether all that it was charged and paid for being held can be known."""
    realized_pnl: Mapped[Amount] = mapped_column(default=ZERO)
    unrealized_pnl: Mapped[Amount] = mapped_column(default=ZERO)
    pnl_complete: Mapped[bool] = mapped_column(default=True)
    pnl_day: Mapped[date | None]
    """The UTC day that `day_base` is for."""
    day_base: Mapped[Amount] = mapped_column(default=ZERO)
    """Realised and unrealised profit at 00:00 UTC of that day, as last marked before."""
    protection: Mapped[Protection] = mapped_column(checked(Protection, "protection"))
    status: Mapped[PositionStatus] = mapped_column(checked(PositionStatus, "status"))
    close_reason: Mapped[CloseReason | None] = mapped_column(checked(CloseReason, "close_reason"))
    doubtful_quantity: Mapped[Amount] = mapped_column(server_default=text("0"), default=ZERO)
    """What closes in review may have sold already, so that nobody sells it again. 0 where exits only ever reduce: there
    one too many sells nothing."""
    leave_reason: Mapped[CloseReason | None] = mapped_column(checked(CloseReason, "leave_reason"))
    """Why all of it is to be closed as soon as the close under way has ended; null where nobody asks for that."""
    quantity_step: Mapped[Amount]
    price_tick: Mapped[Amount]
    min_quantity: Mapped[Amount]
    min_notional: Mapped[Amount | None]
    """What an order is worth at least, where it might open something."""
    netting: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    """Whether its venue nets what is held, so that exits only ever reduce (see brokers/port.py)."""
    missing_quantity: Mapped[Amount] = mapped_column(default=ZERO)
    """What the venue seemed to hold less than ours at the last look; taken away when the next one agrees."""
    missing_since: Mapped[Moment | None]
    """When that was first seen; null while nothing is missing."""
    foreign_quantity: Mapped[Amount] = mapped_column(default=ZERO)
    """What the venue holds beyond ours on the same side of the symbol: the owner's own, left alone."""
    foreign_orders: Mapped[int] = mapped_column(default=0)
    """How many orders rest in the symbol that are not ours; they are left alone."""
    delisted_at: Mapped[Moment | None]
    """When the venue was first seen without this symbol; null while it is listed."""
    protect_due_at: Mapped[Moment | None]
    """When the venue's protective orders have to be brought in line with the plan; null when they are."""
    trigger_source: Mapped[TriggerSource | None] = mapped_column(checked(TriggerSource, "trigger_source"))
    """Which price its stop and targets go by; null is the price it could be left at."""
    deadline_seconds: Mapped[int] = mapped_column(default=int(DEADLINE.total_seconds()))
    """How long its stop may be watched by nobody before it is closed, as its entry was claimed."""
    unprotected_since: Mapped[Moment | None]
    """Since when a part of it has a stop that nobody watches: from its fill, while the venue's stop is replaced, and
    where neither the venue's word on the stop nor a price to watch it by has come for long."""
    protect_by: Mapped[Moment | None]
    """When it is closed unless its stop is watched by then; null while it is."""
    protected_at: Mapped[Moment | None]
    """Since when all of it is protected; null while it is not, and where it has no stop."""
    stop_seen_at: Mapped[Moment | None]
    """When the venue last showed that it holds the stop, to within a minute; null where it never held one."""
    stop_lost_at: Mapped[Moment | None]
    """When the venue's stop was found gone that nobody here had taken away; null once it is back, or not wanted."""
    stop_doubted_at: Mapped[Moment | None]
    """When its owner was told that the venue has not shown the stop for long; null while it does."""
    price_seen_at: Mapped[Moment | None]
    """When the monitor last had a price that its stop goes by, or knew that its market is closed."""
    price_lost_at: Mapped[Moment | None]
    """When its owner was told that there is no price by which we could watch the stop; null while there is."""
    unprotected_seconds: Mapped[Amount] = mapped_column(default=ZERO)
    """How long it was unprotected in all, without the present time."""
    opened_at: Mapped[Moment]
    closed_at: Mapped[Moment | None]
    created_at: Mapped[Moment]
    updated_at: Mapped[Moment]

    __table_args__ = (
        Index("ix_execution_positions_owner", "owner_role", "owner_id", "id"),
        Index("ix_execution_positions_day", "pnl_day", "connection_id"),
        Index("ix_execution_positions_closed", "connection_id", "closed_at"),
        Index(
            "ix_execution_positions_open",
            "connection_id",
            "symbol",
            postgresql_where=text("status IN ('open', 'closing')"),
        ),
        Index(
            "ix_execution_positions_protect_due",
            "protect_due_at",
            postgresql_where=text("protect_due_at IS NOT NULL"),
        ),
        Index(
            "ix_execution_positions_protect_by",
            "protect_by",
            postgresql_where=text("protect_by IS NOT NULL"),
        ),
    )

    @property
    def owner(self) -> Owner:
        """Whose it is."""
        return Owner(self.owner_role, self.owner_id)

    @property
    def grain(self) -> Grain:
        """How finely it can be left, as the venue said when it was opened."""
        return Grain(self.quantity_step, self.min_quantity, None if self.netting else self.min_notional)

    @property
    @exact
    def at_hand(self) -> Decimal:
        """What may be sold of it now: all that is left, less what may have been sold already; 0 where that is dust."""
        if not self.doubtful_quantity:
            return self.remaining_quantity
        left = floor_to_step(max(self.remaining_quantity - self.doubtful_quantity, ZERO), self.quantity_step)
        return left if self.grain.takes(left, self.current_price or self.entry_price) else ZERO

    @exact
    def begin_day(self, now: datetime) -> None:
        """Before the first change of a UTC day: remember what the profit was when it began."""
        if self.pnl_day != now.date():
            self.day_base = self.realized_pnl + self.unrealized_pnl
            self.pnl_day = now.date()

    def replan(self) -> None:
        """Its plan is another: the monitor watches it until the venue, which may take this one, has acknowledged it."""
        self.protection = Protection.SOFTWARE
        self.refused_leg = None

    def expose(self, now: datetime, since: datetime | None = None) -> None:
        """Its stop is watched by nobody from now on, or has been `since`; nothing changes where that was so already."""
        if self.stop_loss is None:
            return
        if self.unprotected_since is not None and (self.protect_by is not None or not self.is_out_of_sight):
            return
        self.lose_sight(min(since or now, now))
        # The deadline counts from when we know: a fill that is heard of late gets its whole chance.
        self.protect_by = now + timedelta(seconds=self.deadline_seconds)

    def lose_sight(self, since: datetime) -> None:
        """Nobody can tell whether its stop is watched: that counts as unprotected, and by itself closes nothing."""
        if self.unprotected_since is None:
            self.unprotected_since, self.protected_at = since, None

    @property
    def is_out_of_sight(self) -> bool:
        """Its owner was told that there is no price for its stop, or no word of the venue on it."""
        return self.price_lost_at is not None or self.stop_doubted_at is not None

    def miss_stop(self, now: datetime) -> None:
        """An order that held its stop has ended at the venue. While the plan is being mended that is our own doing."""
        if self.protection is Protection.NATIVE and self.stop_lost_at is None:
            self.stop_lost_at = now

    def secure(self, now: datetime) -> None:
        """Its whole stop is watched from now on. What a close in review may have sold is watched by nobody, but nothing
        can be done about that either: it has no deadline."""
        if self.doubtful_quantity:
            self.protect_by = None
            return
        self.end_exposure(now)
        if self.protected_at is None and self.stop_loss is not None:
            self.protected_at = now

    def give_time(self, now: datetime) -> None:
        """Nobody could tell until now what there is to protect: its time counts, its deadline begins anew."""
        if self.protect_by is not None:
            self.end_exposure(now)
            self.expose(now)

    @exact
    def end_exposure(self, now: datetime) -> None:
        """It has no stop to be watched any more, or it has ended: count how long it was unprotected."""
        if self.unprotected_since is not None:
            lasted = Decimal(str((now - self.unprotected_since).total_seconds()))
            self.unprotected_seconds += max(lasted, ZERO)
        self.unprotected_since = self.protect_by = None
        if self.stop_loss is None:
            self.protected_at = None

    @property
    def take_profits_note(self) -> str | None:
        """What became of take-profits too small to be orders of their own; None where there are none."""
        rungs = [Rung(parse(rung["price"]), parse(rung["quantity"])) for rung in self.take_profits]
        return merging(levels_of(self.levels), rungs)

    @property
    def waits_for_a_price(self) -> bool:
        """Plan and venue agree that its stop is ours to watch, and no price has been seen for it yet."""
        return (
            self.unprotected_since is not None
            and self.protection is Protection.SOFTWARE
            and self.protect_due_at is None
        )

    @property
    def rungs_left(self) -> tuple[Rung, ...]:
        """What its targets still have to take, nearest first."""
        return tuple(
            Rung(parse(rung["price"]), left)
            for rung in self.take_profits
            if (left := parse(rung["quantity"]) - parse(rung["filled_quantity"])) > ZERO
        )


def owned_by(owner: Owner) -> Any:
    """The condition that a position is this owner's."""
    return (Position.owner_role == owner.role) & (Position.owner_id == owner.id)


async def of_owner(session: AsyncSession, owner: Owner, position_id: UUID) -> Position | None:
    """The owner's position, or None for anybody else's."""
    return await session.scalar(select(Position).where(Position.id == position_id, owned_by(owner)))


async def locked(session: AsyncSession, position_id: UUID) -> Position | None:
    """The position under its row lock."""
    return await session.scalar(
        select(Position)
        .where(Position.id == position_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


async def open_on(session: AsyncSession, connection_ids: Sequence[UUID]) -> Sequence[Position]:
    """Everything that is held on these connections."""
    rows = await session.scalars(
        select(Position)
        .where(Position.connection_id.in_(connection_ids), Position.status.in_(OPEN))
        .order_by(Position.id)
    )
    return rows.all()


def _lost() -> Any:
    """−(realised + unrealised profit since 00:00 UTC), over positions of that day."""
    return func.sum(Position.day_base - Position.realized_pnl - Position.unrealized_pnl)


async def lost_today(session: AsyncSession, connection_id: UUID, now: datetime) -> dict[str, Decimal]:
    """What a connection has lost since 00:00 UTC, by currency; negative is a gain."""
    rows = await session.execute(
        select(Position.currency, _lost().label("lost"))
        .where(Position.connection_id == connection_id, Position.pnl_day == now.date())
        .group_by(Position.currency)
    )
    return {row.currency: row.lost for row in rows}


async def beyond_daily_loss(session: AsyncSession, now: datetime) -> Sequence[UUID]:
    """Connections that have lost their limit since 00:00 UTC and do not reduce for it yet."""
    limit = cast(Connection.limits["max_daily_loss"].astext, Numeric)
    rows = await session.scalars(
        select(Position.connection_id)
        .join(Connection, Connection.id == Position.connection_id)
        .where(
            Position.pnl_day == now.date(),
            Connection.limits["max_daily_loss"].astext.is_not(None),
            Connection.deleted_at.is_(None),
            or_(Connection.reducing_until.is_(None), Connection.reducing_until <= now),
        )
        .group_by(Position.connection_id, Position.currency, Connection.limits)
        .having(_lost() >= limit)
        .distinct()
    )
    return rows.all()
