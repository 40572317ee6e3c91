"""The catalogue: what ccxt itself says can be connected, with what we know of each exchange."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.crypto.credentials import fields_of, labels_of
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.tiers import REASONS, Tier, takes_client_ids, tier_of
from app.brokers.crypto.ways import Practice
from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.domain.orders import TriggerSource

_MARKET_TYPES: Final = (MarketType.SPOT, MarketType.SWAP)
_PRACTICE: Final = frozenset({"bitget"})
"""Classes that reach practice accounts without naming other URLs for them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One exchange."""

    id: str
    name: str
    market_types: tuple[MarketType, ...]
    credential_fields: tuple[str, ...]
    credential_labels: Mapping[str, str]
    has_sandbox: bool
    native_styles: Mapping[MarketType, NativeStyle]
    """What it can hold of an exit plan, as far as we have looked into it."""
    trigger_sources: Mapping[MarketType, tuple[TriggerSource, ...]]
    """Which prices may wake its stops, where there is a choice."""
    tiers: Mapping[MarketType, Tier]
    """How far each of its markets is proven."""
    limitations: Mapping[MarketType, str]
    """Why a market is listed and no more, where that is known."""
    client_order_ids: Mapping[MarketType, bool | None]
    """Whether orders carry our id, by which an order in doubt is found; None where its class places none."""
    proves_absence: Mapping[MarketType, bool]
    """Whether a look-up that finds nothing is believed; elsewhere a person decides."""
    tier: Tier
    """What is proven on every market type it offers."""


@lru_cache
def catalogue() -> Mapping[str, Entry]:
    """Every exchange that trades spot or swap, by id. Takes a second the first time."""
    entries = (_entry(exchange) for exchange in library.exchanges)
    return {entry.id: entry for entry in entries if entry is not None}


def _entry(exchange: str) -> Entry | None:
    described: Any = getattr(library, exchange)()
    market_types = tuple(kind for kind in _MARKET_TYPES if described.has.get(kind.value))
    if not market_types:
        return None
    fields = fields_of(described.requiredCredentials)
    return Entry(
        id=exchange,
        name=described.name,
        market_types=market_types,
        credential_fields=fields,
        credential_labels=labels_of(exchange, fields),
        has_sandbox=_has_practice(exchange, described, market_types),
        native_styles={kind: profile_of(exchange, kind).style for kind in market_types},
        trigger_sources={
            kind: tuple(triggers)
            for kind in market_types
            if (triggers := profile_of(exchange, kind).triggers)
        },
        tiers={kind: tier_of(exchange, [kind]) for kind in market_types},
        limitations={kind: REASONS[exchange, kind] for kind in market_types if (exchange, kind) in REASONS},
        client_order_ids=dict.fromkeys(market_types, takes_client_ids(exchange)),
        proves_absence={kind: profile_of(exchange, kind).is_proven for kind in market_types},
        tier=tier_of(exchange, market_types),
    )


def _has_practice(exchange: str, described: Any, market_types: Collection[MarketType]) -> bool:
    """Whether practice accounts can be reached on every market."""
    if any(profile_of(exchange, kind).practice is Practice.NONE for kind in market_types):
        return False
    return bool(described.urls.get("test") or described.urls.get("demo")) or exchange in _PRACTICE
