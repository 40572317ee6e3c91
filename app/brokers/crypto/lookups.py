"""Look-ups: what a venue shows of one order of ours, asked for by itself or found in its lists."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.crypto import brackets
from app.brokers.crypto.exchange import Surroundings
from app.brokers.crypto.markets import Listed
from app.brokers.crypto.outcomes import is_not_found
from app.brokers.crypto.reports import (
    Answer,
    fees_of_trades,
    fees_told,
    filled_of,
    id_of,
    own_id_of,
    report_of,
    unfired,
    without_size,
)
from app.brokers.crypto.requests import listing, naming, room
from app.brokers.crypto.ways import LookUp, MarketBuy, Profile
from app.brokers.port import ABSENT, Silence, Uncertain
from app.domain.exits import NativeStyle
from app.domain.money import ZERO
from app.domain.orders import OrderKey, OrderReport, OrderType

LOOK_BACK: Final = timedelta(minutes=1)
"""Clock skew allowed for when listings are asked for since the claim."""

TOLD_OF_THE_PAST: Final = timedelta(days=7)
"""How much of it one listing of closed orders is answered for, where orders are found in filtered listings."""

_MOST: Final = 500

LISTS: Final = (
    ("fetchOpenOrders", "fetch_open_orders"),
    ("fetchClosedOrders", "fetch_closed_orders"),
    ("fetchOrders", "fetch_orders"),
)
"""Where an order is looked for that cannot be asked for by itself: what says that a class has it, and its name."""


class LookUps:
    """One account's orders, as its venue shows them. Everything here raises ccxt's errors."""

    def __init__(self, exchange: Any, profile: Profile, surroundings: Surroundings) -> None:
        self._exchange = exchange
        self._profile = profile
        self._surroundings = surroundings

    async def order(self, key: OrderKey) -> Answer | None:
        """The venue's answer about one order; None when it says that there is none. Raises ccxt's errors."""
        params = naming(key, self._profile)
        match self._profile.look_up_of(key.type):
            case LookUp.ONE:
                return await self._order_or_none(key.exchange_order_id or "", key.symbol, params)
            case LookUp.FILTERED:
                return await self._filtered_order(key, params)
            case LookUp.LISTED:
                return await self.in_lists(key)

    async def _filtered_order(self, key: OrderKey, params: dict[str, Any]) -> Answer | None:
        """Of the open orders, then of those of the past: whatever they ended as, however long ago they were placed."""
        exchange = self._exchange
        if found := self._named(await exchange.fetch_open_orders(key.symbol, None, None, dict(params)), key):
            return found
        # Without a start the venue answers for the last days alone, with one for the days from there on.
        is_old = self._surroundings.now() - key.signed_at > TOLD_OF_THE_PAST - LOOK_BACK
        for since in (None, self._since(key)) if is_old else (None,):
            # The class would ask for closed orders with the status of filled ones.
            told = await exchange.fetch_canceled_and_closed_orders(key.symbol, since, None, dict(params))
            if found := self._named(told, key):
                return found
        return None

    async def _order_or_none(self, order_id: str, symbol: str, params: dict[str, Any]) -> Answer | None:
        try:
            order: Answer = await self._exchange.fetch_order(order_id, symbol, params)
        except Exception as error:
            if is_not_found(error):
                return None
            raise
        return order

    async def in_lists(self, key: OrderKey) -> Answer | None:
        """By the venue's id where it is known and can be asked for, else in the lists of open and closed orders."""
        exchange, has = self._exchange, self._exchange.has
        if key.exchange_order_id is not None and has["fetchOrder"] is True:
            # Some classes ask for single orders on one of their markets only.
            with suppress(library.NotSupported):
                return await self._order_or_none(key.exchange_order_id, key.symbol, room(key, self._profile))
        where, since = listing(key.type, self._profile), self._since(key)
        for flag, method in LISTS:
            if has[flag] is not True:
                continue
            # Told a start, a class may look for conditional orders among all others; those of the past are few.
            start = None if flag == "fetchOpenOrders" or where else since
            with suppress(library.NotSupported):
                if found := self._named(
                    await getattr(exchange, method)(key.symbol, start, None, dict(where)), key
                ):
                    return found
        return None

    def _named(self, orders: Sequence[Answer], key: OrderKey) -> Answer | None:
        for order in orders:
            if own_id_of(order, self._profile) == key.client_order_id:
                return order
            if key.exchange_order_id is not None and id_of(order) == key.exchange_order_id:
                return order
        return None

    def _since(self, key: OrderKey) -> int:
        """From when on the venue is asked for what became of a claim, by its own clock, in milliseconds."""
        return int((self._surroundings.clock.at(key.signed_at) - LOOK_BACK).timestamp() * 1000)

    async def bracket(self, key: OrderKey, listed: Listed) -> OrderReport | Silence:
        legs: list[OrderReport] = []
        list_id = ""
        for letter, leg in brackets.LEGS.items():
            part = replace(key, client_order_id=key.client_order_id + letter, exchange_order_id=None)
            order = await self.order(part)
            if order is None:
                continue
            list_id = str(order["info"]["orderListId"])
            report = await self.report(order, part, listed)
            legs.append(replace(report, leg=leg if report.filled_quantity > ZERO else None))
        if not legs:
            return ABSENT
        if len(legs) != len(brackets.LEGS):
            raise Uncertain("The venue shows one leg of a bracket only.")
        return brackets.merged(key.client_order_id, list_id, legs)

    async def report(self, order: Answer, key: OrderKey, listed: Listed) -> OrderReport:
        """The report of an answer, with what a conditional order became, and fees from its trades where needed."""
        named = id_of(order)
        became = self.real_orders(order, key)
        if len(became) > 1:
            raise Uncertain("The venue has split the triggered order.")
        if became:
            real = await self._order_or_none(became[0], key.symbol, {})
            if real is None:
                raise Uncertain("The venue does not show what the triggered order became.")
            order = real
        elif self._lives_apart(key):
            order = unfired(order)
        if key.type is OrderType.MARKET and self._profile.market_buy is not MarketBuy.QUANTITY:
            order = without_size(order)
        filled = filled_of(order)
        fees = fees_told(order, self._profile.fee_detail) if filled > ZERO else {}
        trades: Sequence[Answer] = ()
        if fees is None and self._tells_trades:
            trades = await self._trades(order, key)
            fees = fees_of_trades(trades, filled)
        return report_of(order, trades, fees, key, listed, self._profile, named=named)

    def real_orders(self, order: Answer, key: OrderKey) -> list[str]:
        """What a conditional order became: one order, or several where the venue has split it."""
        for field in self._profile.conditional.real_order if self._lives_apart(key) else ():
            told = (order.get("info") or {}).get(field)
            names = [str(each or "") for each in (told if isinstance(told, list) else [told])]
            if known := [each for each in names if each not in ("", "0")]:
                return known
        return []

    def _lives_apart(self, key: OrderKey) -> bool:
        """Whether it is a conditional order that becomes another one when it fires."""
        return bool(self._profile.conditional.real_order) and self._profile.is_conditional(key.type)

    @property
    def _tells_trades(self) -> bool:
        """Whether the venue lists the trades of an order, which may say what it cost."""
        has = self._exchange.has
        return bool(self._profile.trades_by or has["fetchOrderTrades"] is True or has["fetchMyTrades"])

    async def _trades(self, order: Answer, key: OrderKey) -> Sequence[Answer]:
        """All trades of one order. Raises ccxt's errors."""
        exchange, name = self._exchange, id_of(order)
        if self._profile.trades_by is not None:
            found = await exchange.fetch_my_trades(key.symbol, None, _MOST, {self._profile.trades_by: name})
        elif exchange.has["fetchOrderTrades"] is True:
            found = await exchange.fetch_order_trades(name, key.symbol, None, None, {})
        else:
            found = await exchange.fetch_my_trades(key.symbol, self._since(key), None, {})
        return [trade for trade in found if str(trade.get("order")) == name]

    async def venue_ids(self, key: OrderKey) -> list[str]:
        """The ids under which the trades of an order of ours are listed. Raises ccxt's errors."""
        if key.type is OrderType.OCO and self._profile.style is NativeStyle.BRACKET:
            legs = [replace(key, client_order_id=key.client_order_id + letter) for letter in brackets.LEGS]
            found = [await self.order(replace(leg, exchange_order_id=None)) for leg in legs]
            return [name for order in found if (name := id_of(order)) is not None]
        names = [key.exchange_order_id] if key.exchange_order_id is not None else []
        if self._lives_apart(key):
            order = await self.order(key)
            names += [] if order is None else self.real_orders(order, key)
        return names
