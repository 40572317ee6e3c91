"""Orphans: orders of ours that rest at the venue although our books say that they have ended are cancelled.

An order that could not be found and then shows itself, a leg that outlived its position: what nobody watches could
open the other side. Ours are told by the client order ids in our books; nobody else's order is ever touched.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import or_, select, union, update

from app.brokers.port import Broker, Resting, VenueError
from app.desk import Desk
from app.domain.orders import FINAL, Purpose
from app.engine import naming, placing, protection
from app.engine.access import in_time
from app.store.connections import Connection
from app.store.orders import Order
from app.store.positions import OPEN, Position

log = structlog.get_logger(__name__)


KEPT_IN_SIGHT = timedelta(minutes=10)
"""How long after a position has closed, or an entry has come to nothing, its symbol is still searched."""


async def symbols_of(desk: Desk, connection_id: UUID) -> list[str]:
    """The symbols of a connection in which something of ours is open, was a moment ago, or may yet show itself."""
    since = desk.now() - KEPT_IN_SIGHT
    held = select(Position.symbol).where(
        Position.connection_id == connection_id,
        or_(Position.status.in_(OPEN), Position.closed_at >= since),
    )
    sent = select(Order.symbol).where(
        Order.connection_id == connection_id,
        Order.purpose == Purpose.ENTRY,
        Order.client_order_id.is_not(None),
        Order.updated_at >= since,
    )
    async with desk.sessions() as session:
        return sorted(await session.scalars(union(held, sent)))


async def clean_up(desk: Desk, connection: Connection, broker: Broker, symbols: Sequence[str]) -> None:
    """Cancel what rests in these symbols under our name and has ended for us; count what is not ours."""
    try:
        resting = await in_time(broker.resting(symbols))
    except VenueError as failure:
        log.info("resting_unknown", connection_id=str(connection.id), reason=failure.message)
        return
    names = [each.client_order_id for each in resting if each.client_order_id is not None]
    async with desk.sessions() as session:
        rows = await session.scalars(
            select(Order).where(Order.connection_id == connection.id, Order.client_order_id.in_(names))
        )
        ours = {order.client_order_id: order for order in rows}
    for order in ours.values():
        if order.status in FINAL:
            await _cancel(desk, broker, order)
    await _count_foreign(
        desk, connection, symbols, [each for each in resting if each.client_order_id not in ours]
    )


async def _cancel(desk: Desk, broker: Broker, order: Order) -> None:
    """Take it back; what it was filled for until then is ours, and protected."""
    names = await naming.looked_up(desk, order)
    log.warning("orphan_cancelled", **names, purpose=order.purpose)
    if not await placing.cancel(desk, broker, order):
        log.warning("orphan_stays", **names)
    await protection.after(desk, order.execution_id)


async def _count_foreign(
    desk: Desk, connection: Connection, symbols: Sequence[str], foreign: Sequence[Resting]
) -> None:
    """Note on open positions how many orders rest beside them that are not ours."""
    count = Counter(each.symbol for each in foreign)
    async with desk.sessions.begin() as session:
        for symbol in symbols:
            await session.execute(
                update(Position)
                .where(
                    Position.connection_id == connection.id,
                    Position.symbol == symbol,
                    Position.status.in_(OPEN),
                    Position.foreign_orders != count[symbol],
                )
                .values(foreign_orders=count[symbol])
            )
