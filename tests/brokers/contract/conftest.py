"""The brokers that the contract is tested on. A new broker adds its stage here, and nothing else."""

from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.domain.market import MarketType
from tests.brokers.contract.paper import paper_stage
from tests.brokers.contract.stage import Stage

STAGES = {
    "paper-spot": MarketType.SPOT,
    "paper-swap": MarketType.SWAP,
}


@pytest.fixture(params=STAGES)
async def stage(
    request: pytest.FixtureRequest, sessions: async_sessionmaker[AsyncSession], tmp_path: Path
) -> Stage:
    """A fresh account at each of the brokers in turn."""
    return await paper_stage(sessions, tmp_path / "candles.csv", STAGES[request.param])
