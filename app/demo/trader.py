"""A trader of the demo: an owner with one account, and what they have seen of it so far."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.demo.client import (
    Account,
    DidNotHappen,
    Execution,
    Notification,
    Position,
    PositionWithOrders,
    Summary,
)
from app.demo.proof import Finding
from app.demo.screen import Screen

_UNDER_WAY: Final = ("pending", "sending")


@dataclass(frozen=True, slots=True)
class Style:
    """How a trader trades."""

    described: str
    protection: str
    """Who is to watch the positions: `native` is the venue, `software` the engine."""
    terms: Mapping[str, Any]
    """What to connect, in the words of `POST /v1/connections`; all but the name."""


@dataclass(slots=True)
class Trader:
    """One owner; everything known of them comes from what the engine answers to their own token."""

    name: str
    style: Style
    account: Account
    connection: str | None = None
    """The path of their connection, once there is one."""
    executions: dict[str, Execution] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    notifications: dict[str, Notification] = field(default_factory=dict)
    protections: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Who was seen to protect each position, by its id."""

    async def connect(self, screen: Screen) -> None:
        """Create, test and activate the account."""
        created = await self.account.post(
            "/v1/connections", {"name": f"Demo of {self.name}", **self.style.terms}
        )
        self.connection = f"/v1/connections/{created['id']}"
        tested = await self.account.post(f"{self.connection}/test")
        if not tested["ok"]:
            raise DidNotHappen(
                f"the test of {self.name}'s connection said {tested['code']}: {tested['message']}"
            )
        active = await self.account.post(f"{self.connection}/activate")
        balances = ", ".join(f"{each['free']} {each['currency']}" for each in tested["balances"])
        screen.line(self.name, f"connection tested ({balances} free) and {active['status']}")

    async def leave(self) -> None:
        """Take the account out of service."""
        if self.connection is not None:
            await self.account.post(f"{self.connection}/deactivate")

    async def look(self, screen: Screen) -> None:
        """Read what there is, and show what is new."""
        executions, positions, notifications = await asyncio.gather(
            self.account.items("/v1/executions", Execution),
            self.account.items("/v1/positions", Position),
            self.account.items("/v1/notifications", Notification),
        )
        for execution in reversed(executions):
            self._see_execution(execution, screen)
        for position in reversed(positions):
            self._see_position(position, screen)
        for notification in reversed(notifications):
            self._see_notification(notification, screen)

    @property
    def held(self) -> list[Position]:
        """The positions that are open."""
        return [position for position in self.positions.values() if position.status != "closed"]

    def is_protected(self, signal_id: str) -> bool:
        """Whether the position of a signal has been seen protected in this trader's way."""
        return self.style.protection in self.protections[self._position_id(signal_id)]

    def was_denied(self, signal_id: str) -> bool:
        """Whether a signal was denied here."""
        return any(each.status == "denied" for each in self._executions_of(signal_id))

    def has_left(self, signal_id: str, reason: str) -> bool:
        """Whether the position of a signal is closed for `reason` and its owner has been told so."""
        position = self.position_of(signal_id)
        return (
            position is not None
            and (position.status, position.close_reason) == ("closed", reason)
            and self._count_told("close", position.id) > 0
        )

    def answered(self, what: str, signal_id: str, status: str) -> Finding:
        """A signal became exactly one execution here, with this status."""
        found = self._executions_of(signal_id)
        return Finding(
            f"{self.name}: one execution of {what}",
            ", ".join(f"{each.status} {each.code or ''}".rstrip() for each in found),
            [each.status for each in found] == [status],
        )

    def protected(self, signal_id: str) -> Finding:
        """The position of a signal was protected in this trader's way."""
        found = sorted(self.protections[self._position_id(signal_id)])
        return Finding(
            f"{self.name}: protection is {self.style.protection}",
            f"seen {', '.join(found)}",
            self.is_protected(signal_id),
        )

    def told(self, type: str, signal_id: str) -> Finding:
        """There was at least one notification of this type about the position of a signal."""
        count = self._count_told(type, self._position_id(signal_id))
        return Finding(f"{self.name}: notification {type}", f"{count} received", count > 0)

    async def positions_with_orders(self) -> list[PositionWithOrders]:
        """Every position with everything that was asked of the venue for it."""
        return [
            await self.account.item(f"/v1/positions/{each}", PositionWithOrders) for each in self.positions
        ]

    async def summaries(self) -> list[Summary]:
        """The figures up to now, one per currency."""
        return await self.account.items("/v1/analytics/summary", Summary)

    def position_of(self, signal_id: str) -> Position | None:
        """What a signal opened here; None as long as it has not."""
        return self.positions.get(self._position_id(signal_id))

    def _see_execution(self, execution: Execution, screen: Screen) -> None:
        known = self.executions.get(execution.id)
        self.executions[execution.id] = execution
        if execution.status not in _UNDER_WAY and (known is None or known.status != execution.status):
            screen.execution(self.name, execution)

    def _see_position(self, position: Position, screen: Screen) -> None:
        if position.id not in self.positions:
            screen.position(self.name, position)
        self.positions[position.id] = position
        if position.status != "closed" and position.protection not in self.protections[position.id]:
            self.protections[position.id].add(position.protection)
            screen.protection(self.name, position.protection)

    def _see_notification(self, notification: Notification, screen: Screen) -> None:
        if notification.id not in self.notifications:
            self.notifications[notification.id] = notification
            screen.notification(self.name, notification)

    def _executions_of(self, signal_id: str) -> list[Execution]:
        return [each for each in self.executions.values() if each.signal_id == signal_id]

    def _position_id(self, signal_id: str) -> str:
        """The id of what a signal opened here; empty as long as it has not."""
        return next((each.id for each in self.positions.values() if each.signal_id == signal_id), "")

    def _count_told(self, type: str, position_id: str) -> int:
        return sum(
            (each.type, each.position_id) == (type, position_id) for each in self.notifications.values()
        )
