"""A venue that refuses the key, shuts us out or leaves orders in doubt: no entries any more, and every way out."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import open_paper
from app.brokers.port import Uncertain
from app.desk import Desk, open_database, open_sessions
from app.domain.market import MarketType
from app.domain.positions import PositionStatus
from app.engine import breaking, closing, connections, monitoring, reporting, strikes
from app.store.audit import Action, AuditEntry
from app.store.connections import Connection, ConnectionStatus, Kind, Strike
from app.store.executions import ExecutionStatus
from app.store.notifications import Notification, NotificationType
from tests.desks import START, USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, executions, positions, publish, sweep_all
from tests.faults import Fault, FaultyVenue
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import any_request, reject


async def present(desk: Desk) -> Connection:
    """The one connection as it stands."""
    async with desk.sessions() as session:
        return (await session.scalars(select(Connection))).one()


async def strikes_of(desk: Desk) -> dict[Strike, int]:
    """What counts against the one connection."""
    connection = await present(desk)
    return {kind: connection.strikes(kind) for kind in Strike if connection.strikes(kind)}


async def told(desk: Desk) -> list[str]:
    """The messages about the connection, oldest first."""
    async with desk.sessions() as session:
        rows = await session.scalars(
            select(Notification)
            .where(Notification.type == NotificationType.CONNECTION)
            .order_by(Notification.id)
        )
        return [each.message for each in rows]


async def test_what_was_counted_while_an_order_was_on_its_way_is_cleared_with_its_acknowledgement(
    database_url: str,
) -> None:
    async with opened_desk(database_url, Clock()) as desk:
        connection = await add_connection(desk)
        for _ in range(4):
            # By another worker: the row at hand knows nothing of it.
            await strikes.of_order(desk, connection.id, Uncertain("connection reset"))
        assert await strikes_of(desk) == {Strike.DOUBTED: 4}
        await strikes.acknowledged(desk, connection)
        assert await strikes_of(desk) == {}


class TestExchanges:
    """Where the venue itself says no."""

    @pytest.fixture
    async def venue(self) -> AsyncIterator[Exchange]:
        async with running_exchange(start=START) as exchange:
            yield exchange

    @pytest.fixture
    async def desk(self, database_url: str, venue: Exchange) -> AsyncIterator[Desk]:
        async with opened_desk(database_url, Clock()) as opened:
            now = venue.clock.now
            endpoints = dict.fromkeys(("binance", "bybit"), venue.url)
            brokers = Directory({"crypto": open_crypto(opened.vault, endpoints, now)})
            yield replace(opened, brokers=brokers, now=now)
            await brokers.close()

    async def connected(self, desk: Desk, venue: Exchange, exchange: str, market: MarketType) -> Connection:
        """An active connection."""
        keys = venue.open_account({"USDT": "100000"})
        connection = await connections.create(
            desk,
            USER,
            kind=Kind.CRYPTO,
            exchange=exchange,
            market_type=market,
            sandbox=False,
            terms={
                "name": "test",
                "credentials": {"api_key": keys.api_key, "api_secret": keys.secret},
                "sizing": {"strategy": "fixed", "value": "0.1"},
            },
        )
        assert (await connections.test(desk, USER, connection.id)).ok
        return await connections.activate(desk, USER, connection.id)

    @pytest.mark.parametrize(
        ("exchange", "market"), [("binance", MarketType.SPOT), ("bybit", MarketType.SPOT)]
    )
    async def test_a_key_that_is_refused_again_and_again_takes_no_entries_and_comes_back_through_a_test(
        self, desk: Desk, venue: Exchange, exchange: str, market: MarketType
    ) -> None:
        connection = await self.connected(desk, venue, exchange, market)
        await publish(desk, "held", stop_loss="15000")
        await publish(desk, "resting", order_type="limit", entry_price="15000")
        await execute_all(desk)
        accounts = [account for floor in venue.floors for account in floor.accounts.values()]
        for account in accounts:
            account.can_trade = False
        limit = breaking.LIMITS[Strike.REFUSED]
        for number in range(limit):
            assert (await present(desk)).status is ConnectionStatus.ACTIVE
            await publish(desk, f"refused{number}")
            await execute_all(desk)
            assert (await executions(desk))[-1].code == "credentials_refused"
            if number < limit - 1:
                await breaking.enforce(desk)
        await publish(desk, "waiting")
        await venue.advance(6)
        await monitoring.watch(desk)
        await monitoring.watch(desk)

        broken = await present(desk)
        assert (broken.status, broken.is_tested) == (ConnectionStatus.ERROR, False)
        assert "refuses the credentials" in (broken.last_error or "")
        assert (await executions(desk))[-1].code == "connection_inactive"
        assert sum("refuses the credentials" in each for each in await told(desk)) == 1
        await publish(desk, "later")
        assert len(await executions(desk)) == 2 + limit + 1, "it receives no signals"

        # What is open can be closed, in error as in any other state.
        for account in accounts:
            account.can_trade = True
        [position] = await positions(desk)
        await closing.request_close(desk, USER, position.id, None, idempotency_key=None)
        await execute_all(desk)
        for _ in range(4):
            await venue.advance(6)
            await monitoring.watch(desk)
            await sweep_all(desk)
        assert (await positions(desk))[0].status is PositionStatus.CLOSED
        assert (await executions(desk))[1].status is ExecutionStatus.CANCELLED
        assert (await present(desk)).status is ConnectionStatus.ERROR

        assert (await connections.test(desk, USER, connection.id)).ok
        assert await strikes_of(desk) == {}
        await connections.activate(desk, USER, connection.id)
        await monitoring.watch(desk)
        assert (await present(desk)).status is ConnectionStatus.ACTIVE

    @pytest.mark.parametrize(
        ("exchange", "answer", "status"),
        [
            ("binance", {"code": -1003, "msg": "IP banned until 1."}, 418),
            ("bybit", {"retCode": 10018, "retMsg": "access too frequent"}, 403),
            ("bybit", {"retCode": 10009, "retMsg": "IP has been banned"}, 200),
        ],
    )
    async def test_a_ban_breaks_at_once(
        self, desk: Desk, venue: Exchange, exchange: str, answer: dict[str, object], status: int
    ) -> None:
        await self.connected(desk, venue, exchange, MarketType.SPOT)
        venue.faults.add(reject(answer, status), any_request)
        await reporting.check_health(desk)
        await monitoring.watch(desk)
        broken = await present(desk)
        assert broken.status is ConnectionStatus.ERROR
        assert "shut" in (broken.last_error or "")
        assert not broken.strikes(Strike.REFUSED), "nothing was said about the key"

    async def test_a_venue_that_is_down_breaks_nothing(self, desk: Desk, venue: Exchange) -> None:
        await self.connected(desk, venue, "binance", MarketType.SPOT)
        venue.faults.add(reject("<html>", 403), any_request, times=100)
        for _ in range(10):
            await reporting.check_health(desk)
            await monitoring.watch(desk)
        assert (await present(desk)).status is ConnectionStatus.ACTIVE


class TestDoubt:
    """Where nobody knows what became of orders."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    async def venue(self, database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[FaultyVenue]:
        recording = write_recording(tmp_path / "btc.csv", [("20000", "20000", "20000", "20000")] * 600)
        database = open_database(database_url)
        played = Recordings({"BTC/USDT": recording}, Decimal(1), START)
        yield FaultyVenue(open_paper(open_sessions(database), played, clock))
        await database.dispose()

    @pytest.fixture
    async def desk(self, database_url: str, clock: Clock, venue: FaultyVenue) -> AsyncIterator[Desk]:
        async with opened_desk(database_url, clock, venues={"paper": venue}) as desk:
            clock.move(1)
            yield desk

    async def entries(self, desk: Desk, venue: FaultyVenue, faults: list[Fault], name: str) -> None:
        """As many signals, each meeting one of these faults."""
        venue.faults.extend(faults)
        for number in range(len(faults)):
            await publish(desk, f"{name}{number}")
        await execute_all(desk)
        await breaking.enforce(desk)

    async def test_too_many_in_a_row_break_and_survive_a_restart(
        self, desk: Desk, venue: FaultyVenue, database_url: str, clock: Clock
    ) -> None:
        small = {"strategy": "fixed", "value": "0.001"}
        await add_connection(desk, market_type=MarketType.SPOT, sizing=small)
        most = breaking.LIMITS[Strike.DOUBTED]
        await self.entries(desk, venue, [Fault.ANSWER_LOST] * (most - 1), "a")
        assert (await present(desk)).status is ConnectionStatus.ACTIVE
        async with opened_desk(database_url, clock, venues={"paper": venue}) as restarted:
            await self.entries(restarted, venue, [Fault.ANSWER_LOST], "b")
            assert (await present(restarted)).status is ConnectionStatus.ERROR
        assert "left open" in (await told(desk))[-1]
        async with desk.sessions() as session:
            [written] = await session.scalars(select(AuditEntry).where(AuditEntry.action == Action.BREAK))
        assert (written.actor, written.detail) == (None, {"before": "active"})
        assert written.connection_id == (await present(desk)).id

    async def test_an_order_that_is_acknowledged_begins_a_new_row(
        self, desk: Desk, venue: FaultyVenue
    ) -> None:
        small = {"strategy": "fixed", "value": "0.001"}
        await add_connection(desk, market_type=MarketType.SPOT, sizing=small)
        most = breaking.LIMITS[Strike.DOUBTED]
        await self.entries(desk, venue, [Fault.ANSWER_LOST] * (most - 1), "a")
        await publish(desk, "good")
        await execute_all(desk)
        assert await strikes_of(desk) == {}
        await self.entries(desk, venue, [Fault.ANSWER_LOST] * (most - 1), "b")
        assert (await present(desk)).status is ConnectionStatus.ACTIVE

    async def test_a_balance_that_is_told_says_nothing_of_orders_in_doubt(
        self, desk: Desk, venue: FaultyVenue
    ) -> None:
        small = {"strategy": "fixed", "value": "0.001"}
        await add_connection(desk, market_type=MarketType.SPOT, sizing=small)
        most = breaking.LIMITS[Strike.DOUBTED]
        for number in range(most):
            await self.entries(desk, venue, [Fault.ANSWER_LOST], f"a{number}")
            await reporting.check_health(desk)
        assert await strikes_of(desk) == {Strike.DOUBTED: most}
        assert (await present(desk)).status is ConnectionStatus.ERROR

    async def test_plain_refusals_are_the_orders_own(self, desk: Desk, venue: FaultyVenue) -> None:
        await add_connection(desk, market_type=MarketType.SPOT)
        await self.entries(desk, venue, [Fault.REFUSED] * 20, "a")
        assert await strikes_of(desk) == {}
