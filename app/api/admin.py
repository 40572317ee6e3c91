"""Admin: the same lists over all owners, for reading only. Credentials are in none of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import ColumnElement, select

from app.api.bodies import ExactRoute
from app.api.callers import ADMINS_ONLY
from app.api.connections import ConnectionQuery, OwnedConnection
from app.api.executions import ExecutionQuery, OwnedExecution, listing
from app.api.positions import OwnedPosition, PositionQuery
from app.api.sessions import Reading
from app.api.signals import Signal, SignalQuery
from app.api.wire import Body, Page, Text, page
from app.domain.owners import Role
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
    session: Reading, query: Annotated[AnyConnectionQuery, Query()]
) -> Page[OwnedConnection]:
    """Connections of all owners, newest first."""
    wanted = select(Connection).where(*query.conditions(), *query.owned(Connection))
    return await page(session, wanted, Connection.id, query, OwnedConnection.of)


@router.get("/executions")
async def list_all_executions(
    session: Reading, query: Annotated[AnyExecutionQuery, Query()]
) -> Page[OwnedExecution]:
    """Executions of all owners, newest first."""
    wanted = listing(*query.conditions(), *query.owned(Execution))
    return await page(session, wanted, Execution.id, query, OwnedExecution.seen)


@router.get("/positions")
async def list_all_positions(
    session: Reading, query: Annotated[AnyPositionQuery, Query()]
) -> Page[OwnedPosition]:
    """Positions of all owners, newest first."""
    wanted = select(Position).where(*query.conditions(), *query.owned(Position))
    return await page(session, wanted, Position.id, query, OwnedPosition.of)


@router.get("/signals")
async def list_all_signals(session: Reading, query: Annotated[SignalQuery, Query()]) -> Page[Signal]:
    """Every signal that came in, newest first."""
    wanted = select(SignalRow).where(*query.conditions())
    return await page(session, wanted, SignalRow.id, query, Signal.of)
