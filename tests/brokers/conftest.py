"""A database for all tests of the brokers: accounts have ids of their own, so the tests share it."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from tests.servers import Databases


@pytest.fixture(scope="session")
async def sessions(databases: Databases) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions on a migrated database."""
    async with databases.fresh() as url:
        engine = create_async_engine(url, connect_args={"server_settings": {"timezone": "UTC"}})
        yield async_sessionmaker(engine, expire_on_commit=False)
        await engine.dispose()
