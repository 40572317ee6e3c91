"""Admission: whether the venue takes an order, and what becomes of it at once. Pure; refusals are raised.

Market orders fill at the quote and slip, limit orders that cross it fill there as takers, all others rest.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from app.brokers.paper.listings import Listing
from app.brokers.paper.matching import Books, Execution, at_once, executed, reducible, slipped, standings_of
from app.brokers.paper.terms import Terms
from app.brokers.paper.tickets import Ticket, levels_of
from app.brokers.port import Refused
from app.domain.market import Instrument, MarketType, Quote
from app.domain.money import ZERO, exact, floor_to_step, text
from app.domain.orders import OrderRequest, OrderStatus, OrderType, Side

PROTECTIVE: Final = frozenset({OrderType.STOP, OrderType.TAKE_PROFIT, OrderType.OCO})
"""Orders that only ever leave a position."""

_PRICED: Final = frozenset({OrderType.LIMIT, OrderType.TAKE_PROFIT, OrderType.OCO})
_TRIGGERED: Final = frozenset({OrderType.STOP, OrderType.OCO})


def admitted(
    books: Books,
    request: OrderRequest,
    number: int,
    listings: Mapping[str, Listing],
    quotes: Mapping[str, Quote],
    terms: Terms,
    now: datetime,
) -> Books:
    """The books with a new order in them, filled as far as it fills at once.

    `quotes` holds those of the order's symbol and of the open swap positions. Raises Refused, and Unreachable
    when one that is needed is missing: what only shrinks a position needs no other than its own.
    """
    listing = _listing_of(request, listings, terms)
    quote = quotes.get(request.symbol)
    if quote is None:
        raise Refused(f"{request.symbol} is not quoted yet.", code="quote_stale")
    request = _as_taken(request, listing.instrument)
    _check_prices(request, listing.instrument)
    _check_time(request, now)
    reference = _reference_price(request, quote)
    _check_size(request, listing.instrument, reference)
    _check_holding(books, request, listing.instrument)
    _check_triggers(request, quote)
    after = _entered(books, Ticket(request, number, OrderStatus.OPEN, now), listing, quote, terms, now)
    _check_funds(books, after, request, listing.instrument, listings, quotes, terms)
    return after


def _entered(
    books: Books, ticket: Ticket, listing: Listing, quote: Quote, terms: Terms, now: datetime
) -> Books:
    """Put a ticket into the books and fill what the present quote fills."""
    request, instrument = ticket.request, listing.instrument
    books = books.with_tickets([ticket])
    price = quote.entering(request.side)
    if request.type is OrderType.MARKET:
        price = slipped(price, request.side, terms.slippage, instrument.price_tick)
    elif not any(level.is_reached_by(price) for level in levels_of(request)):
        return books
    return executed(
        books, ticket, Execution(at_once(ticket, instrument, terms), price, now), instrument, terms
    )


def _listing_of(request: OrderRequest, listings: Mapping[str, Listing], terms: Terms) -> Listing:
    listing = listings.get(request.symbol)
    if listing is None:
        raise Refused(f"{request.symbol} is not listed here.", code="symbol_unknown")
    if listing.instrument.market_type is not terms.market_type:
        raise Refused(
            f"{request.symbol} cannot be traded on a {terms.market_type} account.", code="market_mismatch"
        )
    return listing


def _as_taken(request: OrderRequest, instrument: Instrument) -> OrderRequest:
    """The order as this market understands it: on swap what protects reduces, on spot nothing does."""
    on_swap = instrument.market_type is MarketType.SWAP
    return replace(request, reduce_only=on_swap and (request.reduce_only or request.type in PROTECTIVE))


@exact
def _check_prices(request: OrderRequest, instrument: Instrument) -> None:
    """The prices its type needs are there and on the tick, and an OCO's stop lies on the losing side."""
    if (request.type in _PRICED) != (request.price is not None):
        raise Refused(f"A {request.type} order has {'a' if request.type in _PRICED else 'no'} price.")
    if (request.type in _TRIGGERED) != (request.trigger_price is not None):
        raise Refused(
            f"A {request.type} order has {'a' if request.type in _TRIGGERED else 'no'} trigger price."
        )
    for price in (request.price, request.trigger_price):
        if price is not None and (price <= ZERO or price % instrument.price_tick):
            raise Refused(
                f"{text(price)} is no multiple of the tick {text(instrument.price_tick)} above zero."
            )
    target, stop, sign = request.price, request.trigger_price, request.side.sign
    if target is not None and stop is not None and target * sign >= stop * sign:
        raise Refused("The target of an OCO lies on the winning side of its stop.")


def _check_time(request: OrderRequest, now: datetime) -> None:
    if request.expires_at is not None and request.expires_at <= now:
        raise Refused("The order's time of expiry has passed.")


@exact
def _reference_price(request: OrderRequest, quote: Quote) -> Decimal:
    """The lowest price it may fill at, as far as that is known: what its notional is judged by."""
    given = [price for price in (request.price, request.trigger_price) if price is not None]
    return min(given, default=quote.entering(request.side))


@exact
def _check_size(request: OrderRequest, instrument: Instrument, price: Decimal) -> None:
    """The quantity is on the step and large enough; what only reduces may be worth less than the minimum."""
    quantity, unit = request.quantity, instrument.base
    if quantity < instrument.min_quantity:
        raise Refused(
            f"{text(quantity)} {unit} is below the minimum of {text(instrument.min_quantity)} {unit}.",
            code="quantity_below_minimum",
        )
    if floor_to_step(quantity, instrument.quantity_step) != quantity:
        raise Refused(f"{text(quantity)} {unit} is no multiple of the step {text(instrument.quantity_step)}.")
    minimum = instrument.min_notional
    if minimum is not None and quantity * price < minimum and not request.reduce_only:
        raise Refused(
            f"{text(quantity)} {unit} at {text(price)} is worth less than the minimum of {text(minimum)} "
            f"{instrument.currency}.",
            code="notional_below_minimum",
        )


def _check_holding(books: Books, request: OrderRequest, instrument: Instrument) -> None:
    """What is to leave a position finds one."""
    if request.reduce_only and not reducible(books, request):
        raise Refused(f"A reduce-only order finds nothing to reduce in {request.symbol}.")
    if instrument.market_type is MarketType.SPOT and request.type in PROTECTIVE and request.side is Side.BUY:
        raise Refused(f"A {request.type} order on spot sells what is held.")


def _check_triggers(request: OrderRequest, quote: Quote) -> None:
    """What waits for a price has not been passed by it."""
    price = quote.entering(request.side)
    if request.type in PROTECTIVE and any(level.is_reached_by(price) for level in levels_of(request)):
        raise Refused("order would trigger immediately")


def _check_funds(
    before: Books,
    after: Books,
    request: OrderRequest,
    instrument: Instrument,
    listings: Mapping[str, Listing],
    quotes: Mapping[str, Quote],
    terms: Terms,
) -> None:
    """With the order in the books nothing is overspent. What only shrinks a position may always go."""
    if instrument.market_type is MarketType.SWAP and _only_shrinks(before, after, request):
        return
    sells_coins = instrument.market_type is MarketType.SPOT and request.side is Side.SELL
    currency = instrument.base if sells_coins else instrument.currency
    standing = standings_of(after, listings, quotes, terms).get(currency)
    if standing is None or standing.free < ZERO:
        had = standings_of(before, listings, quotes, terms).get(currency)
        free = max(had.free, ZERO) if had else ZERO
        raise Refused(
            f"The free balance of {text(free)} {currency} does not cover the order.",
            code="insufficient_balance",
        )


@exact
def _only_shrinks(before: Books, after: Books, request: OrderRequest) -> bool:
    """Whether nothing is left to open: the order reduces, or it has filled and taken from the other side."""
    if request.reduce_only:
        return True
    if after.tickets[request.client_order_id].is_open:
        return False
    held, holds = before.ledger.net(request.symbol).quantity, after.ledger.net(request.symbol).quantity
    return held * holds >= ZERO and abs(holds) < abs(held)
