"""The stage: the engine in one process on simulated exchanges, with a clock that is set and lives that can end."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk, Sessions, open_database, open_sessions
from app.domain.market import MarketType
from app.domain.owners import Owner, Role
from app.engine import connections, intake, monitoring, sweeping
from app.main import create_app
from app.settings import Settings, new_vault_key, new_webhook_secret, settings_from
from app.store.connections import Kind
from app.vault import Vault
from tests.chaos.checker import Account, check, unsettled
from tests.chaos.points import LIFE, Life, ProcessDied
from tests.chaos.verdict import Heard, Verdict
from tests.desks import START, ListQueue
from tests.venues.exchange import Exchange, Keys, running_exchange
from workers.jobs import sweep_round

T = TypeVar("T")

VENUES: Final = (
    ("binance", MarketType.SPOT),
    ("binance", MarketType.SWAP),
    ("binanceusdm", MarketType.SWAP),
    ("bybit", MarketType.SPOT),
    ("bybit", MarketType.SWAP),
)
"""What can be traded at: another venue is one more line here, and its simulator's ledger in the checker's Account."""

SWEEP: Final = 2.0
"""Seconds between two rounds of a worker's."""

_LEASED_FOR: Final = 1 + sweeping.LEASE // timedelta(seconds=SWEEP)
"""For how many rounds what a dead worker has taken is left to it."""


@dataclass(eq=False)
class Process:
    """What one process would hold: a desk of its own, and a life that can end."""

    desk: Desk
    life: Life = field(default_factory=Life)
    http: httpx.AsyncClient | None = None

    async def do(self, work: Awaitable[T]) -> T | None:
        """Do something as this process; None when the process has died of it."""
        try:
            return await self.begin(work)
        except ProcessDied:
            return None

    def begin(self, work: Awaitable[T]) -> "asyncio.Task[T]":
        """Begin something as this process and go on without waiting for it."""

        async def carried() -> T:
            return await work

        context = copy_context()
        context.run(LIFE.set, self.life)
        return context.run(asyncio.create_task, carried())

    async def sweep(self) -> None:
        """One round of a worker's sweep: everything that is due, side by side."""
        await self.do(sweep_round(self.desk))

    async def watch(self) -> None:
        """One round of a worker's monitor."""
        await self.do(monitoring.watch(self.desk))

    async def close(self) -> None:
        """Let go of what the process holds."""
        if self.http is not None:
            await self.http.aclose()
        await self.desk.brokers.close()


class Stage:
    """Exchanges, a database, accounts, processes that come and go, and a source of signals."""

    def __init__(self, venue: Exchange, sessions: Sessions, settings: Settings, secret: str) -> None:
        self.venue = venue
        self.sessions = sessions
        self.accounts: list[Account] = []
        self.heard = Heard()
        self.deaths = 0
        self.deadly: set[str] = set()
        """Points at which the worker dies; one that has been deadly once is no more."""
        self._settings = settings
        self._secret = secret
        self._vault = Vault.open([SecretStr(new_vault_key())])
        self._processes: list[Process] = []
        self.worker = self.start()

    def start(self) -> Process:
        """Start another process."""
        now = self.venue.clock.now
        endpoints = dict.fromkeys({exchange for exchange, _ in VENUES}, self.venue.url)
        desk = Desk(
            sessions=self.sessions,
            brokers=Directory({"crypto": open_crypto(self._vault, endpoints, now)}),
            queue=ListQueue(),
            vault=self._vault,
            now=now,
        )
        process = Process(desk)
        transport = httpx.ASGITransport(app=self._api(desk), raise_app_exceptions=False)
        process.http = httpx.AsyncClient(transport=transport, base_url="http://api")
        self._processes.append(process)
        return process

    def _api(self, desk: Desk) -> Any:
        app = create_app(self._settings, desk)
        # An ASGI transport runs no lifespan; this is what it would have set.
        app.state.desk = desk
        return app

    async def replace_the_dead(self) -> None:
        """A supervisor's work: a worker that died is started again."""
        if self.worker.life.died_at is not None:
            self.deaths += 1
            self.deadly.discard(self.worker.life.died_at)
            await self.worker.close()
            self._processes.remove(self.worker)
            self.worker = self.start()
            self.worker.life.die_at(*self.deadly)

    async def open_account(self, exchange: str, market_type: MarketType, **terms: Any) -> Account:
        """Open an account, connect it, test it and let it receive the signals of a plan of its own."""
        number = len(self.accounts)
        keys = self.venue.open_account({"USDT": "10000000", "BNB": "1"})
        owner = Owner(Role.USER, f"user-{number}")
        account = await connected_exchange(
            self.worker.desk, owner, f"plan-{number}", exchange, market_type, keys, **terms
        )
        self.accounts.append(account)
        return account

    async def send(self, process: Process, type_: str, data: dict[str, Any], webhook_id: str) -> int | None:
        """Post a signed event to a process's API, once; the status, None when the process died of it."""
        body = json.dumps({"type": type_, "timestamp": self.venue.clock.now().isoformat(), "data": data})
        now = self.venue.clock.now()
        headers = {
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self._secret).sign(webhook_id, now, body),
        }
        assert process.http is not None
        answer = await process.do(process.http.post("/v1/webhooks/signals", content=body, headers=headers))
        return None if answer is None else answer.status_code

    async def publish(self, account: Account, source_id: str, base: str = "BTC", **signal: Any) -> None:
        """Send a signal for one account's plan until it is answered, as a platform would."""
        given = {"symbol": f"{base}/USDT", "direction": "buy", "stop_loss": "15000", **signal}
        data = {"id": source_id, "plans": [account.plan], **given}
        await self.deliver("signal.published", data, f"{source_id}:published")
        self.heard.published[source_id] = account.plan

    async def end(self, source_id: str) -> None:
        """Send the close of a signal until it is answered."""
        await self.deliver("signal.closed", {"id": source_id}, f"{source_id}:closed")
        self.heard.closed.add(source_id)

    async def deliver(self, type_: str, data: dict[str, Any], webhook_id: str) -> None:
        """Post an event until some process has answered 202."""
        answers = []
        for _ in range(50):
            answers.append(await self.send(self.worker, type_, data, webhook_id))
            await self.replace_the_dead()
            if answers[-1] == 202:
                return
        raise AssertionError(f"{type_} was never taken: {answers}")

    async def round(self, seconds: float = SWEEP) -> None:
        """Time passes, and the workers have a round each of monitor and sweep."""
        await self.venue.advance(seconds)
        await self.worker.watch()
        await self.replace_the_dead()
        await self.worker.sweep()
        await self.replace_the_dead()

    async def rounds(self) -> None:
        """One round; after a death, as many as it takes until what the dead had leased is taken up by the living."""
        quiet = 0
        while quiet < _LEASED_FOR:
            deaths = self.deaths
            await self.round()
            if not self.deadly:
                return
            quiet = quiet + 1 if self.deaths == deaths else 0

    async def settle(self, most: timedelta) -> timedelta | None:
        """Let rounds pass until nothing is under way; how long it took, None when it takes longer than `most`."""
        began = self.venue.clock.now()
        while self.venue.clock.now() - began <= most:
            if not await unsettled(self.sessions):
                return self.venue.clock.now() - began
            await self.round()
        return None

    async def verdict(self) -> Verdict:
        """What the checker says now."""
        return await check(self.sessions, self.venue, self.accounts, self.heard, self.venue.clock.now())

    async def close(self) -> None:
        """End every process."""
        for process in self._processes:
            await process.close()


async def connected(
    desk: Desk,
    owner: Owner,
    plan: str,
    kind: Kind,
    exchange: str,
    market_type: MarketType,
    credentials: Mapping[str, str],
    **terms: Any,
) -> UUID:
    """Connect an account through a desk, for the signals of one plan: entitled, tested, active; the connection's id."""
    await intake.entitle(desk, owner.id, [plan], None)
    given: Any = {
        "name": plan,
        "credentials": credentials,
        "sizing": {"strategy": "fixed", "value": "0.01"},
        **terms,
    }
    connection = await connections.create(
        desk, owner, kind=kind, exchange=exchange, market_type=market_type, sandbox=False, terms=given
    )
    examination = await connections.test(desk, owner, connection.id)
    assert examination.ok, examination.message
    await connections.activate(desk, owner, connection.id)
    return connection.id


async def connected_exchange(
    desk: Desk, owner: Owner, plan: str, exchange: str, market_type: MarketType, keys: Keys, **terms: Any
) -> Account:
    """The same for an account at one of the exchanges."""
    credentials = {"api_key": keys.api_key, "api_secret": keys.secret}
    id_ = await connected(desk, owner, plan, Kind.CRYPTO, exchange, market_type, credentials, **terms)
    return Account(id_, owner, plan, exchange, market_type, keys)


@asynccontextmanager
async def opened_stage(
    database_url: str, venues: Sequence[tuple[str, MarketType]] = VENUES
) -> AsyncIterator[Stage]:
    """A stage on an empty, migrated database, with one account at each of the venues."""
    secret = new_webhook_secret()
    settings = settings_from(
        {
            "ENGINE_DATABASE_URL": database_url,
            "ENGINE_REDIS_URL": "redis://127.0.0.1:1/0",
            "ENGINE_JWT_SECRET": "a secret of the stage, long enough",
            "ENGINE_WEBHOOK_SECRETS": secret,
            "ENGINE_VAULT_KEYS": new_vault_key(),
        }
    )
    database = open_database(database_url)
    async with running_exchange(start=START) as venue:
        stage = Stage(venue, open_sessions(database), settings, secret)
        try:
            for exchange, market_type in venues:
                await stage.open_account(exchange, market_type)
            yield stage
        finally:
            await stage.close()
            await database.dispose()
