"""A database that came from a backup enters nothing until an admin says so, and goes on leaving what it holds."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy.engine import make_url

from app.desk import Desk
from app.domain.exits import CloseReason
from app.domain.owners import Owner, Role
from app.domain.positions import PositionStatus
from app.domain.risk import Mode
from app.engine import closing, halting
from app.local.postgres import package_directory
from app.store import trading
from app.store.executions import ExecutionStatus
from tests.desks import Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, executions, positions, publish
from tests.servers import Databases

ADMIN: Final = Owner(Role.ADMIN, "root")
PROGRAMS: Final = package_directory() / "pginstall" / "bin"


def libpq_url(url: str) -> str:
    """The URL of a database as PostgreSQL's own programs take it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def copy_through_a_backup(source: str, target: str, dump: Path) -> None:
    """Dump one database and restore it into an empty one."""
    subprocess.run([PROGRAMS / "pg_dump", "-Fc", "-f", dump, libpq_url(source)], check=True)
    subprocess.run([PROGRAMS / "pg_restore", "--exit-on-error", "-d", libpq_url(target), dump], check=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "btc.csv", [("20000", "20000", "20000", "20000")] * 300)


@pytest.fixture
async def restored(
    database_url: str, databases: Databases, clock: Clock, recording: Path, tmp_path: Path
) -> AsyncIterator[Desk]:
    """A desk on what a backup holds of an installation with one open position."""
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        await add_connection(desk)
        clock.move(1)
        await publish(desk)
        await execute_all(desk)
    async with databases.fresh(template="template1") as url:
        copy_through_a_backup(database_url, url, tmp_path / "backup")
        async with opened_desk(url, clock, {"BTC/USDT": recording}) as desk:
            yield desk


async def test_a_restored_database_takes_no_entry_until_an_admin_has_set_its_state(restored: Desk) -> None:
    async with restored.sessions() as session:
        switch = await trading.present(session)
    assert (switch.state, switch.reason, switch.set_by) == (Mode.HALTED, trading.RESTORED, None)
    await publish(restored, "s2", symbol="BTC/USDT")
    await execute_all(restored)
    *_, denied = await executions(restored)
    assert (denied.status, denied.code) == (ExecutionStatus.DENIED, "trading_halted")

    [position] = await positions(restored)
    await closing.leave(restored, position.execution_id, CloseReason.MANUAL)
    [position] = await positions(restored)
    assert position.status is PositionStatus.CLOSED, "a halt is never in the way of an exit"

    await halting.set_trading(restored, ADMIN, Mode.ACTIVE, "compared with the venues")
    await publish(restored, "s3")
    await execute_all(restored)
    assert (await executions(restored))[-1].status is ExecutionStatus.EXECUTED


async def test_the_same_database_opened_again_goes_on(
    database_url: str, clock: Clock, recording: Path
) -> None:
    for times in (1, 2):
        async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
            await add_connection(desk, owner=Owner(Role.USER, f"user-{times}"))
            await publish(desk, f"s{times}")
            await execute_all(desk)
            done = [each for each in await executions(desk) if each.status is ExecutionStatus.EXECUTED]
            assert len(done) == times
