"""Plays on the stage: each in a copy of the program and a database of its own."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.chaos.rules import Rule
from tests.chaos.source import IMPATIENT, copied
from tests.servers import Databases

Played = dict[str, Any]
Play = Callable[..., Awaitable[Played]]

INTACT = Rule("none", "", "")


@pytest.fixture
def play(databases: Databases, tmp_path: Path) -> Play:
    """Play scenes, or the stream, in a copy of the program with one rule taken out, or none; answers its JSON."""

    async def played(*words: str, without: Rule = INTACT) -> Played:
        points = copied(tmp_path, [*IMPATIENT, *without.edits])
        (tmp_path / "points.json").write_text(json.dumps(points))
        async with databases.fresh() as url:
            await _drop(url, without.indexes)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "tests.chaos.play", "--database", url, *words),
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                said, troubles = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        assert process.returncode == 0, troubles.decode()
        told: Played = json.loads(said)
        return told

    return played


async def _drop(url: str, indexes: tuple[str, ...]) -> None:
    if not indexes:
        return
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        for index in indexes:
            await connection.execute(f"DROP INDEX {index}")
    finally:
        await connection.close()
