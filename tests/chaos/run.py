"""Chaos: the real processes under signals, kills, stops, restarts and venue faults, on the real clock.

    .venv/bin/python -m tests.chaos.run --seed 7 --minutes 20

API and two workers are processes of their own, forked from one that has everything imported, so that a thousand kills
take minutes. PostgreSQL and Redis are real; the exchanges are simulated in this process, which nothing kills, and
their rules are quick: an order is valid for 4 s and settled after 8 s (see `source.QUICK_VENUE`).
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import httpx
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks.webhooks import Webhook

from app.desk import Desk, open_desk
from app.domain.exits import Protection
from app.domain.market import MarketType
from app.domain.owners import Owner, Role
from app.domain.positions import PositionStatus
from app.logs import configure_logs
from app.settings import asyncpg_url, new_vault_key, new_webhook_secret, settings_from
from app.store.executions import UNDER_WAY, Execution, ExecutionStatus
from app.store.positions import Position
from app.store.signals import SignalRow
from migrations import upgrade_to_head
from tests.chaos.checker import Account, Heard, Verdict, check, told, unsettled
from tests.chaos.nemesis import Nemesis
from tests.chaos.processes import Kept, Nursery, Postgres
from tests.chaos.source import QUICK_VENUE, copied
from tests.chaos.stage import VENUES, connected
from tests.chaos.stream import ACCIDENTS, RATES
from tests.servers import free_port, postgres_spot, reachable_directory
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import Fault, lagging, late, partial
from tests.venues.orders import Kind, Listing
from tests.venues.wire import WireRequest
from tests.workers.processes import own_redis

SETTLE: Final = timedelta(seconds=8)
"""The settle time of the quick venues."""

UNCOVERED_AT_MOST: Final = timedelta(seconds=60)
"""How long a position may be held at a venue without its stop there and without a fresh look of ours."""

LANE_PATIENCE: Final = 180.0
"""Seconds after which a signal that has come to no end is given up, and is a finding."""

COINS: Final = {"BTC": 20000, "ETH": 1000, "SOL": 100, "XRP": 10, "ADA": 20, "DOT": 5}

ODDITIES: Final = (late(1), late(3), late(6), partial(Decimal("0.4")), lagging(1))
"""What happens to placements only; the third comes after the window and is refused by the venue."""

_STORM: Final = 0.25
"""The part of RATES that strikes on the real clock, where every accident costs real seconds."""


@dataclass
class Outcome:
    """What a run has to say for itself."""

    seed: int
    verdict: Verdict
    deeds: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    """How processes ended."""
    stuck: list[str] = field(default_factory=list)
    settled_after: float = 0.0
    """Seconds after the last fault until nothing was under way."""
    longest_uncovered: float = 0.0
    """The longest that a position was held without its stop at the venue and without a fresh look."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "seed": self.seed,
            "minutes": round(self.seconds / 60, 1),
            **told(self.verdict),
            "deeds": dict(sorted(self.deeds.items())),
            "lives that ended": dict(sorted(self.ends.items())),
            "faults": dict(sorted(self.faults.items())),
            "stuck": self.stuck,
            "settled after the last fault, in seconds": round(self.settled_after, 1),
            "longest without a stop or a look, in seconds": round(self.longest_uncovered, 1),
        }


def _listings() -> list[Listing]:
    """Coins at prices of their own; every one is traded on spot and on margin."""
    step = Decimal("0.001")
    return [
        Listing(base, "USDT", kind, Decimal(price), step=step, min_quantity=step)
        for base, price in COINS.items()
        for kind in (Kind.SPOT, Kind.SWAP)
    ] + [Listing("BNB", "USDT", Kind.SPOT, Decimal(300), step=step, min_quantity=step)]


@dataclass(eq=False)
class World:
    """Everything that runs."""

    venue: Exchange
    desk: Desk
    """A desk of the run's own, to look with; it does nothing."""
    accounts: list[Account]
    workers: list[Kept]
    api: Kept
    postgres: Postgres
    nemesis: Nemesis
    http: httpx.AsyncClient
    secret: str
    dice: random.Random
    outcome: Outcome
    heard: Heard = field(default_factory=Heard)
    seen: dict[str, tuple[ExecutionStatus, PositionStatus | None]] = field(default_factory=dict)
    """Where the signals of the lanes stand, as the database says."""
    wanted: set[str] = field(default_factory=set)
    """The signals that lanes wait for."""

    async def deliver(self, type_: str, data: dict[str, Any], webhook_id: str) -> None:
        """Post a signed event until it is answered with 202, and now and then once more."""
        body = json.dumps({"type": type_, "timestamp": datetime.now(UTC).isoformat(), "data": data})
        taken = False
        while not taken or self.dice.random() < 0.1:
            now = datetime.now(UTC)
            headers = {
                "content-type": "application/json",
                "webhook-id": webhook_id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": Webhook(self.secret).sign(webhook_id, now, body),
            }
            with suppress(httpx.TransportError):
                answer = await self.http.post("/v1/webhooks/signals", content=body, headers=headers)
                self.outcome.ends[f"webhook answered {answer.status_code}"] += 1
                taken = taken or answer.status_code == 202
            if not taken:
                await asyncio.sleep(0.2)

    async def look(self) -> None:
        """Keep what the lanes wait for up to date."""
        while True:
            with suppress(SQLAlchemyError, OSError, asyncpg.PostgresError):
                await self._look_once()
            await asyncio.sleep(0.25)

    async def _look_once(self) -> None:
        async with self.desk.sessions() as session:
            rows = await session.execute(
                select(SignalRow.source_id, Execution.status, Position.status)
                .join(Execution, Execution.signal_id == SignalRow.id)
                .outerjoin(Position, Position.execution_id == Execution.id)
                .where(SignalRow.source_id.in_(self.wanted))
            )
            self.seen.update({source_id: (status, held) for source_id, status, held in rows.all()})

    async def cover(self) -> None:
        """Measure how long positions are held without a stop at the venue and without a fresh look of ours."""
        bare_since: dict[tuple[UUID, str], float] = {}
        watched: dict[tuple[UUID, str], datetime | None] = {}
        while True:
            with suppress(SQLAlchemyError, OSError, asyncpg.PostgresError):
                watched = await self._watched()
            now = time.monotonic()
            bare = {
                (account.connection_id, symbol)
                for account in self.accounts
                for symbol in _bare(account, self.venue)
                if not _is_fresh(watched.get((account.connection_id, symbol)))
            }
            bare_since = {each: bare_since.get(each, now) for each in bare}
            longest = max((now - since for since in bare_since.values()), default=0.0)
            self.outcome.longest_uncovered = max(self.outcome.longest_uncovered, longest)
            await asyncio.sleep(0.5)

    async def _watched(self) -> dict[tuple[UUID, str], datetime | None]:
        async with self.desk.sessions() as session:
            rows = await session.execute(
                select(Position.connection_id, Position.symbol, Position.marked_at).where(
                    Position.status != PositionStatus.CLOSED, Position.protection == Protection.SOFTWARE
                )
            )
            return {(connection_id, symbol): marked for connection_id, symbol, marked in rows.all()}

    async def stir(self) -> None:
        """Let every price walk, up to 3 % away from where it began."""
        while True:
            await asyncio.sleep(self.dice.uniform(0.5, 2))
            coin = self.dice.choice(list(COINS))
            price = Decimal(COINS[coin]) * (1 + Decimal(self.dice.randint(-30, 30)) / 1000)
            for symbol in (f"{coin}/USDT", f"{coin}/USDT:USDT"):
                self.venue.move(symbol, price.quantize(Decimal("0.01")))


def _bare(account: Account, venue: Exchange) -> list[str]:
    """The symbols in which a margin account holds more than the stops that rest there would leave."""
    if account.market_type is not MarketType.SWAP:
        return []
    ledger = account.ledger(venue)
    bare = []
    for position in ledger.open_positions:
        stops = [
            order.quantity
            for order in ledger.live.values()
            if order.market is position.market and order.trigger is not None
        ]
        if sum(stops, Decimal(0)) < abs(position.quantity):
            bare.append(position.market.listing.symbol)
    return bare


def _is_fresh(marked_at: datetime | None) -> bool:
    return marked_at is not None and datetime.now(UTC) - marked_at < timedelta(seconds=10)


async def lane(world: World, account: Account, coin: str, ids: "Callable[[], str | None]") -> None:
    """Send signal after signal for one coin on one account, each when the one before has come to its end."""
    while (name := ids()) is not None:
        world.wanted.add(name)
        wording = _wording(world.dice, account, coin)
        published = {"id": name, "plans": [account.plan], "symbol": f"{coin}/USDT", **wording}
        await world.deliver("signal.published", published, f"{name}:published")
        world.heard.published[name] = account.plan
        if world.dice.random() < 0.8:
            await _is_executed(world, name)
        world.nemesis.progress += 1
        await asyncio.sleep(world.dice.uniform(0, 2))
        if world.dice.random() < 0.3:
            stop = str(Decimal(COINS[coin]) * (1 - _away(wording) * Decimal("0.045")))
            await world.deliver("signal.updated", {"id": name, "stop_loss": stop}, f"{name}:updated")
            await asyncio.sleep(world.dice.uniform(0.1, 2))
        await world.deliver("signal.closed", {"id": name}, f"{name}:closed")
        world.heard.closed.add(name)
        if not await _has_ended(world, name):
            world.outcome.stuck.append(f"{name} on {account.exchange}: {world.seen.get(name)}")
        world.wanted.discard(name)
        world.seen.pop(name, None)


async def _is_executed(world: World, name: str) -> None:
    """Wait for it, but not for ever: its close may come first."""
    given_up = time.monotonic() + 20
    while (
        time.monotonic() < given_up and world.seen.get(name, (ExecutionStatus.PENDING, None))[0] in UNDER_WAY
    ):
        await asyncio.sleep(0.25)


async def _has_ended(world: World, name: str) -> bool:
    given_up = time.monotonic() + LANE_PATIENCE
    while time.monotonic() < given_up:
        status, held = world.seen.get(name, (ExecutionStatus.PENDING, None))
        if status not in UNDER_WAY and held in (None, PositionStatus.CLOSED):
            return True
        await asyncio.sleep(0.25)
    return False


def _away(wording: dict[str, Any]) -> int:
    return 1 if wording["direction"] == "buy" else -1


def _wording(dice: random.Random, account: Account, coin: str) -> dict[str, Any]:
    price = Decimal(COINS[coin])
    sells = account.market_type is MarketType.SWAP and dice.random() < 0.5
    away = -1 if sells else 1
    wording: dict[str, Any] = {
        "direction": "sell" if sells else "buy",
        "stop_loss": str(price * (1 - away * Decimal("0.05"))),
    }
    if dice.random() < 0.5:
        wording["take_profits"] = [{"price": str(price * (1 + away * Decimal("0.04"))), "portion": "0.5"}]
    if dice.random() < 0.1:
        wording |= {"order_type": "limit", "entry_price": str(price * (1 - away * Decimal("0.005")))}
    return wording


def _weather(dice: random.Random) -> Callable[[WireRequest], Fault | None]:
    def policy(request: WireRequest) -> Fault | None:
        if dice.random() >= RATES[request.intent] * _STORM:
            return None
        return dice.choice((*ACCIDENTS, *ODDITIES) if request.places else ACCIDENTS)

    return policy


@asynccontextmanager
async def opened_world(directory: Path, seed: int, *, accounts: int) -> AsyncIterator[World]:
    """Everything started, with so many accounts at each of the exchanges, all of them connected and active."""
    async with AsyncExitStack() as stack:
        copy = directory / "program"
        copy.mkdir()
        points = copied(copy, QUICK_VENUE)
        home = stack.enter_context(reachable_directory())
        spot = postgres_spot(home)
        # An immediate restart must lose nothing that was committed: this one keeps its promises.
        durable = type(spot)(spot.directory, spot.port, spot.password, durable=True, log=spot.log)
        postgres = await stack.enter_async_context(Postgres.opened(durable))
        redis = await stack.enter_async_context(own_redis())
        venue = await stack.enter_async_context(running_exchange(listings=_listings()))
        await asyncio.to_thread(upgrade_to_head, asyncpg_url(spot.url()))
        secret = new_webhook_secret()
        environment = {
            "ENGINE_DATABASE_URL": spot.url(),
            "ENGINE_REDIS_URL": redis.url,
            "ENGINE_JWT_SECRET": "a secret of the chaos, long enough",
            "ENGINE_WEBHOOK_SECRETS": secret,
            "ENGINE_VAULT_KEYS": new_vault_key(),
            "ENGINE_BROKER_ENDPOINTS": json.dumps({exchange: venue.url for exchange, _ in VENUES}),
        }
        desk = await stack.enter_async_context(open_desk(settings_from(environment)))
        opened = [
            await _account(desk, venue, number, exchange, market_type)
            for number, (exchange, market_type) in enumerate(VENUES * accounts)
        ]
        nursery = await stack.enter_async_context(Nursery.opened(copy))
        port = free_port()
        api, *workers = (
            Kept(nursery, name, {"program": program, "port": port, "environment": environment,
                                 "log": str(directory / f"{name}.log")})
            for name, program in (("api", "api"), ("worker-1", "worker"), ("worker-2", "worker"))
        )  # fmt: skip
        dice = random.Random(seed)
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)
        )
        yield World(
            venue=venue,
            desk=desk,
            accounts=opened,
            workers=workers,
            api=api,
            postgres=postgres,
            nemesis=Nemesis(random.Random(dice.random()), workers, api, postgres, redis, points),
            http=http,
            secret=secret,
            dice=dice,
            outcome=Outcome(seed, Verdict()),
        )


async def _account(
    desk: Desk, venue: Exchange, number: int, exchange: str, market_type: MarketType
) -> Account:
    keys = venue.open_account({"USDT": "100000000"})
    owner = Owner(Role.USER, f"user-{number}")
    account = Account(uuid4(), owner, f"plan-{number}", exchange, market_type, keys)
    return await connected(desk, account, {"sizing": {"strategy": "fixed", "value": "2"}})


async def chaos(world: World, seconds: float, executions: int) -> Outcome:
    """Let it rage for so many seconds or executions, whichever is over first; then all goes right, and is checked."""
    began = time.monotonic()
    sent = 0

    def next_id() -> str | None:
        nonlocal sent
        if time.monotonic() - began > seconds or sent >= executions:
            return None
        sent += 1
        return f"s{sent}"

    async with _running(
        *(kept.keep() for kept in (world.api, *world.workers)), world.look(), world.cover(), world.stir()
    ):
        world.venue.faults.policy = _weather(random.Random(world.dice.random()))
        raging = asyncio.create_task(world.nemesis.rage())
        lanes = [
            asyncio.create_task(lane(world, account, coin, next_id))
            for account in world.accounts
            for coin in COINS
        ]
        while time.monotonic() - began < seconds and sent < executions:
            await asyncio.sleep(0.2)
        raging.cancel()
        await asyncio.gather(raging, return_exceptions=True)
        world.outcome.faults.update(fault.name for fault, _ in world.venue.faults.struck)
        world.venue.faults.clear()
        calm = time.monotonic()
        await asyncio.gather(*lanes)
        while await unsettled(world.desk.sessions):
            if time.monotonic() - calm > LANE_PATIENCE:
                break
            await asyncio.sleep(0.2)
        world.outcome.settled_after = time.monotonic() - calm
        world.outcome.verdict = await check(
            world.desk.sessions, world.venue, world.accounts, world.heard, datetime.now(UTC)
        )
    world.outcome.seconds = time.monotonic() - began
    world.outcome.deeds = world.nemesis.deeds
    world.outcome.stuck += world.nemesis.failures
    for kept in (world.api, *world.workers):
        world.outcome.ends.update(f"{kept.wanted['program']} ended {code}" for code in kept.ends)
    return world.outcome


@asynccontextmanager
async def _running(*work: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def run(seed: int, seconds: float, executions: int, accounts: int, directory: Path) -> Outcome:
    """A whole run in a directory of its own, where the logs of the processes are left."""
    async with opened_world(directory, seed, accounts=accounts) as world:
        return await chaos(world, seconds, executions)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--executions", type=int, default=10_000)
    parser.add_argument("--accounts", type=int, default=1, help="at each of the exchanges' markets")
    arguments = parser.parse_args()
    configure_logs("json", "ERROR")
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    sys.stdout.write(f"seed {arguments.seed}, logs in {directory}\n")
    sys.stdout.flush()
    outcome = asyncio.run(
        run(arguments.seed, arguments.minutes * 60, arguments.executions, arguments.accounts, directory)
    )
    sys.stdout.write(json.dumps(outcome.as_json(), indent=1) + "\n")
    sys.exit(bool(outcome.verdict.findings or outcome.stuck))


if __name__ == "__main__":
    main()
