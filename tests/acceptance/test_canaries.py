"""Canary secrets sent down every path, with everything logged and things going wrong: they come out nowhere."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote_plus

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy.engine import make_url

from app.local.postgres import package_directory
from app.local.tokens import bearer_token
from app.settings import settings_from, vault_key_bytes
from tests.acceptance.outside import Source
from tests.servers import free_port
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import ANSWER_LOST, HTML, TRUNCATED, Fault, Faults, reject, server_error
from tests.venues.metatrader import MetaTraderVenue, running_bridge
from tests.venues.wire import WireRequest
from tests.workers.processes import WORKER, Worker, until, working

PG_DUMP: Final = package_directory() / "pginstall" / "bin" / "pg_dump"
SERVE: Final = (sys.executable, "-W", "error", "-m", "uvicorn", "app.main:app", "--port")
OWNER: Final = "ann"


@dataclass
class Installation:
    """An API and a worker that log everything, and all that was ever heard of them."""

    http: httpx.AsyncClient
    source: Source
    environment: Mapping[str, str]
    processes: list[Worker]
    token: str
    answers: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request of the owner; its answer is kept."""
        headers = {"authorization": f"Bearer {self.token}"}
        answer = await self.http.request(method, path, json=body, headers=headers)
        self.answers.append(f"{answer.headers} {answer.text}")
        return answer

    async def done(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The same, of a request that has to succeed."""
        answer = await self.ask(method, path, body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

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
            "redis": await redis_contents(self.environment["ENGINE_REDIS_URL"]),
        }

    @property
    def _metrics_token(self) -> str:
        return self.environment["ENGINE_METRICS_TOKEN"]


def dump(url: str) -> bytes:
    """A whole database in SQL."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return subprocess.run([PG_DUMP, plain], check=True, capture_output=True).stdout


async def redis_contents(url: str) -> bytes:
    """Every key of a Redis with what it holds."""
    client = Redis.from_url(url)
    try:
        return b"\n".join([key + b" " + (await client.dump(key) or b"") async for key in client.scan_iter()])
    finally:
        await client.aclose()


@pytest.fixture
async def installation(
    environment: dict[str, str], trial: "Trial", tmp_path: Path
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
    }
    async with (
        working(variables, tmp_path, (*SERVE, str(port))) as api,
        working(variables, tmp_path, WORKER) as worker,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
    ):

        async def answers() -> bool:
            try:
                return (await http.get("/readyz")).is_success
            except httpx.TransportError:
                return False

        await until(answers)
        token = bearer_token(settings_from(variables), OWNER, "user", timedelta(hours=1), datetime.now(UTC))
        yield Installation(
            http, Source(http, variables["ENGINE_WEBHOOK_SECRETS"]), variables, [api, worker], token
        )


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
    connection = (await installation.done("POST", "/v1/connections", draft))["id"]
    path = f"/v1/connections/{connection}"
    for accident in trial.accidents:
        trial.faults.add(accident, trial.names, times=2)
        await installation.ask("POST", f"{path}/test")
        trial.faults.clear()
    tested = await installation.done("POST", f"{path}/test")
    assert tested["ok"], tested
    await installation.done("POST", f"{path}/activate")
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


async def read_everything(installation: Installation) -> None:
    """Everything an owner can read without naming it."""
    document = (await installation.http.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        if "get" in operations and "{" not in path and path.startswith("/v1/"):
            await installation.ask("GET", path)
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
        "token's signature": installation.token.rpartition(".")[2],
    } | {f"canary {number}": canary for number, canary in enumerate(sorted(canaries))}
    written = {name: secret.encode() for name, secret in plain.items()}
    written |= {f"{name}, quoted": quote_plus(secret).encode() for name, secret in plain.items()}
    return written | {"vault key, raw": vault_key_bytes(installation.environment["ENGINE_VAULT_KEYS"])}
