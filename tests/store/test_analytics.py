"""Analytics in the database: whose trades are read, by which day, and what a day's rows keep.

The builders of rows at the top are also used by the tests of reporting and of the analytics resource.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal, localcontext
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from app.desk import Sessions, open_database, open_sessions
from app.domain import portfolios
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType, QuantityUnit
from app.domain.orders import OrderType, Side
from app.domain.owners import Owner, Role
from app.domain.performance import Capital, Statistics, Trade, pooled, statistics
from app.domain.portfolios import History, HistoryKey, Snapshot
from app.domain.positions import PositionSide, PositionStatus
from app.store import analytics
from app.store.analytics import DailyRow, DayKey, Scope
from app.store.connections import Connection, ConnectionStatus, Kind
from app.store.executions import Execution, ExecutionStatus
from app.store.positions import Position
from app.store.schema import Base, new_id
from app.store.signals import SignalRow

D = Decimal
ALICE = Owner(Role.USER, "alice")
BOB = Owner(Role.USER, "bob")
ADMIN_ALICE = Owner(Role.ADMIN, "alice")
FIRST_DAY = date(2026, 3, 1)
LAST_DAY = date(2026, 3, 31)
ACTIVATED = datetime(2026, 3, 1, 9, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 4, 10, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

NOTHING = Snapshot(None, None)


def day(number: int) -> date:
    """The day `number` days after the first."""
    return FIRST_DAY + timedelta(days=number)


def at(number: int, hour: int = 12) -> datetime:
    """An hour of the day `number` days after the first."""
    return datetime(2026, 3, 1, hour, tzinfo=UTC) + timedelta(days=number)


def connection_of(
    owner: Owner = ALICE,
    *,
    starting: Mapping[str, str] | None = None,
    activated_at: datetime | None = ACTIVATED,
    status: ConnectionStatus = ConnectionStatus.ACTIVE,
    balances: Mapping[str, Mapping[str, str]] | None = None,
    deleted_at: datetime | None = None,
) -> Connection:
    """A paper connection, active since the first day with 1000 USDT unless said otherwise."""
    id_ = new_id()
    return Connection(
        id=id_,
        owner_role=owner.role,
        owner_id=owner.id,
        name="paper",
        kind=Kind.PAPER,
        exchange="paper",
        market_type=MarketType.SPOT,
        sandbox=False,
        credentials_version=1,
        limits={},
        protection={},
        symbol_map={},
        status=status,
        account_identity=str(id_),
        first_activated_at=activated_at,
        starting_balances=dict({"USDT": "1000"} if starting is None else starting),
        balances=dict(balances or {}),
        created_at=ACTIVATED,
        updated_at=ACTIVATED,
        deleted_at=deleted_at,
    )


def trade_rows(
    connection: Connection,
    net: str | Decimal,
    closed_at: datetime = NOON,
    *,
    id: UUID | None = None,
    currency: str = "USDT",
    fees: str = "0",
    funding: str = "0",
    held: timedelta = timedelta(seconds=60),
    provider: str = "default",
    symbol: str = "BTC/USDT",
    status: PositionStatus = PositionStatus.CLOSED,
) -> list[Any]:
    """A position with its signal and execution; closed at `closed_at` with this net PnL."""
    signal = SignalRow(
        id=new_id(),
        provider=provider,
        source_id=str(new_id()),
        symbol=symbol,
        direction=Side.BUY,
        order_type=OrderType.MARKET,
        published_at=closed_at - held,
        received_at=closed_at - held,
    )
    execution = Execution(
        id=new_id(),
        signal_id=signal.id,
        connection_id=connection.id,
        owner_role=connection.owner_role,
        owner_id=connection.owner_id,
        status=ExecutionStatus.EXECUTED,
        symbol=symbol,
        direction=Side.BUY,
        order_type=OrderType.MARKET,
        received_at=closed_at - held,
        created_at=closed_at - held,
        updated_at=closed_at,
    )
    is_closed = status is PositionStatus.CLOSED
    position = Position(
        id=id or new_id(),
        execution_id=execution.id,
        signal_id=signal.id,
        connection_id=connection.id,
        owner_role=connection.owner_role,
        owner_id=connection.owner_id,
        symbol=symbol,
        currency=currency,
        quantity_unit=QuantityUnit.BASE,
        side=PositionSide.LONG,
        quantity=D("0.5"),
        remaining_quantity=D(0),
        entry_price=D(20000),
        exit_price=D("20100.5"),
        native=True,
        gross_pnl=D(net) + D(fees) - D(funding),
        fees=D(fees),
        funding=D(funding),
        realized_pnl=D(net),
        protection=Protection.NATIVE,
        status=status,
        close_reason=CloseReason.TAKE_PROFIT if is_closed else None,
        quantity_step=D("0.0001"),
        price_tick=D("0.1"),
        min_quantity=D("0.0001"),
        opened_at=closed_at - held,
        closed_at=closed_at if is_closed else None,
        created_at=closed_at - held,
        updated_at=closed_at,
    )
    return [signal, execution, position]


async def save(sessions: Sessions, *rows: Any) -> None:
    """Commit rows, or lists of them, whatever their order."""
    flat = [each for row in rows for each in (row if isinstance(row, list) else [row])]
    async with sessions.begin() as session:
        for table in Base.metadata.sorted_tables:
            session.add_all(row for row in flat if row.__table__ is table)
            await session.flush()


@pytest.fixture
async def sessions(database_url: str) -> AsyncIterator[Sessions]:
    """Sessions on the test's own database."""
    database = open_database(database_url)
    yield open_sessions(database)
    await database.dispose()


async def histories(
    sessions: Sessions, scope: Scope, first_day: date | None = None, last_day: date = LAST_DAY
) -> list[History]:
    """The histories of a scope."""
    async with sessions() as session:
        return await analytics.histories_of(session, scope, first_day, last_day)


async def recorded(
    sessions: Sessions,
    connection: Connection,
    number: int,
    figures: Statistics,
    snapshot: Snapshot = NOTHING,
    *,
    currency: str = "USDT",
    now: datetime = LATER,
) -> None:
    """Write one row of a day."""
    key = HistoryKey(connection.id, currency)
    async with sessions.begin() as session:
        await analytics.record(session, day(number), {key: figures}, {key: snapshot}, now)


def figures_of(*nets: str, starting_balance: str = "1000") -> Statistics:
    """The figures of a day with trades of these net PnLs."""
    trades = [
        Trade(UUID(int=n), at(0) - timedelta(seconds=60), at(0), D(net), D(0), D(0), D(net))
        for n, net in enumerate(nets)
    ]
    return statistics(trades, starting_balance=D(starting_balance), flows=())


# Figures


@pytest.mark.parametrize(
    ("figure", "kept"),
    [
        (D(1) / 3, "0.333333333333333333"),
        (D("0.0000000000000000005"), "0"),
        (D("0.0000000000000000015"), "0.000000000000000002"),
        (D("-2.50"), "-2.5"),
        (D("99999999999999999999.5"), "99999999999999999999.5"),
        (D("1234567890123456789012345678901234567890.5"), "1234567890123456789012345678901234567900"),
        (D(10) ** 400, "1" + "0" * 400),
    ],
)
def test_a_figure_keeps_18_places_and_38_digits(figure: Decimal, kept: str) -> None:
    assert portfolios.rounded(figure) == D(kept)


def test_rounding_does_not_depend_on_the_global_context() -> None:
    with localcontext(prec=5, rounding=ROUND_DOWN):
        assert str(portfolios.rounded(D("1234567.1234567890123456785"))) == "1234567.123456789012345678"


async def test_a_row_holds_quotients_of_any_size(sessions: Sessions) -> None:
    connection = connection_of()
    await save(sessions, connection)
    huge = replace(figures_of("5", "-5"), profit_factor=D("3" * 37 + ".333"), calmar=D(10) ** 400)
    await recorded(sessions, connection, 0, huge)
    async with sessions() as session:
        row = (await session.scalars(select(DailyRow))).one()
    assert row.calmar == D(10) ** 400
    assert row.profit_factor == D("3" * 37 + ".3")


# Histories


async def test_trades_are_kept_apart_by_connection_and_currency(sessions: Sessions) -> None:
    one, two = connection_of(), connection_of(starting={"EUR": "5"})
    await save(
        sessions,
        one,
        two,
        trade_rows(one, "1", at(1)),
        trade_rows(one, "2", at(2), currency="USDC"),
        trade_rows(two, "3", at(3), fees="0.5", funding="-0.25"),
        trade_rows(two, "99", at(3), status=PositionStatus.OPEN),
    )
    found = {history.key: history for history in await histories(sessions, Scope(ALICE))}
    assert found.keys() == {(one.id, "USDT"), (one.id, "USDC"), (two.id, "EUR"), (two.id, "USDT")}
    nets = {key: [trade.net_pnl for trade in history.trades] for key, history in found.items()}
    assert nets == {(one.id, "USDT"): [1], (one.id, "USDC"): [2], (two.id, "EUR"): [], (two.id, "USDT"): [3]}
    (trade,) = found[HistoryKey(two.id, "USDT")].trades
    assert (trade.gross_pnl, trade.fees, trade.funding) == (D("3.75"), D("0.5"), D("-0.25"))
    assert trade.closed_at - trade.opened_at == timedelta(seconds=60)


async def test_a_day_ends_a_microsecond_before_midnight(sessions: Sessions) -> None:
    connection = connection_of()
    await save(
        sessions,
        connection,
        trade_rows(connection, "1", at(1, 0) - MICROSECOND),
        trade_rows(connection, "2", at(1, 0)),
        trade_rows(connection, "4", at(2, 0) - MICROSECOND),
        trade_rows(connection, "8", at(2, 0)),
    )
    (history,) = await histories(sessions, Scope(ALICE), day(1), day(1))
    assert [trade.net_pnl for trade in history.trades] == [2, 4]
    assert history.earlier == 1


async def test_what_came_before_is_its_sum(sessions: Sessions) -> None:
    connection = connection_of()
    await save(sessions, connection, *(trade_rows(connection, net, at(0)) for net in ("0.1", "0.2", "-7")))
    (history,) = await histories(sessions, Scope(ALICE), day(5), day(6))
    assert (history.earlier, history.trades, history.since) == (D("-6.7"), [], ACTIVATED)


async def test_an_owner_sees_their_own_connections_and_the_deleted_ones(sessions: Sessions) -> None:
    mine, gone = connection_of(), connection_of(deleted_at=at(3), status=ConnectionStatus.INACTIVE)
    theirs, admins = connection_of(BOB), connection_of(ADMIN_ALICE)
    everyone = (mine, gone, theirs, admins)
    await save(sessions, *everyone, *(trade_rows(each, "1", at(1)) for each in everyone))
    found = await histories(sessions, Scope(ALICE))
    assert {history.key.connection_id for history in found} == {mine.id, gone.id}
    assert {history.key.connection_id: history.is_active for history in found} == {
        mine.id: True,
        gone.id: False,
    }
    assert [history.key.connection_id for history in await histories(sessions, Scope(ALICE, (gone.id,)))] == [
        gone.id
    ]
    assert await histories(sessions, Scope(ALICE, (theirs.id,))) == []
    assert await histories(sessions, Scope(ALICE, (admins.id,))) == []


async def test_whose_a_connection_is(sessions: Sessions) -> None:
    mine, theirs = connection_of(), connection_of(BOB)
    await save(sessions, mine, theirs)
    async with sessions() as session:
        scopes = [
            Scope(ALICE),
            Scope(ALICE, (mine.id,)),
            Scope(ALICE, (theirs.id,)),
            Scope(ADMIN_ALICE, (mine.id,)),
        ]
        assert [await analytics.is_owned(session, scope) for scope in scopes] == [True, True, False, False]


async def test_a_currency_without_a_starting_balance_begins_unknown_with_its_first_trade(
    sessions: Sessions,
) -> None:
    connection = connection_of(starting={"USDT": "1000", "BTC": "0"})
    await save(
        sessions,
        connection,
        trade_rows(connection, "1", at(2), currency="EUR"),
        trade_rows(connection, "1", at(4), currency="EUR"),
        trade_rows(connection, "1", at(3), currency="BTC"),
    )
    for first_day in (None, day(3), day(9)):
        found = {each.key.currency: each for each in await histories(sessions, Scope(ALICE), first_day)}
        assert found.keys() == {"USDT", "EUR", "BTC"}
        assert (found["EUR"].since, found["EUR"].starting_balance) == (at(2), None)
        assert (found["BTC"].since, found["BTC"].starting_balance) == (ACTIVATED, D(0))
    early = await histories(sessions, Scope(ALICE), None, day(1))
    assert {each.key.currency for each in early} == {"USDT"}


async def test_a_connection_that_was_never_activated_has_no_history(sessions: Sessions) -> None:
    await save(sessions, connection_of(activated_at=None, starting={}, status=ConnectionStatus.INACTIVE))
    assert await histories(sessions, Scope(ALICE)) == []


async def test_what_the_venue_said_last_comes_with_the_history(sessions: Sessions) -> None:
    said = {"USDT": {"balance": "1010.5", "equity": "1020"}, "DOGE": {"balance": "7", "equity": "7"}}
    await save(sessions, connection_of(balances=said))
    (history,) = await histories(sessions, Scope(ALICE))
    assert history.snapshot == Snapshot(D("1010.5"), D(1020))
    assert history.snapshot.text() == said["USDT"]


def test_a_sum_of_what_venues_said_is_never_a_sum_of_some() -> None:
    one, two = Snapshot(D(1), D(2)), Snapshot(D(3), None)
    assert portfolios.combined([one]) == one
    assert portfolios.combined([one, two]) == Snapshot(D(4), None)
    assert portfolios.combined([]) == NOTHING


# Periods and days


def history(
    nets: Mapping[int, Sequence[str]],
    starting: str | None = "1000",
    *,
    since: datetime = ACTIVATED,
    number: int = 0,
) -> History:
    """A history whose trades were all closed at noon of the numbered days."""
    trades = [
        Trade(UUID(int=number << 64 | each << 32 | n), at(each), at(each), D(net), D(0), D(0), D(net))
        for each, results in nets.items()
        for n, net in enumerate(results)
    ]
    key = HistoryKey(UUID(int=number), "USDT")
    balance = None if starting is None else D(starting)
    return History(key, True, since, balance, D(0), trades, NOTHING)


def test_a_period_begins_with_the_first_activation() -> None:
    own = [history({1: ["5"]}), history({}, since=at(4), number=1)]
    period = portfolios.period(own, None, day(6))
    assert period is not None
    assert (period.first_day, period.last_day) == (day(0), day(6))
    assert [point.balance for point in period.curve()] == [D(1000), D(1005)]
    assert portfolios.period(own, None, day(-1)) is None
    assert portfolios.period(own, day(3), day(2)) is None
    assert portfolios.period([], None, day(2)) is None


def test_what_was_earned_before_is_part_of_the_opening_capital() -> None:
    (own,) = [replace(history({5: ["-110"]}), earlier=D(100))]
    period = portfolios.period([own], day(5), day(5))
    assert period is not None
    assert [(point.balance, point.drawdown) for point in period.curve()] == [
        (D(1100), D(0)),
        (D(990), D(110)),
    ]
    assert period.statistics().max_drawdown_percent == D(10)


def test_days_agree_with_the_period_of_each() -> None:
    own = [
        history({0: ["10", "-30"], 3: ["7"]}),
        history({2: ["1"], 3: ["-2", "3"]}, "500", since=at(2, 8), number=1),
        history({4: ["9"]}, None, since=at(4), number=2),
    ]
    days = [day(number) for number in range(6)]
    found = portfolios.daily(own, days)
    assert list(found) == days
    trades = [trade for each in own for trade in each.trades]
    for each in days:
        begun = [one for one in own if one.begins <= each]
        capital = pooled(Capital(one.since, one.starting_balance) for one in begun)
        assert capital is not None
        assert found[each] == statistics(
            trades,
            starting_balance=capital.starting_balance,
            flows=capital.flows,
            first_day=each,
            last_day=each,
        )
    # On day 3: 1000 − 20 + 500 + 1 at its start, then + 7, the peak, then − 2.
    assert portfolios.published(found[day(3)])["max_drawdown_percent"] == D("0.134408602150537634")
    # The connection whose start is not known counts from its first trade, and not before.
    assert found[day(4)].max_drawdown_percent is None


def test_days_before_any_beginning_have_no_figures() -> None:
    assert portfolios.daily([history({2: ["1"]}, since=at(2))], [day(1), day(2)]).keys() == {day(2)}


# Rows


async def row_version(sessions: Sessions) -> tuple[str, datetime]:
    """The transaction that wrote the only row, and its `computed_at`."""
    async with sessions() as session:
        xmin = await session.scalar(text("SELECT xmin::text FROM execution_analytics"))
        row = (await session.scalars(select(DailyRow))).one()
    return str(xmin), row.computed_at


async def test_computing_a_row_again_leaves_what_the_venue_said_alone(sessions: Sessions) -> None:
    connection = connection_of()
    await save(sessions, connection)
    await recorded(sessions, connection, 0, figures_of("5"), Snapshot(D(1000), None))
    await recorded(sessions, connection, 0, figures_of("5", "-3"), Snapshot(D(7777), D(1100)), now=at(41))
    await recorded(sessions, connection, 0, figures_of("5", "-4"), now=at(42))
    async with sessions() as session:
        row = (await session.scalars(select(DailyRow))).one()
    assert (row.trades, row.net_pnl, row.largest_loss, row.win_rate) == (2, D(1), D(4), D(50))
    assert (row.balance, row.equity, row.computed_at) == (D(1000), D(1100), at(42))


async def test_a_row_that_says_the_same_is_not_written(sessions: Sessions) -> None:
    connection = connection_of()
    await save(sessions, connection)
    figures = figures_of("5", "-3", "-1")
    await recorded(sessions, connection, 0, figures, Snapshot(D(1), D(2)))
    before = await row_version(sessions)
    await recorded(sessions, connection, 0, figures, Snapshot(D(8), D(9)), now=at(41))
    assert await row_version(sessions) == before


async def test_rows_and_traded_days_are_paged_newest_first(sessions: Sessions) -> None:
    one, two = connection_of(), connection_of()
    await save(
        sessions,
        one,
        two,
        connection_of(BOB),
        trade_rows(one, "1", at(3)),
        trade_rows(two, "1", at(3, 23)),
        trade_rows(one, "1", at(3), currency="EUR"),
        trade_rows(one, "1", at(5), currency="eur"),
        trade_rows(one, "1", at(5)),
        trade_rows(one, "1", at(9)),
    )
    await recorded(sessions, one, 3, figures_of("1"), Snapshot(D(10), D(11)))
    await recorded(sessions, two, 3, figures_of("1"), Snapshot(D(20), None))
    await recorded(sessions, two, 4, figures_of(), Snapshot(D(20), D(21)))
    expected = {
        DayKey(day(5), "USDT"): NOTHING,
        DayKey(day(5), "eur"): NOTHING,
        DayKey(day(4), "USDT"): Snapshot(D(20), D(21)),
        DayKey(day(3), "EUR"): NOTHING,
        DayKey(day(3), "USDT"): Snapshot(D(30), None),
    }
    for limit in (1, 2, 3, 10):
        seen: dict[DayKey, Snapshot] = {}
        after = None
        async with sessions() as session:
            while page := await analytics.page_of_days(
                session, Scope(ALICE), day(3), day(5), after=after, limit=limit
            ):
                assert len(page) <= limit
                seen |= page
                after = list(page)[-1]
        assert list(seen.items()) == list(expected.items())
    async with sessions() as session:
        assert await analytics.page_of_days(session, Scope(BOB), None, day(9), after=None, limit=9) == {}
        only = await analytics.page_of_days(
            session, Scope(ALICE, (two.id,)), None, day(9), after=None, limit=9
        )
        assert list(only) == [DayKey(day(4), "USDT"), DayKey(day(3), "USDT")]
        assert await analytics.snapshots_on(session, Scope(ALICE), day(3)) == {
            HistoryKey(one.id, "USDT"): Snapshot(D(10), D(11)),
            HistoryKey(two.id, "USDT"): Snapshot(D(20), None),
        }
        assert await analytics.snapshots_on(session, Scope(BOB), day(3)) == {}


async def test_the_day_does_not_depend_on_the_zone_of_the_session(sessions: Sessions) -> None:
    connection = connection_of()
    await save(sessions, connection, trade_rows(connection, "1", at(2, 0) - MICROSECOND))
    async with sessions() as session:
        await session.execute(text("SET LOCAL timezone = 'Asia/Tokyo'"))
        page = await analytics.page_of_days(session, Scope(ALICE), None, day(9), after=None, limit=9)
    assert list(page) == [DayKey(day(1), "USDT")]


async def test_closed_positions_are_read_from_place_to_place(sessions: Sessions) -> None:
    connection, theirs = connection_of(), connection_of(BOB)
    ids = [UUID(int=number) for number in range(1, 7)]
    await save(
        sessions,
        connection,
        theirs,
        *(trade_rows(connection, "1", at(1), id=id_, provider=f"p{id_.int}") for id_ in reversed(ids[:4])),
        trade_rows(connection, "1", at(2, 0), id=ids[4]),
        trade_rows(theirs, "1", at(1), id=ids[5]),
    )
    seen: list[analytics.ClosedPosition] = []
    async with sessions() as session:
        while batch := await analytics.closed_positions(
            session, Scope(ALICE), at(1, 0), at(2, 0), after=seen[-1].place if seen else None, limit=3
        ):
            seen += batch
    assert [closed.position.id for closed in seen] == ids[:4]
    assert [closed.provider for closed in seen] == ["p1", "p2", "p3", "p4"]
    assert all(one.place < other.place for one, other in pairwise(seen))


async def test_connections_to_report(sessions: Sessions) -> None:
    active, later = connection_of(), connection_of(activated_at=at(3, 0))
    traded = connection_of(status=ConnectionStatus.INACTIVE, deleted_at=at(5))
    reported = connection_of(BOB, status=ConnectionStatus.ERROR)
    idle = connection_of(status=ConnectionStatus.INACTIVE)
    await save(sessions, active, later, traded, reported, idle, trade_rows(traded, "1", at(2)))
    await recorded(sessions, reported, 2, figures_of())
    expected = sorted([active.id, traded.id, reported.id])
    async with sessions() as session:
        found = await analytics.connections_to_report(session, day(2), after=None, limit=9)
        assert list(found) == expected
        assert (
            list(await analytics.connections_to_report(session, day(2), after=None, limit=1)) == expected[:1]
        )
        rest = await analytics.connections_to_report(session, day(2), after=expected[0], limit=9)
        assert list(rest) == expected[1:]


async def test_a_day_is_reported_when_everybody_who_traded_has_a_row(sessions: Sessions) -> None:
    one, two = connection_of(), connection_of()
    await save(sessions, one, two, trade_rows(one, "1", at(1)), trade_rows(two, "1", at(2)))
    for number in (0, 1, 2):
        await recorded(sessions, one, number, figures_of())
    async with sessions() as session:
        assert await analytics.reported_days(session, day(0), day(5)) == {day(0), day(1)}
        assert await analytics.first_activation(session) == ACTIVATED


async def test_amounts_keep_all_their_places(sessions: Sessions) -> None:
    connection = connection_of()
    exact = "12345678.123456789012345678"
    await save(sessions, connection, trade_rows(connection, exact, at(1)), trade_rows(connection, "0", at(2)))
    async with sessions.begin() as session:
        await session.execute(update(Position).values(gross_pnl=D(exact)))
    (history_,) = await histories(sessions, Scope(ALICE), day(2))
    assert history_.earlier == D(exact)
