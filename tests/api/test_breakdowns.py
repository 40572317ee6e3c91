"""Parts of a performance over HTTP: they add up to the whole, and hold nobody else's."""

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final
from uuid import uuid4

import pytest

from app.desk import Desk
from app.domain.portfolios import Snapshot
from app.store.connections import Connection
from tests.api.scene import Clock
from tests.api.test_analytics import Client, client, days, snapshot, until
from tests.store.test_analytics import ADMIN_ALICE, ALICE, BOB, at, connection_of, day, save, trade_rows

__all__ = ["client"]

D = Decimal
QUALITIES: Final = ("symbol", "provider", "exchange", "connection")
SUMS: Final = ("trades", "wins", "losses", "breakeven", "gross_profit", "gross_loss", "net_pnl", "fees")
OF_CAPITAL: Final = ("max_drawdown_percent", "sharpe", "sortino", "calmar", "balance", "equity")


@pytest.fixture
def clock() -> Clock:
    """The afternoon of day 10."""
    return Clock(at(10, 15))


@pytest.fixture
async def accounts(desk: Desk) -> list[Connection]:
    """Three accounts of one owner at two exchanges with many trades, one of another, and one of an admin."""
    chance = Random(11)
    main, second = (
        connection_of(
            starting={"USDT": "1000", "EUR": "500"}, balances={"USDT": {"balance": amount, "equity": "1"}}
        )
        for amount in ("1100", "1200")
    )
    main.name, second.name, second.exchange = "Main", "Second", "binance"
    late = connection_of(activated_at=at(4, 9), deleted_at=at(9))
    theirs, admins = connection_of(BOB), connection_of(ADMIN_ALICE)
    trades = [
        trade_rows(
            chance.choice((main, second, late, theirs, admins)),
            chance.choice(("12.5", "-7.25", "0", "3.000000000000000001")),
            at(chance.randint(4, 10), chance.randint(0, 14)) + timedelta(seconds=number),
            fees="0.1",
            currency=chance.choice(("USDT", "USDT", "EUR")),
            symbol=chance.choice(("BTC/USDT", "ETH/USDT", "SOL/USDT")),
            provider=chance.choice(("alpha", "default")),
        )
        for number in range(60)
    ]
    await save(desk.sessions, main, second, late, theirs, admins, *trades)
    return [main, second, late, theirs, admins]


def added_up(items: list[dict[str, Any]]) -> dict[str, dict[str, Decimal]]:
    """The sums of the parts of each currency."""
    sums: dict[str, dict[str, Decimal]] = defaultdict(lambda: dict.fromkeys(SUMS, D(0)))
    for item in items:
        for name in SUMS:
            sums[item["currency"]][name] += D(item[name])
    return dict(sums)


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("by", QUALITIES)
@pytest.mark.parametrize("period", [{}, days(5, 8), until(6)], ids=["all", "some days", "up to a day"])
async def test_parts_add_up_to_the_summary(client: Client, by: str, period: dict[str, str]) -> None:
    parts = await client.get("/breakdown", {"by": by, **period})
    assert parts["next_cursor"] is None
    whole = await client.items("/summary", period)
    assert added_up(parts["items"]) == added_up(whole)
    places = [(part["currency"], part["key"]) for part in parts["items"]]
    assert places == sorted(set(places))
    assert len(places) >= 4


async def test_parts_of_one_connection(client: Client, accounts: list[Connection]) -> None:
    only = {"connection_id": str(accounts[0].id)}
    for by in QUALITIES:
        parts = await client.items("/breakdown", {"by": by, **only})
        assert added_up(parts) == added_up(await client.items("/summary", only)), by


async def test_a_connection_is_a_part_with_its_capital(client: Client, accounts: list[Connection]) -> None:
    parts = await client.items("/breakdown", {"by": "connection"})
    assert {part["key"]: part["name"] for part in parts} == {str(each.id): each.name for each in accounts[:3]}
    for part in parts:
        [alone] = [
            item
            for item in await client.items("/summary", {"connection_id": part["key"]})
            if item["currency"] == part["currency"]
        ]
        for name in ("first_day", "last_day"):
            del alone[name]
        assert alone == {name: value for name, value in part.items() if name not in ("key", "name")}


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("by", ["symbol", "provider"])
async def test_a_symbol_has_no_capital_of_its_own(client: Client, by: str) -> None:
    for part in await client.items("/breakdown", {"by": by}):
        assert part["name"] == part["key"]
        assert [part[name] for name in OF_CAPITAL] == [None] * len(OF_CAPITAL)
        assert D(part["max_drawdown"]) >= 0


async def test_parts_by_hand(client: Client, desk: Desk) -> None:
    connection = connection_of()
    await save(
        desk.sessions,
        connection,
        trade_rows(connection, "10", at(1), symbol="BTC/USDT"),
        trade_rows(connection, "-4", at(2), symbol="BTC/USDT"),
        trade_rows(connection, "5", at(3), symbol="ETH/USDT"),
    )
    bitcoin, ether = await client.items("/breakdown", {"by": "symbol"})
    assert (bitcoin["key"], bitcoin["trades"], bitcoin["net_pnl"]) == ("BTC/USDT", 2, "6")
    assert (bitcoin["win_rate"], bitcoin["profit_factor"], bitcoin["max_drawdown"]) == ("50", "2.5", "4")
    assert (ether["key"], ether["trades"], ether["profit_factor"]) == ("ETH/USDT", 1, None)
    assert (ether["average_loss"], ether["largest_loss"]) == (None, None)


async def test_an_exchange_is_its_connections_as_one_portfolio(
    client: Client, accounts: list[Connection], desk: Desk
) -> None:
    main, second, late = accounts[:3]
    await snapshot(desk, main, 8, Snapshot(D(10), D(11)))
    await snapshot(desk, second, 8, Snapshot(D(20), D(21)))
    await snapshot(desk, late, 8, Snapshot(D(30), None))
    parts = await client.items("/breakdown", {"by": "exchange", **until(8)})
    said = {part["key"]: (part["balance"], part["equity"]) for part in parts if part["currency"] == "USDT"}
    assert said == {"binance": ("20", "21"), "paper": ("40", None)}


async def test_connections_beside_each_other(client: Client, accounts: list[Connection]) -> None:
    order = [str(accounts[place].id) for place in (2, 0)]
    compared = await client.get("/compare", {"connection_id": [*order, order[0]]})
    assert compared["next_cursor"] is None
    found = [(item["currency"], item["connection_id"]) for item in compared["items"]]
    assert [id_ for currency, id_ in found if currency == "USDT"] == order
    for item in compared["items"]:
        alone = await client.items("/summary", {"connection_id": item["connection_id"]})
        named = {name: item[name] for name in ("connection_id", "name", "exchange")}
        assert item in [{**each, **named} for each in alone]
        assert item["name"] == next(each.name for each in accounts if str(each.id) == item["connection_id"])


async def test_without_a_choice_all_are_compared(client: Client, accounts: list[Connection]) -> None:
    compared = await client.items("/compare", days(5, 8))
    usdt = [item["connection_id"] for item in compared if item["currency"] == "USDT"]
    assert usdt == sorted(str(each.id) for each in accounts[:3])
    assert {item["first_day"] for item in compared} == {day(5).isoformat()}


@pytest.mark.parametrize("place", [3, 4, None], ids=["another's", "an admin's", "nobody's"])
async def test_what_is_not_theirs_is_not_there(
    client: Client, accounts: list[Connection], place: int | None
) -> None:
    foreign = str(uuid4() if place is None else accounts[place].id)
    for query in ({"connection_id": foreign}, {"connection_id": [str(accounts[0].id), foreign]}):
        answer = await client.ask("/compare", query)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = await client.ask("/breakdown", {"by": "symbol", "connection_id": foreign})
    assert answer.status_code == 404


async def test_nothing_of_others_is_in_a_part(client: Client, accounts: list[Connection]) -> None:
    for path, query in (("/compare", {}), *(("/breakdown", {"by": by}) for by in QUALITIES)):
        told = (await client.ask(path, query)).text
        assert not any(str(each.id) in told for each in accounts[3:])
        empty = await client.get(path, query, owner=ALICE.__class__(ALICE.role, "nobody"))
        assert empty == {"items": [], "next_cursor": None}


async def test_what_parts_are_told_apart_by_is_one_of_four(client: Client) -> None:
    for query in ({}, {"by": "owner"}, {"by": "symbol", "to": "soon"}):
        assert (await client.ask("/breakdown", query)).status_code == 422
    too_many = {"connection_id": [str(uuid4()) for _ in range(51)]}
    assert (await client.ask("/compare", too_many)).status_code == 422
