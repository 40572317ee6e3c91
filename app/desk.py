"""The desk: what the engine can reach. Opened once per process, for the API, the worker, the CLI and tests alike."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.brokers.limits.ledger import Ledger
from app.brokers.metatrader import open_metatrader
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import open_paper
from app.channels.outlets import Outlets, open_outlets
from app.metrics import Metrics
from app.queue import Queue, RedisQueue
from app.settings import Settings
from app.vault import Vault

Sessions = async_sessionmaker[AsyncSession]

DATABASE_LIMITS = {
    "lock_timeout": "5s",
    "statement_timeout": "15s",
    "idle_in_transaction_session_timeout": "30s",
}
"""What PostgreSQL itself enforces, so that a stuck transaction frees its locks."""

CONNECT_SECONDS = 5
"""How long a server may take to let us in; one that stands still takes the connection and says nothing."""

POOL_SECONDS = 30
"""How long work waits for one of the connections that are open; whoever asks over HTTP is told sooner."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything an activity of the engine works with."""

    sessions: Sessions
    brokers: Directory
    queue: Queue
    vault: Vault
    now: Callable[[], datetime]
    monitor_every: timedelta = timedelta(seconds=5)
    entitlements_required: bool = True
    metrics: Metrics = field(default_factory=Metrics)
    outlets: Outlets = field(default_factory=open_outlets)

    @property
    def quote_max_age(self) -> timedelta:
        """The age at which a quote is no longer one: three rounds of the monitor, at least 30 s."""
        return max(3 * self.monitor_every, timedelta(seconds=30))


def utc_now() -> datetime:
    """The clock of every process."""
    return datetime.now(UTC)


def open_database(url: str, *, pool_size: int = 10, pool_seconds: float = POOL_SECONDS) -> AsyncEngine:
    """A pooled engine. Bound values stay out of error messages: they may be credentials or balances."""
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=pool_seconds,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "server_settings": {"timezone": "UTC", **DATABASE_LIMITS},
            "command_timeout": 20,
        },
    )


def open_sessions(database: AsyncEngine) -> Sessions:
    """Sessions whose rows can still be read after the commit, of a class of their own: who listens hears no others."""
    own = type("DeskSession", (Session,), {})
    return async_sessionmaker(database, expire_on_commit=False, sync_session_class=own)


def open_redis(url: str) -> Redis:
    """A client that gives up quickly: nobody waits for a doorbell."""
    redis: Redis = Redis.from_url(url, socket_connect_timeout=1, socket_timeout=2)
    return redis


def _played(settings: Settings) -> Recordings | None:
    """What the paper market plays in this process; None when it plays nothing."""
    if not settings.candles or settings.candles_started_at is None:
        return None
    return Recordings(settings.candles, settings.candles_speed, settings.candles_started_at)


@asynccontextmanager
async def open_desk(
    settings: Settings, *, now: Callable[[], datetime] = utc_now, pool_seconds: float = POOL_SECONDS
) -> AsyncIterator[Desk]:
    """Open everything a process needs, and close it again."""
    database = open_database(settings.database_url.get_secret_value(), pool_seconds=pool_seconds)
    redis = open_redis(settings.redis_url.get_secret_value())
    sessions = open_sessions(database)
    vault = Vault.open(settings.vault_keys)
    queue, metrics = RedisQueue(redis), Metrics()
    crypto = open_crypto(
        vault,
        settings.broker_endpoints,
        now,
        ledger=Ledger(redis),
        egress=settings.egress,
        metrics=metrics,
    )
    brokers = Directory(
        {
            "paper": open_paper(sessions, _played(settings), now, crypto.public),
            "crypto": crypto,
            "fx": open_metatrader(vault, settings.broker_endpoints, now),
        },
        metrics,
    )
    try:
        yield Desk(
            sessions=sessions,
            brokers=brokers,
            queue=queue,
            vault=vault,
            now=now,
            monitor_every=timedelta(seconds=settings.monitor_seconds),
            entitlements_required=settings.entitlements_required,
            metrics=metrics,
            outlets=open_outlets(settings),
        )
    finally:
        await brokers.close()
        await queue.close()
        await redis.aclose()
        await database.dispose()
