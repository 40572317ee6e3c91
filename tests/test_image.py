"""The image, without a container engine: its build steps in an empty directory, and the three processes from it."""

import asyncio
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.servers import Databases, free_port
from tests.workers.processes import until

ROOT: Final = Path(__file__).resolve().parents[1]
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build makes of nothing but the files the Dockerfile hands it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in line.split():
            take = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            take(ROOT / name, source / name)
    python = Path(sys.base_prefix) / "bin"
    environment = {**os.environ, "PATH": f"{python}:{os.environ['PATH']}"}
    for step in re.findall(r"^RUN sh image\.sh (\w+) /srv/engine$", DOCKERFILE, re.MULTILINE):
        subprocess.run(["sh", source / "image.sh", step, target], env=environment, cwd=source, check=True)
    shutil.rmtree(source)
    return target


@pytest.fixture
def home(image: Path, tmp_path: Path) -> Iterator[Path]:
    """An empty home with the temporary files in it. Nothing is written there or in the image: both may be read-only."""
    before = contents(image)
    yield tmp_path
    assert contents(image) == before
    assert list(tmp_path.iterdir()) == []


def contents(directory: Path) -> dict[Path, str]:
    """Every file of a directory by the hash of what is in it; what pip installed, by its size."""
    return {
        path: str(path.stat().st_size)
        if "venv" in path.parts
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


@asynccontextmanager
async def running(
    image: Path, home: Path, environment: Mapping[str, str], *command: str
) -> AsyncIterator[Process]:
    """One process of the image, as the container would start it; killed afterwards if it has not ended."""
    process = await asyncio.create_subprocess_exec(
        str(image / "venv" / "bin" / command[0]),
        *command[1:],
        cwd=image,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(home), "TMPDIR": str(home)},
        stdout=DEVNULL,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process: Process) -> tuple[int, str]:
    """Wait for a process's end; its exit code and what it complained about."""
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_the_three_processes_run_from_it_and_write_nothing(
    image: Path, home: Path, databases: Databases, environment: dict[str, str]
) -> None:
    port = free_port()
    serve = ("uvicorn", "app.main:app", "--host", "127.0.0.1", "--port", str(port))
    async with databases.fresh(template="template1") as url:
        settings = {**environment, "ENGINE_DATABASE_URL": url}
        async with running(image, home, settings, "alembic", "upgrade", "head") as migration:
            assert (await ended(migration))[0] == 0
        async with (
            running(image, home, settings, *serve) as api,
            running(image, home, settings, "python", "-m", "workers.main") as worker,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
        ):

            async def is_at_work() -> bool:
                try:
                    scrape = await http.get("/metrics")
                except httpx.TransportError:
                    return False
                return "engine_workers 1.0" in scrape.text

            await until(is_at_work)
            assert (await http.get("/readyz")).status_code == 200
            for process in (api, worker):
                process.send_signal(signal.SIGTERM)
            assert (await ended(worker))[0] == 0
            await ended(api)


async def test_a_process_without_settings_says_which_it_needs(image: Path, home: Path) -> None:
    async with running(image, home, {}, "python", "-m", "workers.main") as worker:
        code, says = await ended(worker)
    assert code == 2
    assert "ENGINE_DATABASE_URL" in says


def test_the_image_holds_what_its_lock_names_and_no_tool_of_the_tests(image: Path) -> None:
    listed = subprocess.run(
        [image / "venv" / "bin" / "python", "-m", "pip", "list", "--format", "freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.lower()
    assert "trading-execution-engine==" in listed
    for tool in ("pytest==", "mypy==", "ruff==", "hypothesis=="):
        assert tool not in listed


def test_the_image_runs_as_an_ordinary_user_and_its_lock_names_no_host() -> None:
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["engine"]
    lock = (ROOT / "requirements.image.lock").read_text()
    assert "://" not in lock
    assert lock.count("--hash=sha256:") > 100


def test_the_image_has_the_very_files_that_were_tested() -> None:
    tested, shipped = (locked(ROOT / name) for name in ("requirements.lock", "requirements.image.lock"))
    assert {name: shipped[name] == tested[name] for name in shipped} == dict.fromkeys(shipped, True)
    assert "ccxt" in shipped
    assert all(hashes for _, hashes in shipped.values())


def locked(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Every package that a lock names, with its version and the hashes of its files."""
    entries = re.findall(r"^([a-z0-9-]+)==(\S+)((?:.*\\\n)*.*)$", lock.read_text(), re.MULTILINE)
    return {
        name: (version, frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)))
        for name, version, rest in entries
    }
