"""Listings: ten exchanges with thousands of synthetic markets each, in the words of four wire formats."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final

from aiohttp import web

from app.domain.market import MarketType
from tests.venues.clock import Clock
from tests.venues.delivery import response_of
from tests.venues.exchange import Exchange, page_of
from tests.venues.orders import Kind, Listing
from tests.venues.wire import CALM, Dialect, Reply, WireRequest

MARKETS: Final = 2000

SIMULATED: Final = {
    "binance": MarketType.SPOT,
    "binanceus": MarketType.SPOT,
    "binanceusdm": MarketType.SWAP,
    "bybit": MarketType.SWAP,
    "bybiteu": MarketType.SPOT,
    "bybitid": MarketType.SPOT,
}
"""Where accounts can be asked for as well."""

LISTED: Final = {
    "okx": MarketType.SPOT,
    "okxus": MarketType.SPOT,
    "myokx": MarketType.SPOT,
    "gate": MarketType.SPOT,
}

BASES: Final = [f"COIN{number}" for number in range(MARKETS)]


def _okx(base: str) -> dict[str, Any]:
    empty = (
        "alias",
        "ctMult",
        "ctType",
        "ctVal",
        "ctValCcy",
        "expTime",
        "optType",
        "settleCcy",
        "stk",
        "uly",
    )
    return {
        **dict.fromkeys(empty, ""),
        "auctionEndTime": "",
        "baseCcy": base,
        "category": "1",
        "contTdSwTime": "1704876947000",
        "instFamily": "",
        "instId": f"{base}-USDT",
        "instType": "SPOT",
        "lever": "10",
        "listTime": "1548133413000",
        "lotSz": "0.00000001",
        "maxIcebergSz": "9999999999.0000000000000000",
        "maxLmtAmt": "20000000",
        "maxLmtSz": "9999999999",
        "maxMktAmt": "1000000",
        "maxMktSz": "1000000",
        "maxStopSz": "1000000",
        "maxTriggerSz": "9999999999.0000000000000000",
        "maxTwapSz": "9999999999.0000000000000000",
        "minSz": "0.00001",
        "quoteCcy": "USDT",
        "ruleType": "normal",
        "state": "live",
        "tickSz": "0.1",
    }


def _gate(base: str) -> dict[str, Any]:
    return {
        "id": f"{base}_USDT",
        "base": base,
        "base_name": base.title(),
        "quote": "USDT",
        "quote_name": "Tether",
        "fee": "0.2",
        "min_base_amount": "0.001",
        "min_quote_amount": "3",
        "max_quote_amount": "5000000",
        "amount_precision": 3,
        "precision": 6,
        "trade_status": "tradable",
        "sell_start": 1607313600,
        "buy_start": 1700492400,
        "delisting_time": 0,
        "type": "normal",
        "trade_url": f"https://www.gate.com/trade/{base}_USDT",
    }


class Listings:
    """All ten behind one port. What Binance and Bybit are asked, their simulators answer, whatever their domain."""

    def __init__(self) -> None:
        listings = [Listing(base, "USDT", kind, Decimal(100)) for base in BASES for kind in Kind]
        self.exchange = Exchange(Clock(), listings)
        self.url = ""

    async def respond(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        host = incoming.headers["Host"]
        path, _, query = incoming.raw_path.partition("?")
        if "okx" in host:
            return response_of(page_of(Reply({"code": "0", "msg": "", "data": self._instruments(query)})))
        if "gate" in host:
            listed = [_gate(each) for each in BASES] if path.endswith("/spot/currency_pairs") else []
            return response_of(page_of(Reply(listed)))
        dialects: tuple[Dialect, ...] = (self.exchange.bybit, self.exchange.usdm, self.exchange.spot)
        dialect = next(
            each for each, name in zip(dialects, ("bybit", "fapi", ""), strict=True) if name in host
        )
        body = (await incoming.read()).decode()
        intent, named = dialect.describe(host, incoming.method, path, query, body)
        request = WireRequest(host, incoming.method, path, query, body, incoming.headers, intent, named)
        return response_of(page_of(dialect.answer(request, CALM)))

    def _instruments(self, query: str) -> list[dict[str, Any]]:
        return [_okx(each) for each in BASES] if "instType=SPOT" in query else []


@asynccontextmanager
async def running_listings() -> AsyncIterator[Listings]:
    """Run them."""
    listings = Listings()
    runner = web.ServerRunner(web.Server(listings.respond, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    listings.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield listings
    finally:
        await runner.cleanup()
