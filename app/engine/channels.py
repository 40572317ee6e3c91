"""Channels: which of an owner's notifications go where, replaced as a whole."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.channels import discord, webhook
from app.desk import Desk
from app.domain.errors import Invalid
from app.domain.owners import Owner
from app.settings import new_webhook_secret
from app.store import audit, channels
from app.store.audit import Action
from app.store.channels import Channel, ChannelKind
from app.store.notifications import NotificationType
from app.store.schema import new_id

_HINT_LENGTH: Final = 4
_SECRETS: Final = {ChannelKind.WEBHOOK: webhook.SECRET, ChannelKind.DISCORD: discord.URL}
"""What the one secret of a kind is called among its credentials; the other kinds have none."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A channel as its owner wants it."""

    name: str
    kind: ChannelKind
    types: Sequence[NotificationType]
    target: str | None = None
    secret: str | None = None
    """None keeps the one there is; a webhook without one gets a new one."""


async def replace(desk: Desk, owner: Owner, wishes: Sequence[Wish]) -> Mapping[UUID, str]:
    """Let these be all of an owner's channels; answers the secrets made for them, which nobody is told again.

    A channel goes on under its name: with what waits for it, and with its secret. Raises Invalid.
    """
    for number, wish in enumerate(wishes):
        if objection := desk.outlets.objection(wish.kind, wish.target):
            offered = wish.kind in desk.outlets.senders
            raise Invalid(f"channels.{number}.{'url' if offered else 'kind'}", objection)
    now = desk.now()
    async with desk.sessions.begin() as session:
        before = {each.name: each for each in await channels.locked(session, owner)}
        said_before = _said(before.values())
        kept = {each.name for each in wishes if (row := before.get(each.name)) and row.kind is each.kind}
        for name in before.keys() - kept:
            _remove(before[name], now)
        # A name that goes to another kind is free before it is taken.
        await session.flush()
        made: dict[UUID, str] = {}
        after = []
        for number, wish in enumerate(wishes):
            channel = before[wish.name] if wish.name in kept else _add(session, owner, wish, now)
            secret = _secret_of(wish, channel, number)
            if secret is not None and wish.secret is None:
                made[channel.id] = secret
            _set(desk, channel, wish, secret, now)
            after.append(channel)
        audit.record(session, Action.CHANNELS, owner, None, now, before=said_before, after=_said(after))
    return made


def _add(session: AsyncSession, owner: Owner, wish: Wish, now: datetime) -> Channel:
    channel = Channel(
        id=new_id(),
        owner_role=owner.role,
        owner_id=owner.id,
        name=wish.name,
        kind=wish.kind,
        credentials_version=0,
        next_at=now,
        created_at=now,
        updated_at=now,
    )
    session.add(channel)
    return channel


def _remove(channel: Channel, now: datetime) -> None:
    """What still waits for it is given up the next time it is looked at, which is now."""
    channel.credentials_sealed = channel.credentials_hint = None
    channel.removed_at = channel.updated_at = channel.next_at = now


def _secret_of(wish: Wish, channel: Channel, number: int) -> str | None:
    """The secret to be sealed for a channel; None where the one it has, or none, is right. Raises Invalid."""
    if wish.secret is not None or channel.credentials_sealed is not None:
        return wish.secret
    if wish.kind is ChannelKind.DISCORD:
        raise Invalid(f"channels.{number}.url", f"The channel {wish.name} is new: it needs its URL.")
    return new_webhook_secret() if wish.kind is ChannelKind.WEBHOOK else None


def _set(desk: Desk, channel: Channel, wish: Wish, secret: str | None, now: datetime) -> None:
    types = [each.value for each in NotificationType if each in wish.types]
    if secret is None and (channel.types, channel.target) == (types, wish.target):
        return
    if secret is not None:
        channel.credentials_version += 1
        channel.credentials_sealed = desk.vault.seal(
            {_SECRETS[wish.kind]: secret},
            kind="channel",
            row_id=channel.id,
            version=channel.credentials_version,
        )
        channel.credentials_hint = secret[-_HINT_LENGTH:]
    if secret is not None or channel.target != wish.target:
        # What failed may have been put right with it: it is tried at once.
        channel.failures, channel.last_error, channel.next_at = 0, None, now
    channel.types, channel.target, channel.updated_at = types, wish.target, now


def _said(rows: Iterable[Channel]) -> list[dict[str, Any]]:
    """What the audit keeps; of credentials, which of their versions it is and nothing else."""
    return [
        {
            "name": each.name,
            "kind": each.kind,
            "types": list(each.types),
            "target": each.target,
            "credentials": each.credentials_version,
        }
        for each in rows
    ]
