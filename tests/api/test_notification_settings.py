"""Notification settings over HTTP: what is taken, what is refused and where, and that no secret comes back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from app.channels.mail import Mail
from app.channels.outlets import Outlets, open_outlets
from app.channels.telegram import Telegram
from app.desk import Desk, Sessions
from app.main import create_app
from app.settings import Settings, new_webhook_secret
from app.store.channels import Channel, ChannelKind, Delivery, DeliveryStatus
from app.store.notifications import NotificationType
from tests.api.scene import ADMIN_ANN, ANN, BOB, NOON, Api, Platform, Rows

PATH: Final = "/v1/notification-settings"
HOOK: Final = {"kind": "webhook", "types": ["sl_hit", "error"], "url": "https://you.example/notifications"}
DISCORD_URL: Final = "https://discord.com/api/webhooks/1305791/canary-canary-canary"
EVERY: Final = [
    {"kind": "discord", "types": ["error"], "url": DISCORD_URL},
    {"kind": "email", "types": ["error"], "address": "ann@mail.example"},
    {"kind": "telegram", "types": ["error"], "chat_id": "-1001234567890"},
    {"kind": "webhook", "types": ["error"], "url": "https://you.example/notifications"},
]


@pytest.fixture
async def full(settings: Settings, desk: Desk, platform: Platform) -> AsyncIterator[Api]:
    """A service whose operator has set up every kind of channel."""
    senders = dict(open_outlets().senders) | {
        ChannelKind.TELEGRAM: Telegram(SecretStr("1:token")),
        ChannelKind.EMAIL: Mail("mail.example", 587, "engine@platform.example"),
    }
    app = create_app(settings, replace(desk, outlets=Outlets(senders)))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client,
    ):
        yield Api(client, platform, app)


async def put(api: Api, *channels: dict[str, Any], status: int = 200, owner: Any = ANN) -> Any:
    """Replace the settings."""
    return await api.call(owner, "PUT", PATH, status, json={"channels": list(channels)})


async def test_nothing_is_set_at_first(api: Api) -> None:
    assert await api.call(ANN, "GET", PATH, 200) == {"channels": [], "available": ["discord", "webhook"]}


async def test_a_signing_secret_is_made_and_shown_once(api: Api) -> None:
    [channel] = (await put(api, HOOK))["channels"]
    secret = channel.pop("secret")
    assert secret.startswith("whsec_")
    assert channel == {
        "name": "webhook",
        "kind": "webhook",
        "types": ["sl_hit", "error"],
        "url": "https://you.example/notifications",
        "address": None,
        "chat_id": None,
        "secret_hint": secret[-4:],
        "pending": 0,
        "last_error": None,
        "next_attempt_at": None,
        "last_delivered_at": None,
    }
    for answer in (await api.call(ANN, "GET", PATH, 200), await put(api, HOOK | {"types": []})):
        assert answer["channels"][0] | {"types": channel["types"]} == channel | {"secret": None}


async def test_a_secret_of_ones_own_is_taken_and_never_answered(api: Api, sessions: Sessions) -> None:
    mine = new_webhook_secret()
    [channel] = (await put(api, HOOK | {"secret": mine}))["channels"]
    assert (channel["secret"], channel["secret_hint"]) == (None, mine[-4:])
    other = new_webhook_secret()
    [changed] = (await put(api, HOOK | {"secret": other}))["channels"]
    assert (changed["secret"], changed["secret_hint"]) == (None, other[-4:])
    async with sessions() as session:
        [row] = await session.scalars(select(Channel))
    assert row.credentials_version == 2


async def test_every_kind_is_kept_as_it_was_given(full: Api) -> None:
    answer = await put(full, *EVERY)
    assert answer["available"] == ["discord", "email", "telegram", "webhook"]
    shown = [
        {name: value for name, value in each.items() if value is not None} for each in answer["channels"]
    ]
    for each in shown:
        each.pop("secret", None)
        each.pop("secret_hint", None)
    state = {"pending": 0}
    assert shown == [
        {"name": each["kind"], **state, **{k: v for k, v in each.items() if v != DISCORD_URL}}
        for each in EVERY
    ]
    again = await put(full, EVERY[0] | {"url": None}, *EVERY[1:])
    assert again["channels"] == [each | {"secret": None} for each in answer["channels"]]
    assert "canary" not in str(answer).replace(f"{DISCORD_URL[-4:]}'", "")


async def test_what_is_not_named_any_more_is_gone(api: Api, sessions: Sessions) -> None:
    await put(api, HOOK, HOOK | {"name": "second"})
    before = (await put(api, HOOK | {"name": "second"}))["channels"]
    assert [each["name"] for each in before] == ["second"]
    await put(api)
    assert (await api.call(ANN, "GET", PATH, 200))["channels"] == []
    async with sessions() as session:
        assert [each.credentials_sealed for each in await session.scalars(select(Channel))] == [None, None]
    [again] = (await put(api, HOOK))["channels"]
    assert again["secret"], "a new one, with a new secret"


async def test_a_name_may_go_to_another_kind(api: Api) -> None:
    await put(api, HOOK | {"name": "it"})
    [channel] = (await put(api, {"kind": "discord", "name": "it", "types": [], "url": DISCORD_URL}))[
        "channels"
    ]
    assert (channel["kind"], channel["url"]) == ("discord", None)


@pytest.mark.parametrize(
    ("channel", "path", "says"),
    [
        (HOOK | {"kind": "carrier-pigeon"}, "channels.0", "expected tags"),
        (HOOK | {"types": ["weather"]}, "channels.0.webhook.types.0", "Input should be"),
        (HOOK | {"url": "http://you.example/"}, "channels.0.url", "https://"),
        (HOOK | {"url": "https://127.0.0.1/"}, "channels.0.url", "public internet"),
        (HOOK | {"url": "https://user:canary@you.example/"}, "channels.0.url", "without a user"),
        (HOOK | {"secret": "canary"}, "channels.0.webhook.secret", "whsec_"),
        (HOOK | {"name": "two\nlines"}, "channels.0.webhook.name", "printable"),
        (HOOK | {"sekret": "canary"}, "channels.0.webhook.sekret", "Extra inputs"),
        (EVERY[0] | {"url": None}, "channels.0.url", "needs its URL"),
        (
            EVERY[0] | {"url": DISCORD_URL.replace(".com", ".com.evil.example")},
            "channels.0.discord.url",
            "discord.com",
        ),
        (
            EVERY[1] | {"address": "ann@mail.example\r\nBcc: canary@evil.example"},
            "channels.0.email.address",
            "pattern",
        ),
        (EVERY[1] | {"address": "=?utf-8?q?canary=2C?=@mail.example"}, "channels.0.email.address", "pattern"),
        (EVERY[1], "channels.0.kind", "offers no email"),
        (EVERY[2], "channels.0.kind", "offers no telegram"),
        (EVERY[2] | {"chat_id": "1; canary"}, "channels.0.telegram.chat_id", "pattern"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_its_place(
    api: Api, channel: dict[str, Any], path: str, says: str
) -> None:
    problem = await put(api, channel, status=422)
    [error] = problem["errors"]
    assert error["path"] == path
    assert says in error["message"]
    assert "canary" not in str(problem)


async def test_lists_that_cannot_be_meant_are_refused(api: Api) -> None:
    twice = await put(api, HOOK, HOOK, status=422)
    assert twice["errors"] == [{"path": "body", "message": "two channels have the same name"}]
    await put(api, *(HOOK | {"name": f"{number}"} for number in range(11)), status=422)
    await api.call(ANN, "PUT", PATH, 422, json={})
    # What is refused in part is refused as a whole.
    await put(api, HOOK, EVERY[1], status=422)
    assert (await api.call(ANN, "GET", PATH, 200))["channels"] == []


async def test_owners_have_settings_of_their_own(api: Api) -> None:
    for owner in (ANN, BOB, ADMIN_ANN):
        assert (await api.call(owner, "GET", PATH, 200))["channels"] == []
        await put(api, HOOK | {"name": f"{owner.role} {owner.id}"}, owner=owner)
    await put(api, owner=BOB)
    for owner in (ANN, ADMIN_ANN):
        [channel] = (await api.call(owner, "GET", PATH, 200))["channels"]
        assert channel["name"] == f"{owner.role} {owner.id}"


async def test_the_audit_says_what_goes_where_and_no_secret(api: Api, sessions: Sessions) -> None:
    await put(api, EVERY[0])
    await put(api, EVERY[0] | {"types": ["risk"]}, HOOK)
    changed, first = (await api.call(ANN, "GET", "/v1/audit?action=channels", 200))["items"]
    discord = {"name": "discord", "kind": "discord", "types": ["error"], "target": None, "credentials": 1}
    assert first["detail"] == {"before": [], "after": [discord]}
    assert changed["detail"]["before"] == [discord]
    assert changed["detail"]["after"] == [
        discord | {"types": ["risk"], "credentials": 2},
        {
            "name": "webhook",
            "kind": "webhook",
            "types": HOOK["types"],
            "target": HOOK["url"],
            "credentials": 1,
        },
    ]
    async with sessions() as session:
        for table in ("execution_audit", "execution_notification_channels"):
            written = await session.scalars(text(f"SELECT row::text FROM {table} AS row"))
            assert "canary-canary" not in "".join(written)


async def test_what_became_of_a_notification_is_told_with_it(
    api: Api, rows: Rows, sessions: Sessions
) -> None:
    channel = await rows.channel(ANN, last_error="The receiver answered 503.", failures=3)
    await rows.channel(ANN, name="Other", types=[NotificationType.RISK.value])
    await rows.notification(ANN)
    read = await rows.notification(ANN)
    async with sessions.begin() as session:
        delivery = await session.scalar(select(Delivery).where(Delivery.notification_id == read.id))
        assert delivery is not None
        delivery.status, delivery.attempts = DeliveryStatus.GIVEN_UP, 90
        delivery.last_error = "The receiver answered 503."
    expected = {
        "id": str(delivery.id),
        "channel": "Pager",
        "kind": "webhook",
        "status": "given_up",
        "attempts": 90,
        "last_error": "The receiver answered 503.",
        "delivered_at": None,
    }
    assert (await api.call(ANN, "GET", "/v1/notifications", 200))["items"][0]["deliveries"] == [expected]
    again = await api.call(ANN, "POST", f"/v1/notifications/{read.id}/read", 200)
    assert (again["deliveries"], again["read_at"]) == ([expected], "2026-11-24T12:00:00Z")
    other, pager = (await api.call(ANN, "GET", PATH, 200))["channels"]
    assert (other["pending"], other["last_error"], other["next_attempt_at"]) == (0, None, None)
    assert (pager["pending"], pager["last_error"]) == (1, "The receiver answered 503.")
    assert (
        pager["next_attempt_at"]
        == channel.next_at.isoformat().replace("+00:00", "Z")
        == "2026-11-24T12:00:00Z"
    )
    assert channel.next_at == NOON
