"""Brackets: Binance's one-cancels-the-other lists, which ccxt has no unified call for.

A list is our client order id with two legs of that id and a letter; what became of it is read from the legs.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.crypto.requests import number
from app.brokers.port import Refused, Uncertain
from app.domain.money import ZERO
from app.domain.orders import Leg, OrderReport, OrderRequest, OrderStatus, Side

TARGET: Final = "t"
STOP: Final = "s"
LEGS: Final = {TARGET: Leg.TARGET, STOP: Leg.STOP}
"""What is put behind a bracket's id to name a leg, and which one that is."""

_ID_LENGTH: Final = 32
"""Of a client order id of ours here."""

_STOP_TYPE: Final = "STOP_LOSS"


async def place(exchange: Any, request: OrderRequest) -> None:
    """Send a bracket. Raises Refused where the symbol takes no stop that sells at market."""
    market = exchange.market(request.symbol)
    if request.price is None or request.trigger_price is None:
        raise Refused("A bracket has a target and a stop.")
    if _STOP_TYPE not in market["info"].get("orderTypes", ()):
        raise Refused(f"{request.symbol} takes no stop that sells at market here.")
    name = request.client_order_id
    target = {
        "Type": "LIMIT_MAKER",
        "Price": exchange.price_to_precision(request.symbol, number(request.price)),
        "ClientOrderId": name + TARGET,
    }
    stop = {
        "Type": _STOP_TYPE,
        "StopPrice": exchange.price_to_precision(request.symbol, number(request.trigger_price)),
        "ClientOrderId": name + STOP,
    }
    above, below = (target, stop) if request.side is Side.SELL else (stop, target)
    await exchange.privatePostOrderListOco(
        {
            "symbol": market["id"],
            "side": request.side.value.upper(),
            "quantity": exchange.amount_to_precision(request.symbol, number(request.quantity)),
            "listClientOrderId": name,
            **{f"above{field}": value for field, value in above.items()},
            **{f"below{field}": value for field, value in below.items()},
        }
    )


def list_id_of(client_order_id: str) -> str:
    """The bracket's own id in that of one of its legs; any other id as it is."""
    is_leg = len(client_order_id) == _ID_LENGTH + 1 and client_order_id[-1] in LEGS
    return client_order_id[:-1] if is_leg else client_order_id


async def cancel(exchange: Any, symbol: str, client_order_id: str) -> None:
    """Take both legs back; where the venue takes the list for ended, whichever leg still stands."""
    market = exchange.market(symbol)
    try:
        await exchange.privateDeleteOrderList({"symbol": market["id"], "listClientOrderId": client_order_id})
    except library.OrderNotFound:
        for letter in LEGS:
            with suppress(library.OrderNotFound):
                await exchange.cancel_order("", symbol, {"origClientOrderId": client_order_id + letter})


def merged(client_order_id: str, list_id: str, legs: Sequence[OrderReport]) -> OrderReport:
    """One report of both legs: the one that was filled speaks, and while one is open so is the bracket.

    With the first fill of the target the venue ends the stop: a bracket that is filled in part has none any more.
    """
    filled = [leg for leg in legs if leg.filled_quantity > ZERO]
    if len(filled) > 1:
        raise Uncertain("Both legs of a bracket were filled.")
    spoken = (
        filled[0]
        if filled
        else max(legs, key=lambda leg: (leg.status is OrderStatus.CANCELLED, str(leg.time)))
    )
    is_open = any(leg.status is OrderStatus.OPEN for leg in legs)
    stops = (leg for leg in legs if leg.trigger_price is not None and leg.status is OrderStatus.OPEN)
    return replace(
        spoken,
        trigger_price=next((leg.trigger_price for leg in stops), None),
        # A stop that sells at market has no price of its own.
        price=next((leg.price for leg in legs if leg.trigger_price is None), None),
        client_order_id=client_order_id,
        exchange_order_id=list_id,
        status=OrderStatus.OPEN if is_open else spoken.status,
    )
