"""A server that is asked to stop while streams are open: they come to their end, and so does it."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest

from app.local.parts import Part, spawn, until_ready
from app.settings import Settings
from tests.api.scene import ANN, BOB, Platform
from tests.api.streams import LONG, UP_TO_DATE
from tests.servers import free_port

CHECKOUT: Final = Path(__file__).parents[2]


def served(port: int, environment: dict[str, str], log: Path, loop: str) -> Part:
    """The service as production runs it, which waits for the last answer however long that takes."""

    async def listens(_process: int) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    return Part(
        name="api",
        command=(sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port), "--loop", loop),
        ready=listens,
        environment={**os.environ, **environment},
        log=log,
        directory=CHECKOUT,
    )


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_streams_end_when_the_server_is_asked_to_stop(
    environment: dict[str, str], settings: Settings, tmp_path: Path, loop: str
) -> None:
    port, platform, log = free_port(), Platform(settings), tmp_path / "log"
    part = served(port, environment, log, loop)
    process = await spawn(part)
    try:
        await until_ready(part, process)
        async with asyncio.timeout(LONG), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            ann, bob = (
                client.stream("GET", "/v1/events", headers=platform.bearer(owner), timeout=LONG)
                for owner in (ANN, BOB)
            )
            async with ann as first, bob as second:
                lines = [stream.aiter_lines() for stream in (first, second)]
                for each in lines:
                    while await anext(each) != UP_TO_DATE:
                        pass
                process.terminate()
                for each in lines:
                    assert [line async for line in each] == [""]
            # uvicorn stops in good order, and then lets the signal have its way.
            assert await process.wait() == -signal.SIGTERM
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert "Traceback" not in log.read_text()
