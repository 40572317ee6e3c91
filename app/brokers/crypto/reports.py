"""Reports: ccxt's order and trades as a report of ours, in running totals. Pure.

Nothing is made up: an answer that leaves open what was filled, or for what fee, is no report.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from app.brokers.crypto.markets import Listed, amount, decimal
from app.brokers.crypto.ways import Profile
from app.brokers.port import Uncertain
from app.domain.money import ZERO, exact, trimmed
from app.domain.orders import Leg, OrderKey, OrderReport, OrderStatus, OrderType, Side, merged_fees

Answer = Mapping[str, Any]

_STATUSES: Final = {
    "open": OrderStatus.OPEN,
    "canceling": OrderStatus.OPEN,
    "canceled": OrderStatus.CANCELLED,
    "cancelled": OrderStatus.CANCELLED,
    "expired": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
    # Gate's own words for what ended before it was whole, which its class passes on.
    **dict.fromkeys(
        ("auto_deleveraged", "position_closed", "reduce_only", "reduce_out", "stp"), OrderStatus.CANCELLED
    ),
}

_TRIGGERED: Final = frozenset({OrderType.STOP, OrderType.OCO})
_SIZED: Final = frozenset({OrderType.LIMIT, OrderType.STOP, OrderType.TAKE_PROFIT})
"""What rests as one order of one size; a bracket's legs are told apart."""
_PRICED: Final = frozenset({OrderType.LIMIT, OrderType.TAKE_PROFIT, OrderType.OCO})

_LEGS: Final = {OrderType.STOP: Leg.STOP, OrderType.TAKE_PROFIT: Leg.TARGET}


def id_of(order: Answer | None) -> str | None:
    """The venue's id in an answer."""
    given = None if order is None else order.get("id")
    return None if given in (None, "") else str(given)


def own_id_of(order: Answer, profile: Profile) -> str | None:
    """Our id in an answer, as we made it."""
    for ours in (profile.client_id, profile.conditional.client_id):
        if ours is None:
            continue
        told = order.get("clientOrderId") if ours.told is None else (order.get("info") or {}).get(ours.told)
        if told not in (None, ""):
            return str(told).removeprefix(ours.prefix)
    return None


def side_of(row: Answer, profile: Profile) -> Side | None:
    """The side of an order or a trade; None where it is not told."""
    native = str((row.get("info") or {}).get("side"))
    side = profile.sides.get(native) if profile.sides else row.get("side")
    return Side(side) if side in ("buy", "sell") else None


def without_size(order: Answer) -> Answer:
    """A buy that was told its cost: what it was to bring is an estimate, so its fill ends it, not its size."""
    return {**order, "amount": None} if order.get("side") == "buy" else order


def unfired(order: Answer) -> Answer:
    """A conditional order that has become no other: it has traded nothing. Raises Uncertain for one that fired."""
    if order.get("status") == "closed":
        raise Uncertain("The venue does not name what the triggered order became.")
    return {**order, "filled": "0"}


@exact
def filled_of(order: Answer) -> Decimal:
    """What was filled so far, as the venue counts. Raises Uncertain where it does not say."""
    filled = decimal(order.get("filled"))
    if filled is None and order.get("status") == "open":
        size, left = decimal(order.get("amount")), decimal(order.get("remaining"))
        filled = ZERO if size is None or left is None else size - left
    if filled is None:
        raise Uncertain("The venue's answer does not say what was filled.")
    return filled


def fees_told(order: Answer, fee_detail: str | None) -> dict[str, Decimal] | None:
    """Fees by currency as the order itself tells them; None where only its trades can."""
    detail = (order.get("info") or {}).get(fee_detail) if fee_detail else None
    if isinstance(detail, Mapping) and detail:
        return {str(currency): trimmed(amount(cost)) for currency, cost in detail.items()}
    return _summed([fee for fee in order.get("fees") or [order.get("fee")] if fee])


def fees_of(trade: Answer) -> dict[str, Decimal] | None:
    """Fees of one trade by currency; None where it does not tell them."""
    return _summed([fee for fee in trade.get("fees") or [trade.get("fee")] if fee])


@exact
def _summed(fees: Sequence[Answer]) -> dict[str, Decimal] | None:
    """Total per currency; None when one of them is not told, or there are none."""
    total: dict[str, Decimal] = {}
    for fee in fees:
        cost, currency = decimal(fee.get("cost")), fee.get("currency")
        if cost is None or not currency:
            return None
        total[currency] = total.get(currency, ZERO) + cost
    return {currency: trimmed(cost) for currency, cost in total.items()} or None


@exact
def fees_of_trades(trades: Sequence[Answer], filled: Decimal) -> dict[str, Decimal] | None:
    """Fees by currency of an order's trades; None where they do not tell them.

    Raises Uncertain while the trades do not add up to the fill.
    """
    if sum((amount(trade.get("amount")) for trade in trades), ZERO) != filled:
        raise Uncertain("The venue does not show all trades of the order yet.")
    told = [fees_of(trade) for trade in trades]
    known = [fees for fees in told if fees is not None]
    return merged_fees(known) if len(known) == len(told) else None


@exact
def average_of(order: Answer, trades: Sequence[Answer], filled: Decimal) -> Decimal | None:
    """The average price: of the trades where they are known, else as the venue says."""
    if filled == ZERO:
        return None
    if trades:
        return sum((amount(t.get("price")) * amount(t.get("amount")) for t in trades), ZERO) / filled
    average = decimal(order.get("average"))
    if average is None or average <= ZERO:
        cost = decimal(order.get("cost"))
        average = cost / filled if cost else None
    if average is None:
        raise Uncertain("The venue's answer does not say at what price it was filled.")
    return average


@exact
def status_of(order: Answer, filled: Decimal) -> OrderStatus:
    """Where the order stands. Raises Uncertain for a word we do not know."""
    word, size = order.get("status"), decimal(order.get("amount"))
    if size is not None and ZERO < size <= filled:
        return OrderStatus.FILLED
    if word == "closed":
        # Closed without being whole: the rest was cancelled. Without a size, what was filled is all there was.
        return OrderStatus.FILLED if size in (None, ZERO) and filled > ZERO else OrderStatus.CANCELLED
    status = _STATUSES.get(str(word))
    if status is None:
        raise Uncertain("The venue's answer does not say where the order stands.")
    return status


def report_of(
    order: Answer,
    trades: Sequence[Answer],
    fees: Mapping[str, Decimal] | None,
    key: OrderKey,
    listed: Listed,
    profile: Profile,
    *,
    named: str | None = None,
) -> OrderReport:
    """What the venue says of an order; without `fees` it does not tell them.

    `named` is its id where the answer is of what it became.
    """
    filled = filled_of(order)
    exchange_order_id = named or id_of(order)
    if exchange_order_id is None:
        raise Uncertain("The venue's answer has no order id.")
    return OrderReport(
        client_order_id=key.client_order_id,
        exchange_order_id=exchange_order_id,
        status=status_of(order, filled),
        filled_quantity=trimmed(listed.base(filled)),
        average_price=average_of(order, trades, filled),
        fees=fees or {},
        fees_told=fees is not None,
        leg=_LEGS.get(key.type) if filled > ZERO else None,
        time=_time_of(order),
        trigger_price=_trigger_of(order, key.type) if key.type in _TRIGGERED else None,
        price=_price_of(order, key.type, profile) if key.type in _PRICED else None,
        quantity=_size_of(order, listed) if key.type in _SIZED else None,
    )


def _size_of(order: Answer, listed: Listed) -> Decimal | None:
    size = _positive(order.get("amount"))
    return None if size is None else trimmed(listed.base(size))


def _price_of(order: Answer, order_type: OrderType, profile: Profile) -> Decimal | None:
    """Its limit; of a conditional target where it waits."""
    is_awaited = profile.is_conditional(order_type)
    return _trigger_of(order, order_type) if is_awaited else _positive(order.get("price"))


def _trigger_of(order: Answer, order_type: OrderType) -> Decimal | None:
    """Where it waits; classes put that under one of these names."""
    own = "takeProfitPrice" if order_type is OrderType.TAKE_PROFIT else "stopLossPrice"
    told = (_positive(order.get(field)) for field in ("triggerPrice", own, "stopPrice"))
    return next((price for price in told if price is not None), None)


def _positive(value: object) -> Decimal | None:
    """A price; venues write zero for none."""
    price = decimal(value)
    return trimmed(price) if price is not None and price > ZERO else None


def _time_of(order: Answer) -> datetime | None:
    for field in ("lastUpdateTimestamp", "lastTradeTimestamp", "timestamp"):
        moment = order.get(field)
        if moment:
            return datetime.fromtimestamp(int(moment) / 1000, UTC)
    return None
