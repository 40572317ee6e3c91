"""Steps: what can happen to the engine, one thing each, as values that a failing program is printed as.

A step names a signal by how many were published after it, −1 being the one that is published next, and a position by
how many open ones are newer; where nothing is open, the newest of all is meant.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from app.domain.risk import Mode

Levels = tuple[tuple[str, str], ...]
"""How far away each target is, in per cent, and its portion."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Signals are published, all at the same moment; two processes execute them side by side."""

    count: int
    symbol: int
    short: bool = False
    limit: str | None = None
    """How far on the better side it waits, in per cent; None takes what there is."""
    stop: str | None = "2"
    """How far away it is, in per cent."""
    targets: Levels = ()


@dataclass(frozen=True, slots=True)
class Repeat:
    """A signal is published once more, under another webhook id and with another direction."""

    signal: int


@dataclass(frozen=True, slots=True)
class Update:
    """The source changes a stop, the targets, or when the entry ends."""

    signal: int
    stop: str | None = None
    targets: Levels | None = None
    ends_in: int | None = None
    """In seconds."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The source takes back what is not filled."""

    signal: int


@dataclass(frozen=True, slots=True)
class End:
    """The source closes a signal, or a portion of it; in a rush another process looks and sweeps meanwhile."""

    signal: int
    portion: str | None = None
    rush: bool = False


@dataclass(frozen=True, slots=True)
class Patch:
    """The owner edits the plan of a position; None takes the stop away."""

    position: int
    stop: str | None
    targets: Levels | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """The owner closes a position, or a portion of it; in a rush another process looks and sweeps meanwhile."""

    position: int
    portion: str | None = None
    rush: bool = False


@dataclass(frozen=True, slots=True)
class CloseAll:
    """The owner closes everything."""


@dataclass(frozen=True, slots=True)
class TakeBack:
    """The owner takes the entry of a signal back."""

    signal: int


@dataclass(frozen=True, slots=True)
class SetMode:
    """The owner says how far the connection may trade."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class Move:
    """A price walks, or jumps, by so many per cent of where it began."""

    symbol: int
    percent: str
    gap: bool = False


@dataclass(frozen=True, slots=True)
class Reach:
    """A price walks, or jumps, a little beyond a level of a position."""

    position: int
    is_stop: bool
    gap: bool = False


@dataclass(frozen=True, slots=True)
class Thin:
    """From now on one point of the price fills only so much of an order."""

    fraction: str


@dataclass(frozen=True, slots=True)
class Hand:
    """The owner trades at the venue itself."""

    position: int
    deed: str
    """One of DEEDS."""


DEEDS: Final = ("closes", "closes half", "adds", "moves the stop", "cancels the orders")


@dataclass(frozen=True, slots=True)
class Strike:
    """The next requests of a kind meet an accident."""

    fault: str
    requests: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Calm:
    """Everything goes right again."""


@dataclass(frozen=True, slots=True)
class Restart:
    """A process is another one, and whatever it was told and has not done is forgotten."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Two workers sweep at once, and one of them looks after what is open."""


@dataclass(frozen=True, slots=True)
class Watch:
    """The monitor has a round."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """Time passes, and monitor, bells and sweep do their work."""

    count: int
    seconds: int = 6


@dataclass(frozen=True, slots=True)
class Wait:
    """Time passes, and nobody does anything."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Everything goes right, and goes on until nothing is under way."""


Step = (
    Publish
    | Repeat
    | Update
    | Cancel
    | End
    | Patch
    | Close
    | CloseAll
    | TakeBack
    | SetMode
    | Move
    | Reach
    | Thin
    | Hand
    | Strike
    | Calm
    | Restart
    | Sweep
    | Watch
    | Rounds
    | Wait
    | Settle
)


@dataclass(frozen=True, slots=True)
class Terms:
    """How the connection of a program trades."""

    size: int = 0
    """Which of the ground's sizes."""
    native: bool = True
    break_even: str | None = None
    """At which profit, in per cent, the stop goes to the entry; `tp` is after the first target."""
    trailing: tuple[str, str] | None = None
    """From which profit, and how far behind, both in per cent."""
    max_hold_minutes: int | None = None
    max_open_positions: int | None = None
    max_positions_per_symbol: int | None = None
    max_daily_trades: int | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A connection and what happens to it."""

    terms: Terms
    steps: tuple[Step, ...]

    def __repr__(self) -> str:
        """One step a line, ready to be pasted."""
        lines = "".join(f"\n        {step!r}," for step in self.steps)
        return f"Program(\n    {self.terms!r},\n    ({lines}\n    ),\n)"


PERCENT: Final = Decimal(100)
