"""What `engine up` runs on one machine: an embedded PostgreSQL and Redis, the API and a worker."""

from app.local.directory import LOCAL_URL, settings_file
from app.local.installation import Installation, Wishes, running
from app.local.parts import LocalFailure, PartDied
from app.local.supervisor import StopRequested
from app.local.tokens import bearer_token

__all__ = [
    "LOCAL_URL",
    "Installation",
    "LocalFailure",
    "PartDied",
    "StopRequested",
    "Wishes",
    "bearer_token",
    "running",
    "settings_file",
]
