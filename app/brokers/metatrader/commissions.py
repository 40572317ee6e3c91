"""Commissions: what a broker last charged for a lot, where its symbols do not tell."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from app.brokers.metatrader.books import History, Opening, Part
from app.brokers.metatrader.rows import history_of_deals, history_of_tickets
from app.brokers.metatrader.session import Session
from app.domain.money import ZERO, exact


async def history(session: Session, since: datetime, until: datetime) -> History:
    """What happened on the account in between. Raises VenueError."""
    server = await session.server_time()
    answer = await session.ask(
        "OrderHistory", **{"from": server.text(since), "to": server.text(until + timedelta(days=1))}
    )
    read = history_of_deals if session.platform.has_deals else history_of_tickets
    return read(answer, server)


async def per_lot(session: Session, since: datetime, until: datetime) -> Mapping[str, Decimal]:
    """In and out, by symbol, in the account's currency. Raises VenueError."""
    return charged(await history(session, since, until))


@exact
def charged(told: History) -> Mapping[str, Decimal]:
    """The newest charge of each way, per lot; a symbol that was never traded is left out."""
    total: dict[str, Decimal] = {}
    for way in (told.openings, told.parts):
        for symbol, fee in _newest(way).items():
            total[symbol] = total.get(symbol, ZERO) + fee
    return total


def _newest(way: Iterable[Opening | Part]) -> Mapping[str, Decimal]:
    dated = [(each.at, each) for each in way if each.at is not None]
    return {
        each.symbol: max(each.fees, ZERO) / each.lots for _, each in sorted(dated, key=lambda one: one[0])
    }
