"""Signals as the webhook hands them to intake, for tests of what follows."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select

from app.desk import Desk
from app.domain.signals import EventType
from app.engine import intake, sweeping
from app.engine.intake import Message, Receipt
from app.engine.sweeping import Finding, Kind
from app.store.executions import Execution
from app.store.orders import Order
from app.store.positions import Position

_COLUMNS: dict[str, Any] = {
    "symbol": "BTC/USDT",
    "market": None,
    "direction": "buy",
    "order_type": "market",
    "entry_price": None,
    "stop_loss": None,
    "quantity": None,
    "timeframe": None,
    "plans": [],
    "expires_at": None,
    "title": None,
    "note": None,
}


async def publish(
    desk: Desk,
    source_id: str = "s1",
    *,
    targets: list[tuple[str, str]] | None = None,
    published_at: datetime | None = None,
    webhook_id: str | None = None,
    **fields: Any,
) -> Receipt:
    """A published signal taken in; prices as strings, targets as (price, portion)."""
    for name in ("entry_price", "stop_loss", "quantity"):
        if isinstance(fields.get(name), str):
            fields[name] = Decimal(fields[name])
    columns = {
        **_COLUMNS,
        **fields,
        "provider": "default",
        "take_profits": json.dumps([{"price": p, "portion": q} for p, q in targets or []]),
        "published_at": published_at or desk.now(),
    }
    return await intake.publish(
        desk, message(desk, EventType.PUBLISHED, source_id, webhook_id=webhook_id), columns
    )


async def change(desk: Desk, type_: EventType, source_id: str = "s1", **data: Any) -> Receipt:
    """A later event about a signal taken in."""
    return await intake.change_signal(desk, message(desk, type_, source_id, data=data))


def message(
    desk: Desk,
    type_: str,
    source_id: str,
    *,
    data: dict[str, Any] | None = None,
    webhook_id: str | None = None,
) -> Message:
    """A verified webhook message."""
    return Message(
        webhook_id=webhook_id or f"{type_}:{source_id}:{desk.now().isoformat()}",
        type=type_,
        timestamp=desk.now(),
        body_sha256=b"",
        data={"id": source_id, **(data or {})},
        provider="default",
        source_id=source_id,
    )


async def execute_all(desk: Desk) -> None:
    """Carry out whatever was rung for, as a worker would, until the bell is silent."""
    queue: Any = desk.queue
    while queue.rung:
        kind, id_ = queue.rung.pop(0)
        await sweeping.carry_out(desk, Finding(Kind(kind), id_))


async def sweep_all(desk: Desk) -> int:
    """Find what is due and carry it out; how much there was."""
    findings = await sweeping.sweep(desk)
    for finding in findings:
        await sweeping.carry_out(desk, finding)
    return len(findings)


async def executions(desk: Desk) -> list[Execution]:
    """Every execution, oldest first."""
    async with desk.sessions() as session:
        return list(await session.scalars(select(Execution).order_by(Execution.id)))


async def positions(desk: Desk) -> list[Position]:
    """Every position, oldest first."""
    async with desk.sessions() as session:
        return list(await session.scalars(select(Position).order_by(Position.id)))


async def orders(desk: Desk, position_id: UUID | None = None) -> list[Order]:
    """Every order, oldest first."""
    wanted = select(Order).order_by(Order.created_at, Order.id)
    if position_id is not None:
        wanted = wanted.where(Order.position_id == position_id)
    async with desk.sessions() as session:
        return list(await session.scalars(wanted))
