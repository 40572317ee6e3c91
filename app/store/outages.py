"""Outages: whether an error says no more than that the database was away, or too busy to answer in time.

A clash is something else: the same may be tried again, and it is still a mistake of ours that somebody has to see.
"""

from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# PostgreSQL's classes of passing conditions: connection lost, no resources, lock not available, an operator's
# intervention (shutdown, a statement that took too long).
_PASSING: Final = ("08", "53", "55", "57")

# The one it breaks a transaction off by: mostly a deadlock, which two orders of locking make.
_BROKEN_OFF: Final = "40"


def is_outage(error: BaseException | None) -> bool:
    """Whether the same may be tried again as it is once the database is back; of a group that must hold for all."""
    match error:
        # With the name of a file it is about that file, and no server.
        case PoolTimeout() | OSError(filename=None) | asyncpg.InterfaceError():
            return True
        case asyncpg.PostgresError():
            return (error.sqlstate or "").startswith(_PASSING)
        case DBAPIError():
            return error.connection_invalidated or is_outage(_driver_error(error))
        case ExceptionGroup():
            return all(is_outage(each) for each in error.exceptions)
        case Exception(__cause__=asyncpg.PostgresError() as cause):
            # A connection that could not be made for somebody who speaks to the driver itself.
            return is_outage(cause)
        case _:
            return False


def is_clash(error: BaseException) -> bool:
    """Whether the database broke a transaction off for the sake of another that waited for it."""
    told = _driver_error(error) if isinstance(error, DBAPIError) else error
    return isinstance(told, asyncpg.PostgresError) and (told.sqlstate or "").startswith(_BROKEN_OFF)


def _driver_error(error: DBAPIError) -> BaseException | None:
    """What asyncpg itself raised, below SQLAlchemy's translation."""
    return error.orig.__cause__ if error.orig is not None else None


def reason_of(outage: BaseException) -> str:
    """What the server or the socket said, in one line; never a statement or what it was about."""
    while isinstance(outage, ExceptionGroup):
        outage = outage.exceptions[0]
    told = _driver_error(outage) if isinstance(outage, DBAPIError) else None
    return f"{type(told or outage).__name__}: {str(told or outage).partition(chr(10))[0]}"
