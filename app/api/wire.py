"""The wire: what all resources share. Exact amounts, UTC times, plain text, and lists in pages."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Generic, Self, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    StrictBool,
    StringConstraints,
    WithJsonSchema,
)
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.domain import money
from app.domain.owners import Role

_DECIMAL_GIVEN: Final = {"type": "string", "pattern": r"^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?$"}
_DECIMAL: Final = {"type": "string", "pattern": r"^-?\d{1,19}(\.\d{1,18})?$", "examples": ["0.125"]}


def _positive(amount: Decimal) -> Decimal:
    if amount <= 0:
        raise ValueError("an amount is above zero")
    return amount


def _percentage(amount: Decimal) -> Decimal:
    if not 0 < amount <= 100:
        raise ValueError("a percentage is above 0 and at most 100")
    return amount


def _percentage_or_zero(amount: Decimal) -> Decimal:
    if not 0 <= amount <= 100:
        raise ValueError("a percentage is 0 to 100")
    return amount


def _portion(amount: Decimal) -> Decimal:
    if not 0 < amount <= 1:
        raise ValueError("a portion is above 0 and at most 1")
    return amount


def printable(text: str) -> str:
    """Text that fits one line: no control characters, no NUL, no half of a surrogate pair."""
    if not text.isprintable():
        raise ValueError("text is printable characters on one line")
    return text


def _iso(value: object) -> object:
    if not isinstance(value, str | datetime):
        raise ValueError("a time is an ISO-8601 text with an offset")  # noqa: TRY004 - pydantic reads ValueError
    return value


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time lies between the years 1 and 9999") from None


Amount = Annotated[
    Decimal,
    BeforeValidator(money.parse),
    PlainSerializer(money.text, return_type=str),
    WithJsonSchema(
        {"anyOf": [_DECIMAL_GIVEN, {"type": "number"}], "examples": _DECIMAL["examples"]},
        mode="validation",
    ),
    WithJsonSchema(_DECIMAL, mode="serialization"),
]
"""An exact amount: decimal strings and JSON numbers in, a decimal string without trailing zeros out."""

PositiveAmount = Annotated[Amount, AfterValidator(_positive)]
Percentage = Annotated[Amount, AfterValidator(_percentage)]
PercentageOrZero = Annotated[Amount, AfterValidator(_percentage_or_zero)]
Portion = Annotated[Amount, AfterValidator(_portion)]

Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_iso),
    AfterValidator(_utc),
    Field(examples=["2026-11-24T09:30:00.125Z"]),
]
"""A time: ISO-8601 with an offset in, UTC with `Z` out."""

Text = Annotated[str, Strict(), StringConstraints(min_length=1, max_length=64), AfterValidator(printable)]
"""A name or id of at most 64 characters."""

Flag = StrictBool
Count = Annotated[int, Strict(), Field(ge=1, le=1_000_000)]


class Body(BaseModel):
    """What is sent to us: a field we do not know is refused, so that nothing is silently ignored."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class View(BaseModel):
    """What we answer, read from rows by the names of its fields."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    @classmethod
    def of(cls, row: object, **beside: object) -> Self:
        """The view of a row; `beside` is what the row itself does not hold."""
        return cls.model_validate(
            {name: beside[name] if name in beside else getattr(row, name) for name in cls.model_fields}
        )


class OwnerView(View):
    """Whose something is."""

    role: Role = Field(examples=["user"])
    """Whether the owner is a user or an admin; the two are apart even where ids are equal."""
    id: str = Field(examples=["user-42"])
    """The owner's id on the platform: the `sub` of their token."""


class CurrencyAmount(View):
    """An amount of one currency."""

    currency: str = Field(examples=["USDT"])
    """The currency."""
    amount: Amount
    """How much, in `currency`."""

    @classmethod
    def kept(cls, currency: str, amount: str) -> Self:
        """From what a row keeps."""
        return cls(currency=currency, amount=money.kept(amount))


class Paging(Body):
    """Which part of a list is wanted; newest first."""

    limit: int = Field(default=50, ge=1, le=200, examples=[50])
    """How many items at most, 1 to 200."""
    cursor: UUID | None = Field(default=None, examples=["019aa5c2-7c00-7000-8000-0123456789ab"])
    """The `next_cursor` of the page before; without it the newest items."""


V = TypeVar("V", bound=BaseModel)


class Page(BaseModel, Generic[V]):
    """One page of a list, newest first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[V]
    """The items of this page."""
    next_cursor: UUID | None = Field(examples=["019aa5c2-7c00-7000-8000-0123456789ab"])
    """What to pass as `cursor` for the page after this one; null on the last."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Titled `ConnectionPage` instead of `Page[Connection]`."""
        return f"{params[0].__name__}Page"


Rows = Select[*tuple[Any, ...]]
"""A query for rows of any columns."""


async def page(
    session: AsyncSession,
    query: Rows,
    key: InstrumentedAttribute[UUID],
    paging: Paging,
    view: Callable[..., V],
) -> Page[V]:
    """One page of `query`; `key` is the id of its rows, which sorts by time; `view` takes a row's columns."""
    if paging.cursor is not None:
        query = query.where(key < paging.cursor)
    newest_first = query.add_columns(key.label("page_key")).order_by(key.desc()).limit(paging.limit + 1)
    rows = (await session.execute(newest_first)).all()
    shown = rows[: paging.limit]
    return Page(
        items=[view(*row[:-1]) for row in shown],
        next_cursor=shown[-1].page_key if len(rows) > paging.limit else None,
    )
