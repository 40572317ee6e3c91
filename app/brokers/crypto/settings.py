"""Venue settings: leverage, margin mode, position mode. Read, compared, changed only where nothing rests on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.crypto.markets import amount, decimal
from app.brokers.crypto.profiles import Profile
from app.brokers.port import Refused
from app.domain.money import ZERO, exact, text

_UNCHANGED: Final = ("not modified", "no need to change", "not been modified", "same", "110043")
"""Words in the answers of venues that call "it is so already" an error."""

_CONFLICT: Final = "venue_settings_conflict"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the connection asks for; no margin mode leaves the venue's as it is."""

    leverage: Decimal
    margin_mode: str | None = None


class VenueSettings:
    """What an account is set to, as far as it was asked or set in this process."""

    def __init__(self, exchange: Any, profile: Profile, wanted: Wanted) -> None:
        self._exchange = exchange
        self._profile = profile
        self._wanted = wanted
        self._prepared: set[str] = set()
        self._hedged: bool | None = None

    async def is_hedged(self, symbol: str) -> bool:
        """Whether the account holds a long and a short side of one symbol. Adapted to, never switched."""
        if self._hedged is None:
            if self._exchange.has["fetchPositionMode"] is True:
                mode = await self._exchange.fetch_position_mode()
                self._hedged = bool(mode.get("hedged"))
            elif self._profile.side_field is not None:
                rows = await self._positions(symbol)
                sides = {str((row.get("info") or {}).get(self._profile.side_field) or 0) for row in rows}
                self._hedged = bool(sides - {"0"})
            else:
                self._hedged = False
        return self._hedged

    async def prepare(self, symbol: str) -> None:
        """Make leverage and margin mode what the connection asks for, before the first entry in a symbol.

        Raises Refused `venue_settings_conflict` where they differ and the symbol has a position or an order.
        """
        if symbol in self._prepared:
            return
        positions = await self._positions(symbol) if self._exchange.has["fetchPositions"] is True else []
        margin_mode = await self._differing_mode(symbol, positions)
        leverage = await self._differing_leverage(symbol, positions)
        if margin_mode is not None:
            if self._exchange.has["setMarginMode"] is not True:
                raise Refused(f"The venue cannot be told to use {margin_mode} margin.", code=_CONFLICT)
            await self._check_unused(
                None if self._profile.one_margin_mode else symbol, f"{margin_mode} margin"
            )
            await self._set(self._exchange.set_margin_mode(margin_mode, symbol))
        if leverage is not None:
            await self._check_unused(symbol, f"a leverage of {text(leverage)}")
            await self._set(
                self._exchange.set_leverage(_whole_or_exact(leverage), symbol, self._leverage_params())
            )
        self._prepared.add(symbol)

    async def _differing_mode(self, symbol: str, positions: Sequence[Any]) -> str | None:
        """The margin mode to be set; None where it is so already, or where every order says it."""
        wanted = self._wanted.margin_mode
        if wanted is None or self._profile.margin_in_orders:
            return None
        if self._exchange.has["fetchMarginMode"]:
            told = (await self._exchange.fetch_margin_mode(symbol)).get("marginMode")
        else:
            told = next((each["marginMode"] for each in positions if each.get("marginMode")), None)
        return None if told == wanted else wanted

    async def _differing_leverage(self, symbol: str, positions: Sequence[Any]) -> Decimal | None:
        """The leverage to be set; None where it is so already, or cannot be set."""
        if self._exchange.has["setLeverage"] is not True:
            return None
        told = next((known for each in positions if (known := decimal(each.get("leverage")))), None)
        if told is None and _is_held(positions) and self._exchange.has["fetchLeverage"]:
            told = decimal((await self._exchange.fetch_leverage(symbol)).get("longLeverage"))
        return None if told == self._wanted.leverage else self._wanted.leverage

    async def _check_unused(self, symbol: str | None, what: str) -> None:
        """Nothing is held or rests in the symbol, or in the account where it has one setting. Raises Refused."""
        where = "The account" if symbol is None else symbol
        exchange = self._exchange
        if exchange.has["fetchPositions"] is not True or exchange.has["fetchOpenOrders"] is not True:
            raise Refused(
                f"The venue does not say whether {where} is in use; it is not set to {what}.", code=_CONFLICT
            )
        if _is_held(await self._positions(symbol)):
            raise Refused(
                f"{where} has a position at the venue, so it cannot be set to {what}.", code=_CONFLICT
            )
        rooms: list[dict[str, Any]] = [{}]
        for room in self._profile.rooms.values():
            if dict(room) not in rooms:
                rooms.append(dict(room))
        for room in rooms:
            if await exchange.fetch_open_orders(symbol, None, None, dict(room)):
                raise Refused(
                    f"{where} has an order at the venue, so it cannot be set to {what}.", code=_CONFLICT
                )

    async def _positions(self, symbol: str | None) -> list[Any]:
        rows = await self._exchange.fetch_positions(None if symbol is None else [symbol])
        return [row for row in rows if symbol is None or row.get("symbol") == symbol]

    def _leverage_params(self) -> dict[str, Any]:
        """Where leverage is kept by margin mode, the one that orders will say."""
        in_orders = self._profile.margin_in_orders and self._wanted.margin_mode is not None
        return {"marginMode": self._wanted.margin_mode} if in_orders else {}

    async def _set(self, change: Any) -> None:
        try:
            await change
        except (library.NoChange, library.BadRequest, library.OperationRejected) as error:
            if not isinstance(error, library.NoChange) and not any(
                word in str(error).lower() for word in _UNCHANGED
            ):
                raise


def _is_held(positions: Sequence[Any]) -> bool:
    return any(amount(each.get("contracts")) != ZERO for each in positions)


@exact
def _whole_or_exact(leverage: Decimal) -> int | float:
    return int(leverage) if leverage == leverage.to_integral_value() else float(leverage)
