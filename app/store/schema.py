"""What all tables share: the declarative base, ids that sort by time, and the column types of the house."""

import secrets
import time
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from threading import Lock
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import DateTime, Dialect, Enum, MetaData, Numeric, String, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

from app.domain.money import SCALE, stored, trimmed

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class _Ticks:
    """Time in 1/4096 of a millisecond, never the same twice: what one process makes later sorts later."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = Lock()

    def next(self) -> int:
        """The present tick, or the one after the last."""
        with self._lock:
            self._last = max(time.time_ns() * 4096 // 1_000_000, self._last + 1)
            return self._last


_ticks = _Ticks()


def new_id() -> UUID:
    """A UUID version 7 (RFC 9562, method 3): 48 bits of Unix milliseconds, 12 of their fraction, the rest random.

    Ids sort by age, and those of one process in the order they were made.
    """
    milliseconds, fraction = divmod(_ticks.next(), 4096)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0x2 << 62 | secrets.randbits(62))


NEW_ID_SQL = (
    "encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING "
    "substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) "
    "FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid"
)
"""A version 7 id per row in plain SQL: uuidv7() exists from PostgreSQL 18 on only."""


class AmountType(TypeDecorator[Decimal]):
    """Numeric(38, 18); written half to even at 18 places, read without trailing zeros."""

    impl = Numeric(38, SCALE)
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Decimal | None:  # noqa: ARG002 - the hook's shape
        """What is written is what will be read: rounding is ours, not the database's."""
        return None if value is None else stored(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002 - the hook's shape
        """Drop the column's padding zeros, so that equal amounts print alike."""
        if value is None:
            return None
        return trimmed(value)


class MomentType(TypeDecorator[datetime]):
    """timestamptz that takes and gives aware UTC only."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the hook's shape
        """Refuse naive times, which would silently mean the server's zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a naive time has no place in the database")
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the hook's shape
        """In UTC, whatever the session's zone is."""
        return None if value is None else value.astimezone(UTC)


def checked(kind: type[StrEnum], name: str) -> Enum:
    """A StrEnum as text with a CHECK constraint, so that the database refuses unknown words."""
    return Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=32,
        values_callable=lambda enum: [member.value for member in enum],
        validate_strings=True,
    )


Amount = Annotated[Decimal, mapped_column(AmountType)]
Moment = Annotated[datetime, mapped_column(MomentType)]
Name = Annotated[str, mapped_column(String(64))]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
JsonList = Annotated[list[Any], mapped_column(JSONB)]
Key = Annotated[UUID, mapped_column(primary_key=True, default=new_id)]


class Base(DeclarativeBase):
    """The one metadata of all tables."""

    metadata = MetaData(naming_convention=NAMING)
