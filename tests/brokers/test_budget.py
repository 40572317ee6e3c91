"""The budget on the wire: processes that share it stay within an exchange's limits, and heed each other's bans.

The exchange's limits are set as sharp as the budget promises to keep: in a window no more than what polls may take
at once and what drains in that time. Two processes that knew nothing of each other would take twice the burst.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.brokers.crypto import open_crypto
from app.brokers.crypto.broker import digest_of
from app.brokers.crypto.tariffs import tariff_of
from app.brokers.limits.buckets import SHARES, Urgency
from app.brokers.limits.ledger import Ledger
from app.brokers.port import Unreachable
from app.desk import open_redis, utc_now
from app.domain.market import MarketType
from app.domain.orders import OrderType, Side
from app.local.valkey import prepared_valkey
from app.metrics import Metrics
from app.settings import new_vault_key, vault_key_bytes
from app.vault import Vault
from tests.brokers.contract.exchanges import ExchangeStage
from tests.brokers.contract.stage import order
from tests.servers import reachable_directory, running_part, valkey_spot
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.limits import Window
from tests.venues.wire import Intent

EXCHANGE = "binanceusdm"
WEIGHT = 5
"""Of the question for an account's positions."""
SECONDS = 2
"""The exchange's window."""

BUSY = 10.0
"""Seconds of patience with a Redis that is there."""

PROCESSES, ACCOUNTS = 2, 12


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges, by the real clock."""
    async with running_exchange() as exchange:
        yield exchange


class Processes:
    """Several processes as the exchange sees them: each with its own session, market table and ledger."""

    def __init__(self, venue: Exchange, stack: AsyncExitStack) -> None:
        self._venue = venue
        self._stack = stack
        self._vault = Vault([vault_key_bytes(new_vault_key())])

    async def start(
        self,
        ledger: Ledger,
        accounts: int = ACCOUNTS,
        *,
        by: str = "127.0.0.1",
        metrics: Metrics | None = None,
    ) -> list[ExchangeStage]:
        """The accounts of one more process, with its market table loaded; `by` is where its requests leave from."""
        venue = self._venue
        endpoints = {EXCHANGE: f"http://{by}:{venue.port}"}
        crypto = open_crypto(self._vault, endpoints, venue.clock.now, ledger=ledger, metrics=metrics)
        self._stack.push_async_callback(crypto.close)
        stages = []
        for _ in range(accounts):
            keys = venue.open_account({"USDT": "100000"})
            stage = ExchangeStage(venue, EXCHANGE, MarketType.SWAP, keys, vault=self._vault)
            stage.opened = await crypto.open(stage.access())
            self._stack.push_async_callback(stage.opened.close)
            stages.append(stage)
        await stages[0].broker.instruments()
        return stages

    async def start_sharing(
        self, url: str, patience: float = BUSY, *, by: str = "127.0.0.1"
    ) -> list[ExchangeStage]:
        """The same, with a budget in a Redis."""
        redis = open_redis(url)
        self._stack.push_async_callback(redis.aclose)
        return await self.start(Ledger(redis, patience=patience), by=by)


@pytest.fixture
async def processes(venue: Exchange) -> AsyncIterator[Processes]:
    """Processes, all ended afterwards."""
    async with AsyncExitStack() as stack:
        yield Processes(venue, stack)


def tighten(venue: Exchange) -> None:
    """Set the limit to what polls may take in a window, and a little for what was asked before."""
    limit = tariff_of(EXCHANGE, "swap", 0.05).rules[0].limit
    polls = SHARES[Urgency.POLL] * limit.burst + SECONDS / limit.pace
    venue.usdm.weight = Window(int(polls) + 2 * WEIGHT, SECONDS)


async def poll(stages: list[ExchangeStage]) -> None:
    """Ask for the positions of every account again and again."""

    async def one(stage: ExchangeStage) -> None:
        while True:
            try:
                await stage.broker.holdings()
            except Unreachable:
                await asyncio.sleep(0.05)

    await asyncio.gather(*(one(stage) for stage in stages))


async def window_begins(venue: Exchange) -> None:
    """Wait for the exchange's next window, so that what goes at once goes in one."""
    await asyncio.sleep(SECONDS - venue.clock.milliseconds() / 1000 % SECONDS)


async def polled(venue: Exchange, seconds: float, *processes: list[ExchangeStage]) -> None:
    """Let all of them poll for a while, or until the exchange has had to say "too many"."""
    polling = [asyncio.create_task(poll(stages)) for stages in processes]
    for _ in range(int(seconds * 20)):
        await asyncio.sleep(0.05)
        if told_off(venue):
            break
    for task in polling:
        task.cancel()
    for ended in await asyncio.gather(*polling, return_exceptions=True):
        assert isinstance(ended, asyncio.CancelledError), ended


def told_off(venue: Exchange) -> bool:
    """Whether the exchange has had to say "too many"."""
    return bool(venue.usdm.bans.warnings or venue.usdm.bans.until)


def asked(venue: Exchange, intent: Intent = Intent.ACCOUNT) -> int:
    """How many requests of a kind have come in."""
    return sum(request.intent is intent for request in venue.requests)


async def test_processes_that_share_a_budget_are_never_told_off(
    venue: Exchange, processes: Processes, redis_url: str
) -> None:
    one, two = [await processes.start_sharing(redis_url) for _ in range(PROCESSES)]
    tighten(venue)
    await window_begins(venue)
    await polled(venue, 3, one, two)
    assert not told_off(venue)
    assert asked(venue) * WEIGHT > venue.usdm.weight.budget, "the limit was not reached"


async def test_processes_that_share_nothing_would_be(venue: Exchange, processes: Processes) -> None:
    one, two = [await processes.start(Ledger()) for _ in range(PROCESSES)]
    tighten(venue)
    await window_begins(venue)
    await polled(venue, 3, one, two)
    assert told_off(venue)


async def test_they_are_not_told_off_either_when_redis_goes_and_comes_back(
    venue: Exchange, processes: Processes
) -> None:
    with reachable_directory() as directory:
        spot = valkey_spot(directory)
        async with running_part(prepared_valkey(spot)):
            one, two = [await processes.start_sharing(spot.url, 1) for _ in range(PROCESSES)]
            tighten(venue)
            await polled(venue, 2, one, two)
        seen = asked(venue)
        await polled(venue, 2, one, two)
        assert asked(venue) > seen, "nobody went on without Redis"
        async with running_part(prepared_valkey(spot)):
            await polled(venue, 3, one, two)
    assert not told_off(venue)


async def test_a_ban_seen_by_one_process_is_honoured_by_the_other(
    venue: Exchange, processes: Processes, redis_url: str
) -> None:
    [first, *_], [second, *_] = [await processes.start_sharing(redis_url) for _ in range(PROCESSES)]
    venue.usdm.bans.ban(venue.clock, "127.0.0.1")
    with pytest.raises(Unreachable):
        await first.broker.holdings()
    seen = len(venue.requests)
    with pytest.raises(Unreachable):
        await second.broker.holdings()
    with pytest.raises(Unreachable):
        await second.broker.place(order(second, Side.BUY, OrderType.MARKET))
    assert len(venue.requests) == seen


async def test_a_ban_of_one_address_is_none_of_another(
    venue: Exchange, processes: Processes, redis_url: str
) -> None:
    [here, *_] = await processes.start_sharing(redis_url)
    [elsewhere, *_] = await processes.start_sharing(redis_url, by="localhost")
    venue.usdm.bans.ban(venue.clock, "127.0.0.1")
    with pytest.raises(Unreachable):
        await here.broker.holdings()
    venue.usdm.bans.until.clear()
    assert await elsewhere.broker.holdings() == []
    with pytest.raises(Unreachable):
        await here.broker.holdings()


async def test_too_many_orders_of_one_account_hold_back_that_account_only(
    venue: Exchange, processes: Processes, redis_url: str
) -> None:
    [ann, *_], [ben, *_] = [await processes.start_sharing(redis_url) for _ in range(PROCESSES)]
    venue.usdm.order_count = Window(0, 3600)
    for _ in range(2):
        with pytest.raises(Unreachable):
            await ann.broker.place(order(ann, Side.BUY, OrderType.MARKET))
    assert asked(venue, Intent.PLACE) == 1
    venue.usdm.order_count = Window(100, 3600)
    await ben.broker.place(order(ben, Side.BUY, OrderType.MARKET))
    assert asked(venue, Intent.PLACE) == 2


async def test_orders_of_an_account_are_not_held_up_by_the_weight_of_its_address(
    venue: Exchange, processes: Processes
) -> None:
    [ann] = await processes.start(ledger := Ledger(), accounts=1)
    await ann.broker.place(order(ann, Side.BUY, OrderType.MARKET))
    weight = tariff_of(EXCHANGE, "swap", 0.05).rules[0].limit
    address = f"fapi.binance.com:live:from:127.0.0.1:{venue.port}"
    ledger.learn(f"{address}/weight", weight, weight.capacity, ledger.now() + 60)
    placing = asyncio.create_task(ann.broker.place(order(ann, Side.BUY, OrderType.MARKET)))
    async with asyncio.timeout(10):
        while asked(venue, Intent.PLACE) == 1:
            await asyncio.sleep(0.01)
    # What it may not do for a minute is look at what became of it.
    assert not placing.done()
    placing.cancel()
    await asyncio.gather(placing, return_exceptions=True)


async def test_a_claim_that_cannot_go_while_it_is_valid_was_certainly_not_sent(
    venue: Exchange, processes: Processes
) -> None:
    [ann] = await processes.start(ledger := Ledger(), accounts=1)
    await ann.broker.place(order(ann, Side.BUY, OrderType.MARKET))
    orders = tariff_of(EXCHANGE, "swap", 0.05).rules[2].limit
    account = f"fapi.binance.com:live:of:{digest_of({'apiKey': ann.keys.api_key})}"
    ledger.learn(f"{account}/orders-1m", orders, orders.capacity, ledger.now() + 30)
    request = order(ann, Side.BUY, OrderType.MARKET)
    with pytest.raises(Unreachable):
        await ann.broker.place(request)
    assert venue.accepted(request.client_order_id) == []
    assert asked(venue, Intent.PLACE) == 1


async def test_waits_are_counted_by_api_and_urgency(venue: Exchange, processes: Processes) -> None:
    metrics = Metrics()
    [stage] = await processes.start(Ledger(), 1, metrics=metrics)

    def counted(urgency: Urgency) -> float:
        labels = {"exchange": "fapi.binance.com", "urgency": urgency.name.lower()}
        return metrics.registry.get_sample_value("engine_rate_limit_wait_seconds_count", labels) or 0.0

    await stage.broker.holdings()
    before = counted(Urgency.POLL)
    assert before > 0
    seen = len(venue.requests)
    await stage.broker.holdings()
    assert counted(Urgency.POLL) == before + len(venue.requests) - seen
    assert counted(Urgency.ENTRY) == 0


async def test_who_asks_first_at_the_same_time_shares_one_venue() -> None:
    crypto = open_crypto(Vault([vault_key_bytes(new_vault_key())]), {}, utc_now)
    markets = await asyncio.gather(*(crypto.public(EXCHANGE, MarketType.SWAP) for _ in range(5)))
    assert len({id(market) for market in markets}) == 1
    await crypto.close()
