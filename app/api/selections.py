"""Selections: which trades a question about performance is asked of, for all that answers one."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.callers import Caller
from app.api.wire import Body
from app.desk import Desk
from app.domain.errors import Invalid, NotFound
from app.domain.performance import utc_day
from app.store import analytics
from app.store.analytics import Scope


def _iso_day(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        raise ValueError("a day is a date, YYYY-MM-DD")
    return value


Day = Annotated[date, BeforeValidator(_iso_day)]
"""A UTC day; numbers, which would read as seconds since 1970, and times are refused."""


class Days(Body):
    """Which trades are meant, by the UTC day of their `closed_at`."""

    from_: Day | None = Field(default=None, alias="from", examples=["2026-11-01"])
    """The first UTC day, included; without it, or before it, the day of the first activation."""
    to: Day | None = Field(default=None, examples=["2026-11-30"])
    """The last UTC day, included; without it, or after it, today."""
    timezone: Literal["UTC"] = "UTC"
    """The zone in which days begin and end: always UTC."""


class Selection(Days):
    """The trades of all connections of the caller, or of one."""

    connection_id: UUID | None = Field(default=None, examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """Only this connection, which may have been deleted; without it all of yours, taken as one portfolio."""

    @property
    def connection_ids(self) -> tuple[UUID, ...]:
        """The connections named."""
        return () if self.connection_id is None else (self.connection_id,)


class Comparison(Days):
    """The trades of several connections of the caller, or of all, each by itself."""

    connection_id: list[UUID] = Field(
        default_factory=list, max_length=50, examples=[["019aa5c2-7c00-7000-8000-000000000004"]]
    )
    """Which connections; to be given once for each, and without it all of yours."""

    @property
    def connection_ids(self) -> tuple[UUID, ...]:
        """The connections named, each once."""
        return tuple(dict.fromkeys(self.connection_id))


@dataclass(frozen=True, slots=True)
class Question:
    """A selection that is allowed and makes sense. `last_day` is never after `today`."""

    scope: Scope
    first_day: date | None
    last_day: date
    today: date

    @property
    def is_live(self) -> bool:
        """Whether it includes today, which is not complete."""
        return self.last_day == self.today and (self.first_day or date.min) <= self.today


async def ask(
    session: AsyncSession, caller: Caller, desk: Desk, selection: Selection | Comparison
) -> Question:
    """What a caller wants to know. Raises Invalid, and NotFound for a connection that is not theirs."""
    first_day, last_day, today = selection.from_, selection.to, utc_day(desk.now())
    if first_day is not None and last_day is not None and first_day > last_day:
        raise Invalid("from", "`from` is not after `to`.")
    scope = Scope(caller.owner, selection.connection_ids)
    if not await analytics.is_owned(session, scope):
        raise NotFound("connection")
    return Question(scope, first_day, min(last_day or today, today), today)
