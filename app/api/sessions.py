"""Sessions: how a handler reaches the desk, and the database for reading. Only the engine writes."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.callers import Identified
from app.desk import Desk
from app.store import ownership


def desk_of(request: Request) -> Desk:
    """The desk this process opened."""
    desk: Desk = request.app.state.desk
    return desk


OpenDesk = Annotated[Desk, Depends(desk_of)]


async def reading(desk: OpenDesk, caller: Identified) -> AsyncIterator[AsyncSession]:
    """The caller's own reading session, which nobody commits."""
    async with ownership.reading(desk.sessions, caller.owner) as session:
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
