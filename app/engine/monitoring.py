"""Monitoring: looking after everything that is open, in bulk.

One quote request per market, one survey of resting orders per account, one statement for all marks. Connections
are leased for the round, so each is watched by one worker at a time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import bindparam, case, or_, select, union, update

from app.brokers.port import ABSENT, Broker, Silence, VenueError
from app.desk import Desk
from app.domain.exits import CloseReason, NativeStyle, Plan, Protection, decide, targets_beside
from app.domain.market import Quote
from app.domain.orders import FINAL, OrderReport, OrderStatus, Purpose
from app.domain.positions import PositionStatus, unrealized
from app.domain.risk import Mode
from app.domain.stops import best_of
from app.engine import (
    adopting,
    breaking,
    closing,
    guarding,
    lapsing,
    losses,
    naming,
    placing,
    protection,
    reconciling,
    stops,
    strikes,
    trades,
    triggers,
    watches,
)
from app.engine.access import broker_of
from app.store import orders, positions, trading
from app.store.connections import Connection
from app.store.orders import Order
from app.store.positions import Position

log = structlog.get_logger(__name__)

AT_ONCE = 12
"""How many accounts are dealt with at the same time."""

MISSES = 2
"""In how many rounds running a resting order must be missing before it counts as gone."""


@dataclass(slots=True)
class Watched:
    """One connection of a round with what is open on it."""

    connection: Connection
    broker: Broker
    trading: Mode
    """How far the whole engine may trade."""
    positions: list[Position] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)

    @property
    def symbols(self) -> set[str]:
        """Every symbol a quote is needed for."""
        entering = {order.symbol for order in self.orders if order.purpose is Purpose.ENTRY}
        return entering | {position.symbol for position in self.positions}


@dataclass(slots=True)
class News:
    """What a survey of the resting orders of a connection has brought."""

    changed: set[UUID] = field(default_factory=set)
    """Executions of which something is new."""
    unclear: set[str] = field(default_factory=set)
    """Symbols with an order that the venue did not tell of."""
    lost_a_leg: bool = False
    """Whether a protective order is gone that we did not cancel."""


async def watch(desk: Desk) -> int:
    """One round over all connections that are due; answers how many were watched.

    Raises ExceptionGroup of what went wrong unforeseen, when all else has been looked after.
    """
    try:
        return await watch_open(desk)
    finally:
        # A day's loss and a key that is refused are acted upon whatever happened to the round.
        try:
            await losses.enforce(desk)
        finally:
            await breaking.enforce(desk)


async def watch_open(desk: Desk) -> int:
    """Look after what is open on every connection that is due; answers how many were watched."""
    async with watches.held(desk, await _watchable(desk)) as claimed:
        failures = await _look_after(desk, claimed) if claimed else []
    if failures:
        raise ExceptionGroup("some of what is open was not looked after", failures)
    return len(claimed)


async def _look_after(desk: Desk, claimed: set[UUID]) -> list[Exception]:
    """Whatever there is to do; answers what went wrong unforeseen."""
    watched = await _open(desk, claimed)
    failures = await _side_by_side(_survey(desk, each) for each in watched)
    # What is held is read after the survey, which may have found orders filled.
    await _load_positions(desk, watched)
    quotes = await _quotes(watched)
    held = [(each.broker, position) for each, position in _all_positions(watched)]
    marks = await triggers.prices(desk, held, quotes)
    await _mark(desk, watched, quotes, marks)
    await guarding.arm(desk, (each for _, each in _all_positions(watched) if each.id in marks))
    failures += await _side_by_side(
        lapsing.review(desk, each.broker, each.connection, each.trading, each.orders, quotes)
        for each in watched
    )
    failures += await _move_stops(desk, watched, marks)
    failures += await _leave(desk, watched, marks)
    return failures


async def _watchable(desk: Desk) -> Sequence[UUID]:
    """Every connection with something open, or due to be compared."""
    open_somewhere = union(
        select(Position.connection_id).where(Position.status.in_(positions.OPEN)),
        select(Order.connection_id).where(Order.status == OrderStatus.OPEN),
        select(Connection.id).where(Connection.reconcile_due_at <= desk.now()),
    )
    async with desk.sessions() as session:
        return (await session.scalars(open_somewhere)).all()


async def _open(desk: Desk, claimed: set[UUID]) -> list[Watched]:
    """Load what is open on these connections and open their brokers; one that cannot be opened is left out."""
    ids = list(claimed)
    async with desk.sessions() as session:
        rows = (await session.scalars(select(Connection).where(Connection.id.in_(ids)))).all()
        resting = await orders.open_at_venue(session, ids)
        state = await trading.state(session)
    watched: dict[UUID, Watched] = {}
    for connection in rows:
        try:
            broker = await broker_of(desk, connection)
        except VenueError as failure:
            log.warning("broker_unavailable", connection_id=str(connection.id), reason=failure.message)
            continue
        watched[connection.id] = Watched(connection, broker, state)
    for order in resting:
        if order.connection_id in watched:
            watched[order.connection_id].orders.append(order)
    return list(watched.values())


async def _load_positions(desk: Desk, watched: Sequence[Watched]) -> None:
    by_connection = {each.connection.id: each for each in watched}
    async with desk.sessions() as session:
        for position in await positions.open_on(session, list(by_connection)):
            by_connection[position.connection_id].positions.append(position)


async def _side_by_side(work: Iterable[Awaitable[None]]) -> list[Exception]:
    """Do all of it, so many at once that the process keeps database connections for others.

    What goes wrong with one account keeps nobody from the others; it is answered, for the end of the round.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(each: Awaitable[None]) -> None:
        async with room:
            await each

    answers = await asyncio.gather(*(one(each) for each in work), return_exceptions=True)
    for stopped in answers:
        if isinstance(stopped, BaseException) and not isinstance(stopped, Exception):
            raise stopped
    return [failure for failure in answers if isinstance(failure, Exception)]


async def _quotes(watched: Sequence[Watched]) -> Mapping[tuple[str, str], Quote]:
    """One request per market for all symbols held there, whoever holds them; by (market, symbol)."""
    wanted: dict[str, set[str]] = defaultdict(set)
    brokers: dict[str, Broker] = {}
    for each in watched:
        wanted[each.broker.market_key] |= each.symbols
        brokers[each.broker.market_key] = each.broker

    async def ask(market: str) -> Mapping[str, Quote]:
        try:
            return await brokers[market].quotes(sorted(wanted[market]))
        except VenueError as failure:
            log.warning("quotes_unavailable", market=market, reason=failure.message)
            return {}

    markets = [market for market, symbols in wanted.items() if symbols]
    answers = await asyncio.gather(*(ask(market) for market in markets))
    return {
        (market, symbol): quote
        for market, answer in zip(markets, answers, strict=True)
        for symbol, quote in answer.items()
    }


async def _survey(desk: Desk, watched: Watched) -> None:
    """Ask the venue about what rests there, and in larger steps what is held; take over what has changed."""
    connection, broker = watched.connection, watched.broker
    seen = None
    if reconciling.is_due(connection, desk.now()):
        seen = await reconciling.look(desk, connection, broker, may_confirm=True)
    news = await _hear(desk, watched)
    if news is None:
        return
    if seen is None and news.lost_a_leg:
        # A native order is gone that we did not cancel: whoever closed the position by hand took it along.
        seen = await reconciling.look(desk, connection, broker, may_confirm=False)
    if seen is not None:
        await reconciling.reconcile(desk, connection, broker, seen, news.unclear)
    for execution_id in news.changed:
        await protection.after(desk, execution_id)


async def _hear(desk: Desk, watched: Watched) -> News | None:
    """Take over what the venue says of the orders that rest there; None when it does not answer."""
    news = News()
    if not watched.orders:
        return news
    try:
        answers = await watched.broker.survey([order.key for order in watched.orders])
    except VenueError as failure:
        log.warning("survey_failed", connection_id=str(watched.connection.id), reason=failure.message)
        await strikes.of_read(desk, watched.connection.id, failure)
        return None
    for order in watched.orders:
        answer = answers.get(order.key.client_order_id)
        if isinstance(answer, OrderReport):
            if await adopting.adopt(desk, order, answer):
                news.changed.add(order.execution_id)
            if _tells_news(order, answer) and await placing.record(desk, watched.broker, order, answer):
                news.changed.add(order.execution_id)
                news.lost_a_leg |= _is_lost(order, answer)
        elif answer is ABSENT and await _miss(desk, order):
            news.changed.add(order.execution_id)
            news.lost_a_leg |= order.purpose is Purpose.PROTECTION
        else:
            news.unclear.add(order.symbol)
    await guarding.prove(desk, (each for each in watched.orders if _stands(answers, each)))
    return news


def _is_lost(order: Order, report: OrderReport) -> bool:
    """Whether a protective order has ended without having done its work."""
    has_ended = report.status in FINAL and report.status is not OrderStatus.FILLED
    return order.purpose is Purpose.PROTECTION and has_ended


def _stands(answers: Mapping[str, OrderReport | Silence], order: Order) -> bool:
    """Whether the venue has just shown that an order rests there."""
    answer = answers.get(order.key.client_order_id)
    return isinstance(answer, OrderReport) and answer.status is OrderStatus.OPEN


def _tells_news(order: Order, report: OrderReport) -> bool:
    return (order.status, order.filled_quantity, order.exchange_order_id) != (
        report.status,
        report.filled_quantity,
        report.exchange_order_id,
    )


async def _miss(desk: Desk, order: Order) -> bool:
    """Count a clean look that did not find a resting order; True when it is now known to be gone."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current = trade.order(order.id)
        if current.status is not OrderStatus.OPEN or current.attempt != order.attempt:
            return False
        current.misses += 1
        if current.misses < MISSES:
            return False
        log.warning("resting_order_gone", **naming.of_order(trade.execution, order))
        trades.vanish(trade, current, now)
        return True


async def _mark(
    desk: Desk,
    watched: Sequence[Watched],
    quotes: Mapping[tuple[str, str], Quote],
    triggering: Mapping[UUID, Decimal],
) -> None:
    """Write the leaving price of every position that has a sound quote, in one statement, and its best price yet."""
    now = desk.now()
    rows = []
    for each, position in _all_positions(watched):
        quote = quotes.get((each.broker.market_key, position.symbol))
        if quote is None or not quote.is_usable(now, desk.quote_max_age):
            continue
        side = position.side.entry_side
        if position.id in triggering:
            position.best_price = best_of(side, position.best_price, triggering[position.id])
        price = quote.leaving(side)
        if quote.worth is not None:
            position.unit_value = quote.worth.move
        profit = unrealized(
            position.side, position.remaining_quantity, position.entry_price, price, position.unit_value
        )
        rows.append(
            {
                "position": position.id,
                "held": position.remaining_quantity,
                "price": price,
                "profit": profit,
                "best": position.best_price,
                "unit_value": position.unit_value,
                "moment": quote.time,
                "day": now.date(),
            }
        )
    if rows:
        await _write_marks(desk, rows)


async def _write_marks(desk: Desk, rows: Sequence[Mapping[str, object]]) -> None:
    # A position that was filled further or left in the meantime is skipped: its profit is for another quantity.
    # So is one that another worker has looked at since: this one has stood still, and its watch was taken over.
    columns = Position.__table__.c
    new_day = columns.pnl_day.is_distinct_from(bindparam("day"))
    statement = (
        update(Position.__table__)  # type: ignore[arg-type]
        .where(
            Position.__table__.c.id == bindparam("position"),
            Position.__table__.c.remaining_quantity == bindparam("held"),
            Position.__table__.c.status != PositionStatus.CLOSED,
            or_(columns.marked_at.is_(None), columns.marked_at <= bindparam("moment")),
        )
        .values(
            current_price=bindparam("price"),
            unrealized_pnl=bindparam("profit"),
            unit_value=bindparam("unit_value"),
            marked_at=bindparam("moment"),
            best_price=bindparam("best"),
            day_base=case((new_day, columns.realized_pnl + columns.unrealized_pnl), else_=columns.day_base),
            pnl_day=bindparam("day"),
        )
    )
    async with desk.sessions.begin() as session:
        connection = await session.connection()
        await connection.execute(statement, list(rows))


def _all_positions(watched: Iterable[Watched]) -> Iterable[tuple[Watched, Position]]:
    return ((each, position) for each in watched for position in each.positions)


async def _move_stops(
    desk: Desk, watched: Sequence[Watched], marks: Mapping[UUID, Decimal]
) -> list[Exception]:
    """Tighten the stops of positions that have gained enough."""

    async def move(each: Watched) -> None:
        each.positions = [
            await stops.move(desk, position, marks[position.id]) if position.id in marks else position
            for position in each.positions
        ]

    return await _side_by_side(move(each) for each in watched)


async def _leave(desk: Desk, watched: Sequence[Watched], marks: Mapping[UUID, Decimal]) -> list[Exception]:
    """Start the exits that the marks ask for, where our monitor is the one who protects, and those that are due."""
    ours = [
        (position, each.broker.traits.native_style)
        for each, position in _all_positions(watched)
        if position.id in marks
    ]
    started = [
        order_id
        for position, style in ours
        if (order_id := await _trigger(desk, position, style, marks[position.id]))
    ]
    now = desk.now()
    return await _side_by_side(
        [
            *(closing.carry_out(desk, order_id) for order_id in started),
            *(
                closing.leave(desk, position.execution_id, CloseReason.TIMEOUT)
                for _, position in _all_positions(watched)
                if position.status is PositionStatus.OPEN and stops.overdue(position, now)
            ),
        ]
    )


async def _trigger(desk: Desk, position: Position, style: NativeStyle, mark: Decimal) -> UUID | None:
    """Store the close that `mark` asks for, if it does and nobody else is closing; its order id."""
    now = desk.now()
    if decide(_plan(position, style), mark) is None:
        return None
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, position.execution_id)
        current = trade.position
        if current is None or current.status is not PositionStatus.OPEN:
            return None
        way_out = decide(_plan(current, style), mark)
        order = None if way_out is None else closing.start_exit(trade, way_out, now)
        if way_out is None or order is None:
            return None
        log.info("exit_triggered", **naming.of_position(current), reason=way_out.reason, mark=str(mark))
        return order.id


def _plan(position: Position, style: NativeStyle) -> Plan:
    """What is ours to watch: everything, or the targets beside a venue's stop, or nothing."""
    by_venue = position.protection is Protection.NATIVE
    targets = position.rungs_left
    if by_venue:
        targets = targets_beside(targets, position.remaining_quantity, style)
    return Plan(
        position.side.entry_side,
        position.remaining_quantity,
        None if by_venue else position.stop_loss,
        targets if position.protection is not Protection.NONE else (),
        position.stop_reason,
    )
