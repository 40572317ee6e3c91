"""Statements: what an account shows, read so that something missing from it means that it is not there.

A bridge whose line to the broker is down shows empty lists, and the request that proves the line sound opens it again
first. So whatever a first reading lacks is read once more behind that proof, and from further back, since the bridge
may be wrong about the broker's clock.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from app.brokers.metatrader import rows
from app.brokers.metatrader.books import History, Ticket
from app.brokers.metatrader.commissions import history
from app.brokers.metatrader.lookups import LOOK_BACK, Books
from app.brokers.metatrader.market import AccountMarket
from app.brokers.metatrader.marks import Handle
from app.brokers.metatrader.positions import Positions
from app.brokers.metatrader.session import Session
from app.brokers.port import AMBIGUOUS, CANNOT_SAY, Holding, Silence, Unreachable
from app.domain.orders import OrderKey, OrderReport, OrderStatus
from app.domain.positions import PositionSide

_FAR_BACK: Final = timedelta(days=2)
"""How long ago a position may have ended that we still think open; more than any clock is off."""


class Statements:
    """What one account's bridge tells of it. All of it raises VenueError."""

    def __init__(self, session: Session, market: AccountMarket, now: Callable[[], datetime]) -> None:
        self._session = session
        self._market = market
        self._now = now

    async def tickets(self) -> list[Ticket]:
        """Everything that is open, pending orders among it."""
        server = await self._session.server_time()
        return rows.tickets(await self._session.ask("OpenedOrders"), server)

    async def open_positions(self) -> Positions:
        """What is open, without what happened before."""
        return self._positions(await self.tickets(), History())

    async def positions(self, since: datetime) -> Positions:
        """What is open, and what happened since then."""
        past = await history(self._session, since - LOOK_BACK, self._now())
        return self._positions(await self.tickets(), past)

    async def lately(self) -> Positions:
        """What is open, and how whatever we may still think open has ended."""
        return await self.positions(self._now() - _FAR_BACK)

    async def books(self, since: datetime) -> Books:
        """What became of orders that were signed since then, ended pending orders among them."""
        past = await self._whole_history(since)
        return await self._books(await self.tickets(), past)

    async def find(self, key: OrderKey) -> OrderReport | Silence:
        """What became of one order."""
        seen = (await self.books(key.signed_at)).report(key)
        if isinstance(seen, OrderReport) or seen is AMBIGUOUS:
            return seen
        proven = await self._proven_books(key.signed_at)
        return CANNOT_SAY if proven is None else proven.report(key)

    async def survey(self, keys: Sequence[OrderKey]) -> Mapping[str, OrderReport | Silence]:
        """The same for many: what rests untouched is seen in one look at all that is open."""
        if not keys:
            return {}
        tickets = await self.tickets()
        resting = await self._books(tickets, History())
        answers = {key.client_order_id: resting.report(key) for key in keys}
        unseen = [key for key in keys if not _rests(answers[key.client_order_id])]
        if not unseen:
            return answers
        oldest = min(key.signed_at for key in unseen)
        whole = await self._books(tickets, await self._whole_history(oldest))
        answers = {key.client_order_id: whole.report(key) for key in keys}
        unseen = [key for key in keys if not isinstance(answers[key.client_order_id], OrderReport)]
        if unseen:
            proven = await self._proven_books(oldest)
            answers |= {
                key.client_order_id: CANNOT_SAY if proven is None else proven.report(key) for key in unseen
            }
        return answers

    async def holdings(self, handles: Collection[str]) -> list[Holding]:
        """Open lots, ticket by ticket; those that `handles` name under what names them from now on."""
        asked = {name: Handle.read(name) for name in handles}
        shown = await self.open_positions()
        if not shown.tickets or any(shown.ticket(handle) is None for handle in asked.values()):
            if not await self._session.is_healthy():
                raise Unreachable("The bridge shows less than there was, on a session that is not sound.")
            shown = await self.lately()
        elif any(shown.untold(handle) for handle in asked.values()):
            shown = await self.lately()
        named = {
            ticket.number: (name, shown.renewed(handle))
            for name, handle in asked.items()
            if (ticket := shown.ticket(handle)) is not None
        }
        return [_holding(each, *named.get(each.number, (None, None))) for each in shown.open_ones]

    async def _proven_books(self, since: datetime) -> Books | None:
        """The books behind a proof that the session is sound; None where it is not."""
        return await self.books(since - _FAR_BACK) if await self._session.is_healthy() else None

    async def _whole_history(self, since: datetime) -> History:
        now = self._now()
        past = await history(self._session, since - LOOK_BACK, now)
        if not self._session.platform.has_deals:
            return past
        server = await self._session.server_time()
        period = {"from": server.text(since - LOOK_BACK), "to": server.text(now + timedelta(days=1))}
        told = await self._session.has("PendingOrderHistory", **period)
        return past if told is None else replace(past, ended=rows.ended_of(told))

    async def _books(self, tickets: Sequence[Ticket], past: History) -> Books:
        return Books(self._positions(tickets, past), await self._market.currency())

    def _positions(self, tickets: Sequence[Ticket], past: History) -> Positions:
        return Positions(tickets, past, self._session.platform.has_deals)


def _rests(answer: OrderReport | Silence) -> bool:
    """Whether an order stands as it was placed: nothing more has to be asked."""
    return isinstance(answer, OrderReport) and answer.status is OrderStatus.OPEN


def _holding(ticket: Ticket, asked_as: str | None, handle: Handle | None) -> Holding:
    named = None if handle is None else handle.text()
    return Holding(ticket.symbol, PositionSide.opened_by(ticket.side), ticket.lots, asked_as, named)
