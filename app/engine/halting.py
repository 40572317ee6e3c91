"""Halting: how far a connection, or the whole engine, may trade, and the way out of everything at once.

A mode gates entries only. No claim commits after it: for a connection both take its row lock, for the whole
engine one advisory lock, shared by the claims. Unfilled entries are taken back; no exit is ever in the way of it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import select, union
from sqlalchemy.ext.asyncio import AsyncSession

from app.desk import Desk
from app.domain.errors import Denied, NotFound
from app.domain.exits import CloseReason
from app.domain.orders import OrderStatus, Purpose
from app.domain.owners import Owner, Role
from app.domain.risk import Mode, check_mode
from app.engine import closing, telling, trades, withdrawing
from app.engine.connections import check_plan
from app.engine.lapsing import Ending
from app.store import audit, connections, trading
from app.store.audit import Action
from app.store.connections import Connection
from app.store.executions import UNDER_WAY, Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import OPEN, Position
from app.store.trading import Switch

log = structlog.get_logger(__name__)

AT_ONCE: Final = 8
"""On how many connections entries are taken back side by side."""

_CLEARED: Final = Ending(None, "Taken back by close-all.")


@dataclass(frozen=True, slots=True)
class Remnant:
    """A position that `close_all` found, as it left it; `message` says why it is not closed, if it is not."""

    position: Position
    message: str | None


@dataclass(frozen=True, slots=True)
class Clearance:
    """What `close_all` found on a connection, and what became of it."""

    entries: Sequence[Execution]
    positions: Sequence[Remnant]


async def set_trading(desk: Desk, admin: Owner, state: Mode, reason: str) -> Switch:
    """Set how far the whole engine may trade; unless it is active, every unfilled entry is taken back."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        await trading.speak(session)
        before = await trading.state(session)
        await trading.set_state(session, state, reason, admin.id, now)
        audit.record(session, Action.TRADING, admin, reason, now, before=before, after=state)
        if state is not before:
            await telling.trading_set(session, state, reason, now)
    log.warning("trading_set", state=state, before=before, admin=admin.id)
    if state is not Mode.ACTIVE:
        await _take_everything_back(desk, denial_of(state, whole_engine=True))
    return Switch(state, reason, admin.id, now)


async def set_mode(
    desk: Desk, actor: Owner, connection_id: UUID, mode: Mode, reason: str | None, *, owner: Owner | None
) -> Connection:
    """Set how far a connection may trade; `owner` is whose it has to be, None for an admin's reach over all.

    Raises NotFound, and Forbidden `plan_required` for a user without a current plan unless it gets stricter.
    """
    now = desk.now()
    async with desk.sessions.begin() as session:
        connection = await _locked(session, connection_id, owner)
        before = connection.mode
        if owner is not None and mode.strictness < before.strictness:
            await check_plan(session, desk, owner, now)
        connection.mode = mode
        connection.updated_at = now
        audit.record(
            session,
            Action.MODE,
            actor,
            reason,
            now,
            connection_id=connection_id,
            before=before,
            after=mode,
        )
        if mode is not Mode.ACTIVE:
            await withdrawing.deny_waiting(session, connection_id, denial_of(mode), now)
        if mode is not before:
            telling.mode_set(session, connection, reason, now, by_admin=actor.role is Role.ADMIN)
    log.info("mode_set", connection_id=str(connection_id), mode=mode, before=before)
    if mode is not Mode.ACTIVE:
        await withdrawing.cancel_entries(desk, connection_id, Ending.of(denial_of(mode)))
    return connection


async def close_all(
    desk: Desk, actor: Owner, connection_id: UUID, reason: str | None, *, owner: Owner | None
) -> Clearance:
    """Take back every unfilled entry of a connection and close every open position; tells what became of each.

    The intents are durable before the venue is asked: what it does not do at once is carried out later.
    Raises NotFound.
    """
    now = desk.now()
    async with desk.sessions.begin() as session:
        await _locked(session, connection_id, owner)
        unfilled = await _under_way(session, connection_id)
        held = await _held(session, connection_id)
        await withdrawing.withdraw_waiting(session, connection_id, _CLEARED.message, now)
        for each in sorted({*unfilled, *held}):
            # An entry on its way or in doubt cannot be taken back yet; what is not confirmed is asked for again.
            closing.leave_whole(await trades.locked(session, each), CloseReason.MANUAL, now)
        audit.record(
            session,
            Action.CLOSE_ALL,
            actor,
            reason,
            now,
            connection_id=connection_id,
            entries=len(unfilled),
            positions=len(held),
        )
    await withdrawing.cancel_entries(desk, connection_id, _CLEARED)
    # Once more after the entries are gone: one of them may have been filled on the last metre.
    async with desk.sessions() as session:
        held = await _held(session, connection_id)
    await asyncio.gather(*(closing.leave(desk, each, CloseReason.MANUAL) for each in held))
    return await _clearance(desk, unfilled, held)


def denial_of(mode: Mode, *, whole_engine: bool = False) -> Denied:
    """Why an entry is denied in a mode that takes none."""
    try:
        check_mode(mode, whole_engine=whole_engine)
    except Denied as denial:
        return denial
    raise ValueError(f"{mode} denies nothing")


async def _locked(session: AsyncSession, connection_id: UUID, owner: Owner | None) -> Connection:
    """The connection under its row lock, of this owner or of anybody. Raises NotFound."""
    connection = await connections.locked(session, connection_id)
    if connection is None or connection.deleted_at is not None:
        raise NotFound("connection")
    if owner is not None and connection.owner != owner:
        raise NotFound("connection")
    return connection


async def _take_everything_back(desk: Desk, denial: Denied) -> None:
    """Deny what waits and cancel what rests, on every connection; the monitor does what cannot be done now."""
    unfilled = union(
        select(Execution.connection_id).where(Execution.status == ExecutionStatus.PENDING),
        select(Order.connection_id).where(Order.purpose == Purpose.ENTRY, Order.status == OrderStatus.OPEN),
    )
    async with desk.sessions() as session:
        ids = (await session.scalars(unfilled)).all()
    room = asyncio.Semaphore(AT_ONCE)

    async def one(connection_id: UUID) -> None:
        async with room:
            await _take_back(desk, connection_id, denial, desk.now())

    await asyncio.gather(*(one(each) for each in ids))


async def _take_back(desk: Desk, connection_id: UUID, denial: Denied, now: datetime) -> None:
    async with desk.sessions.begin() as session:
        await connections.locked(session, connection_id)
        await withdrawing.deny_waiting(session, connection_id, denial, now)
    await withdrawing.cancel_entries(desk, connection_id, Ending.of(denial))


async def _under_way(session: AsyncSession, connection_id: UUID) -> Sequence[UUID]:
    rows = await session.scalars(
        select(Execution.id)
        .where(Execution.connection_id == connection_id, Execution.status.in_(UNDER_WAY))
        .order_by(Execution.id)
    )
    return rows.all()


async def _held(session: AsyncSession, connection_id: UUID) -> Sequence[UUID]:
    """The executions whose positions are open."""
    rows = await session.scalars(
        select(Position.execution_id)
        .where(Position.connection_id == connection_id, Position.status.in_(OPEN))
        .order_by(Position.id)
    )
    return rows.all()


async def _clearance(desk: Desk, unfilled: Sequence[UUID], held: Sequence[UUID]) -> Clearance:
    async with desk.sessions() as session:
        entries = await session.scalars(
            select(Execution).where(Execution.id.in_(unfilled)).order_by(Execution.id)
        )
        rows = await session.scalars(
            select(Position).where(Position.execution_id.in_(held)).order_by(Position.id)
        )
        positions = rows.all()
        closes = await session.scalars(
            select(Order)
            .where(Order.execution_id.in_(held), Order.purpose == Purpose.CLOSE)
            .order_by(Order.created_at, Order.id)
        )
        last = {order.execution_id: order for order in closes}
        return Clearance(
            entries.all(),
            [Remnant(each, _obstacle(each, last.get(each.execution_id))) for each in positions],
        )


def _obstacle(position: Position, close: Order | None) -> str | None:
    """Why a position is still open."""
    if position.status not in OPEN:
        return None
    if not position.remaining_quantity:
        return "Nothing is held; its entry is being taken back, and what it fills until then is closed."
    if position.leave_reason is not None:
        return "Another close is under way; what it leaves is closed after it."
    if close is None or not close.is_live:
        return (close.message if close else None) or "It could not be closed."
    return close.message or "The close is under way."
