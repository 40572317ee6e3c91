"""Looks at everything an installation needs and says what is wrong with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from app.api.keys import PublishedKeys
from app.api.problems import Unavailable
from app.desk import open_desk
from app.domain.owners import Owner, Role
from app.engine.offers import offers
from app.engine.rekeying import MissingKeys, check_keys
from app.settings import InvalidSettings, Settings, read_settings
from app.store import ownership
from app.store.connections import Kind
from app.store.workers import latest_heartbeat
from migrations import head_revision

HEARTBEAT_MAX_AGE: Final = timedelta(minutes=1)
_CHECK_SECONDS: Final = 10


class Unwell(Exception):
    """A check that found something wrong, in words."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    subject: str
    fine: bool
    says: str


def examine(env_files: Sequence[Path]) -> list[Finding]:
    """Check the settings, then everything they name; without usable settings nothing else can be checked."""
    try:
        settings = read_settings(env_files)
    except InvalidSettings as error:
        return [Finding("settings", False, " ".join(str(error).split()))]
    return [Finding("settings", True, "complete"), *asyncio.run(_examine(settings))]


async def _examine(settings: Settings) -> list[Finding]:
    checks: dict[str, Callable[[Settings], Awaitable[str]]] = {
        "database": _database,
        "migrations": _migrations,
        "isolation": _isolation,
        "tokens": _tokens,
        "vault keys": _vault_keys,
        "redis": _redis,
        "worker": _worker,
    }
    found = [await _finding(subject, check(settings)) for subject, check in checks.items()]
    return [*found, *await _endpoints(settings)]


async def _finding(subject: str, check: Awaitable[str]) -> Finding:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return Finding(subject, True, await check)
    except TimeoutError:
        return Finding(subject, False, f"no answer within {_CHECK_SECONDS} s")
    except Unwell as error:
        return Finding(subject, False, str(error))
    except Exception as error:  # noqa: BLE001  whatever a check fails with is its finding
        return Finding(subject, False, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


async def _database(settings: Settings) -> str:
    return f"PostgreSQL {await _scalar(settings, 'SHOW server_version')}"


async def _migrations(settings: Settings) -> str:
    head = head_revision()
    if await _scalar(settings, "SELECT to_regclass('alembic_version') IS NOT NULL") is not True:
        raise Unwell("the database has no schema yet; run `alembic upgrade head`")
    found = await _scalar(settings, "SELECT version_num FROM alembic_version")
    if found != head:
        raise Unwell(f"the database is at {found}, the code at {head}; run `alembic upgrade head`")
    return f"at {head}"


async def _isolation(settings: Settings) -> str:
    """Whether PostgreSQL itself keeps owners apart: try it as the API does, on behalf of nobody in particular."""
    async with _session(settings) as session:
        user = await session.scalar(text("SELECT current_user"))
        try:
            await ownership.bind(session, Owner(Role.USER, "doctor"))
        except DBAPIError as error:
            raise Unwell(
                f"{user} may not act as {ownership.READER}; have an administrator run "
                f"`GRANT {ownership.READER} TO {user}`"
            ) from error
        gaps = await ownership.gaps(session)
    if gaps:
        raise Unwell(f"what serves one owner could read of others {', '.join(gaps)}")
    return f"owners are kept apart by {ownership.READER} and its policies"


async def _tokens(settings: Settings) -> str:
    if settings.jwt_jwks_url is None:
        return "verified with the secret"
    try:
        await PublishedKeys(settings.jwt_jwks_url).find("doctor")
    except Unavailable as error:
        raise Unwell(f"{error.message} They are expected at {settings.jwt_jwks_url}") from None
    return f"verified with the keys at {settings.jwt_jwks_url}"


async def _vault_keys(settings: Settings) -> str:
    async with open_desk(settings) as desk:
        try:
            await check_keys(desk)
        except MissingKeys as reason:
            raise Unwell(str(reason)) from None
    return "every key in use is here"


async def _endpoints(settings: Settings) -> list[Finding]:
    """Where requests of exchanges and bridges are sent in place of their own addresses, one by one."""
    if not settings.broker_endpoints:
        return [Finding("broker endpoints", True, "none set, every venue is asked at its own address")]
    # Before the clock of a check runs: the first look imports ccxt.
    known = {offer.id for offer in (await offers()).values() if offer.kind is not Kind.PAPER}
    return [
        await _finding(f"broker endpoint {venue}", _endpoint(url, is_known=venue in known))
        for venue, url in sorted(settings.broker_endpoints.items())
    ]


async def _endpoint(url: str, *, is_known: bool) -> str:
    """Whether its host takes connections; nothing is asked of it."""
    if not is_known:
        raise Unwell("there is no such exchange or bridge; `engine exchanges` lists them")
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    where = f"{parts.hostname} port {port}"
    try:
        _, writer = await asyncio.open_connection(parts.hostname, port)
    except OSError as error:
        raise Unwell(f"{where} takes no connections: {type(error).__name__}") from None
    writer.close()
    return f"{where} takes connections"


async def _redis(settings: Settings) -> str:
    client = Redis.from_url(settings.redis_url.get_secret_value())
    try:
        information = await client.info("server")
    finally:
        await client.aclose()
    return f"Redis {information['redis_version']}"


async def _worker(settings: Settings) -> str:
    async with _session(settings) as session:
        seen = await latest_heartbeat(session)
    if seen is None:
        raise Unwell("no worker has ever been seen")
    age = datetime.now(UTC) - seen
    if age > HEARTBEAT_MAX_AGE:
        raise Unwell(f"last seen {age.total_seconds():.0f} s ago, at {seen.isoformat()}")
    return f"seen {age.total_seconds():.0f} s ago"


async def _scalar(settings: Settings, query: str) -> object:
    async with _session(settings) as session:
        found: object = await session.scalar(text(query))
        return found


@asynccontextmanager
async def _session(settings: Settings) -> AsyncIterator[AsyncSession]:
    engine = create_async_engine(settings.database_url.get_secret_value(), poolclass=NullPool)
    try:
        async with AsyncSession(engine) as session:
            yield session
    finally:
        await engine.dispose()
