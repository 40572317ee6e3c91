"""What a MetaTrader account holds, what was ever asked of it, and the proof that no money was made or lost."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum

from app.domain.money import ZERO, exact
from app.domain.orders import Side
from tests.venues.metatrader.instruments import Market


class Platform(StrEnum):
    """Which of the two."""

    MT4 = "mt4"
    MT5 = "mt5"


class Method(StrEnum):
    """How positions of one symbol stand beside each other. MT4 always hedges."""

    HEDGING = "Hedging"
    NETTING = "Netting"


class Operation(StrEnum):
    """What an order does, in the platforms' words and their order of numbers."""

    BUY = "Buy"
    SELL = "Sell"
    BUY_LIMIT = "BuyLimit"
    SELL_LIMIT = "SellLimit"
    BUY_STOP = "BuyStop"
    SELL_STOP = "SellStop"
    BUY_STOP_LIMIT = "BuyStopLimit"
    SELL_STOP_LIMIT = "SellStopLimit"

    @property
    def side(self) -> Side:
        """The direction."""
        return Side.BUY if self.startswith("Buy") else Side.SELL

    @property
    def waits(self) -> bool:
        """Whether it is a pending order."""
        return self not in (Operation.BUY, Operation.SELL)

    @property
    def is_limit(self) -> bool:
        """Whether it waits for a better price."""
        return self in (Operation.BUY_LIMIT, Operation.SELL_LIMIT)


OPERATIONS = tuple(Operation)


class State(Enum):
    """Where an order stands, in the words of MT5."""

    PLACED = "Placed"
    FILLED = "Filled"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"
    REJECTED = "Rejected"


class Direction(StrEnum):
    """What a deal did to its position."""

    IN = "In"
    OUT = "Out"
    IN_OUT = "InOut"


class Placed(StrEnum):
    """Who closed a position, in the words of MT5."""

    CLIENT = "Manually"
    STOP_LOSS = "OnSL"
    TAKE_PROFIT = "OnTP"
    STOP_OUT = "OnStopOut"


@dataclass(slots=True, eq=False)
class Order:
    """One order that was accepted, as it was asked for. `magic` is expertID on MT5. Prices of zero are none."""

    ticket: int
    market: Market
    operation: Operation
    lots: Decimal
    magic: int
    comment: str
    placed_type: str
    opened: datetime
    price: Decimal = ZERO
    stop_limit: Decimal = ZERO
    stop_loss: Decimal = ZERO
    take_profit: Decimal = ZERO
    expiration: datetime | None = None
    state: State = State.PLACED
    done: datetime | None = None
    position: int = 0
    """The ticket of the position that it opened or changed."""
    visible: datetime | None = None
    """When queries begin to show it; None is at once."""
    ended_because: str = ""


@dataclass(slots=True, eq=False)
class Position:
    """What is held under one ticket. On MT4 a closed ticket stays as it was closed."""

    ticket: int
    market: Market
    side: Side
    lots: Decimal
    price: Decimal
    opened: datetime
    magic: int
    comment: str
    placed_type: str
    stop_loss: Decimal = ZERO
    take_profit: Decimal = ZERO
    swap: Decimal = ZERO
    commission: Decimal = ZERO
    profit: Decimal = ZERO
    """Realised, when it is closed."""
    close_price: Decimal = ZERO
    closed: datetime | None = None
    part: bool = False
    """Whether it is the closed part of a bigger one (MT4)."""
    visible: datetime | None = None


@dataclass(frozen=True, slots=True)
class Deal:
    """One change of the balance: a trade, or money paid in (`market` is None). Amounts in account currency."""

    ticket: int
    order: int
    position: int
    market: Market | None
    side: Side | None
    direction: Direction
    lots: Decimal
    price: Decimal
    profit: Decimal
    commission: Decimal
    swap: Decimal
    magic: int
    comment: str
    placed: str
    time: datetime
    stop_loss: Decimal = ZERO
    take_profit: Decimal = ZERO

    @property
    def amount(self) -> Decimal:
        """What it changed the balance by."""
        return self.profit + self.commission + self.swap


@dataclass(slots=True, eq=False)
class Login:
    """One account of one broker on one platform."""

    user: int
    password: str
    investor_password: str
    platform: Platform
    currency: str = "USD"
    leverage: int = 100
    method: Method = Method.HEDGING
    commission: Decimal = ZERO
    """Per lot and side, in account currency; above zero is paid."""
    stop_out: Decimal = Decimal(50)
    """The margin level in per cent below which the broker closes positions."""
    money_digits: int = 2
    credit: Decimal = ZERO
    real: bool = False
    is_synced: bool = True
    """Whether the bridge has the account's figures. Without them a summary shows zeros."""
    is_reachable: bool = True
    """Whether the bridge's line to the broker stands for this account. Without it lists are empty."""
    balance: Decimal = ZERO
    orders: list[Order] = field(default_factory=list)
    """Every order that was accepted, closing ones aside, in the order of their tickets."""
    positions: dict[int, Position] = field(default_factory=dict)
    closed: list[Position] = field(default_factory=list)
    """MT4: tickets that were closed, as they were."""
    deals: list[Deal] = field(default_factory=list)

    @property
    def pending(self) -> list[Order]:
        """Orders that wait."""
        return [order for order in self.orders if order.state is State.PLACED]

    @property
    def realized(self) -> Decimal:
        """What trading has brought so far: profits, commissions and swaps."""
        return sum((deal.amount for deal in self.deals if deal.market is not None), ZERO)

    def order(self, ticket: int) -> Order | None:
        """A pending order by its ticket."""
        return next((order for order in self.pending if order.ticket == ticket), None)

    def accepted(self, *, magic: int | None = None, comment: str | None = None) -> list[Order]:
        """Every order accepted under a magic number, a comment, or both."""
        return [
            order
            for order in self.orders
            if (magic is None or order.magic == magic) and (comment is None or order.comment == comment)
        ]

    def doubles(self) -> list[tuple[int, str]]:
        """Magic numbers and comments under which more than one order was accepted."""
        keys = [(order.magic, order.comment) for order in self.orders]
        return sorted({key for key in keys if keys.count(key) > 1})

    def held(self, market: Market) -> Decimal:
        """Lots of a symbol, below zero for shorts."""
        return sum((p.lots * p.side.sign for p in self.positions.values() if p.market is market), ZERO)

    @exact
    def audit(self) -> None:
        """Prove from the deals alone that balance and positions are right."""
        assert self.balance == sum((deal.amount for deal in self.deals), ZERO)
        held: dict[str, Decimal] = {}
        for deal in self.deals:
            if deal.market is not None and deal.side is not None:
                name = deal.market.name
                held[name] = held.get(name, ZERO) + deal.lots * deal.side.sign
        markets = {position.market.name: position.market for position in self.positions.values()}
        open_lots = {name: self.held(market) for name, market in markets.items()}
        assert {k: v for k, v in held.items() if v} == {k: v for k, v in open_lots.items() if v}
        assert all(position.lots > ZERO for position in self.positions.values())
        filled = [order for order in self.orders if order.state is State.FILLED]
        entered = {deal.order for deal in self.deals if deal.market is not None}
        assert all(order.ticket in entered for order in filled)
        if self.method is Method.NETTING:
            assert len(markets) == len(self.positions)
