"""The history of the database schema, and how a program walks it without alembic.ini."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

DATABASE_URL: Final = "database_url"
"""The attribute of an alembic Config that names the database instead of ENGINE_DATABASE_URL."""


def upgrade_to_head(database_url: str) -> None:
    """Bring a database to the newest revision; not to be called from a thread that runs an event loop."""
    command.upgrade(configuration(database_url), "head")


def head_revision() -> str | None:
    """Answer the newest revision; None when there is none yet."""
    return ScriptDirectory.from_config(configuration("")).get_current_head()


def configuration(database_url: str) -> Config:
    """Answer what alembic's commands take, for this history and that database."""
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    configuration.attributes[DATABASE_URL] = database_url
    return configuration
