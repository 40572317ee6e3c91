"""The data directory of a local installation: where it is, who holds it, and the secrets kept in it."""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from app.local.parts import Account, LocalFailure
from app.local.postgres import can_enter
from app.settings import new_vault_key, new_webhook_secret, variable_name

LOCAL_PASSWORD: Final = "ENGINE_LOCAL_PASSWORD"
"""Of the embedded PostgreSQL and Redis."""
LOCAL_URL: Final = "ENGINE_LOCAL_URL"
"""Where the API of the installation answered last."""

_REACHABLE_BY_ALL: Final = Path("/var/lib/trading-execution-engine")
_SETTINGS_FILE: Final = "settings.env"

_MAKERS: Final[Mapping[str, Callable[[], str]]] = {
    variable_name("jwt_secret"): lambda: secrets.token_urlsafe(48),
    variable_name("webhook_secrets"): new_webhook_secret,
    variable_name("vault_keys"): new_vault_key,
    LOCAL_PASSWORD: lambda: secrets.token_hex(24),
}


async def made_directory(wanted: Path, account: Account | None) -> Path:
    """Make and answer the data directory: `wanted`, or another place when `account` cannot enter that.

    Raises LocalFailure when neither will do.
    """
    for directory in (wanted, _instead_of(wanted)):
        made = _make(directory, for_others=account is not None)
        if await can_enter(directory, account):
            return directory.resolve()
        if made:
            directory.rmdir()
    raise LocalFailure(
        f"The account `nobody`, which PostgreSQL runs as under root, can enter neither {wanted} "
        f"nor {_instead_of(wanted)}; choose another --data directory"
    )


def settings_file(wanted: Path) -> Path:
    """Answer the settings file of the installation that was started with the data directory `wanted`."""
    elsewhere = _instead_of(wanted) / _SETTINGS_FILE
    return elsewhere if elsewhere.exists() else wanted / _SETTINGS_FILE


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold a data directory for this process; raises LocalFailure when another one holds it."""
    with (directory / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LocalFailure(
                f"`engine up` runs already on {directory} (process {lock.read().strip() or 'unknown'}); "
                "stop it, or choose another --data directory"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def kept_secrets(directory: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Answer the secrets of this directory, making those that are neither kept nor given.

    What was made once is kept although it is given now: credentials sealed with it would be lost with it.
    """
    kept = dotenv_values(directory / _SETTINGS_FILE)
    found = {name: kept.get(name) or (None if given.get(name) else make()) for name, make in _MAKERS.items()}
    return {name: value for name, value in found.items() if value}


def write_settings(directory: Path, values: Mapping[str, str]) -> None:
    """Replace the settings file, for its owner's eyes alone; other commands find the installation by it."""
    file = directory / _SETTINGS_FILE
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    lines = [f"{name}={_quoted(value)}\n" for name, value in sorted(values.items())]
    fresh.write_text("# Written by `engine up`; holds secrets.\n" + "".join(lines))
    fresh.replace(file)


def _instead_of(wanted: Path) -> Path:
    """Answer the place used when `nobody` cannot reach `wanted`, always the same for the same one."""
    return _REACHABLE_BY_ALL / hashlib.sha256(str(wanted.resolve()).encode()).hexdigest()[:12]


def _make(directory: Path, *, for_others: bool) -> bool:
    """Make a directory, for others to pass through where they need to; answers False when there is one."""
    if directory.exists():
        return False
    mode = 0o711 if for_others else 0o700
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700)
        directory.chmod(mode)
    except OSError as error:
        raise LocalFailure(f"The data directory cannot be made: {error}") from error
    return True


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
