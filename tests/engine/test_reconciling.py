"""What owners do by hand, what venues force, and what neither may be taken for: on the paper venue."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from app.brokers.directory import Access, Directory
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import open_paper
from app.brokers.port import Account, Broker, Uncertain
from app.desk import Desk
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.orders import FINAL, OrderReport, OrderRequest, OrderStatus, OrderType, Purpose, Side
from app.domain.positions import PositionStatus
from app.engine import closing, guarding, monitoring
from app.engine.access import broker_of
from app.engine.protection import PlanChange, edit_plan
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from app.store.notifications import Notification, NotificationType
from app.store.orders import Order
from app.store.positions import Position
from tests.desks import START, USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, executions, orders, positions, publish, sweep_all
from tests.faults import Fault, FaultyBroker, FaultyVenue

# 20000 for ten minutes, then a fall to 15000, where it stays.
CANDLES = [
    *[("20000", "20000", "20000", "20000")] * 600,
    ("20000", "20000", "15000", "15000"),
    *[("15000", "15000", "15000", "15000")] * 600,
]
SWAP = "BTC/USDT:USDT"


class Blind(FaultyBroker):
    """A broker whose venue may refuse to say what it holds, or say it as it was a while ago."""

    async def account(self) -> Account:
        """The real broker's, unless nothing is told."""
        view = self._venue
        assert isinstance(view, Hidden)
        if view.silent:
            raise Uncertain("502 Bad Gateway")
        return await super().account()

    async def holdings(self, handles=()):  # type: ignore[no-untyped-def]
        """The real broker's, unless nothing or something stale is told."""
        view = self._venue
        assert isinstance(view, Hidden)
        if view.silent:
            raise Uncertain("502 Bad Gateway")
        view.looks += 1
        return [] if view.stale else await super().holdings(handles)


class Hidden(FaultyVenue):
    """A venue that hides what it holds when it is told to."""

    silent = False
    """No question about holdings or balances is answered."""
    stale = False
    """Holdings are answered as they were before anything was opened."""
    looks = 0
    """How often holdings were asked for."""

    async def open(self, access: Access) -> Broker:
        """The real broker behind the veil."""
        return Blind(await self._venue.open(access), self)


@dataclass
class Scene:
    """A desk on the paper venue behind a veil, and what happens there."""

    desk: Desk
    clock: Clock
    venue: Hidden

    async def open_position(self, **fields: object) -> Position:
        """A connection with one protected long position of 0.1."""
        terms = {"market_type": MarketType.SWAP, "leverage": Decimal(5), **fields}
        await add_connection(self.desk, **terms)  # type: ignore[arg-type]
        return await self.enter()

    async def enter(self, source: str = "s1") -> Position:
        """One more position."""
        await publish(self.desk, source, stop_loss="18000", targets=[("22000", "0.5"), ("23000", "0.5")])
        await execute_all(self.desk)
        return (await positions(self.desk))[-1]

    async def hand(
        self, side: Side, quantity: str, *, symbol: str = SWAP, price: str | None = None
    ) -> OrderReport:
        """An order of the owner's own, from the venue's own pages."""
        request = OrderRequest(
            client_order_id=f"web-{uuid4().hex[:12]}",
            symbol=symbol,
            side=side,
            type=OrderType.MARKET if price is None else OrderType.LIMIT,
            quantity=Decimal(quantity),
            signed_at=self.clock(),
            price=None if price is None else Decimal(price),
        )
        return await (await self.broker()).place(request)

    async def broker(self) -> Broker:
        """The account's broker."""
        return await broker_of(self.desk, await self.connection())

    async def connection(self) -> Connection:
        """The one connection."""
        async with self.desk.sessions() as session:
            return (await session.scalars(select(Connection))).one()

    async def told(self, kind: NotificationType) -> list[str]:
        """What the owner was told of a kind."""
        async with self.desk.sessions() as session:
            rows = await session.scalars(select(Notification).where(Notification.type == kind))
            return [row.message for row in rows]

    async def rounds(self, count: int, seconds: float = 5) -> None:
        """Let the worker's rounds run for a while."""
        for _ in range(count):
            self.clock.move(seconds)
            await monitoring.watch(self.desk)
            await execute_all(self.desk)
            await sweep_all(self.desk)

    async def a_minute(self) -> None:
        """Long enough for two looks, and what follows."""
        await self.rounds(16)

    async def wallet(self) -> Decimal:
        """What the venue says the account has, in USDT."""
        return (await (await self.broker()).account()).balances["USDT"].total


@pytest.fixture
async def scene(database_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    clock = Clock()
    async with opened_desk(database_url, clock) as opened:
        played = Recordings({"BTC/USDT": recording}, Decimal(1), START)
        venue = Hidden(open_paper(opened.sessions, played, clock))
        brokers = Directory({"paper": venue})
        clock.move(1)
        yield Scene(replace(opened, brokers=brokers), clock, venue)
        await brokers.close()


async def live(scene: Scene) -> list[Order]:
    """Orders of ours that may still fill."""
    return [order for order in await orders(scene.desk) if order.is_live]


class TestTakenAway:
    @pytest.mark.parametrize("native", [True, False])
    async def test_a_close_by_hand_ends_the_position_with_the_venues_own_figures(
        self, scene: Scene, *, native: bool
    ) -> None:
        await scene.open_position(protection={"native": native})
        await scene.rounds(1)
        await scene.hand(Side.SELL, "0.1")
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.EXTERNAL)
        assert position.pnl_complete
        assert position.exit_price == Decimal(20000)
        assert position.realized_pnl == await scene.wallet() - 10000
        assert not await live(scene)
        [external] = [order for order in await orders(scene.desk) if order.reason is CloseReason.EXTERNAL]
        assert (external.client_order_id, external.filled_quantity) == (None, Decimal("0.1"))
        assert len(await scene.told(NotificationType.CLOSE)) == 2

    async def test_a_part_closed_by_hand_shrinks_position_and_protection(self, scene: Scene) -> None:
        await scene.open_position()
        await scene.rounds(1)
        await scene.hand(Side.SELL, "0.04")
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, Decimal("0.06"))
        assert position.protection is Protection.NATIVE
        legs = [order for order in await live(scene) if order.purpose is Purpose.PROTECTION]
        assert sum(leg.quantity for leg in legs) == Decimal("0.06")
        await scene.hand(Side.SELL, "0.01")
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert position.remaining_quantity == Decimal("0.05")
        assert position.realized_pnl == Decimal("-2")
        assert position.pnl_complete

    async def test_what_was_closed_through_us_and_by_hand_adds_up(self, scene: Scene) -> None:
        position = await scene.open_position()
        await closing.request_close(scene.desk, USER, position.id, Decimal("0.5"), idempotency_key=None)
        await execute_all(scene.desk)
        await scene.rounds(2)
        await scene.hand(Side.SELL, "0.05")
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.EXTERNAL)
        assert position.realized_pnl == await scene.wallet() - 10000

    async def test_the_newest_of_several_spot_positions_loses(self, scene: Scene) -> None:
        await scene.open_position(market_type=MarketType.SPOT, leverage=None, protection={"native": False})
        await scene.rounds(1)
        await scene.enter("s2")
        await scene.rounds(1)
        await scene.hand(Side.SELL, "0.12", symbol="BTC/USDT")
        await scene.a_minute()
        older, newer = await positions(scene.desk)
        assert (newer.status, newer.close_reason) == (PositionStatus.CLOSED, CloseReason.EXTERNAL)
        assert (older.status, older.remaining_quantity) == (PositionStatus.OPEN, Decimal("0.08"))

    async def test_coins_the_owner_had_make_up_for_what_they_sold(self, scene: Scene) -> None:
        await add_connection(scene.desk, market_type=MarketType.SPOT, protection={"native": False})
        await scene.hand(Side.BUY, "0.2", symbol="BTC/USDT")
        await scene.enter()
        await scene.rounds(1)
        await scene.hand(Side.SELL, "0.2", symbol="BTC/USDT")
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, Decimal("0.1"))

    async def test_without_a_trade_the_price_is_the_mark_and_the_figures_say_so(self, scene: Scene) -> None:
        position = await scene.open_position(protection={"native": False})
        await scene.rounds(1)
        await scene.hand(Side.SELL, "0.1")
        async with scene.desk.sessions.begin() as session:
            # Opened later than the sale, for all the books know: no trade accounts for what is gone.
            await session.execute(
                update(Position)
                .where(Position.id == position.id)
                .values(opened_at=scene.clock() + timedelta(seconds=1))
            )
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.EXTERNAL)
        assert position.exit_price == Decimal(20000)
        assert not position.pnl_complete

    async def test_a_close_that_finds_nothing_left_ends_too(self, scene: Scene) -> None:
        position = await scene.open_position(protection={"native": False})
        await scene.rounds(2)
        await scene.hand(Side.SELL, "0.1")
        # The price falls through the stop before anybody has noticed.
        scene.clock.move(600)
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.EXTERNAL)
        assert all(order.status in FINAL for order in await orders(scene.desk))


class TestAdded:
    async def test_size_added_by_hand_is_told_once_and_left_alone(self, scene: Scene) -> None:
        position = await scene.open_position()
        await scene.rounds(1)
        await scene.hand(Side.BUY, "0.05")
        await scene.a_minute()
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.remaining_quantity, position.foreign_quantity) == (Decimal("0.1"), Decimal("0.05"))
        assert len(await scene.told(NotificationType.RISK)) == 1
        await closing.request_close(scene.desk, USER, position.id, None, idempotency_key=None)
        await execute_all(scene.desk)
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
        [holding] = await (await scene.broker()).holdings()
        assert holding.quantity == Decimal("0.05")

    async def test_what_was_added_goes_before_ours(self, scene: Scene) -> None:
        await scene.open_position()
        await scene.rounds(1)
        await scene.hand(Side.BUY, "0.05")
        await scene.a_minute()
        await scene.hand(Side.SELL, "0.07")
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.remaining_quantity, position.foreign_quantity) == (Decimal("0.08"), Decimal(0))

    async def test_an_order_of_the_owners_own_is_counted_and_never_cancelled(self, scene: Scene) -> None:
        await scene.open_position()
        own = await scene.hand(Side.BUY, "0.05", price="15500")
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert position.foreign_orders == 1
        await closing.request_close(scene.desk, USER, position.id, None, idempotency_key=None)
        await execute_all(scene.desk)
        await scene.a_minute()
        resting = await (await scene.broker()).resting([SWAP])
        assert [each.client_order_id for each in resting] == [own.client_order_id]

    async def test_a_position_of_the_owners_own_denies_an_entry(self, scene: Scene) -> None:
        await add_connection(scene.desk, leverage=Decimal(5))
        await scene.hand(Side.BUY, "0.05")
        await publish(scene.desk, stop_loss="18000")
        await execute_all(scene.desk)
        [execution] = await executions(scene.desk)
        assert (execution.status, execution.code) == (ExecutionStatus.DENIED, "foreign_position")

    async def test_while_nobody_says_what_is_held_there_is_no_entry(self, scene: Scene) -> None:
        await add_connection(scene.desk, leverage=Decimal(5))
        scene.venue.silent = True
        await publish(scene.desk, stop_loss="18000")
        await execute_all(scene.desk)
        [execution] = await executions(scene.desk)
        assert execution.status is ExecutionStatus.PENDING
        scene.venue.silent = False
        await scene.rounds(3)
        [execution] = await executions(scene.desk)
        assert execution.status is ExecutionStatus.EXECUTED


class TestNotTakenAway:
    async def test_a_failed_question_is_never_flat(self, scene: Scene) -> None:
        await scene.open_position()
        await scene.rounds(1)
        scene.venue.silent = True
        await scene.a_minute()
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, Decimal("0.1"))
        assert position.missing_since is None

    async def test_one_stale_answer_changes_nothing(self, scene: Scene) -> None:
        await scene.open_position()
        await scene.rounds(3)
        scene.venue.stale = True
        looks = scene.venue.looks
        while scene.venue.looks == looks:
            await scene.rounds(1)
        [position] = await positions(scene.desk)
        assert position.missing_since is not None
        scene.venue.stale = False
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, Decimal("0.1"))
        assert position.missing_since is None
        assert position.protection is Protection.NATIVE

    async def test_nothing_is_guarded_while_it_is_not_clear_what_is_left(self, scene: Scene) -> None:
        position = await scene.open_position(protection={"deadline_seconds": 10})
        await scene.rounds(3)
        placed = len(scene.venue.placed)
        scene.venue.stale = True
        for leg in await live(scene):
            await (await scene.broker()).cancel(leg.key)
        await scene.rounds(1)
        [position] = await positions(scene.desk)
        assert position.missing_since is not None
        assert position.unprotected_since is not None
        # Nobody says what is held for much longer than its stop may be watched by nobody.
        scene.venue.silent = True
        await scene.rounds(12)
        scene.clock.move(20)
        await guarding.enforce(scene.desk, position.id)
        [position] = await positions(scene.desk)
        assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, Decimal("0.1"))
        assert len(scene.venue.placed) == placed
        assert not [order for order in await orders(scene.desk) if order.purpose is Purpose.CLOSE]
        # It is there after all: its stop is put back, with the whole of its time to do so.
        scene.venue.silent = scene.venue.stale = False
        await scene.rounds(12, seconds=1)
        [position] = await positions(scene.desk)
        assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NATIVE)
        assert position.missing_since is None
        assert position.unprotected_seconds > 60, "the whole of the gap counts"
        assert not [order for order in await orders(scene.desk) if order.purpose is Purpose.CLOSE]

    async def test_a_fresh_position_is_not_missed_by_answers_that_lag(self, scene: Scene) -> None:
        await scene.open_position()
        scene.venue.stale = True
        await scene.rounds(1, seconds=1)
        await scene.rounds(1, seconds=3)
        scene.venue.stale = False
        [position] = await positions(scene.desk)
        assert position.missing_since is None

    async def test_our_own_close_in_flight_is_not_taken_for_the_owners(self, scene: Scene) -> None:
        position = await scene.open_position(protection={"native": False})
        await scene.rounds(2)
        scene.venue.faults.append(Fault.ANSWER_LOST)
        scene.venue.blind = True
        await closing.request_close(scene.desk, USER, position.id, None, idempotency_key=None)
        await execute_all(scene.desk)
        # The venue is flat, and nobody can say what became of the order.
        await scene.rounds(5)
        [position] = await positions(scene.desk)
        assert position.status is PositionStatus.CLOSING
        assert position.missing_since is None
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
        assert position.realized_pnl == await scene.wallet() - 10000

    async def test_rounds_and_closes_at_the_same_time_book_everything_once(self, scene: Scene) -> None:
        position = await scene.open_position(protection={"native": False})
        await scene.rounds(2)
        for _ in range(6):
            portion = Decimal("0.3")
            await closing.request_close(scene.desk, USER, position.id, portion, idempotency_key=None)
            scene.clock.move(5)
            await asyncio.gather(
                execute_all(scene.desk), monitoring.watch(scene.desk), monitoring.watch(scene.desk)
            )
        await scene.a_minute()
        [position] = await positions(scene.desk)
        [holding] = await (await scene.broker()).holdings()
        assert position.remaining_quantity == holding.quantity
        assert {order.reason for order in await orders(scene.desk) if order.reason} == {CloseReason.MANUAL}

    async def test_a_target_that_the_venue_filled_is_a_target(self, scene: Scene) -> None:
        await scene.open_position()
        await scene.rounds(1)
        scene.clock.move(600)
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
        assert not [order for order in await orders(scene.desk) if order.reason is CloseReason.EXTERNAL]


class TestProtection:
    async def test_a_stop_that_was_cancelled_by_hand_is_put_back(self, scene: Scene) -> None:
        await scene.open_position()
        await scene.rounds(1)
        for leg in await live(scene):
            await (await scene.broker()).cancel(leg.key)
        await scene.rounds(3)
        [position] = await positions(scene.desk)
        assert position.protection is Protection.NATIVE
        assert sum(leg.quantity for leg in await live(scene)) == Decimal("0.1")
        [told] = await scene.told(NotificationType.RISK)
        assert "BTC/USDT:USDT at 18000 was gone at the venue; the engine has put it back" in told
        await scene.a_minute()
        assert len(await scene.told(NotificationType.RISK)) == 1, "once for all of its orders"
        for leg in await live(scene):
            await (await scene.broker()).cancel(leg.key)
        await scene.rounds(3)
        assert len(await scene.told(NotificationType.RISK)) == 2

    async def test_a_stop_that_we_take_away_is_not_told_as_gone(self, scene: Scene) -> None:
        position = await scene.open_position()
        await scene.rounds(1)
        stop = PlanChange(frozenset({"stop_loss"}), stop_loss=Decimal("18500"))
        await edit_plan(scene.desk, USER, position.id, stop)
        await scene.rounds(3)
        await closing.request_close(scene.desk, USER, position.id, Decimal("0.5"), idempotency_key=None)
        await scene.rounds(3)
        [position] = await positions(scene.desk)
        assert (position.protection, position.stop_loss) == (Protection.NATIVE, Decimal("18500"))
        await closing.request_close(scene.desk, USER, position.id, None, idempotency_key=None)
        await scene.rounds(3)
        [position] = await positions(scene.desk)
        assert (position.status, position.stop_lost_at) == (PositionStatus.CLOSED, None)
        assert await scene.told(NotificationType.RISK) == []

    async def test_a_close_by_hand_that_takes_its_stop_along_is_not_told_as_put_back(
        self, scene: Scene
    ) -> None:
        await scene.open_position()
        await scene.rounds(3)
        for leg in await live(scene):
            await (await scene.broker()).cancel(leg.key)
        await scene.hand(Side.SELL, "0.1")
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.EXTERNAL)
        assert (await scene.told(NotificationType.RISK), position.stop_lost_at) == ([], None)

    async def test_an_order_of_ours_that_has_ended_for_us_is_cancelled_where_it_still_rests(
        self, scene: Scene
    ) -> None:
        await scene.open_position()
        await scene.rounds(1)
        own = await scene.hand(Side.BUY, "0.05", price="15500")
        [lost, *_] = await live(scene)
        async with scene.desk.sessions.begin() as session:
            await session.execute(
                update(Order).where(Order.id == lost.id).values(status=OrderStatus.CANCELLED)
            )
        await scene.a_minute()
        resting = {each.client_order_id for each in await (await scene.broker()).resting([SWAP])}
        assert lost.client_order_id not in resting
        assert own.client_order_id in resting
        assert resting == {own.client_order_id, *(leg.client_order_id for leg in await live(scene))}


class TestForced:
    async def test_a_liquidation_is_called_one_and_counts_its_fee(self, scene: Scene) -> None:
        await add_connection(scene.desk, leverage=Decimal(5), protection={"native": False})
        await publish(scene.desk)
        await execute_all(scene.desk)
        await scene.rounds(1)
        scene.clock.move(600)
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.LIQUIDATION)
        assert position.pnl_complete
        assert position.realized_pnl == await scene.wallet() - 10000
        assert len(await scene.told(NotificationType.LIQUIDATION)) == 1

    async def test_a_symbol_that_is_delisted_is_told_once(self, scene: Scene, tmp_path: Path) -> None:
        await scene.open_position()
        await scene.rounds(1)
        recording = write_recording(tmp_path / "eth.csv", CANDLES)
        others = Recordings({"ETH/USDT": recording}, Decimal(1), START)
        brokers = Directory({"paper": open_paper(scene.desk.sessions, others, scene.clock)})
        later = Scene(replace(scene.desk, brokers=brokers), scene.clock, scene.venue)
        await later.a_minute()
        await later.a_minute()
        [position] = await positions(scene.desk)
        assert position.status is PositionStatus.OPEN
        assert position.delisted_at is not None
        assert len(await scene.told(NotificationType.RISK)) == 1
        await scene.a_minute()
        [position] = await positions(scene.desk)
        assert position.delisted_at is None
