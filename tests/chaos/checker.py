"""The checker: what the venues' ledgers say against what the database says, both ways.

It believes neither. An order is ours when its client id is the one of an order row and one of its attempts; every
unit that was bought or sold has to be on the row it belongs to, and everything a row says has to be in a ledger.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from sqlalchemy import func, or_, select

from app.desk import Sessions
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.money import ZERO, exact, floor_to_step
from app.domain.orders import OrderStatus, Purpose, client_order_id
from app.domain.owners import Owner
from app.domain.positions import PositionStatus
from app.store.events import Event
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import Position
from app.store.signals import SignalRow
from tests.chaos.tickets import FxAccount, TicketBooks, check_tickets
from tests.chaos.verdict import BY_HAND, Heard, Verdict, is_truthful
from tests.venues.accounts import Account as Ledger
from tests.venues.exchange import Exchange, Keys
from tests.venues.floor import Floor
from tests.venues.metatrader import MetaTraderVenue
from tests.venues.orders import Order as VenueOrder

_ID_LENGTH: Final = 32

_WITHOUT_US: Final = (CloseReason.EXTERNAL, CloseReason.LIQUIDATION)
"""Why an order is in our books that nobody here has placed."""


@dataclass(frozen=True, slots=True)
class Account:
    """A connection of the run and the account behind it."""

    connection_id: UUID
    owner: Owner
    plan: str
    """Signals for this plan are for this account alone."""
    exchange: str
    market_type: MarketType
    keys: Keys

    def floor(self, venue: Exchange) -> Floor:
        """Where it trades."""
        if self.exchange == "bybit":
            return venue.bybit.floor
        return (venue.spot if self.market_type is MarketType.SPOT else venue.usdm).floor

    def ledger(self, venue: Exchange) -> Ledger:
        """The venue's own books of it."""
        return self.floor(venue).accounts[self.keys.api_key]

    def symbol(self, base: str) -> str:
        """The venue's symbol of a coin."""
        return f"{base}/USDT" if self.market_type is MarketType.SPOT else f"{base}/USDT:USDT"


@dataclass
class Books:
    """One account: rows of the database, orders of the ledger, and which belong together."""

    account: Account
    ledger: Ledger
    orders: Sequence[Order]
    executions: Mapping[UUID, Execution]
    positions: Mapping[UUID, Position]
    at_venue: dict[UUID, list[VenueOrder]] = field(default_factory=lambda: defaultdict(list))
    by_hand: list[VenueOrder] = field(default_factory=list)


async def unsettled(sessions: Sessions) -> Counter[str]:
    """What is still under way: nothing of it may be left once the venue's settle time and two sweeps are over."""
    async with sessions() as session:
        executions = await session.scalars(
            select(Execution.status).where(
                Execution.status.in_(
                    (ExecutionStatus.PENDING, ExecutionStatus.SENDING, ExecutionStatus.NEEDS_REVIEW)
                )
            )
        )
        orders = await session.execute(
            select(Order.purpose, Order.status).where(
                Order.status.in_((OrderStatus.PENDING, OrderStatus.SENDING, OrderStatus.NEEDS_REVIEW)),
                or_(Order.purpose != Purpose.ENTRY, Order.status != OrderStatus.PENDING),
            )
        )
        positions = await session.scalar(
            select(func.count())
            .select_from(Position)
            .where(or_(Position.status == PositionStatus.CLOSING, Position.protect_due_at.is_not(None)))
        )
        # What closes a portion waits for as long as an entry rests, to close that part of whatever it fills.
        resting = (
            select(Execution.id)
            .join(SignalRow, SignalRow.id == Execution.signal_id)
            .where(
                SignalRow.provider == Event.provider,
                SignalRow.source_id == Event.source_id,
                Execution.status == ExecutionStatus.OPEN,
            )
        )
        events = await session.scalar(
            select(func.count()).select_from(Event).where(Event.due_at.is_not(None), ~resting.exists())
        )
    left = Counter(f"execution {status}" for status in executions)
    left.update(f"{purpose} {status}" for purpose, status in orders)
    left.update({"position": positions or 0, "event": events or 0})
    return +left


async def check(
    sessions: Sessions,
    venue: Exchange | None,
    accounts: Sequence[Account],
    heard: Heard,
    now: datetime,
    *,
    watched_within: timedelta = timedelta(seconds=30),
    brokers: MetaTraderVenue | None = None,
    fx_accounts: Sequence[FxAccount] = (),
) -> Verdict:
    """Compare everything. `watched_within` is how old the mark of a position may be that only we protect."""
    verdict = Verdict()
    async with sessions() as session:
        signals = (await session.scalars(select(SignalRow))).all()
        executions = (await session.scalars(select(Execution))).all()
        orders = (await session.scalars(select(Order).order_by(Order.created_at, Order.id))).all()
        positions = (await session.scalars(select(Position))).all()
    _check_intake(verdict, [*accounts, *fx_accounts], heard, signals, executions)
    _check_closes(verdict, heard, signals, orders, positions)
    for account in accounts:
        assert venue is not None
        mine = [each for each in executions if each.connection_id == account.connection_id]
        books = Books(
            account=account,
            ledger=account.ledger(venue),
            orders=[each for each in orders if each.connection_id == account.connection_id],
            executions={each.id: each for each in mine},
            positions={
                each.execution_id: each for each in positions if each.connection_id == account.connection_id
            },
        )
        match(verdict, books)
        _check_orders(verdict, books)
        _check_executions(verdict, books)
        _check_holdings(verdict, books)
        _check_protection(verdict, books, now, watched_within)
    for fx_account in fx_accounts:
        assert brokers is not None
        tickets = TicketBooks(
            login=fx_account.login(brokers),
            orders=[each for each in orders if each.connection_id == fx_account.connection_id],
            executions={
                each.id: each for each in executions if each.connection_id == fx_account.connection_id
            },
            positions={
                each.execution_id: each
                for each in positions
                if each.connection_id == fx_account.connection_id
            },
        )
        check_tickets(verdict, tickets, now, watched_within)
    for what, count in (await unsettled(sessions)).items():
        verdict.find("unsettled", f"{count} × {what}")
    for books_of in (venue, brokers):
        _check_audit(verdict, books_of)
    verdict.counts.update({"signals": len(signals), "executions": len(executions)})
    verdict.counts.update(f"execution {each.status}" for each in executions)
    verdict.counts.update(f"denied {each.code}" for each in executions if each.code)
    return verdict


def _check_intake(
    verdict: Verdict,
    accounts: Sequence[Account | FxAccount],
    heard: Heard,
    signals: Sequence[SignalRow],
    executions: Sequence[Execution],
) -> None:
    """Every signal that was answered is there once, on every connection it is for."""
    named = {each.source_id: each.id for each in signals}
    of_signal = Counter((each.signal_id, each.connection_id) for each in executions)
    for source_id, plan in heard.published.items():
        wanted = [each for each in accounts if each.plan == plan]
        for account in wanted:
            found = of_signal[named[source_id], account.connection_id] if source_id in named else 0
            if found != 1:
                verdict.find("lost" if found < 1 else "duplicate", f"{source_id} has {found} executions")


def _check_closes(
    verdict: Verdict,
    heard: Heard,
    signals: Sequence[SignalRow],
    orders: Sequence[Order],
    positions: Sequence[Position],
) -> None:
    """Nothing of a signal is open any more whose close was answered."""
    closed = {each.id: each.source_id for each in signals if each.source_id in heard.closed}
    for position in positions:
        if position.status is PositionStatus.CLOSED or position.signal_id not in closed:
            continue
        mine = [each for each in orders if each.execution_id == position.execution_id]
        story = "; ".join(_told(each) for each in mine)
        verdict.find("lost", f"the close of {closed[position.signal_id]} left a position open: {story}")


def _told(order: Order) -> str:
    reason = f" for {order.reason}" if order.reason else ""
    filled = f"{order.filled_quantity.normalize()} of {order.quantity.normalize()}"
    return f"{order.purpose} {order.type}{reason} {order.status} {filled}, {order.message or order.attempt}"


def match(verdict: Verdict, books: Books) -> None:
    """Which row each order of the ledger belongs to."""
    ours = {
        client_order_id(order.id, attempt): order.id
        for order in books.orders
        for attempt in range(1, order.attempt + 1)
    }
    for order in books.ledger.orders.values():
        root = order
        while root.parent is not None:
            root = root.parent
        verdict.counts["orders at venues"] += 1
        verdict.counts["fills"] += len(order.fills)
        if root.client_id.startswith(BY_HAND):
            books.by_hand.append(order)
        elif (row := ours.get(root.client_id[:_ID_LENGTH])) is not None:
            books.at_venue[row].append(order)
        else:
            verdict.find("orphan", f"{order.id} ({root.client_id}) is no order of ours")


def _check_orders(verdict: Verdict, books: Books) -> None:
    """Each row was accepted once at most, and says of its order what the ledger says."""
    for row in books.orders:
        if row.reason in _WITHOUT_US:
            continue
        known = books.at_venue[row.id]
        accepted = Counter(order.client_id for order in known if order.parent is None)
        sent = {client_id[:_ID_LENGTH] for client_id in accepted}
        if len(sent) > 1 or any(count > 1 for count in accepted.values()):
            rule = "double close" if row.purpose is Purpose.CLOSE else "duplicate"
            verdict.find(rule, f"{row.purpose} {row.id} was accepted {accepted.total()} times")
        verdict.counts[f"{row.purpose} orders"] += 1
        verdict.counts["second attempts"] += row.attempt > 1
        filled = sum((order.filled for order in known), ZERO)
        if filled != row.filled_quantity:
            verdict.find(
                "untruthful",
                f"{row.purpose} {row.id} ({row.status}) has {row.filled_quantity}, the ledger {filled}",
            )
        is_live = any(order.is_live for order in known)
        if is_live and not row.is_live:
            verdict.find("orphan", f"{row.purpose} {row.id} is {row.status} and still rests at the venue")
        if row.status is OrderStatus.OPEN and not is_live:
            verdict.find("phantom", f"{row.purpose} {row.id} is open and nothing rests at the venue")


def _check_executions(verdict: Verdict, books: Books) -> None:
    """What became of each signal is what the venue did for it."""
    entries = {row.execution_id: row for row in books.orders if row.purpose is Purpose.ENTRY}
    for execution in books.executions.values():
        row = entries.get(execution.id)
        known = books.at_venue[row.id] if row else []
        filled = sum((order.filled for order in known), ZERO)
        is_live = any(order.is_live for order in known)
        if not is_truthful(execution, filled, is_live=is_live):
            verdict.find(
                "untruthful",
                f"execution {execution.id} is {execution.status} of {execution.requested_quantity} "
                f"and the venue filled {filled}",
            )


@exact
def _check_holdings(verdict: Verdict, books: Books) -> None:
    """No execution sold what it had not bought, at any moment; and what is left is what the position says."""
    nets: dict[str, Decimal] = defaultdict(lambda: ZERO)
    rows: dict[UUID, list[Order]] = defaultdict(list)
    for row in books.orders:
        rows[row.execution_id].append(row)
    for execution_id, mine in rows.items():
        net = ZERO
        for amount in _flow(books, mine):
            net += amount
            if net < ZERO:
                verdict.find("double close", f"execution {execution_id} left more than it held: {net}")
                break
        position = books.positions.get(execution_id)
        left = position.remaining_quantity + position.dust if position else ZERO
        if net != left and not books.by_hand:
            verdict.find("untruthful", f"execution {execution_id} holds {net}, its position says {left}")
        if position is not None:
            nets[position.symbol] += net * position.side.entry_side.sign
    _check_account(verdict, books, nets)


def _flow(books: Books, mine: Iterable[Order]) -> list[Decimal]:
    """What each fill of an execution added to what it holds, in the order in which they happened."""
    fills = [
        (fill, row.purpose is Purpose.ENTRY)
        for row in mine
        for order in books.at_venue[row.id]
        for fill in order.fills
    ]
    flow = []
    for fill, opens in sorted(fills, key=lambda each: each[0].number):
        in_base = fill.fee_currency == fill.order.market.listing.base
        if opens:
            flow.append(fill.quantity - (fill.fee if in_base else ZERO))
        else:
            flow.append(-fill.quantity)
    return flow


def _check_account(verdict: Verdict, books: Books, nets: Mapping[str, Decimal]) -> None:
    """The account holds what its positions hold together, and nothing that was to leave has ever opened anything."""
    if books.account.market_type is not MarketType.SWAP:
        return
    exits = {
        order for row in books.orders if row.purpose is not Purpose.ENTRY for order in books.at_venue[row.id]
    }
    held: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for fill in sorted(books.ledger.fills, key=lambda each: each.number):
        symbol, signed = fill.order.market.listing.symbol, fill.quantity * fill.order.side.sign
        if fill.order in exits and (held[symbol] * signed >= ZERO or abs(signed) > abs(held[symbol])):
            verdict.find("reversed", f"an exit of {signed} {symbol} met a position of {held[symbol]}")
        held[symbol] += signed
    for symbol in () if books.by_hand else {*nets, *held}:
        if held[symbol] != nets[symbol]:
            verdict.find(
                "untruthful",
                f"{books.account.exchange} holds {held[symbol]} {symbol}, its positions {nets[symbol]}",
            )


def _check_protection(verdict: Verdict, books: Books, now: datetime, watched_within: timedelta) -> None:
    """Whatever is open and has a stop is protected, by whom the position says."""
    for position in books.positions.values():
        if position.status is PositionStatus.CLOSED or position.stop_loss is None:
            continue
        verdict.counts["positions still open"] += 1
        if position.protection is Protection.NATIVE:
            covered = stopped_quantity(books.at_venue, books.orders, position)
            if covered < floor_to_step(position.remaining_quantity, position.quantity_step):
                verdict.find(
                    "unprotected", f"{position.id}: the venue's stops are for {covered} of what is held"
                )
        elif position.protection is not Protection.SOFTWARE:
            verdict.find("unprotected", f"{position.id}: nobody watches its stop")
        elif position.marked_at is None or now - position.marked_at > watched_within:
            verdict.find("unprotected", f"{position.id}: last looked at {position.marked_at}")


def stopped_quantity(
    at_venue: Mapping[UUID, Sequence[VenueOrder]], orders: Iterable[Order], position: Position
) -> Decimal:
    """How much of a position the stops that rest at its venue would leave."""
    resting = [
        order
        for row in orders
        if row.execution_id == position.execution_id and row.purpose is Purpose.PROTECTION
        for order in at_venue.get(row.id, ())
        if order.is_live and order.trigger is not None
    ]
    return sum((order.quantity - order.filled for order in resting), ZERO)


def _check_audit(verdict: Verdict, venue: Exchange | MetaTraderVenue | None) -> None:
    if venue is None:
        return
    try:
        venue.audit()
    except AssertionError as broken:
        verdict.find("simulator", str(broken) or "its books do not add up")
