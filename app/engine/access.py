"""Access: from a connection's row to its open broker, and from what that says to what the row keeps."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from decimal import Decimal
from typing import Final, TypeVar

from app.brokers.directory import Access
from app.brokers.port import Account, Broker, Unreachable
from app.desk import Desk
from app.domain.portfolios import Snapshot
from app.store.connections import Connection

ANSWER_WITHIN: Final = timedelta(seconds=30)
"""How long a question may take that a round asks, however many requests it comes to: later it is another round's."""

T = TypeVar("T")


def access_of(connection: Connection) -> Access:
    """What it takes to open the broker of a connection."""
    return Access(
        connection_id=connection.id,
        credentials_version=connection.credentials_version,
        kind=connection.kind,
        exchange=connection.exchange,
        market_type=connection.market_type,
        sandbox=connection.sandbox,
        leverage=connection.leverage or Decimal(1),
        native_protection=bool(connection.protection.get("native", True)),
        paper=connection.paper,
        credentials_sealed=connection.credentials_sealed,
        margin_mode=connection.margin_mode,
    )


async def broker_of(desk: Desk, connection: Connection) -> Broker:
    """The connection's broker, opened on first use. Raises VenueError."""
    return await desk.brokers.open(access_of(connection))


async def in_time(question: Awaitable[T], within: timedelta = ANSWER_WITHIN) -> T:
    """The answer to a question, which changes nothing at the venue. Raises Unreachable without one, VenueError."""
    try:
        async with asyncio.timeout(within.total_seconds()):
            return await question
    except TimeoutError:
        raise Unreachable("It did not answer in time.") from None


def snapshots_of(account: Account) -> dict[str, Snapshot]:
    """Balance and equity of an account per currency; where the venue tells no equity, it is the balance."""
    return {
        currency: Snapshot(balance.total, account.equity.get(currency, balance.total))
        for currency, balance in account.balances.items()
    }
