"""The terms of one paper account: where its prices come from, what it starts with, what trading costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, Self

from app.brokers.directory import Access
from app.brokers.port import TERMS_NOT_SERVED, Refused
from app.domain.market import Instrument, MarketType
from app.domain.money import HUNDRED, ZERO, exact, floor_to_step, parse

WHOLE: Final = Decimal(1)

MOVE: Final = Decimal("0.001")
"""How far a price may move between a look and a fill, as a fraction."""


SYNTHETIC: Final = "synthetic"
RECORDING: Final = "recording"
"""Where the prices of a paper account come from; anything else is the id of an exchange with public prices."""


class FeeIn(StrEnum):
    """Which currency a spot buy pays its fee in; all other fees are in quote or settle currency."""

    QUOTE = "quote"
    BASE = "base"


@dataclass(frozen=True, slots=True)
class Terms:
    """Rates are fractions of the notional, `partial_fill` a fraction of an order's quantity."""

    prices: str
    seed: str
    market_type: MarketType
    currency: str
    balance: Decimal
    """What the account starts with, in `currency`. Changing it later does not touch an account in use."""
    fee_rate: Decimal
    slippage: Decimal
    fee_in: FeeIn
    partial_fill: Decimal
    """At most this part of a limit order's quantity is filled at once; 1 fills it whole."""
    leverage: Decimal

    @classmethod
    def read(cls, access: Access) -> Self:
        """From what a connection keeps (decimal strings). Raises Refused for what cannot be served."""
        paper = access.paper
        if paper is None:
            raise Refused(
                "A paper connection needs its paper terms: prices, balance and currency.",
                code=TERMS_NOT_SERVED,
            )
        if access.market_type not in (MarketType.SPOT, MarketType.SWAP):
            raise Refused(
                f"The paper venue trades spot and swap, not {access.market_type}.", code=TERMS_NOT_SERVED
            )
        try:
            return cls(
                prices=str(paper.get("prices") or SYNTHETIC),
                seed=str(paper.get("seed", "0")),
                market_type=access.market_type,
                currency=str(paper["currency"]),
                balance=parse(paper["balance"]),
                fee_rate=_fraction(paper, "fee_percent", "0"),
                slippage=_fraction(paper, "slippage_percent", "0"),
                fee_in=FeeIn(paper.get("fee_in") or FeeIn.QUOTE),
                partial_fill=_fraction(paper, "partial_fill_percent", "100"),
                leverage=WHOLE if access.market_type is MarketType.SPOT else access.leverage,
            )
        except (KeyError, ValueError) as error:
            raise Refused(f"The paper terms cannot be served: {error}.", code=TERMS_NOT_SERVED) from error

    @property
    @exact
    def allowance(self) -> Decimal:
        """What a market order keeps back, as a fraction: slippage, and the price moving before the fill."""
        return self.slippage + MOVE

    def takes_base_fee(self, instrument: Instrument) -> bool:
        """Whether buys of `instrument` pay their fee in the coin they bring."""
        return instrument.market_type is MarketType.SPOT and self.fee_in is FeeIn.BASE

    @exact
    def fill_at_once(self, quantity: Decimal, step: Decimal) -> Decimal:
        """How much of a limit order of `quantity` is filled at one price: at least a step."""
        return max(floor_to_step(quantity * self.partial_fill, step), step)


@exact
def _fraction(paper: Mapping[str, Any], field: str, default: str) -> Decimal:
    """A field in per cent as a fraction, 0 ≤ fraction ≤ 1."""
    given = paper.get(field)
    fraction = parse(default if given is None else given) / HUNDRED
    if not ZERO <= fraction <= WHOLE:
        raise ValueError(f"{field} lies between 0 and 100")
    return fraction
