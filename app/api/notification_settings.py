"""Notification settings: where else you want to hear what you are told, and which types of it."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import AfterValidator, Field, SecretStr, Strict, StringConstraints, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.bodies import ExactRoute
from app.api.callers import Reader, Trader
from app.api.sessions import OpenDesk, Reading
from app.api.wire import Body, Instant, Text, View
from app.channels import discord
from app.desk import Desk
from app.domain.owners import Owner
from app.engine import channels as engine
from app.engine.channels import Wish
from app.settings import padded_webhook_secret
from app.store import channels as rows
from app.store import ownership
from app.store.channels import Channel, ChannelKind
from app.store.notifications import NotificationType

router = APIRouter(prefix="/notification-settings", tags=["notifications"], route_class=ExactRoute)

MOST_CHANNELS: Final = 10


def _signing(secret: SecretStr) -> SecretStr:
    return SecretStr(padded_webhook_secret(secret.get_secret_value()))


def _of_discord(url: SecretStr) -> SecretStr:
    if not re.fullmatch(discord.FORM, url.get_secret_value()):
        raise ValueError(
            "the URL of a Discord webhook is https://discord.com/api/webhooks/… with id and token"
        )
    return url


SigningSecret = Annotated[SecretStr, AfterValidator(_signing)]
DiscordUrl = Annotated[SecretStr, AfterValidator(_of_discord)]
EmailAddress = Annotated[
    str,
    Strict(),
    StringConstraints(
        max_length=254,
        # No question mark: a word of a header that is encoded, and could say anything, begins with one.
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=^_`{|}~-]{1,64}@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
        r"[A-Za-z]{2,63}$",
    ),
]
Chat = Annotated[str, Strict(), StringConstraints(pattern=r"^(-?[0-9]{1,16}|@[A-Za-z][A-Za-z0-9_]{4,31})$")]
Types = Annotated[list[NotificationType], Field(max_length=50, examples=[["sl_hit", "tp_hit", "error"]])]
Called = Annotated[Text, Field(examples=["Pager"])]


class WebhookDraft(Body):
    """A receiver of your own.

    Messages are signed by the Standard Webhooks scheme; the `webhook-id` is equal however often one is sent. Any 2xx
    within 15 s says that it has arrived; redirects are not followed.
    """

    kind: Literal[ChannelKind.WEBHOOK] = Field(examples=["webhook"])
    """`webhook`."""
    name: Called = "webhook"
    """What you call it; a channel goes on under its name."""
    types: Types
    """Which notifications it carries."""
    url: Annotated[str, Strict(), StringConstraints(max_length=2048)] = Field(
        examples=["https://you.example/notifications"]
    )
    """Where it listens: an https:// URL of the public internet."""
    secret: SigningSecret | None = Field(
        default=None, examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="]
    )
    """What messages are signed with, `whsec_` and the base64 of 24 to 64 bytes. Left out, the present one stays; for a
    new channel one is made, which the answer shows this once."""

    def wish(self) -> Wish:
        """The same for the engine."""
        return Wish(self.name, self.kind, self.types, self.url, _plain(self.secret))


class EmailDraft(Body):
    """An e-mail address."""

    kind: Literal[ChannelKind.EMAIL] = Field(examples=["email"])
    """`email`."""
    name: Called = "email"
    """What you call it; a channel goes on under its name."""
    types: Types
    """Which notifications it carries."""
    address: EmailAddress = Field(examples=["ann@mail.example"])
    """Who it is sent to."""

    def wish(self) -> Wish:
        """The same for the engine."""
        return Wish(self.name, self.kind, self.types, self.address)


class TelegramDraft(Body):
    """A Telegram chat that the operator's bot may write to."""

    kind: Literal[ChannelKind.TELEGRAM] = Field(examples=["telegram"])
    """`telegram`."""
    name: Called = "telegram"
    """What you call it; a channel goes on under its name."""
    types: Types
    """Which notifications it carries."""
    chat_id: Chat = Field(examples=["-1001234567890"])
    """The chat's number, or `@` and the name of a public channel."""

    def wish(self) -> Wish:
        """The same for the engine."""
        return Wish(self.name, self.kind, self.types, self.chat_id)


class DiscordDraft(Body):
    """An incoming webhook of a Discord channel."""

    kind: Literal[ChannelKind.DISCORD] = Field(examples=["discord"])
    """`discord`."""
    name: Called = "discord"
    """What you call it; a channel goes on under its name."""
    types: Types
    """Which notifications it carries."""
    url: DiscordUrl | None = Field(
        default=None, examples=["https://discord.com/api/webhooks/1305791/x8K2mPqzR7nTf3vYc1bL"]
    )
    """The webhook's URL as Discord shows it. It is as good as a password and never answered; left out, the present
    one stays."""

    def wish(self) -> Wish:
        """The same for the engine."""
        return Wish(self.name, self.kind, self.types, secret=_plain(self.url))


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


Draft = Annotated[WebhookDraft | EmailDraft | TelegramDraft | DiscordDraft, Field(discriminator="kind")]


class SettingsDraft(Body):
    """All of your channels: one that is not among them is removed, and what waits for it is given up."""

    channels: list[Draft] = Field(max_length=MOST_CHANNELS)
    """At most 10, each with a name of its own."""

    @model_validator(mode="after")
    def _are_told_apart(self) -> "SettingsDraft":
        if len({each.name for each in self.channels}) < len(self.channels):
            raise ValueError("two channels have the same name")
        return self


class ChannelView(View):
    """A channel, and how it does."""

    name: str = Field(examples=["Pager"])
    """What you call it."""
    kind: ChannelKind = Field(examples=["webhook"])
    """How it reaches you."""
    types: list[NotificationType] = Field(examples=[["sl_hit", "tp_hit", "error"]])
    """Which notifications it carries."""
    url: str | None = Field(examples=["https://you.example/notifications"])
    """Where a webhook listens; null for other kinds, and for Discord, whose URL is a secret."""
    address: str | None = Field(examples=["ann@mail.example"])
    """Who an e-mail is sent to; null for other kinds."""
    chat_id: str | None = Field(examples=["-1001234567890"])
    """The Telegram chat; null for other kinds."""
    secret_hint: str | None = Field(examples=["GKYo"])
    """The last four characters of the signing secret, or of the Discord URL; null for other kinds."""
    secret: str | None = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="])
    """The signing secret that was made just now: keep it, it is not shown again. Null at any other time."""
    pending: int = Field(examples=[0])
    """How many notifications wait to be sent."""
    last_error: str | None = Field(examples=["The receiver answered 503."])
    """Why the last attempt failed; null when it did not."""
    next_attempt_at: Instant | None
    """After a failure, when it is tried again. Each pause is twice the one before, from 5 s to 15 min; what has not
    arrived after 24 h is given up."""
    last_delivered_at: Instant | None
    """When something last arrived."""


class NotificationSettings(View):
    """Where you hear what you are told, besides here."""

    channels: list[ChannelView]
    """Your channels, by name."""
    available: list[ChannelKind] = Field(examples=[["discord", "email", "webhook"]])
    """The kinds of channels that this installation offers."""


def _shown(channel: Channel, pending: int, secret: str | None) -> ChannelView:
    targets = {"url": ChannelKind.WEBHOOK, "address": ChannelKind.EMAIL, "chat_id": ChannelKind.TELEGRAM}
    return ChannelView.of(
        channel,
        secret_hint=channel.credentials_hint,
        secret=secret,
        pending=pending,
        next_attempt_at=channel.next_at if channel.failures else None,
        **{field: channel.target if channel.kind is kind else None for field, kind in targets.items()},
    )


async def _settings(
    session: AsyncSession, desk: Desk, owner: Owner, made: Mapping[UUID, str]
) -> NotificationSettings:
    mine = await rows.of_owner(session, owner)
    pending = await rows.pending(session, [each.id for each in mine])
    return NotificationSettings(
        channels=[_shown(each, pending.get(each.id, 0), made.get(each.id)) for each in mine],
        available=sorted(desk.outlets.senders),
    )


@router.get("")
async def get_notification_settings(caller: Reader, desk: OpenDesk, session: Reading) -> NotificationSettings:
    """Your channels, and how each does."""
    return await _settings(session, desk, caller.owner, {})


@router.put("")
async def replace_notification_settings(
    settings: SettingsDraft, caller: Trader, desk: OpenDesk
) -> NotificationSettings:
    """Replace your channels as a whole.

    A channel goes on under its name and kind: with its secret unless you give another, and with what waits for it,
    which is sent to where the channel now leads.
    """
    made = await engine.replace(desk, caller.owner, [each.wish() for each in settings.channels])
    async with ownership.reading(desk.sessions, caller.owner) as session:
        return await _settings(session, desk, caller.owner, made)
