"""Grounds: one account at one venue, with what a program can do to it, and what the venue's own books say of it."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import Any, Final

from app.brokers.directory import Directory
from app.brokers.limits.ledger import Ledger
from app.desk import Desk
from app.store.connections import Connection
from app.store.positions import Position
from tests.chaos.verdict import Heard, Verdict
from tests.desks import ListQueue
from tests.venues import faults
from tests.venues.faults import Fault, Faults

FAULTS: Final[Mapping[str, Fault]] = {
    "answer lost": faults.ANSWER_LOST,
    "request lost": faults.REQUEST_LOST,
    "page": faults.HTML,
    "page, not executed": faults.HTML_UNEXECUTED,
    "cut in half": faults.TRUNCATED,
    "502 after": faults.server_error(502, executed=True),
    "503 before": faults.server_error(503, executed=False),
    "late": faults.late(2),
}
"""What may happen to any request; `refused` is in each venue's own words."""

REQUESTS: Final[Mapping[str, faults.When]] = {
    "place": faults.places,
    "cancel": faults.cancels,
    "look": faults.looks,
    "leave": faults.leaves,
    "modify": faults.modifies,
    "any": faults.any_request,
}
"""Which requests an accident can wait for."""


class Ground(ABC):
    """One account at one venue, and its owner's hand."""

    symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT")
    """What signals name."""
    sizes: tuple[Mapping[str, Any], ...] = (
        {"strategy": "fixed_amount", "value": "2000"},
        {"strategy": "fixed_amount", "value": "17"},
    )
    """How entries are sized: comfortably, and so that parts of them are too small."""
    sells = True
    """Whether a signal can open a short position."""
    fills_in_part = True
    """Whether its venue can fill an order in parts."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        """Of the first process; the others are like it."""
        self.has_added = False
        """Whether its owner has added size by hand."""
        self.hand_made = 0
        """How often the owner's hand has changed what the venue holds."""
        self.numbers = count(1)
        """Of the orders that its owner gives."""
        self._opened: list[Desk] = []

    @abstractmethod
    def brokers(self) -> Directory:
        """What one process reaches."""

    @abstractmethod
    async def connect(self, **terms: Any) -> Connection:
        """An active connection."""

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    def price(self, number: int) -> Decimal:
        """What a symbol costs now."""

    @abstractmethod
    def move(self, number: int, price: Decimal, *, gap: bool) -> None:
        """Let it walk there, or jump."""

    @abstractmethod
    def strike(self, fault: str, requests: str, times: int) -> None:
        """Let the next requests meet an accident."""

    @abstractmethod
    def calm(self) -> None:
        """Let everything go right from now on."""

    @abstractmethod
    async def verdict(self, heard: Heard) -> Verdict:
        """What the checker says of books and database."""

    @abstractmethod
    async def held(self) -> Mapping[str, Decimal]:
        """What the venue's books hold by our symbol, below zero for shorts."""

    @abstractmethod
    async def made(self) -> Decimal | None:
        """What trading has made by the venue's books, in the account's money; None where they do not tell."""

    @abstractmethod
    async def reduce_by_hand(self, position: Position, portion: Decimal) -> None:
        """Its owner closes a part of a position, or all of it, at the venue."""

    @abstractmethod
    async def add_by_hand(self, position: Position) -> None:
        """Its owner adds to a position at the venue."""

    @abstractmethod
    async def move_stop_by_hand(self, position: Position, price: Decimal) -> None:
        """Its owner moves the stop that stands at the venue."""

    @abstractmethod
    async def cancel_by_hand(self, position: Position) -> None:
        """Its owner cancels what stands at the venue for a position."""

    def thin(self, fraction: Decimal) -> None:  # noqa: B027 - where orders are filled whole there is nothing to do
        """Let one point of the price fill only so much of an order."""

    def start(self) -> Desk:
        """Another process, with nothing in its memory."""
        desk = replace(self.desk, brokers=self.brokers(), queue=ListQueue())
        self._opened.append(desk)
        return desk

    async def stop(self, desk: Desk) -> None:
        """End a process."""
        await desk.brokers.close()
        self._opened.remove(desk)

    async def close(self) -> None:
        """End all of them."""
        for desk in list(self._opened):
            await self.stop(desk)


class OnWire(Ground):
    """A venue whose accidents happen on the wire."""

    venue: Any
    refused: Fault

    async def advance(self, seconds: float) -> None:
        """By the venue's clock."""
        await self.venue.advance(seconds)

    def strike(self, fault: str, requests: str, times: int) -> None:
        """In the order in which they were struck."""
        what = self.refused if fault == "refused" else FAULTS[fault]
        self.venue.faults.add(what, REQUESTS[requests], times=times)

    def budget(self) -> Ledger:
        """A rate budget by the venue's clock: time that is set forward has passed. It goes on where that stands."""
        return Ledger(clock=lambda: self.venue.clock.now().timestamp() + time.monotonic())

    def calm(self) -> None:
        """Whatever has not struck yet never will."""
        self.venue.faults.clear()

    @asynccontextmanager
    async def undisturbed(self) -> AsyncIterator[None]:
        """The owner's hand meets no accident meant for us."""
        ours, self.venue.faults = self.venue.faults, Faults()
        try:
            yield
        finally:
            self.venue.faults = ours
