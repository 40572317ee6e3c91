"""Offers: what can be connected, and whether what an owner asks for is among it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from app.brokers.crypto import listed_exchanges
from app.brokers.crypto.credentials import KNOWN_FIELDS
from app.brokers.crypto.tiers import UNSERVED, Tier
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
    credential_labels: Mapping[str, str]
    """What people are asked for, by field, those that may be left out among them."""
    sandbox: bool
    """Whether a sandbox or demo account can be connected."""
    native_protection: Mapping[MarketType, NativeStyle]
    """What the venue itself can hold of an exit plan, by market."""
    tier: Tier
    """How far it is proven, on the weakest of its markets."""
    tiers: Mapping[MarketType, Tier]
    client_order_ids: Mapping[MarketType, bool | None]
    """Whether orders carry our id, by which one in doubt is found; None where its class places none."""
    proves_absence: Mapping[MarketType, bool]
    """Whether a look-up that finds nothing is believed; elsewhere a person decides about an order in doubt."""
    limitations: Mapping[MarketType, str] = field(default_factory=dict)
    """Why a market is listed and no more, where that is known."""
    optional_credential_fields: tuple[str, ...] = ()
    """What may be given beside those it needs."""
    credential_alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By one of those it needs, which may be given in its place."""
    trigger_sources: Mapping[MarketType, tuple[TriggerSource, ...]] = field(default_factory=dict)
    """Which prices may wake stops, by market, the usual one first; a market that is left out offers no choice."""

    @property
    def native_stops(self) -> bool:
        """Whether the venue itself can hold stops and targets on any of its markets."""
        return any(style is not NativeStyle.NONE for style in self.native_protection.values())


_PAPER_MARKETS: Final = (MarketType.SPOT, MarketType.SWAP)

PAPER: Final = Offer(
    id="paper",
    name="Paper trading",
    kind=Kind.PAPER,
    market_types=_PAPER_MARKETS,
    credential_fields=(),
    credential_labels={},
    sandbox=False,
    native_protection=dict.fromkeys(_PAPER_MARKETS, NativeStyle.BRACKET),
    tier=Tier.CERTIFIED,
    tiers=dict.fromkeys(_PAPER_MARKETS, Tier.CERTIFIED),
    client_order_ids=dict.fromkeys(_PAPER_MARKETS, True),
    proves_absence=dict.fromkeys(_PAPER_MARKETS, True),
    # There is one price, which is all of them.
    trigger_sources=dict.fromkeys(_PAPER_MARKETS, tuple(TriggerSource)),
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
        credential_labels=metatrader.LABELS,
        sandbox=False,
        native_protection={MarketType.FX: NativeStyle.ATTACHED},
        tier=Tier.CERTIFIED,
        tiers={MarketType.FX: Tier.CERTIFIED},
        client_order_ids={MarketType.FX: True},
        proves_absence={MarketType.FX: True},
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
            credential_labels=entry.credential_labels,
            sandbox=entry.has_sandbox,
            native_protection=entry.native_styles,
            tier=entry.tier,
            tiers=entry.tiers,
            client_order_ids=entry.client_order_ids,
            proves_absence=entry.proves_absence,
            limitations=entry.limitations,
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
    """The venue has that market, it can be left, and there is a sandbox where one is asked for. Raises Invalid."""
    if market_type not in offer.market_types:
        raise Invalid("market_type", f"{offer.name} trades {' and '.join(offer.market_types)}.")
    if (offer.id, market_type) in UNSERVED:
        raise Invalid("market_type", UNSERVED[offer.id, market_type])
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
