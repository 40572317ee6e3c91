"""What is traded and what is asked for: markets, orders and fills, in no venue's words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, StrEnum

from app.domain.money import ZERO, floor_to_step
from app.domain.orders import Side

ONE = Decimal(1)


class Kind(StrEnum):
    """Where a market trades: coins change hands, or positions are held on margin."""

    SPOT = "spot"
    SWAP = "swap"


class Book(StrEnum):
    """Which position an order is for: the only one, or one of the two of a hedged account."""

    BOTH = "both"
    LONG = "long"
    SHORT = "short"


class Force(StrEnum):
    """Why a venue closes a position by itself."""

    LIQUIDATION = "liquidation"
    ADL = "adl"


class Status(Enum):
    """Where an order stands. A final order may be filled in part."""

    UNTRIGGERED = "waits for its trigger"
    OPEN = "in the book"
    FILLED = "filled"
    CANCELLED = "taken back by its owner"
    EXPIRED = "ended by the rules: nothing to fill it, its time, its sibling, its position gone"
    REJECTED = "triggered, and then not accepted"


LIVE = frozenset({Status.UNTRIGGERED, Status.OPEN})


@dataclass(frozen=True, slots=True)
class Listing:
    """The rules of one market, and what it costs when the exchange opens."""

    base: str
    quote: str
    kind: Kind
    price: Decimal
    tick: Decimal = Decimal("0.01")
    step: Decimal = Decimal("0.00001")
    min_quantity: Decimal = Decimal("0.00001")
    max_quantity: Decimal = Decimal(9000)
    max_market_quantity: Decimal = Decimal(100)
    min_notional: Decimal = Decimal(5)
    maintenance: Decimal = Decimal("0.004")
    max_leverage: Decimal = Decimal(125)
    spread: Decimal = Decimal("0.01")

    @property
    def id(self) -> str:
        """The venues' own name."""
        return f"{self.base}{self.quote}"

    @property
    def symbol(self) -> str:
        """The unified name."""
        pair = f"{self.base}/{self.quote}"
        return pair if self.kind is Kind.SPOT else f"{pair}:{self.quote}"


class Market:
    """A listing with its present price. The bid is that price, the ask is one spread above."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.price = listing.price
        self.pinned: Decimal | None = None
        """Where the mark price is held while the last price moves on; None lets it follow."""
        self.closed = False
        """No longer traded: it is described as settling, and nothing rests in it any more."""
        self.gone = False
        """No longer described at all, whatever is still held in it."""
        self.fraction = ONE
        """How much of an order's quantity one point of the price fills; below 1, orders fill in parts."""
        self.minutes: dict[int, tuple[Decimal, Decimal, Decimal, Decimal]] = {}
        """Open, high, low, close of every minute in which the price has moved, by minutes since 1970."""

    def trade(self, price: Decimal, minute: int) -> None:
        """The price is another from now on."""
        open_, high, low, _ = self.minutes.get(minute, (self.price,) * 4)
        self.minutes[minute] = open_, max(high, price), min(low, price), price
        self.price = price

    @property
    def id(self) -> str:
        """The venues' own name."""
        return self.listing.id

    @property
    def kind(self) -> Kind:
        """Spot or swap."""
        return self.listing.kind

    @property
    def mark(self) -> Decimal:
        """What positions are valued at, and what some triggers watch."""
        return self.price if self.pinned is None else self.pinned

    @property
    def bid(self) -> Decimal:
        """What sellers get."""
        return self.price

    @property
    def ask(self) -> Decimal:
        """What buyers pay."""
        return self.price + self.listing.spread

    def taking(self, side: Side) -> Decimal:
        """What an order of `side` trades at when it does not wait."""
        return self.ask if side is Side.BUY else self.bid


@dataclass(frozen=True, slots=True)
class Trigger:
    """The price that wakes an order, and from where it is reached."""

    price: Decimal
    rising: bool

    def is_reached_by(self, price: Decimal) -> bool:
        """Whether `price` is at it or beyond."""
        return price >= self.price if self.rising else price <= self.price


@dataclass(frozen=True, slots=True)
class Attached:
    """A stop or a target that an order brings into the world with its first fill."""

    trigger: Trigger
    whole: bool
    """For the whole position, whatever it grows to; else for what this order fills."""
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fill:
    """One trade of an order: base units, quote currency, and the fee."""

    number: int
    order: "Order"
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_currency: str
    realized: Decimal
    maker: bool
    time: int


@dataclass(slots=True, eq=False)
class Order:
    """One order of one account. `words` are what only its venue's dialect needs to remember."""

    market: Market
    client_id: str
    side: Side
    quantity: Decimal
    price: Decimal | None = None
    """None takes what the market gives."""
    trigger: Trigger | None = None
    on_mark: bool = False
    """Its trigger watches the mark price, not the last one."""
    reduce_only: bool = False
    whole: bool = False
    """Closes the whole position, whatever it is when the time comes."""
    book: Book = Book.BOTH
    stays: bool = True
    """What is not filled at once stays in the book."""
    post_only: bool = False
    fill_or_kill: bool = False
    locks: bool = True
    """Holds back what it may cost from the moment it is accepted, not only from its trigger."""
    dies_with_position: bool = False
    spawns: Mapping[str, str] | None = None
    """The words of a second order that its trigger places, as Binance's algo orders do, instead of waking it."""
    group: int | None = None
    """Orders of one group cancel each other."""
    until: int | None = None
    attached: tuple[Attached, ...] = ()
    force: Force | None = None
    """The venue itself placed it, for this reason."""
    words: dict[str, str] = field(default_factory=dict)

    number: int = 0
    id: str = ""
    status: Status = Status.OPEN
    parent: "Order | None" = None
    child: "Order | None" = None
    created: int = 0
    updated: int = 0
    triggered: int = 0
    visible: int = 0
    """When queries begin to show it."""
    fraction: Decimal = ONE
    fills: list[Fill] = field(default_factory=list)
    filled: Decimal = ZERO
    value: Decimal = ZERO
    ended_because: str = ""

    @property
    def is_live(self) -> bool:
        """Whether it may still fill."""
        return self.status in LIVE

    @property
    def remaining(self) -> Decimal:
        """What is not filled."""
        return self.quantity - self.filled

    @property
    def average(self) -> Decimal:
        """Of its fills; zero without any."""
        return self.value / self.filled if self.filled else ZERO

    @property
    def fees(self) -> dict[str, Decimal]:
        """Paid so far by currency."""
        paid: dict[str, Decimal] = {}
        for fill in self.fills:
            paid[fill.fee_currency] = paid.get(fill.fee_currency, ZERO) + fill.fee
        return paid

    @property
    def level(self) -> Decimal | None:
        """The price that changes something for it while it waits."""
        if self.status is Status.UNTRIGGERED and self.trigger is not None:
            return None if self.on_mark and self.market.pinned is not None else self.trigger.price
        return self.price

    def is_triggered(self) -> bool:
        """Whether the price that its trigger watches has reached it."""
        watched = self.market.mark if self.on_mark else self.market.price
        return self.trigger is not None and self.trigger.is_reached_by(watched)

    def crosses(self) -> bool:
        """Whether its limit can be had at once."""
        if self.price is None:
            return True
        taking = self.market.taking(self.side)
        return taking <= self.price if self.side is Side.BUY else taking >= self.price

    def is_touched(self) -> bool:
        """Whether the market has come to its limit while it rested."""
        if self.price is None:
            return True
        price = self.market.price
        return price <= self.price if self.side is Side.BUY else price >= self.price

    def portion(self) -> Decimal:
        """What of it fills at one point of the price."""
        fraction = min(self.fraction, self.market.fraction)
        if fraction >= ONE:
            return self.remaining
        step = self.market.listing.step
        return min(self.remaining, max(floor_to_step(self.quantity * fraction, step), step))
