"""One process of a local installation: how it starts, when it is ready, how it stops.

Every process ends with us, even when we are killed: on Linux the kernel is asked to signal it then.
"""

import asyncio
import ctypes
import os
import pwd
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_READY_POLL_SECONDS: Final = 0.02
_LOG_TAIL_LINES: Final = 12


class LocalFailure(Exception):
    """Why a local installation cannot run or go on, in words for the person who started it."""


class PartDied(LocalFailure):
    """A part ended by itself or was not ready in time; the text has the end of its log where it keeps one."""


@dataclass(frozen=True)
class Account:
    """An account of this machine that a process runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Part:
    """A process to run and how to treat it."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[int], Awaitable[bool]]
    """Asked again and again with the process id until it answers true."""
    environment: Mapping[str, str] | None = None
    """The whole environment of the process; None: ours."""
    log: Path | None = None
    """Where its output goes; None: where ours goes."""
    account: Account | None = None
    """Whom it runs as; None: us."""
    directory: Path | None = None
    """Its working directory; None: ours."""
    stop_signal: signal.Signals = signal.SIGTERM
    ready_seconds: float = 30
    stop_seconds: float = 10
    before_start: Callable[[], Awaitable[None]] | None = None


def unprivileged_account() -> Account | None:
    """Answer whom PostgreSQL runs as: `nobody` when we are root, which it refuses, None (us) otherwise."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


async def spawn(part: Part) -> Process:
    """Start the process of a part; raises LocalFailure when it cannot even be started.

    It gets a session of its own: Ctrl-C at the terminal reaches us alone, and the order of stopping is ours.
    """
    if part.before_start:
        await part.before_start()
    try:
        return await _spawn(part)
    except OSError as error:
        raise LocalFailure(f"{part.name} cannot be started: {error}") from error


async def until_ready(part: Part, process: Process) -> None:
    """Wait until a part says it is ready; raises PartDied when it ends first or takes too long."""
    try:
        async with asyncio.timeout(part.ready_seconds):
            while not await part.ready(process.pid):
                if process.returncode is not None:
                    raise PartDied(_obituary(part, process.returncode))
                await asyncio.sleep(_READY_POLL_SECONDS)
    except TimeoutError:
        raise PartDied(
            f"{part.name} was not ready within {part.ready_seconds:g} s{_log_tail(part)}"
        ) from None


async def stop(part: Part, process: Process) -> None:
    """Ask a process to end, and kill it when it has not within the part's limit."""
    if process.returncode is not None:
        return
    process.send_signal(part.stop_signal)
    try:
        async with asyncio.timeout(part.stop_seconds):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def died(part: Part, process: Process) -> PartDied:
    """Answer the error that says how an ended process ended."""
    return PartDied(_obituary(part, process.returncode))


async def run_to_end(name: str, command: tuple[str, ...], account: Account | None) -> None:
    """Run a short program quietly; raises LocalFailure with what it said when it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            start_new_session=True,
            preexec_fn=_end_with_parent(signal.SIGKILL),
        )
    except OSError as error:
        raise LocalFailure(f"{name} cannot be started: {error}") from error
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        # It runs programs of its own: all of them go before anybody clears up behind them.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode != 0:
        said = output.decode(errors="replace").strip()
        raise LocalFailure(f"{name} failed (exit code {process.returncode}):\n{said}")


async def _spawn(part: Part) -> Process:
    output = part.log.open("ab") if part.log else None
    try:
        return await asyncio.create_subprocess_exec(
            *part.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=part.environment,
            cwd=part.directory,
            user=part.account.uid if part.account else None,
            group=part.account.gid if part.account else None,
            extra_groups=[] if part.account else None,
            start_new_session=True,
            preexec_fn=_end_with_parent(part.stop_signal),
        )
    finally:
        if output:
            output.close()


def _end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Answer what a child does before it becomes another program; None where the kernel offers nothing."""
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    libc = ctypes.CDLL(None)

    def arrange() -> None:
        # The parent may have died before the kernel was asked: then nobody would ever signal us.
        if libc.prctl(_PR_SET_PDEATHSIG, number) != 0 or os.getppid() != parent:
            os._exit(1)

    return arrange


def _obituary(part: Part, code: int | None) -> str:
    if code is not None and code < 0:
        return f"{part.name} was ended by {signal.Signals(-code).name}{_log_tail(part)}"
    return f"{part.name} ended with exit code {code}{_log_tail(part)}"


def _log_tail(part: Part) -> str:
    if part.log is None or not part.log.exists():
        return ""
    lines = part.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return "\n" + "\n".join(f"  | {line}" for line in lines)
