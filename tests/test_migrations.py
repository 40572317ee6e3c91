"""Migrations: they lead to what the code maps, and back again."""

import asyncio

from alembic import command

from migrations import configuration
from tests.servers import Databases


async def test_the_way_up_and_down_ends_where_the_code_is(databases: Databases) -> None:
    async with databases.managed("SUPERUSER") as url:
        await asyncio.to_thread(_walk, url)


def _walk(url: str) -> None:
    """All the way up, down and up; `check` fails where models and tables differ."""
    history = configuration(url)
    command.upgrade(history, "head")
    command.check(history)
    command.downgrade(history, "base")
    command.upgrade(history, "head")
    command.check(history)
