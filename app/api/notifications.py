"""Notifications: what you were told, and what of it you have read."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import Field
from sqlalchemy import ColumnElement, select

from app.api.bodies import ExactRoute
from app.api.callers import Reader, Trader
from app.api.problems import raises
from app.api.sessions import OpenDesk, Reading
from app.api.wire import Instant, Page, Paging, View, page
from app.engine.notifying import mark_all_read, mark_read
from app.store import notifications as rows
from app.store.channels import ChannelKind, Delivery, DeliveryStatus
from app.store.notifications import NotificationType

router = APIRouter(prefix="/notifications", tags=["notifications"], route_class=ExactRoute)

NotificationId = Annotated[UUID, Path(description="The notification's id.")]


class DeliveryView(View):
    """What became of a notification on one of your channels."""

    id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000008"])
    """The delivery's id: the `webhook-id` of a webhook, equal for every attempt."""
    channel: str = Field(examples=["Pager"])
    """The channel's name."""
    kind: ChannelKind = Field(examples=["webhook"])
    """The kind of channel."""
    status: DeliveryStatus = Field(examples=["delivered"])
    """`pending` until it has arrived; `given_up` after 24 h, or with its channel."""
    attempts: int = Field(examples=[1])
    """How often it was tried."""
    last_error: str | None = Field(examples=["The receiver answered 503."])
    """Why it has not arrived; null when it has, and before the first attempt."""
    delivered_at: Instant | None
    """When it arrived."""

    @classmethod
    def shown(cls, row: Delivery) -> "DeliveryView":
        """The view of a row that was read with its channel."""
        return cls.of(row, channel=row.channel.name, kind=row.channel.kind)


class Notification(View):
    """One thing you were told."""

    id: UUID = Field(examples=["019aa5c2-7c00-7000-8000-000000000006"])
    """The notification's id."""
    type: NotificationType = Field(examples=["tp_hit"])
    """What it is about."""
    title: str = Field(examples=["BTC/USDT: take-profit hit"])
    """A headline."""
    message: str = Field(examples=["The take-profit closed 0.005 BTC/USDT at 27150.5."])
    """What happened, in words."""
    data: dict[str, Any] = Field(examples=[{"quantity": "0.005", "price": "27150.5"}])
    """The same for programs; amounts are decimal strings."""
    connection_id: UUID | None = Field(examples=["019aa5c2-7c00-7000-8000-000000000004"])
    """The account it is about."""
    signal_id: UUID | None = Field(examples=["019aa5c2-7c00-7000-8000-000000000003"])
    """The signal it is about."""
    position_id: UUID | None = Field(examples=["019aa5c2-7c00-7000-8000-000000000001"])
    """The position it is about."""
    read_at: Instant | None
    """When you marked it as read; null while it is unread."""
    created_at: Instant
    """When it happened."""
    deliveries: list[DeliveryView]
    """What became of it on your channels; see `/v1/notification-settings`."""

    @classmethod
    def shown(cls, row: rows.Notification) -> "Notification":
        """The view of a row that was read with its deliveries."""
        return cls.of(row, deliveries=[DeliveryView.shown(each) for each in row.deliveries])


class NotificationQuery(Paging):
    """Which notifications are wanted."""

    unread: bool | None = Field(default=None, examples=[True])
    """True for unread ones only, false for read ones only."""
    type: list[NotificationType] = Field(default_factory=list, examples=[["sl_hit"]])
    """Only those of this type; may be given more than once."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same, as the database reads it."""
        wanted: list[ColumnElement[bool]] = []
        if self.unread is not None:
            is_unread = rows.Notification.read_at.is_(None)
            wanted.append(is_unread if self.unread else ~is_unread)
        if self.type:
            wanted.append(rows.Notification.type.in_(self.type))
        return wanted


class Marked(View):
    """How many notifications were marked as read."""

    read: int = Field(examples=[3])
    """How many were unread before."""


@router.get("")
async def list_notifications(
    caller: Reader, session: Reading, query: Annotated[NotificationQuery, Query()]
) -> Page[Notification]:
    """Your notifications, newest first."""
    mine = select(rows.Notification).where(rows.owned_by(caller.owner), *query.conditions())
    told = mine.options(rows.WITH_DELIVERIES)
    return await page(session, told, rows.Notification.id, query, Notification.shown)


@router.post("/{notification_id}/read", responses=raises("not_found"))
async def read_notification(notification_id: NotificationId, caller: Trader, desk: OpenDesk) -> Notification:
    """Mark one as read; doing it again keeps the first time."""
    return Notification.shown(await mark_read(desk, caller.owner, notification_id))


@router.post("/read-all")
async def read_all_notifications(caller: Trader, desk: OpenDesk) -> Marked:
    """Mark all of yours as read."""
    return Marked(read=await mark_all_read(desk, caller.owner))
