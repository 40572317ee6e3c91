"""Reporting: what a completed day's rows say, and that asking for them again says the same."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import event, select, update

from app.brokers.directory import Access
from app.brokers.port import Account, Balance, Broker, Permissions, Refused, Uncertain, Unreachable
from app.desk import Desk, Sessions
from app.domain import portfolios
from app.domain.errors import Invalid
from app.domain.portfolios import FIGURES, HistoryKey
from app.domain.positions import PositionStatus
from app.engine import reporting
from app.engine.reporting import catch_up, report_day, snapshot_balances
from app.store import analytics
from app.store.analytics import DailyRow, Scope
from app.store.connections import Connection, ConnectionStatus
from tests.desks import Clock, opened_desk
from tests.store.test_analytics import (
    ALICE,
    BOB,
    MICROSECOND,
    at,
    connection_of,
    day,
    save,
    trade_rows,
)

D = Decimal
ONE_SECOND = timedelta(seconds=1)


Answer = Callable[[], Account]


@dataclass
class Accounts:
    """A venue that only knows accounts: by connection, what asking for one brings."""

    answers: dict[UUID, Answer] = field(default_factory=dict)
    silent: dict[UUID, asyncio.Event] = field(default_factory=dict)
    """Connections whose accounts are told only when this has happened."""
    asked: int = 0
    most_at_once: int = 0
    now_asked: int = 0

    async def open(self, access: Access) -> Broker:
        """A broker whose account can be asked for, and nothing else."""

        async def account() -> Account:
            self.asked += 1
            self.now_asked += 1
            self.most_at_once = max(self.most_at_once, self.now_asked)
            await asyncio.sleep(0)
            if (told := self.silent.get(access.connection_id)) is not None:
                await told.wait()
            self.now_asked -= 1
            return self.answers[access.connection_id]()

        async def close() -> None:
            return None

        return cast(Broker, SimpleNamespace(account=account, close=close))

    async def close(self) -> None:
        """Nothing is held."""


def account_of(balances: Mapping[str, str], equity: Mapping[str, str], as_of: datetime) -> Account:
    """An account with these totals and equities."""
    return Account(
        identity="A1",
        balances={currency: Balance(D(total), D(total)) for currency, total in balances.items()},
        equity={currency: D(amount) for currency, amount in equity.items()},
        permissions=Permissions(trade=True, withdraw=None),
        as_of=as_of,
    )


@pytest.fixture
def venue() -> Accounts:
    """The venue of all connections."""
    return Accounts()


@pytest.fixture
def clock() -> Clock:
    """Five past midnight after day 1."""
    return Clock(at(2, 0) + timedelta(minutes=5))


@pytest.fixture
async def desk(database_url: str, venue: Accounts, clock: Clock) -> AsyncIterator[Desk]:
    """A desk with that venue."""
    async with opened_desk(database_url, clock, venues={"paper": venue}) as opened:
        yield opened


async def rows(sessions: Sessions, **where: Any) -> list[DailyRow]:
    """The rows, by connection, day and currency."""
    async with sessions() as session:
        wanted = select(DailyRow).filter_by(**where)
        return list(
            await session.scalars(wanted.order_by(DailyRow.connection_id, DailyRow.day, DailyRow.currency))
        )


async def contents(sessions: Sessions) -> list[dict[str, Any]]:
    """Everything that stands in the rows."""
    names = DailyRow.__table__.columns.keys()
    return [{name: getattr(row, name) for name in names} for row in await rows(sessions)]


# A day's rows


async def test_a_day_by_hand(desk: Desk) -> None:
    connection = connection_of()
    await save(
        desk.sessions,
        connection,
        trade_rows(connection, "100", at(0)),
        trade_rows(connection, "50", at(1, 1), fees="1", held=timedelta(seconds=100)),
        trade_rows(connection, "-20", at(1, 2), fees="2", funding="-0.5", held=timedelta(seconds=200)),
        trade_rows(connection, "0", at(1, 3), fees="3.5", held=timedelta(seconds=300)),
        trade_rows(connection, "30", at(1, 4), held=timedelta(seconds=401)),
        trade_rows(connection, "-40", at(1, 5), fees="0.25", held=timedelta()),
        trade_rows(connection, "7", at(1, 6), status=PositionStatus.CLOSING),
    )
    assert await report_day(desk, day(1)) == 1
    (row,) = await rows(desk.sessions)
    assert {name: getattr(row, name) for name in FIGURES} == {
        "trades": 5,
        "wins": 2,
        "losses": 2,
        "breakeven": 1,
        "win_rate": D(40),
        "profit_factor": D("1.333333333333333333"),
        "gross_profit": D(80),
        "gross_loss": D(60),
        "net_pnl": D(20),
        "fees": D("6.75"),
        "average_win": D(40),
        "average_loss": D(30),
        "expectancy": D(4),
        "largest_win": D(50),
        "largest_loss": D(40),
        "longest_win_streak": 1,
        "longest_loss_streak": 1,
        "average_holding_seconds": D("200.2"),
        "max_drawdown": D(40),
        # The day began with 1100 and peaked at 1160.
        "max_drawdown_percent": D("3.448275862068965517"),
        "sharpe": None,
        "sortino": None,
        "calmar": None,
    }
    assert (row.connection_id, row.day, row.currency) == (connection.id, day(1), "USDT")
    assert (row.balance, row.equity, row.computed_at) == (None, None, desk.now())


async def test_a_day_that_only_loses_has_a_drawdown(desk: Desk) -> None:
    connection = connection_of()
    await save(desk.sessions, connection, *(trade_rows(connection, "-5", at(1, hour)) for hour in range(4)))
    await report_day(desk, day(1))
    (row,) = await rows(desk.sessions)
    assert (row.max_drawdown, row.max_drawdown_percent, row.win_rate) == (D(20), D(2), D(0))
    assert (row.profit_factor, row.average_win, row.longest_loss_streak) == (D(0), None, 4)


async def test_a_trade_belongs_to_the_day_it_was_closed_in(desk: Desk) -> None:
    connection = connection_of()
    await save(
        desk.sessions,
        connection,
        trade_rows(connection, "1", at(1, 0) - MICROSECOND),
        trade_rows(connection, "2", at(1, 0), held=timedelta(days=1)),
        trade_rows(connection, "4", at(2, 0) - MICROSECOND),
        trade_rows(connection, "8", at(2, 0)),
    )
    await report_day(desk, day(0))
    await report_day(desk, day(1))
    assert [(row.day, row.trades, row.net_pnl) for row in await rows(desk.sessions)] == [
        (day(0), 1, D(1)),
        (day(1), 2, D(6)),
    ]


async def test_each_currency_has_its_row(desk: Desk) -> None:
    connection = connection_of(starting={"USDT": "1000", "EUR": "50", "BTC": "0"})
    await save(
        desk.sessions,
        connection,
        trade_rows(connection, "5", at(1), currency="USDC"),
        trade_rows(connection, "-10", at(1), currency="USDT"),
    )
    assert await report_day(desk, day(1)) == 3
    found = {
        row.currency: (row.trades, row.net_pnl, row.max_drawdown_percent) for row in await rows(desk.sessions)
    }
    assert found == {"EUR": (0, D(0), D(0)), "USDC": (1, D(5), None), "USDT": (1, D(-10), D(1))}


async def test_who_has_rows(desk: Desk) -> None:
    active, idle = connection_of(), connection_of(status=ConnectionStatus.INACTIVE)
    traded = connection_of(BOB, status=ConnectionStatus.INACTIVE, deleted_at=at(1, 23))
    too_late = connection_of(activated_at=at(2, 0))
    await save(desk.sessions, active, idle, traded, too_late, trade_rows(traded, "1", at(1)))
    await report_day(desk, day(1))
    assert {row.connection_id for row in await rows(desk.sessions)} == {active.id, traded.id}


async def test_without_connections_there_is_nothing_to_report(desk: Desk) -> None:
    assert await report_day(desk, day(1)) == 0
    assert await catch_up(desk) == []
    assert await snapshot_balances(desk, day(1)) == 0


@pytest.mark.parametrize("number", [2, 3])
async def test_a_day_that_is_not_over_is_refused(desk: Desk, number: int) -> None:
    with pytest.raises(Invalid, match="not over") as refused:
        await report_day(desk, day(number))
    assert refused.value.path == "day"


async def test_a_day_is_over_at_midnight(desk: Desk, clock: Clock) -> None:
    clock.moment = at(2, 0) - MICROSECOND
    with pytest.raises(Invalid):
        await report_day(desk, day(1))
    clock.moment = at(2, 0)
    await report_day(desk, day(1))


async def test_reporting_twice_changes_nothing(desk: Desk, clock: Clock) -> None:
    connection = connection_of()
    await save(
        desk.sessions, connection, trade_rows(connection, "1", at(1)), trade_rows(connection, "-3", at(1))
    )
    assert await report_day(desk, day(1)) == 1
    before = await contents(desk.sessions)
    clock.moment += timedelta(hours=1)
    assert await report_day(desk, day(1)) == 1
    assert await contents(desk.sessions) == before


async def test_late_funding_restates_its_day(desk: Desk) -> None:
    connection = connection_of()
    late = trade_rows(connection, "10", at(1))
    await save(desk.sessions, connection, late)
    await report_day(desk, day(1))
    async with desk.sessions.begin() as session:
        position = await session.merge(late[-1])
        position.funding, position.realized_pnl = D("-12"), D("-2")
    await report_day(desk, day(1))
    (row,) = await rows(desk.sessions)
    assert (row.net_pnl, row.wins, row.losses) == (D(-2), 0, 1)


@pytest.mark.parametrize("seed", range(3))
async def test_stored_rows_are_what_is_computed_from_all_positions(
    desk: Desk, clock: Clock, seed: int
) -> None:
    random = Random(seed)
    clock.moment = at(8)
    connections = [
        connection_of(),
        connection_of(starting={"USDT": "0.5"}, activated_at=at(2)),
        connection_of(BOB),
    ]
    trades = [
        trade_rows(
            random.choice(connections),
            D(random.randint(-(10**20), 10**20)).scaleb(-18),
            at(2, 0) + timedelta(seconds=random.randint(0, 6 * 86400 - 1)),
            currency=random.choice(["USDT", "EUR"]),
            fees=str(random.randint(0, 9)),
        )
        for _ in range(60)
    ]
    await save(desk.sessions, connections, *trades)
    days = [day(number) for number in range(8)]
    for each in random.sample(days, len(days)):
        await report_day(desk, each)

    stored = {
        (HistoryKey(row.connection_id, row.currency), row.day): {name: getattr(row, name) for name in FIGURES}
        for row in await rows(desk.sessions)
    }
    async with desk.sessions() as session:
        histories = await analytics.histories_of(session, Scope(ALICE), None, days[-1])
        histories += await analytics.histories_of(session, Scope(BOB), None, days[-1])
    computed = {
        (history.key, each): portfolios.published(figures)
        for history in histories
        for each, figures in portfolios.daily([history], days).items()
    }
    assert stored == computed


# In batches


def count_statements(sessions: Sessions) -> list[str]:
    """Every statement that is sent from now on."""
    statements: list[str] = []
    database = sessions.kw["bind"].sync_engine

    @event.listens_for(database, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    return statements


async def test_the_number_of_queries_does_not_grow_with_the_connections(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = [connection_of() for _ in range(500)]
    await save(desk.sessions, connections, *(trade_rows(each, "1", at(1)) for each in connections[::2]))
    statements = count_statements(desk.sessions)
    assert await report_day(desk, day(1)) == 500
    one_batch = len(statements)
    assert one_batch <= 10

    monkeypatch.setattr(reporting, "BATCH", 200)
    statements.clear()
    assert await report_day(desk, day(1)) == 500
    assert len(statements) <= 3 * 5


async def test_batches_meet_without_gap_or_overlap(
    desk: Desk, venue: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "BATCH", 2)
    connections = [connection_of() for _ in range(4)]
    await save(desk.sessions, connections)
    for each in connections:
        venue.answers[each.id] = lambda: account_of({"USDT": "1"}, {}, at(2, 0))
    assert await report_day(desk, day(1)) == 4
    assert await snapshot_balances(desk, day(1)) == 4
    assert {row.connection_id for row in await rows(desk.sessions)} == {each.id for each in connections}


# What the venues say


async def test_balances_go_into_the_rows_and_the_connections(
    desk: Desk, venue: Accounts, clock: Clock
) -> None:
    clock.moment = at(2, 0) + ONE_SECOND
    connection = connection_of(starting={"USDT": "1000", "EUR": "5"})
    await save(desk.sessions, connection, trade_rows(connection, "-5", at(1)))
    venue.answers[connection.id] = lambda: account_of(
        {"USDT": "995", "DOGE": "7"}, {"USDT": "1001.5"}, clock()
    )
    assert await snapshot_balances(desk, day(1)) == 1
    found = {row.currency: (row.net_pnl, row.balance, row.equity) for row in await rows(desk.sessions)}
    assert found == {"USDT": (D(-5), D(995), D("1001.5")), "EUR": (D(0), None, None)}
    async with desk.sessions() as session:
        kept = await session.get_one(Connection, connection.id)
    assert kept.balances == {
        "USDT": {"balance": "995", "equity": "1001.5"},
        "DOGE": {"balance": "7", "equity": "7"},
    }
    assert kept.balances_at == clock.moment

    clock.moment = at(2, 0) + timedelta(minutes=5)
    await save(desk.sessions, trade_rows(connection, "2", at(2, 0) - MICROSECOND))
    await report_day(desk, day(1))
    (_, row) = await rows(desk.sessions)
    assert (row.net_pnl, row.balance, row.equity) == (D(-3), D(995), D("1001.5"))


def refuse(failure: Exception) -> Answer:
    """An answer that is none."""

    def answer() -> Account:
        raise failure

    return answer


async def test_a_venue_that_does_not_answer_leaves_null(desk: Desk, venue: Accounts, clock: Clock) -> None:
    clock.moment = at(2, 0)
    failures = [Unreachable("away"), Uncertain("broken"), Refused("no"), TimeoutError()]
    silent = [connection_of() for _ in failures]
    answering = connection_of()
    await save(desk.sessions, silent, answering)
    for connection, failure in zip(silent, failures, strict=True):
        venue.answers[connection.id] = refuse(failure)
    venue.answers[answering.id] = lambda: account_of({"USDT": "8"}, {}, clock())
    assert await snapshot_balances(desk, day(1)) == 1
    assert {row.connection_id: row.balance for row in await rows(desk.sessions)} == {
        **{connection.id: None for connection in silent},
        answering.id: D(8),
    }


async def test_asking_again_fills_in_what_was_missing_and_nothing_else(
    desk: Desk, venue: Accounts, clock: Clock
) -> None:
    clock.moment = at(2, 0)
    one, two = connection_of(), connection_of()
    await save(desk.sessions, one, two)
    venue.answers = {
        one.id: lambda: account_of({"USDT": "1"}, {}, clock()),
        two.id: refuse(Unreachable("away")),
    }
    await snapshot_balances(desk, day(1))
    clock.moment += timedelta(minutes=1)
    venue.answers = {
        one.id: lambda: account_of({"USDT": "111"}, {}, clock()),
        two.id: lambda: account_of({"USDT": "2"}, {}, clock()),
    }
    await snapshot_balances(desk, day(1))
    assert {row.connection_id: row.balance for row in await rows(desk.sessions)} == {
        one.id: D(1),
        two.id: D(2),
    }


async def test_a_late_answer_is_not_what_the_venue_said_at_midnight(
    desk: Desk, venue: Accounts, clock: Clock
) -> None:
    clock.moment = at(2, 0) + reporting.SNAPSHOT_WITHIN + MICROSECOND
    connection = connection_of()
    await save(desk.sessions, connection)
    venue.answers[connection.id] = lambda: account_of({"USDT": "9"}, {}, clock())
    assert await snapshot_balances(desk, day(1)) == 1
    (row,) = await rows(desk.sessions)
    assert row.balance is None
    async with desk.sessions() as session:
        kept = await session.get_one(Connection, connection.id)
    assert kept.balances["USDT"]["balance"] == "9"


@pytest.mark.parametrize("number", [0, 2, 3])
async def test_balances_of_another_day_cannot_be_asked_for(desk: Desk, number: int) -> None:
    with pytest.raises(Invalid):
        await snapshot_balances(desk, day(number))


async def test_only_active_connections_are_asked_and_not_all_at_once(
    desk: Desk, venue: Accounts, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "ASKED_AT_ONCE", 3)
    active = [connection_of() for _ in range(10)]
    others = [
        connection_of(status=ConnectionStatus.INACTIVE),
        connection_of(status=ConnectionStatus.ERROR),
        connection_of(status=ConnectionStatus.ACTIVE, deleted_at=at(1)),
    ]
    await save(desk.sessions, active, others)
    for connection in active:
        venue.answers[connection.id] = lambda: account_of({"USDT": "1"}, {}, clock())
    assert await snapshot_balances(desk, day(1)) == 10
    assert (venue.asked, venue.most_at_once) == (10, 3)


async def test_what_one_venue_says_is_kept_while_another_says_nothing(
    desk: Desk, venue: Accounts, clock: Clock
) -> None:
    clock.moment = at(2, 0)
    answering, silent = connection_of(), connection_of()
    await save(desk.sessions, answering, silent)
    for each in (answering, silent):
        venue.answers[each.id] = lambda: account_of({"USDT": "8"}, {}, clock())
    told = venue.silent[silent.id] = asyncio.Event()
    taking = asyncio.create_task(snapshot_balances(desk, day(1)))
    async with asyncio.timeout(60):
        while not await rows(desk.sessions, connection_id=answering.id):
            await asyncio.sleep(0.05)
    assert await rows(desk.sessions, connection_id=silent.id) == []
    told.set()
    assert await taking == 2
    assert {row.balance for row in await rows(desk.sessions)} == {D(8)}


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize(
    "meanwhile",
    [{"status": ConnectionStatus.ERROR}, {"credentials_version": 2}],
    ids=["it broke", "other credentials"],
)
async def test_what_became_of_a_connection_while_its_venue_was_asked_stays(
    desk: Desk, venue: Accounts, clock: Clock, meanwhile: dict[str, Any], *, answers: bool
) -> None:
    connection = connection_of()
    await save(desk.sessions, connection)
    venue.answers[connection.id] = (
        (lambda: account_of({"USDT": "8"}, {}, clock())) if answers else refuse(Unreachable("away"))
    )
    told = venue.silent[connection.id] = asyncio.Event()
    checking = asyncio.create_task(reporting.check_health(desk))
    async with asyncio.timeout(60):
        while not venue.asked:
            await asyncio.sleep(0.05)
    async with desk.sessions.begin() as session:
        await session.execute(update(Connection).values(last_error="The key is refused.", **meanwhile))
    told.set()
    await checking
    async with desk.sessions() as session:
        kept = await session.get_one(Connection, connection.id)
    assert (kept.last_error, kept.balances_at) == ("The key is refused.", None)


async def test_an_account_that_cannot_be_reached_says_so_until_it_can(
    desk: Desk, venue: Accounts, clock: Clock
) -> None:
    connection = connection_of()
    await save(desk.sessions, connection)
    for answer, said in (
        (refuse(Unreachable("away")), reporting.UNREACHABLE),
        (lambda: account_of({"USDT": "8"}, {}, clock()), None),
    ):
        venue.answers[connection.id] = answer
        await reporting.check_health(desk)
        async with desk.sessions() as session:
            assert (await session.get_one(Connection, connection.id)).last_error == said


# Days that were missed


async def test_catching_up_reports_what_was_missed(desk: Desk, clock: Clock) -> None:
    connection = connection_of()
    await save(desk.sessions, connection, trade_rows(connection, "1", at(3)))
    clock.moment = at(3, 1)
    assert await catch_up(desk) == [day(0), day(1), day(2)]
    clock.moment = at(7, 1)
    await report_day(desk, day(4))
    assert await catch_up(desk) == [day(3), day(5), day(6)]
    assert [row.day for row in await rows(desk.sessions)] == [day(number) for number in range(7)]
    before = await contents(desk.sessions)
    assert await catch_up(desk) == [day(6)]
    assert await contents(desk.sessions) == before


async def test_catching_up_finds_a_trade_without_its_row(desk: Desk, clock: Clock) -> None:
    active, inactive = connection_of(), connection_of(status=ConnectionStatus.INACTIVE)
    await save(desk.sessions, active, inactive)
    clock.moment = at(4)
    await catch_up(desk)
    await save(desk.sessions, trade_rows(inactive, "1", at(1)))
    assert await catch_up(desk) == [day(1), day(3)]


async def test_catching_up_goes_back_a_month_at_most(desk: Desk, clock: Clock) -> None:
    await save(desk.sessions, connection_of())
    clock.moment = at(100)
    missed: list[date] = await catch_up(desk)
    assert (len(missed), missed[0], missed[-1]) == (31, day(69), day(99))
