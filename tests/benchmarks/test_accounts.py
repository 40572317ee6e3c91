"""What a thousand connections cost a worker: memory, and the time that the rate budget adds to a request."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from app.brokers.crypto.exchange import Surroundings, exchange_of
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.tariffs import Counts, Level, Rule, Tariff, Toll
from app.brokers.crypto.transport import Transport
from app.brokers.limits.buckets import Limit
from app.brokers.limits.gate import Gate
from app.brokers.limits.ledger import Ledger
from app.desk import open_redis
from app.domain.market import MarketType
from tests.benchmarks.conftest import Figure
from tests.benchmarks.listings import LISTED, MARKETS, SIMULATED, running_listings

ACCOUNTS = 100
"""At each exchange."""

ASKED = 10
"""One account of so many is asked for its balances as well: the limits of the exchanges hold here too."""

MOST_MEGABYTES = 600

REQUESTS, AT_ONCE, ROUNDS = 1500, 16, 5

ENDLESS = Limit(2e12, 1, 1e12)
FREE = Tariff(
    "free",
    (
        Rule("weight", Level.ADDRESS, ENDLESS, Counts.UNITS),
        Rule("orders", Level.ACCOUNT, ENDLESS, Counts.ORDERS),
    ),
    orders=frozenset({"order"}),
)
"""An exchange with an address and an account to keep count of, and no limit that is ever reached."""


async def test_a_thousand_connections_at_ten_exchanges_fit_in_a_worker(figure: Figure) -> None:
    async with running_listings() as listings:
        opened = [listings.exchange.open_account({"USDT": "1000"}) for _ in range(ACCOUNTS)]
        keys = [
            {"api_key": each.api_key, "api_secret": each.secret, "api_passphrase": "x"} for each in opened
        ]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.benchmarks.accounts",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate(
            json.dumps({"url": listings.url, "keys": keys, "asked": ASKED}).encode()
        )
        assert listings.exchange.crashes == []
    held = json.loads(told)
    assert len(held["markets"]) == len(SIMULATED) + len(LISTED) == 10
    assert min(held["markets"].values()) >= MARKETS
    assert held["answered"] == ACCOUNTS // ASKED * len(SIMULATED)
    assert held["after"] < MOST_MEGABYTES
    total = sum(held["markets"].values())
    figure(
        f"{ACCOUNTS * 10:,} connections, 10 exchanges, {total:,} markets: memory of the worker",
        f"{held['after']:.0f} MB   {held['before']:.0f} MB before the first",
    )


@asynccontextmanager
async def echoing() -> AsyncIterator[str]:
    """A process that answers everything at once; gives its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.echo", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.kill()
        await process.wait()


async def orders_a_second(url: str, ledger: Ledger) -> float:
    """How many signed orders one account of the real class gets answered, the median of some rounds."""
    transport, gate = Transport(), Gate(ledger, "free:live:from:here")
    around = Surroundings(transport, transport.to(url), lambda: datetime.now(UTC))
    exchange = exchange_of(
        "binance",
        profile_of("binance", MarketType.SPOT),
        around,
        Toll(gate, FREE, "free:live:of:ann"),
        {"apiKey": "k" * 64, "secret": "s" * 64},
        sandbox=False,
    )

    async def some(number: int) -> None:
        for _ in range(number):
            order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
            await exchange.privatePostOrder(order)

    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await asyncio.gather(*(some(REQUESTS // AT_ONCE) for _ in range(AT_ONCE)))
        rates.append(REQUESTS // AT_ONCE * AT_ONCE / (time.perf_counter() - began))
    await exchange.close()
    await gate.close()
    await transport.close()
    return statistics.median(rates)


@pytest.mark.parametrize("shared", [False, True])
async def test_orders_a_second_through_the_budget(shared: bool, redis_url: str, figure: Figure) -> None:
    async with open_redis(redis_url) as redis, echoing() as url:
        await redis.config_resetstat()
        rate = await orders_a_second(url, Ledger(redis if shared else None))
        scripts = (await redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
    assert scripts >= REQUESTS if shared else scripts == 0
    whose = "shared through Redis" if shared else "of this process alone"
    figure(
        f"signed orders of one process, {AT_ONCE} at once, budget {whose}",
        f"{rate:6.0f}/s   {1000 / rate:.2f} ms each",
    )
