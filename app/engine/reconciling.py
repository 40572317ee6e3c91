"""Reconciling: our books are held against what the venue says it holds. The venue is right, once it is clear.

A look asks the venue before our resting orders are surveyed, so that a fill of ours in between makes our books
smaller, never the venue's. A symbol in which something of ours is undecided or has just moved says nothing. What is
missing at two looks a read-lag apart has left without us and is booked; a failed look is never "flat". Where the
venue's positions have names, each answers for itself: one that was closed by hand takes nothing from another.
Where holdings are netted the same two looks settle a close that its venue cannot say anything of.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.port import ABSENT, Broker, Holding, VenueError
from app.desk import Desk
from app.domain.holdings import Stake, missing, newest_first, surplus
from app.domain.market import MarketType
from app.domain.money import ZERO, exact
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionSide
from app.engine import external, orphans, resolution, telling, trades
from app.engine.access import in_time
from app.store import connections, positions
from app.store.connections import Connection
from app.store.orders import Order
from app.store.positions import Position

log = structlog.get_logger(__name__)

EVERY = timedelta(minutes=1)
"""How often books and venue are compared while nothing looks off."""

Unit = str
"""What holdings are counted by: the coin on spot, where they are coins; else the symbol."""

Holdings = Mapping[tuple[Unit, PositionSide], Decimal]


@dataclass(frozen=True, slots=True)
class Held:
    """What the venue says it holds."""

    total: Holdings
    named: Mapping[str, Holding | None]
    """Every position that was asked for by its handle; None for one that is not there."""

    def knows(self, position: Position) -> bool:
        """Whether it tells of a position as it is called now."""
        return position.handle is None or position.handle in self.named

    def stake(self, position: Position) -> Stake:
        """Our books of a position beside what is told of just that one."""
        held = None
        if position.handle is not None:
            holding = self.named[position.handle]
            held = holding.quantity if holding is not None and holding.side is position.side else ZERO
        return Stake(
            position.id, position.opened_at, position.remaining_quantity, position.quantity_step, held
        )


@dataclass(frozen=True, slots=True)
class Look:
    """What the venue says is there, at one moment."""

    asked_at: datetime
    held: Held | None
    """None where it did not say, which is never "nothing"."""
    listed: Collection[str] | None
    """The symbols that can be traded; None where it did not say."""
    may_confirm: bool
    """Whether it came before the survey of our orders: a later one can raise a doubt, not settle it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One open position beside the venue's word."""

    position: Position
    missing: Decimal
    foreign: Decimal
    is_gone: bool
    """Whether two looks agree on what is missing."""


def is_due(connection: Connection, now: datetime) -> bool:
    """Whether the venue is to be asked what it holds."""
    return connection.reconcile_due_at is None or connection.reconcile_due_at <= now


def unit_of(market_type: MarketType, symbol: str) -> Unit:
    """What holdings in a symbol are counted by."""
    return symbol.partition("/")[0] if market_type is MarketType.SPOT else symbol


async def look(desk: Desk, connection: Connection, broker: Broker, *, may_confirm: bool) -> Look:
    """Ask the venue what it holds, in one request."""
    asked_at = desk.now()
    listed, held = None, None
    try:
        listed = frozenset(await in_time(broker.instruments(await orphans.symbols_of(desk, connection.id))))
        held = await in_time(held_by(connection, broker, await handles_of(desk, connection.id)))
    except VenueError as failure:
        log.warning("holdings_unknown", connection_id=str(connection.id), reason=failure.message)
    return Look(asked_at, held, listed, may_confirm)


async def handles_of(desk: Desk, connection_id: UUID) -> Sequence[str]:
    """What its venue calls the open positions of a connection."""
    async with desk.sessions() as session:
        open_ones = await positions.open_on(session, [connection_id])
    return [position.handle for position in open_ones if position.handle is not None]


async def held_by(connection: Connection, broker: Broker, handles: Sequence[str]) -> Held:
    """What the venue says it holds, and of each position that it has a name for. Raises VenueError."""
    if connection.market_type is MarketType.SPOT:
        # Balances name every coin, by itself; holdings name one of the symbols it trades in.
        balances = (await broker.account()).balances
        return Held({(coin, PositionSide.LONG): balance.total for coin, balance in balances.items()}, {})
    holdings = await broker.holdings(handles)
    told = {each.asked_as: each for each in holdings if each.asked_as is not None}
    return Held(_summed(holdings), {handle: told.get(handle) for handle in handles})


@exact
def _summed(holdings: Sequence[Holding]) -> Holdings:
    """By symbol and side: some accounts hold several positions of one."""
    held: dict[tuple[Unit, PositionSide], Decimal] = {}
    for each in holdings:
        held[each.symbol, each.side] = held.get((each.symbol, each.side), ZERO) + each.quantity
    return held


async def reconcile(
    desk: Desk, connection: Connection, broker: Broker, seen: Look, unclear: Collection[str]
) -> None:
    """Hold our books, as they stand now, against a look, and say when to look again.

    `unclear` are symbols with an order that the venue did not tell of.
    """
    async with desk.sessions() as session:
        open_ones = await positions.open_on(session, [connection.id])
    if seen.listed is not None:
        await _note_listing(desk, open_ones, seen.asked_at, seen.listed)
    has_doubts = True
    if seen.held is not None:
        has_doubts = await _compare(desk, connection, broker, open_ones, seen, seen.held, unclear)
    symbols = await orphans.symbols_of(desk, connection.id)
    if seen.may_confirm and symbols:
        await orphans.clean_up(desk, connection, broker, symbols)
    wait = min(broker.traits.read_lag, EVERY) if has_doubts else EVERY
    async with desk.sessions.begin() as session:
        await connections.reconcile_at(session, connection.id, desk.now() + wait if symbols else None)


async def _compare(
    desk: Desk,
    connection: Connection,
    broker: Broker,
    open_ones: Sequence[Position],
    seen: Look,
    held: Held,
    unclear: Collection[str],
) -> bool:
    """Book what is gone for certain; whether anything is in doubt still."""
    lag, market_type = broker.traits.read_lag, connection.market_type
    async with desk.sessions() as session:
        doubted = await _doubted(session, connection, broker, seen.asked_at)
        moved = await moving(session, connection.id, seen.asked_at - lag, doubted)
        vanished = await _vanished(session, connection.id)
    doubtful = {unit_of(market_type, symbol) for symbol in {*moved, *unclear}}
    unsettled = {unit_of(market_type, symbol) for symbol in vanished}
    groups: dict[tuple[Unit, PositionSide], list[Position]] = defaultdict(list)
    for position in open_ones:
        groups[unit_of(market_type, position.symbol), position.side].append(position)
    has_doubts = False
    for group, members in groups.items():
        if group[0] in doubtful or not all(map(held.knows, members)):
            has_doubts |= any(position.missing_since is not None for position in members)
            continue
        may_confirm = seen.may_confirm and group[0] not in unsettled
        findings = _findings(
            members, held, held.total.get(group, ZERO), replace(seen, may_confirm=may_confirm), lag
        )
        has_doubts |= any(each.missing and not each.is_gone for each in findings)
        await _note(desk, findings, seen, market_type)
        in_review = [order for order in doubted if any(order.position_id == each.id for each in members)]
        has_doubts |= bool(in_review)
        if gone := {each.position.id: each.missing for each in findings if each.is_gone}:
            losers = [each.position for each in findings if each.is_gone]
            renamed = {
                name: holding.handle
                for name, holding in held.named.items()
                if holding is not None and holding.handle is not None
            }
            await external.book(desk, broker, losers, gone, seen.asked_at, renamed, in_review)
        elif may_confirm and not any(each.missing or each.foreign for each in findings):
            await _count_absent(desk, broker, in_review, seen.asked_at)
    return has_doubts


async def _doubted(
    session: AsyncSession, connection: Connection, broker: Broker, asked_at: datetime
) -> Sequence[Order]:
    """Closes in review that a look shows the truth of: nothing came of them, or it has long been in what is held."""
    if not broker.traits.netting:
        return ()
    rows = await session.scalars(
        select(Order)
        .where(
            Order.connection_id == connection.id,
            Order.purpose == Purpose.CLOSE,
            Order.status == OrderStatus.NEEDS_REVIEW,
            Order.signed_at <= asked_at - broker.traits.settle - broker.traits.read_lag,
        )
        .order_by(Order.id)
    )
    return rows.all()


async def _count_absent(desk: Desk, broker: Broker, in_review: Sequence[Order], asked_at: datetime) -> None:
    """All of ours is held, and nothing else: a close in review has sold nothing of it. That counts as a clean look."""
    for order in in_review:
        if order.missed_at is None or asked_at - order.missed_at >= broker.traits.read_lag:
            await resolution.record_silence(desk, broker.traits, order, ABSENT, asked_at)


async def moving(
    session: AsyncSession, connection_id: UUID, since: datetime, but: Collection[Order] = ()
) -> set[str]:
    """Symbols in which an order of ours is undecided, or has been filled so lately that a look may not show it; `but`
    are orders that are in no look's way."""
    rows = await session.scalars(
        select(Order.symbol).where(
            Order.connection_id == connection_id,
            Order.id.not_in([order.id for order in but]),
            or_(Order.status.in_(trades.IN_DOUBT), Order.filled_at >= since),
        )
    )
    return set(rows)


async def _vanished(session: AsyncSession, connection_id: UUID) -> Sequence[str]:
    """Symbols in which an order of ours that vanished is still to be looked for: it may have been what was filled."""
    rows = await session.scalars(
        select(Order.symbol).where(
            Order.connection_id == connection_id, Order.code == trades.VANISHED, Order.due_at.is_not(None)
        )
    )
    return rows.all()


def _findings(
    members: Sequence[Position], held: Held, total: Decimal, seen: Look, lag: timedelta
) -> list[Finding]:
    """What the look says of the positions of one unit and side, in the order in which they lose."""
    by_id = {position.id: position for position in members}
    stakes = [held.stake(position) for position in members]
    gone, foreign = missing(stakes, total), surplus(stakes, total)
    findings = []
    for number, stake in enumerate(newest_first(stakes)):
        position = by_id[stake.id]
        short = gone.get(stake.id, ZERO)
        agrees = short > ZERO and position.missing_since is not None and position.missing_quantity == short
        is_old = position.missing_since is not None and seen.asked_at - position.missing_since >= lag
        findings.append(
            Finding(
                position=position,
                missing=short,
                foreign=foreign if number == 0 else ZERO,
                is_gone=agrees and is_old and seen.may_confirm,
            )
        )
    return findings


async def _note(desk: Desk, findings: Sequence[Finding], seen: Look, market_type: MarketType) -> None:
    """Remember on each position what is missing, and tell of size that was added; only where something is news."""
    for each in findings:
        position = each.position
        # Coins of the owner's own beside ours are the rule on spot, and no news.
        foreign = ZERO if market_type is MarketType.SPOT else each.foreign
        since = position.missing_since
        if each.missing != position.missing_quantity:
            since = seen.asked_at if each.missing else None
        if (each.missing, since, foreign) == (
            position.missing_quantity,
            position.missing_since,
            position.foreign_quantity,
        ):
            continue
        async with desk.sessions.begin() as session:
            changed = await session.scalar(
                update(Position)
                # A position that has changed meanwhile was not what the look is about.
                .where(Position.id == position.id, Position.remaining_quantity == position.remaining_quantity)
                .values(missing_quantity=each.missing, missing_since=since, foreign_quantity=foreign)
                .returning(Position)
            )
            if changed is not None and foreign and not position.foreign_quantity:
                telling.size_added(session, changed, desk.now())


async def _note_listing(
    desk: Desk, open_ones: Sequence[Position], asked_at: datetime, listed: Collection[str]
) -> None:
    """Remember, and tell once, that a symbol is no longer listed; one that is again is as any other."""
    for position in open_ones:
        is_listed = position.symbol in listed
        if is_listed == (position.delisted_at is None):
            continue
        async with desk.sessions.begin() as session:
            changed = await session.scalar(
                update(Position)
                .where(Position.id == position.id)
                .values(delisted_at=None if is_listed else asked_at)
                .returning(Position)
            )
            if changed is not None and not is_listed:
                telling.delisted(session, changed, desk.now())
