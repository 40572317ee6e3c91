"""The drill: a backup is restored, and a person has to find out what happened after it was taken.

On a simulated exchange, with PostgreSQL's own programs: the restored engine is halted, names what it does not know,
touches none of it, and goes on once an admin has said so.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk
from app.domain.errors import NotFound
from app.domain.market import MarketType
from app.domain.orders import OrderStatus, Side
from app.domain.owners import Owner, Role
from app.domain.positions import PositionSide
from app.domain.risk import Mode
from app.engine import comparing, connections, halting, monitoring
from app.engine.comparing import DiscrepancyKind
from app.settings import new_vault_key
from app.store.connections import Connection
from app.store.connections import Kind as ConnectionKind
from app.store.executions import ExecutionStatus
from app.store.schema import new_id
from app.vault import Vault
from tests.api.estate import fingerprint
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import execute_all, executions, orders, positions, publish, sweep_all
from tests.engine.test_restored import copy_through_a_backup
from tests.servers import Databases
from tests.venues.accounts import Account
from tests.venues.exchange import LISTINGS, Exchange, running_exchange
from tests.venues.faults import HTML
from tests.venues.orders import Kind as Market
from tests.venues.orders import Listing
from tests.venues.wire import Intent, WireRequest

BTC, ETH, SOL = "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"
ADMIN = Owner(Role.ADMIN, "root")

_THOUSANDTH = Decimal("0.001")
_SOL = Listing("SOL", "USDT", Market.SWAP, Decimal(1000), step=_THOUSANDTH, min_quantity=_THOUSANDTH)


@dataclass
class Drill:
    """An exchange, and desks on it."""

    venue: Exchange
    vault: Vault

    @property
    def account(self) -> Account:
        """The account as the exchange has it."""
        [account] = self.venue.usdm.floor.accounts.values()
        return account

    @asynccontextmanager
    async def desk_on(self, database_url: str) -> AsyncIterator[Desk]:
        """A desk on a database, as a process of its own would open it."""
        async with opened_desk(database_url, Clock()) as opened:
            now = self.venue.clock.now
            brokers = Directory({"crypto": open_crypto(self.vault, {"binanceusdm": self.venue.url}, now)})
            yield replace(opened, brokers=brokers, vault=self.vault, now=now)
            await brokers.close()

    async def connect(self, desk: Desk) -> Connection:
        """An active connection that buys 0.1 of whatever it is told to."""
        keys = self.venue.open_account({"USDT": "100000"})
        connection = await connections.create(
            desk,
            USER,
            kind=ConnectionKind.CRYPTO,
            exchange="binanceusdm",
            market_type=MarketType.SWAP,
            sandbox=False,
            terms={
                "name": "test",
                "credentials": {"api_key": keys.api_key, "api_secret": keys.secret},
                "sizing": {"strategy": "fixed", "value": "0.1"},
            },
        )
        examination = await connections.test(desk, USER, connection.id)
        assert examination.ok, examination.message
        return await connections.activate(desk, USER, connection.id)

    async def rounds(self, desk: Desk, *pauses: int) -> None:
        """Let monitor, bells and sweep do their work once after each of these pauses, in seconds."""
        for seconds in pauses:
            await self.venue.advance(seconds)
            await monitoring.watch(desk)
            await execute_all(desk)
            await sweep_all(desk)

    def at_the_venue(self) -> dict[str, object]:
        """All that stands at the exchange under the account: what a restored engine must not touch."""
        held = {position.market.listing.base: position.quantity for position in self.account.open_positions}
        return {"live": sorted(order.client_id for order in self.account.live.values()), **held}


@pytest.fixture
async def drill() -> AsyncIterator[Drill]:
    async with running_exchange(start=START, listings=(*LISTINGS, _SOL)) as venue:
        yield Drill(venue, Vault.open([SecretStr(new_vault_key())]))
        assert venue.crashes == []
        venue.audit()


@pytest.fixture
async def restored_url(databases: Databases) -> AsyncIterator[str]:
    """An empty database to restore into."""
    async with databases.fresh(template="template1") as url:
        yield url


def _acts(request: WireRequest) -> bool:
    return request.intent in (Intent.PLACE, Intent.CANCEL, Intent.SET)


async def test_the_drill(drill: Drill, database_url: str, restored_url: str, tmp_path: Path) -> None:
    async with drill.desk_on(database_url) as desk:
        await drill.connect(desk)
        await publish(desk, stop_loss="19000")
        await execute_all(desk)
        await drill.rounds(desk, 12)
        await publish(desk, "s2", symbol="ETH/USDT", stop_loss="900")
        copy_through_a_backup(database_url, restored_url, tmp_path / "backup")
        # All of this the backup knows nothing of.
        await execute_all(desk)
        await publish(desk, "s3", symbol="SOL/USDT", order_type="limit", entry_price="900", stop_loss="800")
        await execute_all(desk)
        _, lost_position = await positions(desk)
        [lost_stop] = [
            each for each in await orders(desk, lost_position.id) if each.trigger_price is not None
        ]
        *_, lost_entry = [each for each in await orders(desk) if each.symbol == SOL]
        lost_buy = next(
            each for each in await orders(desk) if each.execution_id == lost_position.execution_id
        )
    assert lost_entry.status is OrderStatus.OPEN
    await drill.venue.advance(30)
    standing, acted = drill.at_the_venue(), sum(_acts(each) for each in drill.venue.requests)

    async with drill.desk_on(restored_url) as desk:
        # It waits for nobody: rounds are made, what was pending is taken up, and the platform publishes again.
        await drill.rounds(desk, 6, 61, 11)
        await publish(desk, "s3", symbol="SOL/USDT", order_type="limit", entry_price="900", stop_loss="800")
        await drill.rounds(desk, 6)
        codes = [(each.status, each.code) for each in await executions(desk)]
        denied = (ExecutionStatus.DENIED, "trading_halted")
        assert codes == [(ExecutionStatus.EXECUTED, None), denied, denied]
        assert drill.at_the_venue() == standing
        assert sum(_acts(each) for each in drill.venue.requests) == acted

        before = await fingerprint(desk.sessions)
        [found] = await comparing.compare(desk)
        assert await fingerprint(desk.sessions) == before, "to compare changes nothing"
        assert found.unanswered == []
        assert found.symbols is None, "open orders were asked for everywhere"
        told = {
            (each.kind, each.symbol, each.side, each.quantity, each.client_order_id or each.exchange_order_id)
            for each in found.discrepancies
        }
        tenth = Decimal("0.1")
        assert told == {
            (DiscrepancyKind.UNKNOWN_HOLDING, ETH, PositionSide.LONG, tenth, None),
            (DiscrepancyKind.UNKNOWN_ORDER, ETH, Side.SELL, tenth, lost_stop.client_order_id),
            (DiscrepancyKind.UNKNOWN_ORDER, SOL, Side.BUY, tenth, lost_entry.client_order_id),
            (DiscrepancyKind.UNKNOWN_FILL, ETH, Side.BUY, tenth, lost_buy.exchange_order_id),
        }

        # What is on the list is settled at the venue, by hand.
        [entry] = [
            each for each in drill.account.live.values() if each.client_id == lost_entry.client_order_id
        ]
        drill.venue.usdm.floor.cancel(drill.account, entry)
        [found] = await comparing.compare(desk)
        assert SOL not in {each.symbol for each in found.discrepancies}
        await halting.set_trading(desk, ADMIN, Mode.ACTIVE, "compared with the venues")
        await publish(desk, "s4", symbol="SOL/USDT", stop_loss="800")
        await drill.rounds(desk, 6)
        assert (await executions(desk))[-1].status is ExecutionStatus.EXECUTED
        _, protected = await positions(desk)
        assert protected.protected_at is not None


async def test_what_left_after_the_backup_is_missed_and_what_is_not_answered_is_said(
    drill: Drill, database_url: str, restored_url: str, tmp_path: Path
) -> None:
    async with drill.desk_on(database_url) as desk:
        connection = await drill.connect(desk)
        await publish(desk, stop_loss="19000")
        await execute_all(desk)
        await drill.rounds(desk, 12)
        copy_through_a_backup(database_url, restored_url, tmp_path / "backup")
        [stop] = [each for each in await orders(desk) if each.trigger_price is not None]
        [same] = await comparing.compare(desk, connection_id=connection.id)
        assert (same.discrepancies, same.unanswered) == ([], [])
    drill.venue.move(BTC, 18900)
    await drill.venue.advance(30)
    async with drill.desk_on(restored_url) as desk:
        [found] = await comparing.compare(desk)
        assert found.unanswered == []
        assert {
            (each.kind, each.quantity, each.client_order_id, each.status) for each in found.discrepancies
        } == {
            (DiscrepancyKind.MISSING_ORDER, Decimal("0.1"), stop.client_order_id, OrderStatus.FILLED),
            (DiscrepancyKind.MISSING_HOLDING, Decimal("0.1"), None, None),
        }

        # A page of a proxy's is no answer: nothing is held to be flat, or equal, on the strength of it.
        drill.venue.faults.add(HTML, lambda request: request.intent is not Intent.PUBLIC, times=500)
        [found] = await comparing.compare(desk)
        assert found.discrepancies == []
        assert len(found.unanswered) >= 3
        assert any(each.startswith("What is held") for each in found.unanswered)
        drill.venue.faults.clear()


async def test_a_connection_that_there_is_not(drill: Drill, database_url: str) -> None:
    async with drill.desk_on(database_url) as desk:
        assert await comparing.compare(desk) == []
        with pytest.raises(NotFound):
            await comparing.compare(desk, connection_id=new_id())
