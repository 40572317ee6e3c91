"""Audit: who did what to your accounts and positions, and what you did. Nothing is ever taken out of it."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import ColumnElement, select

from app.api.bodies import ExactRoute
from app.api.callers import Reader
from app.api.sessions import Reading
from app.api.wire import Instant, OwnerView, Page, Paging, View, page
from app.store import audit as rows
from app.store.audit import Action, AuditEntry

router = APIRouter(prefix="/audit", tags=["audit"], route_class=ExactRoute)


class AuditRecord(View):
    """One thing that somebody did, or that the engine decided by itself."""

    id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000007"])
    """The record's id."""
    action: Action = Field(examples=["trading"])
    """What was done. `trading` is the kill switch; `create` to `close_all` are of a connection, `daily_loss` of one
    whose limit was reached, `break` of one that the engine put in error; `cancel` and `resolve` are of an
    execution, `edit` and `close` of a position, `channels` of the notification settings."""
    actor: OwnerView | None
    """Who did it; null for the engine itself."""
    connection_id: UUID | None = Field(examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """The account it was about; null for the whole engine."""
    execution_id: UUID | None = Field(examples=["019aa5c2-7c00-7000-8000-000000000002"])
    """The execution it was about."""
    position_id: UUID | None = Field(examples=["019aa5c2-7c00-7000-8000-000000000001"])
    """The position it was about."""
    reason: str | None = Field(examples=["The venue fills at absurd prices"])
    """Why, in the actor's words."""
    detail: dict[str, Any] = Field(examples=[{"before": "active", "after": "halted"}])
    """What changed; of credentials only their version."""
    created_at: Instant
    """When."""


class AuditQuery(Paging):
    """Which records are wanted."""

    action: list[Action] = Field(default_factory=list, examples=[["trading"]])
    """Only these actions; may be given more than once."""
    connection_id: UUID | None = Field(default=None, examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """Only those about this account."""
    position_id: UUID | None = Field(default=None, examples=["019aa5c2-7c00-7000-8000-000000000001"])
    """Only those about this position."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same, as the database reads it."""
        wanted: list[ColumnElement[bool]] = []
        if self.action:
            wanted.append(AuditEntry.action.in_(self.action))
        if self.connection_id is not None:
            wanted.append(AuditEntry.connection_id == self.connection_id)
        if self.position_id is not None:
            wanted.append(AuditEntry.position_id == self.position_id)
        return wanted


Wanted = Annotated[AuditQuery, Query()]


@router.get("")
async def list_audit(caller: Reader, session: Reading, query: Wanted) -> Page[AuditRecord]:
    """What you did, and what was done to what you own, by whom, when and why, newest first."""
    own = select(AuditEntry).where(rows.visible_to(caller.owner), *query.conditions())
    return await page(session, own, AuditEntry.id, query, AuditRecord.of)
