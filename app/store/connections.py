"""Connections: an owner's accounts at venues."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ForeignKey,
    Index,
    LargeBinary,
    String,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.market import MarketType
from app.domain.owners import Owner, Role
from app.domain.risk import Mode
from app.store.schema import Amount, Base, Json, Key, Moment, Name, checked


class Kind(StrEnum):
    """What sort of venue a connection leads to."""

    CRYPTO = "crypto"
    FX = "fx"
    PAPER = "paper"


class ConnectionStatus(StrEnum):
    """`active` receives signals. The status gates entries only: what is open stays watched and closable."""

    INACTIVE = "inactive"
    TESTING = "testing"
    ACTIVE = "active"
    ERROR = "error"


class Strike(StrEnum):
    """What counts against a connection while it happens in a row; named like its column's beginning."""

    REFUSED = "refused"
    """The venue refused the credentials."""
    DOUBTED = "doubted"
    """Nobody knows what became of an order."""
    BANNED = "banned"
    """The venue shut us out."""


_ANY_STRIKE = "refused_in_a_row + doubted_in_a_row + banned_in_a_row > 0"


class Connection(Base):
    """One account of one owner. Deleting keeps the row (executions are for ever) and wipes the credentials."""

    __tablename__ = "execution_connections"

    id: Mapped[Key]
    owner_role: Mapped[Role] = mapped_column(checked(Role, "owner_role"))
    owner_id: Mapped[Name]
    name: Mapped[str] = mapped_column(String(100))
    kind: Mapped[Kind] = mapped_column(checked(Kind, "kind"))
    exchange: Mapped[Name]
    market_type: Mapped[MarketType] = mapped_column(checked(MarketType, "market_type"))
    sandbox: Mapped[bool] = mapped_column(default=False)
    credentials_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    credentials_version: Mapped[int] = mapped_column(default=1)
    credentials_hint: Mapped[str | None] = mapped_column(String(16))
    paper: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    sizing: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    limits: Mapped[Json] = mapped_column(default=dict)
    protection: Mapped[Json] = mapped_column(default=dict)
    leverage: Mapped[Amount | None]
    margin_mode: Mapped[str | None] = mapped_column(String(16))
    symbol_map: Mapped[Json] = mapped_column(default=dict)
    status: Mapped[ConnectionStatus] = mapped_column(
        checked(ConnectionStatus, "status"), default=ConnectionStatus.INACTIVE
    )
    mode: Mapped[Mode] = mapped_column(checked(Mode, "mode"), default=Mode.ACTIVE)
    """What people set; `mode_at` says what holds."""
    reducing_until: Mapped[Moment | None]
    """Until when it only reduces by itself, for the loss of the day."""
    last_error: Mapped[str | None]
    last_tested_at: Mapped[Moment | None]
    last_used_at: Mapped[Moment | None]
    tested_version: Mapped[int | None]
    """The credentials version that last passed a test."""
    account_identity: Mapped[str | None] = mapped_column(String(128))
    """The venue and its name for the account, as the last passed test told it."""
    first_activated_at: Mapped[Moment | None]
    starting_balances: Mapped[Json] = mapped_column(default=dict)
    """Balance per currency at the first activation; analytics count from it."""
    balances: Mapped[Json] = mapped_column(default=dict)
    """What the venue last said, per currency: {"USDT": {"balance": "10", "equity": "10"}}."""
    balances_at: Mapped[Moment | None]
    refused_in_a_row: Mapped[int] = mapped_column(default=0)
    """How often the venue has refused the credentials since it last accepted them."""
    doubted_in_a_row: Mapped[int] = mapped_column(default=0)
    """How many orders have been left in doubt since one was acknowledged."""
    banned_in_a_row: Mapped[int] = mapped_column(default=0)
    """How often the venue has said that we are shut out since it last answered."""
    watch_due_at: Mapped[Moment | None]
    """When the monitor may look again: the lease that keeps two workers off the same account."""
    arrivals_due_at: Mapped[Moment | None]
    """When its resting entries may be looked at again between the monitor's rounds: a lease like the one above."""
    reconcile_due_at: Mapped[Moment | None]
    """When our books are held against the venue's again; null is at the next round."""
    funding_due_at: Mapped[Moment | None]
    """When the venue is asked what it has charged for holding; null while there is nothing to ask about."""
    funding_heard_at: Mapped[Moment | None]
    """When it last said."""
    created_at: Mapped[Moment]
    updated_at: Mapped[Moment]
    deleted_at: Mapped[Moment | None]

    __table_args__ = (
        Index("ix_execution_connections_owner", "owner_role", "owner_id", "id"),
        Index(
            "ix_execution_connections_active",
            "status",
            postgresql_where=text("status = 'active' AND deleted_at IS NULL"),
        ),
        Index(
            "ix_execution_connections_reconcile",
            "reconcile_due_at",
            postgresql_where=text("reconcile_due_at IS NOT NULL"),
        ),
        Index(
            "ix_execution_connections_funding",
            "funding_due_at",
            postgresql_where=text("funding_due_at IS NOT NULL"),
        ),
        Index(
            "uq_execution_connections_account",
            "sandbox",
            "market_type",
            "account_identity",
            unique=True,
            postgresql_where=text("status = 'active' AND deleted_at IS NULL"),
        ),
        Index("ix_execution_connections_strikes", "id", postgresql_where=text(_ANY_STRIKE)),
    )

    @property
    def owner(self) -> Owner:
        """Whose it is."""
        return Owner(self.owner_role, self.owner_id)

    def reduces_by_itself(self, now: datetime) -> bool:
        """Whether the loss of the day keeps it from entering."""
        return self.reducing_until is not None and now < self.reducing_until

    def mode_at(self, now: datetime) -> Mode:
        """How far it may trade: what people set, or stricter for the loss of the day."""
        by_itself = Mode.REDUCING if self.reduces_by_itself(now) else Mode.ACTIVE
        return max(self.mode, by_itself, key=lambda mode: mode.strictness)

    def strikes(self, kind: Strike) -> int:
        """How many of a kind there are in a row."""
        return {
            Strike.REFUSED: self.refused_in_a_row,
            Strike.DOUBTED: self.doubted_in_a_row,
            Strike.BANNED: self.banned_in_a_row,
        }[kind]

    @property
    def is_tested(self) -> bool:
        """Whether the present credentials have passed a test."""
        return self.tested_version == self.credentials_version


def owned_by(owner: Owner) -> Any:
    """The condition that a connection is this owner's and not deleted."""
    return (
        (Connection.owner_role == owner.role)
        & (Connection.owner_id == owner.id)
        & Connection.deleted_at.is_(None)
    )


async def of_owner(session: AsyncSession, owner: Owner, connection_id: UUID) -> Connection | None:
    """The owner's connection, or None for anybody else's."""
    return await session.scalar(select(Connection).where(Connection.id == connection_id, owned_by(owner)))


async def locked(session: AsyncSession, connection_id: UUID) -> Connection | None:
    """The connection under its row lock: everything that counts against a limit queues here."""
    return await session.scalar(
        select(Connection).where(Connection.id == connection_id).with_for_update(key_share=True)
    )


async def count_of_owner(session: AsyncSession, owner: Owner) -> int:
    """How many connections the owner has."""
    return await session.scalar(select(func.count()).select_from(Connection).where(owned_by(owner))) or 0


async def exchanges(session: AsyncSession, connection_ids: Collection[UUID]) -> Mapping[UUID, str]:
    """The exchange of each of these connections."""
    if not connection_ids:
        return {}
    rows = await session.execute(
        select(Connection.id, Connection.exchange).where(Connection.id.in_(connection_ids))
    )
    return dict(rows.all())


async def claim_watch(
    session: AsyncSession, connection_ids: Sequence[UUID], now: datetime, until: datetime
) -> set[UUID]:
    """Take those connections that nobody else watches at the moment, until `until`.

    One whose row is locked is left out: whoever stands still with it keeps nobody from the others.
    """
    return await _claim(session, Connection.watch_due_at, connection_ids, now, until)


async def claim_arrivals(
    session: AsyncSession, connection_ids: Collection[UUID], now: datetime, until: datetime
) -> set[UUID]:
    """The same for a look at resting entries."""
    return await _claim(session, Connection.arrivals_due_at, connection_ids, now, until)


async def _claim(
    session: AsyncSession, due_at: Any, connection_ids: Collection[UUID], now: datetime, until: datetime
) -> set[UUID]:
    free = _unlocked(
        Connection.id.in_(connection_ids),
        Connection.deleted_at.is_(None),
        or_(due_at.is_(None), due_at <= now),
    )
    claimed = await session.scalars(
        update(Connection).where(Connection.id.in_(free)).values({due_at: until}).returning(Connection.id)
    )
    return set(claimed)


async def move_watch(
    session: AsyncSession, connection_ids: Sequence[UUID], held_until: datetime, until: datetime
) -> set[UUID]:
    """Move what is taken until `held_until` to `until`; answers what nobody else has taken meanwhile.

    One whose row is locked is left out.
    """
    free = _unlocked(Connection.id.in_(connection_ids), Connection.watch_due_at == held_until)
    moved = await session.scalars(
        update(Connection).where(Connection.id.in_(free)).values(watch_due_at=until).returning(Connection.id)
    )
    return set(moved)


def _unlocked(*conditions: Any) -> Any:
    """The ids of connections that nobody has locked, locked in one order."""
    return (
        select(Connection.id)
        .where(*conditions)
        .order_by(Connection.id)
        .with_for_update(skip_locked=True, key_share=True)
        .scalar_subquery()
    )


def _count_of(kind: Strike) -> Any:
    return {
        Strike.REFUSED: Connection.refused_in_a_row,
        Strike.DOUBTED: Connection.doubted_in_a_row,
        Strike.BANNED: Connection.banned_in_a_row,
    }[kind]


async def add_strike(session: AsyncSession, connection_id: UUID, kind: Strike) -> None:
    """Count one more in a row."""
    await session.execute(
        update(Connection)
        .where(Connection.id == connection_id)
        .values({_count_of(kind): _count_of(kind) + 1})
        .execution_options(synchronize_session=False)
    )


async def clear_strikes(session: AsyncSession, connection_id: UUID, kinds: Collection[Strike]) -> None:
    """Begin to count these kinds anew; where nothing counts, nothing is written."""
    await session.execute(
        update(Connection)
        .where(Connection.id == connection_id, or_(*(_count_of(kind) > 0 for kind in kinds)))
        .values({_count_of(kind): 0 for kind in kinds})
        .execution_options(synchronize_session=False)
    )


async def struck(session: AsyncSession, limits: Mapping[Strike, int]) -> Sequence[UUID]:
    """Connections with as many strikes as a limit that are not in error yet."""
    rows = await session.scalars(
        select(Connection.id)
        .where(
            text(_ANY_STRIKE),
            or_(*(_count_of(kind) >= most for kind, most in limits.items())),
            Connection.status.in_((ConnectionStatus.ACTIVE, ConnectionStatus.INACTIVE)),
            Connection.deleted_at.is_(None),
        )
        .order_by(Connection.id)
    )
    return rows.all()


async def reconcile_at(session: AsyncSession, connection_id: UUID, due_at: datetime | None) -> None:
    """Set when its books are held against the venue's again; None is at the next round."""
    await session.execute(
        update(Connection).where(Connection.id == connection_id).values(reconcile_due_at=due_at)
    )


def connection_key() -> Any:
    """The foreign key every row of an account carries."""
    return ForeignKey("execution_connections.id", ondelete="RESTRICT")
