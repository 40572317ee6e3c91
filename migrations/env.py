"""Run by alembic for each of its commands: connects, and hands over the metadata of all tables."""

import asyncio
import logging
from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, TypeDecorator
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.brokers.paper import book
from app.settings import asyncpg_url, read_database_settings
from app.store import tables
from app.store.schema import Base
from migrations import DATABASE_URL

# Importing the modules of the tables is what fills the metadata: the engine's, and those of the paper venue's book.
TABLES = (tables, book)


def run_offline() -> None:
    """Print the SQL instead of running it (`alembic upgrade head --sql`)."""
    context.configure(
        url=database_url(), target_metadata=Base.metadata, literal_binds=True, compare_server_default=True
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    """Run the migrations over a connection of their own."""
    engine = create_async_engine(database_url(), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_over)
    finally:
        await engine.dispose()


def run_over(connection: Connection) -> None:
    """Run the migrations over a connection, all in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        render_item=render_plainly,
    )
    with context.begin_transaction():
        context.run_migrations()


def render_plainly(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Write a column type of the house as the plain one beneath: a migration must not change with our code."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl_instance!r}"
    return False


def database_url() -> str:
    """Answer the URL a program passed on, else the one of the settings; raises InvalidSettings."""
    given: str | None = context.config.attributes.get(DATABASE_URL)
    return asyncpg_url(given) if given else read_database_settings().database_url.get_secret_value()


if context.config.cmd_opts:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("alembic").setLevel(logging.INFO)

if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
