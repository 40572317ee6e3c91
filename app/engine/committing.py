"""Committing: what follows from changed rows once the transaction that changed them has been committed.

It listens to the sessions of a desk, not to the activities: a change of a row cannot be made without it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from app.desk import Desk

Consequence = Callable[[], Any]
Reading = Callable[[Session, object], Iterable[Consequence]]
"""Reads from one row of a flush, whose history is still there, what is to be done after the commit."""


def attach(desk: Desk, read: Reading) -> None:
    """Do what `read` finds in the rows that this desk's sessions change, after each commit."""
    # A key of its own for every reader of a session.
    key = object()

    def note(session: Session, _: object) -> None:
        noted: list[Consequence] = session.info.setdefault(key, [])
        for row in (*session.new, *session.dirty):
            noted.extend(read(session, row))

    def act(session: Session) -> None:
        for consequence in session.info.pop(key, ()):
            consequence()

    def drop(session: Session) -> None:
        session.info.pop(key, None)

    watched = desk.sessions.kw["sync_session_class"]
    event.listen(watched, "after_flush", note)
    event.listen(watched, "after_commit", act)
    event.listen(watched, "after_rollback", drop)
