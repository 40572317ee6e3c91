"""Breakdowns: what the trades of a scope can be told apart by."""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain.portfolios import ONE_DAY, midnight
from app.store.analytics import Scope, closed, within
from app.store.connections import Connection
from app.store.positions import Position
from app.store.signals import SignalRow


class Quality(StrEnum):
    """What trades are told apart by."""

    SYMBOL = "symbol"
    PROVIDER = "provider"
    EXCHANGE = "exchange"
    CONNECTION = "connection"


class Account(NamedTuple):
    """What a connection is called, and where it is."""

    name: str
    exchange: str


async def accounts(session: AsyncSession, scope: Scope) -> dict[UUID, Account]:
    """The connections of the scope, deleted ones too."""
    rows = await session.execute(
        select(Connection.id, Connection.name, Connection.exchange).where(within(scope))
    )
    return {row.id: Account(row.name, row.exchange) for row in rows}


_COLUMNS: Final[Mapping[Quality, Any]] = {
    Quality.SYMBOL: Position.symbol,
    Quality.PROVIDER: SignalRow.provider,
}


async def labels(
    session: AsyncSession, scope: Scope, quality: Quality, first_day: date | None, last_day: date
) -> dict[UUID, str]:
    """The symbol, or the provider, of every position closed in these days, by the position's id."""
    start = None if first_day is None else midnight(first_day)
    wanted = (
        closed(scope, start, midnight(last_day + ONE_DAY))
        .join(SignalRow, SignalRow.id == Position.signal_id)
        .with_only_columns(Position.id, _COLUMNS[quality].label("label"))
    )
    return {row.id: row.label for row in await session.execute(wanted)}
