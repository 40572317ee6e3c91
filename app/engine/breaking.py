"""Breaking: a connection whose venue refuses its credentials, bans it, or leaves its orders in doubt takes no entries.

It goes into `error`, which takes back what is not filled and tells its owner; a passed test is the way back. What is
open stays watched and protected, and exits are attempted all the same.
"""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

import structlog

from app.desk import Desk
from app.engine.connections import put_in_error
from app.engine.rooms import apart
from app.store import connections
from app.store.connections import Connection, Strike

log = structlog.get_logger(__name__)

LIMITS: Final[Mapping[Strike, int]] = {Strike.REFUSED: 3, Strike.DOUBTED: 5, Strike.BANNED: 1}
"""How many of a kind in a row are too many."""

_WHY: Final[Mapping[Strike, str]] = {
    Strike.BANNED: "The venue has shut this installation's address or the account out for asking too much.",
    Strike.REFUSED: "The venue refuses the credentials, again and again.",
    Strike.DOUBTED: "What became of its last orders was left open by the venue, again and again.",
}
"""What its owner is told, the gravest first."""

_WAY_BACK: Final = (
    "Open positions stay watched and can be closed. Test the connection, then activate it again."
)


async def enforce(desk: Desk) -> None:
    """Put every connection that has too many strikes into `error`. Any number of workers may do this at once."""
    async with desk.sessions() as session:
        struck = await connections.struck(session, LIMITS)
    await apart(_break(desk, connection_id) for connection_id in struck)


async def _break(desk: Desk, connection_id: UUID) -> None:
    def too_many(connection: Connection) -> str | None:
        why = next((_WHY[each] for each in _WHY if connection.strikes(each) >= LIMITS[each]), None)
        return None if why is None else f"{why} {_WAY_BACK}"

    if await put_in_error(desk, connection_id, too_many):
        log.warning("connection_broken", connection_id=str(connection_id))
