"""Comparing: what each venue has that our books do not know, and what they hold open that it has not.

Nothing is changed and nothing is taken back: it is for the person who has to say whether a database that came from a
backup may trade again. The venue is asked first and our books are read afterwards, so that what the engine does in
between is known to both. What cannot be asked is said, and never counted as equal.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeVar
from uuid import UUID

from sqlalchemy import func, or_, select

from app.brokers.port import ABSENT, Broker, Refused, Resting, VenueError
from app.desk import Desk
from app.domain.errors import NotFound
from app.domain.holdings import Fill, missing, surplus
from app.domain.market import MarketType
from app.domain.money import ZERO, exact, text
from app.domain.orders import LIVE, OrderKey, OrderReport, OrderStatus, Side, resembles
from app.domain.positions import PositionSide
from app.engine.access import broker_of
from app.engine.reconciling import Held, Holdings, held_by, moving, unit_of
from app.store import orders, positions
from app.store.connections import Connection
from app.store.orders import Order
from app.store.positions import Position

T = TypeVar("T")

AT_ONCE: Final = 8
"""How many accounts are asked side by side."""

IN_SIGHT: Final = timedelta(days=30)
"""How long a symbol is still looked at in which an order of ours has ended."""


class DiscrepancyKind(StrEnum):
    """In what a venue and our books differ."""

    UNKNOWN_ORDER = "unknown_order"
    """It rests at the venue under an id like ours, and our books have no such order."""
    UNKNOWN_HOLDING = "unknown_holding"
    """The venue holds more than our open positions come to; it may be the owner's own."""
    UNKNOWN_FILL = "unknown_fill"
    """The venue has filled an order that our books do not have; it may be the owner's own."""
    MISSING_ORDER = "missing_order"
    """Our books say that it rests at the venue, where it does not rest any more."""
    MISSING_HOLDING = "missing_holding"
    """The venue holds less than our open positions come to."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing in which venue and books differ. Quantity in base units (lots for FX), price in quote currency."""

    kind: DiscrepancyKind
    symbol: str
    """On spot the coin, where it is about what is held."""
    side: Side | PositionSide | None
    quantity: Decimal | None
    """Of a holding the difference alone; None where the venue does not tell."""
    price: Decimal | None = None
    client_order_id: str | None = None
    exchange_order_id: str | None = None
    status: OrderStatus | None = None
    """Of a missing order what the venue says became of it; None where it has none, and for all else."""
    time: datetime | None = None
    """When a fill happened."""

    def __str__(self) -> str:
        """All that is told of it, on one line."""
        named = {
            "price": None if self.price is None else text(self.price),
            "client_order_id": self.client_order_id,
            "exchange_order_id": self.exchange_order_id,
            "status": self.status,
            "time": None if self.time is None else self.time.isoformat(),
        }
        quantity = None if self.quantity is None else text(self.quantity)
        words = [self.kind, self.symbol, self.side, quantity]
        return " ".join(
            [*(word for word in words if word), *(f"{name}={each}" for name, each in named.items() if each)]
        )


@dataclass(slots=True)
class Comparison:
    """What was found on one connection."""

    connection: Connection
    asked_at: datetime
    since: datetime
    """From when on fills were asked for."""
    symbols: Sequence[str] | None = None
    """Where resting orders were looked for; None is everywhere."""
    discrepancies: list[Discrepancy] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    """What could not be compared, and why."""

    async def answer(self, question: str, asked: Awaitable[T]) -> T | None:
        """What the venue answers; None where it did not, which is kept as unanswered and never as "nothing"."""
        try:
            return await asked
        except VenueError as failure:
            self.unanswered.append(f"{question}: {failure.message}")
            return None


@dataclass(frozen=True, slots=True)
class _Books:
    """What our books knew of a connection before its venue was asked."""

    open_orders: Sequence[Order]
    symbols: frozenset[str]
    handles: Sequence[str]
    """What the venue called the open positions."""
    heard_at: datetime
    """When anything was last written down of an order there."""


async def compare(
    desk: Desk, *, connection_id: UUID | None = None, since: datetime | None = None
) -> Sequence[Comparison]:
    """Compare one connection, or all that are not deleted, with their venues.

    `since` is from when on fills are asked for; without it, since a connection's last order was heard of. Raises
    NotFound for a connection that there is not.
    """
    wanted = select(Connection).where(Connection.deleted_at.is_(None)).order_by(Connection.id)
    if connection_id is not None:
        wanted = wanted.where(Connection.id == connection_id)
    async with desk.sessions() as session:
        rows = (await session.scalars(wanted)).all()
    if connection_id is not None and not rows:
        raise NotFound("connection")
    room = asyncio.Semaphore(AT_ONCE)

    async def one(connection: Connection) -> Comparison:
        async with room:
            return await _compare(desk, connection, since)

    return await asyncio.gather(*(one(connection) for connection in rows))


async def _compare(desk: Desk, connection: Connection, since: datetime | None) -> Comparison:
    books = await _books(desk, connection)
    found = Comparison(connection, desk.now(), since or books.heard_at)
    broker = await found.answer("The venue", broker_of(desk, connection))
    if broker is None:
        return found
    held = await found.answer("What is held", held_by(connection, broker, books.handles))
    symbols = sorted(books.symbols | await _symbols_held(found, broker, {} if held is None else held.total))
    resting = await _resting(found, broker, symbols)
    await _compare_believed(desk, found, broker, books.open_orders)
    if held is not None:
        await _compare_held(desk, found, broker, held)
    await _compare_resting(desk, found, broker, resting)
    for symbol in sorted({*symbols, *(order.symbol for order in resting)}):
        await _compare_fills(desk, found, broker, symbol)
    return found


async def _books(desk: Desk, connection: Connection) -> _Books:
    own = Order.connection_id == connection.id
    in_sight = or_(Order.status.in_(LIVE), Order.updated_at >= desk.now() - IN_SIGHT)
    async with desk.sessions() as session:
        open_orders = await orders.open_at_venue(session, [connection.id])
        symbols = await session.scalars(select(Order.symbol).where(own, in_sight).distinct())
        held = await positions.open_on(session, [connection.id])
        heard_at = await session.scalar(select(func.max(Order.updated_at)).where(own))
    return _Books(
        open_orders=open_orders,
        symbols=frozenset({*symbols, *(position.symbol for position in held)}),
        handles=[position.handle for position in held if position.handle is not None],
        heard_at=heard_at or connection.created_at,
    )


async def _symbols_held(found: Comparison, broker: Broker, held: Holdings) -> set[str]:
    """The symbols in which something is held, whoever bought it; of coins the venue says which those are."""
    if found.connection.market_type is not MarketType.SPOT:
        return {symbol for symbol, _ in held}
    holdings = await found.answer("In which symbols something is held", broker.holdings())
    return {holding.symbol for holding in holdings or ()}


async def _resting(found: Comparison, broker: Broker, symbols: Sequence[str]) -> Sequence[Resting]:
    """What rests at the venue, everywhere where it tells that, else in the symbols that are known of."""
    try:
        return await broker.resting(None)
    except Refused:
        found.symbols = symbols
    except VenueError as failure:
        found.unanswered.append(f"Resting orders: {failure.message}")
        return ()
    return await found.answer("Resting orders", broker.resting(symbols)) or ()


async def _compare_believed(desk: Desk, found: Comparison, broker: Broker, believed: Sequence[Order]) -> None:
    """Orders that rest by our books, before and after the venue was asked, and not by its answer."""
    if not believed:
        return
    answers = await found.answer("Orders of ours", broker.survey([order.key for order in believed]))
    if answers is None:
        return
    async with desk.sessions() as session:
        present = await orders.open_at_venue(session, [found.connection.id])
    unchanged = {(order.id, order.attempt) for order in present}
    for order in believed:
        answer = answers.get(order.key.client_order_id)
        if (order.id, order.attempt) not in unchanged:
            continue
        if isinstance(answer, OrderReport):
            if answer.status is not OrderStatus.OPEN:
                found.discrepancies.append(_missing_order(order, answer.status))
        elif answer is ABSENT:
            found.discrepancies.append(_missing_order(order, None))
        else:
            found.unanswered.append(
                f"Order {order.key.client_order_id}: the venue cannot say where it stands."
            )


def _missing_order(order: Order, status: OrderStatus | None) -> Discrepancy:
    return Discrepancy(
        DiscrepancyKind.MISSING_ORDER,
        order.symbol,
        order.side,
        order.quantity,
        price=order.price or order.trigger_price,
        client_order_id=order.client_order_id,
        exchange_order_id=order.exchange_order_id,
        status=status,
    )


async def _compare_held(desk: Desk, found: Comparison, broker: Broker, held: Held) -> None:
    """What is held beside what our open positions come to; coins beyond ours are the owner's, and no news."""
    connection = found.connection
    async with desk.sessions() as session:
        open_ones = await positions.open_on(session, [connection.id])
        moved = await moving(session, connection.id, found.asked_at - broker.traits.read_lag)
    unclear = {unit_of(connection.market_type, symbol) for symbol in moved}
    groups: dict[tuple[str, PositionSide], list[Position]] = {group: [] for group in held.total}
    for position in open_ones:
        groups.setdefault((unit_of(connection.market_type, position.symbol), position.side), []).append(
            position
        )
    for (unit, side), members in sorted(groups.items()):
        if unit in unclear or not all(map(held.knows, members)):
            if members or connection.market_type is not MarketType.SPOT:
                found.unanswered.append(
                    f"What is held in {unit}: an order of ours there is undecided or has just been filled."
                )
            continue
        less, more = _difference(members, held, held.total.get((unit, side), ZERO))
        if less > ZERO:
            found.discrepancies.append(Discrepancy(DiscrepancyKind.MISSING_HOLDING, unit, side, less))
        if more > ZERO and connection.market_type is not MarketType.SPOT:
            found.discrepancies.append(Discrepancy(DiscrepancyKind.UNKNOWN_HOLDING, unit, side, more))


@exact
def _difference(members: Sequence[Position], held: Held, total: Decimal) -> tuple[Decimal, Decimal]:
    """How much less than ours is held, and how much more."""
    stakes = [held.stake(position) for position in members]
    return sum(missing(stakes, total).values(), ZERO), surplus(stakes, total)


async def _compare_resting(desk: Desk, found: Comparison, broker: Broker, resting: Sequence[Resting]) -> None:
    """Orders with an id like ours that our books do not have. The legs of a bracket share one."""
    ours = broker.client_order_id(UUID(int=0), 0)
    alike = {
        order.client_order_id: order
        for order in resting
        if order.client_order_id is not None and resembles(order.client_order_id, ours)
    }
    async with desk.sessions() as session:
        known = await session.scalars(
            select(Order.client_order_id).where(
                Order.connection_id == found.connection.id, Order.client_order_id.in_(alike)
            )
        )
        unknown = alike.keys() - set(known)
    for name in sorted(unknown):
        order = alike[name]
        found.discrepancies.append(
            Discrepancy(
                DiscrepancyKind.UNKNOWN_ORDER,
                order.symbol,
                order.side,
                order.quantity,
                client_order_id=name,
                exchange_order_id=order.exchange_order_id,
            )
        )


async def _compare_fills(desk: Desk, found: Comparison, broker: Broker, symbol: str) -> None:
    """Fills of orders that our books do not have; what they booked as done by others they know by the venue's id."""
    fills = await found.answer(f"Fills in {symbol}", _fills(desk, found, broker, symbol))
    async with desk.sessions() as session:
        known = await session.scalars(
            select(Order.exchange_order_id).where(
                Order.connection_id == found.connection.id, Order.symbol == symbol
            )
        )
        booked = set(known)
    found.discrepancies += [
        Discrepancy(
            DiscrepancyKind.UNKNOWN_FILL,
            symbol,
            fill.side,
            fill.quantity,
            price=fill.price,
            exchange_order_id=fill.exchange_order_id,
            time=fill.time,
        )
        for fill in fills or ()
        # Of a later one the order may have been claimed since our books were read.
        if fill.exchange_order_id not in booked and fill.time <= found.asked_at
    ]


async def _fills(desk: Desk, found: Comparison, broker: Broker, symbol: str) -> Sequence[Fill]:
    return await broker.fills(symbol, found.since, await _ours(desk, found, symbol))


async def _ours(desk: Desk, found: Comparison, symbol: str) -> list[OrderKey]:
    """Our own orders in a symbol that may have been filled since then."""
    async with desk.sessions() as session:
        rows = await session.scalars(
            select(Order).where(
                Order.connection_id == found.connection.id,
                Order.symbol == symbol,
                Order.client_order_id.is_not(None),
                or_(Order.status.in_(LIVE), Order.updated_at >= found.since),
            )
        )
    return [order.key for order in rows]
