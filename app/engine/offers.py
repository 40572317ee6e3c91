"""Offers: what can be connected, and whether what an owner asks for is among it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from app.brokers.crypto import listed_exchanges
from app.brokers.crypto.credentials import KNOWN_FIELDS
from app.brokers.crypto.tiers import Tier
from app.brokers.metatrader import credentials as metatrader
from app.brokers.metatrader.platforms import PLATFORMS
from app.brokers.paper.terms import RECORDING, SYNTHETIC
from app.domain.errors import Invalid
from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.domain.orders import TriggerSource
from app.store.connections import Kind


@dataclass(frozen=True, slots=True)
class Offer:
    """A venue that accounts can be connected of, as it is listed to owners."""

    id: str
    name: str
    kind: Kind
    market_types: tuple[MarketType, ...]
    credential_fields: tuple[str, ...]
    sandbox: bool
    """Whether a sandbox or demo account can be connected."""
    native_stops: bool
    """Whether the venue itself can hold stops and targets."""
    tier: Tier
    """How far it is proven."""
    optional_credential_fields: tuple[str, ...] = ()
    """What may be given beside those it needs."""
    credential_alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By one of those it needs, which may be given in its place."""
    trigger_sources: Mapping[MarketType, tuple[TriggerSource, ...]] = field(default_factory=dict)
    """Which prices may wake stops, by market, the usual one first; a market that is left out offers no choice."""


PAPER: Final = Offer(
    id="paper",
    name="Paper trading",
    kind=Kind.PAPER,
    market_types=(MarketType.SPOT, MarketType.SWAP),
    credential_fields=(),
    sandbox=False,
    native_stops=True,
    tier=Tier.CERTIFIED,
    # There is one price, which is all of them.
    trigger_sources={kind: tuple(TriggerSource) for kind in (MarketType.SPOT, MarketType.SWAP)},
)


METATRADER: Final = {
    platform.id: Offer(
        id=platform.id,
        name=platform.name,
        kind=Kind.FX,
        market_types=(MarketType.FX,),
        credential_fields=(*metatrader.REQUIRED, "server"),
        optional_credential_fields=("api_key",),
        credential_alternatives={"server": ("host", "port")},
        sandbox=False,
        native_stops=True,
        tier=Tier.CERTIFIED,
    )
    for platform in PLATFORMS.values()
}
"""A practice account is one at the broker's own demo server."""


async def offers() -> Mapping[str, Offer]:
    """Everything that can be connected, by exchange id."""
    exchanges = {
        entry.id: Offer(
            id=entry.id,
            name=entry.name,
            kind=Kind.CRYPTO,
            market_types=entry.market_types,
            credential_fields=entry.credential_fields,
            sandbox=entry.has_sandbox,
            native_stops=any(style is not NativeStyle.NONE for style in entry.native_styles.values()),
            tier=entry.tier,
            trigger_sources=entry.trigger_sources,
        )
        for entry in (await listed_exchanges()).values()
    }
    return {PAPER.id: PAPER, **METATRADER, **exchanges}


async def offer_of(kind: Kind, exchange: str) -> Offer:
    """The offer that is meant. Raises Invalid. Paper and MetaTrader are known without looking any exchange up."""
    if kind is Kind.PAPER and exchange == PAPER.id:
        return PAPER
    if kind is Kind.FX and exchange in METATRADER:
        return METATRADER[exchange]
    known = await offers()
    kinds = sorted({offer.kind.value for offer in known.values()})
    if kind.value not in kinds:
        raise Invalid("kind", f"At present only {' and '.join(kinds)} can be connected; see GET /exchanges.")
    offer = known.get(exchange)
    if offer is None or offer.kind is not kind:
        raise Invalid("exchange", f"There is no such exchange of kind {kind}; see GET /exchanges.")
    return offer


def check_market(offer: Offer, market_type: MarketType, *, sandbox: bool) -> None:
    """The venue has that market, and a sandbox where one is asked for. Raises Invalid."""
    if market_type not in offer.market_types:
        raise Invalid("market_type", f"{offer.name} trades {' and '.join(offer.market_types)}.")
    if sandbox and not offer.sandbox:
        raise Invalid("sandbox", f"{offer.name} has no sandbox.")


async def check_paper_prices(prices: str, market_type: MarketType) -> None:
    """There is such a source of prices, and it has that market. Raises Invalid."""
    if prices in (SYNTHETIC, RECORDING):
        return
    source = (await offers()).get(prices)
    if source is None or source.kind is not Kind.CRYPTO:
        raise Invalid(
            "paper.prices",
            f"Prices are {SYNTHETIC}, {RECORDING}, or those of a crypto exchange; see GET /exchanges.",
        )
    if market_type not in source.market_types:
        raise Invalid("paper.prices", f"{source.name} trades {' and '.join(source.market_types)}.")


def check_credentials(offer: Offer, credentials: Mapping[str, str]) -> None:
    """Every field the venue asks for is there, and none that nobody knows. Raises Invalid, naming fields only."""
    if offer.kind is Kind.FX:
        metatrader.check(credentials)
        return
    missing = [field for field in offer.credential_fields if not credentials.get(field)]
    if missing:
        raise Invalid("credentials", f"{offer.name} needs {', '.join(missing)}.")
    unknown = sorted(credentials.keys() - KNOWN_FIELDS)
    if unknown:
        raise Invalid("credentials", f"There is no credential field {', '.join(unknown)}.")


def check_trigger_source(offer: Offer, market_type: MarketType, source: str | None) -> None:
    """Stops of that market can go by that price there. Raises Invalid."""
    served = offer.trigger_sources.get(market_type, ())
    if source is None or source in served:
        return
    what = f"can go by {' or '.join(served)}" if served else "go by the price they trade at; leave it out"
    raise Invalid("protection.trigger_source", f"Stops of {offer.name} {market_type} {what}.")
