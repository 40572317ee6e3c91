"""Intake: what the signal platform says is made durable before it is answered.

A published signal costs one statement: the event, the signal and one execution per eligible connection are written
together or not at all. Redis is rung afterwards and may be away.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.desk import Desk
from app.store import entitlements, events, signals
from app.store.events import Event, Reception
from app.store.schema import NEW_ID_SQL, new_id

log = structlog.get_logger(__name__)

FIRST_CHANCE = timedelta(seconds=3)
"""How long rung work is left to the queue before the sweep takes it up."""

DURABLE_WITHIN: Final = timedelta(seconds=3)
"""How long the database has to take an event in. Its sender repeats what was not answered, and a repetition that
finds the event there after all is a duplicate."""


@dataclass(frozen=True, slots=True)
class Message:
    """A verified webhook message. `data` holds JSON with amounts as exact decimal strings."""

    webhook_id: str
    type: str
    timestamp: datetime
    body_sha256: bytes
    data: Mapping[str, Any]
    provider: str | None = None
    source_id: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the sender is answered."""

    event_id: str
    signal_id: UUID | None
    status: Reception


_GIVEN: Final[Mapping[str, str]] = {
    "event_id": "uuid",
    "webhook_id": "varchar",
    "type": "varchar",
    "provider": "varchar",
    "source_id": "varchar",
    "timestamp": "timestamptz",
    "data": "jsonb",
    "body_sha256": "bytea",
    "signal_id": "uuid",
    "symbol": "varchar",
    "market": "varchar",
    "direction": "varchar",
    "order_type": "varchar",
    "entry_price": "numeric",
    "stop_loss": "numeric",
    "take_profits": "jsonb",
    "quantity": "numeric",
    "timeframe": "varchar",
    "plans": "varchar[]",
    "published_at": "timestamptz",
    "expires_at": "timestamptz",
    "title": "varchar",
    "note": "varchar",
    "now": "timestamptz",
    "due_at": "timestamptz",
    "plans_needed": "boolean",
}
"""What `_PUBLISH` is given, in the order of its parameters, and of which type each is."""

_PUBLISH: Final = f"""
    WITH given AS (
        SELECT {", ".join(f"${number}::{type_} AS {name}" for number, (name, type_) in enumerate(_GIVEN.items(), 1))}
    ), event AS (
        INSERT INTO execution_events
            (id, webhook_id, type, provider, source_id, timestamp, data, body_sha256, status, received_at)
        SELECT event_id, webhook_id, type, provider, source_id, timestamp, data, body_sha256,
               CASE WHEN EXISTS (SELECT FROM execution_signals AS known
                                 WHERE known.provider = given.provider AND known.source_id = given.source_id)
                    THEN 'duplicate' ELSE 'accepted' END,
               now
        FROM given
        ON CONFLICT (webhook_id) DO NOTHING
        RETURNING id
    ), signal AS (
        INSERT INTO execution_signals
            (id, provider, source_id, symbol, market, direction, order_type, entry_price, stop_loss,
             take_profits, quantity, timeframe, plans, published_at, expires_at, title, note, received_at)
        SELECT signal_id, provider, source_id, symbol, market, direction, order_type, entry_price, stop_loss,
               take_profits, quantity, timeframe, plans, published_at, expires_at, title, note, now
        FROM given CROSS JOIN event
        ON CONFLICT (provider, source_id) DO NOTHING
        RETURNING id
    ), started AS (
        INSERT INTO execution_logs
            (id, signal_id, connection_id, owner_role, owner_id, status, symbol, direction, order_type,
             due_at, received_at, queued_at, created_at, updated_at)
        SELECT {NEW_ID_SQL},
               signal.id, connection.id, connection.owner_role, connection.owner_id, 'pending',
               given.symbol, given.direction, given.order_type, given.due_at,
               given.now, given.now, given.now, given.now
        FROM given
        CROSS JOIN signal
        CROSS JOIN execution_connections AS connection
        LEFT JOIN execution_entitlements AS entitlement
               ON connection.owner_role = 'user' AND entitlement.user_id = connection.owner_id
        WHERE connection.status = 'active' AND connection.deleted_at IS NULL
          AND (given.market IS NULL
               OR given.market = CASE WHEN connection.kind = 'fx' THEN 'fx' ELSE 'crypto' END)
          AND (connection.owner_role = 'admin' OR NOT given.plans_needed
               OR (entitlement.user_id IS NOT NULL
                   AND (entitlement.expires_at IS NULL OR entitlement.expires_at > given.now)
                   AND (cardinality(given.plans) = 0 OR entitlement.plans && given.plans)))
        RETURNING id
    )
    SELECT (SELECT id FROM signal) AS signal_id, (SELECT array_agg(id) FROM started) AS execution_ids
"""


async def publish(desk: Desk, message: Message, signal: Mapping[str, Any]) -> Receipt:
    """Store a new signal with its executions and ring for them; a signal known already is a duplicate.

    `signal` holds the columns of `execution_signals` that the source decides. Raises TimeoutError, like all that
    takes events in, when the database has not answered in time.
    """
    now = desk.now()
    values = {
        **signal,
        **_event_values(message, now),
        "signal_id": new_id(),
        "event_id": new_id(),
        "due_at": now + FIRST_CHANCE,
        "plans_needed": desk.entitlements_required,
    }
    async with _in_time():
        signal_id, execution_ids = await _publish(desk, values)
        if signal_id is None:
            async with desk.sessions() as session:
                known = await signals.id_of(session, message.provider or "", message.source_id or "")
            return Receipt(message.webhook_id, known, Reception.DUPLICATE)
    log.info("signal_accepted", signal_id=str(signal_id), executions=len(execution_ids))
    await desk.queue.execute(execution_ids)
    return Receipt(message.webhook_id, signal_id, Reception.ACCEPTED)


def _in_time() -> asyncio.Timeout:
    return asyncio.timeout(DURABLE_WITHIN.total_seconds())


async def _publish(desk: Desk, values: Mapping[str, Any]) -> tuple[UUID | None, Sequence[UUID]]:
    """Run `_PUBLISH`; answers the new signal, None where it is known already, and its executions.

    It goes to the driver itself, as this is the one statement whose cost counts: one round trip, since outside a
    transaction a statement commits itself, and a third of the work that a session makes of it.
    """
    database: AsyncEngine = desk.sessions.kw["bind"]
    # A raw connection of the pool's own could not be closed from here where the pool is full: it would be left behind.
    async with database.connect() as connection:
        pooled = await connection.get_raw_connection()
        driver: Any = pooled.driver_connection
        try:
            row = await driver.fetchrow(_PUBLISH, *(values[name] for name in _GIVEN))
        except asyncio.CancelledError:
            # What the server still does on this connection nobody waits for: it goes, and not back into the pool.
            pooled.invalidate()
            raise
    return row["signal_id"], row["execution_ids"] or ()


async def change_signal(desk: Desk, message: Message) -> Receipt:
    """Store an update, cancel or close of a signal, known already or not, and ring for what is under way from it."""
    now = desk.now()
    provider, source_id = message.provider or "", message.source_id or ""
    async with _in_time(), desk.sessions.begin() as session:
        await events.speak(session, provider, source_id)
        event_id = await session.scalar(
            _insert_event(message, Reception.ACCEPTED, now, due_at=now + FIRST_CHANCE)
        )
        signal_id = await signals.id_of(session, provider, source_id)
    if event_id is None:
        return Receipt(message.webhook_id, signal_id, Reception.DUPLICATE)
    log.info(
        "signal_event_accepted",
        type=message.type,
        event_id=str(event_id),
        # It may have come before its signal.
        signal_id=None if signal_id is None else str(signal_id),
    )
    await desk.queue.follow(event_id)
    return Receipt(message.webhook_id, signal_id, Reception.ACCEPTED)


async def subscribe(
    desk: Desk,
    message: Message,
    *,
    user_id: str,
    plans: Sequence[str],
    expires_at: datetime | None,
    max_connections: int | None,
) -> Receipt:
    """Store a user's entitlement; of several statements the one with the greatest timestamp holds."""
    now = desk.now()
    async with _in_time(), desk.sessions.begin() as session:
        event_id = await session.scalar(_insert_event(message, Reception.ACCEPTED, now))
        if event_id is None:
            return Receipt(message.webhook_id, None, Reception.DUPLICATE)
        await entitlements.state(
            session,
            user_id=user_id,
            plans=plans,
            expires_at=expires_at,
            max_connections=max_connections,
            stated_at=message.timestamp,
            now=now,
        )
    return Receipt(message.webhook_id, None, Reception.ACCEPTED)


async def ignore(desk: Desk, message: Message) -> Receipt:
    """Keep an event of a type we do not know, and say so."""
    async with _in_time(), desk.sessions.begin() as session:
        event_id = await session.scalar(_insert_event(message, Reception.IGNORED, desk.now()))
    return Receipt(message.webhook_id, None, Reception.IGNORED if event_id else Reception.DUPLICATE)


async def entitle(desk: Desk, user_id: str, plans: Sequence[str], expires_at: datetime | None) -> None:
    """State an entitlement by hand, as of now, for installations without a platform behind them."""
    async with desk.sessions.begin() as session:
        await _state_by_hand(session, user_id, plans, expires_at, desk.now())


async def entitle_unless_current(desk: Desk, user_id: str) -> None:
    """Entitle a user without end, unless they have an entitlement that is current."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        known = await entitlements.of_user(session, user_id)
        if known is None or not known.is_current(now):
            await _state_by_hand(session, user_id, (), None, now)


async def _state_by_hand(
    session: AsyncSession, user_id: str, plans: Sequence[str], expires_at: datetime | None, now: datetime
) -> None:
    await entitlements.state(
        session,
        user_id=user_id,
        plans=plans,
        expires_at=expires_at,
        max_connections=None,
        stated_at=now,
        now=now,
    )


def _event_values(message: Message, now: datetime) -> dict[str, Any]:
    return {
        "webhook_id": message.webhook_id,
        "type": message.type,
        "provider": message.provider,
        "source_id": message.source_id,
        "timestamp": message.timestamp,
        "body_sha256": message.body_sha256,
        "data": json.dumps(message.data),
        "now": now,
    }


def _insert_event(
    message: Message, status: Reception, now: datetime, *, due_at: datetime | None = None
) -> Any:
    """Insert unless the webhook id is known already; answers the new row's id or nothing."""
    return (
        insert(Event)
        .values(
            id=new_id(),
            webhook_id=message.webhook_id,
            type=message.type,
            provider=message.provider,
            source_id=message.source_id,
            timestamp=message.timestamp,
            data=dict(message.data),
            body_sha256=message.body_sha256,
            status=status,
            received_at=now,
            due_at=due_at,
        )
        .on_conflict_do_nothing(index_elements=[Event.webhook_id])
        .returning(Event.id)
    )
