"""What a run of real processes has to say for itself, and the bounds it is held to."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from app.store.positions import DEADLINE
from tests.chaos.verdict import Verdict, told
from workers.main import SWEEP_SECONDS

SETTLE: Final = timedelta(seconds=8)
"""The settle time of the quick venues."""

SETTLED_WITHIN: Final = SETTLE + 2 * timedelta(seconds=SWEEP_SECONDS)
"""How long after the last fault and its own close everything has to be settled."""

UNCOVERED_AT_MOST: Final = DEADLINE
"""How long a position may be held at a venue without its stop there and without a fresh look of ours."""


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
    longest_uncovered: float = 0.0
    """The longest that a position was held without its stop at the venue and without a fresh look."""
    seconds: float = 0.0

    @property
    def failures(self) -> list[str]:
        """Everything that is not as it must be."""
        failures = [*self.stuck, *(f"{rule}: {what}" for rule, what in self.verdict.findings)]
        if self.longest_uncovered > UNCOVERED_AT_MOST.total_seconds():
            failures.append(f"a position was uncovered for {self.longest_uncovered:.1f} s")
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
            "longest without a stop or a look, in seconds": round(self.longest_uncovered, 1),
        }
