"""The stream: signals over all simulated exchanges, with a fault on every step, in one process.

Waves of signals: each is published, some are updated, some are closed, prices walk through stops and targets, and
meanwhile every kind of request to a venue meets every kind of accident and processes die at their points. Then all
goes right, and what is left has to settle in its time.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from app.domain.market import MarketType
from tests.chaos.checker import Account
from tests.chaos.stage import SWEEP, Stage
from tests.chaos.verdict import Verdict, told
from tests.venues.faults import (
    ANSWER_LOST,
    HANG,
    HANG_EXECUTED,
    HTML,
    HTML_UNEXECUTED,
    REQUEST_LOST,
    TRUNCATED,
    Fault,
    lagging,
    late,
    partial,
    server_error,
)
from tests.venues.wire import Intent, WireRequest

ACCIDENTS: Final[Sequence[Fault]] = (
    ANSWER_LOST,
    REQUEST_LOST,
    TRUNCATED,
    HTML,
    HTML_UNEXECUTED,
    server_error(502, executed=True),
    server_error(503, executed=False),
    HANG,
    HANG_EXECUTED,
)
"""What may happen to any request."""

ODDITIES: Final[Sequence[Fault]] = (late(2), late(4.5), late(8), partial(Decimal("0.4")), lagging(3))
"""What happens to placements only. The third is stale on arrival, and the venue refuses it."""

SETTLE: Final = timedelta(seconds=20)
"""The settle time of the certified venues."""

RATES: Final[Mapping[Intent, float]] = {
    Intent.PLACE: 0.3,
    Intent.CANCEL: 0.2,
    Intent.LOOK: 0.1,
    Intent.ACCOUNT: 0.05,
    Intent.SET: 0.1,
    Intent.LEAVE: 0.3,
    Intent.MODIFY: 0.2,
    Intent.SESSION: 0.05,
    Intent.PUBLIC: 0.03,
}

_LONGEST: Final = timedelta(seconds=140)
"""How long a run waits for what has not settled; it has failed by then."""

PRICES: Final = {"BTC": Decimal(20000), "ETH": Decimal(1000)}


@dataclass
class Told:
    """What a run has to say for itself."""

    verdict: Verdict
    struck: Counter[str] = field(default_factory=Counter)
    deaths: int = 0
    slowest: timedelta = timedelta(0)
    """The longest that anything was under way after the last fault of a wave."""

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            **told(self.verdict),
            "faults": dict(sorted(self.struck.items())),
            "deaths": self.deaths,
            "slowest_to_settle": self.slowest.total_seconds(),
        }


def dice_policy(dice: random.Random) -> Callable[[WireRequest], Fault | None]:
    """Strike each kind of request at its rate."""

    def policy(request: WireRequest) -> Fault | None:
        if dice.random() >= RATES[request.intent]:
            return None
        return dice.choice((*ACCIDENTS, *ODDITIES) if request.places else ACCIDENTS)

    return policy


Lane = tuple[str, Account, str]
"""A signal's id, the account it is for, and its coin."""


async def run(stage: Stage, seed: int, signals: int, points: Sequence[str]) -> Told:
    """Send so many signals through, and check after every wave that nothing is lost, doubled or left open.

    Twice a wave a process dies at one of `points`, picked by chance.
    """
    dice = random.Random(seed)
    result = Told(Verdict())
    sent = 0
    while sent < signals and not result.verdict.findings:
        lanes = _lanes(stage, sent)[: signals - sent]
        await _wave(stage, dice, lanes, deaths={1: dice.choice(points), 4: dice.choice(points)})
        await _take_stock(stage, result)
        sent += len(lanes)
    return result


async def march(stage: Stage, seed: int, signals: int, points: Sequence[str]) -> Told:
    """Die at every one of `points` that is ever reached, each once, while so many signals go through."""
    dice = random.Random(seed)
    result = Told(Verdict())
    stage.deadly.update(points)
    stage.worker.life.die_at(*points)
    sent = 0
    while sent < signals and stage.deadly and not result.verdict.findings:
        lanes = _lanes(stage, sent)
        await _wave(stage, dice, lanes, deaths={})
        await _take_stock(stage, result)
        sent += len(lanes)
    return result


def _lanes(stage: Stage, sent: int) -> list[Lane]:
    lanes = [(account, base) for account in stage.accounts for base in PRICES]
    return [(f"s{sent + number}", *lane) for number, lane in enumerate(lanes)]


async def _take_stock(stage: Stage, result: Told) -> None:
    """Everything goes right from now on: what is left settles, and is compared."""
    faults = stage.venue.faults
    faults.clear()
    result.struck.update(f"{fault.name} / {request.intent.name}" for fault, request in faults.struck)
    faults.struck.clear()
    took = await stage.settle(_LONGEST)
    result.slowest = max(result.slowest, took or _LONGEST)
    result.verdict = await stage.verdict()
    result.deaths = stage.deaths


async def _wave(stage: Stage, dice: random.Random, lanes: Sequence[Lane], deaths: Mapping[int, str]) -> None:
    stage.venue.faults.policy = dice_policy(dice)
    for name, account, base in lanes:
        await stage.publish(account, name, base, **_wording(dice, account, base))
    for number in range(8):
        if number in deaths:
            stage.worker.life.die_at(deaths[number])
        _stir(stage, dice)
        if number == 2:
            await _update(stage, dice.sample(lanes, len(lanes) // 3))
        if number == 4:
            await _close(stage, dice.sample(lanes, len(lanes) // 2))
        await stage.rounds()
    await _close(stage, lanes)
    await stage.rounds()


def _stir(stage: Stage, dice: random.Random) -> None:
    """Prices walk up to 3 % away from where they began."""
    for base, price in PRICES.items():
        moved = (price * (1 + Decimal(dice.randint(-30, 30)) / 1000)).quantize(Decimal("0.01"))
        for symbol in (f"{base}/USDT", f"{base}/USDT:USDT"):
            stage.venue.move(symbol, moved)


async def _update(stage: Stage, lanes: Sequence[Lane]) -> None:
    for name, _, base in lanes:
        stop = str(PRICES[base] * Decimal("0.965"))
        await stage.deliver("signal.updated", {"id": name, "stop_loss": stop}, f"{name}:updated")


async def _close(stage: Stage, lanes: Sequence[Lane]) -> None:
    for name, _, _ in lanes:
        if name not in stage.heard.closed:
            await stage.end(name)


def _wording(dice: random.Random, account: Account, base: str) -> dict[str, Any]:
    """A signal around the price at which its coin opened."""
    price = PRICES[base]
    sells = account.market_type is MarketType.SWAP and dice.random() < 0.5
    away = -1 if sells else 1
    wording: dict[str, Any] = {
        "direction": "sell" if sells else "buy",
        "stop_loss": str(price * (1 - away * Decimal("0.05"))),
    }
    if dice.random() < 0.7:
        near, far = (str(price * (1 + away * Decimal(each))) for each in ("0.04", "0.06"))
        wording["take_profits"] = [{"price": near, "portion": "0.5"}, {"price": far, "portion": "0.5"}]
    if dice.random() < 0.2:
        wording |= {"order_type": "limit", "entry_price": str(price * (1 - away * Decimal("0.005")))}
    return wording


def within(sweeps: int = 2) -> timedelta:
    """How long after the last fault everything has to be settled: the settle time and so many sweeps."""
    return SETTLE + timedelta(seconds=sweeps * SWEEP)
