"""The world of a run: real processes, servers, simulated venues, accounts, and eyes on all of it."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks.webhooks import Webhook

from app.desk import Desk, open_desk
from app.domain.exits import Protection
from app.domain.market import MarketType
from app.domain.money import ZERO
from app.domain.owners import Owner, Role
from app.domain.positions import PositionStatus
from app.settings import asyncpg_url, new_vault_key, new_webhook_secret, settings_from
from app.store.connections import Kind as ConnectionKind
from app.store.executions import Execution, ExecutionStatus
from app.store.positions import Position
from app.store.signals import SignalRow
from migrations import upgrade_to_head
from tests.chaos.checker import Account
from tests.chaos.lanes import COINS, PAIRS, Lane, walked
from tests.chaos.nemesis import Nemesis
from tests.chaos.outcome import SERVES_AFTER, Moment, Outcome, Spells
from tests.chaos.processes import Kept, Nursery, Postgres
from tests.chaos.source import QUICK_VENUE, copied
from tests.chaos.stage import VENUES, connected, connected_exchange
from tests.chaos.tickets import FxAccount, bare_symbols
from tests.chaos.verdict import Heard, Verdict
from tests.servers import free_port, postgres_spot, reachable_directory
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.metatrader import MetaTraderVenue, Method, Platform, running_bridge
from tests.venues.orders import Kind, Listing
from tests.workers.processes import own_redis

ACCOUNTS: Final = (
    (Platform.MT4, Method.HEDGING),
    (Platform.MT5, Method.HEDGING),
    (Platform.MT5, Method.NETTING),
)
"""What is traded at behind the bridges."""


def _listings() -> list[Listing]:
    """Coins at prices of their own; every one is traded on spot and on margin."""
    step = Decimal("0.001")
    return [
        Listing(base, "USDT", kind, Decimal(price), step=step, min_quantity=step)
        for base, price in COINS.items()
        for kind in (Kind.SPOT, Kind.SWAP)
    ] + [Listing("BNB", "USDT", Kind.SPOT, Decimal(300), step=step, min_quantity=step)]


@dataclass(frozen=True, slots=True)
class Cover:
    """What the engine does for a position whose stop is not at its venue."""

    is_left: bool
    """Whether all of it is being closed."""
    marked_at: datetime | None
    """When its price was last looked at."""


@dataclass(eq=False)
class World:
    """Everything that runs."""

    venue: Exchange
    brokers: MetaTraderVenue
    desk: Desk
    """A desk of the run's own, to look with; it does nothing."""
    accounts: list[Account]
    fx_accounts: list[FxAccount]
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
    calm_since: float | None = None
    """When everything began to go right again."""

    @property
    def lanes(self) -> list[Lane]:
        """Every coin on every account, and every pair."""
        lanes = [
            Lane(
                each.plan, each.exchange, f"{coin}/USDT", Decimal(price), each.market_type is MarketType.SWAP
            )
            for each in self.accounts
            for coin, price in COINS.items()
        ]
        return lanes + [
            Lane(each.plan, each.platform, pair, Decimal(bid), sells=True)
            for each in self.fx_accounts
            for pair, bid in PAIRS.items()
        ]

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

    def note_settled(self, since: float) -> None:
        """Something that was under way since then has come to its end; how long it took counts once all goes right."""
        if self.calm_since is not None:
            took = time.monotonic() - max(self.calm_since, since)
            self.outcome.settled_after = max(self.outcome.settled_after, took)

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
        """Measure how long positions are held without a stop at the venue, a fresh look of ours, or a way out begun.

        Whoever closes a position does already what its deadline would ask for; how long that takes is measured apart.
        """
        bare, closing = Spells(self.outcome.uncovered), Spells(self.outcome.leaving)
        covered: dict[tuple[UUID, str], Cover] = {}
        dust: dict[tuple[UUID, str], Decimal] = {}
        now = Moment(time.monotonic(), 0.0)
        while True:
            now = self._later(now)
            with suppress(SQLAlchemyError, OSError, asyncpg.PostgresError):
                covered, dust = await self._covered(), await self._dust()
            without_stop = self._bare(dust)
            leaving = {each for each in without_stop if (known := covered.get(each)) and known.is_left}
            closing.note(leaving, now)
            bare.note(
                {each for each in without_stop if each not in leaving and not _is_fresh(covered.get(each))},
                now,
            )
            await asyncio.sleep(0.5)

    def _later(self, before: Moment) -> Moment:
        wall = time.monotonic()
        serves = any(each.has_run_for() >= SERVES_AFTER.total_seconds() for each in self.workers)
        return Moment(wall, before.served + (wall - before.wall if serves else 0.0))

    def _bare(self, dust: Mapping[tuple[UUID, str], Decimal]) -> list[tuple[UUID, str]]:
        """What is held without its stop at the venue."""
        at_exchanges = [
            (each.connection_id, symbol)
            for each in self.accounts
            for symbol, quantity in _unstopped(each, self.venue).items()
            if quantity > dust.get((each.connection_id, symbol), ZERO) + _ROUNDED
        ]
        return at_exchanges + [
            (each.connection_id, pair)
            for each in self.fx_accounts
            for pair in bare_symbols(each.login(self.brokers))
        ]

    async def _covered(self) -> dict[tuple[UUID, str], Cover]:
        async with self.desk.sessions() as session:
            rows = await session.execute(
                select(Position.connection_id, Position.symbol, Position.status, Position.marked_at).where(
                    Position.status != PositionStatus.CLOSED, Position.protection == Protection.SOFTWARE
                )
            )
            return {
                (connection_id, symbol): Cover(status is PositionStatus.CLOSING, marked_at)
                for connection_id, symbol, status, marked_at in rows.all()
            }

    async def _dust(self) -> dict[tuple[UUID, str], Decimal]:
        """What positions have left that was too small a rest to be sold."""
        async with self.desk.sessions() as session:
            rows = await session.execute(
                select(Position.connection_id, Position.symbol, func.sum(Position.dust)).group_by(
                    Position.connection_id, Position.symbol
                )
            )
            return {(connection_id, symbol): dust for connection_id, symbol, dust in rows.all()}

    async def stir(self) -> None:
        """Let every price walk, up to 3 % away from where it began."""
        while True:
            await asyncio.sleep(self.dice.uniform(0.5, 2))
            coin, pair = self.dice.choice(list(COINS)), self.dice.choice(list(PAIRS))
            price = walked(self.dice, Decimal(COINS[coin]).quantize(Decimal("0.01")))
            for symbol in (f"{coin}/USDT", f"{coin}/USDT:USDT"):
                self.venue.move(symbol, price)
            self.brokers.move(pair, walked(self.dice, Decimal(PAIRS[pair])))


_ROUNDED: Final = Decimal("0.01")
"""What stops may leave uncovered of a position: less than a step of each order."""


def _unstopped(account: Account, venue: Exchange) -> dict[str, Decimal]:
    """How much more of each symbol an account holds than the stops that rest there would leave."""
    ledger = account.ledger(venue)
    if account.market_type is MarketType.SPOT:
        held = {f"{coin}/USDT": ledger.balances.get(coin, ZERO) for coin in COINS}
    else:
        held = {each.market.listing.symbol: abs(each.quantity) for each in ledger.open_positions}
    for order in ledger.live.values():
        symbol = order.market.listing.symbol
        if order.trigger is not None and symbol in held:
            held[symbol] -= order.quantity - order.filled
    return held


def _is_fresh(known: Cover | None) -> bool:
    return (
        known is not None
        and known.marked_at is not None
        and (datetime.now(UTC) - known.marked_at < timedelta(seconds=10))
    )


@asynccontextmanager
async def opened_world(
    directory: Path, seed: int, *, accounts: int, longest_pause: float
) -> AsyncIterator[World]:
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
        brokers = await stack.enter_async_context(running_bridge())
        await asyncio.to_thread(upgrade_to_head, asyncpg_url(spot.url()))
        secret = new_webhook_secret()
        environment = {
            "ENGINE_DATABASE_URL": spot.url(),
            "ENGINE_REDIS_URL": redis.url,
            "ENGINE_JWT_SECRET": "a secret of the chaos, long enough",
            "ENGINE_WEBHOOK_SECRETS": secret,
            "ENGINE_VAULT_KEYS": new_vault_key(),
            "ENGINE_BROKER_ENDPOINTS": json.dumps(
                {exchange: venue.url for exchange, _ in VENUES}
                | {bridge.platform: bridge.url for bridge in brokers.bridges}
            ),
        }
        desk = await stack.enter_async_context(open_desk(settings_from(environment)))
        opened = [
            await _account(desk, venue, number, exchange, market_type)
            for number, (exchange, market_type) in enumerate(VENUES * accounts)
        ]
        opened_fx = [
            await _fx_account(desk, brokers, number, platform, method)
            for number, (platform, method) in enumerate(ACCOUNTS * accounts)
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
            brokers=brokers,
            desk=desk,
            accounts=opened,
            fx_accounts=opened_fx,
            workers=workers,
            api=api,
            postgres=postgres,
            nemesis=Nemesis(
                random.Random(dice.random()),
                workers,
                api,
                postgres,
                redis,
                points,
                longest_pause=longest_pause,
            ),
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
    size = {"strategy": "fixed", "value": "2"}
    return await connected_exchange(desk, owner, f"plan-{number}", exchange, market_type, keys, sizing=size)


async def _fx_account(
    desk: Desk, brokers: MetaTraderVenue, number: int, platform: Platform, method: Method
) -> FxAccount:
    known = brokers.open_account(platform, balance="10000000", method=method, commission="3.5")
    owner, plan = Owner(Role.USER, f"fx-user-{number}"), f"fx-plan-{number}"
    credentials = {"account_id": str(known.user), "api_secret": known.password, "server": known.server}
    size = {"strategy": "fixed", "value": "0.02"}
    id_ = await connected(
        desk, owner, plan, ConnectionKind.FX, platform, MarketType.FX, credentials, sizing=size
    )
    return FxAccount(id_, owner, plan, platform, known)
