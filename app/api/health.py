"""Health: whether this process lives, and whether it can do its work."""

from enum import StrEnum
from functools import cache
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.bodies import ExactRoute
from app.api.problems import Unavailable, raises
from app.api.sessions import ReadingAll
from app.api.wire import View
from migrations import head_revision

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


@router.get("/livez")
async def live() -> Alive:
    """Whether the process answers; asks nothing of anybody else."""
    return Alive(status=State.OK)


@router.get("/readyz", responses=raises("unavailable"))
async def ready(session: ReadingAll, redis: RedisState) -> Ready:
    """Whether the process can do its work: the database answers and is migrated."""
    try:
        revision = await present_revision(session)
    except ProgrammingError:
        raise Unavailable("The database was never migrated.") from None
    if revision != newest_revision():
        raise Unavailable(f"The database is at revision {revision}; this build needs {newest_revision()}.")
    return Ready(status=State.OK, database=State.OK, redis=redis)
