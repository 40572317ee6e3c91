"""Rates: from one currency to another through a quoted pair or its inverse, on the side that costs more."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from app.brokers.metatrader.listings import Listing
from app.domain.market import Quote, Worth
from app.domain.money import ZERO, exact

ASSUMED_COMMISSION: Final = Decimal("0.0001")
"""In and out, of the notional: more than most charge. A first position is then rather too small than too large."""


@dataclass(frozen=True, slots=True)
class Need:
    """A conversion that a valuation takes."""

    source: str
    target: str

    @property
    def pairs(self) -> tuple[str, str]:
        """The pair that quotes it, and its inverse."""
        return self.source + self.target, self.target + self.source


def needs_of(listing: Listing, currency: str) -> list[Need]:
    """Which conversions it takes to value one lot in the account's currency."""
    sources = dict.fromkeys((listing.profit_currency, listing.base_currency))
    return [Need(source, currency) for source in sources if source and source != currency]


def symbol_for(pair: str, names: Iterable[str]) -> str | None:
    """The broker's symbol that quotes a pair: called so, else the one with least around it."""
    fitting = sorted((name for name in names if pair in name.upper()), key=lambda name: (len(name), name))
    return fitting[0] if fitting else None


@exact
def rate(direct: Quote | None, inverse: Quote | None) -> Decimal | None:
    """What one unit costs in the other currency: the ask of their pair, or one ÷ the bid of its inverse."""
    if direct is not None:
        return direct.ask
    return None if inverse is None else 1 / inverse.bid


@exact
def worth(
    listing: Listing,
    currency: str,
    rates: Mapping[str, Decimal],
    commission: Decimal | None,
    price: Decimal,
) -> Worth | None:
    """What one lot comes to in the account's currency, by rates of other currencies; None without the rate it takes.

    A price move counts in the profit currency. The notional is that of the base currency, where it has a rate.
    A commission that is not known is assumed of what a lot is worth at `price`.
    """
    to_account = {currency: Decimal(1), **rates}
    profit = to_account.get(listing.profit_currency)
    if profit is None or profit <= ZERO:
        return None
    base = to_account.get(listing.base_currency)
    by_base = (
        base is not None and listing.by_tick is None and listing.base_currency != listing.profit_currency
    )
    move = listing.unit * profit
    return Worth(
        move=move,
        notional=listing.contract_size * base if by_base and base is not None else None,
        commission=move * price * ASSUMED_COMMISSION if commission is None else commission,
    )
