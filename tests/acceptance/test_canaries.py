"""Canary secrets sent down every path, with everything logged and things going wrong: they come out nowhere."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
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
from tests.venues.exchange import Exchange, Keys, running_exchange
from tests.venues.faults import ANSWER_LOST, HTML, TRUNCATED, Fault, reject, server_error
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
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges."""
    async with running_exchange() as venue:
        yield venue


@pytest.fixture
async def installation(
    environment: dict[str, str], venue: Exchange, tmp_path: Path
) -> AsyncIterator[Installation]:
    """An installation that reaches the simulated exchanges alone."""
    port = free_port()
    variables = {
        **environment,
        "ENGINE_BROKER_ENDPOINTS": json.dumps({"binanceusdm": venue.url}),
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


def accidents(keys: Keys) -> list[Fault]:
    """What venues say and do when things go wrong; some repeat the credentials they were sent."""
    said = f"Invalid API-key {keys.api_key}, IP, or permissions for action; secret {keys.secret}"
    return [
        reject({"code": -2015, "msg": said}, 401),
        reject({"code": -1, "msg": said}, 400),
        reject({"code": -1, "msg": said}, 500),
        HTML,
        TRUNCATED,
        ANSWER_LOST,
    ]


def draft(keys: Keys, **changes: Any) -> dict[str, Any]:
    """A connection to be made with these keys."""
    return {
        "name": "Canary",
        "kind": "crypto",
        "exchange": "binanceusdm",
        "market_type": "swap",
        "credentials": {"api_key": keys.api_key, "api_secret": keys.secret},
        "sizing": {"strategy": "fixed", "value": "0.01"},
        **changes,
    }


async def test_canaries_come_out_nowhere(installation: Installation, venue: Exchange) -> None:
    keys, later = venue.open_account({"USDT": "100000"}), venue.open_account({"USDT": "100000"})
    await refuse_what_is_wrong(installation, keys)
    connection = (await installation.done("POST", "/v1/connections", draft(keys)))["id"]
    path = f"/v1/connections/{connection}"
    for accident in accidents(keys):
        # Not what is public: who was not sent the key cannot repeat it.
        venue.faults.add(accident, lambda request: keys.api_key in str(request.headers), times=2)
        await installation.ask("POST", f"{path}/test")
        venue.faults.clear()
    assert (await installation.done("POST", f"{path}/test"))["ok"]
    await installation.done("POST", f"{path}/activate")

    await installation.source.send(
        "signal.published", {"id": "c1", "symbol": "BTC/USDT", "direction": "buy", "stop_loss": "15000"}
    )

    async def is_held() -> bool:
        positions = await installation.items("/v1/positions?status=open")
        return bool(positions) and positions[0]["protection"] == "native"

    await until(is_held)
    venue.faults.policy = lambda _: server_error(503, executed=False)
    await installation.ask("GET", f"{path}/balance")
    await installation.done("POST", f"{path}/close-all", {"reason": "canary"})
    venue.faults.clear()

    async def is_flat() -> bool:
        return bool(await installation.items("/v1/positions?status=closed"))

    await until(is_flat, 60)
    await installation.done(
        "PATCH", path, {"credentials": {"api_key": later.api_key, "api_secret": later.secret}}
    )
    await installation.ask("POST", f"{path}/test")
    await read_everything(installation)
    hunted = await installation.everything()
    await installation.done("DELETE", path)
    hunted |= {f"{place} afterwards": found for place, found in (await installation.everything()).items()}

    assert any(keys.api_key in str(request.headers) for request in venue.requests), "the canary was used"
    canaries = secrets_of(installation, keys, later)
    assert [
        (name, place)
        for name, secret in canaries.items()
        for place, found in hunted.items()
        if secret in found
    ] == []
    assert b"order_claimed" in hunted["logs"], "and the logs tell of what was done"


async def refuse_what_is_wrong(installation: Installation, keys: Keys) -> None:
    """Credentials inside requests that cannot be meant."""
    for wrong in (
        draft(keys, name=""),
        draft(keys, exchange="mtgox"),
        draft(keys, credentials={"api_key": keys.api_key}),
        draft(keys, credentials={"api_key": keys.api_key, "api_secret": keys.secret, "pin": keys.secret}),
        draft(keys, credentials=[keys.api_key, keys.secret]),
    ):
        assert (await installation.ask("POST", "/v1/connections", wrong)).status_code == 422


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


def secrets_of(installation: Installation, *accounts: Keys) -> dict[str, bytes]:
    """Everything that has to be found nowhere, and how else it could be written."""
    plain = {
        "jwt secret": installation.environment["ENGINE_JWT_SECRET"],
        "webhook secret": installation.environment["ENGINE_WEBHOOK_SECRETS"].removeprefix("whsec_"),
        "vault key": installation.environment["ENGINE_VAULT_KEYS"].removeprefix("k1_"),
        "metrics token": installation.environment["ENGINE_METRICS_TOKEN"],
        "bearer token": installation.token,
        "token's signature": installation.token.rpartition(".")[2],
    }
    for number, keys in enumerate(accounts):
        plain |= {f"api key {number}": keys.api_key, f"api secret {number}": keys.secret}
    written = {name: secret.encode() for name, secret in plain.items()}
    written |= {f"{name}, quoted": quote_plus(secret).encode() for name, secret in plain.items()}
    return written | {"vault key, raw": vault_key_bytes(installation.environment["ENGINE_VAULT_KEYS"])}
