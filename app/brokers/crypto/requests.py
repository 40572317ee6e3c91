"""Requests: one order of ours in the words of ccxt's unified call. Pure."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from app.brokers.crypto.markets import Listed
from app.brokers.crypto.ways import MarketBuy, Profile, Shape
from app.brokers.port import Refused
from app.domain.market import MarketType, Quote
from app.domain.money import exact, text
from app.domain.orders import OrderKey, OrderRequest, OrderType, Side

Params = dict[str, Any]

_TRIGGERS: Final = {OrderType.STOP: "stopLossPrice", OrderType.TAKE_PROFIT: "takeProfitPrice"}
"""Under which name a class is told the price that a conditional order waits for."""


@dataclass(frozen=True, slots=True)
class Creation:
    """What `create_order` is called with. Amounts are floats of exact texts: classes encode nothing else alike."""

    symbol: str
    type: str
    side: str
    amount: float
    price: float | None
    params: Params


def is_bought_for_money(request: OrderRequest, profile: Profile) -> bool:
    """Whether this order is told what it may cost, not what it is to bring."""
    is_market_buy = request.type is OrderType.MARKET and request.side is Side.BUY
    return is_market_buy and profile.market_buy is not MarketBuy.QUANTITY


def needs_quote(request: OrderRequest, profile: Profile) -> bool:
    """Whether the present price is a part of this order."""
    is_bounded = request.type is OrderType.MARKET and profile.prices_market_orders
    return is_bounded or is_bought_for_money(request, profile)


def creation(
    request: OrderRequest,
    listed: Listed,
    profile: Profile,
    *,
    is_hedged: bool,
    quote: Quote | None = None,
    margin_mode: str | None = None,
    leverage: Decimal | None = None,
) -> Creation:
    """The call that places an order; what is bought for money is reckoned at the ask of `quote`, where it needs one.

    `margin_mode` and `leverage` are what the connection asks for, where the venue takes them with each order.

    Raises Refused for a type this venue has no single order for.
    """
    params = _native_params(request, listed, profile, is_hedged=is_hedged)
    if profile.margin_in_orders and margin_mode is not None and listed.instrument.settle is not None:
        params["marginMode"] = margin_mode
    if profile.leverage_in_orders and leverage is not None and listed.instrument.settle is not None:
        params["leverage"] = whole_or_exact(leverage)
    if profile.is_conditional(request.type):
        params[_TRIGGERS[request.type]] = number(_awaited(request))
    if request.type is OrderType.OCO:
        raise Refused("This venue has no order that is stop and target at once.")
    is_limit = _is_limit(request, profile)
    amount, price, priced = _size(request, listed, profile, quote)
    return Creation(
        symbol=request.symbol,
        type="limit" if is_limit else "market",
        side=request.side.value,
        amount=amount,
        price=price,
        params={**params, **priced},
    )


def _is_limit(request: OrderRequest, profile: Profile) -> bool:
    is_priced = request.type in (OrderType.LIMIT, OrderType.TAKE_PROFIT)
    return is_priced and not profile.is_conditional(request.type)


def _awaited(request: OrderRequest) -> Decimal:
    """The price at which an order is to sell, now or when it is reached: a stop calls it its trigger."""
    price = request.trigger_price if request.type is OrderType.STOP else request.price
    if price is None:
        raise Refused(f"A {request.type} order has a price.")
    return price


def _size(
    request: OrderRequest, listed: Listed, profile: Profile, quote: Quote | None
) -> tuple[float, float | None, Params]:
    """How much is traded and at what price, as the class is told that. Raises Refused without a quote it needs."""
    amount = number(listed.contracts(request.quantity))
    is_bounded = profile.is_conditional(request.type) and profile.prices_market_orders
    if is_bounded or _is_limit(request, profile):
        return amount, number(_awaited(request)), {}
    # A price beside a market order makes some venues buy for an amount of money instead.
    if request.type is OrderType.MARKET and profile.prices_market_orders:
        return amount, number(_present(quote).entering(request.side)), {}
    if not is_bought_for_money(request, profile):
        return amount, None, {}
    ask = _present(quote).ask
    cost = number(_cost(request, ask))
    match profile.market_buy:
        case MarketBuy.PRICED:
            return amount, number(ask), {}
        case MarketBuy.SPENT:
            return cost, None, {}
        case _:
            return amount, None, {"cost": cost}


def _native_params(request: OrderRequest, listed: Listed, profile: Profile, *, is_hedged: bool) -> Params:
    """Our id, the deadline, what the venue wants with this type, and what an exit on margin says."""
    ours = profile.id_of(request.type)
    name = _native(request.client_order_id, profile)
    params: Params = {ours.create: f"{ours.prefix}{name}" if ours.is_prefixed_here else name}
    params |= profile.order_params
    if profile.is_conditional(request.type):
        params |= profile.conditional.params.get(request.type, {})
        if profile.triggers:
            usual = next(iter(profile.triggers))
            params |= profile.triggers[request.trigger_source or usual].params_of(request.type)
    if profile.deadline is not None and not profile.deadline.is_header:
        params[profile.deadline.key] = profile.deadline.of(request.signed_at)
    if listed.instrument.market_type is MarketType.SWAP:
        if request.reduce_only or request.type in (OrderType.STOP, OrderType.TAKE_PROFIT):
            params["reduceOnly"] = True
        if is_hedged and profile.holds_hedged:
            params["hedged"] = True
    return params


def _present(quote: Quote | None) -> Quote:
    if quote is None:
        raise Refused("There is no price to reckon by what a market order may cost.")
    return quote


@exact
def _cost(request: OrderRequest, ask: Decimal) -> Decimal:
    return request.quantity * ask


def naming(key: OrderKey, profile: Profile) -> Params:
    """The parameters by which an order of ours is named to the venue, in the room it lives in."""
    name = profile.id_of(key.type).look_up
    return {name: _native(key.client_order_id, profile), **room(key, profile)}


def _native(client_order_id: str, profile: Profile) -> str | int:
    """Our id as the venue types it."""
    is_number = profile.client_id.shape in (Shape.INTEGER45, Shape.INTEGER63)
    return int(client_order_id) if is_number else client_order_id


def room(key: OrderKey, profile: Profile) -> Params:
    """What makes the venue look where orders of this type live."""
    return dict(profile.room_of(key.type))


def listing(order_type: OrderType, profile: Profile) -> Params:
    """What makes the venue list the orders of a type."""
    beside = profile.conditional.lists if profile.is_conditional(order_type) else {}
    return {**profile.room_of(order_type), **beside}


def places(profile: Profile) -> list[Params]:
    """What makes the venue list all that rests, for one listing each: conditional orders may live apart."""
    told: list[Params] = [{}]
    for each in OrderType:
        if (where := listing(each, profile)) not in told:
            told.append(where)
    return told


def number(amount: Decimal) -> float:
    """The float that prints as the exact amount."""
    return float(text(amount))


@exact
def whole_or_exact(leverage: Decimal) -> int | float:
    """A leverage: venues take 5 where they do not take 5.0."""
    return int(leverage) if leverage == leverage.to_integral_value() else float(leverage)
