"""Venue settings: leverage and position mode of an account. Read, compared, and changed only where that is safe."""

from decimal import Decimal
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.crypto.markets import amount, decimal
from app.brokers.port import Refused
from app.domain.money import ZERO, exact, text

_UNCHANGED: Final = ("not modified", "no need to change", "not been modified", "same", "110043")
"""Words in the answers of venues that call "it is so already" an error."""


class VenueSettings:
    """What an account is set to, as far as it was asked or set in this process."""

    def __init__(self, exchange: Any, leverage: Decimal) -> None:
        self._exchange = exchange
        self._leverage = leverage
        self._prepared: set[str] = set()
        self._hedged: bool | None = None

    async def is_hedged(self) -> bool:
        """Whether the account holds a long and a short side of one symbol. Adapted to, never switched."""
        if self._hedged is None:
            self._hedged = False
            if self._exchange.has["fetchPositionMode"] is True:
                mode = await self._exchange.fetch_position_mode()
                self._hedged = bool(mode.get("hedged"))
        return self._hedged

    async def prepare(self, symbol: str) -> None:
        """Make leverage what the connection asks for, before the first entry in a symbol.

        Raises Refused `venue_settings_conflict` when it differs and the symbol is in use.
        """
        exchange = self._exchange
        if symbol in self._prepared or exchange.has["setLeverage"] is not True:
            return
        positions = [
            each for each in await exchange.fetch_positions([symbol]) if each.get("symbol") == symbol
        ]
        at_venue = next((told for each in positions if (told := decimal(each.get("leverage")))), None)
        if at_venue != self._leverage:
            if any(amount(each.get("contracts")) != ZERO for each in positions):
                raise Refused(
                    f"{symbol} has a leverage of {_shown(at_venue)} at the venue, and {text(self._leverage)} here.",
                    code="venue_settings_conflict",
                )
            await self._set_leverage(symbol)
        self._prepared.add(symbol)

    async def _set_leverage(self, symbol: str) -> None:
        try:
            await self._exchange.set_leverage(_whole_or_exact(self._leverage), symbol)
        except (library.NoChange, library.BadRequest, library.OperationRejected) as error:
            if not isinstance(error, library.NoChange) and not any(
                word in str(error).lower() for word in _UNCHANGED
            ):
                raise


def _shown(leverage: Decimal | None) -> str:
    return "unknown size" if leverage is None else text(leverage)


@exact
def _whole_or_exact(leverage: Decimal) -> int | float:
    return int(leverage) if leverage == leverage.to_integral_value() else float(leverage)
