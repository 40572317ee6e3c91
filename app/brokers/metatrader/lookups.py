"""Look-ups: what became of one order of ours, read from the books. Pure, and never a choice between two finds.

An entry is known by its number and comment. A close is what left the position after all that was accounted for
before (its handle says what), by our comment, else by its size. Stop and target stand on the position itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Final

import structlog

from app.brokers.metatrader import families
from app.brokers.metatrader.books import Cause, Ended, Opening, Part, Ticket
from app.brokers.metatrader.marks import Handle, magic_of, may_be, names
from app.brokers.metatrader.positions import Positions
from app.brokers.port import ABSENT, AMBIGUOUS, CANNOT_SAY, Silence
from app.domain.money import ZERO, exact
from app.domain.orders import Leg, OrderKey, OrderReport, OrderStatus, OrderType

log = structlog.get_logger(__name__)

LOOK_BACK: Final = timedelta(minutes=1)
"""How far the broker's clock may be off."""

LEGS: Final = frozenset({OrderType.STOP, OrderType.TAKE_PROFIT, OrderType.OCO})
_LEG_OF: Final = {Cause.STOP: Leg.STOP, Cause.TARGET: Leg.TARGET}


@dataclass(frozen=True, slots=True)
class Books:
    """What is shown of an account, read for what became of orders."""

    positions: Positions
    currency: str

    def report(self, key: OrderKey) -> OrderReport | Silence:
        """What became of an order."""
        if key.handle is None:
            return self._entry(key)
        if key.type in LEGS:
            return self._leg(key, Handle.read(key.handle))
        return self._close(key, Handle.read(key.handle))

    def _leg(self, key: OrderKey, handle: Handle) -> OrderReport | Silence:
        """What became of a stop and target that a position was given."""
        ticket = self.positions.ticket(handle)
        if ticket is not None:
            # One that was never acknowledged is there when its own levels are; another may stand there still.
            stands = is_attached if key.exchange_order_id is None else stands_on
            return leg_on(key, ticket) if stands(key, ticket) else self._silence()
        fired = [part for part in self.positions.parts(handle) if part.cause in _LEG_OF]
        if not fired:
            return CANNOT_SAY if self.positions.is_unaccounted(handle) else self._silence()
        return self._closed(key, fired, handle, OrderStatus.FILLED, _LEG_OF[fired[-1].cause])

    def _entry(self, key: OrderKey) -> OrderReport | Silence:
        found = self._found(lambda order, _: str(order) == key.exchange_order_id)
        if not found.orders:
            found = self._found(lambda _, thing: _is_marked(key, thing))
        if len(found.orders) > 1:
            log.error("order_found_twice", client_order_id=key.client_order_id, tickets=sorted(found.orders))
            return AMBIGUOUS
        if found.openings:
            return self._opened(key, found)
        if found.pending:
            return resting(key, str(found.pending[0].number))
        if found.ended:
            return _untouched(key, str(found.ended[0].ticket), found.ended[0].status)
        is_taken = key.exchange_order_id is not None and key.type is OrderType.MARKET
        if is_taken or any(_may_be_unmarked(key, each) for each in self.positions.openings):
            return CANNOT_SAY
        return self._silence()

    def _found(self, is_it: Callable[[int, Opening | Ticket | Ended], bool]) -> "_Found":
        """Everything an order has come to, by what tells that a thing, under the order that it began with, is its."""
        origins = self.positions.descent
        openings = [(families.root(each.order, origins), each) for each in self.positions.openings]
        opened = {order for order, each in openings if is_it(order, each)}
        pending = [each for each in self.positions.tickets if each.is_pending and is_it(each.number, each)]
        ended = [each for each in self.positions.history.ended if is_it(each.ticket, each)]
        return _Found(
            openings=[each for order, each in openings if order in opened],
            pending=pending,
            ended=ended,
            orders=frozenset({*opened, *(each.number for each in pending), *(each.ticket for each in ended)}),
        )

    @exact
    def _opened(self, key: OrderKey, found: "_Found") -> OrderReport | Silence:
        openings = found.openings
        first = min(openings, key=lambda each: (each.at is None, each.at, each.deal))
        order = next(iter(found.orders))
        lots = sum((each.lots for each in openings), ZERO)
        is_cut = order not in {each.deal for each in openings} or lots < (key.quantity or ZERO)
        if not self.positions.has_deals and is_cut:
            # MetaTrader 4 fills whole: a part has been closed already, and the history does not show that yet.
            return CANNOT_SAY
        fees = sum((each.fees for each in openings), ZERO)
        price = sum((each.lots * each.price for each in openings), ZERO) / lots
        # A ticket that nets may hold what others have added.
        filled = lots if key.quantity is None else min(lots, key.quantity)
        position, deal = (first.position, first.deal) if self.positions.has_deals else (order, 0)
        return OrderReport(
            client_order_id=key.client_order_id,
            exchange_order_id=str(order),
            status=found.status,
            filled_quantity=filled,
            average_price=price,
            fees={self.currency: fees} if fees else {},
            time=first.at,
            handle=Handle(position, magic_of(key.client_order_id), filled, deal).text(),
        )

    @exact
    def _close(self, key: OrderKey, handle: Handle) -> OrderReport | Silence:
        asked = handle.lots if key.quantity is None else min(key.quantity, handle.lots)
        orders: dict[str, list[Part]] = {}
        for part in self.positions.parts(handle):
            if part.cause is Cause.ORDER:
                orders.setdefault(str(part.order), []).append(part)
        # MetaTrader 4 has no room for a comment on a close: there its parts say nothing of who closed them.
        named = [each for each in orders.values() if self.positions.has_deals and _is_named(key, each)]
        nameless = [each for each in orders.values() if not self.positions.has_deals or _may_be(key, each)]
        told = orders.get(key.exchange_order_id or "")
        ours = [told] if told else named or [each for each in nameless if _lots(each) == asked]
        if len(ours) > 1:
            log.error("close_found_twice", client_order_id=key.client_order_id, position=handle.ticket)
            return AMBIGUOUS
        is_late = self.positions.untold(handle) > ZERO
        if ours and (_lots(ours[0]) >= asked or not is_late):
            is_whole = _lots(ours[0]) >= asked
            status = OrderStatus.FILLED if is_whole else OrderStatus.CANCELLED
            return self._closed(key, ours[0], handle, status, None)
        # Of a close of everything the rest has to go, whoever closed the first part; a part again may be too much.
        may_be_cut_short = asked < handle.lots and any(_lots(each) < asked for each in nameless)
        if is_late or may_be_cut_short or key.exchange_order_id is not None:
            return CANNOT_SAY
        return self._silence()

    @exact
    def _closed(
        self, key: OrderKey, parts: Sequence[Part], handle: Handle, status: OrderStatus, leg: Leg | None
    ) -> OrderReport:
        """What parts mean for a position of ours: of what others had added to its ticket their share is theirs."""
        last, lots = parts[-1], _lots(parts)
        ours = min(lots, handle.lots)
        share = ours / lots
        fees = sum((part.fees for part in parts), ZERO) * share
        return OrderReport(
            client_order_id=key.client_order_id,
            exchange_order_id=str(last.order),
            status=status,
            filled_quantity=ours,
            average_price=sum((part.lots * part.price for part in parts), ZERO) / lots,
            fees={self.currency: fees} if fees else {},
            leg=leg,
            time=last.at,
            handle=self.positions.moved_on(handle, last, ours).text(),
            profit=sum((part.profit for part in parts), ZERO) * share,
            funding=sum((part.swap for part in parts), ZERO) * share,
        )

    def _silence(self) -> Silence:
        return ABSENT if self.positions.history.is_whole else CANNOT_SAY


@dataclass(frozen=True, slots=True)
class _Found:
    """What an order has come to: what it opened, what of it waits still, and how it ended."""

    openings: Sequence[Opening]
    pending: Sequence[Ticket]
    ended: Sequence[Ended]
    orders: frozenset[int]

    @property
    def status(self) -> OrderStatus:
        """Where the order stands of which something has been filled."""
        if self.pending:
            return OrderStatus.OPEN
        return self.ended[0].status if self.ended else OrderStatus.FILLED


def _is_marked(key: OrderKey, thing: Opening | Ticket | Ended) -> bool:
    """Whether a thing carries what we sent: our comment, which is proof by itself, or our number."""
    name = key.client_order_id
    is_numbered = thing.magic == magic_of(name) and may_be(thing.comment, name)
    return thing.symbol == key.symbol and (names(thing.comment, name) or is_numbered)


def _may_be_unmarked(key: OrderKey, opening: Opening) -> bool:
    """Whether what was opened is just what was asked for, at a broker that may have dropped all that names it."""
    is_bare = not opening.magic and not opening.comment
    is_recent = opening.at is None or opening.at >= key.signed_at - LOOK_BACK
    return is_bare and is_recent and opening.symbol == key.symbol and opening.lots == key.quantity


def _is_named(key: OrderKey, parts: Sequence[Part]) -> bool:
    return any(names(part.comment, key.client_order_id) for part in parts)


def _may_be(key: OrderKey, parts: Sequence[Part]) -> bool:
    return all(may_be(part.comment, key.client_order_id) for part in parts)


@exact
def _lots(parts: Sequence[Part]) -> Decimal:
    return sum((part.lots for part in parts), ZERO)


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
    return replace(resting(key, str(ticket.number)), trigger_price=stop, price=target)


def resting(key: OrderKey, exchange_order_id: str) -> OrderReport:
    """The report of an order that the broker has, and of which nothing is filled yet."""
    return _untouched(key, exchange_order_id, OrderStatus.OPEN)


def cancelled(key: OrderKey, exchange_order_id: str) -> OrderReport:
    """The report of an order that was taken back unfilled."""
    return _untouched(key, exchange_order_id, OrderStatus.CANCELLED)


def _untouched(key: OrderKey, exchange_order_id: str, status: OrderStatus) -> OrderReport:
    return OrderReport(key.client_order_id, exchange_order_id, status, ZERO, None)
