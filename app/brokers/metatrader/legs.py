"""Legs: stop and target stand on a position itself, both set and both taken off by one request."""

from collections.abc import Callable
from decimal import Decimal

from app.brokers.metatrader import lookups
from app.brokers.metatrader.books import Ticket
from app.brokers.metatrader.marks import Handle
from app.brokers.metatrader.outcomes import UNCHANGED
from app.brokers.metatrader.session import OrderFault, Session
from app.brokers.metatrader.statements import Statements
from app.brokers.metatrader.wire import Record
from app.brokers.port import ABSENT, Refused, Silence, Uncertain, Unreachable, VenueError
from app.domain.money import ZERO, text
from app.domain.orders import OrderKey, OrderReport


class Legs:
    """The stops and targets of one account."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self._statements = statements

    async def attach(self, key: OrderKey, handle: Handle, check: Callable[[], None]) -> OrderReport:
        """Give a position its stop and target, in place of those it has; `check` raises where it is too late for that.

        Raises VenueError.
        """
        try:
            standing = await self._standing(key, handle)
        except Uncertain as failure:
            raise Unreachable(failure.message) from None
        if standing is None:
            raise Refused("The position is not open at the broker.")
        if isinstance(standing, OrderReport):
            return standing
        if lookups.is_attached(key, standing):
            return lookups.leg_on(key, standing)
        check()
        try:
            await self._modify(standing, key.trigger_price, key.price)
        except Uncertain as doubt:
            try:
                seen = await self._statements.find(key)
            except VenueError:
                raise doubt from None
            if isinstance(seen, Silence):
                raise doubt from None
            return seen
        return lookups.attached(key, standing, key.trigger_price, key.price)

    async def detach(self, key: OrderKey, handle: Handle) -> OrderReport:
        """Take stop and target off a position, unless it carries others by now. Raises VenueError."""
        standing = await self._standing(key, handle)
        if standing is None:
            return lookups.cancelled(key, key.exchange_order_id or str(handle.ticket))
        if isinstance(standing, OrderReport):
            return standing
        if lookups.is_attached(key, standing):
            await self._modify(standing, None, None)
        return lookups.cancelled(key, str(standing.number))

    async def _standing(self, key: OrderKey, handle: Handle) -> Ticket | OrderReport | None:
        """The open position of a leg; else what became of the leg, None where nothing did. Raises VenueError."""
        ticket = (await self._statements.open_positions()).ticket(handle)
        if ticket is not None:
            return ticket
        report = await self._statements.find(key)
        if isinstance(report, OrderReport):
            return report
        if report is not ABSENT:
            raise Uncertain("The broker does not show what became of the position.")
        return None

    async def _modify(self, ticket: Ticket, stop: Decimal | None, target: Decimal | None) -> None:
        """Set both: to send one alone takes the other away. Raises Refused, Unreachable, Uncertain."""
        try:
            answer = await self._session.act(
                "OrderModifySafe",
                "OrderModify",
                ticket=ticket.number,
                stoploss=text(stop or ZERO),
                takeprofit=text(target or ZERO),
            )
        except OrderFault as fault:
            if fault.bridge_code not in UNCHANGED:
                raise fault.verdict from None
            return
        # A proxy's page is no word of the bridge's.
        if Record.of(answer).whole("ticket") <= 0:
            raise Uncertain("The bridge's answer has no ticket.")
