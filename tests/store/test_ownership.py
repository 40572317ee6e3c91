"""The second wall: without any owner clause, PostgreSQL shows a bound session its owner's rows and no others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.paper import book
from app.desk import Desk, Sessions, open_database, open_sessions
from app.domain.owners import Owner, Role
from app.store import ownership, tables
from app.store.schema import Base
from migrations import upgrade_to_head
from tests.api.estate import settle
from tests.api.scene import ANN, BOB, Rows
from tests.desks import Clock, opened_desk
from tests.servers import Databases, running_server

ADMIN_ZOE: Final = Owner(Role.ADMIN, "zoe")

NOBODYS: Final = {"execution_chores", "execution_events", "execution_trading", "execution_workers"}
"""What has no owner: chores, events of the platform, the kill switch, heartbeats."""

TABLES: Final = (tables, book)
"""Importing them is what fills the metadata."""
ALL: Final = Base.metadata.tables
GUARDED: Final = sorted(name for name in ALL if name not in NOBODYS and not name.startswith("paper_"))
"""What owners read; the paper venue's book they read by asking the venue."""


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    """A desk, which no policy holds."""
    async with opened_desk(database_url, Clock()) as opened:
        yield opened


async def _all_of(session: AsyncSession, table: str) -> list[str]:
    """Everything a session sees of a table: the first wall is not there."""
    return sorted(await session.scalars(text(f"SELECT row::text FROM {table} AS row")))


async def _bound(desk: Desk, owner: Owner, table: str) -> list[str]:
    async with ownership.reading(desk.sessions, owner) as session:
        return await _all_of(session, table)


async def test_every_row_of_every_table_is_seen_by_its_owner_and_by_nobody_else(desk: Desk) -> None:
    for owner in (ANN, BOB):
        await settle(Rows(desk.sessions), owner)
    for table in GUARDED:
        async with desk.sessions() as session:
            everything = await _all_of(session, table)
        anns, bobs = [await _bound(desk, owner, table) for owner in (ANN, BOB)]
        assert len(anns) == len(bobs) >= 1, table
        assert sorted(anns + bobs) == everything, table
        for other_role in (Owner(Role.ADMIN, "ann"), Owner(Role.ADMIN, "zoe")):
            expected = everything if table == "execution_signals" else []
            assert await _bound(desk, other_role, table) == expected, table


async def test_what_is_not_held_by_a_policy_cannot_be_read(desk: Desk) -> None:
    owned = {name for name, table in ALL.items() if {"owner_id", "user_id"} & set(table.columns.keys())}
    assert owned <= set(GUARDED)
    async with desk.sessions() as session:
        held = await session.scalars(
            text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relrowsecurity")
        )
        assert set(held) == set(GUARDED)
    for table in ALL.keys() - set(GUARDED):
        with pytest.raises(DBAPIError, match="permission denied"):
            await _bound(desk, ANN, table)


async def test_the_binding_ends_with_its_transaction(desk: Desk) -> None:
    await settle(Rows(desk.sessions), ANN)
    async with desk.sessions() as session:
        await ownership.bind(session, ADMIN_ZOE)
        assert await _all_of(session, "execution_connections") == []
        await session.rollback()
        assert len(await _all_of(session, "execution_connections")) == 2


async def test_a_role_without_an_owner_sees_nothing(desk: Desk) -> None:
    await settle(Rows(desk.sessions), ANN)
    async with desk.sessions() as session:
        await session.execute(text(f"SET LOCAL ROLE {ownership.READER}"))
        for table in (
            "execution_connections",
            "execution_signals",
            "execution_entitlements",
            "execution_audit",
        ):
            assert await _all_of(session, table) == [], table


# A managed PostgreSQL, where nobody of ours is a superuser


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Sessions]:
    database = open_database(url, pool_size=2)
    try:
        yield open_sessions(database)
    finally:
        await database.dispose()


async def _check_held(url: str) -> None:
    """The engine writes for all owners; who is bound reads their own, with no gap."""
    async with _opened(url) as sessions:
        anns, zoes = [await settle(Rows(sessions), owner) for owner in (ANN, ADMIN_ZOE)]
        async with sessions() as session:
            await ownership.bind(session, ANN)
            assert await ownership.gaps(session) == []
            own = await _all_of(session, "execution_positions")
            assert len(own) == 2
            assert all(anns.shows_in(row) and not zoes.shows_in(row) for row in own)
        async with sessions() as session:
            assert len(await _all_of(session, "execution_positions")) == 4


async def test_one_who_may_make_roles_needs_nobody() -> None:
    async with running_server() as spot:
        admin = await asyncpg.connect(spot.url())
        databases = Databases(spot, admin)
        async with databases.managed("CREATEROLE") as url:
            await asyncio.to_thread(upgrade_to_head, url)
            await _check_held(url)
            assert not await admin.fetchval(
                "SELECT rolsuper FROM pg_roles WHERE rolname = $1", ownership.READER
            )
        await databases.close()


async def test_one_who_may_not_is_told_what_to_have_done(databases: Databases) -> None:
    async with databases.managed() as url:
        with pytest.raises(DBAPIError, match=f"may neither make the role {ownership.READER} nor act as it"):
            await asyncio.to_thread(upgrade_to_head, url)
        await databases.administer(f"GRANT {ownership.READER} TO {_user(url)}")
        await asyncio.to_thread(upgrade_to_head, url)
        await _check_held(url)


async def test_another_user_than_the_owner_of_the_tables_works_too(databases: Databases) -> None:
    async with databases.managed() as url:
        await databases.administer(f"GRANT {ownership.READER} TO {_user(url)}")
        await asyncio.to_thread(upgrade_to_head, url)
        app = f"{_user(url)}_app"
        await databases.administer(f"CREATE ROLE {app} LOGIN PASSWORD 'x' IN ROLE {ownership.READER}")
        async with _opened(url) as sessions, sessions.begin() as session:
            granted = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app}"
            await session.execute(text(granted))
        await _check_held(f"postgresql+asyncpg://{app}:x@{url.partition('@')[2]}")


def _user(url: str) -> str:
    return str(make_url(url).username)
