"""Me: who the token says is calling, and what their plan allows."""

from fastapi import APIRouter
from pydantic import Field

from app.api.bodies import ExactRoute
from app.api.callers import Caller, Reader, Scope
from app.api.sessions import OpenDesk, Reading
from app.api.wire import Instant, View
from app.desk import Desk
from app.domain.owners import Role
from app.store import connections, entitlements
from app.store.entitlements import Entitlement

router = APIRouter(prefix="/me", tags=["me"], route_class=ExactRoute)


class Plan(View):
    """What the platform says you have subscribed to."""

    required: bool = Field(examples=[True])
    """Whether you need a plan: admins do not, and nobody does where the installation has no plans."""
    is_current: bool = Field(examples=[True])
    """Whether you may create, test and activate connections and receive signals."""
    plans: list[str] = Field(examples=[["gold"]])
    """The plans you have or had."""
    expires_at: Instant | None
    """When they end; null for open-ended ones."""


class ConnectionCount(View):
    """How many accounts are connected."""

    used: int = Field(examples=[1])
    """How many you have."""
    allowed: int | None = Field(examples=[3])
    """How many your plan allows; null is no limit."""


class Me(View):
    """Who is calling."""

    id: str = Field(examples=["user-42"])
    """Your id on the platform: the token's `sub`."""
    role: Role = Field(examples=["user"])
    """Your role; what you own as a user and as an admin is apart."""
    scopes: list[Scope] = Field(examples=[["read", "trade"]])
    """What this token allows."""
    token_expires_at: Instant
    """When this token expires."""
    entitlement: Plan
    """Your plan."""
    connections: ConnectionCount
    """Your connections."""


def _plan(desk: Desk, caller: Caller, held: Entitlement | None) -> Plan:
    required = desk.entitlements_required and caller.owner.role is Role.USER
    return Plan(
        required=required,
        is_current=not required or (held is not None and held.is_current(desk.now())),
        plans=held.plans if held else [],
        expires_at=held.expires_at if held else None,
    )


@router.get("")
async def get_me(caller: Reader, desk: OpenDesk, session: Reading) -> Me:
    """Who the token says you are, your plan, and your connections."""
    is_user = caller.owner.role is Role.USER
    held = await entitlements.of_user(session, caller.owner.id) if is_user else None
    plan = _plan(desk, caller, held)
    return Me(
        id=caller.owner.id,
        role=caller.owner.role,
        scopes=sorted(caller.scopes),
        token_expires_at=caller.expires_at,
        entitlement=plan,
        connections=ConnectionCount(
            used=await connections.count_of_owner(session, caller.owner),
            allowed=held.max_connections if held and plan.required else None,
        ),
    )
