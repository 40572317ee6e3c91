"""Sweeping: finding the work that was left behind. The rows are the queue; this is how they are read.

Each finding is leased by moving its `due_at` ahead, so that several workers share the work; doing a thing twice
is harmless anyway, because every activity claims its row before it acts.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.desk import Desk
from app.domain.orders import OrderStatus
from app.engine import closing, delivering, execution, following, guarding, protection, resolution
from app.store import channels, connections
from app.store.events import Event
from app.store.executions import Execution
from app.store.orders import Order
from app.store.positions import Position

LEASE = timedelta(seconds=10)
"""How long a finding is left to whoever found it."""

BATCH = 200
"""How many rows of a kind one sweep takes."""


class Kind(StrEnum):
    """What has to be done with a row: ways out first, ways in after them; telling stands in line with none of them."""

    CLOSE = "close_position"
    DEADLINE = "deadline"
    PROTECT = "protect"
    RESOLVE = "resolve"
    FOLLOW = "follow"
    EXECUTE = "execute"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that somebody has to look after."""

    kind: Kind
    id: UUID
    venue: str = field(default="", compare=False)
    """The exchange it is about; empty where that is not known, or may be several."""


ACTIVITIES: Mapping[Kind, Callable[[Desk, UUID], Awaitable[None]]] = {
    Kind.CLOSE: closing.carry_out,
    Kind.DEADLINE: guarding.enforce,
    Kind.PROTECT: protection.protect,
    Kind.RESOLVE: resolution.resolve,
    Kind.FOLLOW: following.follow,
    Kind.EXECUTE: execution.execute,
    Kind.DELIVER: delivering.deliver,
}
"""What is done with each finding."""


async def carry_out(desk: Desk, finding: Finding) -> None:
    """Do what a finding asks for."""
    await ACTIVITIES[finding.kind](desk, finding.id)


async def sweep(desk: Desk) -> list[Finding]:
    """Lease what is due, in the order of its kinds."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        found = [(_order_kind(row), row) for row in await _lease(session, Order, Order.due_at, now)]
        for kind, table, due in (
            (Kind.DEADLINE, Position, Position.protect_by),
            (Kind.PROTECT, Position, Position.protect_due_at),
            (Kind.EXECUTE, Execution, Execution.due_at),
        ):
            found += [(kind, row) for row in await _lease(session, table, due, now)]
        events = await _lease(session, Event, Event.due_at, now)
        venues = await connections.exchanges(session, {row.connection_id for _, row in found})
    desk.metrics.rounds.labels("sweep").set(now.timestamp())
    findings = [Finding(kind, row.id, venues[row.connection_id]) for kind, row in found]
    findings += [Finding(Kind.FOLLOW, event.id) for event in events]
    return sorted(findings, key=lambda finding: _ORDER.index(finding.kind))


_ORDER: Final = tuple(Kind)


async def sweep_deliveries(desk: Desk) -> list[Finding]:
    """What waits to be told: found by itself, since nothing else may stand in line behind somebody's slow receiver."""
    async with desk.sessions() as session:
        return [Finding(Kind.DELIVER, each) for each in await channels.due(session, desk.now(), BATCH)]


def _order_kind(order: Order) -> Kind:
    return Kind.CLOSE if order.status is OrderStatus.PENDING else Kind.RESOLVE


async def _lease(session: AsyncSession, table: type[Any], due: Any, now: datetime) -> list[Any]:
    found = select(table.id).where(due <= now).order_by(due).limit(BATCH)
    found = found.with_for_update(skip_locked=True, key_share=True)
    rows = await session.scalars(
        update(table).where(table.id.in_(found.scalar_subquery())).values({due: now + LEASE}).returning(table)
    )
    return list(rows)
