"""Exchanges: what can be connected."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter
from pydantic import Field

from app.api.bodies import ExactRoute
from app.api.callers import READERS_ONLY
from app.api.wire import View
from app.brokers.crypto.tiers import Tier
from app.domain.exits import NativeStyle
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
    credential_labels: dict[str, str] = Field(examples=[{"api_key": "API key", "api_secret": "API secret"}])
    """What to call each field where a person is asked for it."""
    optional_credential_fields: list[str] = Field(examples=[[]])
    """Which it takes beside them: `api_key` for MetaTrader is the key of a gateway that asks for one."""
    credential_alternatives: dict[str, list[str]] = Field(examples=[{}])
    """Which may be given in place of one it needs, as `host` and `port` in place of `server`."""
    sandbox: bool = Field(examples=[False])
    """Whether accounts of its sandbox or demo can be connected."""
    native_stops: bool = Field(examples=[True])
    """Whether it can hold stop and targets itself, on any of its markets."""
    native_protection: dict[MarketType, NativeStyle] = Field(examples=[{"spot": "bracket"}])
    """What it can hold of an exit plan itself, by market: `bracket` a stop and a target as one order for each rung,
    `stop_and_targets` one stop beside all targets, `stop_only`, `attached` a stop and the last target on the position,
    `none`: the engine watches everything itself."""
    trigger_sources: dict[MarketType, list[TriggerSource]] = Field(examples=[{"swap": ["mark", "last"]}])
    """What `protection.trigger_source` may be, by market, the usual one first; a market left out offers no choice."""
    tier: Tier = Field(examples=["certified"])
    """On the weakest of its markets. `certified`: passes the whole broker contract suite. `compatible`: an order's
    whole way has been gone with its class, on answers in the venue's own words. `listed`: can be connected, at one's
    own risk."""
    tiers: dict[MarketType, Tier] = Field(examples=[{"spot": "certified", "swap": "certified"}])
    """The same for each market."""
    limitations: dict[MarketType, str] = Field(examples=[{}])
    """What is in the way of more than `listed`, by market, where that is known; of some no account is opened."""
    client_order_ids: dict[MarketType, bool | None] = Field(examples=[{"spot": True, "swap": True}])
    """Whether orders carry our id, by which an order in doubt is found; null where its class places none. Without one
    an order in doubt ends in `needs_review`."""
    proves_absence: dict[MarketType, bool] = Field(examples=[{"spot": True, "swap": True}])
    """Whether a look-up that finds nothing proves that there is no such order; elsewhere a person is asked."""


class Catalogue(View):
    """Everything that can be connected."""

    items: list[Exchange]
    """The venues, by id."""
    next_cursor: None = Field(default=None, examples=[None])
    """Always null: the list is whole."""


@asynccontextmanager
async def looked_up() -> AsyncIterator[None]:
    """Look up what can be connected while the API already answers: the first time takes seconds."""
    reading = asyncio.create_task(offers())
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.wait([reading])


@router.get("")
async def list_exchanges() -> Catalogue:
    """What can be connected."""
    return Catalogue(items=[Exchange.of(offer) for _, offer in sorted((await offers()).items())])
