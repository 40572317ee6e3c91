"""Make the environment and run something in it; needs nothing but a Python.

    python3 dev.py engine ARGS…     the `engine` command, for example `python3 dev.py engine demo`
    python3 dev.py test [ARGS…]     lint, format, strict types, import contracts, then pytest with ARGS

Everything is installed from requirements.lock, by hash, into `.venv` beside this file: with uv where it is on
the PATH, else with venv and pip. It is installed again when requirements.lock or pyproject.toml changed.
"""

# An old Python must be able to read this file, to be told so: annotations it cannot evaluate are in quotes.

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
BIN = ENVIRONMENT / "bin"
PYTHON = BIN / "python"
STAMP = ENVIRONMENT / "installed-from"
LOCK = ROOT / "requirements.lock"
INPUTS = (LOCK, ROOT / "pyproject.toml")

SUPPORTED = ("3.13", "3.12", "3.11")
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
ASK_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"

CHECKS = (
    ("ruff check", ("ruff", "check", ".")),
    ("ruff format --check", ("ruff", "format", "--check", ".")),
    ("mypy", ("mypy",)),
    ("lint-imports", ("lint-imports", "--no-cache")),
)
# The tests wait more than they compute: two processes, each with servers of its own, and a file stays in one.
TESTS = ("pytest", "-n", "2", "--dist", "loadfile")


class Failure(Exception):
    """What stops the bootstrap, in words for the person who started it."""


def main(arguments: "Sequence[str]") -> int:
    """Run one of the two commands; answers the exit code where the command does not replace this process."""
    if not arguments or arguments[0] not in ("engine", "test"):
        print(__doc__, file=sys.stderr)
        return 2
    use_supported_python()
    with one_at_a_time():
        make_environment()
    if arguments[0] == "engine":
        os.execv(BIN / "engine", [str(BIN / "engine"), *arguments[1:]])
    return run_checks(arguments[1:])


def use_supported_python() -> None:
    """Carry on under a supported Python: this one, or one from the PATH, which replaces this process."""
    if RUNNING in SUPPORTED:
        return
    for version in SUPPORTED:
        found = shutil.which(f"python{version}")
        if found and version_of(found) == version:
            os.execv(found, [found, str(ROOT / "dev.py"), *sys.argv[1:]])
    raise Failure(
        f"Python 3.11, 3.12 or 3.13 is needed. This is {RUNNING}, "
        "and none of python3.13, python3.12 and python3.11 runs from the PATH."
    )


def version_of(python: str) -> "str | None":
    """Answer `3.12` for an interpreter that starts; None for one that does not, like an idle pyenv shim."""
    try:
        asked = subprocess.run([python, "-c", ASK_VERSION], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


@contextmanager
def one_at_a_time() -> "Iterator[None]":
    """Hold the checkout while installing: two commands started together must not install over each other."""
    directory = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def make_environment() -> None:
    """Bring `.venv` to what requirements.lock and pyproject.toml say, unless it is there already."""
    runs = version_of(str(PYTHON)) in SUPPORTED
    wanted = fingerprint()
    if runs and STAMP.exists() and STAMP.read_text() == wanted:
        return
    print(f"Installing into {ENVIRONMENT}, once", file=sys.stderr, flush=True)
    uv = shutil.which("uv")
    # An environment that uv made has no pip in it, which matters when uv is gone.
    if not runs or not (uv or (BIN / "pip").exists()):
        create_environment(uv)
    installer = (
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(PYTHON)]
        if uv
        else [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    )
    run([*installer, "--require-hashes", "-r", str(LOCK)])
    run([*installer, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    STAMP.write_text(wanted)


def create_environment(uv: "str | None") -> None:
    """Make an empty `.venv` for the running Python, in place of one that does not work."""
    if uv:
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)])
        return
    try:
        run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)])
    except Failure as failure:
        raise Failure(
            f"{failure}\nOn Debian and Ubuntu the package python3-venv is needed, or uv."
        ) from failure


def fingerprint() -> str:
    """Answer one hash over everything the environment is made from."""
    digest = hashlib.sha256()
    for file in INPUTS:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def run_checks(pytest_arguments: "Sequence[str]") -> int:
    """Run the checks and then the tests; stop at the first that fails and answer its exit code."""
    for name, command in (*CHECKS, ("pytest", (*TESTS, *pytest_arguments))):
        print("== " + name, flush=True)
        code = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, check=False).returncode
        if code != 0:
            print(f"== {name} failed (exit code {code})", flush=True)
            return code
    return 0


def run(command: "Sequence[str]") -> None:
    """Run a step of the installation; a failing one raises Failure, its own output having said why."""
    # uv trusts a list of its own otherwise, which lacks the authorities this machine was told to trust.
    environment = {"UV_SYSTEM_CERTS": "true", **os.environ}
    code = subprocess.run(command, env=environment, check=False).returncode
    if code != 0:
        raise Failure(f"`{' '.join(command)}` failed (exit code {code})")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failure as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)
