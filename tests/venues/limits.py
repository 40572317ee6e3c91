"""Rate limits as exchanges keep them: a budget per window, and a ban for those who go on regardless."""

from dataclasses import dataclass, field

from tests.venues.clock import Clock


@dataclass(slots=True)
class Window:
    """A budget per key (an address, an account) that starts anew with every window of the clock."""

    budget: int
    seconds: int
    used: dict[str, tuple[int, int]] = field(default_factory=dict)

    def spend(self, clock: Clock, key: str, weight: int) -> int:
        """Count `weight`; answers what is used now."""
        window = self._window(clock)
        then, used = self.used.get(key, (window, 0))
        used = (used if then == window else 0) + weight
        self.used[key] = window, used
        return used

    def is_exceeded(self, clock: Clock, key: str) -> bool:
        """Whether more was asked for than the budget allows."""
        then, used = self.used.get(key, (0, 0))
        return then == self._window(clock) and used > self.budget

    def seconds_left(self, clock: Clock) -> int:
        """Until the budget is whole again; at least one."""
        return self.seconds - clock.milliseconds() // 1000 % self.seconds

    def _window(self, clock: Clock) -> int:
        return clock.milliseconds() // 1000 // self.seconds


@dataclass(slots=True)
class Bans:
    """Addresses that are shut out for a while after `patience` warnings."""

    patience: int = 5
    seconds: int = 120
    warnings: dict[str, int] = field(default_factory=dict)
    until: dict[str, int] = field(default_factory=dict)

    def warn(self, clock: Clock, ip: str) -> None:
        """Count one request too many; the last warning is a ban."""
        self.warnings[ip] = self.warnings.get(ip, 0) + 1
        if self.warnings[ip] > self.patience:
            self.ban(clock, ip)

    def ban(self, clock: Clock, ip: str) -> None:
        """Shut an address out now."""
        self.until[ip] = clock.milliseconds() + self.seconds * 1000
        self.warnings[ip] = 0

    def seconds_left(self, clock: Clock, ip: str) -> int:
        """How long an address is still shut out; 0 when it is not."""
        left = self.until.get(ip, 0) - clock.milliseconds()
        return max(-(-left // 1000), 0)
