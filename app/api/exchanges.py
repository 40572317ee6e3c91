"""Exchanges: what can be connected."""

from fastapi import APIRouter
from pydantic import Field

from app.api.bodies import ExactRoute
from app.api.callers import READERS_ONLY
from app.api.wire import View
from app.brokers.crypto.tiers import Tier
from app.domain.market import MarketType
from app.domain.orders import TriggerSource
from app.engine.offers import offers
from app.store.connections import Kind

router = APIRouter(
    prefix="/exchanges", tags=["exchanges"], route_class=ExactRoute, dependencies=[READERS_ONLY]
)


class Exchange(View):
    """A venue that accounts can be connected of."""

    id: str = Field(examples=["paper"])
    """What to write in a connection's `exchange`."""
    name: str = Field(examples=["Paper trading"])
    """Its name."""
    kind: Kind = Field(examples=["paper"])
    """What to write in a connection's `kind`."""
    market_types: list[MarketType] = Field(examples=[["spot", "swap"]])
    """What a connection's `market_type` may be."""
    credential_fields: list[str] = Field(examples=[["api_key", "api_secret"]])
    """Which credentials it needs."""
    optional_credential_fields: list[str] = Field(examples=[[]])
    """Which it takes beside them: `api_key` for MetaTrader is the key of a gateway that asks for one."""
    credential_alternatives: dict[str, list[str]] = Field(examples=[{}])
    """Which may be given in place of one it needs, as `host` and `port` in place of `server`."""
    sandbox: bool = Field(examples=[False])
    """Whether accounts of its sandbox or demo can be connected."""
    native_stops: bool = Field(examples=[True])
    """Whether it can hold stop and targets itself."""
    trigger_sources: dict[MarketType, list[TriggerSource]] = Field(examples=[{"swap": ["mark", "last"]}])
    """What `protection.trigger_source` may be, by market, the usual one first; a market left out offers no choice."""
    tier: Tier = Field(examples=["certified"])
    """`certified`: passes the whole broker contract suite. `compatible`: every request we send of it has been checked.
    `listed`: can be connected, at one's own risk."""


class Catalogue(View):
    """Everything that can be connected."""

    items: list[Exchange]
    """The venues, by id."""
    next_cursor: None = Field(default=None, examples=[None])
    """Always null: the list is whole."""


@router.get("")
async def list_exchanges() -> Catalogue:
    """What can be connected."""
    return Catalogue(items=[Exchange.of(offer) for _, offer in sorted((await offers()).items())])
