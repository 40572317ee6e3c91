"""The one server behind all hosts."""

from typing import Any

import aiohttp
import pytest

from tests.venues.exchange import Exchange, Keys
from tests.venues.redirect import connected
from tests.venues.wire import Intent


@pytest.mark.parametrize(
    ("name", "practice", "host"),
    [
        ("binance", "set_sandbox_mode", "testnet.binance.vision"),
        ("binance", "enable_demo_trading", "demo-api.binance.com"),
        ("binanceusdm", "enable_demo_trading", "demo-fapi.binance.com"),
        ("bybit", "set_sandbox_mode", "api-testnet.bybit.com"),
        ("bybit", "enable_demo_trading", "api-demo.bybit.com"),
    ],
)
async def test_practice_hosts_answer_too(
    venue: Exchange, keys: Keys, name: str, practice: str, host: str
) -> None:
    async with connected(venue, name, keys, practice=practice) as client:
        assert (await client.fetch_balance())["USDT"]["free"] == 100_000
        assert venue.requests[-1].host == host


async def test_a_host_that_nobody_simulates_is_told_apart(venue: Exchange) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(venue.url, headers={"Host": "api.kraken.com"}) as response,
    ):
        assert response.status == 421


async def test_every_request_is_on_record_with_its_intent(venue: Exchange, spot: Any) -> None:
    await spot.create_order("BTC/USDT", "market", "buy", 0.1, None, {"newClientOrderId": "mine"})
    newest = venue.requests[-1]
    assert (newest.host, newest.intent, newest.client_order_id) == ("api.binance.com", Intent.PLACE, "mine")


async def test_accounts_do_not_see_each_other(venue: Exchange, spot: Any) -> None:
    await spot.create_order("BTC/USDT", "limit", "buy", 0.1, 19000)
    stranger = venue.open_account({"USDT": "7"})
    async with connected(venue, "binance", stranger) as client:
        assert await client.fetch_open_orders("BTC/USDT") == []
        assert (await client.fetch_balance())["USDT"]["total"] == 7
