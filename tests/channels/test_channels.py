"""Every kind of channel over its own wire: what arrives, what fails and how that is told, and what never gets out."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.channels.addresses import is_public
from app.channels.discord import Discord
from app.channels.mail import Mail
from app.channels.outlets import Outlets, open_outlets
from app.channels.port import Destination, Message, NotDelivered, Sender
from app.channels.posting import MOST_READ
from app.channels.telegram import Telegram
from app.channels.webhook import Webhooks
from app.settings import Settings, new_webhook_secret, settings_from
from app.store.channels import ChannelKind
from app.store.schema import new_id
from tests.channels.receivers import Receiver, make_trust, running_mail_server, running_receiver
from tests.servers import free_port

SECRET: Final = new_webhook_secret()
TOKEN: Final = "123456:canary-canary-canary-canary"
DISCORD_URL: Final = "https://discord.com/api/webhooks/1305791/canary-canary-canary"
HOSTILE: Final = "[BTC](https://evil.example) @everyone <@1> *up*\r\nBcc: all@victim.example\r\n\r\n<b>hi</b>"


def message(**changes: Any) -> Message:
    """A notification that is told now."""
    now = datetime.now(UTC)
    data = {"type": "tp_hit", "created_at": "2026-11-24T12:00:00Z", "title": "BTC/USDT: take-profit hit"}
    given: dict[str, Any] = {
        "id": new_id(),
        "title": "BTC/USDT: take-profit hit",
        "text": "The take-profit closed 0.005 BTC/USDT at 27150.5. Grüße.",
        "data": data,
        "told_at": now - timedelta(minutes=5),
        "sent_at": now,
    }
    return Message(**(given | changes))


def hook(target: str | None) -> Destination:
    """A webhook's destination."""
    return Destination(target, {"secret": SECRET})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on loopback."""
    async with running_receiver() as running:
        yield running


NEARBY: Final = Webhooks(private_targets=True)


async def test_a_webhook_is_signed_as_the_standard_has_it(receiver: Receiver) -> None:
    sent = message()
    await NEARBY.send(sent, hook(f"{receiver.url}/hook?of=ann"))
    [got] = receiver.received
    assert got.path == "/hook?of=ann"
    assert got.headers["host"] == receiver.url.removeprefix("http://")
    assert got.headers["webhook-id"] == str(sent.id)
    assert Webhook(SECRET).verify(got.body, got.headers) == {
        "type": "notification.tp_hit",
        "timestamp": "2026-11-24T12:00:00Z",
        "data": dict(sent.data),
    }
    with pytest.raises(WebhookVerificationError):
        Webhook(new_webhook_secret()).verify(got.body, got.headers)


async def test_https_is_verified_for_the_name_at_the_address_that_was_looked_at(tmp_path: Path) -> None:
    trust = make_trust(tmp_path, "localhost")
    async with running_receiver(trust.server) as receiver:
        named = receiver.url.replace("127.0.0.1", "localhost")
        await Webhooks(private_targets=True, tls=trust.client).send(message(), hook(named))
        [got] = receiver.received
        assert got.headers["host"] == named.removeprefix("https://")
        for sender, url in (
            (Webhooks(private_targets=True), named),
            (Webhooks(private_targets=True, tls=trust.client), receiver.url),
        ):
            with pytest.raises(NotDelivered, match="No connection"):
                await sender.send(message(), hook(url))
        assert len(receiver.received) == 1, "nothing is said to whom nobody vouches for"


@pytest.mark.parametrize("status", [199, 301, 302, 307, 400, 404, 410, 429, 500, 503])
async def test_anything_but_a_2xx_is_a_failure_and_leads_nowhere_else(
    receiver: Receiver, status: int
) -> None:
    async with running_receiver() as elsewhere:
        receiver.answers = [status]
        receiver.answer_headers = {"Location": f"{elsewhere.url}/inside"}
        with pytest.raises(NotDelivered, match=rf"The receiver answered {status}|There was no answer"):
            await NEARBY.send(message(), hook(receiver.url))
        assert elsewhere.received == []


async def test_an_answer_without_an_end_is_not_read_to_it(receiver: Receiver) -> None:
    receiver.is_endless = True
    async with asyncio.timeout(60):
        await NEARBY.send(message(), hook(receiver.url))


async def test_an_answer_that_does_not_come_is_waited_for_so_long(
    receiver: Receiver,
) -> None:
    receiver.gate.clear()
    hasty = Outlets({ChannelKind.WEBHOOK: NEARBY}, patience=timedelta(seconds=2))
    with pytest.raises(NotDelivered, match="no answer within"):
        await hasty.send(ChannelKind.WEBHOOK, message(), hook(receiver.url))


async def test_nobody_there_is_a_failure_without_the_url() -> None:
    with pytest.raises(NotDelivered) as raised:
        await NEARBY.send(message(), hook(f"http://127.0.0.1:{free_port()}/canary"))
    assert str(raised.value) == "No connection could be made."
    with pytest.raises(NotDelivered, match="name is not known"):
        await NEARBY.send(message(), hook("http://nowhere.invalid/canary"))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "169.254.169.254",
    ],
)
async def test_a_private_address_is_refused_however_it_is_written(receiver: Receiver, host: str) -> None:
    port = receiver.url.rpartition(":")[2]
    with pytest.raises(NotDelivered, match=r"not one of the public internet|name is not known"):
        await Webhooks().send(message(), hook(f"https://{host}:{port}/"))
    assert receiver.received == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
    ],
)
def test_what_is_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.parametrize(
    "url",
    [
        "http://you.example/",
        "ftp://you.example/",
        "https:///nowhere",
        "https://user:pass@you.example/",
        "https://you.example/#part",
        "https://you.example:99999/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://you .example/",
        "you.example",
        "",
    ],
)
def test_what_a_url_gives_away_is_said_beforehand(url: str) -> None:
    assert Webhooks().objection(url)


def test_nothing_speaks_against_a_public_url() -> None:
    assert Webhooks().objection("https://you.example:8443/a?b=c") is None
    assert NEARBY.objection("http://10.0.0.1/") is None


async def test_discord_is_told_in_plain_words_that_mention_nobody(receiver: Receiver) -> None:
    receiver.answers = [204]
    to = Destination(None, {"url": DISCORD_URL})
    await Discord(receiver.url).send(message(title=HOSTILE), to)
    [got] = receiver.received
    assert got.path == "/api/webhooks/1305791/canary-canary-canary"
    assert got.json["allowed_mentions"] == {"parse": []}
    first = got.json["content"].split("\n")[0]
    assert first == (
        r"\[BTC\]\(https\://evil.example\) \@everyone \<\@1\> \*up\* Bcc\: all\@victim.example \<b\>hi\</b\>"
    )
    await Discord(receiver.url).send(message(text="*" * 5000), to)
    assert len(receiver.received[1].json["content"]) == 2000


async def test_telegram_is_told_in_plain_words(receiver: Receiver) -> None:
    bot = Telegram(SecretStr(TOKEN), receiver.url)
    await bot.send(message(title=HOSTILE, text="x" * 5000), Destination("-100123", {}))
    [got] = receiver.received
    assert got.path == f"/bot{TOKEN}/sendMessage"
    assert got.json.keys() == {"chat_id", "text", "link_preview_options"}, "no parse mode"
    assert got.json["chat_id"] == "-100123"
    assert got.json["text"].startswith("[BTC](https://evil.example) @everyone <@1> *up* Bcc: all@victim")
    assert len(got.json["text"]) <= 4096


async def test_telegrams_own_words_are_told_when_it_refuses(receiver: Receiver) -> None:
    receiver.answers = [400, 502]
    bot, to = Telegram(SecretStr(TOKEN), receiver.url), Destination("1", {})
    receiver.answer_body = b'{"ok": false, "error_code": 400, "description": "Bad Request: chat not found"}'
    with pytest.raises(NotDelivered) as raised:
        await bot.send(message(), to)
    assert str(raised.value) == "Telegram answered 400: Bad Request: chat not found."
    receiver.answer_body = b"<html>" + b"x" * 2 * MOST_READ
    with pytest.raises(NotDelivered) as raised:
        await bot.send(message(), to)
    assert str(raised.value) == "Telegram answered 502."


@pytest.mark.parametrize(
    ("sender", "to"),
    [
        (lambda url: Telegram(SecretStr(TOKEN), url), Destination("1", {})),
        (lambda url: Discord(url), Destination(None, {"url": DISCORD_URL})),
        (lambda _: NEARBY, hook("http://127.0.0.1:1/canary")),
    ],
    ids=["telegram", "discord", "webhook"],
)
async def test_no_failure_holds_a_secret(
    sender: Any, to: Destination, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    speaking: Sender = sender(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(NotDelivered) as raised:
        await speaking.send(message(), to)
    assert "canary" not in f"{raised.value!r} {raised.value.__cause__!r} {sender!r}"
    told = "\n".join(each.getMessage() for each in caplog.records if not each.name.startswith("httpcore"))
    assert "canary" not in told


@pytest.mark.parametrize("security", ["starttls", "tls", "off"])
async def test_mail_is_a_letter_that_a_title_cannot_change(tmp_path: Path, security: Any) -> None:
    trust = make_trust(tmp_path, "127.0.0.1")
    tls = None if security == "off" else trust.server
    async with running_mail_server(tls, from_the_first_byte=security == "tls") as server:
        mail = Mail(
            "127.0.0.1",
            server.port,
            "engine@platform.example",
            security,
            "engine",
            SecretStr("canary"),
            trust.client,
        )
        sent = message(title=HOSTILE + " Ωμέγα " + "x" * 300)
        await mail.send(sent, Destination("ann@mail.example", {}))
    assert server.logins == [("engine", "canary")]
    assert server.envelopes == [("engine@platform.example", "ann@mail.example")]
    [letter] = server.letters
    assert set(letter.keys()) == {
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "Content-Type",
        "Content-Transfer-Encoding",
        "MIME-Version",
    }
    assert letter["To"] == "ann@mail.example"
    assert letter["Subject"] == sent.headline
    assert letter["Message-ID"] == f"<{sent.id}@platform.example>"
    assert letter.get_content_type() == "text/plain"
    assert letter.get_content().strip() == sent.text


async def test_mail_is_not_sent_where_it_could_be_overheard(tmp_path: Path) -> None:
    trust = make_trust(tmp_path, "127.0.0.1")
    to = Destination("ann@mail.example", {})
    async with running_mail_server() as bare, running_mail_server(trust.server) as other:
        for server, tls in ((bare, trust.client), (other, None)):
            mail = Mail(
                "127.0.0.1", server.port, "e@p.example", "starttls", "engine", SecretStr("canary"), tls
            )
            with pytest.raises(NotDelivered) as raised:
                await mail.send(message(), to)
            assert "canary" not in str(raised.value)
            assert (server.logins, server.letters) == ([], [])


async def test_a_mail_server_that_refuses_is_told_by_its_code(tmp_path: Path) -> None:
    trust = make_trust(tmp_path, "127.0.0.1")
    async with running_mail_server(trust.server) as server:
        server.refusal = "550 canary of an inner host"
        mail = Mail("127.0.0.1", server.port, "e@p.example", tls=trust.client)
        with pytest.raises(NotDelivered) as raised:
            await mail.send(message(), Destination("ann@mail.example", {}))
    assert str(raised.value) == "The mail server refused the address: 550."
    with pytest.raises(NotDelivered, match="could not be used"):
        await Mail("127.0.0.1", free_port(), "e@p.example").send(message(), Destination("a@b.example", {}))


def _settings(environment: dict[str, str], **more: str) -> Settings:
    return settings_from(environment | {f"ENGINE_{name.upper()}": value for name, value in more.items()})


def test_what_the_operator_has_not_set_up_is_not_offered(serverless_environment: dict[str, str]) -> None:
    bare = open_outlets(_settings(serverless_environment))
    assert set(bare.senders) == set(open_outlets().senders) == {ChannelKind.WEBHOOK, ChannelKind.DISCORD}
    assert bare.objection(ChannelKind.TELEGRAM, "1") == "This installation offers no telegram."
    full = open_outlets(
        _settings(
            serverless_environment,
            telegram_token=TOKEN,
            smtp_host="mail.example",
            smtp_sender="engine@platform.example",
            channel_endpoints='{"discord": "http://127.0.0.1:1"}',
            private_targets="allowed",
        )
    )
    assert set(full.senders) == set(ChannelKind)
    assert full.senders[ChannelKind.DISCORD] == Discord("http://127.0.0.1:1")
    assert full.senders[ChannelKind.WEBHOOK] == NEARBY
    assert TOKEN not in repr(full)
