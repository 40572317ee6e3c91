"""Watches: one worker at a time looks after a connection, and a dead one's are taken over within seconds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from uuid import UUID

import pytest
from sqlalchemy import select

from app.desk import Desk
from app.engine import watches
from app.store import connections
from app.store.connections import Connection
from tests.desks import Clock, add_connection, opened_desk


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock) as desk:
        yield desk


async def test_what_one_worker_watches_another_leaves_alone(desk: Desk) -> None:
    one, two = [(await add_connection(desk)).id for _ in range(2)]
    async with watches.held(desk, [one]) as first, watches.held(desk, [one, two]) as second:
        assert (first.held, second.held) == ({one}, {two})


async def test_a_round_that_ends_leaves_its_connections_to_the_next(desk: Desk, clock: Clock) -> None:
    known = (await add_connection(desk)).id
    async with watches.held(desk, [known]):
        clock.move(3)
    async with watches.held(desk, [known]) as too_soon:
        assert too_soon.held == set()
    clock.move((desk.monitor_every / 2).total_seconds())
    async with watches.held(desk, [known]) as taken:
        assert taken.held == {known}


async def test_a_dead_workers_connections_are_taken_over_and_what_it_does_late_changes_nothing(
    desk: Desk, clock: Clock
) -> None:
    known = (await add_connection(desk)).id
    async with AsyncExitStack() as stopped:
        assert (await stopped.enter_async_context(watches.held(desk, [known]))).held == {known}
        clock.move(watches.LEASE.total_seconds() - 1)
        async with watches.held(desk, [known]) as too_soon:
            assert too_soon.held == set()
        clock.move(1)
        async with watches.held(desk, [known]) as taken_over:
            assert taken_over.held == {known}
            until = desk.now() + watches.LEASE
            await stopped.aclose()
            assert await _taken_until(desk) == until, "it has given away what was another's"


async def test_a_long_round_keeps_its_connections(desk: Desk, clock: Clock) -> None:
    known = (await add_connection(desk)).id
    async with watches.held(desk, [known]):
        first = await _taken_until(desk)
        clock.move(watches.LEASE.total_seconds() - 1)
        async with asyncio.timeout(30):
            while await _taken_until(desk) == first:
                await asyncio.sleep(0.05)
        clock.move(2)
        async with watches.held(desk, [known]) as other:
            assert other.held == set()


async def test_a_row_that_somebody_stands_still_with_keeps_nobody_from_the_others(desk: Desk) -> None:
    one, two = [(await add_connection(desk)).id for _ in range(2)]
    async with desk.sessions.begin() as session:
        await connections.locked(session, one)
        async with asyncio.timeout(4):
            async with watches.held(desk, [one, two]) as taken:
                assert taken.held == {two}
    async with desk.sessions.begin() as session:
        async with watches.held(desk, [one, two]) as taken:
            assert taken.held == {one}
            await connections.locked(session, one)
            stuck = await _until(desk, one)
        assert await _until(desk, one) == stuck, "its lease ends by itself"


async def _until(desk: Desk, connection_id: UUID) -> datetime | None:
    async with desk.sessions() as session:
        return (await session.get_one(Connection, connection_id)).watch_due_at


async def _taken_until(desk: Desk) -> object:
    async with desk.sessions() as session:
        return await session.scalar(select(Connection.watch_due_at))
