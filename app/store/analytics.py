"""Analytics: one row per connection, UTC day and currency, and the trades and capital they are computed from.

Every figure follows from closed positions and from what a connection began with, so it is computed from them
wherever it is wanted: for the rows, for a summary, for today. Only `balance` and `equity`, which a venue says
once, are read back from the rows.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Date,
    Index,
    Numeric,
    Row,
    Select,
    and_,
    case,
    cast,
    exists,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.money import ZERO, kept
from app.domain.owners import Owner
from app.domain.performance import (
    Statistics,
    Trade,
)
from app.domain.portfolios import (
    FIGURES,
    ONE_DAY,
    UNANSWERED,
    History,
    HistoryKey,
    Snapshot,
    midnight,
    published,
)
from app.domain.positions import PositionStatus
from app.store.connections import Connection, ConnectionStatus, connection_key
from app.store.positions import Position
from app.store.schema import Amount, Base, Key, Moment, Name
from app.store.signals import SignalRow

Rows = Select[*tuple[Any, ...]]
"""A question whose columns are read by name."""


Ratio = Annotated[Decimal, mapped_column(Numeric)]
"""A quotient. Its size has no bound, as a denominator may be as small as an amount can be."""


class DailyRow(Base):
    """The performance of a completed UTC day: the fields of `Statistics`, by their definitions.

    `balance` and `equity` are what the venue said when the day ended, and null when it did not answer. A day
    is a period of its own, so what takes several days to be defined (`sharpe`, `sortino`, `calmar`) is null.
    """

    __tablename__ = "execution_analytics"

    id: Mapped[Key]
    connection_id: Mapped[UUID] = mapped_column(connection_key())
    day: Mapped[date] = mapped_column(Date)
    currency: Mapped[Name]
    trades: Mapped[int]
    wins: Mapped[int]
    losses: Mapped[int]
    breakeven: Mapped[int]
    win_rate: Mapped[Amount | None]
    profit_factor: Mapped[Ratio | None]
    gross_profit: Mapped[Amount]
    gross_loss: Mapped[Amount]
    net_pnl: Mapped[Amount]
    fees: Mapped[Amount]
    average_win: Mapped[Amount | None]
    average_loss: Mapped[Amount | None]
    expectancy: Mapped[Amount | None]
    largest_win: Mapped[Amount | None]
    largest_loss: Mapped[Amount | None]
    longest_win_streak: Mapped[int]
    longest_loss_streak: Mapped[int]
    average_holding_seconds: Mapped[Amount | None]
    max_drawdown: Mapped[Amount]
    max_drawdown_percent: Mapped[Ratio | None]
    sharpe: Mapped[Ratio | None]
    sortino: Mapped[Ratio | None]
    calmar: Mapped[Ratio | None]
    balance: Mapped[Amount | None]
    equity: Mapped[Amount | None]
    computed_at: Mapped[Moment]
    """When the row was last found to be different from what it was."""

    __table_args__ = (
        Index("uq_execution_analytics_day", "connection_id", "day", "currency", unique=True),
        Index("ix_execution_analytics_day", "day"),
    )


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose trades are meant: those of all the owner's connections, deleted ones too, or of some of them."""

    owner: Owner
    connection_ids: tuple[UUID, ...] = ()
    """Which, each once; empty for all."""


class ClosedPosition(NamedTuple):
    """A closed position and the provider of its signal."""

    position: Position
    provider: str
    closed_at: datetime

    @property
    def place(self) -> tuple[datetime, UUID]:
        """Where it stands in the order of closing."""
        return self.closed_at, self.position.id


class DayKey(NamedTuple):
    """What a scope's daily row is known by."""

    day: date
    currency: str

    def age(self) -> tuple[int, str]:
        """The place in a list that has the newest day first."""
        return -self.day.toordinal(), self.currency


# What is read for an owner


async def is_owned(session: AsyncSession, scope: Scope) -> bool:
    """Whether all the connections that the scope names are its owner's."""
    if not scope.connection_ids:
        return True
    owned = await session.scalar(select(func.count()).select_from(Connection).where(within(scope)))
    return owned == len(scope.connection_ids)


async def histories_of(
    session: AsyncSession, scope: Scope, first_day: date | None, last_day: date
) -> list[History]:
    """The histories of the scope with their trades of these days; no first day means from the beginning."""
    return await _histories(session, within(scope), first_day, last_day)


async def snapshots_on(session: AsyncSession, scope: Scope, day: date) -> dict[HistoryKey, Snapshot]:
    """What the venues said at the end of a day of the histories that have a row for it."""
    rows = await session.execute(
        select(DailyRow.connection_id, DailyRow.currency, DailyRow.balance, DailyRow.equity)
        .join(Connection, Connection.id == DailyRow.connection_id)
        .where(within(scope), DailyRow.day == day)
    )
    return {HistoryKey(row.connection_id, row.currency): Snapshot(row.balance, row.equity) for row in rows}


async def page_of_days(
    session: AsyncSession,
    scope: Scope,
    first_day: date | None,
    last_day: date,
    *,
    after: DayKey | None,
    limit: int,
) -> dict[DayKey, Snapshot]:
    """The days and currencies that have a row or a trade, by age, each with what the venues said."""
    traded_day = _utc_day(Position.closed_at)
    traded = (
        closed(scope, None if first_day is None else midnight(first_day), midnight(last_day + ONE_DAY))
        .with_only_columns(traded_day.label("day"), Position.currency)
        .group_by(traded_day, Position.currency)
    )
    reported = _reported(scope).where(DailyRow.day.between(first_day or date.min, last_day))

    page: dict[DayKey, Snapshot] = {}
    for row in await session.execute(_by_age(traded, traded_day, Position.currency, after).limit(limit)):
        page[DayKey(row.day, row.currency)] = UNANSWERED
    for row in await session.execute(_by_age(reported, DailyRow.day, DailyRow.currency, after).limit(limit)):
        page[DayKey(row.day, row.currency)] = Snapshot(row.balance, row.equity)
    return {key: page[key] for key in sorted(page, key=DayKey.age)[:limit]}


async def closed_positions(
    session: AsyncSession,
    scope: Scope,
    start: datetime | None,
    end: datetime,
    *,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[ClosedPosition]:
    """Positions closed in [start, end), by `closed_at` then id, from behind a place on."""
    wanted: Rows = (
        closed(scope, start, end)
        .join(SignalRow, SignalRow.id == Position.signal_id)
        .with_only_columns(Position, SignalRow.provider, Position.closed_at)
        .order_by(Position.closed_at, Position.id)
        .limit(limit)
    )
    if after is not None:
        wanted = wanted.where(tuple_(Position.closed_at, Position.id) > after)
    return [ClosedPosition(*row) for row in await session.execute(wanted)]


# What the engine reads of all owners, and writes


async def connections_to_report(
    session: AsyncSession, day: date, *, after: UUID | None, limit: int
) -> Sequence[UUID]:
    """Connections that a day has rows for, by id: active, or traded that day, or with a row already."""
    wanted = select(Connection.id).where(
        or_(
            _IS_ACTIVE & (Connection.first_activated_at < midnight(day + ONE_DAY)),
            exists().where(
                Position.connection_id == Connection.id, _closed_in(midnight(day), midnight(day + ONE_DAY))
            ),
            exists().where(DailyRow.connection_id == Connection.id, DailyRow.day == day),
        )
    )
    if after is not None:
        wanted = wanted.where(Connection.id > after)
    return (await session.scalars(wanted.order_by(Connection.id).limit(limit))).all()


async def histories_on(session: AsyncSession, connection_ids: Sequence[UUID], day: date) -> list[History]:
    """The histories of these connections, whoever's they are, with their trades of one day."""
    return await _histories(session, Connection.id.in_(connection_ids), day, day)


async def first_activation(session: AsyncSession) -> datetime | None:
    """When the first of all connections was activated; None when none ever was."""
    return await session.scalar(select(func.min(Connection.first_activated_at)))


async def reported_days(session: AsyncSession, first_day: date, last_day: date) -> set[date]:
    """Which of these days have a row, and one for every history that traded."""
    traded_day = _utc_day(Position.closed_at)
    unreported = select(traded_day).where(
        _closed_in(midnight(first_day), midnight(last_day + ONE_DAY)),
        ~exists().where(
            DailyRow.connection_id == Position.connection_id,
            DailyRow.day == traded_day,
            DailyRow.currency == Position.currency,
        ),
    )
    reported = select(DailyRow.day).where(DailyRow.day.between(first_day, last_day))
    return set(await session.scalars(reported.distinct())) - set(await session.scalars(unreported.distinct()))


async def record(
    session: AsyncSession,
    day: date,
    figures: Mapping[HistoryKey, Statistics],
    snapshots: Mapping[HistoryKey, Snapshot],
    now: datetime,
) -> None:
    """Write rows of a day. A balance or equity once known stays; a row that says the same is not touched."""
    rows = [
        {
            **key._asdict(),
            "day": day,
            **published(figures[key]),
            **snapshots.get(key, UNANSWERED)._asdict(),
            "computed_at": now,
        }
        for key in sorted(figures)
    ]
    if rows:
        # Without render_nulls a statement is sent for every run of rows that are null in the same columns.
        await session.execute(_upsert(), rows, execution_options={"render_nulls": True})


def _upsert() -> Insert:
    """Insert a row, or bring its figures up to date and fill in what it lacks of balance and equity."""
    new = insert(DailyRow)
    old = DailyRow.__table__.columns
    values: dict[str, ColumnElement[Any]] = {name: new.excluded[name] for name in FIGURES}
    values |= {name: func.coalesce(old[name], new.excluded[name]) for name in Snapshot._fields}
    return new.on_conflict_do_update(
        index_elements=["connection_id", "day", "currency"],
        set_={**values, "computed_at": new.excluded.computed_at},
        where=or_(*(old[name].is_distinct_from(value) for name, value in values.items())),
    )


# How the questions are put together

_IS_ACTIVE: Final = (Connection.status == ConnectionStatus.ACTIVE) & Connection.deleted_at.is_(None)


def within(scope: Scope) -> ColumnElement[bool]:
    """The condition that a connection is of the scope: its owner's, deleted or not."""
    owned = and_(Connection.owner_role == scope.owner.role, Connection.owner_id == scope.owner.id)
    return owned & Connection.id.in_(scope.connection_ids) if scope.connection_ids else owned


def _closed_in(start: datetime | None, end: datetime) -> ColumnElement[bool]:
    """The condition that a position was closed in [start, end); no start means ever before the end."""
    closed = and_(Position.status == PositionStatus.CLOSED, Position.closed_at < end)
    return closed if start is None else closed & (Position.closed_at >= start)


def closed(scope: Scope, start: datetime | None, end: datetime) -> Rows:
    """The positions of the scope closed in [start, end)."""
    return (
        select(Position)
        .join(Connection, Connection.id == Position.connection_id)
        .where(within(scope), _closed_in(start, end))
    )


def _reported(scope: Scope) -> Rows:
    """The days and currencies of the scope's rows, with the sums of what the venues said."""
    return (
        select(
            DailyRow.day,
            DailyRow.currency,
            _sum_of_all(DailyRow.balance).label("balance"),
            _sum_of_all(DailyRow.equity).label("equity"),
        )
        .join(Connection, Connection.id == DailyRow.connection_id)
        .where(within(scope))
        .group_by(DailyRow.day, DailyRow.currency)
    )


def _sum_of_all(column: Any) -> ColumnElement[Decimal | None]:
    """The sum, null as soon as one is null."""
    return case((func.count(column) == func.count(), func.sum(column)), else_=None)


def _by_age(wanted: Rows, day: Any, currency: Any, after: DayKey | None) -> Rows:
    """In the order of `DayKey.age`, whatever the database's collation is, and beginning after a place."""
    currency = currency.collate("C")
    if after is not None:
        wanted = wanted.where(or_(day < after.day, and_(day == after.day, currency > after.currency)))
    return wanted.order_by(day.desc(), currency)


def _utc_day(moment: Any) -> ColumnElement[date]:
    """The UTC day of a timestamptz, whatever the session's zone is."""
    return cast(func.timezone("UTC", moment), Date)


class _Earlier(NamedTuple):
    """What a history earned before some day, and when it closed its first trade."""

    net_pnl: Decimal
    since: datetime


async def _histories(
    session: AsyncSession, within: ColumnElement[bool], first_day: date | None, last_day: date
) -> list[History]:
    """The histories of the connections that meet a condition, in three queries however many they are."""
    start = None if first_day is None else midnight(first_day)
    trades = await _trades(session, within, start, midnight(last_day + ONE_DAY))
    earlier = {} if start is None else await _earlier(session, within, start)
    traded = defaultdict(set)
    for key in (*trades, *earlier):
        traded[key.connection_id].add(key.currency)

    holders = select(
        Connection.id,
        _IS_ACTIVE.label("is_active"),
        Connection.first_activated_at,
        Connection.starting_balances,
        Connection.balances,
    ).where(within)
    histories = []
    for holder in await session.execute(holders.order_by(Connection.id)):
        for currency in sorted(traded[holder.id] | _began_with(holder)):
            key = HistoryKey(holder.id, currency)
            histories.append(_history(holder, key, trades.get(key, []), earlier.get(key)))
    return histories


def _history(
    holder: Row[*tuple[Any, ...]], key: HistoryKey, trades: Sequence[Trade], earlier: _Earlier | None
) -> History:
    """Put a history together from its connection and its trades."""
    is_known = holder.first_activated_at is not None and key.currency in holder.starting_balances
    beginnings = [
        *([holder.first_activated_at] if is_known else []),
        *([earlier.since] if earlier else []),
        *(trade.closed_at for trade in trades[:1]),
    ]
    return History(
        key=key,
        is_active=holder.is_active,
        since=min(beginnings),
        starting_balance=kept(holder.starting_balances[key.currency]) if is_known else None,
        earlier=earlier.net_pnl if earlier else ZERO,
        trades=trades,
        snapshot=Snapshot.parse(holder.balances.get(key.currency, {})),
    )


def _began_with(holder: Row[*tuple[Any, ...]]) -> set[str]:
    """The currencies that a connection held when it was first activated."""
    if holder.first_activated_at is None:
        return set()
    return {currency for currency, amount in holder.starting_balances.items() if kept(amount)}


async def _trades(
    session: AsyncSession, within: ColumnElement[bool], start: datetime | None, end: datetime
) -> dict[HistoryKey, list[Trade]]:
    """The positions closed in [start, end) as trades, by `closed_at` then id."""
    wanted: Rows = (
        select(
            Position.connection_id,
            Position.currency,
            Position.id,
            Position.opened_at,
            Position.closed_at,
            Position.gross_pnl,
            Position.fees,
            Position.funding,
            Position.realized_pnl,
        )
        .join(Connection, Connection.id == Position.connection_id)
        .where(within, _closed_in(start, end))
        .order_by(Position.closed_at, Position.id)
    )
    trades = defaultdict(list)
    for connection_id, currency, *trade in await session.execute(wanted):
        trades[HistoryKey(connection_id, currency)].append(Trade(*trade))
    return dict(trades)


async def _earlier(
    session: AsyncSession, within: ColumnElement[bool], before: datetime
) -> dict[HistoryKey, _Earlier]:
    """What each history earned with the positions closed before a moment."""
    wanted: Rows = (
        select(
            Position.connection_id,
            Position.currency,
            func.sum(Position.realized_pnl),
            func.min(Position.closed_at),
        )
        .join(Connection, Connection.id == Position.connection_id)
        .where(within, _closed_in(None, before))
        .group_by(Position.connection_id, Position.currency)
    )
    return {
        HistoryKey(connection_id, currency): _Earlier(net_pnl, since)
        for connection_id, currency, net_pnl, since in await session.execute(wanted)
    }
