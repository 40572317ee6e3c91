"""Sessions: how a handler reaches the desk, and the database for reading. Only the engine writes."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.desk import Desk


def desk_of(request: Request) -> Desk:
    """The desk this process opened."""
    desk: Desk = request.app.state.desk
    return desk


OpenDesk = Annotated[Desk, Depends(desk_of)]


async def reading(desk: OpenDesk) -> AsyncIterator[AsyncSession]:
    """A session PostgreSQL itself keeps from writing, and that nobody commits."""
    async with desk.sessions() as session:
        await session.connection(execution_options={"postgresql_readonly": True})
        yield session


Reading = Annotated[AsyncSession, Depends(reading, scope="function")]
"""For the length of the handler: its connection is back in the pool before the answer is sent."""
