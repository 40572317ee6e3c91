"""A desk for tests: the real database and the paper venue on a recording, a clock that is set, a queue that is read."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from app.brokers.directory import Directory, Venue
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import open_paper
from app.desk import Desk, open_database, open_sessions
from app.domain.market import MarketType
from app.domain.owners import Owner, Role
from app.metrics import Metrics
from app.settings import new_vault_key
from app.store.connections import Connection, ConnectionStatus, Kind
from app.store.schema import new_id
from app.vault import Vault

START = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
USER = Owner(Role.USER, "user-1")


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    moment: datetime = START

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.moment

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.moment += timedelta(seconds=seconds)


@dataclass
class ListQueue:
    """What was rung for, in order; nobody hears it."""

    rung: list[tuple[str, UUID]] = field(default_factory=list)

    async def execute(self, execution_ids: Iterable[UUID]) -> None:
        """Executions are pending."""
        self.rung += [("execute", each) for each in execution_ids]

    async def close_position(self, order_id: UUID) -> None:
        """A close order is pending."""
        self.rung.append(("close_position", order_id))

    async def protect(self, position_id: UUID) -> None:
        """Protective orders have to be brought in line."""
        self.rung.append(("protect", position_id))

    async def follow(self, event_id: UUID) -> None:
        """A later event has come in."""
        self.rung.append(("follow", event_id))

    def deliver(self, channel_ids: Iterable[UUID]) -> None:
        """Something waits for these channels."""
        self.rung.extend(("deliver", each) for each in channel_ids)


def write_recording(path: Path, candles: Sequence[tuple[str, str, str, str]]) -> Path:
    """A recording of one-minute candles given as (open, high, low, close)."""
    lines = ["open_time,open,high,low,close,volume"]
    for number, (open_, high, low, close) in enumerate(candles):
        opened = datetime(2023, 3, 10, tzinfo=UTC) + timedelta(minutes=number)
        lines.append(f"{opened.isoformat(sep=' ')},{open_},{high},{low},{close},1")
    path.write_text("\n".join(lines) + "\n")
    return path


@asynccontextmanager
async def opened_desk(
    database_url: str,
    clock: Clock,
    recordings: dict[str, Path] | None = None,
    *,
    venues: dict[str, Venue] | None = None,
    entitlements_required: bool = False,
) -> AsyncIterator[Desk]:
    """A desk whose paper venue plays `recordings` at one candle a second from START on."""
    database = open_database(database_url)
    sessions = open_sessions(database)
    played = Recordings(files=recordings or {}, speed=Decimal(1), started_at=START)
    metrics = Metrics()
    brokers = Directory({"paper": open_paper(sessions, played, clock), **(venues or {})}, metrics)
    try:
        yield Desk(
            sessions=sessions,
            brokers=brokers,
            queue=ListQueue(),
            vault=Vault.open([SecretStr(new_vault_key())]),
            now=clock,
            entitlements_required=entitlements_required,
            metrics=metrics,
        )
    finally:
        await brokers.close()
        await database.dispose()


async def add_connection(
    desk: Desk,
    *,
    owner: Owner = USER,
    market_type: MarketType = MarketType.SWAP,
    sizing: dict[str, Any] | None = None,
    paper: dict[str, Any] | None = None,
    kind: Kind = Kind.PAPER,
    exchange: str = "paper",
    **fields: Any,
) -> Connection:
    """An active connection: unless told otherwise a paper one on the recording, with 10,000 USDT."""
    terms = {"prices": "recording", "balance": "10000", "currency": "USDT", "fee_percent": "0.1"}
    now = desk.now()
    connection = Connection(
        id=new_id(),
        owner_role=owner.role,
        owner_id=owner.id,
        name="test",
        kind=kind,
        exchange=exchange,
        market_type=market_type,
        paper={**terms, **(paper or {})},
        sizing=sizing or {"strategy": "fixed", "value": "0.1"},
        status=ConnectionStatus.ACTIVE,
        created_at=now,
        updated_at=now,
        **fields,
    )
    async with desk.sessions.begin() as session:
        session.add(connection)
    return connection
