"""The port: what every channel is handed, and how it says that something did not arrive."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Message:
    """One notification on its way over one channel."""

    id: UUID
    """The delivery's: equal however often it is sent."""
    title: str
    text: str
    data: Mapping[str, Any]
    """The notification as the API shows it, for programs."""
    told_at: datetime
    sent_at: datetime
    """When this attempt was made."""

    @property
    def headline(self) -> str:
        """The title on one line, whatever is in it."""
        return " ".join("".join(char if char.isprintable() else " " for char in self.title).split())

    def words(self, most: int) -> str:
        """Headline and text for people, cut to so many characters."""
        whole = f"{self.headline}\n{self.text}"
        return whole if len(whole) <= most else whole[: most - 1] + "…"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a message goes."""

    target: str | None
    credentials: Mapping[str, str]


class NotDelivered(Exception):
    """It may not have arrived; in words for the channel's owner, without any secret."""


class Sender(Protocol):
    """One kind of channel."""

    def objection(self, target: str | None) -> str | None:
        """Why nothing can be sent there, as far as that is known beforehand; None when nothing speaks against it."""

    async def send(self, message: Message, to: Destination) -> None:
        """Send it, once. Raises NotDelivered."""
