"""Venue settings: leverage, margin mode, position mode. Read, compared, changed only where nothing rests on them.

Owners change them by hand, so what was read is believed for a minute at most.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.crypto.answers import code_in
from app.brokers.crypto.exchange import Call, calling
from app.brokers.crypto.markets import amount, decimal
from app.brokers.crypto.requests import places, whole_or_exact
from app.brokers.crypto.ways import LeverageBy, Profile
from app.brokers.port import Refused
from app.domain.money import ZERO, text

BELIEVED_FOR: Final = timedelta(minutes=1)
"""How long an answer about an account's settings counts."""

_CONFLICT: Final = "venue_settings_conflict"

_HEDGED: Final = (
    "The account holds a long and a short side of each symbol (hedge mode), which we cannot trade at this venue; "
    "switch it to one-way mode"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the connection asks for; no margin mode leaves the venue's as it is."""

    leverage: Decimal
    margin_mode: str | None = None


@dataclass(frozen=True, slots=True)
class _Difference:
    """What of a symbol's settings is, or may be, other than the connection asks for; None where nothing is."""

    margin_mode: str | None
    leverage: Decimal | None
    is_told: bool
    """Whether the venue has told the leverage; else it has to be set to be certain of it."""


class VenueSettings:
    """What an account is set to, as far as it was asked or set in the last minute."""

    def __init__(self, exchange: Any, profile: Profile, wanted: Wanted, now: Callable[[], datetime]) -> None:
        self._exchange = exchange
        self._profile = profile
        self._wanted = wanted
        self._now = now
        self._agreed: dict[str, datetime] = {}
        """When each symbol was last seen, or made, to be as the connection asks for."""
        self._hedged: tuple[datetime, bool] | None = None

    async def is_hedged(self, symbol: str) -> bool:
        """Whether the account holds a long and a short side of one symbol. Adapted to, never switched."""
        if self._hedged is None or self._now() - self._hedged[0] > BELIEVED_FOR:
            asked_at = self._now()
            self._hedged = (asked_at, await self._told_mode(symbol))
        return self._hedged[1]

    async def is_unified(self) -> bool:
        """Whether the account is a unified one, where those have other stops. Raises ccxt's errors."""
        if not self._profile.unified:
            return False
        method, *told = self._profile.unified
        if self._exchange.options.get("uta") is None:
            await getattr(self._exchange, method)({}, *told)
        return self._exchange.options.get("uta") is True

    def doubt_mode(self, since: datetime) -> bool:
        """The venue says that the position mode is another one; whether what was known of it is older than `since`."""
        was_old = self._hedged is not None and self._hedged[0] < since
        self._hedged = None
        return was_old

    async def conflict(self, symbol: str) -> str | None:
        """Why an entry in a symbol cannot have what the connection asks for, in words. Asks, and changes nothing."""
        asked_at = self._now()
        if not self._profile.holds_hedged and await self.is_hedged(symbol):
            return _HEDGED
        difference = await self._difference(symbol)
        if difference is None:
            self._agree(symbol, asked_at)
            return None
        self._agreed.pop(symbol, None)
        return await self._obstacle(symbol, difference)

    async def prepare(self, symbol: str, call: Call) -> None:
        """Make leverage and margin mode what the connection asks for, before an entry in a symbol.

        Raises Refused `venue_settings_conflict` where they differ and the symbol has a position or an order, and where
        the account has two sides and we cannot place on one of them.
        """
        agreed_at = self._agreed.get(symbol)
        if agreed_at is not None and self._now() - agreed_at <= BELIEVED_FOR:
            return
        asked_at = self._now()
        if not self._profile.holds_hedged and await self.is_hedged(symbol):
            raise Refused(_HEDGED, code=_CONFLICT)
        difference = await self._difference(symbol)
        if difference is not None:
            obstacle = await self._obstacle(symbol, difference)
            if obstacle is not None:
                raise Refused(obstacle, code=_CONFLICT)
            await self._change(symbol, difference, call)
        self._agree(symbol, asked_at)

    def _agree(self, symbol: str, asked_at: datetime) -> None:
        known = self._agreed.items()
        self._agreed = {name: at for name, at in known if asked_at - at <= BELIEVED_FOR} | {symbol: asked_at}

    async def _told_mode(self, symbol: str) -> bool:
        exchange, told = self._exchange, self._profile.position_mode
        if exchange.has["fetchPositionMode"] is True:
            return bool((await exchange.fetch_position_mode(symbol, {})).get("hedged"))
        if told is None:
            return False
        if told.method is None:
            answers = [row.get("info") for row in await self._positions(symbol)]
        elif told.params is None:
            answers = [await getattr(exchange, told.method)(symbol, {})]
        else:
            answers = [await getattr(exchange, told.method)(dict(told.params))]
        return any(_word_at(answer, told.path) in told.hedged for answer in answers)

    async def _difference(self, symbol: str) -> _Difference | None:
        """None where everything is told to be as the connection asks for, or cannot be told apart."""
        exchange, wanted = self._exchange, self._wanted
        profile = self._profile
        asks_for_mode = wanted.margin_mode is not None and not profile.margin_in_orders
        beside = profile.leverage_beside_mode
        row: dict[str, Any] = {}
        if exchange.has["fetchMarginMode"] and (asks_for_mode or beside is not None):
            row = await exchange.fetch_margin_mode(symbol, {})
        positions: Sequence[Any] = ()
        if beside is None and exchange.has["fetchPositions"] is True:
            positions = await self._positions(symbol)
        mode = row.get("marginMode") or next(
            (each["marginMode"] for each in positions if each.get("marginMode")), None
        )
        told = {decimal(each.get("leverage")) for each in positions} - {None, ZERO}
        if beside is not None:
            told = {decimal((row.get("info") or {}).get(beside))} - {None, ZERO}
        # What can neither be told nor set is left as it is, and so is what each order says by itself.
        is_in_orders = profile.leverage_in_orders and wanted.margin_mode == "isolated"
        knows_leverage = (bool(told) or exchange.has["setLeverage"] is True) and not is_in_orders
        is_other = mode != wanted.margin_mode and (mode is not None or not self._sets_both)
        margin_mode = wanted.margin_mode if asks_for_mode and is_other else None
        leverage = wanted.leverage if knows_leverage and told != {wanted.leverage} else None
        if margin_mode is None and leverage is None:
            return None
        return _Difference(margin_mode, leverage, bool(told))

    @property
    def _sets_both(self) -> bool:
        """Whether leverage and margin mode are set in one."""
        return self._profile.leverage_by is not LeverageBy.ITSELF

    async def _obstacle(self, symbol: str, difference: _Difference) -> str | None:
        """Why a difference cannot be mended, in words; None where it can."""
        has, mode = self._exchange.has, difference.margin_mode
        if self._sets_both:
            if self._wanted.margin_mode is None:
                return "The venue sets leverage and margin mode in one; say which margin mode the connection uses"
            if self._profile.leverage_by is LeverageBy.ISOLATING and self._wanted.margin_mode != "isolated":
                return f"The venue cannot be told a leverage for {self._wanted.margin_mode} margin"
            used = await self._use(symbol)
            return None if used is None else f"{used}, so leverage and margin mode cannot be set"
        if mode is not None:
            if has["setMarginMode"] is not True:
                return f"The venue cannot be told to use {mode} margin."
            used = await self._use(None if self._profile.one_margin_mode else symbol)
            if used is not None:
                return f"{used}, so it cannot be set to {mode} margin."
        if difference.leverage is not None:
            leverage = text(difference.leverage)
            if has["setLeverage"] is not True:
                return f"{symbol} has another leverage at the venue, which cannot be told to use {leverage}."
            used = await self._use(symbol)
            if used is not None and (difference.is_told or not await self._is_leverage(symbol)):
                return f"{used}, so it cannot be set to a leverage of {leverage}."
        return None

    async def _use(self, symbol: str | None) -> str | None:
        """What is held or rests in the symbol, or in the account where it has one setting, in words."""
        where = "The account" if symbol is None else symbol
        exchange = self._exchange
        if exchange.has["fetchPositions"] is not True or exchange.has["fetchOpenOrders"] is not True:
            return f"The venue does not say whether {where} is in use"
        if any(amount(each.get("contracts")) != ZERO for each in await self._positions(symbol)):
            return f"{where} has a position at the venue"
        for place in places(self._profile):
            if await exchange.fetch_open_orders(symbol, None, None, place):
                return f"{where} has an order at the venue"
        return None

    async def _change(self, symbol: str, difference: _Difference, call: Call) -> None:
        """Set what differs; what the venue says is so already is as good. Raises ccxt's errors."""
        mode, leverage = difference.margin_mode, difference.leverage
        if self._sets_both:
            await self._change_both(symbol, call)
            return
        if mode is not None:
            try:
                await self._exchange.set_margin_mode(mode, symbol, {})
            except library.ExchangeError as error:
                if not self._is_unchanged(error, call):
                    raise
        if leverage is not None:
            for side in await self._sides(symbol):
                await self._set_leverage(leverage, symbol, side, call)

    async def _set_leverage(
        self, leverage: Decimal, symbol: str, side: Mapping[str, Any], call: Call
    ) -> None:
        params = {**self._leverage_params(), **side}
        try:
            await self._exchange.set_leverage(whole_or_exact(leverage), symbol, params)
        except library.ExchangeError as error:
            if self._is_unchanged(error, call):
                return
            # What the answer to the question looks like is nothing about the one that failed.
            with calling(Call(urgency=call.urgency)):
                is_set = await self._is_leverage(symbol)
            if not is_set:
                raise

    async def _change_both(self, symbol: str, call: Call) -> None:
        exchange, mode = self._exchange, self._wanted.margin_mode
        leverage = whole_or_exact(self._wanted.leverage)
        for side in await self._sides(symbol):
            try:
                match self._profile.leverage_by:
                    case LeverageBy.IN_MODE:
                        await exchange.set_margin_mode(mode, symbol, {"leverage": leverage, **side})
                    case LeverageBy.WITH_MODE:
                        await exchange.set_leverage(leverage, symbol, {"marginMode": mode, **side})
                    case _:
                        await exchange.set_leverage(leverage, symbol, dict(side))
            except library.ExchangeError as error:
                if not self._is_unchanged(error, call):
                    raise

    async def _sides(self, symbol: str) -> Sequence[Mapping[str, Any]]:
        """With what else leverage is set, once for each."""
        hedged = self._profile.leverage_sides_hedged
        if hedged is not None and await self.is_hedged(symbol):
            return hedged
        return self._profile.leverage_sides

    def _is_unchanged(self, error: Exception, call: Call) -> bool:
        """Whether an error says that it is so already."""
        return isinstance(error, library.NoChange) or code_in(call.body) in self._profile.unchanged

    async def _is_leverage(self, symbol: str) -> bool:
        """Whether the venue says, when asked for nothing else, that the leverage is what the connection asks for."""
        if not self._exchange.has["fetchLeverage"]:
            return False
        with suppress(library.NotSupported):
            row = await self._exchange.fetch_leverage(symbol, self._leverage_params())
            told = {decimal(row.get("longLeverage")), decimal(row.get("shortLeverage"))} - {None}
            return told == {self._wanted.leverage}
        return False

    async def _positions(self, symbol: str | None) -> list[Any]:
        rows = await self._exchange.fetch_positions(None if symbol is None else [symbol], {})
        return [row for row in rows if symbol is None or row.get("symbol") == symbol]

    def _leverage_params(self) -> dict[str, Any]:
        """Where leverage is kept by margin mode, the one that orders will say."""
        in_orders = self._profile.margin_in_orders and self._wanted.margin_mode is not None
        return {"marginMode": self._wanted.margin_mode} if in_orders else {}


def _word_at(answer: Any, path: Sequence[str]) -> str:
    """What an answer says there."""
    for step in path:
        answer = answer.get(step) if isinstance(answer, Mapping) else None
    return str(answer)
