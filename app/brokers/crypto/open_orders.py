"""Open orders: what rests at a venue, as its lists show it, wherever the orders of a type live."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.brokers.crypto import brackets
from app.brokers.crypto.lookups import LookUps
from app.brokers.crypto.markets import Listed, amount, decimal
from app.brokers.crypto.reports import Answer, id_of, own_id_of, report_of, side_of
from app.brokers.crypto.requests import listing, places
from app.brokers.crypto.ways import Profile
from app.brokers.port import Resting
from app.domain.exits import NativeStyle
from app.domain.money import ZERO, trimmed
from app.domain.orders import OrderKey, OrderReport


class OpenOrders:
    """One account's lists of open orders."""

    def __init__(self, exchange: Any, profile: Profile, look_ups: LookUps) -> None:
        self._exchange = exchange
        self._profile = profile
        self._look_ups = look_ups

    async def resting(self, symbols: Sequence[str | None], known: Mapping[str, Listed]) -> Sequence[Resting]:
        """Every order that rests in these symbols, whoever placed it; None stands for all. Raises ccxt's errors."""
        return [
            self._resting(order, known)
            for symbol in symbols
            for where in places(self._profile)
            for order in await self._exchange.fetch_open_orders(symbol, None, None, where)
        ]

    def untouched(
        self, orders: Sequence[Answer], where: Mapping[str, Any], keys: Sequence[OrderKey], listed: Listed
    ) -> dict[str, OrderReport]:
        """Those of `keys` that a list of their symbol, asked for `where`, shows to rest unfilled; by our id."""
        seen = {own_id_of(order, self._profile): order for order in orders}
        resting: dict[str, OrderReport] = {}
        for key in keys:
            order = seen.get(key.client_order_id)
            if order is None or listing(key.type, self._profile) != where:
                continue
            if (
                order.get("status") == "open"
                and amount(order.get("filled")) == ZERO
                and not self._look_ups.real_orders(order, key)
            ):
                resting[key.client_order_id] = report_of(order, (), {}, key, listed, self._profile)
        return resting

    def _resting(self, order: Answer, known: Mapping[str, Listed]) -> Resting:
        symbol, size = str(order.get("symbol")), decimal(order.get("amount"))
        listed = known.get(symbol)
        return Resting(
            symbol=symbol,
            client_order_id=self._own_id(order),
            exchange_order_id=id_of(order),
            side=side_of(order, self._profile),
            quantity=None if listed is None or size is None else trimmed(listed.base(size)),
        )

    def _own_id(self, order: Answer) -> str | None:
        """The client order id of an order as our books know it."""
        told = own_id_of(order, self._profile)
        is_bracketed = self._profile.style is NativeStyle.BRACKET
        return brackets.list_id_of(told) if is_bracketed and told is not None else told
