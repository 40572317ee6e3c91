"""Markets: what an exchange class knows of a symbol, as our instruments, and the sizes it takes.

Contracts exist in this package alone: everything outside counts in base units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from app.domain.market import Instrument, MarketType
from app.domain.money import ZERO, exact

TICK_SIZE: Final = 4
"""ccxt's mode in which precisions are steps; the other two are counted in digits."""

FINEST: Final = Decimal("0.00000001")
"""The step where a venue counts significant digits: the class rounds further when it sends."""

MAINTENANCE_MARGIN: Final = Decimal("0.01")
"""Assumed for swaps: above what venues ask of positions of common size."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One symbol as the venue lists it: our instrument, and base units per contract."""

    instrument: Instrument
    contract_size: Decimal

    @exact
    def contracts(self, quantity: Decimal) -> Decimal:
        """Base units as the venue counts them."""
        return quantity / self.contract_size

    @exact
    def base(self, amount: Decimal) -> Decimal:
        """What the venue counts, in base units."""
        return amount * self.contract_size


def decimal(value: object) -> Decimal | None:
    """A number of ccxt (text under `number=str`, sometimes a float or an int) as an exact amount; None for none."""
    if value is None or value == "":
        return None
    number = Decimal(str(value))
    return number if number.is_finite() else None


def amount(value: object) -> Decimal:
    """The same with nothing read as zero."""
    return decimal(value) or ZERO


def listings_of(markets: Mapping[str, Mapping[str, Any]], precision_mode: int) -> dict[str, Listed]:
    """Every spot and swap symbol that is open for trading, by unified symbol."""
    is_open = {name: market for name, market in markets.items() if market.get("active") is not False}
    return known_of(is_open, precision_mode)


def known_of(markets: Mapping[str, Mapping[str, Any]], precision_mode: int) -> dict[str, Listed]:
    """Every spot and swap symbol that is described, open for trading or not."""
    described = (market for market in markets.values() if market.get("type") in ("spot", "swap"))
    listed = (_listed(market, precision_mode) for market in described)
    return {each.instrument.symbol: each for each in listed if each is not None}


@exact
def _listed(market: Mapping[str, Any], precision_mode: int) -> Listed | None:
    """None for a symbol without the rules an order could be made by."""
    is_swap = market["type"] == "swap"
    size = (decimal(market.get("contractSize")) or Decimal(1)) if is_swap else Decimal(1)
    precision, limits = market.get("precision") or {}, market.get("limits") or {}
    step, tick = _step(precision.get("amount"), precision_mode), _step(precision.get("price"), precision_mode)
    if step is None or tick is None:
        return None
    lots, at_market = limits.get("amount") or {}, limits.get("market") or {}
    least = max(amount(lots.get("min")), amount(at_market.get("min")), step)
    most = [each for each in (decimal(lots.get("max")), decimal(at_market.get("max"))) if each]
    return Listed(
        Instrument(
            symbol=market["symbol"],
            base=market["base"],
            quote=market["quote"],
            settle=market.get("settle") if is_swap else None,
            market_type=MarketType.SWAP if is_swap else MarketType.SPOT,
            quantity_step=step * size,
            price_tick=tick,
            min_quantity=least * size,
            max_quantity=min(most) * size if most else None,
            min_notional=decimal((limits.get("cost") or {}).get("min")),
            maintenance_margin=MAINTENANCE_MARGIN if is_swap else ZERO,
        ),
        size,
    )


def _step(precision: object, mode: int) -> Decimal | None:
    given = decimal(precision)
    if given is None or given <= ZERO:
        return None
    return given if mode == TICK_SIZE else FINEST
