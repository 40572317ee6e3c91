"""Delivering: what an owner is told goes out on their channels, until it has arrived or a day is over.

The deliveries that wait are the queue. A channel, not a delivery, is taken, paused and shared out: one that is down
costs one attempt per pause, however much waits for it. What was sent and not recorded is sent again, under the same id.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import event, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.channels.port import Destination, Message, NotDelivered
from app.desk import Desk
from app.store import channels
from app.store.channels import Channel, Delivery, DeliveryStatus
from app.store.notifications import WAITING, Notification
from app.vault import CannotOpen

log = structlog.get_logger(__name__)

LIFETIME: Final = timedelta(hours=24)
"""After this a notification is given up."""

TURN: Final = timedelta(seconds=20)
"""How long one channel is served before others have their turn."""

FIRST_PAUSE: Final = timedelta(seconds=5)
"""After one failure; it doubles with each that follows."""

LONGEST_PAUSE: Final = timedelta(minutes=15)


def attach(desk: Desk) -> None:
    """Ring for the deliveries that this desk's sessions write, after each commit."""

    def ring(session: Session) -> None:
        if waiting := session.info.pop(WAITING, None):
            desk.queue.deliver(waiting)

    def drop(session: Session) -> None:
        session.info.pop(WAITING, None)

    watched = desk.sessions.kw["sync_session_class"]
    event.listen(watched, "after_commit", ring)
    event.listen(watched, "after_rollback", drop)


async def deliver(desk: Desk, channel_id: UUID) -> None:
    """Send what waits for a channel, one after another, until one fails.

    Does nothing where the channel rests or another sends, and where this process has its hands full: the next round
    finds it again.
    """
    if desk.outlets.room.locked():
        return
    async with desk.outlets.room:
        until = desk.now() + TURN
        while desk.now() < until and await _deliver_one(desk, channel_id):
            pass


async def _deliver_one(desk: Desk, channel_id: UUID) -> bool:
    """Send one delivery; False when there is none, or it failed."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        # Longer than one message can take, so that a channel is its sender's until that is recorded.
        channel = await channels.take(session, channel_id, now, now + 2 * desk.outlets.patience)
        delivery = None if channel is None else await _claim(session, channel, now)
        if channel is None or delivery is None:
            return False
        notification = await session.get_one(Notification, delivery.notification_id)
    words = {"delivery_id": str(delivery.id), "channel": channel.kind, "attempt": delivery.attempts}
    try:
        to = Destination(channel.target, _opened(desk, channel))
        await desk.outlets.send(channel.kind, _message(notification, delivery.id, now), to)
    except NotDelivered as failure:
        log.warning("notification_not_delivered", reason=str(failure), **words)
        error: str | None = str(failure)[:300]
    else:
        log.info("notification_delivered", **words)
        error = None
    desk.metrics.deliveries.labels(channel.kind, "failed" if error else "delivered").inc()
    async with desk.sessions.begin() as session:
        await _record(session, channel, delivery, error, desk.now())
    return error is None


async def _claim(session: AsyncSession, channel: Channel, now: datetime) -> Delivery | None:
    """The delivery that is tried now, counted as tried; None lets go of the channel."""
    if channel.removed_at is None:
        await channels.give_up(session, channel.id, now - LIFETIME, "A day has passed.")
    else:
        await channels.give_up(session, channel.id, now, "The channel was removed.")
    delivery = await channels.next_delivery(session, channel.id)
    if delivery is None:
        channel.next_at = now
    else:
        delivery.attempts += 1
    return delivery


async def _record(
    session: AsyncSession, channel: Channel, delivery: Delivery, error: str | None, now: datetime
) -> None:
    """What became of an attempt; what others have done meanwhile, after a lease ran out, is left alone."""
    outcome: dict[str, Any] = {"last_error": error}
    state: dict[str, Any] = {"last_error": error}
    if error is None:
        outcome |= {"status": DeliveryStatus.DELIVERED, "delivered_at": now}
        state |= {"failures": 0, "next_at": now, "last_delivered_at": now}
    else:
        state |= {"failures": channel.failures + 1, "next_at": now + pause(channel.failures + 1)}
    await session.execute(
        update(Delivery)
        .where(Delivery.id == delivery.id, Delivery.status == DeliveryStatus.PENDING)
        .values(outcome)
    )
    await session.execute(
        update(Channel).where(Channel.id == channel.id, Channel.next_at == channel.next_at).values(state)
    )


def pause(failures: int) -> timedelta:
    """How long a channel rests after so many failures in a row."""
    doublings = min(failures, 16) - 1
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)


def _opened(desk: Desk, channel: Channel) -> dict[str, str]:
    """A channel's credentials. Raises NotDelivered."""
    if channel.credentials_sealed is None:
        return {}
    try:
        return desk.vault.unseal(
            channel.credentials_sealed,
            kind="channel",
            row_id=channel.id,
            version=channel.credentials_version,
        )
    except CannotOpen as failure:
        log.error("credentials_unopened", row_id=str(channel.id), reason=str(failure))
        raise NotDelivered("The channel's secret cannot be opened; set it again.") from None


def _message(told: Notification, delivery_id: UUID, now: datetime) -> Message:
    data = {
        "id": str(told.id),
        "type": told.type.value,
        "title": told.title,
        "message": told.message,
        "data": told.data,
        "connection_id": _text(told.connection_id),
        "signal_id": _text(told.signal_id),
        "position_id": _text(told.position_id),
        "created_at": told.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
    return Message(
        id=delivery_id, title=told.title, text=told.message, data=data, told_at=told.created_at, sent_at=now
    )


def _text(id_: UUID | None) -> str | None:
    return None if id_ is None else str(id_)
