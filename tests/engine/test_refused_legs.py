"""What a venue refuses of an exit plan is ours to watch until the plan changes, and no more; on simulators."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.orders import FINAL, Leg, OrderRequest, OrderStatus
from app.domain.positions import PositionStatus
from app.engine import connections, monitoring
from app.engine.protection import PlanChange, edit_plan
from app.store.connections import Connection, Kind
from app.store.notifications import Notification
from app.store.positions import Position
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import execute_all, orders, positions, publish, sweep_all
from tests.faults import Fault, FaultyVenue
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.orders import Order

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP
TARGETS = [("21000", "0.5"), ("23000", "0.5")]


@dataclass
class Scene:
    """A connection at one exchange that refuses some of what it is asked to hold."""

    desk: Desk
    venue: Exchange
    faulty: FaultyVenue
    market_type: MarketType

    @property
    def symbol(self) -> str:
        """BTC against USDT."""
        return "BTC/USDT" if self.market_type is SPOT else "BTC/USDT:USDT"

    def refuse(self, picked: Callable[[OrderRequest], bool]) -> None:
        """Let the exchange refuse these from now on."""
        self.faulty.pick = picked
        self.faulty.faults.extend([Fault.REFUSED] * 1000)

    def relent(self) -> None:
        """Let it take everything again."""
        self.faulty.faults.clear()

    def live(self) -> list[Order]:
        """What stands at the exchange."""
        return [
            order
            for floor in self.venue.floors
            for account in floor.accounts.values()
            for order in account.live.values()
        ]

    def stops(self) -> list[Decimal]:
        """Where stops stand there."""
        return [order.trigger.price for order in self.live() if order.trigger is not None]

    async def enter(self) -> Position:
        """A long of 0.1 at 20000."""
        await publish(self.desk, stop_loss="19000", targets=TARGETS)
        await execute_all(self.desk)
        return await self.position()

    async def position(self) -> Position:
        """The one there is."""
        [position] = await positions(self.desk)
        return position

    async def move_stop(self, price: str) -> Position:
        """The owner's edit, carried out."""
        position = await self.position()
        change = PlanChange(frozenset({"stop_loss"}), stop_loss=Decimal(price))
        await edit_plan(self.desk, USER, position.id, change)
        await execute_all(self.desk)
        return await self.position()

    async def walk(self, price: int) -> Position:
        """Move the price, and let monitor, sweep and bells do their work."""
        self.venue.move(self.symbol, price)
        for _ in range(4):
            await self.venue.advance(6)
            await monitoring.watch(self.desk)
            await execute_all(self.desk)
            await sweep_all(self.desk)
        return await self.position()

    async def told(self) -> str:
        """Everything the owner was told."""
        async with self.desk.sessions() as session:
            return "\n".join(each.message for each in await session.scalars(select(Notification)))


@pytest.fixture(params=[("binance", SPOT), ("binanceusdm", SWAP), ("bybit", SPOT), ("bybit", SWAP)])
async def scene(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Scene]:
    exchange, market_type = request.param
    async with running_exchange(start=START) as venue, opened_desk(database_url, Clock()) as opened:
        now = venue.clock.now
        endpoints = dict.fromkeys(("binance", "binanceusdm", "bybit"), venue.url)
        faulty = FaultyVenue(open_crypto(opened.vault, endpoints, now))
        desk = replace(opened, brokers=Directory({"crypto": faulty}), now=now)
        keys = venue.open_account({"USDT": "100000"})
        connection = await connections.create(
            desk,
            USER,
            kind=Kind.CRYPTO,
            exchange=exchange,
            market_type=market_type,
            sandbox=False,
            terms={
                "name": "test",
                "credentials": {"api_key": keys.api_key, "api_secret": keys.secret},
                "sizing": {"strategy": "fixed", "value": "0.1"},
            },
        )
        examination = await connections.test(desk, USER, connection.id)
        assert examination.ok, examination.message
        await connections.activate(desk, USER, connection.id)
        yield Scene(desk, venue, faulty, market_type)
        await desk.brokers.close()
        venue.audit()


async def test_a_refused_target_leaves_the_stop_at_the_venue_and_is_ours_to_watch(scene: Scene) -> None:
    scene.refuse(lambda request: request.reduce_only and request.price is not None)
    position = await scene.enter()
    assert (position.protection, scene.stops()) == (Protection.NATIVE, [Decimal(19000)])
    assert len(scene.live()) == 1
    position = await scene.walk(21500)
    assert Decimal("0.049") <= position.remaining_quantity <= Decimal("0.051"), "the monitor took the target"
    assert (position.protection, scene.stops()) == (Protection.NATIVE, [Decimal(19000)])
    position = await scene.walk(18500)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    assert all(order.status in FINAL for order in await orders(scene.desk))
    assert (position.unprotected_since, position.protect_by) == (None, None)


async def test_what_was_refused_is_tried_again_when_the_plan_changes(scene: Scene) -> None:
    scene.refuse(lambda request: request.reduce_only)
    position = await scene.enter()
    assert (position.protection, position.refused_leg, scene.live()) == (Protection.SOFTWARE, Leg.STOP, [])
    assert "refused the protective order" in await scene.told()
    scene.relent()
    await scene.walk(20000)
    assert scene.live() == [], "not before"
    position = await scene.move_stop("19100")
    assert (position.protection, position.refused_leg) == (Protection.NATIVE, None)
    assert set(scene.stops()) == {Decimal(19100)}


async def test_a_refused_stop_brings_the_earlier_one_back_below_the_monitors(scene: Scene) -> None:
    position = await scene.enter()
    scene.refuse(lambda request: request.trigger_price == Decimal(19500))
    position = await scene.move_stop("19500")
    assert (position.protection, position.stop_loss) == (Protection.SOFTWARE, Decimal(19500))
    assert (position.unprotected_since, scene.stops()) == (None, [Decimal(19000)])
    assert "the one at 19000 stands at the venue again" in await scene.told()

    scene.relent()
    await scene.walk(20000)
    assert scene.stops() == [Decimal(19000)]
    position = await scene.walk(19400)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    assert position.remaining_quantity == 0
    assert scene.live() == []


async def test_the_earlier_stop_works_where_the_monitor_does_not(scene: Scene) -> None:
    await scene.enter()
    scene.refuse(lambda request: request.trigger_price == Decimal(19500))
    await scene.move_stop("19500")
    scene.venue.move(scene.symbol, 18900)
    assert scene.stops() == [], "it has fired by itself"
    position = await scene.walk(18900)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)


async def test_a_venue_that_takes_no_stop_any_more_leaves_it_to_the_monitor(scene: Scene) -> None:
    await scene.enter()
    scene.refuse(lambda request: request.reduce_only and request.trigger_price is not None)
    position = await scene.move_stop("19500")
    assert (position.protection, scene.stops()) == (Protection.SOFTWARE, [])
    assert position.unprotected_since is not None
    position = await scene.walk(20000)
    assert (position.unprotected_since, position.status) == (None, PositionStatus.OPEN)
    scene.relent()
    position = await scene.walk(19400)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)


async def test_a_stop_that_moves_by_itself_is_not_refused_in_every_round(scene: Scene) -> None:
    async with scene.desk.sessions.begin() as session:
        connection = (await session.scalars(select(Connection))).one()
        connection.protection = {"trailing": {"activation_percent": "1", "distance_percent": "1"}}
    await scene.enter()
    scene.refuse(lambda request: request.trigger_price not in (None, Decimal(19000)))
    position = await scene.walk(20400)
    assert position.stop_loss is not None
    first, refused = position.stop_loss, await _refused(scene.desk)
    assert (first > 20000, scene.stops(), refused > 0) == (True, [Decimal(19000)], True)
    position = await scene.walk(20800)
    assert position.stop_loss is not None
    assert (position.stop_loss > first, scene.stops()) == (True, [Decimal(19000)])
    assert await _refused(scene.desk) == refused
    position = await scene.walk(20500)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.TRAILING_STOP)


async def _refused(desk: Desk) -> int:
    return len([order for order in await orders(desk) if order.status is OrderStatus.REJECTED])
