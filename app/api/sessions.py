"""Sessions: how a handler reaches the desk, and the database for reading. Only the engine writes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.callers import Identified
from app.desk import Desk
from app.domain.owners import Owner
from app.store import ownership


def desk_of(request: Request) -> Desk:
    """The desk this process opened."""
    desk: Desk = request.app.state.desk
    return desk


OpenDesk = Annotated[Desk, Depends(desk_of)]


@asynccontextmanager
async def reading_of(desk: Desk, owner: Owner) -> AsyncIterator[AsyncSession]:
    """A session in which PostgreSQL itself shows what this owner owns and nothing else, and keeps from writing."""
    async with desk.sessions() as session:
        await session.connection(execution_options={"postgresql_readonly": True})
        await ownership.bind(session, owner)
        yield session


async def reading(desk: OpenDesk, caller: Identified) -> AsyncIterator[AsyncSession]:
    """The caller's own reading session, which nobody commits."""
    async with reading_of(desk, caller.owner) as session:
        yield session


async def reading_all(desk: OpenDesk) -> AsyncIterator[AsyncSession]:
    """A session over all owners that PostgreSQL itself keeps from writing, and that nobody commits."""
    async with desk.sessions() as session:
        await session.connection(execution_options={"postgresql_readonly": True})
        yield session


# For the length of the handler: the connection is back in the pool before the answer is sent.
Reading = Annotated[AsyncSession, Depends(reading, scope="function")]
"""What the caller owns."""
ReadingAll = Annotated[AsyncSession, Depends(reading_all, scope="function")]
"""What all owners own: for admins, and for what is nobody's."""
