"""Positions: what the tickets and the history of an account say of the position that a handle names. Pure.

Where a position holds less than the history tells why, the history is late: then nothing follows from what it lacks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from app.brokers.metatrader import families
from app.brokers.metatrader.books import History, Opening, Part, Ticket, opening_of
from app.brokers.metatrader.families import Descent
from app.brokers.metatrader.marks import Handle
from app.domain.money import ZERO, exact


@dataclass(frozen=True, slots=True)
class Positions:
    """Everything shown of an account, at one moment."""

    tickets: Sequence[Ticket]
    history: History
    has_deals: bool

    @property
    def open_ones(self) -> list[Ticket]:
        """The tickets that are positions, and not pending orders."""
        return [each for each in self.tickets if not each.is_pending]

    @property
    def openings(self) -> list[Opening]:
        """Everything that was opened, once: what the history tells, and open positions it does not show yet."""
        told = list(self.history.openings)
        seen = {each.position for each in told}
        as_opening = _as_deal if self.has_deals else opening_of
        return told + [as_opening(each) for each in self.open_ones if each.number not in seen]

    @property
    def descent(self) -> Descent:
        """Which ticket is the rest of which."""
        return {} if self.has_deals else families.descent(self.tickets, self.history.parts)

    def ticket(self, handle: Handle) -> Ticket | None:
        """The open ticket that a handle means by now."""
        family = self.family(handle)
        return next((each for each in self.open_ones if each.number in family), None)

    @exact
    def untold(self, handle: Handle) -> Decimal:
        """How many lots have left a position of which the history does not tell; below zero for what has been added."""
        ticket = self.ticket(handle)
        left = self._left_after(handle, self.parts(handle), self._added(handle))
        return left - (ZERO if ticket is None else ticket.lots)

    def is_unaccounted(self, handle: Handle) -> bool:
        """Whether a position is open no more, and the history does not show yet how it ended."""
        return self.ticket(handle) is None and self.untold(handle) > ZERO

    @exact
    def renewed(self, handle: Handle) -> Handle | None:
        """What names a position from now on, as far as the history tells how it came to that; None after its end."""
        ticket = self.ticket(handle)
        if ticket is None:
            return None
        if not self.has_deals:
            return Handle(ticket.number, handle.magic, ticket.lots)
        if self.untold(handle):
            return handle
        deals = [part.number for part in self.parts(handle)] + [each.deal for each in self._added(handle)]
        # What was added goes before ours.
        ours = min(handle.lots, ticket.lots)
        last = max(deals, default=handle.last_deal)
        return replace(handle, lots=ours, last_deal=last, beside=ticket.lots - ours)

    @exact
    def moved_on(self, handle: Handle, last: Part, closed: Decimal) -> Handle:
        """What names a position when everything up to `last` is accounted for, whoever did it; `closed` was ours."""
        parts = [part for part in self.parts(handle) if part.number <= last.number]
        added = [each for each in self._added(handle) if each.deal <= last.number]
        left = max(self._left_after(handle, parts, added), ZERO)
        if self.has_deals:
            ours = min(max(handle.lots - closed, ZERO), left)
            return replace(handle, lots=ours, last_deal=last.number, beside=left - ours)
        rest = next((each for each, origin in self.descent.items() if origin == last.number), last.number)
        return Handle(rest, handle.magic, left)

    def parts(self, handle: Handle) -> list[Part]:
        """What left a position after what its handle accounts for, oldest first."""
        family = self.family(handle)
        first = handle.last_deal + 1 if self.has_deals else handle.ticket
        parts = [part for part in self.history.parts if part.position in family and part.number >= first]
        return sorted(parts, key=lambda part: part.number)

    @exact
    def family(self, handle: Handle) -> frozenset[int]:
        """The tickets a position has had: one, or on MetaTrader 4 those that its rests became."""
        if self.has_deals:
            return frozenset({handle.ticket})
        linked = families.family(handle.ticket, self.descent)
        is_open = any(each.number in linked for each in self.open_ones)
        if is_open or self._lots_under(linked, handle) >= handle.lots:
            return linked
        # The broker has written over the comment that links the rest: its magic number is left.
        alike = {
            each.number
            for each in self._all_tickets
            if each.magic == handle.magic and each.number > handle.ticket
        }
        # More than there was is another position, of an order that was carried out twice.
        return linked | alike if self._lots_under(linked | alike, handle) <= handle.lots else linked

    def _lots_under(self, family: frozenset[int], handle: Handle) -> Decimal:
        """What the tickets of a family come to, open and closed, from a handle's on."""
        since = (each for each in self._all_tickets if each.number >= handle.ticket)
        return sum((each.lots for each in since if each.number in family), ZERO)

    @property
    def _all_tickets(self) -> list[Ticket | Part]:
        """On MetaTrader 4: those that are open, and those that were closed."""
        return [*self.open_ones, *self.history.parts]

    def _added(self, handle: Handle) -> list[Opening]:
        """What others have put under the ticket of a position after what its handle accounts for."""
        if not self.has_deals:
            return []
        return [
            each
            for each in self.history.openings
            if each.position == handle.ticket
            and each.deal > handle.last_deal
            and each.order != handle.ticket
            and each.magic != handle.magic
        ]

    def _left_after(self, handle: Handle, parts: Sequence[Part], added: Sequence[Opening]) -> Decimal:
        """The lots under a position's ticket once these have left it and come to it."""
        gone = sum((part.lots for part in parts), ZERO)
        return handle.lots + handle.beside + sum((each.lots for each in added), ZERO) - gone


def _as_deal(ticket: Ticket) -> Opening:
    """An open position whose deal the history does not show yet."""
    return Opening(
        deal=ticket.deal,
        order=ticket.order,
        position=ticket.number,
        symbol=ticket.symbol,
        side=ticket.side,
        lots=ticket.lots,
        price=ticket.price,
        fees=ticket.fees,
        magic=ticket.magic,
        comment=ticket.comment,
        at=ticket.opened_at,
    )
