"""The real PostgreSQL and Redis of the test session, launched as `engine up` launches them."""

import asyncio
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import asyncpg

from app.local.parts import Part, spawn, stop, until_ready
from app.local.postgres import PostgresSpot, prepared_postgres
from app.local.valkey import ValkeySpot, prepared_valkey
from app.settings import asyncpg_url
from migrations import upgrade_to_head

TEMPLATE = "engine_template"


class Databases:
    """Fresh, migrated databases on one server, each a copy of a template."""

    def __init__(self, spot: PostgresSpot, admin: Any) -> None:
        """On a server that has no template yet; see `open`."""
        self._spot = spot
        self._admin = admin

    @classmethod
    async def open(cls, spot: PostgresSpot) -> Self:
        """Make the template: an empty database brought to the newest revision."""
        admin = await asyncpg.connect(spot.url())
        await admin.execute(f"CREATE DATABASE {TEMPLATE}")
        await asyncio.to_thread(upgrade_to_head, asyncpg_url(spot.url(TEMPLATE)))
        return cls(spot, admin)

    @asynccontextmanager
    async def fresh(self, template: str = TEMPLATE) -> AsyncIterator[str]:
        """Give the URL, for SQLAlchemy's asyncpg dialect, of a database of one's own; dropped afterwards."""
        name = f"test_{uuid4().hex}"
        await self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield asyncpg_url(self._spot.url(name))
        finally:
            await self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @asynccontextmanager
    async def managed(self, *abilities: str) -> AsyncIterator[str]:
        """Give the URL of an empty database whose owner is no superuser but a role with these abilities."""
        name = f"managed_{uuid4().hex}"
        password = secrets.token_hex(16)
        await self._admin.execute(f"CREATE ROLE {name} LOGIN {' '.join(abilities)} PASSWORD '{password}'")
        await self._admin.execute(f"CREATE DATABASE {name} OWNER {name}")
        try:
            yield f"postgresql+asyncpg://{name}:{password}@127.0.0.1:{self._spot.port}/{name}"
        finally:
            await self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            await self._admin.execute(f"DROP ROLE {name}")

    async def administer(self, statement: str) -> None:
        """Do what only a superuser may."""
        await self._admin.execute(statement)

    async def close(self) -> None:
        """Let go of the server."""
        await self._admin.close()


@asynccontextmanager
async def running_databases() -> AsyncIterator[Databases]:
    """Run a PostgreSQL that trades safety for speed."""
    async with running_server() as spot:
        databases = await Databases.open(spot)
        yield databases
        await databases.close()


@asynccontextmanager
async def running_server() -> AsyncIterator[PostgresSpot]:
    """Run a PostgreSQL with nothing in it."""
    with reachable_directory() as directory:
        spot = postgres_spot(directory)
        async with running_part(await prepared_postgres(spot)):
            yield spot


@asynccontextmanager
async def running_valkey() -> AsyncIterator[ValkeySpot]:
    """Run a Redis that keeps nothing."""
    with reachable_directory() as directory:
        spot = valkey_spot(directory)
        async with running_part(prepared_valkey(spot)):
            yield spot


@asynccontextmanager
async def running_part(part: Part) -> AsyncIterator[int]:
    """Run one part, unsupervised; gives its process id."""
    process = await spawn(part)
    try:
        await until_ready(part, process)
        yield process.pid
    finally:
        await stop(part, process)


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """Give a temporary directory that `nobody` can pass through, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="engine-test-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def postgres_spot(directory: Path) -> PostgresSpot:
    """Answer a spot for a quick PostgreSQL in a directory."""
    return PostgresSpot(
        directory, free_port(), secrets.token_hex(16), durable=False, log=directory / "postgres.log"
    )


def valkey_spot(directory: Path) -> ValkeySpot:
    """Answer a spot for a forgetful Redis in a directory."""
    return ValkeySpot(
        directory, free_port(), secrets.token_hex(16), durable=False, log=directory / "valkey.log"
    )


def free_port() -> int:
    """Answer a TCP port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
