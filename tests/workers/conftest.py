"""A desk of the test's own beside the workers: it rings the same Redis and reads the same rows."""

from collections.abc import AsyncIterator

import pytest

from app.desk import Desk, open_desk
from app.settings import Settings


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """The variables of a worker that looks at open positions every second."""
    return {**environment, "ENGINE_MONITOR_SECONDS": "1"}


@pytest.fixture
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    """A desk as the API's is."""
    async with open_desk(settings) as desk:
        yield desk
