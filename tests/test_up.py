"""`engine up` as people run it: a real process that brings everything up, and takes everything down again."""

import asyncio
import os
import re
import signal
import stat
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.servers import reachable_directory

ENGINE = Path(sys.executable).parent / "engine"
FIRST_ANSWER_SECONDS = 90
PARTS = 4


@dataclass(frozen=True)
class Up:
    """A running `engine up` and what it printed."""

    process: Process
    data: Path
    said: str

    def printed(self, pattern: str) -> str:
        """Answer the first group of a pattern in what it printed."""
        found = re.search(pattern, self.said)
        assert found, self.said
        return found[1]


@asynccontextmanager
async def started(directory: Path, *arguments: str) -> AsyncIterator[Up]:
    """Run `engine up` until its welcome is complete; it is asked to end afterwards if it still runs."""
    # Servers and secrets of its own, whatever the environment of the tests names.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    data = directory / "data"
    with (directory / "errors").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(str(ENGINE), "up", "--port", "0", "--data", str(data), *arguments),
            cwd=directory,
            env=environment,
            stdout=PIPE,
            stderr=errors,
        )
    try:
        yield Up(process, data, await welcome(process, directory / "errors"))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def welcome(process: Process, errors: Path) -> str:
    """Read what it prints up to the webhook secret, the last line of its welcome."""
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(FIRST_ANSWER_SECONDS):
        while not lines or "webhook secret" not in lines[-1]:
            line = await process.stdout.readline()
            assert line, errors.read_text()
            lines.append(line.decode())
    return "".join(lines)


def children(parent: int) -> dict[int, str]:
    """Answer the running children of a process and their command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (entry / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if owner == str(parent) and state != "Z":
            found[int(entry.name)] = command
    return found


def still_there(processes: dict[int, str]) -> list[str]:
    """Answer which of these processes run yet."""
    alive = []
    for process, command in processes.items():
        try:
            now = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
        except FileNotFoundError:
            continue
        if now == command:
            alive.append(command)
    return alive


async def test_up_answers_and_takes_everything_down_again() -> None:
    with reachable_directory() as directory:
        async with started(directory) as up:
            processes = children(up.process.pid)
            assert len(processes) == PARTS
            url, token = up.printed(r"docs: (\S+)/docs"), up.printed(r"user token .*: (\S+)")
            async with httpx.AsyncClient(base_url=url) as client:
                assert (await client.get("/livez")).status_code == 200
                bearer = {"authorization": f"Bearer {token}"}
                me = await client.get("/v1/me", headers=bearer)
                assert me.status_code == 200, me.text
                async with client.stream("GET", "/v1/events", headers=bearer, timeout=60) as stream:
                    lines = stream.aiter_lines()
                    while await anext(lines) != ": up to date":
                        pass
                    up.process.send_signal(signal.SIGTERM)
                    # It comes to its end: nobody had to cut it off.
                    assert [line async for line in lines] == [""]
            assert stat.S_IMODE((up.data / "settings.env").stat().st_mode) == 0o600
            assert await up.process.wait() == 0
        assert not still_there(processes)


async def test_a_second_up_on_the_same_data_is_told_of_the_first() -> None:
    with reachable_directory() as directory:
        async with started(directory) as up:
            second = await asyncio.create_subprocess_exec(
                *(str(ENGINE), "up", "--data", str(up.data)),
                cwd=directory,
                stderr=PIPE,
            )
            _, errors = await second.communicate()
            assert second.returncode == 1
            assert f"process {up.process.pid}" in errors.decode()


async def test_a_killed_up_leaves_nothing_and_starts_again_with_the_same_secrets() -> None:
    with reachable_directory() as directory:
        async with started(directory) as up:
            processes, secret = children(up.process.pid), up.printed(r"webhook secret: (\S+)")
            said = ("--user", "demo-user", "--plans", "gold", "--data", str(up.data))
            entitling = await asyncio.create_subprocess_exec(str(ENGINE), "entitle", *said, cwd=directory)
            assert await entitling.wait() == 0
            up.process.kill()
            await up.process.wait()
            async with asyncio.timeout(60):
                while still_there(processes):
                    await asyncio.sleep(0.05)
        async with started(directory) as up:
            assert up.printed(r"webhook secret: (\S+)") == secret
            url, token = up.printed(r"docs: (\S+)/docs"), up.printed(r"user token .*: (\S+)")
            async with httpx.AsyncClient(base_url=url) as client:
                me = await client.get("/v1/me", headers={"authorization": f"Bearer {token}"})
            assert me.json()["entitlement"]["plans"] == ["gold"], "what the platform said is not said over"
