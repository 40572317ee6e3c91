"""Where the demo runs: on data and servers of its own, whatever the machine is set up for."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from app.local import settings_file
from app.settings import PREFIX, variable_name

LOOKS: Final = {variable_name("monitor_seconds"): "1"}
"""Prices of a demo move far faster than in life, so the engine looks at open positions more often."""


@contextmanager
def secluded(data: Path | None, more: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Give the data directory: `data`, or a temporary one that is gone afterwards. `more` are variables to set.

    Meanwhile neither the environment's settings nor a `.env` are seen: they may name the servers and the keys of
    an installation that is in use.
    """
    with TemporaryDirectory(prefix="engine-demo-") as name:
        place = Path(name).resolve()
        # The account `nobody`, which PostgreSQL runs as under root, has to pass through.
        place.chmod(0o711)
        wanted = place / "data" if data is None else data.resolve()
        with chdir(place), _settings_replaced({**LOOKS, **(more or {})}):
            try:
                yield wanted
            finally:
                if data is None:
                    _remove(settings_file(wanted).parent)


@contextmanager
def _settings_replaced(own: Mapping[str, str]) -> Iterator[None]:
    """Put the demo's own settings in the place of all others."""
    others = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    for name in others:
        del os.environ[name]
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            del os.environ[name]
        os.environ.update(others)


def _remove(directory: Path) -> None:
    """Remove the installation, which lies elsewhere where `nobody` could not enter the temporary directory."""
    if directory.exists():
        shutil.rmtree(directory)
