"""Look-ups: what became of one order of ours, read from the books. Pure, and never a choice between two finds.

An entry is known by its number and comment. A close has no mark of its own: it is what left the position after all
that was accounted for before (its handle says what) and not by a stop. Stop and target stand on the position itself.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Final

import structlog

from app.brokers.metatrader.books import Cause, Ended, History, Opening, Part, Ticket, opening_of
from app.brokers.metatrader.marks import Handle, magic_of, may_be
from app.brokers.port import ABSENT, CANNOT_SAY, Silence
from app.domain.money import ZERO, exact
from app.domain.orders import Leg, OrderKey, OrderReport, OrderStatus, OrderType

log = structlog.get_logger(__name__)

LOOK_BACK: Final = timedelta(minutes=1)
"""How far the broker's clock may be off."""

LEGS: Final = frozenset({OrderType.STOP, OrderType.TAKE_PROFIT, OrderType.OCO})
_LEG_OF: Final = {Cause.STOP: Leg.STOP, Cause.TARGET: Leg.TARGET}


@dataclass(frozen=True, slots=True)
class Books:
    """Everything shown of an account, at one moment."""

    tickets: Sequence[Ticket]
    history: History
    currency: str
    has_deals: bool

    def report(self, key: OrderKey) -> OrderReport | Silence:
        """What became of an order."""
        if key.handle is None:
            return self._entry(key)
        if key.type in LEGS:
            return self.leg(key, Handle.read(key.handle))
        return self._close(key, Handle.read(key.handle))

    def position(self, handle: Handle) -> Ticket | None:
        """The open ticket that a handle means by now."""
        family = self._family(handle.ticket)
        return next((each for each in self.tickets if not each.is_pending and each.number in family), None)

    @exact
    def is_unaccounted(self, handle: Handle) -> bool:
        """Whether a position is open no more, and the history does not show yet how it ended."""
        if self.position(handle) is not None:
            return False
        return sum((part.lots for part in self._parts(handle)), ZERO) < handle.lots

    def leg(self, key: OrderKey, handle: Handle) -> OrderReport | Silence:
        """What became of a stop and target that a position was given."""
        ticket = self.position(handle)
        if ticket is not None:
            return leg_on(key, ticket) if stands_on(key, ticket) else self._silence()
        fired = [part for part in self._parts(handle) if part.cause in _LEG_OF]
        if not fired:
            return CANNOT_SAY if self.is_unaccounted(handle) else self._silence()
        return self._closed(key, fired, handle, _LEG_OF[fired[-1].cause])

    def _entry(self, key: OrderKey) -> OrderReport | Silence:
        ours = _Mark(key)
        openings = [each for each in self._openings() if ours.is_on(self._root(each.order), each)]
        pending = [each for each in self.tickets if each.is_pending and ours.is_on(each.number, each)]
        ended = [each for each in self.history.ended if ours.is_on(each.ticket, each)]
        orders = {
            *(self._root(each.order) for each in openings),
            *(each.number for each in pending),
            *(each.ticket for each in ended),
        }
        if len(orders) > 1:
            log.error("order_found_twice", client_order_id=key.client_order_id, tickets=sorted(orders))
            return CANNOT_SAY
        if openings:
            return self._opened(key, openings)
        if pending:
            return _untouched(key, str(pending[0].number), OrderStatus.OPEN)
        if ended:
            return _untouched(key, str(ended[0].ticket), ended[0].status)
        return self._silence()

    def _openings(self) -> list[Opening]:
        """Everything that was opened, once: what the history tells, and open positions it does not show yet."""
        told = list(self.history.openings)
        seen = {each.position for each in told}
        shown = [each for each in self.tickets if not each.is_pending]
        if self.has_deals:
            return told + [_as_deal(each) for each in shown if each.number not in seen]
        return told + [opening_of(each) for each in shown if each.number not in seen]

    @exact
    def _opened(self, key: OrderKey, openings: Sequence[Opening]) -> OrderReport:
        first = min(openings, key=lambda each: (each.at is None, each.at, each.deal))
        lots = sum((each.lots for each in openings), ZERO)
        fees = sum((each.fees for each in openings), ZERO)
        last = max((each.deal for each in openings), default=0) if self.has_deals else 0
        position = first.position if self.has_deals else self._root(first.order)
        return OrderReport(
            client_order_id=key.client_order_id,
            exchange_order_id=str(self._root(first.order)),
            status=OrderStatus.FILLED,
            filled_quantity=lots,
            average_price=sum((each.lots * each.price for each in openings), ZERO) / lots,
            fees={self.currency: fees} if fees else {},
            time=first.at,
            handle=Handle(position, magic_of(key.client_order_id), lots, last).text(),
        )

    def _close(self, key: OrderKey, handle: Handle) -> OrderReport | Silence:
        after = key.signed_at - LOOK_BACK
        known = None if key.exchange_order_id is None else int(key.exchange_order_id)
        parts = [
            part
            for part in self._parts(handle)
            if part.cause is Cause.ORDER
            and (part.at is None or part.at >= after)
            and self._may_close(part, key)
            and known in (None, part.order)
        ]
        orders = {part.order for part in parts}
        if len(orders) > 1:
            log.error("close_found_twice", client_order_id=key.client_order_id, tickets=sorted(orders))
            return CANNOT_SAY
        if parts:
            return self._closed(key, parts, handle, None)
        return CANNOT_SAY if self.is_unaccounted(handle) else self._silence()

    @exact
    def _closed(self, key: OrderKey, parts: Sequence[Part], handle: Handle, leg: Leg | None) -> OrderReport:
        last = parts[-1]
        lots = sum((part.lots for part in parts), ZERO)
        fees = sum((part.fees for part in parts), ZERO)
        return OrderReport(
            client_order_id=key.client_order_id,
            exchange_order_id=str(last.order),
            status=OrderStatus.FILLED,
            filled_quantity=lots,
            average_price=sum((part.lots * part.price for part in parts), ZERO) / lots,
            fees={self.currency: fees} if fees else {},
            leg=leg,
            time=last.at,
            handle=self._moved_on(handle, last, lots).text(),
            profit=sum((part.profit for part in parts), ZERO),
            funding=sum((part.swap for part in parts), ZERO),
        )

    def _may_close(self, part: Part, key: OrderKey) -> bool:
        """Where deals have comments of their own, those of the order that closed."""
        return not self.has_deals or may_be(part.comment, key.client_order_id)

    @exact
    def _moved_on(self, handle: Handle, last: Part, lots: Decimal) -> Handle:
        """What names the position once everything up to `last` is accounted for."""
        left = handle.lots - lots
        if self.has_deals:
            return Handle(handle.ticket, handle.magic, left, last.number)
        rests = [number for number, origin in self._origins().items() if origin == last.number]
        return Handle(last.rest or next(iter(rests), last.number), handle.magic, left)

    def _parts(self, handle: Handle) -> list[Part]:
        """What left a position after what its handle accounts for, oldest first."""
        family = self._family(handle.ticket)
        parts = [
            part
            for part in self.history.parts
            if part.position in family and part.number > (handle.last_deal if self.has_deals else 0)
        ]
        return sorted(parts, key=lambda part: part.number)

    def _family(self, ticket: int) -> Collection[int]:
        """A ticket and those that its rests became."""
        family = {ticket}
        if self.has_deals:
            return family
        origins = self._origins()
        for number in sorted(origins):
            if origins[number] in family:
                family.add(number)
        return family

    def _origins(self) -> dict[int, int]:
        """By ticket, the one whose rest it is."""
        rests: Iterable[Ticket | Part] = (*self.tickets, *self.history.parts)
        return {each.number: each.came_from for each in rests if each.came_from is not None}

    def _root(self, ticket: int) -> int:
        if self.has_deals:
            return ticket
        origins = self._origins()
        while ticket in origins and origins[ticket] < ticket:
            ticket = origins[ticket]
        return ticket

    def _silence(self) -> Silence:
        return ABSENT if self.history.is_whole else CANNOT_SAY


@dataclass(frozen=True, slots=True)
class _Mark:
    """What makes a thing at the broker the order that is looked for."""

    key: OrderKey

    def is_on(self, order: int, thing: Opening | Ticket | Ended) -> bool:
        if self.key.exchange_order_id is not None:
            return str(order) == self.key.exchange_order_id
        name = self.key.client_order_id
        return (
            thing.magic == magic_of(name) and thing.symbol == self.key.symbol and may_be(thing.comment, name)
        )


def is_attached(key: OrderKey, ticket: Ticket) -> bool:
    """Whether a position carries exactly the stop and target of a leg."""
    return (ticket.stop, ticket.target) == (key.trigger_price, key.price)


def stands_on(key: OrderKey, ticket: Ticket) -> bool:
    """Whether a position has whatever a leg gave it, be it where the owner has moved it to since."""
    return not (
        (key.trigger_price is not None and ticket.stop is None)
        or (key.price is not None and ticket.target is None)
    )


def leg_on(key: OrderKey, ticket: Ticket) -> OrderReport:
    """The report of a stop and target that stand on a position, and where they stand by now."""
    return attached(
        key,
        ticket,
        None if key.trigger_price is None else ticket.stop,
        None if key.price is None else ticket.target,
    )


def attached(key: OrderKey, ticket: Ticket, stop: Decimal | None, target: Decimal | None) -> OrderReport:
    """The report of a stop and target that a position carries."""
    report = _untouched(key, str(ticket.number), OrderStatus.OPEN)
    return replace(report, trigger_price=stop, price=target)


def cancelled(key: OrderKey, exchange_order_id: str) -> OrderReport:
    """The report of an order that was taken back unfilled."""
    return _untouched(key, exchange_order_id, OrderStatus.CANCELLED)


def _untouched(key: OrderKey, exchange_order_id: str, status: OrderStatus) -> OrderReport:
    return OrderReport(key.client_order_id, exchange_order_id, status, ZERO, None)


def _as_deal(ticket: Ticket) -> Opening:
    """An open position whose deal the history does not show yet."""
    return Opening(
        deal=0,
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
