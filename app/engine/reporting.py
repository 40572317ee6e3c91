"""Reporting: the daily rows of every connection, and what the venues say of their accounts when a day ends.

A row's figures are computed from positions, so a day may be reported at any time and as often as one likes.
What a venue said at 00:00 UTC nobody can ask again: it is taken right then, and never overwritten.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers import port
from app.brokers.port import VenueError
from app.desk import Desk
from app.domain import portfolios
from app.domain.errors import EngineError, Invalid
from app.domain.performance import utc_day
from app.domain.portfolios import ONE_DAY, HistoryKey, midnight
from app.engine import strikes
from app.engine.access import broker_of, in_time, snapshots_of
from app.engine.rooms import Rooms, as_they_end
from app.store import analytics
from app.store.connections import Connection, ConnectionStatus
from app.vault import CannotOpen

log = structlog.get_logger(__name__)

BATCH: Final = 500
"""Connections that are read together; a day's rows of so many are computed and written in one transaction."""

ASKED_AT_ONCE: Final = 16
"""Accounts of a venue that are asked for at the same time; fewer than a process has database connections."""

TOGETHER: Final = timedelta(seconds=1)
"""Answers that come within so long are written together."""

SNAPSHOT_WITHIN: Final = timedelta(minutes=15)
"""How long after 00:00 UTC an answer still counts as what the venue said then."""

UNREACHABLE: Final = "The account could not be reached at the last check."
"""The `last_error` of an active connection whose venue does not answer."""

CATCH_UP_DAYS: Final = 31
"""How far back missed days are looked for."""

Told = Sequence[tuple[Connection, port.Account | None]]
"""Connections with what their venues say of the account; None where one does not answer."""


async def report_day(desk: Desk, day: date) -> int:
    """Compute the rows of a completed UTC day, again if need be; answers how many there are.

    Every connection that is active or traded that day has one in each currency that it began with or has
    traded in. Raises Invalid for a day that is not over.
    """
    _check_over(desk, day)
    rows, after = 0, None
    while True:
        async with desk.sessions.begin() as session:
            batch = await analytics.connections_to_report(session, day, after=after, limit=BATCH)
            rows += await _record(desk, session, batch, day, {})
        if len(batch) < BATCH:
            log.info("day_reported", day=day.isoformat(), rows=rows)
            return rows
        after = batch[-1]


async def restate(desk: Desk, connection_id: UUID, day: date) -> None:
    """Compute a connection's rows of a completed day, and of those after it, again: something came to be known late."""
    today = utc_day(desk.now())
    for past in (day + n * ONE_DAY for n in range((today - day).days)):
        async with desk.sessions.begin() as session:
            await _record(desk, session, [connection_id], past, {})


async def catch_up(desk: Desk) -> list[date]:
    """Report the days of the last month that were missed, and yesterday in any case; answers which.

    The month is `CATCH_UP_DAYS` long and begins no earlier than the first activation of all.
    """
    yesterday = utc_day(desk.now()) - ONE_DAY
    async with desk.sessions() as session:
        activated_at = await analytics.first_activation(session)
        if activated_at is None:
            return []
        first_day = max(yesterday - (CATCH_UP_DAYS - 1) * ONE_DAY, utc_day(activated_at))
        reported = await analytics.reported_days(session, first_day, yesterday)
    days = [first_day + n * ONE_DAY for n in range((yesterday - first_day).days + 1)]
    missed = [day for day in days if day not in reported or day == yesterday]
    for day in missed:
        await report_day(desk, day)
    return missed


async def snapshot_balances(desk: Desk, day: date) -> int:
    """Ask the venues of all active connections for their accounts; answers how many of them said.

    To be called right after 00:00 UTC, for the day that has just ended: balance and equity go into its rows,
    unless they are known already, and into the connections. A later answer goes into the connections only.
    Raises Invalid for another day.
    """
    if day != utc_day(desk.now()) - ONE_DAY:
        raise Invalid("day", "Balances can only be asked for the day that has just ended.")

    async def keep(told: Told) -> None:
        accounts = {connection.id: account for connection, account in told if account is not None}
        async with desk.sessions.begin() as session:
            await _keep(session, told)
            await _record(desk, session, [connection.id for connection, _ in told], day, accounts)

    said = await _ask_all(desk, keep)
    log.info("balances_taken", day=day.isoformat(), connections=said)
    return said


async def check_health(desk: Desk) -> int:
    """Ask the venues of all active connections for their accounts and note what they said; answers how many did.

    A connection that cannot be reached says so in `last_error`; its status is its owner's to change.
    """

    async def keep(told: Told) -> None:
        async with desk.sessions.begin() as session:
            await _keep(session, told)
            await _doubt(session, [connection for connection, account in told if account is None])

    return await _ask_all(desk, keep)


def _check_over(desk: Desk, day: date) -> None:
    """A day that has not ended has no final figures."""
    if day >= utc_day(desk.now()):
        raise Invalid("day", f"{day.isoformat()} is not over yet; only completed UTC days are reported.")


async def _record(
    desk: Desk,
    session: AsyncSession,
    connection_ids: Sequence[UUID],
    day: date,
    accounts: Mapping[UUID, port.Account],
) -> int:
    """Compute and write the rows of some connections; answers how many there are."""
    histories = await analytics.histories_on(session, connection_ids, day)
    figures = {
        history.key: statistics
        for history in histories
        for statistics in portfolios.daily([history], [day]).values()
    }
    snapshots = {
        HistoryKey(connection_id, currency): snapshot
        for connection_id, account in accounts.items()
        if account.as_of <= midnight(day + ONE_DAY) + SNAPSHOT_WITHIN
        for currency, snapshot in snapshots_of(account).items()
    }
    await analytics.record(session, day, figures, snapshots, desk.now())
    return len(figures)


async def _active_connections(desk: Desk, after: UUID | None) -> Sequence[Connection]:
    """The next batch of active connections by id, with what it takes to open their brokers."""
    wanted = (
        select(Connection)
        .where(Connection.status == ConnectionStatus.ACTIVE, Connection.deleted_at.is_(None))
        .order_by(Connection.id)
        .limit(BATCH)
    )
    if after is not None:
        wanted = wanted.where(Connection.id > after)
    async with desk.sessions() as session:
        return (await session.scalars(wanted)).all()


async def _ask_all(desk: Desk, keep: Callable[[Told], Awaitable[None]]) -> int:
    """Ask for the accounts of all active connections, and keep what is told as it comes; answers how many told.

    So many are asked at a venue at a time, so that one that does not answer keeps nobody else's from being kept.
    """
    rooms, said, after = Rooms(ASKED_AT_ONCE), 0, None

    async def ask(connection: Connection) -> port.Account | None:
        async with rooms.of(connection.exchange).place():
            return await _ask(desk, connection)

    while batch := await _active_connections(desk, after):
        asking = {asyncio.create_task(ask(connection)): connection for connection in batch}
        try:
            async for told in as_they_end(asking, TOGETHER):
                lot = [(asking[each], each.result()) for each in told]
                await keep(sorted(lot, key=lambda each: each[0].id))
                said += sum(account is not None for _, account in lot)
        finally:
            for each in asking:
                each.cancel()
        after = batch[-1].id
    return said


async def _ask(desk: Desk, connection: Connection) -> port.Account | None:
    """The account as its venue describes it; None when it does not answer."""

    async def ask() -> port.Account:
        return await (await broker_of(desk, connection)).account()

    try:
        account = await in_time(ask())
    except (VenueError, EngineError, CannotOpen) as failure:
        log.warning(
            "balance_unknown",
            connection_id=str(connection.id),
            reason=type(failure).__name__,
            message=str(failure),
        )
        if isinstance(failure, VenueError):
            await strikes.of_read(desk, connection.id, failure)
        return None
    await strikes.answered(desk, connection)
    return account


async def _keep(session: AsyncSession, told: Told) -> None:
    """Write what the venues said into the connections, by id so that no two writers wait for each other."""
    said = [
        {
            "connection": connection.id,
            "version": connection.credentials_version,
            "told": {currency: snapshot.text() for currency, snapshot in snapshots_of(account).items()},
            "moment": account.as_of,
        }
        for connection, account in told
        if account is not None
    ]
    values: dict[str, object] = {
        "balances": bindparam("told"),
        "balances_at": bindparam("moment"),
        "last_error": None,
    }
    await _write(session, values, said)


async def _doubt(session: AsyncSession, silent: Sequence[Connection]) -> None:
    """Write down whose venue did not answer."""
    rows = [{"connection": each.id, "version": each.credentials_version} for each in silent]
    await _write(session, {"last_error": UNREACHABLE}, rows)


async def _write(
    session: AsyncSession, values: Mapping[str, object], rows: Sequence[Mapping[str, object]]
) -> None:
    # A connection that broke or was changed since it was asked has more to say of itself than the answer.
    columns = Connection.__table__.c
    statement = (
        update(Connection.__table__)  # type: ignore[arg-type]
        .where(
            columns.id == bindparam("connection"),
            columns.credentials_version == bindparam("version"),
            columns.status == ConnectionStatus.ACTIVE,
        )
        .values(values)
    )
    if rows:
        await (await session.connection()).execute(statement, list(rows))
