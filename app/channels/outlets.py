"""Outlets: the kinds of channels that this installation has, and how many messages are under way at once."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from app.channel_settings import ChannelSettings
from app.channels.discord import Discord
from app.channels.mail import Mail
from app.channels.port import Destination, Message, NotDelivered, Sender
from app.channels.telegram import Telegram
from app.channels.webhook import Webhooks
from app.store.channels import ChannelKind

PATIENCE: Final = timedelta(seconds=15)
"""For one message, from the look-up of its host to the end of the answer."""

AT_ONCE: Final = 16
"""How many channels a process serves at a time: a few receivers that hang keep nobody else waiting."""


@dataclass(frozen=True, slots=True)
class Outlets:
    """The ways out of this process."""

    senders: Mapping[ChannelKind, Sender]
    patience: timedelta = PATIENCE
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def objection(self, kind: ChannelKind, target: str | None) -> str | None:
        """Why a channel cannot be used here; None when nothing speaks against it."""
        sender = self.senders.get(kind)
        return f"This installation offers no {kind}." if sender is None else sender.objection(target)

    async def send(self, kind: ChannelKind, message: Message, to: Destination) -> None:
        """Send a message, once. Raises NotDelivered."""
        sender = self.senders.get(kind)
        if sender is None:
            raise NotDelivered(f"This installation offers no {kind} any more.")
        try:
            async with asyncio.timeout(self.patience.total_seconds()):
                await sender.send(message, to)
        except TimeoutError:
            raise NotDelivered(f"There was no answer within {self.patience.total_seconds():.0f} s.") from None


def open_outlets(settings: ChannelSettings | None = None) -> Outlets:
    """What the operator's settings allow; without any, what needs nothing of an operator."""
    if settings is None:
        return Outlets({ChannelKind.WEBHOOK: Webhooks(), ChannelKind.DISCORD: Discord()})
    at = settings.channel_endpoints
    senders: dict[ChannelKind, Sender] = {
        ChannelKind.WEBHOOK: Webhooks(private_targets=settings.private_targets == "allowed"),
        ChannelKind.DISCORD: Discord(**_endpoint(at, "discord")),
    }
    if settings.telegram_token is not None:
        senders[ChannelKind.TELEGRAM] = Telegram(settings.telegram_token, **_endpoint(at, "telegram"))
    if settings.smtp_host is not None and settings.smtp_sender is not None:
        senders[ChannelKind.EMAIL] = Mail(
            host=settings.smtp_host,
            port=settings.smtp_port,
            sender=settings.smtp_sender,
            security=settings.smtp_tls,
            user=settings.smtp_user,
            password=settings.smtp_password,
        )
    return Outlets(senders)


def _endpoint(endpoints: Mapping[str, str], name: str) -> dict[str, str]:
    return {"endpoint": endpoints[name]} if name in endpoints else {}
