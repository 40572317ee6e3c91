"""Canary secrets sent down every path, with everything logged and things going wrong: they come out nowhere."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol, Self
from urllib.parse import quote_plus

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy.engine import make_url

from app.local.postgres import package_directory
from app.local.tokens import bearer_token
from app.settings import new_webhook_secret, settings_from, vault_key_bytes
from tests.acceptance.outside import Source
from tests.api.streams import UP_TO_DATE
from tests.channels.receivers import MailServer, Receiver, running_mail_server, running_receiver
from tests.servers import free_port
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import ANSWER_LOST, HTML, TRUNCATED, Fault, Faults, reject, server_error
from tests.venues.metatrader import MetaTraderVenue, running_bridge
from tests.venues.wire import WireRequest
from tests.workers.processes import WORKER, Worker, until, working

PG_DUMP: Final = package_directory() / "pginstall" / "bin" / "pg_dump"
SERVE: Final = (sys.executable, "-W", "error", "-m", "uvicorn", "app.main:app", "--port")
OWNER: Final = "ann"

TELEGRAM_TOKEN: Final = "1305791:canary-telegram-token-31ce"
SMTP_PASSWORD: Final = "canary-smtp-password-5e1b"
DISCORD_TOKEN: Final = "canary-discord-token-77aa"
SIGNING_SECRET: Final = new_webhook_secret()


@dataclass
class Installation:
    """An API and a worker that log everything, and all that was ever heard of them."""

    http: httpx.AsyncClient
    source: Source
    environment: Mapping[str, str]
    processes: list[Worker]
    token: str
    admin_token: str
    overheard: "Overheard"
    receiver: Receiver
    mail: MailServer
    answers: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None, *, token: str = "") -> httpx.Response:
        """One request of the owner, or with another token; its answer is kept."""
        headers = {"authorization": f"Bearer {token or self.token}"}
        answer = await self.http.request(method, path, json=body, headers=headers)
        self.answers.append(f"{answer.headers} {answer.text}")
        return answer

    async def done(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The same, of a request that has to succeed."""
        answer = await self.ask(method, path, body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    async def hear(self, path: str, token: str) -> None:
        """Everything that a stream has to tell from the first change on."""
        headers = {"authorization": f"Bearer {token}"}
        begun = await self._heard(path, headers)
        # Before the first transaction of this database.
        headers["last-event-id"] = f"{begun[0].removeprefix('id: ').partition('-')[0]}-0-{'0' * 32}"
        told = await self._heard(path, headers)
        assert "event: execution" in told or token == self.admin_token

    async def _heard(self, path: str, headers: Mapping[str, str]) -> list[str]:
        """The lines of a stream until it is up to date."""
        lines: list[str] = []
        async with self.http.stream("GET", path, headers=headers) as stream:
            reading = stream.aiter_lines()
            while UP_TO_DATE not in lines:
                lines.append(await anext(reading))
        self.answers.append(f"{stream.headers} {lines}")
        return lines

    async def items(self, path: str) -> list[dict[str, Any]]:
        """A list, as the owner sees it."""
        rows: list[dict[str, Any]] = (await self.done("GET", path))["items"]
        return rows

    async def everything(self) -> dict[str, bytes]:
        """All that is to be searched, by where it is."""
        openapi = await self.http.get("/openapi.json")
        metrics = await self.http.get("/metrics", headers={"authorization": f"Bearer {self._metrics_token}"})
        assert metrics.is_success
        return {
            "answers": "\n".join(self.answers).encode(),
            "openapi": openapi.content,
            "metrics": metrics.content,
            "logs": b"\n".join(process.log.read_bytes() for process in self.processes),
            "database": dump(self.environment["ENGINE_DATABASE_URL"]),
            "redis": b"\n".join(self.overheard.commands),
        }

    @property
    def _metrics_token(self) -> str:
        return self.environment["ENGINE_METRICS_TOKEN"]


def dump(url: str) -> bytes:
    """A whole database in SQL."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return subprocess.run([PG_DUMP, plain], check=True, capture_output=True).stdout


@dataclass
class Overheard:
    """Whatever a Redis is told, for as long as anybody listens."""

    commands: list[bytes] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator[Self]:
        """Listen to one Redis."""
        overheard = cls()
        client = Redis.from_url(url, decode_responses=False)
        async with client.monitor() as monitor:
            listening = asyncio.create_task(overheard._listen(monitor))
            yield overheard
            assert not listening.done(), "nobody has listened since"
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        await client.aclose()

    async def _listen(self, monitor: Any) -> None:
        async for told in monitor.listen():
            self.commands.append(told["command"].encode())


@pytest.fixture
async def installation(
    environment: dict[str, str], trial: "Trial", receiver: Receiver, mail: MailServer, tmp_path: Path
) -> AsyncIterator[Installation]:
    """An installation that reaches the simulated venue alone."""
    port = free_port()
    variables = {
        **environment,
        "ENGINE_BROKER_ENDPOINTS": json.dumps(trial.endpoints),
        "ENGINE_ENTITLEMENTS": "off",
        "ENGINE_LOG_LEVEL": "DEBUG",
        "ENGINE_METRICS_TOKEN": "canary-metrics-token-5d1f",
        "ENGINE_MONITOR_SECONDS": "1",
        "ENGINE_TELEGRAM_TOKEN": TELEGRAM_TOKEN,
        "ENGINE_SMTP_HOST": "127.0.0.1",
        "ENGINE_SMTP_PORT": str(mail.port),
        "ENGINE_SMTP_TLS": "off",
        "ENGINE_SMTP_SENDER": "engine@platform.example",
        "ENGINE_SMTP_USER": "engine",
        "ENGINE_SMTP_PASSWORD": SMTP_PASSWORD,
        "ENGINE_CHANNEL_ENDPOINTS": json.dumps({"discord": receiver.url, "telegram": receiver.url}),
        "ENGINE_PRIVATE_TARGETS": "allowed",
    }
    async with (
        Overheard.opened(variables["ENGINE_REDIS_URL"]) as overheard,
        working(variables, tmp_path, (*SERVE, str(port))) as api,
        working(variables, tmp_path, WORKER) as worker,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
    ):

        async def answers() -> bool:
            try:
                return (await http.get("/readyz")).is_success
            except httpx.TransportError:
                return False

        await until(answers, 60)
        token, admin_token = (
            bearer_token(settings_from(variables), OWNER, role, timedelta(hours=1), datetime.now(UTC))
            for role in ("user", "admin")
        )
        source = Source(http, variables["ENGINE_WEBHOOK_SECRETS"])
        processes = [api, worker]
        yield Installation(http, source, variables, processes, token, admin_token, overheard, receiver, mail)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Telegram, Discord and a webhook in one, which fail at first."""
    async with running_receiver() as running:
        running.answers = [500] * 6
        yield running


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    """The operator's mail server, which fails at first."""
    async with running_mail_server() as running:
        running.refusal = f"550 not with {SMTP_PASSWORD}"
        yield running


class Trial(Protocol):
    """A venue that knows canaries, and what a signal for it says."""

    endpoints: dict[str, str]
    terms: Mapping[str, Any]
    credentials: dict[str, str]
    later: dict[str, str]
    """Those of another account."""
    signal: Mapping[str, Any]
    faults: Faults

    @property
    def canaries(self) -> Collection[str]:
        """What has to be found nowhere."""

    @property
    def accidents(self) -> Sequence[Fault]:
        """What the venue says and does when things go wrong; some of it repeats what it was sent."""

    @property
    def refusal(self) -> Fault:
        """How the venue refuses the later account, repeating what it was sent."""

    def names(self, request: WireRequest) -> bool:
        """Whether a request carries a canary: nobody can repeat what was not sent."""

    def is_used(self) -> bool:
        """Whether the canaries have reached the venue."""


@dataclass
class CryptoTrial:
    """An account at an exchange."""

    venue: Exchange
    terms: Mapping[str, Any] = field(
        default_factory=lambda: {
            "kind": "crypto",
            "exchange": "binanceusdm",
            "market_type": "swap",
            "sizing": {"strategy": "fixed", "value": "0.01"},
        }
    )
    signal: Mapping[str, Any] = field(
        default_factory=lambda: {"symbol": "BTC/USDT", "direction": "buy", "stop_loss": "15000"}
    )

    def __post_init__(self) -> None:
        self.endpoints = {"binanceusdm": self.venue.url}
        self.faults = self.venue.faults
        self.keys, self.others = (self.venue.open_account({"USDT": "100000"}) for _ in range(2))
        self.credentials, self.later = (
            {"api_key": each.api_key, "api_secret": each.secret} for each in (self.keys, self.others)
        )

    @property
    def canaries(self) -> Collection[str]:
        """Keys and secrets."""
        return {*self.credentials.values(), *self.later.values()}

    @property
    def accidents(self) -> Sequence[Fault]:
        """An exchange repeats the key it was sent, and worse."""
        said = f"Invalid API-key {self.keys.api_key}, IP, or permissions; secret {self.keys.secret}"
        return [
            reject({"code": -2015, "msg": said}, 401),
            reject({"code": -1, "msg": said}, 400),
            reject({"code": -1, "msg": said}, 500),
            *SILENT,
        ]

    @property
    def refusal(self) -> Fault:
        """With the key and the secret."""
        return reject(
            {"code": -2015, "msg": f"Invalid API-key {self.others.api_key}; {self.others.secret}"}, 401
        )

    def names(self, request: WireRequest) -> bool:
        """The key goes in a header."""
        return any(each.api_key in str(request.headers) for each in (self.keys, self.others))

    def is_used(self) -> bool:
        """Some request has carried it."""
        return any(self.names(request) for request in self.venue.requests)


@dataclass
class BridgeTrial:
    """A MetaTrader account, whose password and token travel in the address of every request."""

    venue: MetaTraderVenue
    terms: Mapping[str, Any] = field(
        default_factory=lambda: {
            "kind": "fx",
            "exchange": "mt5",
            "market_type": "fx",
            "sizing": {"strategy": "fixed", "value": "0.1"},
        }
    )
    signal: Mapping[str, Any] = field(
        default_factory=lambda: {"symbol": "EUR/USD", "direction": "buy", "stop_loss": "1.05"}
    )

    def __post_init__(self) -> None:
        self.endpoints = {"mt5": self.venue.mt5.url}
        self.faults = self.venue.faults
        self.venue.mt5.api_key = "canary-gateway-key-8c2e"
        self.venue.mt5.leaks_passwords = True
        self.credentials, self.later = (
            {
                "account_id": str(owner.user),
                "api_secret": owner.password,
                "api_key": self.venue.mt5.api_key,
                "server": owner.server,
            }
            for owner in (self.venue.open_account("mt5"), self.venue.open_account("mt5"))
        )

    @property
    def canaries(self) -> Collection[str]:
        """Passwords, tokens and the gateway's key."""
        return self.venue.secrets

    @property
    def accidents(self) -> Sequence[Fault]:
        """A bridge prints logins and passwords into what it complains about."""
        said = f"Symbol not found ({self.credentials['account_id']} {self.credentials['api_secret']})"
        return [reject({"code": "CONNECT_ERROR", "message": said}, 201), *SILENT]

    @property
    def refusal(self) -> Fault:
        """With the login and the password."""
        said = f"Invalid account {self.later['account_id']} {self.later['api_secret']}"
        return reject({"code": "INVALID_ACCOUNT", "message": said}, 201)

    def names(self, request: WireRequest) -> bool:
        """The password goes in the address of a log-in."""
        return any(each["api_secret"] in request.query for each in (self.credentials, self.later))

    def is_used(self) -> bool:
        """Some request has carried it."""
        return any(self.names(request) for request in self.venue.requests)


SILENT: Final = (HTML, TRUNCATED, ANSWER_LOST)
"""Accidents of the way there and back."""


@pytest.fixture(params=["crypto", "metatrader"])
async def trial(request: pytest.FixtureRequest) -> AsyncIterator[Trial]:
    """One venue after the other."""
    if request.param == "crypto":
        async with running_exchange() as exchange:
            yield CryptoTrial(exchange)
    else:
        async with running_bridge() as bridge:
            yield BridgeTrial(bridge)


async def test_canaries_come_out_nowhere(installation: Installation, trial: Trial) -> None:
    draft = {"name": "Canary", "credentials": trial.credentials, **trial.terms}
    await refuse_what_is_wrong(installation, draft)
    await listen_everywhere(installation)
    connection = (await installation.done("POST", "/v1/connections", draft))["id"]
    path = f"/v1/connections/{connection}"
    for accident in trial.accidents:
        trial.faults.add(accident, trial.names, times=2)
        await installation.ask("POST", f"{path}/test")
        trial.faults.clear()
    tested = await installation.done("POST", f"{path}/test")
    assert tested["ok"], tested
    await installation.done("POST", f"{path}/activate")
    await installation.done("POST", "/v1/signals/preview", {"id": "c1", **trial.signal})
    await badly_signed(installation, trial.credentials["api_secret"])
    await installation.source.send("signal.published", {"id": "c1", **trial.signal})

    async def is_held() -> bool:
        positions = await installation.items("/v1/positions?status=open")
        return bool(positions) and positions[0]["protection"] == "native"

    await until(is_held)
    trial.faults.policy = lambda _: server_error(503, executed=False)
    await installation.ask("GET", f"{path}/balance")
    await installation.done("POST", f"{path}/close-all", {"reason": "canary"})
    trial.faults.clear()

    async def is_flat() -> bool:
        return bool(await installation.items("/v1/positions?status=closed"))

    await until(is_flat, 60)
    await until(lambda: is_told_everywhere(installation), 60)
    await installation.done("PATCH", path, {"credentials": trial.later})
    trial.faults.add(trial.refusal, trial.names, times=2)
    refused = await installation.done("POST", f"{path}/test")
    assert (refused["ok"], refused["code"]) == (False, "credentials_refused")
    await read_everything(installation)
    hunted = await installation.everything()
    await installation.done("DELETE", path)
    hunted |= {f"{place} afterwards": found for place, found in (await installation.everything()).items()}

    assert trial.is_used()
    secrets = secrets_of(installation, trial.canaries)
    assert [
        (name, place)
        for name, secret in secrets.items()
        for place, found in hunted.items()
        if secret in found
    ] == []
    assert b"order_claimed" in hunted["logs"], "and the logs tell of what was done"
    assert b"notification_not_delivered" in hunted["logs"]


async def refuse_what_is_wrong(installation: Installation, draft: Mapping[str, Any]) -> None:
    """Credentials inside requests that cannot be meant."""
    given = draft["credentials"]
    for wrong in (
        {"name": ""},
        {"exchange": "mtgox"},
        {"credentials": {"api_key": given["api_secret"]}},
        {"credentials": {**given, "pin": given["api_secret"]}},
        {"credentials": list(given.values())},
    ):
        assert (await installation.ask("POST", "/v1/connections", {**draft, **wrong})).status_code == 422


async def listen_everywhere(installation: Installation) -> None:
    """A channel of every kind; before that, secrets inside settings that cannot be meant."""
    types = ["connection", "open", "close"]
    discord = f"https://discord.com/api/webhooks/1305791/{DISCORD_TOKEN}"
    hook = {"kind": "webhook", "types": types, "url": installation.receiver.url, "secret": SIGNING_SECRET}
    channels = [
        hook,
        {"kind": "discord", "types": types, "url": discord},
        {"kind": "telegram", "types": types, "chat_id": "1"},
        {"kind": "email", "types": types, "address": "ann@mail.example"},
    ]
    for wrong in (
        hook | {"types": [SIGNING_SECRET]},
        hook | {"secret": SIGNING_SECRET + "!"},
        hook | {"url": discord, "secret": [SIGNING_SECRET]},
        {"kind": "discord", "types": types, "url": f"{discord}?{SIGNING_SECRET}"},
    ):
        put = await installation.ask("PUT", "/v1/notification-settings", {"channels": [wrong]})
        assert put.status_code == 422
    await installation.done("PUT", "/v1/notification-settings", {"channels": channels})


async def is_told_everywhere(installation: Installation) -> bool:
    """Whether something has gone out over every channel, each with its secret, after something has failed."""
    installation.mail.refusal = None
    channels = (await installation.done("GET", "/v1/notification-settings"))["channels"]
    used = "".join(each.path for each in installation.receiver.received)
    return (
        all(each["last_delivered_at"] for each in channels)
        and TELEGRAM_TOKEN in used
        and DISCORD_TOKEN in used
        and ("engine", SMTP_PASSWORD) in installation.mail.logins
        and any("webhook-signature" in each.headers for each in installation.receiver.received)
    )


async def badly_signed(installation: Installation, secret: str) -> None:
    """A webhook that somebody signed with what is no webhook secret, and put it where it does not belong."""
    headers = {"webhook-id": secret, "webhook-timestamp": "0", "webhook-signature": f"v1,{secret}"}
    answer = await installation.http.post("/v1/webhooks/signals", content=secret, headers=headers)
    installation.answers.append(answer.text)
    assert answer.status_code == 401


async def read_everything(installation: Installation) -> None:
    """Everything that an owner and an admin can read without naming it."""
    document = (await installation.http.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        if "get" in operations and "{" not in path and path.startswith("/v1/"):
            answered = operations["get"]["responses"]["200"]["content"]
            for token in (installation.token, installation.admin_token):
                if "text/event-stream" in answered:
                    await installation.hear(path, token)
                else:
                    await installation.ask("GET", path, token=token)
    for row in await installation.items("/v1/executions"):
        await installation.ask("GET", f"/v1/executions/{row['id']}")
    for row in await installation.items("/v1/positions"):
        await installation.ask("GET", f"/v1/positions/{row['id']}")


def secrets_of(installation: Installation, canaries: Collection[str]) -> dict[str, bytes]:
    """Everything that has to be found nowhere, and how else it could be written."""
    plain = {
        "jwt secret": installation.environment["ENGINE_JWT_SECRET"],
        "webhook secret": installation.environment["ENGINE_WEBHOOK_SECRETS"].removeprefix("whsec_"),
        "vault key": installation.environment["ENGINE_VAULT_KEYS"].removeprefix("k1_"),
        "metrics token": installation.environment["ENGINE_METRICS_TOKEN"],
        "bearer token": installation.token,
        "telegram token": TELEGRAM_TOKEN,
        "smtp password": SMTP_PASSWORD,
        "discord token": DISCORD_TOKEN,
        "signing secret": SIGNING_SECRET.removeprefix("whsec_"),
        "token's signature": installation.token.rpartition(".")[2],
    } | {f"canary {number}": canary for number, canary in enumerate(sorted(canaries))}
    written = {name: secret.encode() for name, secret in plain.items()}
    raw = vault_key_bytes(installation.environment["ENGINE_VAULT_KEYS"])
    return {
        f"{name}, {form}": found
        for name, secret in (written | {"vault key, raw": raw}).items()
        for form, found in forms_of(secret).items()
    }


def forms_of(secret: bytes) -> dict[str, bytes]:
    """How a secret may be written: as it is, quoted in an address, or in the letters of a dump."""
    return {
        "plain": secret,
        "quoted": quote_plus(secret).encode(),
        "hex": secret.hex().encode(),
        "base64": base64.b64encode(secret).rstrip(b"=")[:-1],
    }


async def test_the_hunt_would_find_what_is_stored_unsealed(database_url: str) -> None:
    database = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        await database.execute("CREATE TABLE unsealed (credentials bytea)")
        await database.execute("INSERT INTO unsealed VALUES ($1)", b'{"api_secret": "canary-7f3a"}')
    finally:
        await database.close()
    forms = forms_of(b"canary-7f3a")
    found = dump(database_url)
    assert [form for form, secret in forms.items() if secret in found] == ["hex"]
