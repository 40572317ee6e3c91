"""A running exchange with one rich account, and the unmodified ccxt classes on it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.venues.exchange import Exchange, Keys, running_exchange
from tests.venues.redirect import connected


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """All exchanges, on the machine's clock; whatever a test did, no money was made or lost."""
    async with running_exchange() as exchange:
        yield exchange
        exchange.audit()


@pytest.fixture
def keys(venue: Exchange) -> Keys:
    """An account with 100,000 USDT and some BNB at each of them."""
    return venue.open_account({"USDT": "100000", "BNB": "1"})


@pytest.fixture
async def spot(venue: Exchange, keys: Keys) -> AsyncIterator[Any]:
    """Binance spot."""
    async with connected(venue, "binance", keys) as client:
        yield client


@pytest.fixture
async def usdm(venue: Exchange, keys: Keys) -> AsyncIterator[Any]:
    """Binance USD-M."""
    async with connected(venue, "binanceusdm", keys) as client:
        yield client


@pytest.fixture
async def bybit(venue: Exchange, keys: Keys) -> AsyncIterator[Any]:
    """Bybit."""
    async with connected(venue, "bybit", keys) as client:
        yield client
