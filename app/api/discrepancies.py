"""Discrepancies: in what the venues and our books differ, for the admin who decides whether to trade on."""

from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from app.api.bodies import ExactRoute
from app.api.callers import ADMINS_ONLY
from app.api.problems import raises
from app.api.sessions import OpenDesk
from app.api.wire import Amount, Body, Instant, OwnerView, View
from app.domain.orders import OrderStatus, Side
from app.domain.positions import PositionSide
from app.engine.comparing import Comparison, DiscrepancyKind, compare

router = APIRouter(
    prefix="/admin/discrepancies", tags=["admin"], route_class=ExactRoute, dependencies=[ADMINS_ONLY]
)


class DiscrepancyQuery(Body):
    """What is compared."""

    connection_id: UUID | None = Field(default=None, examples=["019aa5c2-7c00-7000-8000-0123456789ab"])
    """Only this connection; without it all that are not deleted."""
    since: Instant | None = None
    """From when on fills are looked at, for example when the backup was taken; without it, since the last order of a
    connection was heard of."""


class Discrepancy(View):
    """One thing in which a venue and our books differ."""

    kind: DiscrepancyKind = Field(examples=["unknown_order"])
    """`unknown_order` rests at the venue under an id like ours and is not in our books; `unknown_holding` is what is
    held beyond our open positions (swap), `unknown_fill` of an order not in our books: either may be the owner's own.
    `missing_order` rests by our books alone; `missing_holding` is what is held less than our open positions."""
    symbol: str = Field(examples=["BTC/USDT:USDT"])
    """The symbol; on spot the coin, where it is about what is held."""
    side: Side | PositionSide | None = Field(examples=["long"])
    """`buy` or `sell` of an order or fill, `long` or `short` of what is held; null where the venue does not tell."""
    quantity: Amount | None = Field(examples=["0.1"])
    """In base units (lots for FX); of what is held the difference. Null where the venue does not tell."""
    price: Amount | None = Field(examples=["20000"])
    """Of a fill, and of a missing order where it was to rest; null otherwise."""
    client_order_id: str | None = Field(examples=["9f86d081884c7d659a2feaa0c55ad015"])
    """Of an order; null otherwise."""
    exchange_order_id: str | None = Field(examples=["8389765512345"])
    """The venue's id of an order, or of that behind a fill; null where it is not told."""
    status: OrderStatus | None = Field(examples=["filled"])
    """What the venue says became of a missing order; null where it has none, and for all else."""
    time: Instant | None
    """When a fill happened; null for all else."""


class ConnectionComparison(View):
    """One connection beside its venue."""

    connection_id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-0123456789ab"])
    """The connection."""
    owner: OwnerView
    """Whose it is."""
    exchange: str = Field(examples=["binanceusdm"])
    """Its exchange."""
    asked_at: Instant
    """When its venue was asked."""
    since: Instant
    """From when on fills were looked at."""
    symbols: list[str] | None = Field(examples=[["BTC/USDT:USDT"]])
    """Where resting orders were looked for; null is everywhere. Venues that list them symbol by symbol are asked about
    those that our books or the account's holdings name."""
    discrepancies: list[Discrepancy]
    """In what they differ."""
    unanswered: list[str] = Field(examples=[["The venue: The key is not accepted."]])
    """What could not be compared, and why: nothing is known of it."""

    @classmethod
    def seen(cls, found: Comparison) -> Self:
        """The view of a comparison."""
        connection = found.connection
        return cls.of(
            found, connection_id=connection.id, owner=connection.owner, exchange=connection.exchange
        )


class Discrepancies(View):
    """Every connection beside its venue."""

    items: list[ConnectionComparison]
    """The connections that were compared, oldest first."""


@router.get("", responses=raises("not_found"))
async def list_discrepancies(desk: OpenDesk, query: Annotated[DiscrepancyQuery, Query()]) -> Discrepancies:
    """What the venues have that our books do not know, and the reverse.

    Every venue is asked while the caller waits, several accounts at once. Nothing is changed.
    """
    found = await compare(desk, connection_id=query.connection_id, since=query.since)
    return Discrepancies(items=[ConnectionComparison.seen(each) for each in found])
