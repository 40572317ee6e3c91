"""Exchanges by tier, as a table: what the command prints is what the README shows."""

from collections.abc import Iterable
from typing import Final

from app.brokers.crypto.tiers import Tier
from app.engine.offers import Offer

_PROVEN: Final = {
    Tier.CERTIFIED: "the whole broker contract, against a simulator of its wire protocol",
    Tier.COMPATIBLE: "an order's whole way, from quote and settings to cancel, on answers in the venue's own words",
    Tier.LISTED: "nothing beyond its class of ccxt",
}


def markdown(offers: Iterable[Offer]) -> str:
    """A table in Markdown, one row for each tier."""
    known = sorted(offers, key=lambda offer: offer.id)
    rows = ["| tier | what is proven | exchanges |", "|---|---|---|"]
    for tier, proven in _PROVEN.items():
        names = [f"`{offer.id}`" for offer in known if offer.tier is tier]
        parts = [
            f"`{offer.id}` ({kind})"
            for offer in known
            for kind, its_tier in offer.tiers.items()
            if its_tier is tier and offer.tier is not tier
        ]
        beside = f"; of others one market: {' '.join(parts)}" if parts else ""
        rows.append(f"| {tier} ({len(names)}) | {proven} | {' '.join(names)}{beside} |")
    return "\n".join(rows)


def plain(offers: Iterable[Offer]) -> str:
    """One line for each exchange: id, tier, markets, and whether it has practice accounts."""
    return "\n".join(
        f"{offer.id:<24}{offer.tier:<12}{'+'.join(offer.market_types):<12}{'sandbox' if offer.sandbox else ''}".rstrip()
        for offer in sorted(offers, key=lambda offer: offer.id)
    )
