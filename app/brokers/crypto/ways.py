"""Ways: in what one venue may differ from another, as data. A profile is all of it for one venue on one market."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from app.domain.exits import NativeStyle
from app.domain.orders import OrderType, TriggerSource

VALIDITY: Final = timedelta(seconds=5)
"""How long after its claim a request may still be accepted."""

MILLISECOND: Final = timedelta(milliseconds=1)

CAUTIOUS_SETTLE: Final = timedelta(seconds=60)
"""Where nothing is known of a venue's processing time."""


class Shape(StrEnum):
    """What a venue takes for a client order id; each is made from the same 32 hex digits."""

    HEX32 = "hex32"
    HEX28 = "hex28"
    HEX20 = "hex20"
    HEX_0X = "0x_hex32"
    UUID = "uuid"
    INTEGER63 = "integer63"
    INTEGER45 = "integer45"


class LookUp(StrEnum):
    """How an order is found by our id."""

    ONE = "one"
    """One request for the order of this id; the class tells "not found" from a failure."""
    FILTERED = "filtered"
    """Open, then closed and cancelled orders, filtered by the venue."""
    LISTED = "listed"
    """Open, then closed orders, searched here; one request for the order of the venue's own id, where that is known."""


class Quoting(StrEnum):
    """Questions of a class that may tell both sides of a market, by what says that it has them; the dearest last."""

    BIDS_ASKS = "fetchBidsAsks"
    TICKERS = "fetchTickers"
    TICKER = "fetchTicker"
    BOOK = "fetchOrderBook"


class LeverageBy(StrEnum):
    """How leverage is set."""

    ITSELF = "itself"
    """By itself: the margin mode stays as it is."""
    WITH_MODE = "with_mode"
    """With the margin mode beside it, which is then set, too."""
    IN_MODE = "in_mode"
    """Beside the margin mode that is set."""
    ISOLATING = "isolating"
    """By itself, which makes the margin isolated."""


class Practice(StrEnum):
    """How the practice accounts of a venue are reached."""

    SANDBOX = "sandbox"
    DEMO = "demo"
    NONE = "none"
    """Not at all, whatever the class says: what it calls a test address is the live one, or another venue's."""


class MarketBuy(StrEnum):
    """What a market buy is told to take: venues without a quantity for it are told what it may cost."""

    QUANTITY = "quantity"
    COST = "cost"
    """The money, beside the quantity: the class sends it instead."""
    SPENT = "spent"
    """The money in place of the quantity: the class passes it on as it is."""
    PRICED = "priced"
    """The price beside the quantity: the class sends what they make."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment after which a venue's matching engine refuses an order, where orders can name one."""

    key: str
    is_header: bool = False
    is_text: bool = False
    """Written as RFC 3339; else milliseconds since 1970."""
    grace: timedelta = timedelta(0)
    """What is added to the validity where the venue wants a deadline to be some way off when it arrives."""

    def of(self, signed_at: datetime) -> str | int:
        """The deadline of a claim as the venue writes it."""
        ends = signed_at + VALIDITY + self.grace
        return f"{ends:%Y-%m-%dT%H:%M:%SZ}" if self.is_text else int(ends.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class ClientId:
    """Under which keys our id travels, native ones where the class would drop the unified key."""

    create: str = "clientOrderId"
    look_up: str = "clientOrderId"
    shape: Shape = Shape.HEX32
    prefix: str = ""
    """What the class puts in front of it, and the venue shows with it."""
    is_prefixed_here: bool = False
    """Whether the class leaves it to us to put that in front when an order is created."""
    told: str | None = None
    """Where the venue's own answers hold it, if the class does not read it from there."""


@dataclass(frozen=True, slots=True)
class PositionMode:
    """Where a venue tells that an account holds a long and a short side, if the class has no question for it."""

    path: tuple[str, ...]
    """Where the answer holds the word; that of each position where no method is named."""
    hedged: frozenset[str]
    """The words that mean it."""
    method: str | None = None
    """The method of the class that is asked."""
    params: Mapping[str, str] | None = None
    """With what; None asks about one symbol."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """How a conditional order is told to go by one price, and how the class tells that price."""

    params: Mapping[str, str]
    """What it is created with."""
    method: str
    """The method that answers by symbol."""
    field: str
    """Where its answers hold the price."""
    target_params: Mapping[str, str] | None = None
    """What a target is created with, if not with the same."""

    def params_of(self, order_type: OrderType) -> Mapping[str, str]:
        """What an order of a type is created with."""
        if order_type is OrderType.TAKE_PROFIT and self.target_params is not None:
            return self.target_params
        return self.params


@dataclass(frozen=True, slots=True)
class Conditional:
    """How orders travel that wait for a price and then sell at market, where that is not as all others do."""

    types: frozenset[OrderType] = frozenset({OrderType.STOP})
    """Which orders these are. A target that is none of them is a limit order."""
    client_id: ClientId | None = None
    """Under which keys our id travels with them."""
    look_up: LookUp | None = None
    """How they are found."""
    params: Mapping[OrderType, Mapping[str, Any]] = field(default_factory=dict)
    """What else each is created with."""
    room: Mapping[str, Any] = field(default_factory=dict)
    """What a look-up or cancel has to add to see them: they live apart."""
    lists: Mapping[str, Any] = field(default_factory=dict)
    """What a listing has to add to show those that are asked for singly like any other order."""
    cancels_by_id: bool = False
    """Whether they are taken back by the venue's own id only, however they are found."""
    real_order: tuple[str, ...] = ()
    """Where one that has fired names the order it became, in the venue's own answer. Itself it trades nothing."""


@dataclass(frozen=True, slots=True)
class Records:
    """How a venue lists the funding it charged and paid; the fields are those of a row of the list."""

    method: str
    """The method of the class that asks for it."""
    params: Mapping[str, str]
    id: str
    amount: str
    """What was received; negative was paid."""
    currency: str
    time: str
    limit: int
    """Of rows in one answer."""
    path: tuple[str, ...] = ()
    """Where an answer holds the rows."""
    cursor: tuple[str, ...] | None = None
    """Where it names the page that follows; None where pages are counted."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One venue's ways on one of its markets."""

    taker_fee: Decimal | None = None
    """The standard taker fee, as a fraction; None takes what the class states."""
    client_id: ClientId = field(default_factory=ClientId)
    look_up: LookUp = LookUp.LISTED
    is_proven: bool = False
    """Whether a clean look-up that finds nothing may be believed."""
    settle: timedelta = CAUTIOUS_SETTLE
    window_option: str | None = None
    """The option of the class that holds the validity window, where it signs one."""
    window_unit: timedelta = MILLISECOND
    """What that option counts."""
    deadline: Deadline | None = None
    """How an order says until when it may be accepted, where it does that by a moment."""
    market_buy: MarketBuy = MarketBuy.QUANTITY
    prices_market_orders: bool = False
    """Whether the class wants the price that market orders are bounded by, whichever way they go."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the class, other than the window."""
    alone: Mapping[str, Any] = field(default_factory=dict)
    """Options that make the class load the markets of this type only."""
    order_params: Mapping[str, Any] = field(default_factory=dict)
    """What else every order is created with."""
    practice: Practice = Practice.SANDBOX
    style: NativeStyle = NativeStyle.NONE
    triggers: Mapping[TriggerSource, Trigger] = field(default_factory=dict)
    """Which prices may wake its stops, the usual one first; empty where there is no choice."""
    conditional: Conditional = field(default_factory=Conditional)
    lists_all: bool = False
    """Whether one request lists every open order of the account: none is cut off, whatever its symbol."""
    infers_direction: bool = False
    """Whether a stop fires whichever way its trigger is reached: one that was passed would wait for a return."""
    unified: tuple[str, ...] = ()
    """The method by which the class finds out, and notes as `uta`, whether an account is a unified one, and what it is
    told beside parameters: such accounts have other requests for stops, which nobody has read."""
    sides: Mapping[str, str] = field(default_factory=dict)
    """What the venue's own words for the side of an order or a trade mean, where the class does not know them."""
    trades_by: str | None = None
    """The key by which trades of one order are asked for."""
    fee_detail: str | None = None
    """Where an order's own answer holds its fees by currency."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Codes that certainly mean no, and our code for each."""
    credential_codes: frozenset[str] = frozenset()
    """Codes that say that the key is not accepted: wrong, expired, disabled, or from this address."""
    ban_codes: frozenset[str] = frozenset()
    """Codes that say that this address is shut out, which is nothing about the key or the order."""
    refusing_words: tuple[str, ...] = ()
    """Messages that certainly mean no where their code has other meanings too."""
    not_executed: frozenset[str] = frozenset()
    """Codes that certainly mean "not now": rate limits and clocks."""
    not_executed_statuses: frozenset[int] = frozenset()
    """The same for statuses of HTTP."""
    uncertain: frozenset[str] = frozenset()
    """Codes that say nothing, whatever error the class makes of them."""
    dates_requests: bool = False
    """Whether what the class calls an invalid nonce is a time outside the window, so that nothing was executed.
    Elsewhere nonces count up, and one that was used before may have come with this very order."""
    forced_types: tuple[str, ...] = ()
    """Under which `execType` each the venue lists trades that it forced; other trades are listed without them."""
    forced_orders: str | None = None
    """The method of the class that lists the orders by which the venue closed positions."""
    forced_charges: tuple[str, str] | None = None
    """The method that lists incomes, and the type of those that a forced order costs beside its fees."""
    funding: Records | None = None
    """How funding is told of; None on swap is not at all."""
    balance_type: str | None = None
    """What the class calls the account of this market, if not by the market's own name."""
    settle_coins: tuple[str, ...] = ()
    """Positions are told for one settle coin at a time; these are asked for."""
    read_lag: timedelta = timedelta(seconds=30)
    """How far what is told of holdings may lag behind fills."""
    places_by_get: bool = False
    """Whether orders are sent with GET, so that no method tells a read from a write."""
    margin_in_orders: bool = False
    """Whether every order says its margin mode, so that there is none to set."""
    one_margin_mode: bool = False
    """Whether the margin mode is the account's, not a symbol's."""
    leverage_beside_mode: str | None = None
    """What of the venue's own answer about a symbol's margin mode is its leverage, where both are told together."""
    unchanged: frozenset[str] = frozenset()
    """Codes by which the venue calls it an error that a setting is so already."""
    mode_words: str | None = None
    """What a refusal says of an order that is for another position mode than the account's."""
    position_mode: PositionMode | None = None
    """Where the position mode is told, if the class does not tell it otherwise."""
    holds_hedged: bool = False
    """Whether orders say which side of an account with a long and a short one they are for; elsewhere such accounts
    take no entries."""
    names_side: bool = False
    """Whether they say it in every account, so that the class is never told `hedged`."""
    leverage_by: LeverageBy = LeverageBy.ITSELF
    leverage_sides: tuple[Mapping[str, Any], ...] = ({},)
    """With what else it is set, once for each: some venues keep it by side."""
    leverage_sides_hedged: tuple[Mapping[str, Any], ...] | None = None
    """The same for an account with a long and a short side, where it differs."""
    leverage_in_orders: bool = False
    """Whether orders say their leverage: with isolated margin there is then none to set."""
    quoted_by: tuple[Quoting, ...] = tuple(Quoting)
    """What may tell both sides of a market, in the order in which it is asked; some tickers hold no bid and ask."""

    def is_conditional(self, order_type: OrderType) -> bool:
        """Whether an order of a type waits for a price and then sells at market."""
        return order_type in self.conditional.types

    def id_of(self, order_type: OrderType) -> ClientId:
        """Under which keys our id travels with an order of a type."""
        return (self.conditional.client_id if self.is_conditional(order_type) else None) or self.client_id

    def look_up_of(self, order_type: OrderType) -> LookUp:
        """How an order of a type is found."""
        return (self.conditional.look_up if self.is_conditional(order_type) else None) or self.look_up

    def room_of(self, order_type: OrderType) -> Mapping[str, Any]:
        """What makes the venue look where orders of a type live."""
        return self.conditional.room if self.is_conditional(order_type) else {}


def shaped(hex32: str, shape: Shape) -> str:
    """Our id in the shape a venue takes."""
    match shape:
        case Shape.HEX32:
            return hex32
        case Shape.HEX28:
            return hex32[:28]
        case Shape.HEX20:
            return hex32[:20]
        case Shape.HEX_0X:
            return f"0x{hex32}"
        case Shape.UUID:
            return str(UUID(hex32))
        case Shape.INTEGER63:
            return str(int(hex32, 16) >> 65)
        case Shape.INTEGER45:
            return str(int(hex32, 16) >> 83)
