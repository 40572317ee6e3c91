"""What every test may ask for: a database of its own, an empty Redis, settings that name both."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.local.valkey import ValkeySpot
from app.settings import Settings, new_vault_key, new_webhook_secret, settings_from
from tests.servers import Databases, running_databases, running_valkey


@pytest.fixture(scope="session")
async def databases() -> AsyncIterator[Databases]:
    """The PostgreSQL of the session."""
    async with running_databases() as server:
        yield server


@pytest.fixture(scope="session")
async def valkey() -> AsyncIterator[ValkeySpot]:
    """The Redis of the session."""
    async with running_valkey() as spot:
        yield spot


@pytest.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """A migrated, empty database of the test's own, as a URL for SQLAlchemy's asyncpg dialect."""
    async with databases.fresh() as url:
        yield url


@pytest.fixture
async def redis_url(valkey: ValkeySpot) -> str:
    """An empty Redis."""
    client = Redis.from_url(valkey.url)
    try:
        await client.flushall()
    finally:
        await client.aclose()
    return valkey.url


@pytest.fixture
def serverless_environment() -> dict[str, str]:
    """The variables a process of the engine needs, with fresh secrets; nothing listens where they point."""
    return {
        "ENGINE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere",
        "ENGINE_REDIS_URL": "redis://127.0.0.1:1/0",
        "ENGINE_JWT_SECRET": "a secret of the tests, long enough",
        "ENGINE_WEBHOOK_SECRETS": new_webhook_secret(),
        "ENGINE_VAULT_KEYS": new_vault_key(),
    }


@pytest.fixture
def environment(serverless_environment: dict[str, str], database_url: str, redis_url: str) -> dict[str, str]:
    """The variables a process of the engine needs, with fresh secrets and the servers of the test."""
    return {**serverless_environment, "ENGINE_DATABASE_URL": database_url, "ENGINE_REDIS_URL": redis_url}


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """Settings made from `environment`."""
    return settings_from(environment)
