"""Locks: whoever changes a trade keeps nobody waiting who does not, and no two ever wait for each other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Update, text, update

from app.domain.market import MarketType
from app.engine import monitoring, sweeping
from app.engine.sweeping import Kind
from app.store import executions
from app.store.positions import Position
from tests.engine.signals import execute_all, positions, publish
from tests.engine.stages import OnPaper, flat, on_paper


@pytest.fixture
async def paper(database_url: str, tmp_path: Path) -> AsyncIterator[OnPaper]:
    async with on_paper(database_url, tmp_path, [*flat("20000", 60), *flat("18900", 900)]) as stage:
        yield stage


async def test_the_sweep_waits_for_nobody_who_changes_a_trade(paper: OnPaper) -> None:
    await paper.connect()
    await publish(paper.desk)
    await execute_all(paper.desk)
    [position] = await positions(paper.desk)
    now = paper.desk.now()
    async with paper.desk.sessions.begin() as session:
        await session.execute(update(Position).values(protect_by=now, protect_due_at=now))
    async with paper.desk.sessions() as holder:
        await executions.locked(holder, position.execution_id)
        async with asyncio.timeout(30):
            found = await sweeping.sweep(paper.desk)
    assert [each.kind for each in found] == [Kind.DEADLINE, Kind.PROTECT]


async def test_marks_lock_positions_in_the_order_of_their_executions(paper: OnPaper) -> None:
    await paper.connect(
        market_type=MarketType.SPOT, leverage=None, sizing={"strategy": "fixed", "value": "0.01"}
    )
    await publish(paper.desk, "rests", order_type="limit", entry_price="19000")
    await publish(paper.desk, "fills")
    await execute_all(paper.desk)
    await paper.rounds(20)
    newer, older = await positions(paper.desk)
    assert newer.execution_id > older.execution_id, "the entry that rested was filled last"
    await paper.advance(6)
    async with paper.desk.sessions() as holder:
        await holder.execute(text("SET LOCAL lock_timeout = '20s'"))
        await holder.execute(_touching(older))
        watching = asyncio.create_task(monitoring.watch(paper.desk))
        await _somebody_waits(paper)
        await holder.execute(_touching(newer))
        await holder.commit()
    assert await watching == 1


def _touching(position: Position) -> Update:
    return update(Position).where(Position.id == position.id).values(updated_at=position.updated_at)


async def _somebody_waits(paper: OnPaper) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(30):
        while True:
            # What others do is told once a transaction.
            async with paper.desk.sessions() as session:
                if await session.scalar(waiting):
                    return
            await asyncio.sleep(0.02)
