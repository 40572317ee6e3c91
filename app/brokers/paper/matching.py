"""Matching: what a path of prices does to the resting orders of one account. Pure: the same twice.

Orders fill at their level, or at the point's price where it gapped through. Stops fill at market and slip,
limits and targets do not. Matching to a moment and on from there is the same as matching in one go.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from app.brokers.paper.ledger import Claim, Ledger, Marked, Standing, booked, claim_of, fill_of, standings
from app.brokers.paper.listings import Listing
from app.brokers.paper.tape import Band, Point, path, reached
from app.brokers.paper.terms import Terms
from app.brokers.paper.tickets import FORCED, Level, Ticket, levels_of
from app.brokers.port import Unreachable
from app.domain.market import Instrument, Quote
from app.domain.money import ceil_to_step, exact, floor_to_step
from app.domain.orders import Leg, OrderRequest, OrderStatus, OrderType, Side


@dataclass(frozen=True, slots=True)
class Books:
    """What the venue has written down for one account: its money, and its orders by client order id."""

    ledger: Ledger
    tickets: Mapping[str, Ticket] = field(default_factory=dict)
    taken: int = 0
    """The number of the last order the account has placed, or the venue for it."""

    @property
    def symbols(self) -> set[str]:
        """The symbols whose prices can change something: of resting orders, and of swap positions."""
        held = {symbol for symbol, net in self.ledger.nets.items() if net.quantity}
        return held | {ticket.request.symbol for ticket in self.resting}

    @property
    def resting(self) -> list[Ticket]:
        """The orders that may still fill."""
        return [ticket for ticket in self.tickets.values() if ticket.is_open]

    def resting_in(self, symbol: str) -> list[Ticket]:
        """Those of one symbol."""
        return [ticket for ticket in self.resting if ticket.request.symbol == symbol]

    def with_tickets(self, tickets: Iterable[Ticket]) -> "Books":
        """The books with these orders in place of what was known of them."""
        changed = {ticket.request.client_order_id: ticket for ticket in tickets}
        if not changed:
            return self
        taken = max(self.taken, *(ticket.number for ticket in changed.values()))
        return replace(self, tickets={**self.tickets, **changed}, taken=taken)


@dataclass(frozen=True, slots=True)
class Execution:
    """How an order trades: base units, quote currency, and which leg of it does."""

    quantity: Decimal
    price: Decimal
    time: datetime
    leg: Leg | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A resting order whose level a point has reached; no order, where the venue liquidates."""

    ticket: Ticket | None
    level: Level
    price: Decimal
    """What it fills at."""

    @property
    def priority(self) -> tuple[bool, Decimal, int]:
        """The price on its way meets the nearest level first, and the older of two orders at the same."""
        nearness = self.level.price if self.level.rising else self.level.price.copy_negate()
        return self.level.rising, nearness, self.ticket.number if self.ticket else 0


def matched(
    books: Books, listings: Mapping[str, Listing], terms: Terms, since: datetime, until: datetime
) -> Books:
    """The books after everything that happens in (since, until]; the same object when nothing does.

    Orders of a symbol that is no longer listed rest until they expire.
    """
    for symbol in sorted(books.symbols):
        listing = listings.get(symbol)
        if listing is not None:
            books = _matched_along(books, listing, terms, since, until)
    return _expired(books, books.resting, until)


def executed(
    books: Books, ticket: Ticket, execution: Execution, instrument: Instrument, terms: Terms
) -> Books:
    """The books after an execution, of a reduce-only order at most over what it finds to reduce."""
    side, quantity, time = ticket.request.side, execution.quantity, execution.time
    if ticket.request.reduce_only:
        quantity = min(quantity, reducible(books, ticket.request))
    fill = fill_of(instrument, side, quantity, execution.price, terms)
    filled = replace(books, ledger=booked(books.ledger, instrument, fill))
    return _without_orphans(
        filled.with_tickets([ticket.with_fill(fill, execution.leg, time)]), instrument, time
    )


def reducible(books: Books, request: OrderRequest) -> Decimal:
    """The largest quantity by which an order only reduces a swap position."""
    return books.ledger.net(request.symbol).reducible_by(request.side)


def at_once(ticket: Ticket, instrument: Instrument, terms: Terms) -> Decimal:
    """What of an order fills at one price: limits in parts where the account asks for it."""
    if ticket.request.type is not OrderType.LIMIT:
        return ticket.remaining
    return min(ticket.remaining, terms.fill_at_once(ticket.request.quantity, instrument.quantity_step))


@exact
def slipped(price: Decimal, side: Side, slippage: Decimal, tick: Decimal) -> Decimal:
    """The price of a market order after `slippage` (a fraction) against it, on the tick and above zero."""
    if side is Side.BUY:
        return ceil_to_step(price * (1 + slippage), tick)
    return max(floor_to_step(price * (1 - slippage), tick), tick)


def claims_of(books: Books, listings: Mapping[str, Listing], terms: Terms) -> list[Claim]:
    """What the resting orders hold back; a symbol that is no longer listed holds nothing."""
    return [
        claim_of(
            listings[ticket.request.symbol].instrument,
            ticket.request.side,
            ticket.remaining,
            ticket.request.price,
            reduces=ticket.request.reduce_only,
            terms=terms,
        )
        for ticket in books.resting
        if ticket.request.symbol in listings
    ]


def standings_of(
    books: Books, listings: Mapping[str, Listing], quotes: Mapping[str, Quote], terms: Terms
) -> dict[str, Standing]:
    """Every currency of the account. Raises Unreachable when `quotes` lacks one for an open swap position."""
    nets = {symbol: net for symbol, net in books.ledger.nets.items() if net.quantity}
    if missing := sorted(nets.keys() - quotes.keys()):
        raise Unreachable(f"There is no price for {', '.join(missing)}, so the account cannot be valued.")
    marked = [
        Marked(net, listings[symbol].instrument.currency, quotes[symbol].leaving(net.entry_side))
        for symbol, net in nets.items()
    ]
    return standings(books.ledger.balances, marked, claims_of(books, listings, terms), terms.leverage)


def _matched_along(books: Books, listing: Listing, terms: Terms, since: datetime, until: datetime) -> Books:
    """One symbol's orders along its path, from one point that touches any of them to the next."""
    symbol = listing.instrument.symbol
    after, last = reached(listing.tape, since), reached(listing.tape, until)
    while True:
        band = _band_of(books.resting_in(symbol), _liquidation_of(books, listing, terms), listing)
        point = next(path(listing.tape, after, last, band), None)
        if point is None:
            return books
        books = _matched_at(books, listing, terms, point)
        after = point.number


def _matched_at(books: Books, listing: Listing, terms: Terms, point: Point) -> Books:
    symbol = listing.instrument.symbol
    books = _expired(books, books.resting_in(symbol), point.time)
    hits = [
        *(_hit(ticket, listing, terms, point) for ticket in books.resting_in(symbol)),
        _liquidation_hit(books, listing, terms, point),
    ]
    for hit in sorted((hit for hit in hits if hit is not None), key=lambda hit: hit.priority):
        if hit.ticket is None:
            books = _liquidated(books, listing, terms, hit.price, point.time)
            continue
        ticket = books.tickets[hit.ticket.request.client_order_id]
        # An order before this one at the same point may have closed the position it was to reduce.
        if ticket.is_open:
            quantity = at_once(ticket, listing.instrument, terms)
            execution = Execution(quantity, hit.price, point.time, hit.level.leg)
            books = executed(books, ticket, execution, listing.instrument, terms)
    return books


def _liquidation_of(books: Books, listing: Listing, terms: Terms) -> tuple[Side, Level] | None:
    """Where the venue closes the position of a symbol, and by an order of which side; None for nowhere."""
    net, instrument = books.ledger.net(listing.instrument.symbol), listing.instrument
    price = net.liquidated_at(terms.leverage, instrument.maintenance_margin)
    if price is None:
        return None
    return net.entry_side.opposite, Level(price, rising=net.entry_side is Side.SELL, leg=None)


def _liquidation_hit(books: Books, listing: Listing, terms: Terms, point: Point) -> Hit | None:
    liquidation = _liquidation_of(books, listing, terms)
    if liquidation is None:
        return None
    side, level = liquidation
    price = listing.price_for(side, point.price)
    if not level.is_reached_by(price):
        return None
    at = price if point.gap else level.price
    return Hit(None, level, slipped(at, side, terms.slippage, listing.instrument.price_tick))


def _liquidated(books: Books, listing: Listing, terms: Terms, price: Decimal, time: datetime) -> Books:
    """The books after the venue closed all of a position, by an order of its own."""
    symbol, number = listing.instrument.symbol, books.taken + 1
    net = books.ledger.net(symbol)
    if not net.quantity:
        return books
    request = OrderRequest(
        client_order_id=f"{FORCED}{number}",
        symbol=symbol,
        side=net.entry_side.opposite,
        type=OrderType.MARKET,
        quantity=net.quantity.copy_abs(),
        signed_at=time,
        reduce_only=True,
    )
    ticket = Ticket(request, number, OrderStatus.OPEN, time, message="Liquidated.")
    execution = Execution(request.quantity, price, time)
    return executed(books, ticket, execution, listing.instrument, terms)


def _band_of(tickets: Iterable[Ticket], liquidation: tuple[Side, Level] | None, listing: Listing) -> Band:
    """The middle prices between the nearest levels: as long as it stays there, nothing happens."""
    lows: list[Decimal] = []
    highs: list[Decimal] = []
    waiting = [(ticket.request.side, level) for ticket in tickets for level in levels_of(ticket.request)]
    for side, level in waiting + ([liquidation] if liquidation else []):
        (highs if level.rising else lows).append(listing.middle_for(side, level.price))
    return Band(max(lows, default=None), min(highs, default=None))


def _hit(ticket: Ticket, listing: Listing, terms: Terms, point: Point) -> Hit | None:
    side = ticket.request.side
    price = listing.price_for(side, point.price)
    for level in levels_of(ticket.request):
        if level.is_reached_by(price):
            at = price if point.gap else level.price
            if level.leg is Leg.STOP:
                at = slipped(at, side, terms.slippage, listing.instrument.price_tick)
            return Hit(ticket, level, at)
    return None


def _expired(books: Books, tickets: Iterable[Ticket], now: datetime) -> Books:
    """Take out what was good until `now` or earlier."""
    return books.with_tickets(
        ticket.ended(OrderStatus.EXPIRED, ticket.request.expires_at, "The order was good until this time.")
        for ticket in tickets
        if ticket.request.expires_at is not None and ticket.request.expires_at <= now
    )


def _without_orphans(books: Books, instrument: Instrument, time: datetime) -> Books:
    """Take out reduce-only orders that have nothing left to reduce, as venues do."""
    return books.with_tickets(
        ticket.ended(OrderStatus.CANCELLED, time, "The position this order was to reduce is closed.")
        for ticket in books.resting_in(instrument.symbol)
        if ticket.request.reduce_only and not reducible(books, ticket.request)
    )
