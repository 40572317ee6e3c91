"""Everything of one machine, running: the embedded servers, the migrated database, the API and a worker."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import asyncpg
from dotenv import dotenv_values
from sqlalchemy.exc import SQLAlchemyError

from app.local.directory import (
    LOCAL_PASSWORD,
    LOCAL_URL,
    held,
    kept_secrets,
    made_directory,
    write_settings,
)
from app.local.parts import LocalFailure, Part, unprivileged_account
from app.local.postgres import PostgresSpot, prepared_postgres
from app.local.supervisor import Supervisor, supervised
from app.local.valkey import ValkeySpot, prepared_valkey
from app.settings import Settings, settings_from, variable_name
from migrations import upgrade_to_head

_DATABASE_URL: Final = variable_name("database_url")
_REDIS_URL: Final = variable_name("redis_url")
_LOG_FORMAT: Final = variable_name("log_format")
_CANDLES: Final = variable_name("candles")
_CANDLES_SPEED: Final = variable_name("candles_speed")
_CANDLES_STARTED_AT: Final = variable_name("candles_started_at")
_CLOSING_SECONDS: Final = 5
_WORKER_CLOSING_SECONDS: Final = 150
"""Only an order that is on its way takes long: it is seen to its end."""


@dataclass(frozen=True)
class Wishes:
    """What the person who starts an installation asks for."""

    data: Path = Path(".engine")
    host: str = "127.0.0.1"
    port: int = 8000
    """0: any free one."""
    candles: Mapping[str, Path] = field(default_factory=dict)
    """Recordings the paper market plays: unified symbol to CSV file."""
    speed: Decimal = Decimal(1)
    """Candles a second."""
    quiet: bool = False
    """Whether the logs of the API and the worker go to files of the data directory instead of ours."""


@dataclass(frozen=True)
class Installation:
    """A running installation."""

    settings: Settings
    url: str
    """Where the API answers, without a slash at its end."""
    data: Path
    processes: Callable[[], dict[str, int]]
    """Answers the process id of every part by its name: postgres, valkey, api, worker."""


@asynccontextmanager
async def running(wishes: Wishes) -> AsyncIterator[Installation]:
    """Run everything for as long as the body lasts, and stop it however the body is left.

    Raises LocalFailure when it cannot start or go on, InvalidSettings for a bad variable, StopRequested when
    Ctrl-C, SIGTERM or SIGHUP asks for the end. In the last case, and when a part keeps dying, the body is
    cancelled.
    """
    given = _given_environment()
    account = None if _DATABASE_URL in given else unprivileged_account()
    directory = await made_directory(wishes.data, account)
    with held(directory):
        url, port = _free_address(wishes.host, wishes.port)
        kept = {**kept_secrets(directory, given), LOCAL_URL: url}
        async with supervised() as supervisor:
            kept |= await _start_servers(supervisor, directory, kept[LOCAL_PASSWORD], given)
            # Before anything uses them; the recordings, added below, begin to play only after the migration.
            await _migrate(settings_from({**kept, **given}))
            played = _played(wishes, given)
            write_settings(directory, {**kept, **played})
            environment = {_LOG_FORMAT: "console", **kept, **given, **played}
            settings = settings_from(environment)
            for part in _processes_of_ours(wishes, port, directory, environment):
                await supervisor.start(part)
            yield Installation(settings, url, directory, supervisor.processes)


def _given_environment() -> dict[str, str]:
    """Answer what the environment and `.env` say, without what they leave empty."""
    return {name: value for name, value in {**dotenv_values(".env"), **os.environ}.items() if value}


async def _start_servers(
    supervisor: Supervisor, directory: Path, password: str, given: Mapping[str, str]
) -> dict[str, str]:
    """Start the embedded servers for which no URL is given; answer the variables that name theirs."""
    urls: dict[str, str] = {}
    if _DATABASE_URL not in given:
        postgres = PostgresSpot(
            directory, _free_port(), password, durable=True, log=_fresh_log(directory, "postgres")
        )
        await supervisor.start(await prepared_postgres(postgres))
        urls[_DATABASE_URL] = postgres.url()
    if _REDIS_URL not in given:
        valkey = ValkeySpot(
            directory, _free_port(), password, durable=True, log=_fresh_log(directory, "valkey")
        )
        await supervisor.start(prepared_valkey(valkey))
        urls[_REDIS_URL] = valkey.url
    return urls


async def _migrate(settings: Settings) -> None:
    """Bring the database to the newest revision; raises LocalFailure when it cannot be reached or refuses."""
    try:
        await asyncio.to_thread(upgrade_to_head, settings.database_url.get_secret_value())
    except (OSError, SQLAlchemyError, asyncpg.PostgresError) as error:
        raise LocalFailure(f"The database cannot be migrated: {error}") from error


def _processes_of_ours(
    wishes: Wishes, port: int, directory: Path, environment: Mapping[str, str]
) -> tuple[Part, Part]:
    """Answer the API and the worker, as production runs them."""
    api = Part(
        name="api",
        command=(
            *(sys.executable, "-m", "uvicorn", "app.main:app"),
            *("--host", wishes.host, "--port", str(port)),
            *("--timeout-graceful-shutdown", str(_CLOSING_SECONDS)),
        ),
        ready=lambda _process: _listens(wishes.host, port),
        environment=environment,
        log=_fresh_log(directory, "api") if wishes.quiet else None,
    )
    worker = Part(
        name="worker",
        command=(sys.executable, "-m", "workers.main"),
        ready=_at_once,
        stop_seconds=_WORKER_CLOSING_SECONDS,
        environment=environment,
        log=_fresh_log(directory, "worker") if wishes.quiet else None,
    )
    return api, worker


def _played(wishes: Wishes, given: Mapping[str, str]) -> dict[str, str]:
    """Answer the variables of the recordings, which begin to play now unless their start is given."""
    if not wishes.candles and _CANDLES not in given:
        return {}
    asked = {
        _CANDLES: json.dumps({symbol: str(file.resolve()) for symbol, file in wishes.candles.items()}),
        _CANDLES_SPEED: str(wishes.speed),
    }
    now = datetime.now(UTC).isoformat()
    return {**(asked if wishes.candles else {}), _CANDLES_STARTED_AT: given.get(_CANDLES_STARTED_AT, now)}


def _free_address(host: str, port: int) -> tuple[str, int]:
    """Answer the URL and port the API will answer at; raises LocalFailure when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            found: int = probe.getsockname()[1]
    except OSError as error:
        raise LocalFailure(f"The API cannot listen on {host} port {port}: {error.strerror}") from error
    seen_as = _reachable_as(host)
    return f"http://[{seen_as}]:{found}" if ":" in seen_as else f"http://{seen_as}:{found}", found


def _reachable_as(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def _listens(host: str, port: int) -> bool:
    """Answer whether something takes connections: uvicorn does once the application has started."""
    try:
        _, writer = await asyncio.open_connection(_reachable_as(host), port)
    except OSError:
        return False
    writer.close()
    return True


async def _at_once(_process: int) -> bool:
    return True


def _fresh_log(directory: Path, name: str) -> Path:
    """Answer an empty log file, readable by its owner alone; what the run before left in it is dropped."""
    logs = directory / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    file = logs / f"{name}.log"
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    return file
