"""Weather: what befalls requests to the venues while real processes run, by dice whose seed is printed."""

import random
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from tests.chaos.stream import ACCIDENTS, RATES
from tests.venues.faults import Fault, dawdling, lagging, late, partial
from tests.venues.metatrader import refusal
from tests.venues.wire import Intent, WireRequest

EXCHANGE_ODDITIES: Final = {Intent.PLACE: (late(1), late(3), late(6), partial(Decimal("0.4")), lagging(1))}
"""What happens to placements at exchanges only; the third comes after the window and is refused by the venue."""

_LATE: Final = (late(2, fenced=False), late(5, fenced=False), dawdling(4), lagging(1))
_REFUSED: Final = (
    refusal("TIMEOUT", executed=True),
    refusal("NETWORK_PROBLEM", "Not connected", executed=True),
    refusal("REQUOTE"),
    refusal("INVALID_TOKEN", "Client with id not found"),
)
BRIDGE_ODDITIES: Final = {
    Intent.PLACE: (*_LATE, *_REFUSED),
    Intent.LEAVE: (*_LATE[:-1], *_REFUSED),
    Intent.MODIFY: _REFUSED,
}
"""What happens behind the bridges only. No broker checks when an order was meant to arrive."""

_STORM: Final = 0.25
"""The part of RATES that strikes on the real clock, where every accident costs real seconds."""


def weather(
    dice: random.Random, oddities: Mapping[Intent, Sequence[Fault]]
) -> Callable[[WireRequest], Fault | None]:
    """A policy for requests of real processes; some accidents befall some kinds of requests only."""

    def policy(request: WireRequest) -> Fault | None:
        if dice.random() >= RATES[request.intent] * _STORM:
            return None
        return dice.choice((*ACCIDENTS, *oddities.get(request.intent, ())))

    return policy
