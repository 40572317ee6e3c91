"""What has to come of signals, found by walking the recording point by point. Slow, plain, and without the engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tests.acceptance.tape import Point

TICKS_PER_LOOK = 21
"""Points between two looks of the engine: 5.25 s at one candle a second, so that looks fall on every kind of point."""


@dataclass(frozen=True)
class Idea:
    """A signal: when it comes, and where its trade is to be left."""

    number: int
    point: int
    sign: int
    """1 buys, -1 sells."""
    stop: Decimal
    targets: tuple[Decimal, Decimal]
    """Half of it leaves at each."""


@dataclass(frozen=True)
class Exit:
    """A part of a position that is left."""

    point: int
    price: Decimal
    quantity: Decimal
    reason: str


@dataclass
class Held:
    """A position on its way out."""

    idea: Idea
    entry: Decimal
    quantity: Decimal
    exits: list[Exit] = field(default_factory=list)

    @property
    def remaining(self) -> Decimal:
        """What is still held."""
        return self.quantity - sum((each.quantity for each in self.exits), Decimal(0))

    @property
    def targets_left(self) -> list[Decimal]:
        """Prices of the halves that no target has taken yet."""
        taken = sum((each.quantity for each in self.exits if each.reason == "take_profit"), Decimal(0))
        return list(self.idea.targets[int(taken / (self.quantity / 2)) :])

    def stopped_by(self, price: Decimal) -> bool:
        """Whether a price is at the stop or beyond."""
        return price * self.idea.sign <= self.idea.stop * self.idea.sign

    def reached_by(self, price: Decimal) -> list[Decimal]:
        """The targets left that a price is at or beyond."""
        return [target for target in self.targets_left if price * self.idea.sign >= target * self.idea.sign]

    def leave(self, point: Point, price: Decimal, quantity: Decimal, reason: str) -> None:
        """Write down an exit."""
        self.exits.append(Exit(point.number, price, quantity, reason))


def by_venue(held: Held, point: Point) -> None:
    """The venue's orders, which every point meets: at their level, or at an open that lies beyond."""
    if held.stopped_by(point.price):
        price = point.price if point.opens else held.idea.stop
        for _ in held.targets_left:
            held.leave(point, price, held.quantity / 2, "stop_loss")
        return
    for target in held.reached_by(point.price):
        held.leave(point, point.price if point.opens else target, held.quantity / 2, "take_profit")


def by_engine(held: Held, point: Point) -> None:
    """The engine's own eyes, which see the price at every look only and sell at what they see."""
    if point.number % TICKS_PER_LOOK:
        return
    if held.stopped_by(point.price):
        held.leave(point, point.price, held.remaining, "stop_loss")
    elif reached := held.reached_by(point.price):
        held.leave(point, point.price, len(reached) * held.quantity / 2, "take_profit")


@dataclass(frozen=True)
class Account:
    """What an account may do, and how it is protected."""

    shorts: bool
    nets: bool
    """Whether a symbol holds one position at a time."""
    native: bool
    quantity: Decimal = Decimal("0.1")


def walked(
    points: Sequence[Point], ideas: Sequence[Idea], account: Account
) -> Iterator[tuple[Idea, Held | str]]:
    """Each signal with the position it opens, followed to its end, or with the code it is denied for."""
    open_: list[Held] = []
    coming = iter(ideas)
    idea = next(coming, None)
    for point in points:
        for held in open_:
            (by_venue if account.native else by_engine)(held, point)
        open_ = [held for held in open_ if held.remaining]
        if idea is not None and point.number == idea.point:
            answer = _answer(idea, point, open_, account)
            if isinstance(answer, Held):
                open_.append(answer)
            yield idea, answer
            idea = next(coming, None)


def _answer(idea: Idea, point: Point, open_: Sequence[Held], account: Account) -> Held | str:
    if idea.sign < 0 and not account.shorts:
        return "short_not_supported"
    if account.nets and open_:
        return "symbol_in_use" if open_[0].idea.sign == idea.sign else "opposite_position"
    return Held(idea, point.price, account.quantity)
