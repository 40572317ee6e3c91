"""Health: whether this process lives, and whether it can do its work."""

from enum import StrEnum
from functools import cache
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import Field
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.bodies import ExactRoute
from app.api.problems import Unavailable, raises
from app.api.sessions import OpenDesk, ReadingAll
from app.api.wire import View
from app.desk import Desk
from app.engine.rekeying import MissingKeys, keys_checked
from migrations import head_revision

log = structlog.get_logger(__name__)

router = APIRouter(tags=["health"], route_class=ExactRoute)


class State(StrEnum):
    """Whether something this process works with answers."""

    OK = "ok"
    AWAY = "away"


class Alive(View):
    """The process answers."""

    status: State = Field(examples=["ok"])
    """Always `ok`."""


class Ready(View):
    """The process can do its work."""

    status: State = Field(examples=["ok"])
    """Always `ok`; otherwise the answer is a 503."""
    database: State = Field(examples=["ok"])
    """PostgreSQL answers and is migrated."""
    redis: State = Field(examples=["ok"])
    """Whether Redis answers. While it is `away` the engine goes on, a few seconds slower."""


@cache
def newest_revision() -> str | None:
    """The database revision this build is made for."""
    return head_revision()


async def present_revision(session: AsyncSession) -> str | None:
    """The revision the database is at. Raises ProgrammingError when it was never migrated."""
    revision: str | None = await session.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


async def redis_state(request: Request) -> State:
    """Whether Redis answers."""
    redis: Redis = request.app.state.redis
    try:
        await redis.ping()
    except (RedisError, OSError):
        return State.AWAY
    return State.OK


RedisState = Annotated[State, Depends(redis_state)]


async def _check_keys(state: Any, desk: Desk) -> None:
    """What the start could not check, for want of a database. Raises Unavailable."""
    try:
        state.keys_checked = state.keys_checked or await keys_checked(desk)
    except MissingKeys as reason:
        log.error("vault_keys_missing", reason=str(reason))
        raise Unavailable("This process lacks a vault key in use; its log says which.") from None
    if not state.keys_checked:
        raise Unavailable("The vault keys cannot be checked.")


@router.get("/livez")
async def live() -> Alive:
    """Whether the process answers; asks nothing of anybody else."""
    return Alive(status=State.OK)


@router.get("/readyz", responses=raises("unavailable"))
async def ready(request: Request, desk: OpenDesk, session: ReadingAll, redis: RedisState) -> Ready:
    """Whether the process can do its work: the database answers and is migrated, and no vault key in use is missing."""
    try:
        revision = await present_revision(session)
    except ProgrammingError:
        raise Unavailable("The database was never migrated.") from None
    if revision != newest_revision():
        raise Unavailable(f"The database is at revision {revision}; this build needs {newest_revision()}.")
    await _check_keys(request.app.state, desk)
    return Ready(status=State.OK, database=State.OK, redis=redis)
