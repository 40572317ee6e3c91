"""The checker for MetaTrader accounts: what the brokers' books say against what the database says, both ways.

No broker keeps a client id. An order is ours when it carries the number of an order row and one of its attempts; the
tickets that carry it are what the position of that row has to say.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from app.brokers.metatrader.marks import client_order_id, magic_of
from app.domain.exits import Protection
from app.domain.money import ZERO, exact
from app.domain.orders import OrderStatus, Purpose
from app.domain.owners import Owner
from app.domain.positions import PositionStatus
from app.store.executions import Execution
from app.store.orders import Order
from app.store.positions import Position
from tests.chaos.verdict import BY_HAND, Verdict, is_truthful
from tests.venues.metatrader import Credentials, MetaTraderVenue, Platform
from tests.venues.metatrader.accounts import Login, State
from tests.venues.metatrader.accounts import Order as BrokerOrder
from tests.venues.metatrader.accounts import Position as Ticket


@dataclass(frozen=True, slots=True)
class FxAccount:
    """A connection of the run and the account behind it."""

    connection_id: UUID
    owner: Owner
    plan: str
    """Signals for this plan are for this account alone."""
    platform: Platform
    credentials: Credentials

    def login(self, brokers: MetaTraderVenue) -> Login:
        """The broker's own books of it."""
        return brokers.login(self.platform, self.credentials.user)


@dataclass
class TicketBooks:
    """One account: rows of the database, tickets of the broker, and which belong together."""

    login: Login
    orders: Sequence[Order]
    executions: Mapping[UUID, Execution]
    positions: Mapping[UUID, Position]
    """By their executions."""
    accepted: dict[UUID, list[BrokerOrder]] = field(default_factory=lambda: defaultdict(list))
    """What the broker took for each entry row."""
    has_more: bool = False
    """Whether the owner has given orders at the terminal: on accounts that net, tickets may hold theirs as well."""

    def held(self, execution_id: UUID) -> list[Ticket]:
        """The open tickets of an execution. What is left of a partly closed one carries its number still; one that
        its owner has added to keeps its ticket."""
        entries = [row.id for row in self.orders if row.execution_id == execution_id]
        known = [order for row_id in entries for order in self.accepted.get(row_id, ())]
        numbers, opened = {order.magic for order in known}, {order.position for order in known}
        return [
            ticket
            for ticket in self.login.positions.values()
            if ticket.magic in numbers or ticket.ticket in opened
        ]


@exact
def check_tickets(verdict: Verdict, books: TicketBooks, now: datetime, watched_within: timedelta) -> None:
    """Compare an account with its broker's books."""
    _match(verdict, books)
    for row in books.orders:
        verdict.counts[f"{row.purpose} orders"] += 1
        verdict.counts["second attempts"] += row.attempt > 1
        if row.purpose is Purpose.ENTRY:
            _check_entry(verdict, books, row)
    for execution_id, position in books.positions.items():
        _check_position(verdict, books, execution_id, position)
        _check_protection(verdict, books, position, now, watched_within)
    _check_money(verdict, books)


def _match(verdict: Verdict, books: TicketBooks) -> None:
    """Which row each order of the broker belongs to."""
    ours = {
        magic_of(client_order_id(row.id, attempt)): row.id
        for row in books.orders
        if row.purpose is Purpose.ENTRY
        for attempt in range(1, row.attempt + 1)
    }
    for order in books.login.orders:
        verdict.counts["orders at venues"] += 1
        row_id = ours.get(order.magic)
        if order.comment.startswith(BY_HAND):
            books.has_more = True
        elif row_id is None:
            verdict.find("orphan", f"{order.ticket} ({order.magic}) is no order of ours")
        else:
            books.accepted[row_id].append(order)
    verdict.counts["fills"] += sum(deal.market is not None for deal in books.login.deals)


def _check_entry(verdict: Verdict, books: TicketBooks, row: Order) -> None:
    """An entry was accepted once at most, and row and execution say of it what the broker says."""
    known = books.accepted.get(row.id, [])
    if len(known) > 1:
        verdict.find("duplicate", f"entry {row.id} was accepted {len(known)} times")
    filled = sum((order.lots for order in known if order.state is State.FILLED), ZERO)
    is_live = any(order.state is State.PLACED for order in known)
    if filled != row.filled_quantity:
        verdict.find(
            "untruthful", f"entry {row.id} ({row.status}) has {row.filled_quantity}, the broker {filled}"
        )
    if is_live and not row.is_live:
        verdict.find("orphan", f"entry {row.id} is {row.status} and still waits at the broker")
    if row.status is OrderStatus.OPEN and not is_live:
        verdict.find("phantom", f"entry {row.id} is open and nothing waits at the broker")
    execution = books.executions[row.execution_id]
    if not is_truthful(execution, filled, is_live=is_live):
        verdict.find(
            "untruthful",
            f"execution {execution.id} is {execution.status} of {execution.requested_quantity} "
            f"and the broker filled {filled}",
        )


def _check_position(verdict: Verdict, books: TicketBooks, execution_id: UUID, position: Position) -> None:
    """A position holds what its tickets hold, and no more has left it than was there."""
    held = sum((ticket.lots for ticket in books.held(execution_id)), ZERO)
    is_short = held < position.remaining_quantity
    if is_short if books.has_more else held != position.remaining_quantity:
        verdict.find(
            "untruthful",
            f"{position.symbol} of execution {execution_id}: the broker holds {held}, "
            f"its position says {position.remaining_quantity}",
        )
    mine = [row for row in books.orders if row.execution_id == execution_id]
    left = sum((row.filled_quantity for row in mine if row.purpose is not Purpose.ENTRY), ZERO)
    if left > position.quantity:
        verdict.find("double close", f"execution {execution_id} left {left} of {position.quantity}")


def _check_protection(
    verdict: Verdict, books: TicketBooks, position: Position, now: datetime, watched_within: timedelta
) -> None:
    """Whatever is open and has a stop is protected, by whom the position says."""
    if position.status is PositionStatus.CLOSED or position.stop_loss is None:
        return
    verdict.counts["positions still open"] += 1
    if position.protection is Protection.NATIVE:
        stops = {ticket.stop_loss for ticket in books.held(position.execution_id)}
        if stops != {position.stop_loss}:
            verdict.find("unprotected", f"{position.id}: the broker's stops are {stops or 'nowhere'}")
    elif position.protection is not Protection.SOFTWARE:
        verdict.find("unprotected", f"{position.id}: nobody watches its stop")
    elif position.marked_at is None or now - position.marked_at > watched_within:
        verdict.find("unprotected", f"{position.id}: last looked at {position.marked_at}")


def _check_money(verdict: Verdict, books: TicketBooks) -> None:
    """Once nothing is open, what the positions have realised is what the account has gained, to the cent."""
    known = books.positions.values()
    if books.login.positions or any(position.status is not PositionStatus.CLOSED for position in known):
        return
    if books.has_more or not all(position.pnl_complete for position in known):
        return
    realized = sum((position.realized_pnl for position in books.positions.values()), ZERO)
    if realized != books.login.realized:
        verdict.find("untruthful", f"{realized} were realised by our books, {books.login.realized} by theirs")


def bare_symbols(login: Login) -> list[str]:
    """The symbols in which an account holds a ticket that has no stop."""
    return [
        ticket.market.listing.pair for ticket in login.positions.values() if ticket.stop_loss == Decimal(0)
    ]
