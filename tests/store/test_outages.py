"""Outages: a database that is away is told in a line; two transactions in each other's way are told as a mistake."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.api.problems import Unavailable, kind_of
from app.desk import Desk
from app.store.outages import is_clash, is_outage
from tests.desks import Clock, opened_desk
from workers.hands import guarded


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, Clock()) as opened:
        yield opened


async def _lock_both_ways(desk: Desk) -> None:
    """Let two transactions wait for each other until PostgreSQL breaks one of them off. Raises DBAPIError."""
    both_hold = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with desk.sessions.begin() as session:
            await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": first})
            await both_hold.wait()
            await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": second})

    for outcome in await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True):
        if outcome is not None:
            raise outcome


async def test_a_deadlock_may_be_tried_again_and_is_no_outage(desk: Desk) -> None:
    with pytest.raises(DBAPIError) as caught:
        await _lock_both_ways(desk)
    assert is_clash(caught.value)
    assert not is_outage(caught.value)
    assert isinstance(kind_of(caught.value), Unavailable)


async def test_a_job_that_ends_in_a_deadlock_shows_where(desk: Desk) -> None:
    with structlog.testing.capture_logs() as logs:
        await guarded(desk, "both ways", _lock_both_ways(desk))
    assert [(each["event"], each["log_level"]) for each in logs] == [("job_failed", "error")]
    assert logs[0]["exc_info"]


async def test_a_file_that_is_missing_is_no_outage_and_a_server_that_is_away_is_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as missing:
        (tmp_path / "nothing").read_text()
    assert not is_outage(missing.value)
    with pytest.raises(OSError, match="No such file") as away:
        await asyncio.open_unix_connection(tmp_path / "socket")
    assert is_outage(away.value)
