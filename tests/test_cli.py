"""The command line: what it prints, what it refuses, and what it posts."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import jwt
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import create_async_engine
from standardwebhooks.webhooks import Webhook
from typer.testing import CliRunner

from app.cli import app
from app.desk import open_desk
from app.domain.market import MarketType
from app.domain.orders import OrderRequest, OrderType, Side
from app.engine.access import broker_of
from app.settings import settings_from, vault_key_bytes
from app.store.connections import Connection, Kind
from app.store.entitlements import Entitlement
from migrations import head_revision
from tests.desks import add_connection

run = CliRunner().invoke

_SYNTHETIC = {"prices": "synthetic", "balance": "100000", "seed": 7}


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `.env` nor `.engine` of the checkout may be found."""
    monkeypatch.chdir(tmp_path)


Received = list[tuple[dict[str, str], bytes]]


class Webhooks(BaseHTTPRequestHandler):
    """Remembers what is posted and answers with one status."""

    received: ClassVar[Received]
    status: ClassVar[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((dict(self.headers.items()), body))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b'{"status": "accepted"}')

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@contextmanager
def listening(status: int) -> Iterator[tuple[str, Received]]:
    """Run a webhook receiver; gives its URL and what it receives."""
    Webhooks.received, Webhooks.status = [], status
    with HTTPServer(("127.0.0.1", 0), Webhooks) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", Webhooks.received
        finally:
            server.shutdown()
            thread.join()


def test_keys_new_prints_a_usable_key() -> None:
    first, second = run(app, ["keys", "new"]), run(app, ["keys", "new"])
    assert len(vault_key_bytes(first.output.strip())) == 32
    assert first.output != second.output


def test_token_carries_the_claims_of_the_contract(serverless_environment: dict[str, str]) -> None:
    arguments = ["token", "--sub", "u1", "--role", "user", "--scope", "read", "--hours", "2"]
    printed = run(app, arguments, env=serverless_environment)
    assert printed.exit_code == 0
    claims = jwt.decode(
        printed.output.strip(),
        serverless_environment["ENGINE_JWT_SECRET"],
        algorithms=["HS256"],
        audience="trading-execution-engine",
    )
    assert (claims["sub"], claims["role"], claims["scope"]) == ("u1", "user", "read")
    assert claims["exp"] - claims["iat"] == 7200


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sub", "u1", "--role", "owner"],
        ["--sub", "u1", "--role", "user", "--scope", "withdraw"],
        ["--sub", "", "--role", "user"],
        ["--sub", "x" * 65, "--role", "user"],
    ],
)
def test_token_refuses_what_the_contract_does_not_know(
    arguments: list[str], serverless_environment: dict[str, str]
) -> None:
    assert run(app, ["token", *arguments], env=serverless_environment).exit_code == 2


def test_missing_settings_end_with_two_and_a_name() -> None:
    refused = run(app, ["token", "--sub", "u1", "--role", "user"])
    assert refused.exit_code == 2
    assert "ENGINE_JWT_SECRET" in refused.output


def test_signal_posts_an_event_whose_signature_verifies(
    serverless_environment: dict[str, str], tmp_path: Path
) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"type": "signal.closed", "data": {"id": "ä1"}}, ensure_ascii=False))
    with listening(202) as (url, received):
        posted = run(app, ["signal", str(event), "--url", url], env=serverless_environment)
    assert posted.exit_code == 0
    assert "202" in posted.output
    [(headers, body)] = received
    verified = Webhook(serverless_environment["ENGINE_WEBHOOK_SECRETS"]).verify(body, headers)
    assert verified["data"]["id"] == "ä1"


def test_signal_reads_the_standard_input_and_fails_when_refused(
    serverless_environment: dict[str, str],
) -> None:
    with listening(422) as (url, received):
        posted = run(app, ["signal", "-", "--url", url], env=serverless_environment, input="{}")
    assert posted.exit_code == 1
    assert received[0][1] == b"{}"


def test_signal_says_when_nobody_answers(serverless_environment: dict[str, str]) -> None:
    with listening(202) as (url, _):
        pass
    posted = run(app, ["signal", "-", "--url", url], env=serverless_environment, input="{}")
    assert posted.exit_code == 1
    assert "does not answer" in posted.output


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_signal_says_which_file_it_cannot_read(
    serverless_environment: dict[str, str], content: bytes | None
) -> None:
    if content is not None:
        Path("event.json").write_bytes(content)
    posted = run(app, ["signal", "event.json"], env=serverless_environment)
    assert posted.exit_code == 1
    assert posted.output.startswith("event.json cannot be read: ")
    assert len(posted.output.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["report"],
        ["entitle", "--user", "u1", "--plans", "gold"],
        ["compare"],
        ["keys", "rotate"],
    ],
)
def test_a_database_that_is_away_is_one_line(
    serverless_environment: dict[str, str], arguments: list[str]
) -> None:
    refused = run(app, arguments, env=serverless_environment)
    assert refused.exit_code == 1
    [line] = [line for line in refused.output.splitlines() if not line.startswith("{")]
    assert line.startswith("The database cannot be used: ")


@pytest.mark.parametrize("hours", ["99999999999", "80000000", "nan", "inf"])
def test_a_token_ends_before_time_does(serverless_environment: dict[str, str], hours: str) -> None:
    arguments = ["token", "--sub", "u1", "--role", "user", "--hours", hours]
    refused = run(app, arguments, env=serverless_environment)
    assert refused.exit_code == 2
    assert "--hours" in refused.output


@pytest.mark.parametrize(
    ("expires", "moment"),
    [
        ("2026-12-31T18:00:00.123Z", datetime(2026, 12, 31, 18, 0, 0, 123_000, tzinfo=UTC)),
        ("2026-12-31T18:00:00+02:00", datetime(2026, 12, 31, 16, tzinfo=UTC)),
        ("2026-12-31T18:00Z", datetime(2026, 12, 31, 18, tzinfo=UTC)),
        ("2026-12-31", datetime(2026, 12, 31, tzinfo=UTC)),
    ],
)
def test_an_entitlement_ends_when_it_is_said_in_whichever_form(
    environment: dict[str, str], expires: str, moment: datetime
) -> None:
    arguments = ["entitle", "--user", "u1", "--plans", "gold, silver", "--expires", expires]
    done = run(app, arguments, env=environment)
    assert done.exit_code == 0, done.output
    entitlement = asyncio.run(entitlement_of(environment, "u1"))
    assert (entitlement.plans, entitlement.expires_at) == (["gold", "silver"], moment)


async def entitlement_of(environment: dict[str, str], user_id: str) -> Entitlement:
    """What a user may have."""
    async with open_desk(settings_from(environment)) as desk, desk.sessions() as session:
        return await session.get_one(Entitlement, user_id)


@pytest.mark.parametrize("expires", ["tomorrow", "+010000-01-01T00:00:00.000Z", "1767225600"])
def test_an_end_that_is_no_time_is_refused(serverless_environment: dict[str, str], expires: str) -> None:
    arguments = ["entitle", "--user", "u1", "--plans", "", "--expires", expires]
    refused = run(app, arguments, env=serverless_environment)
    assert refused.exit_code == 2
    assert "--expires" in refused.output


@pytest.mark.parametrize(
    "arguments", [["--candles", "BTC/USDT"], ["--candles", "BTC/USDT=/nowhere.csv"], ["--speed", "0"]]
)
def test_up_refuses_what_it_cannot_play(arguments: list[str]) -> None:
    assert run(app, ["up", *arguments]).exit_code == 2


def test_report_refuses_a_day_that_is_not_over() -> None:
    refused = run(app, ["report", "--day", "2999-01-01"])
    assert refused.exit_code == 2
    assert "not over" in refused.output


def test_no_token_is_signed_where_the_platform_signs_them(serverless_environment: dict[str, str]) -> None:
    environment = serverless_environment | {"ENGINE_JWT_JWKS_URL": "https://platform.example/jwks.json"}
    refused = run(app, ["token", "--sub", "u1", "--role", "user"], env=environment)
    assert refused.exit_code == 1
    assert "https://platform.example/jwks.json" in refused.output


def test_doctor_finds_each_thing_that_is_wrong(environment: dict[str, str]) -> None:
    lines = run(app, ["doctor"], env=environment)
    subjects = {line[7:].partition(":")[0]: line.split()[0] for line in lines.output.splitlines()}
    assert subjects == {
        "settings": "ok",
        "database": "ok",
        "migrations": "ok",
        "isolation": "ok",
        "tokens": "ok",
        "vault keys": "ok",
        "redis": "ok",
        "worker": "WRONG",
        "broker endpoints": "ok",
    }
    assert lines.exit_code == 1


def test_doctor_calls_nothing_good_that_it_could_not_look_at(serverless_environment: dict[str, str]) -> None:
    lines = run(app, ["doctor"], env=serverless_environment).output.splitlines()
    wrong = {line[7:].partition(":")[0] for line in lines if line.startswith("WRONG")}
    assert wrong == {"database", "migrations", "isolation", "vault keys", "redis", "worker"}


def test_doctor_tries_every_broker_endpoint(serverless_environment: dict[str, str]) -> None:
    with listening(200) as (url, _):
        given = {
            "binance": url,
            "mt5": f"{url}/bridges/5",
            "mt4": "http://127.0.0.1:1",
            "bynance": url,
            "paper": url,
        }
        environment = serverless_environment | {"ENGINE_BROKER_ENDPOINTS": json.dumps(given)}
        lines = run(app, ["doctor"], env=environment).output.splitlines()
    found = {
        subject: (line.split()[0], says)
        for line in lines
        for subject, _, says in [line[7:].partition(": ")]
        if subject.startswith("broker endpoint ")
    }
    port = url.rpartition(":")[2]
    assert found == {
        "broker endpoint binance": ("ok", f"127.0.0.1 port {port} takes connections"),
        "broker endpoint mt5": ("ok", f"127.0.0.1 port {port} takes connections"),
        "broker endpoint mt4": ("WRONG", "127.0.0.1 port 1 takes no connections: ConnectionRefusedError"),
        "broker endpoint bynance": ("WRONG", UNKNOWN_VENUE),
        "broker endpoint paper": ("WRONG", UNKNOWN_VENUE),
    }


UNKNOWN_VENUE = "there is no such exchange or bridge; `engine exchanges` lists them"


def test_doctor_knows_a_database_behind_the_code(environment: dict[str, str]) -> None:
    asyncio.run(forget_revision(environment["ENGINE_DATABASE_URL"]))
    lines = run(app, ["doctor"], env=environment).output.splitlines()
    [migrations] = [line for line in lines if "migrations" in line]
    assert migrations.startswith("WRONG")
    assert str(head_revision()) in migrations


def test_doctor_looks_for_the_keys_of_tokens(environment: dict[str, str]) -> None:
    published = environment | {"ENGINE_JWT_JWKS_URL": "http://127.0.0.1:1/jwks.json"}
    lines = run(app, ["doctor"], env=published).output.splitlines()
    [tokens] = [line for line in lines if " tokens: " in line]
    assert tokens.startswith("WRONG")
    assert "http://127.0.0.1:1/jwks.json" in tokens


async def forget_revision(database_url: str) -> None:
    """Let a database look as if it stood at another revision."""
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'older'"))
    await engine.dispose()


def test_doctor_says_which_settings_are_missing() -> None:
    lines = run(app, ["doctor"])
    assert lines.exit_code == 1
    assert "ENGINE_DATABASE_URL" in lines.output


def test_exchanges_are_printed_with_how_far_each_is_proven() -> None:
    printed = run(app, ["exchanges"])
    assert printed.exit_code == 0
    tiers = {line.split()[0]: line.split()[1] for line in printed.stdout.splitlines()}
    assert (tiers["binance"], tiers["okx"], tiers["htx"]) == ("certified", "compatible", "listed")
    table = run(app, ["exchanges", "--markdown"])
    assert table.exit_code == 0
    assert table.stdout.startswith("| tier |")


def test_compare_names_what_only_the_venue_has(environment: dict[str, str]) -> None:
    connection_id = asyncio.run(connect(environment))
    equal = run(app, ["compare"], env=environment)
    assert (equal.exit_code, equal.stdout) == (0, "1 of 1 connections hold what is in the database\n")

    asyncio.run(order_behind_our_back(environment))
    different = run(app, ["compare", "--since", "2026-11-24"], env=environment)
    assert different.exit_code == 1
    finding, total = different.stdout.splitlines()
    assert finding.startswith(
        f"{connection_id} paper: unknown_order BTC/USDT buy 0.1 client_order_id={'ab' * 16}"
    )
    assert total == "0 of 1 connections hold what is in the database"


def test_compare_counts_nothing_as_equal_that_it_could_not_ask(environment: dict[str, str]) -> None:
    connection_id = asyncio.run(connect(environment, kind=Kind.CRYPTO, exchange="binance"))
    asked = run(app, ["compare"], env=environment)
    assert asked.exit_code == 1
    reason, total = asked.stdout.splitlines()
    assert reason.startswith(f"{connection_id} binance: not compared  The venue: ")
    assert total.startswith("0 of 1 ")


async def connect(environment: dict[str, str], **fields: Any) -> UUID:
    """A connection without credentials, on paper unless told otherwise."""
    async with open_desk(settings_from(environment)) as desk:
        return (await add_connection(desk, market_type=MarketType.SPOT, paper=_SYNTHETIC, **fields)).id


async def order_behind_our_back(environment: dict[str, str]) -> None:
    """An order at the paper venue that the engine's tables have nothing of."""
    async with open_desk(settings_from(environment)) as desk:
        async with desk.sessions() as session:
            connection = (await session.scalars(select(Connection))).one()
        broker = await broker_of(desk, connection)
        quote = (await broker.quotes(["BTC/USDT"]))["BTC/USDT"]
        request = OrderRequest(
            client_order_id="ab" * 16,
            symbol="BTC/USDT",
            side=Side.BUY,
            type=OrderType.LIMIT,
            quantity=Decimal("0.1"),
            signed_at=desk.now(),
            price=(quote.bid / 2).quantize(Decimal(1)),
        )
        await broker.place(request)
