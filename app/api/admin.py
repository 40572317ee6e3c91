"""Admin: the same lists over all owners, without credentials, the kill switch, and who has used it."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import ColumnElement, select

from app.api.audit import AuditQuery, AuditRecord
from app.api.bodies import ExactRoute
from app.api.callers import ADMINS_ONLY, Admin
from app.api.connections import (
    Clearance,
    CloseAllRequest,
    ConnectionId,
    ConnectionQuery,
    ModeChange,
    OwnedConnection,
    Why,
)
from app.api.executions import ExecutionQuery, OwnedExecution, listing
from app.api.positions import OwnedPosition, PositionQuery
from app.api.problems import raises
from app.api.sessions import OpenDesk, ReadingAll
from app.api.signals import Signal, SignalId, SignalQuery
from app.api.system import TradingState
from app.api.wire import Body, Page, Text, page
from app.domain.errors import NotFound
from app.domain.owners import Role
from app.domain.risk import Mode
from app.engine import halting
from app.store.audit import AuditEntry
from app.store.connections import Connection
from app.store.executions import Execution
from app.store.positions import Position
from app.store.signals import SignalRow

router = APIRouter(prefix="/admin", tags=["admin"], route_class=ExactRoute, dependencies=[ADMINS_ONLY])


class OfOwner(Body):
    """Whose rows are wanted."""

    owner_role: Role | None = Field(default=None, examples=["user"])
    """Only those of users, or of admins."""
    owner_id: Text | None = Field(default=None, examples=["user-42"])
    """Only those of the owner with this id."""

    def owned(self, rows: Any) -> list[ColumnElement[bool]]:
        """The same, as the database reads it for rows of that class."""
        wanted: list[ColumnElement[bool]] = []
        if self.owner_role is not None:
            wanted.append(rows.owner_role == self.owner_role)
        if self.owner_id is not None:
            wanted.append(rows.owner_id == self.owner_id)
        return wanted


class AnyConnectionQuery(ConnectionQuery, OfOwner):
    """Which connections of all owners are wanted."""


class AnyExecutionQuery(ExecutionQuery, OfOwner):
    """Which executions of all owners are wanted."""


class AnyPositionQuery(PositionQuery, OfOwner):
    """Which positions of all owners are wanted."""


@router.get("/connections")
async def list_all_connections(
    session: ReadingAll, desk: OpenDesk, query: Annotated[AnyConnectionQuery, Query()]
) -> Page[OwnedConnection]:
    """Connections of all owners, newest first."""
    wanted = select(Connection).where(*query.conditions(), *query.owned(Connection))
    return await page(session, wanted, Connection.id, query, partial(OwnedConnection.seen, now=desk.now()))


@router.get("/executions")
async def list_all_executions(
    session: ReadingAll, query: Annotated[AnyExecutionQuery, Query()]
) -> Page[OwnedExecution]:
    """Executions of all owners, newest first."""
    wanted = listing(*query.conditions(), *query.owned(Execution))
    return await page(session, wanted, Execution.id, query, OwnedExecution.seen)


@router.get("/positions")
async def list_all_positions(
    session: ReadingAll, query: Annotated[AnyPositionQuery, Query()]
) -> Page[OwnedPosition]:
    """Positions of all owners, newest first."""
    wanted = select(Position).where(*query.conditions(), *query.owned(Position))
    return await page(session, wanted, Position.id, query, OwnedPosition.of)


@router.get("/signals")
async def list_all_signals(session: ReadingAll, query: Annotated[SignalQuery, Query()]) -> Page[Signal]:
    """Every signal that came in, newest first."""
    wanted = select(SignalRow).where(*query.conditions())
    return await page(session, wanted, SignalRow.id, query, Signal.of)


class SignalWithAllExecutions(Signal):
    """A signal with what became of it everywhere."""

    executions: list[OwnedExecution]
    """One for each connection it reached, whoever's it is."""


@router.get("/signals/{signal_id}", responses=raises("not_found"))
async def get_signal_of_all(signal_id: SignalId, session: ReadingAll) -> SignalWithAllExecutions:
    """One signal with the executions of all owners."""
    row = await session.get(SignalRow, signal_id)
    if row is None:
        raise NotFound("signal")
    reached = await session.execute(listing(Execution.signal_id == signal_id).order_by(Execution.id))
    return SignalWithAllExecutions.of(row, executions=[OwnedExecution.seen(*each) for each in reached])


class TradingChange(Body):
    """How far the whole engine may trade."""

    state: Mode = Field(examples=["halted"])
    """`reducing` and `halted` take no entries and take back unfilled ones; exits always go on."""
    reason: Why = Field(examples=["The venue fills at absurd prices"])
    """Why, for the audit trail; at most 500 characters."""


@router.post("/trading")
async def set_trading(change: TradingChange, caller: Admin, desk: OpenDesk) -> TradingState:
    """The kill switch: at once, for every worker. No entry is claimed after this has been answered."""
    return TradingState.of(await halting.set_trading(desk, caller.owner, change.state, change.reason))


@router.post("/connections/{connection_id}/mode", responses=raises("not_found"))
async def set_any_connection_mode(
    connection_id: ConnectionId, change: ModeChange, caller: Admin, desk: OpenDesk
) -> OwnedConnection:
    """Say how far a connection of any owner may trade; its owner is told."""
    changed = await halting.set_mode(
        desk, caller.owner, connection_id, change.mode, change.reason, owner=None
    )
    return OwnedConnection.seen(changed, desk.now())


@router.post("/connections/{connection_id}/close-all", responses=raises("not_found"))
async def close_all_of_any_connection(
    connection_id: ConnectionId, caller: Admin, desk: OpenDesk, request: CloseAllRequest | None = None
) -> Clearance:
    """Take back every unfilled entry of any owner's connection and close its positions at market."""
    reason = request.reason if request else None
    return Clearance.seen(await halting.close_all(desk, caller.owner, connection_id, reason, owner=None))


@router.get("/audit")
async def list_all_audit(session: ReadingAll, query: Annotated[AuditQuery, Query()]) -> Page[AuditRecord]:
    """Who did what to which account, position or switch, when and why, newest first. Nothing is ever taken out."""
    wanted = select(AuditEntry).where(*query.conditions())
    return await page(session, wanted, AuditEntry.id, query, AuditRecord.of)
