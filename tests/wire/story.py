"""A story: one account at one venue, of which the answers are laid out as that venue writes them.

The account has 1000 USDT, of which 900 are free, and never more than one order of ours. Market orders are filled at
once, limit orders rest; the classes read the answers, and what we make of them is what the tests look at.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urlsplit

from app.domain.market import MarketType
from tests.desks import START
from tests.wire.classes import CONTRACT, ORDER_ID, QUANTITY
from tests.wire.transport import Sent

BID, ASK = "19990", "20000"
OTHER_BID, OTHER_ASK = "990", "1000"
"""Of the second symbol."""
FIRED_ID: Final = "990011"
"""Of the order that a conditional one becomes."""
TRIGGER: Final = "19000"
"""Where a stop waits."""
TARGET: Final = "21000"
"""Where a target waits that is a conditional order."""
CUT: Final = Decimal("0.2")
"""What was left to close when a stop for more of it fired."""
NOW: Final = int(START.timestamp() * 1000) + 1000
"""When everything happens, in milliseconds."""
TIME: Final = "2026-11-24T09:30:01.000Z"

Answers = Mapping[str, Any]
"""By method and path, in which a star stands for anything; behind a # a word of query or body, where paths are few."""


@dataclass(frozen=True)
class Shown:
    """The one order."""

    ours: str
    """Our id as the venue was told it."""
    side: str
    type: str
    state: str
    """`open`, `filled`, `cancelled`, or `cut`: filled as far as there was something to close, which was less."""
    is_swap: bool
    reduces: bool
    """Whether it was to close, and nothing else."""
    id: str = ORDER_ID

    def market(self) -> "Shown":
        """The market order that a conditional one has become."""
        return replace(self, type="market", id=FIRED_ID)

    @property
    def is_target(self) -> bool:
        """Whether it is a conditional order that waits for a gain."""
        return self.type == "target"

    @property
    def trigger(self) -> str:
        """Where it waits, if it is a conditional order."""
        return TARGET if self.is_target else TRIGGER

    @property
    def waits_above(self) -> bool:
        """Whether the price has to rise for it, if it is a conditional order."""
        return (self.side == "sell") == self.is_target

    def pick(self, opened: Any, filled: Any, cancelled: Any) -> Any:
        """The venue's word for where it stands."""
        return {"open": opened, "filled": filled, "cut": filled, "cancelled": cancelled}[self.state]

    @property
    def has_traded(self) -> bool:
        """Whether any of it was filled."""
        return self.state in ("filled", "cut")

    @property
    def size(self) -> str:
        """As the venue counts: coins, or contracts."""
        return self._counted(QUANTITY)

    @property
    def filled(self) -> str:
        """How much of it is filled."""
        return self._counted(self._traded)

    @property
    def left(self) -> str:
        """How much of it is not."""
        return self._counted(QUANTITY - self._traded)

    @property
    def average(self) -> str:
        """At what price it was filled."""
        return ASK if self.has_traded else "0"

    @property
    def cost(self) -> str:
        """For how much."""
        return str((self._traded * Decimal(ASK)).normalize().to_integral_value())

    @property
    def fee(self) -> str:
        """What that cost, in USDT."""
        return "7.4" if self.has_traded else "0"

    @property
    def _traded(self) -> Decimal:
        return {"filled": QUANTITY, "cut": CUT}.get(self.state, Decimal(0))

    def _counted(self, quantity: Decimal) -> str:
        return f"{quantity / CONTRACT:.0f}" if self.is_swap else str(quantity)


@dataclass(frozen=True)
class Stops:
    """How one venue answers about the one order, if that is a conditional one."""

    create: str
    """The request that places it."""
    name: str
    """Under which our id travels."""
    created: Callable[[Shown], Any]
    orders: Callable[[Shown], Answers]
    """Of it where it is asked for or listed, of those that rest otherwise, and of the order that it became."""
    cancel: str
    """The request that takes it back."""
    cancelled: Callable[[Shown], Any]
    gone: Any
    """What is answered to that when it does not rest any more."""
    refused: Any
    """What is answered to a stop that is not taken."""
    none: Answers
    """Of conditional orders, where there is none."""
    refused_target: Any = None
    """The same of a target, where those are conditional orders, too."""


@dataclass(frozen=True)
class Venue:
    """How one venue answers on one market."""

    quotes: Answers
    """Without a key."""
    account: Callable[["Story"], Answers]
    """Of balances, positions and settings."""
    create: str
    """The request that places an order."""
    created: Callable[[Shown], Any]
    orders: Callable[[Shown], Answers]
    """Of the order, where it is asked for or listed."""
    cancel: str
    """The request that takes it back."""
    cancelled: Callable[[Shown], Any] | None = None
    """What is answered to that, if not the same as to placing."""
    none: Answers = field(default_factory=dict)
    """Of orders, before there was one."""
    stops: Stops | None = None
    """Of conditional orders, where they have been read."""


@dataclass
class Story:
    """One account at a venue."""

    venue: Venue
    market_type: MarketType
    name: str
    """Under which our id travels."""
    side: str = "buy"
    """Of the order that is placed next."""
    type: str = "market"
    reduces: bool = False
    order: Shown | None = None
    held: int = 0
    """Contracts; negative is short."""
    is_hedged: bool = False
    is_unified: bool = False
    """Whether the account is of the venue's newer kind, where there are two."""
    refuses: bool = False
    """Whether conditional orders are refused."""
    placed: list[Sent] = field(default_factory=list)
    asked: list[Sent] = field(default_factory=list)
    settings: list[Sent] = field(default_factory=list)
    """What the account was set to."""
    unanswered: list[str] = field(default_factory=list)

    def public(self, sent: Sent) -> Any:
        """What is answered without a key."""
        return self._answer(sent, self.venue.quotes)

    def private(self, sent: Sent) -> Any:
        """What is answered with one."""
        self.asked.append(sent)
        if self.type in ("stop", "target") and self.venue.stops is not None:
            return self._of_stop(sent, self.venue.stops)
        if _matches(sent, self.venue.create) and sent.values(self.name):
            self.placed.append(sent)
            return self._place(sent)
        if self.order is not None and _matches(sent, self.venue.cancel):
            self.order = replace(self.order, state="cancelled")
            return (self.venue.cancelled or self.venue.created)(self.order)
        if sent.method in ("POST", "PUT") and urlsplit(sent.url).path != "/info":
            self.settings += [sent for asked in self.venue.account(self) if _matches(sent, asked)]
        orders = self.venue.none if self.order is None else self.venue.orders(self.order)
        apart = {} if self.venue.stops is None else self.venue.stops.none
        return self._answer(sent, {**apart, **orders, **self.venue.account(self)})

    def _of_stop(self, sent: Sent, stops: Stops) -> Any:
        if _matches(sent, stops.create) and sent.values(stops.name):
            self.placed.append(sent)
            if self.refuses:
                return stops.refused if self.type == "stop" else stops.refused_target
            is_swap = self.market_type is MarketType.SWAP
            [ours] = sent.values(stops.name)
            self.order = Shown(ours, self.side, self.type, "open", is_swap, self.reduces)
            return stops.created(self.order)
        if self.order is not None and _matches(sent, stops.cancel):
            if self.order.state != "open":
                return stops.gone
            self.order = replace(self.order, state="cancelled")
            return stops.cancelled(self.order)
        orders = stops.none if self.order is None else stops.orders(self.order)
        return self._answer(sent, {**orders, **self.venue.account(self)})

    def become(self, state: str) -> None:
        """What happens to the order at the venue: `filled`, `cut` or `cancelled`."""
        assert self.order is not None
        self.order = replace(self.order, state=state)

    def _place(self, sent: Sent) -> Any:
        [ours] = sent.values(self.name)
        is_market = self.type == "market"
        is_swap = self.market_type is MarketType.SWAP
        state = "filled" if is_market else "open"
        self.order = Shown(ours, self.side, self.type, state, is_swap, self.reduces)
        if is_market and is_swap:
            self.held += int(self.order.size) * (1 if self.side == "buy" else -1)
        return self.venue.created(self.order)

    def _answer(self, sent: Sent, answers: Answers) -> Any:
        for asked, answer in answers.items():
            if _matches(sent, asked):
                return answer
        self.unanswered.append(f"{sent.method} {sent.url} {sent.body}")
        return None


def _matches(sent: Sent, asked: str) -> bool:
    where, _, word = asked.partition("#")
    method, _, path = where.partition(" ")
    parts = urlsplit(sent.url)
    is_there = method == sent.method and fnmatchcase(parts.path, path)
    return is_there and word in f"{parts.query} {sent.body}"
