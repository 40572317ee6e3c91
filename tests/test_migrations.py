"""Migrations: they lead to what the code maps, and back again."""

import os
import subprocess
import sys
from pathlib import Path

from tests.servers import Databases

ROOT = Path(__file__).parent.parent


async def test_the_way_up_and_down_ends_where_the_code_is(databases: Databases) -> None:
    async with databases.managed("SUPERUSER") as url:
        for step in (("upgrade", "head"), ("check",), ("downgrade", "base"), ("upgrade", "head"), ("check",)):
            done = subprocess.run(
                [sys.executable, "-m", "alembic", *step],
                cwd=ROOT,
                env={**os.environ, "ENGINE_DATABASE_URL": url},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (step, done.stderr)
