"""What a run of real processes has to say for itself, and the bounds it is held to."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.store.positions import DEADLINE
from tests.chaos.verdict import Verdict, told
from workers.main import SWEEP_SECONDS

SETTLE: Final = timedelta(seconds=8)
"""The settle time of the quick venues."""

SETTLED_WITHIN: Final = SETTLE + 2 * timedelta(seconds=SWEEP_SECONDS)
"""How long after the last fault and its own close everything has to be settled."""

UNCOVERED_AT_MOST: Final = DEADLINE
"""How long a position may be held at a venue without its stop there and without a fresh look of ours, counted while a
worker serves: where each of them stands still or dies within seconds nobody can look, whatever the program does."""

SERVES_AFTER: Final = timedelta(seconds=2 * SWEEP_SECONDS)
"""How long a worker has lived, or gone on after standing still, when it has certainly read what there is to do."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a run by two clocks, in seconds."""

    wall: float
    served: float
    """Stands still while no worker serves."""

    def since(self, other: "Moment") -> "Moment":
        """How long it is after another."""
        return Moment(self.wall - other.wall, self.served - other.served)


@dataclass
class Longest:
    """The longest of the spells of one kind by either clock, and those that were longer than they may be."""

    seconds: float = 0.0
    served: float = 0.0
    too_long: list[str] = field(default_factory=list)


class Spells:
    """For how long each of some positions has been in a state so far, at every look."""

    def __init__(self, longest: Longest) -> None:
        """All that is noted goes into `longest`."""
        self._longest = longest
        self._since: dict[tuple[UUID, str], Moment] = {}

    def note(self, held: Collection[tuple[UUID, str]], now: Moment) -> None:
        """These are in that state now, and no others."""
        for each in self._since.keys() - held:
            self._end(each, now.since(self._since[each]))
        self._since = {each: self._since.get(each, now) for each in held}
        for lasted in (now.since(since) for since in self._since.values()):
            self._longest.seconds = max(self._longest.seconds, lasted.wall)
            self._longest.served = max(self._longest.served, lasted.served)

    def _end(self, held: tuple[UUID, str], lasted: Moment) -> None:
        if lasted.wall > UNCOVERED_AT_MOST.total_seconds():
            connection_id, symbol = held
            until = datetime.now(UTC).isoformat(timespec="seconds")
            self._longest.too_long.append(
                f"{symbol} of {connection_id}, {lasted.wall:.1f} s until {until}, {lasted.served:.1f} s of it served"
            )


@dataclass
class Outcome:
    """What a run has to say for itself."""

    seed: int
    verdict: Verdict
    deeds: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    """How processes ended."""
    stuck: list[str] = field(default_factory=list)
    settled_after: float = 0.0
    """The most seconds that anything took to end, counted from the last fault and its own close."""
    uncovered: Longest = field(default_factory=Longest)
    """How long positions were held without a stop at the venue, a fresh look, or anybody closing them."""
    leaving: Longest = field(default_factory=Longest)
    """How long they were held like that while they were being closed."""
    seconds: float = 0.0

    @property
    def failures(self) -> list[str]:
        """Everything that is not as it must be."""
        failures = [*self.stuck, *(f"{rule}: {what}" for rule, what in self.verdict.findings)]
        if self.uncovered.served > UNCOVERED_AT_MOST.total_seconds():
            failures.append(
                f"a position was uncovered for {self.uncovered.served:.1f} s while a worker served"
            )
        return failures

    @property
    def is_in_time(self) -> bool:
        """Whether it settled as soon as it should; on a busy machine that says as much of the machine."""
        return self.settled_after <= SETTLED_WITHIN.total_seconds()

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "seed": self.seed,
            "minutes": round(self.seconds / 60, 1),
            **told(self.verdict),
            "deeds": dict(sorted(self.deeds.items())),
            "lives that ended": dict(sorted(self.ends.items())),
            "faults": dict(sorted(self.faults.items())),
            "stuck": self.stuck,
            "settled after the last fault and its close, in seconds": round(self.settled_after, 1),
            "longest without a stop, a look or a close, in seconds": round(self.uncovered.seconds, 1),
            "the same while a worker served": round(self.uncovered.served, 1),
            "uncovered for long": self.uncovered.too_long,
            "longest without a stop while it was closed, in seconds": round(self.leaving.seconds, 1),
            "closed for long": self.leaving.too_long,
        }
