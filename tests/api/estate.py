"""Estates: one of everything an owner can own, and a look at whether anything in the database has changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from app.desk import Sessions
from app.domain.orders import OrderStatus, OrderType, Purpose, Side
from app.domain.owners import Owner, Role
from app.store import tables
from app.store.analytics import DailyRow
from app.store.audit import Action, AuditEntry
from app.store.connections import ConnectionStatus
from app.store.executions import ExecutionStatus
from app.store.funding import FundingRow
from app.store.orders import Order
from app.store.schema import Base, new_id
from tests.api.scene import NOON, Rows

ANOTHER: Final[Mapping[str, str]] = {
    "activate_connection": "idle",
    "cancel_execution": "pending",
    "resolve_execution": "in_review",
}
"""Which of an owner's things an operation can serve, where it is not the usual one."""


@dataclass(frozen=True)
class Estate:
    """What an owner has."""

    owner: Owner
    marker: str
    """Stands in every text of it, and nowhere else."""
    ids: Mapping[str, UUID]
    """By the parameter that names it."""
    special: Mapping[str, UUID]
    """Things in another state, by that state."""
    since: str = ""
    """The `id` in event streams that all of it comes after."""

    def for_operation(self, operation_id: str) -> dict[str, UUID]:
        """The ids an operation is asked about, such that it can serve them."""
        ids = dict(self.ids)
        if operation_id in ANOTHER:
            of = "connection_id" if operation_id == "activate_connection" else "execution_id"
            ids[of] = self.special[ANOTHER[operation_id]]
        return ids

    def shows_in(self, answer: str) -> bool:
        """Whether any of it is told in an answer."""
        every = (*self.ids.values(), *self.special.values())
        return self.marker in answer or any(str(each) in answer for each in every)


async def settle(rows: Rows, owner: Owner, since: str = "") -> Estate:
    """Give an owner one of everything, and a plan where the owner is a user."""
    marker = f"marker{new_id().hex}"
    if owner.role is Role.USER:
        await rows.entitle(owner)
    connection = await rows.connection(owner, name=marker)
    idle = await rows.connection(owner, name=marker, status=ConnectionStatus.INACTIVE)
    signal = await rows.signal(title=marker)
    position = await rows.position(connection)
    closed = await rows.closed_position(connection)
    pending = await rows.execution(
        connection, status=ExecutionStatus.PENDING, attempts=0, due_at=NOON, message=marker
    )
    in_review = await rows.execution(connection, signal, status=ExecutionStatus.NEEDS_REVIEW)
    channel = await rows.channel(owner, name=marker, last_error=marker)
    # Its delivery is written with it.
    notification = await rows.notification(
        owner, message=marker, connection_id=connection.id, position_id=closed.id
    )
    doubtful = _order(connection.id, in_review.id, status=OrderStatus.NEEDS_REVIEW, signed_at=NOON)
    entry = AuditEntry(action=Action.DAILY_LOSS, connection_id=connection.id, reason=marker, created_at=NOON)
    await rows.add(doubtful, _daily(connection.id), _funding(connection.id, position.id), entry)
    ids = {
        "connection_id": connection.id,
        "position_id": position.id,
        "execution_id": position.execution_id,
        "signal_id": signal.id,
        "notification_id": notification.id,
    }
    special = {
        "idle": idle.id,
        "pending": pending.id,
        "in_review": in_review.id,
        "closed": closed.id,
        "audited": entry.id,
        "channel": channel.id,
    }
    return Estate(owner, marker, ids, special, since)


def _order(connection_id: UUID, execution_id: UUID, **columns: Any) -> Order:
    return Order(
        **{
            "id": new_id(),
            "connection_id": connection_id,
            "execution_id": execution_id,
            "purpose": Purpose.ENTRY,
            "symbol": "BTC/USDT",
            "base": "BTC",
            "currency": "USDT",
            "side": Side.BUY,
            "type": OrderType.MARKET,
            "quantity": Decimal("0.01"),
            "attempt": 1,
            "client_order_id": execution_id.hex,
            "created_at": NOON,
            "updated_at": NOON,
        }
        | columns
    )


def _funding(connection_id: UUID, position_id: UUID) -> FundingRow:
    return FundingRow(
        connection_id=connection_id,
        position_id=position_id,
        symbol="BTC/USDT:USDT",
        venue_id="1",
        amount=Decimal("-0.1"),
        currency="USDT",
        time=NOON,
        created_at=NOON,
    )


def _daily(connection_id: UUID) -> DailyRow:
    nothing = dict.fromkeys(("gross_profit", "gross_loss", "net_pnl", "fees", "max_drawdown"), Decimal(0))
    none = dict.fromkeys(
        ("trades", "wins", "losses", "breakeven", "longest_win_streak", "longest_loss_streak"), 0
    )
    return DailyRow(
        connection_id=connection_id,
        day=date(2026, 11, 23),
        currency="USDT",
        computed_at=NOON,
        **nothing,
        **none,
    )


TABLES: Final = tables.__all__
"""Importing them all is what fills the metadata."""


_LOOKS: Final = ("due_at", "misses", "missed_at", "message")
"""What the engine notes of an order whenever it asks a venue what became of it."""


async def fingerprint(sessions: Sessions, *, apart_from_looks: bool = False) -> dict[str, str]:
    """A hash of every table's rows, and how many they are: equal as long as nothing was written.

    The paper venue's book is left out: it is a venue, which opens an account when it is asked for its balance. So is,
    `apart_from_looks`, what was noted of orders because a venue was asked about them: that is nobody's change.
    """
    looks = " - ".join(("", *(f"'{column}'" for column in _LOOKS))) if apart_from_looks else ""
    names = sorted(name for name in Base.metadata.tables if not name.startswith("paper_"))
    rows_of = " UNION ALL ".join(
        f"SELECT '{table}', count(*) || ' ' || "
        f"md5(coalesce(string_agg(md5({text_of}), '' ORDER BY md5({text_of})), '')) FROM {table} AS row"
        for table in names
        for text_of in [f"(to_jsonb(row){looks if table == 'execution_orders' else ''})::text"]
    )
    async with sessions() as session:
        return {row[0]: row[1] for row in await session.execute(text(rows_of))}
