"""Counting what is sent to PostgreSQL, whichever layer sends it."""

from typing import Any, Final

from sqlalchemy import event

from app.desk import Desk

AROUND: Final = ("BEGIN", "COMMIT", "ROLLBACK", ";")
"""What begins or ends a transaction, or looks whether a connection is still there."""


class Statements:
    """What has been sent over the connections of a desk that had none yet."""

    def __init__(self, desk: Desk) -> None:
        self.sent: list[str] = []
        database = desk.sessions.kw["bind"].sync_engine
        # SQLAlchemy prepares its statements itself, which the driver does not tell of; all else only the driver knows.
        event.listen(database, "before_cursor_execute", self._hear_prepared)
        event.listen(database, "connect", self._hear_driver)

    def _hear_prepared(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.sent.append(statement)

    def _hear_driver(self, connection: Any, _record: object) -> None:
        connection.driver_connection.add_query_logger(lambda query: self.sent.append(query.query))

    def __str__(self) -> str:
        """As the table shows it."""
        around = sum(each.startswith(AROUND) for each in self.sent)
        return f"{len(self.sent) - around} statements + {around} around them"
