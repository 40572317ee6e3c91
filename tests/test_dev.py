"""The bootstrap and what it installs from."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
UNSUPPORTED = ("3.10", "3.9", "3.8", "3.7")


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked() -> str:
    return (ROOT / "requirements.lock").read_text()


def declared() -> list[str]:
    """Answer the names of the distributions the project asks for, at run time and for development."""
    project = pyproject()
    groups = project["dependency-groups"].values()
    named = [each for group in groups for each in group if isinstance(each, str)]
    requirements = [*project["project"]["dependencies"], *named]
    return [re.split(r"[\[<>=]", requirement)[0] for requirement in requirements]


def test_the_lock_names_no_host_and_hashes_everything() -> None:
    assert "://" not in locked()
    pins = re.findall(r"^\S+==\S+(?: ;.*)? \\\n +--hash=sha256:", locked(), re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[a-z0-9]", locked(), re.MULTILINE))


@pytest.mark.parametrize("name", declared())
def test_what_is_declared_is_locked(name: str) -> None:
    assert re.search(rf"^{name}==", locked(), re.MULTILINE)


def test_the_domain_may_import_nothing_that_is_installed_for_us() -> None:
    contracts = {contract["id"]: contract for contract in pyproject()["tool"]["importlinter"]["contracts"]}
    forbidden = set(contracts["pure-domain"]["forbidden_modules"])
    for requirement in pyproject()["project"]["dependencies"]:
        name = re.split(r"[\[<>=]", requirement)[0]
        assert imported_as(name) & forbidden, name


def imported_as(name: str) -> set[str]:
    """Answer the top-level modules a distribution brings."""
    return {file.parts[0].removesuffix(".py") for file in distribution(name).files or ()}


def test_continuous_integration_calls_the_command_people_call() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "python3 dev.py test"


def test_without_a_command_it_explains_itself() -> None:
    asked = subprocess.run([sys.executable, ROOT / "dev.py"], capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    assert "dev.py test" in asked.stderr


def test_an_unsupported_python_is_told_what_is_needed() -> None:
    found = [shutil.which(f"python{version}") for version in UNSUPPORTED]
    running = [
        path for path in found if path and subprocess.run([path, "-c", ""], check=False).returncode == 0
    ]
    if not running:
        pytest.skip("this machine has no Python that is too old")
    told = subprocess.run(
        [running[0], ROOT / "dev.py", "test"], env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert told.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in told.stderr
