"""The analytics resource over HTTP: figures worked out by hand, and nobody else's trades."""

import csv
import io
import statistics as reference
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.api import trades as resource
from app.desk import Desk
from app.domain.owners import Owner
from app.domain.performance import FORMULAS, Flow, Statistics, Trade, statistics
from app.domain.portfolios import HistoryKey, Snapshot, published
from app.domain.positions import PositionStatus
from app.engine.reporting import report_day
from app.main import Service
from app.store.analytics import record
from app.store.connections import Connection, ConnectionStatus
from app.store.positions import Position
from tests.api.scene import Clock, Platform
from tests.store.test_analytics import (
    ADMIN_ALICE,
    ALICE,
    BOB,
    MICROSECOND,
    at,
    connection_of,
    day,
    figures_of,
    save,
    trade_rows,
)

D = Decimal
PATHS = ("/summary", "/daily", "/equity-curve", "/trades.csv")
LISTS = PATHS[:3]

Json = dict[str, Any]
Query = Mapping[str, Any]


@pytest.fixture
def clock() -> Clock:
    """The afternoon of day 10."""
    return Clock(at(10, 15))


@dataclass(frozen=True)
class Client:
    """The resource as its callers see it."""

    http: httpx.AsyncClient
    platform: Platform

    async def ask(self, path: str, query: Query | None = None, owner: Owner = ALICE) -> httpx.Response:
        """Any answer, to a token that may only read."""
        headers = self.platform.bearer(owner, scope="read")
        return await self.http.get(f"/v1/analytics{path}", params=query, headers=headers)

    async def get(self, path: str, query: Query | None = None, owner: Owner = ALICE) -> Json:
        """The body of a good answer."""
        answer = await self.ask(path, query, owner)
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    async def items(self, path: str, query: Query | None = None, owner: Owner = ALICE) -> list[Json]:
        """The items of a good answer."""
        found: list[Json] = (await self.get(path, query, owner))["items"]
        return found

    async def lines(self, query: Query | None = None, owner: Owner = ALICE) -> list[dict[str, str]]:
        """The exported trades."""
        answer = await self.ask("/trades.csv", query, owner)
        assert answer.status_code == 200, answer.text
        return list(csv.DictReader(io.StringIO(answer.text, newline="")))


@pytest.fixture
def client(http: httpx.AsyncClient, platform: Platform) -> Client:
    """Whoever asks."""
    return Client(http, platform)


def days(first: int, last: int) -> Query:
    """The range between two numbered days."""
    return {"from": day(first).isoformat(), "to": day(last).isoformat()}


def until(last: int) -> Query:
    """The range up to a numbered day."""
    return {"to": day(last).isoformat()}


async def snapshot(desk: Desk, connection: Connection, number: int, said: Snapshot) -> None:
    """Store a day's row with what the venue said."""
    key = HistoryKey(connection.id, "USDT")
    async with desk.sessions.begin() as session:
        await record(session, day(number), {key: figures_of()}, {key: said}, desk.now())


# Summary


async def test_a_summary_by_hand(client: Client, desk: Desk) -> None:
    connection = connection_of()
    await save(
        desk.sessions,
        connection,
        trade_rows(connection, "50", at(0, 10), fees="1", held=timedelta(seconds=100)),
        trade_rows(connection, "-150", at(1), fees="2", held=timedelta(seconds=200)),
        trade_rows(connection, "0", at(1, 13), fees="3.5", held=timedelta(seconds=301)),
        trade_rows(connection, "45", at(2)),
        trade_rows(connection, "9", at(2), status=PositionStatus.OPEN),
    )
    (summary,) = await client.items("/summary", until(3))
    # Capital at 00:00 UTC of days 0 to 3: 1000, 1050, 900, 945.
    returns = [50 / 1000, -150 / 1050, 45 / 900, 0.0]
    sharpe = reference.mean(returns) / reference.stdev(returns) * 365**0.5
    sortino = reference.mean(returns) / (returns[1] ** 2 / 4) ** 0.5 * 365**0.5
    assert float(summary.pop("sharpe")) == pytest.approx(sharpe)
    assert float(summary.pop("sortino")) == pytest.approx(sortino)
    assert summary == {
        "currency": "USDT",
        "trades": 4,
        "wins": 2,
        "losses": 1,
        "breakeven": 1,
        "win_rate": "50",
        "profit_factor": "0.633333333333333333",
        "gross_profit": "95",
        "gross_loss": "150",
        "net_pnl": "-55",
        "fees": "6.5",
        "average_win": "47.5",
        "average_loss": "150",
        "expectancy": "-13.75",
        "largest_win": "50",
        "largest_loss": "150",
        "longest_win_streak": 1,
        "longest_loss_streak": 1,
        "average_holding_seconds": "165.25",
        "max_drawdown": "150",
        "max_drawdown_percent": "14.285714285714285714",
        "calmar": None,
        "balance": None,
        "equity": None,
        "complete": True,
        "first_day": "2026-03-01",
        "last_day": "2026-03-04",
    }


async def test_an_account_that_only_loses(client: Client, desk: Desk) -> None:
    connection = connection_of()
    await save(
        desk.sessions, connection, *(trade_rows(connection, "-300", at(number)) for number in range(4))
    )
    (summary,) = await client.items("/summary", until(9))
    assert (summary["win_rate"], summary["profit_factor"], summary["average_win"]) == ("0", "0", None)
    assert (summary["gross_loss"], summary["average_loss"], summary["largest_loss"]) == ("1200", "300", "300")
    assert (summary["max_drawdown"], summary["max_drawdown_percent"]) == ("1200", "120")
    assert (summary["longest_loss_streak"], summary["net_pnl"], summary["expectancy"]) == (4, "-1200", "-300")


async def test_currencies_are_never_added_up(client: Client, desk: Desk) -> None:
    connection = connection_of(starting={"USDT": "1000", "EUR": "10"})
    await save(
        desk.sessions,
        connection,
        trade_rows(connection, "5", at(1)),
        trade_rows(connection, "-1", at(1), currency="EUR"),
        trade_rows(connection, "3", at(1), currency="USDC"),
    )
    found = {each["currency"]: each for each in await client.items("/summary")}
    assert list(found) == ["EUR", "USDC", "USDT"]
    assert {currency: each["net_pnl"] for currency, each in found.items()} == {
        "EUR": "-1",
        "USDC": "3",
        "USDT": "5",
    }
    assert [each["max_drawdown_percent"] for each in found.values()] == ["10", None, "0"]


async def test_a_range_takes_the_capital_that_was_there_when_it_began(client: Client, desk: Desk) -> None:
    connection = connection_of()
    await save(
        desk.sessions,
        connection,
        trade_rows(connection, "1000", at(2, 0) - MICROSECOND),
        trade_rows(connection, "-200", at(2, 0)),
        trade_rows(connection, "100", at(4, 0) - MICROSECOND),
        trade_rows(connection, "7", at(4, 0)),
    )
    (summary,) = await client.items("/summary", days(2, 3))
    assert (summary["trades"], summary["net_pnl"], summary["max_drawdown_percent"]) == (2, "-100", "10")
    assert (summary["first_day"], summary["last_day"]) == ("2026-03-03", "2026-03-04")
    points = await client.items("/equity-curve", days(2, 3))
    assert [(each["balance"], each["net_pnl"], each["drawdown"]) for each in points] == [
        ("2000", "0", "0"),
        ("1800", "-200", "200"),
        ("1900", "-100", "100"),
    ]


async def test_connections_are_one_portfolio_unless_one_is_named(client: Client, desk: Desk) -> None:
    one, two = connection_of(), connection_of(starting={"USDT": "500"}, activated_at=at(2, 8))
    await save(
        desk.sessions,
        one,
        two,
        trade_rows(one, "100", at(1)),
        trade_rows(two, "-160", at(3)),
        trade_rows(one, "60", at(4)),
    )
    points = await client.items("/equity-curve")
    assert [(each["balance"], each["drawdown"]) for each in points] == [
        ("1000", "0"),
        ("1100", "0"),
        ("1440", "160"),
        ("1500", "100"),
    ]
    (summary,) = await client.items("/summary")
    assert (summary["trades"], summary["max_drawdown_percent"]) == (3, "10")
    (alone,) = await client.items("/summary", {"connection_id": two.id})
    assert (alone["trades"], alone["max_drawdown_percent"], alone["first_day"]) == (1, "32", "2026-03-03")


@pytest.mark.parametrize("seed", range(4))
async def test_a_summary_is_the_statistics_of_its_trades(client: Client, desk: Desk, seed: int) -> None:
    random = Random(seed)
    one, two = connection_of(), connection_of(starting={"USDT": "333.3"}, activated_at=at(4, 0))
    made = [
        trade_rows(
            two if number % 3 == 0 else one,
            D(random.randint(-(10**21), 10**21)).scaleb(-19),
            at(4 if number % 3 == 0 else 0, 10) + timedelta(seconds=random.randint(0, 6 * 86400)),
            fees=str(random.randint(0, 3)),
            held=timedelta(microseconds=random.randint(0, 10**10)),
        )
        for number in range(50)
    ]
    await save(desk.sessions, one, two, *made)
    async with desk.sessions() as session:
        positions = [await session.get_one(Position, rows[-1].id) for rows in made]
    trades = [
        Trade(
            each.id,
            each.opened_at,
            each.closed_at,
            each.gross_pnl,
            each.fees,
            each.funding,
            each.realized_pnl,
        )
        for each in positions
        if each.closed_at is not None
    ]
    for first, last in [(0, 10), (3, 3), (2, 8), (5, 10)]:
        expected = statistics(
            trades,
            starting_balance=D(1000),
            flows=[Flow(at(4, 0), D("333.3"))],
            first_day=day(first),
            last_day=day(last),
        )
        query = days(first, last)
        (summary,) = await client.items("/summary", query)
        shown = {
            name: D(summary[name]) if isinstance(value, Decimal) else summary[name]
            for name, value in published(expected).items()
        }
        assert shown == published(expected)
        by_day = await client.items("/daily", {**query, "limit": 200})
        assert sum(each["trades"] for each in by_day) == summary["trades"] == len(await client.lines(query))
        assert sum(D(each["net_pnl"]) for each in by_day) == D(summary["net_pnl"])
        assert sum(D(each["realized_pnl"]) for each in await client.lines(query)) == D(summary["net_pnl"])
        *_, last_point = await client.items("/equity-curve", query)
        assert last_point["net_pnl"] == summary["net_pnl"]


async def test_a_figure_of_any_size_can_be_answered(client: Client, desk: Desk) -> None:
    connection = connection_of(starting={"USDT": "0.000000000000000001"}, activated_at=at(-40))
    await save(
        desk.sessions,
        connection,
        trade_rows(connection, "9999999999999999999", at(0)),
        trade_rows(connection, "-0.000000000000000001", at(1)),
    )
    (summary,) = await client.items("/summary")
    assert summary["profit_factor"] == "9999999999999999999000000000000000000"
    assert summary["calmar"].isdecimal()
    assert len(summary["calmar"]) > 300


# What the venue said


async def test_the_balance_is_that_of_the_last_day(client: Client, desk: Desk) -> None:
    said = {"USDT": {"balance": "1300", "equity": "1310.50"}}
    one, two = connection_of(balances=said), connection_of(balances=said)
    asleep = connection_of(status=ConnectionStatus.INACTIVE, balances=said)
    await save(desk.sessions, one, two, asleep)
    await snapshot(desk, one, 5, Snapshot(D(1000), D(1001)))
    await snapshot(desk, two, 5, Snapshot(D(2000), None))
    (summary,) = await client.items("/summary", until(5))
    assert (summary["balance"], summary["equity"], summary["complete"]) == ("3000", None, True)
    (summary,) = await client.items("/summary", until(6))
    assert (summary["balance"], summary["equity"]) == (None, None)
    (summary,) = await client.items("/summary")
    assert (summary["balance"], summary["equity"], summary["complete"]) == ("2600", "2621", False)
    (summary,) = await client.items("/summary", {"connection_id": one.id})
    assert (summary["balance"], summary["equity"]) == ("1300", "1310.5")


async def test_an_unknown_balance_makes_the_sum_unknown(client: Client, desk: Desk) -> None:
    await save(
        desk.sessions, connection_of(balances={"USDT": {"balance": "5", "equity": "5"}}), connection_of()
    )
    (summary,) = await client.items("/summary")
    assert (summary["balance"], summary["equity"]) == (None, None)


# Day by day


async def test_days_are_newest_first_and_today_is_live(client: Client, desk: Desk) -> None:
    connection = connection_of(balances={"USDT": {"balance": "1042", "equity": "1050"}})
    await save(
        desk.sessions,
        connection,
        trade_rows(connection, "50", at(3)),
        trade_rows(connection, "-8", at(10, 0)),
        trade_rows(connection, "1", at(8), currency="EUR"),
    )
    await report_day(desk, day(3))
    await snapshot(desk, connection, 6, Snapshot(D(1050), D(1051)))
    found = await client.items("/daily")
    assert [
        (each["day"], each["currency"], each["trades"], each["net_pnl"], each["balance"], each["complete"])
        for each in found
    ] == [
        ("2026-03-11", "EUR", 0, "0", None, False),
        ("2026-03-11", "USDT", 1, "-8", "1042", False),
        ("2026-03-09", "EUR", 1, "1", None, True),
        ("2026-03-07", "USDT", 0, "0", "1050", True),
        ("2026-03-04", "USDT", 1, "50", None, True),
    ]
    assert found[1]["max_drawdown_percent"] == "0.761904761904761905"
    assert found[1]["equity"] == "1050"


async def test_a_stored_day_and_a_day_computed_now_are_the_same(client: Client, desk: Desk) -> None:
    connection = connection_of()
    await save(desk.sessions, connection, *(trade_rows(connection, net, at(4)) for net in ("3", "-2", "0.5")))
    before = await client.items("/daily", until(4))
    await report_day(desk, day(4))
    assert await client.items("/daily", until(4)) == before
    assert await client.items("/daily", {**until(4), "connection_id": connection.id}) == before


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_days_come_in_pages(client: Client, desk: Desk, limit: int) -> None:
    connection, other = connection_of(starting={"USDT": "1000", "EUR": "1"}), connection_of()
    await save(
        desk.sessions,
        connection,
        other,
        *(trade_rows(connection, str(number), at(number)) for number in (1, 2, 5, 10)),
        *(trade_rows(other, "-1", at(number), currency="EUR") for number in (2, 5)),
        trade_rows(other, "1", at(2), currency="币安"),
    )
    whole = await client.items("/daily", {"limit": 200})
    assert [(each["day"][-2:], each["currency"]) for each in whole] == [
        ("11", "EUR"),
        ("11", "USDT"),
        ("11", "币安"),
        ("06", "EUR"),
        ("06", "USDT"),
        ("03", "EUR"),
        ("03", "USDT"),
        ("03", "币安"),
        ("02", "USDT"),
    ]
    paged, cursor = [], None
    while True:
        page = await client.get("/daily", {"limit": limit, **({"cursor": cursor} if cursor else {})})
        assert len(page["items"]) <= limit
        paged += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == whole


async def test_who_is_not_active_has_no_row_today(client: Client, desk: Desk) -> None:
    connection = connection_of(status=ConnectionStatus.INACTIVE)
    await save(desk.sessions, connection, trade_rows(connection, "1", at(9)))
    assert [each["day"] for each in await client.items("/daily")] == ["2026-03-10"]
    await save(desk.sessions, trade_rows(connection, "1", at(10)))
    assert [each["day"] for each in await client.items("/daily")] == ["2026-03-11", "2026-03-10"]


@pytest.mark.parametrize("cursor", ["!", "AAAA", "MjAyNi0xMy00MCBVU0RU", "MjAyNi0wMy0wMSAA", "é"])
async def test_a_cursor_of_another_kind_is_refused(client: Client, cursor: str) -> None:
    answer = await client.ask("/daily", {"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["errors"][0]["path"] == "cursor"


# The curve


async def test_a_curve_starts_where_the_trading_did(client: Client, desk: Desk) -> None:
    connection = connection_of(starting={"USDT": "1000", "EUR": "7"})
    await save(desk.sessions, connection, trade_rows(connection, "-2.50", at(3)))
    assert await client.items("/equity-curve") == [
        {"time": "2026-03-01T00:00:00Z", "currency": "EUR", "balance": "7", "net_pnl": "0", "drawdown": "0"},
        {
            "time": "2026-03-01T00:00:00Z",
            "currency": "USDT",
            "balance": "1000",
            "net_pnl": "0",
            "drawdown": "0",
        },
        {
            "time": "2026-03-04T12:00:00Z",
            "currency": "USDT",
            "balance": "997.5",
            "net_pnl": "-2.5",
            "drawdown": "2.5",
        },
    ]


async def test_without_a_known_start_a_curve_has_no_balance(client: Client, desk: Desk) -> None:
    connection = connection_of(starting={})
    await save(desk.sessions, connection, trade_rows(connection, "-2", at(3)))
    points = await client.items("/equity-curve")
    assert [(each["balance"], each["net_pnl"], each["drawdown"]) for each in points] == [
        (None, "0", "0"),
        (None, "-2", "2"),
    ]


# trades.csv


async def test_an_export_by_hand(client: Client, desk: Desk) -> None:
    connection = connection_of()
    made = trade_rows(
        connection,
        "-1.5",
        at(3, 4) + timedelta(microseconds=250),
        fees="0.25",
        funding="-0.25",
        held=timedelta(hours=1, microseconds=250),
    )
    await save(desk.sessions, connection, made)
    answer = await client.ask("/trades.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="trades.csv"'
    signal, _, position = made
    assert answer.text == (
        "position_id,connection_id,signal_id,provider,symbol,side,quantity,entry_price,exit_price,gross_pnl,"
        "fees,funding,realized_pnl,pnl_complete,currency,opened_at,closed_at,holding_seconds,close_reason\r\n"
        f"{position.id},{connection.id},{signal.id},default,BTC/USDT,long,0.5,20000,20100.5,-1,0.25,-0.25,"
        "-1.5,true,USDT,2026-03-04T03:00:00Z,2026-03-04T04:00:00.000250Z,3600.00025,take_profit\r\n"
    )


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
async def test_no_text_is_a_formula(client: Client, desk: Desk, start: str) -> None:
    connection = connection_of()
    text = f'{start}HYPERLINK("http://evil.example","1,2")'
    await save(desk.sessions, connection, trade_rows(connection, "-5", at(3), provider=text))
    (line,) = await client.lines()
    assert line["provider"] == f"'{text}"
    assert line["realized_pnl"] == "-5"


async def test_an_export_is_read_in_batches(
    client: Client, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "BATCH", 3)
    connection = connection_of()
    made = [trade_rows(connection, str(number), at(2), id=UUID(int=number)) for number in range(1, 7)]
    made += [trade_rows(connection, "7", at(1)), trade_rows(connection, "8", at(3))]
    await save(desk.sessions, connection, *made)
    assert [line["realized_pnl"] for line in await client.lines()] == ["7", "1", "2", "3", "4", "5", "6", "8"]


async def test_an_export_keeps_to_its_days(client: Client, desk: Desk) -> None:
    connection = connection_of()
    moments = [at(2, 0) - MICROSECOND, at(2, 0), at(4, 0) - MICROSECOND, at(4, 0)]
    await save(
        desk.sessions,
        connection,
        *(trade_rows(connection, str(n), moment) for n, moment in enumerate(moments)),
    )
    found = await client.lines(days(2, 3))
    assert [line["realized_pnl"] for line in found] == ["1", "2"]


# Whose, and which days


async def test_nobody_sees_anybody_elses(client: Client, desk: Desk) -> None:
    theirs, admins = connection_of(BOB), connection_of(ADMIN_ALICE)
    await save(desk.sessions, theirs, admins, trade_rows(theirs, "1"), trade_rows(admins, "2"))
    await report_day(desk, day(0))
    for path in LISTS:
        assert await client.items(path) == []
    assert await client.lines() == []
    assert [line["realized_pnl"] for line in await client.lines(owner=ADMIN_ALICE)] == ["2"]
    assert [each["net_pnl"] for each in await client.items("/summary", owner=BOB)] == ["1"]


@pytest.mark.parametrize("path", PATHS)
async def test_anothers_connection_is_not_found(client: Client, desk: Desk, path: str) -> None:
    theirs, admins = connection_of(BOB), connection_of(ADMIN_ALICE)
    await save(desk.sessions, theirs, admins, trade_rows(theirs, "1"))
    for id_ in (theirs.id, admins.id, uuid4()):
        answer = await client.ask(path, {"connection_id": str(id_)})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_history_of_a_deleted_connection_stays(client: Client, desk: Desk) -> None:
    gone = connection_of(status=ConnectionStatus.INACTIVE, deleted_at=at(5))
    await save(desk.sessions, gone, trade_rows(gone, "3", at(4)))
    for query in ({}, {"connection_id": gone.id}):
        assert [each["net_pnl"] for each in await client.items("/summary", query)] == ["3"]
        assert [each["day"] for each in await client.items("/daily", query)] == ["2026-03-05"]
        assert len(await client.lines(query)) == 1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"from": "1"}, "from"),
        ({"to": "2026-03-01T00:00:00"}, "to"),
        ({"to": "2026-02-30"}, "to"),
        ({"connection_id": "x"}, "connection_id"),
        ({"timezone": "Europe/Berlin"}, "timezone"),
        ({"form": "2026-03-01"}, "form"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    client: Client, path: str, query: dict[str, str], where: str
) -> None:
    answer = await client.ask(path, query)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert [each["path"] for each in answer.json()["errors"]] == [where]


async def test_days_that_never_were_are_empty(client: Client, desk: Desk) -> None:
    connection = connection_of()
    await save(desk.sessions, connection, trade_rows(connection, "1", at(1)))
    for query in (
        {"to": "2026-02-28"},
        {"from": "2026-03-12"},
        {"from": "9999-12-31", "to": "9999-12-31"},
        {"from": "0001-01-01", "to": "0001-01-01"},
    ):
        for path in LISTS:
            assert await client.items(path, query) == []
        assert await client.lines(query) == []
    everything = {"from": "0001-01-01", "to": "9999-12-31", "timezone": "UTC"}
    assert await client.items("/summary", everything) == await client.items("/summary")


@pytest.mark.parametrize("path", PATHS)
async def test_somebody_has_to_be_asking(client: Client, path: str) -> None:
    answer = await client.http.get(f"/v1/analytics{path}")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


# The OpenAPI page


def test_every_field_is_described(service: Service) -> None:
    document = service.openapi()
    schemas = document["components"]["schemas"]
    for name in ("Summary", "DailyFigures", "EquityPoint"):
        for field, schema in schemas[name]["properties"].items():
            assert schema.get("description"), (name, field)
            assert schema.get("examples") or "anyOf" in schema or "$ref" in schema, (name, field)
    for field in fields(Statistics):
        assert schemas["Summary"]["properties"][field.name]["description"] == FORMULAS[field.name]
    for path in PATHS:
        parameters = document["paths"][f"/v1/analytics{path}"]["get"]["parameters"]
        assert {"connection_id", "from", "to"} <= {each["name"] for each in parameters}
        assert all(each["description"] for each in parameters)
