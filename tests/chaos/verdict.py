"""What a run promised, what was counted in the end, and everything that is not as it must be."""

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from app.domain.money import ZERO
from app.store.executions import Execution, ExecutionStatus

BY_HAND: Final = "byhand"
"""How what an owner gives an order at the venue is called, by its client id or its comment."""


@dataclass
class Heard:
    """What the engine has answered with 202: it must be true from then on."""

    published: dict[str, str] = field(default_factory=dict)
    """Signals by the source's id, with the plan each is for."""
    closed: set[str] = field(default_factory=set)
    """Signals whose whole close was taken."""


@dataclass
class Verdict:
    """What was counted, and everything that is not as it must be."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[str, str]] = field(default_factory=list)

    def find(self, rule: str, what: str) -> None:
        """Note what breaks a rule."""
        self.findings.append((rule, what))

    @property
    def broken(self) -> Counter[str]:
        """How often each rule was broken."""
        return Counter(rule for rule, _ in self.findings)


def told(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON."""
    return {
        "counts": dict(sorted(verdict.counts.items())),
        "broken": dict(sorted(verdict.broken.items())),
        "findings": [f"{rule}: {what}" for rule, what in verdict.findings[:50]],
    }


_UNFILLED: Final = frozenset(
    {
        ExecutionStatus.DENIED,
        ExecutionStatus.REJECTED,
        ExecutionStatus.CANCELLED,
        ExecutionStatus.EXPIRED,
    }
)


def is_truthful(execution: Execution, filled: Decimal, *, is_live: bool) -> bool:
    """Whether what became of a signal is what the venue did for it; what is under way is for the rule about that."""
    match execution.status:
        case ExecutionStatus.EXECUTED:
            return filled == execution.requested_quantity and filled > ZERO
        case ExecutionStatus.PARTIAL:
            return ZERO < filled < (execution.requested_quantity or ZERO)
        case ExecutionStatus.OPEN:
            return is_live
        case status if status in _UNFILLED:
            return filled == ZERO and not is_live
        case _:
            return True
