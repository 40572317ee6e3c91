"""Monitoring: looking after everything that is open, in bulk.

One quote request per market, one survey of resting orders per account, one statement for all marks of a market.
Connections are leased for the round, so each is watched by one worker at a time. Venues are looked after side by side,
and so are the accounts of one: who waits for an answer keeps waiting alone.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import bindparam, case, or_, select, union, update

from app.brokers.port import VenueError
from app.desk import Desk
from app.domain.exits import CloseReason, NativeStyle, Plan, Protection, decide, targets_beside
from app.domain.market import Quote
from app.domain.orders import OrderStatus
from app.domain.positions import PositionStatus, unrealized
from app.domain.risk import Mode
from app.domain.stops import best_of
from app.engine import (
    breaking,
    closing,
    funding,
    guarding,
    lapsing,
    losses,
    naming,
    stops,
    trades,
    triggers,
    watches,
)
from app.engine.access import broker_of, in_time
from app.engine.rooms import Room, as_they_end, side_by_side
from app.engine.surveying import Watched, survey
from app.engine.watches import Watch
from app.store import orders, positions, trading
from app.store.connections import Connection
from app.store.orders import Order
from app.store.positions import Position

log = structlog.get_logger(__name__)

AT_ONCE = 24
"""How many accounts of a venue are dealt with at the same time, apart from those that wait for it."""


async def watch(desk: Desk) -> int:
    """One round over all connections that are due; answers how many were watched.

    Raises ExceptionGroup of what went wrong unforeseen, when all else has been looked after.
    """
    looking = asyncio.create_task(watch_open(desk))
    try:
        # A day's loss and a key that is refused are acted upon whatever happens to the round, and by the time of the
        # next one at the latest: a venue that does not answer is not waited for.
        await asyncio.wait({looking}, timeout=desk.monitor_every.total_seconds())
        try:
            await losses.enforce(desk)
        finally:
            await breaking.enforce(desk)
    finally:
        watched = await looking
    return watched


async def watch_open(desk: Desk) -> int:
    """Look after what is open on every connection that is due; answers how many were watched."""
    async with watches.held(desk, await _watchable(desk)) as held:
        taken = set(held.held)
        failures = await _look_after(desk, held) if taken else []
    desk.metrics.rounds.labels("monitor").set(desk.now().timestamp())
    if failures:
        raise ExceptionGroup("some of what is open was not looked after", failures)
    return len(taken)


async def _look_after(desk: Desk, held: Watch) -> list[Exception]:
    """Whatever there is to do; answers what went wrong unforeseen."""
    ids = list(held.held)
    async with desk.sessions() as session:
        rows = (await session.scalars(select(Connection).where(Connection.id.in_(ids)))).all()
        resting = await orders.open_at_venue(session, ids)
        state = await trading.state(session)
    waiting: dict[UUID, list[Order]] = defaultdict(list)
    for order in resting:
        waiting[order.connection_id].append(order)
    at_venue: dict[str, list[Connection]] = defaultdict(list)
    for connection in rows:
        at_venue[connection.exchange].append(connection)
    rounds = [_Round(desk, held, state, waiting) for _ in at_venue]
    failures = await side_by_side(
        each.of(accounts) for each, accounts in zip(rounds, at_venue.values(), strict=True)
    )
    return failures + [failure for each in rounds for failure in each.failures]


class _Round:
    """A round at one venue."""

    def __init__(self, desk: Desk, held: Watch, state: Mode, waiting: Mapping[UUID, Sequence[Order]]) -> None:
        self.failures: list[Exception] = []
        """What went wrong with one account, and kept nobody from the others."""
        self._desk = desk
        self._held = held
        self._trading = state
        self._waiting = waiting
        self._room = Room(AT_ONCE)
        self._met: dict[UUID, Watched] = {}

    async def of(self, accounts: Iterable[Connection]) -> None:
        """Look after these accounts: those that have told of themselves together, the late ones when they have.

        What is begun here is cut off only together with the whole round.
        """
        meeting = {
            asyncio.create_task(self._in_turn(partial(self._meet, each))): each.id for each in accounts
        }
        judging: list[asyncio.Task[None]] = []
        try:
            async for told in as_they_end(meeting, self._pause):
                judging.append(asyncio.create_task(self._judge([meeting[each] for each in told])))
                for each in told:
                    each.result()
            self.failures += await side_by_side(judging)
        finally:
            for each in (*meeting, *judging):
                each.cancel()

    @property
    def _pause(self) -> timedelta:
        """For how long accounts are waited for that others could go on without."""
        return self._desk.monitor_every / 2

    async def _in_turn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something of one account when there is a place for it."""
        async with self._room.place():
            self.failures += await side_by_side([work()])

    async def _meet(self, connection: Connection) -> None:
        """Open an account's broker and survey it; one that cannot be opened is left out."""
        try:
            broker = await in_time(broker_of(self._desk, connection))
        except VenueError as failure:
            log.warning("broker_unavailable", connection_id=str(connection.id), reason=failure.message)
            return
        watched = Watched(connection, broker, self._trading, orders=list(self._waiting[connection.id]))
        self._met[connection.id] = watched
        await survey(self._desk, watched)

    async def _judge(self, connection_ids: Sequence[UUID]) -> None:
        """Go through what is open on accounts that have told of themselves, market by market."""
        unmet = [each for each in connection_ids if each not in self._met]
        self.failures += await side_by_side([guarding.miss(self._desk, unmet)])
        told = [self._met[each] for each in connection_ids if each in self._met]
        # What is held is read after the survey, which may have found orders filled.
        await _load_positions(self._desk, told)
        markets: dict[str, list[Watched]] = defaultdict(list)
        for each in told:
            markets[each.broker.market_key].append(each)
        self.failures += await side_by_side(self._judge_market(each) for each in markets.values())

    async def _judge_market(self, watched: Sequence[Watched]) -> None:
        quotes = await _quotes(watched)
        held = [(each.broker, position) for each, position in _all_positions(watched)]
        marks = await triggers.prices(self._desk, held, quotes)
        await _mark(self._desk, watched, quotes, marks)
        self.failures += await side_by_side([guarding.arm(self._desk, held, quotes, marks)])
        seen = [each.connection.id for each in watched]
        self.failures += await side_by_side([guarding.miss(self._desk, seen)])
        dealing = {
            asyncio.create_task(self._in_turn(partial(self._deal, each, quotes, marks))): each.connection.id
            for each in watched
        }
        try:
            async for done in as_they_end(dealing, self._pause):
                self.failures += await side_by_side([self._held.let_go([dealing[each] for each in done])])
                for each in done:
                    each.result()
        finally:
            for each in dealing:
                each.cancel()

    async def _deal(
        self, watched: Watched, quotes: Mapping[tuple[str, str], Quote], marks: Mapping[UUID, Decimal]
    ) -> None:
        """Do with one account what the quotes and marks ask for; none of it is left out for what fails before."""
        desk, broker, connection = self._desk, watched.broker, watched.connection
        reviewed = lapsing.review(desk, broker, connection, watched.trading, watched.orders, quotes)
        self.failures += await side_by_side([reviewed])
        self.failures += await side_by_side([_move_stops(desk, watched, marks)])
        self.failures += await _leave(desk, watched, marks)
        self.failures += await side_by_side([funding.hear(desk, connection, broker)])


async def _watchable(desk: Desk) -> Sequence[UUID]:
    """Every connection with something open, or due to be compared."""
    open_somewhere = union(
        select(Position.connection_id).where(Position.status.in_(positions.OPEN)),
        select(Order.connection_id).where(Order.status == OrderStatus.OPEN),
        select(Connection.id).where(Connection.reconcile_due_at <= desk.now()),
        select(Connection.id).where(Connection.funding_due_at <= desk.now(), Connection.deleted_at.is_(None)),
    )
    async with desk.sessions() as session:
        return (await session.scalars(open_somewhere)).all()


async def _load_positions(desk: Desk, watched: Sequence[Watched]) -> None:
    by_connection = {each.connection.id: each for each in watched}
    async with desk.sessions() as session:
        for position in await positions.open_on(session, list(by_connection)):
            by_connection[position.connection_id].positions.append(position)


async def _quotes(watched: Sequence[Watched]) -> Mapping[tuple[str, str], Quote]:
    """One request for all symbols held in a market, whoever holds them; by (market, symbol)."""
    broker = watched[0].broker
    symbols = set[str]().union(*(each.symbols for each in watched))
    if not symbols:
        return {}
    try:
        told = await in_time(broker.quotes(sorted(symbols)))
    except VenueError as failure:
        log.warning("quotes_unavailable", market=broker.market_key, reason=failure.message)
        return {}
    return {(broker.market_key, symbol): quote for symbol, quote in told.items()}


async def _mark(
    desk: Desk,
    watched: Sequence[Watched],
    quotes: Mapping[tuple[str, str], Quote],
    triggering: Mapping[UUID, Decimal],
) -> None:
    """Write the leaving price of every position that has a sound quote, in one statement, and its best price yet."""
    now = desk.now()
    rows = []
    # In the order in which whoever holds several trades locks them: two that wait for each other would both be lost.
    for each, position in sorted(_all_positions(watched), key=lambda pair: pair[1].execution_id):
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


async def _move_stops(desk: Desk, watched: Watched, marks: Mapping[UUID, Decimal]) -> None:
    """Tighten the stops of positions that have gained enough."""
    watched.positions = [
        await stops.move(desk, position, marks[position.id]) if position.id in marks else position
        for position in watched.positions
    ]


async def _leave(desk: Desk, watched: Watched, marks: Mapping[UUID, Decimal]) -> list[Exception]:
    """Start the exits that the marks ask for, where our monitor is the one who protects, and those that are due."""
    style, now = watched.broker.traits.native_style, desk.now()
    started = [
        order_id
        for position in watched.positions
        if position.id in marks and (order_id := await _trigger(desk, position, style, marks[position.id]))
    ]
    return await side_by_side(
        [
            *(closing.carry_out(desk, order_id) for order_id in started),
            *(
                closing.leave(desk, position.execution_id, CloseReason.TIMEOUT)
                for position in watched.positions
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
    if by_venue and position.refused_leg is None:
        targets = targets_beside(targets, position.remaining_quantity, style)
    return Plan(
        position.side.entry_side,
        position.remaining_quantity,
        None if by_venue else position.stop_loss,
        targets if position.protection is not Protection.NONE else (),
        position.stop_reason,
    )
