"""Accounts: their money, their positions, what is held back, and the proof that nothing was lost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

from app.domain.money import ZERO, exact
from app.domain.orders import Side
from tests.venues.orders import Book, Fill, Kind, Market, Order

GRAIN = Decimal("0.00000001")
"""Venues count money in hundred-millionths."""


class FeesIn(StrEnum):
    """What fees are taken from: what was received (on spot), the quote currency, or BNB while there is any."""

    RECEIVED = "received"
    QUOTE = "quote"
    BNB = "bnb"


@dataclass(frozen=True, slots=True)
class FeeRates:
    """Fractions of what was traded."""

    maker: Decimal
    taker: Decimal


@dataclass(slots=True)
class Position:
    """`quantity` is below zero for shorts; `cost` is Σ price × signed quantity of what is open."""

    market: Market
    book: Book
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    updated: int = 0

    @property
    def entry(self) -> Decimal:
        """The average price of what is open."""
        return self.cost / self.quantity if self.quantity else ZERO

    @property
    def notional(self) -> Decimal:
        """What it is worth now; below zero for shorts."""
        return self.quantity * self.market.mark

    @property
    def unrealized(self) -> Decimal:
        """Profit if it were closed now."""
        return self.notional - self.cost

    def reducible_by(self, side: Side) -> Decimal:
        """The largest quantity of `side` that only reduces it."""
        return max(-self.quantity * side.sign, ZERO)

    def book_fill(self, quantity: Decimal, price: Decimal) -> Decimal:
        """Net a fill of signed `quantity`; answers the profit it realised. An excess opens anew."""
        closing = min(abs(quantity), abs(self.quantity)) if self.quantity * quantity < ZERO else ZERO
        realized = ZERO
        if closing:
            closed = closing.copy_sign(quantity)
            share = grains(self.cost * -closed / self.quantity)
            share = self.cost if closing == abs(self.quantity) else share
            realized = -closed * price - share
            self.quantity, self.cost = self.quantity + closed, self.cost - share
            quantity -= closed
        self.quantity, self.cost = self.quantity + quantity, self.cost + quantity * price
        return realized


@dataclass(frozen=True, slots=True)
class Charge:
    """What a venue took beside the fees of trades."""

    market: Market
    currency: str
    amount: Decimal
    time: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a position was charged or paid for being held: `amount` is below zero for what was paid."""

    number: int
    position: Position
    quantity: Decimal
    rate: Decimal
    amount: Decimal
    time: int
    visible: int
    """When queries begin to show it."""


@dataclass(slots=True, eq=False)
class Account:
    """One account at one exchange, behind one API key."""

    key: str
    secret: str
    uid: int
    deposits: Mapping[str, Decimal]
    fees_in: FeesIn = FeesIn.RECEIVED
    can_withdraw: bool = False
    can_trade: bool = True
    hedged: bool = False
    isolated: set[str] = field(default_factory=set)
    leverage: dict[str, Decimal] = field(default_factory=dict)
    balances: dict[str, Decimal] = field(default_factory=dict)
    positions: dict[tuple[str, Book], Position] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    live: dict[str, Order] = field(default_factory=dict)
    by_client_id: dict[str, list[Order]] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Count the deposits in."""
        self.balances.update(self.deposits)

    def position(self, market: Market, book: Book = Book.BOTH) -> Position:
        """The position of a swap market; an empty one when there is none."""
        known = self.positions.get((market.id, book))
        if known is None:
            known = self.positions[market.id, book] = Position(market, book)
        return known

    @property
    def open_positions(self) -> list[Position]:
        """Those that hold something."""
        return [position for position in self.positions.values() if position.quantity]

    def leverage_of(self, market: Market) -> Decimal:
        """20 until it is set."""
        return self.leverage.get(market.id, Decimal(20))

    def reducible(self, order: Order) -> Decimal:
        """What of a position an order finds to reduce."""
        return self.position(order.market, order.book).reducible_by(order.side)

    def known_as(self, client_id: str) -> list[Order]:
        """Every order that was accepted under this client id."""
        return self.by_client_id.get(client_id, [])

    def change(self, currency: str, amount: Decimal) -> None:
        """Add to a balance."""
        self.balances[currency] = self.balances.get(currency, ZERO) + amount

    @exact
    def locked(self, currency: str) -> Decimal:
        """What live spot orders hold back of a currency; orders of one group hold back once."""
        groups: dict[object, Decimal] = {}
        for order in self.live.values():
            if order.market.kind is Kind.SPOT and order.locks:
                held, amount = spot_claim(order, order.remaining)
                if held == currency:
                    name = order if order.group is None else order.group
                    groups[name] = max(groups.get(name, ZERO), amount)
        return sum(groups.values(), ZERO)

    @exact
    def order_margin(self, currency: str) -> Decimal:
        """What live swap orders hold back of a currency."""
        return sum(
            (
                self.margin_for(order, order.remaining)
                for order in self.live.values()
                if order.market.kind is Kind.SWAP and order.locks and order.market.listing.quote == currency
            ),
            ZERO,
        )

    @exact
    def position_margin(self, currency: str) -> Decimal:
        """What open positions hold back of a currency."""
        return sum((self.margin_of(position) for position in self._in(currency)), ZERO)

    def margin_of(self, position: Position) -> Decimal:
        """The initial margin of a position."""
        return grains(abs(position.cost) / self.leverage_of(position.market))

    def margin_for(self, order: Order, quantity: Decimal) -> Decimal:
        """The initial margin of what an order would open."""
        if order.reduce_only or order.whole:
            return ZERO
        price = order.price or (order.trigger.price if order.trigger else order.market.taking(order.side))
        return grains(quantity * price / self.leverage_of(order.market))

    @exact
    def unrealized(self, currency: str) -> Decimal:
        """Of all open positions."""
        return sum((position.unrealized for position in self._in(currency)), ZERO)

    @exact
    def free(self, currency: str) -> Decimal:
        """What can be spent now."""
        free = self.balances.get(currency, ZERO) - self.locked(currency)
        if self.positions or self.live:
            free += self.unrealized(currency) - self.position_margin(currency) - self.order_margin(currency)
        return max(free, ZERO)

    @exact
    def audit(self) -> None:
        """Prove from deposits and fills alone that the balances and positions are right."""
        balances, held = dict(self.deposits), dict[tuple[str, Book], Decimal]()
        for fill in self.fills:
            order, listing = fill.order, fill.order.market.listing
            changes = {fill.fee_currency: -fill.fee}
            if listing.kind is Kind.SPOT:
                signed = fill.quantity * order.side.sign
                for currency, amount in ((listing.base, signed), (listing.quote, -signed * fill.price)):
                    changes[currency] = changes.get(currency, ZERO) + amount
            else:
                place = order.market.id, order.book
                held[place] = held.get(place, ZERO) + fill.quantity * order.side.sign
                changes[listing.quote] = changes.get(listing.quote, ZERO) + fill.realized
            for currency, amount in changes.items():
                balances[currency] = balances.get(currency, ZERO) + amount
        for charge in self.charges:
            balances[charge.currency] = balances.get(charge.currency, ZERO) - charge.amount
        for settled in self.settlements:
            currency = settled.position.market.listing.quote
            balances[currency] = balances.get(currency, ZERO) + settled.amount
        assert {k: v for k, v in balances.items() if v} == {k: v for k, v in self.balances.items() if v}
        assert {k: v for k, v in held.items() if v} == {
            key: position.quantity for key, position in self.positions.items() if position.quantity
        }
        if not held:
            assert all(amount >= ZERO for amount in self.balances.values())
        for order in self.orders.values():
            assert order.filled == sum((fill.quantity for fill in order.fills), ZERO) <= order.quantity

    def _in(self, currency: str) -> Iterable[Position]:
        return (p for p in self.positions.values() if p.quantity and p.market.listing.quote == currency)


def grains(amount: Decimal) -> Decimal:
    """Cut to what venues count in."""
    return amount.quantize(GRAIN, ROUND_DOWN)


def spot_claim(order: Order, quantity: Decimal) -> tuple[str, Decimal]:
    """Which currency a spot order of `quantity` needs, and how much of it."""
    if order.side is Side.SELL:
        return order.market.listing.base, quantity
    price = order.price or (order.trigger.price if order.trigger else order.market.ask)
    return order.market.listing.quote, quantity * price
