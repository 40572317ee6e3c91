"""System: how the engine as a whole is doing, for admins."""

from datetime import datetime
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.bodies import ExactRoute
from app.api.callers import ADMINS_ONLY
from app.api.health import RedisState, State, newest_revision, present_revision
from app.api.sessions import OpenDesk, ReadingAll
from app.api.wire import Instant, View
from app.domain.risk import Mode
from app.store import trading, workload
from app.store.workers import Worker

router = APIRouter(prefix="/admin/system", tags=["admin"], route_class=ExactRoute, dependencies=[ADMINS_ONLY])

VERSION: Final = version("trading-execution-engine")


class DatabaseState(View):
    """PostgreSQL, which answered this request."""

    state: State = Field(examples=["ok"])
    """`away` when it is not at the revision this build needs."""
    revision: str | None = Field(examples=["0001"])
    """The revision it is at."""
    needed_revision: str | None = Field(examples=["0001"])
    """The revision this build needs."""


class WorkerState(View):
    """One worker process."""

    name: str = Field(examples=["worker-1:4242"])
    """Host and process id."""
    version: str = Field(examples=["0.1.0"])
    """The build it runs."""
    started_at: Instant
    """When it started."""
    seen_at: Instant
    """Its last heartbeat."""
    silent_seconds: int = Field(examples=[3])
    """How long ago that was, in seconds."""


class TradingState(View):
    """How far the whole engine may trade."""

    state: Mode = Field(examples=["active"])
    """`reducing` and `halted` take no entries; exits always go on.

    A database restored from a backup or promoted from a replica is `halted` until an admin sets the state in it.
    """
    reason: str | None = Field(examples=["The venue fills at absurd prices"])
    """Why, in the words of the admin who set it, or the engine's own; null when nobody ever set it."""
    set_by: str | None = Field(examples=["admin-1"])
    """The id of that admin."""
    set_at: Instant | None
    """When it was set."""


class Counts(View):
    """How much work there is."""

    pending_executions: int = Field(examples=[0])
    """Entries that wait for a worker."""
    sending_orders: int = Field(examples=[0])
    """Orders that may or may not have reached their venue."""
    orders_in_review: int = Field(examples=[0])
    """Orders whose venue cannot say what became of them; a human is needed."""
    open_positions: int = Field(examples=[12])
    """Positions that are open or closing."""
    positions_to_protect: int = Field(examples=[0])
    """Positions whose protective orders are not yet as planned."""


class System(View):
    """How the engine is doing."""

    version: str = Field(examples=["0.1.0"])
    """The build of the process that answers."""
    time: Instant
    """Its clock."""
    database: DatabaseState
    """PostgreSQL."""
    redis: State = Field(examples=["ok"])
    """Redis. While it is `away` the engine goes on, a few seconds slower."""
    trading: TradingState
    """The kill switch."""
    workers: list[WorkerState]
    """The worker processes seen within a day, the freshest first."""
    counts: Counts
    """How much work there is."""
    oldest_pending_seconds: int | None = Field(examples=[None])
    """How long the oldest pending execution has waited, in seconds; null when none waits."""


async def _workers(session: AsyncSession, now: datetime) -> list[WorkerState]:
    rows = await session.scalars(select(Worker).order_by(Worker.seen_at.desc()))
    return [WorkerState.of(row, silent_seconds=_seconds(row.seen_at, now)) for row in rows]


def _seconds(start: datetime, end: datetime) -> int:
    return max(0, int((end - start).total_seconds()))


async def _database(session: AsyncSession) -> DatabaseState:
    revision, needed = await present_revision(session), newest_revision()
    return DatabaseState(
        state=State.OK if revision == needed else State.AWAY, revision=revision, needed_revision=needed
    )


@router.get("")
async def get_system(desk: OpenDesk, session: ReadingAll, redis: RedisState) -> System:
    """How the engine as a whole is doing."""
    now = desk.now()
    load = await workload.present(session)
    return System(
        version=VERSION,
        time=now,
        database=await _database(session),
        redis=redis,
        trading=TradingState.of(await trading.present(session)),
        workers=await _workers(session, now),
        counts=Counts.of(load),
        oldest_pending_seconds=None if load.pending_since is None else _seconds(load.pending_since, now),
    )
