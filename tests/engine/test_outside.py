"""What happens to positions without us, on simulated exchanges: told by their own trade lists and nothing else."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import select

from app.api import orders as api
from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.brokers.port import Broker
from app.desk import Desk
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.money import parse, text
from app.domain.orders import FINAL, OrderReport, OrderRequest, OrderType, Side
from app.domain.positions import PositionStatus
from app.engine import (
    closing,
    connections,
    endings,
    monitoring,
    trades,
)
from app.engine.access import broker_of
from app.store import connections as rows
from app.store.connections import Connection, Kind
from app.store.executions import ExecutionStatus
from app.store.notifications import Notification, NotificationType
from app.store.positions import Position
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.signals import execute_all, executions, orders, positions, publish, sweep_all
from tests.venues.accounts import Account
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import HTML
from tests.venues.floor import Floor
from tests.venues.orders import Force, Order, Status, Trigger
from tests.venues.wire import Intent, WireRequest

SWAPS = [("binanceusdm", MarketType.SWAP), ("bybit", MarketType.SWAP)]
SPOT = [("binance", MarketType.SPOT)]
DEPOSIT = Decimal(100000)
_CENTS = Decimal("0.0000001")


@dataclass
class Scene:
    """One connection at one exchange, with the hand of its owner on the same account."""

    desk: Desk
    venue: Exchange
    exchange: str
    market_type: MarketType
    connection: Connection

    @property
    def symbol(self) -> str:
        """BTC against USDT."""
        return "BTC/USDT" if self.market_type is MarketType.SPOT else "BTC/USDT:USDT"

    @property
    def floor(self) -> Floor:
        """The floor of the exchange."""
        if self.exchange == "bybit":
            return self.venue.bybit.floor
        return self.venue.spot.floor if self.market_type is MarketType.SPOT else self.venue.usdm.floor

    @property
    def account(self) -> Account:
        """The account as the exchange has it."""
        [account] = self.floor.accounts.values()
        return account

    async def broker(self) -> Broker:
        """The account's broker."""
        return await broker_of(self.desk, self.connection)

    async def enter(self) -> Position:
        """A protected long position of 0.1, settled for long enough to be believed."""
        await publish(self.desk, stop_loss="19000", targets=[("21000", "0.5"), ("23000", "0.5")])
        await execute_all(self.desk)
        await self.rounds(12)
        [position] = await positions(self.desk)
        assert position.protection is Protection.NATIVE
        return position

    async def hand(self, side: Side, quantity: str, price: str | None = None) -> OrderReport:
        """An order of the owner's own."""
        request = OrderRequest(
            client_order_id=f"web-{uuid4().hex[:16]}",
            symbol=self.symbol,
            side=side,
            type=OrderType.MARKET if price is None else OrderType.LIMIT,
            quantity=Decimal(quantity),
            signed_at=self.desk.now(),
            price=None if price is None else Decimal(price),
        )
        return await (await self.broker()).place(request)

    async def sell_by_hand(self, portion: Decimal) -> None:
        """Close by hand what of the account that is; coins that orders hold have to be set free before."""
        if self.market_type is MarketType.SPOT:
            for order in list(self.account.live.values()):
                self.floor.cancel(self.account, order)
        if self.market_type is MarketType.SPOT:
            held = self.account.balances["BTC"]
        else:
            held = sum((position.quantity for position in self.account.open_positions), Decimal(0))
        quantity = (held * portion).quantize(Decimal("0.00001"), rounding="ROUND_DOWN")
        await self.hand(Side.SELL, str(quantity))

    async def rounds(self, *pauses: int) -> None:
        """Let monitor, bells and sweep do their work once after each of these pauses, in seconds."""
        for seconds in pauses:
            await self.venue.advance(seconds)
            await monitoring.watch(self.desk)
            await execute_all(self.desk)
            await sweep_all(self.desk)

    async def a_while(self) -> None:
        """Long enough for two looks, and what follows."""
        await self.rounds(61, 11, 6, 6)

    async def told(self, kind: NotificationType) -> list[str]:
        """What the owner was told of a kind."""
        async with self.desk.sessions() as session:
            rows = await session.scalars(select(Notification).where(Notification.type == kind))
            return [row.message for row in rows]

    @property
    def result(self) -> Decimal:
        """What the account has made, by the exchange's own ledger."""
        return self.account.balances["USDT"] - DEPOSIT


def _asks(request: WireRequest) -> bool:
    """Questions about holdings, balances, orders and trades."""
    return request.intent in (Intent.ACCOUNT, Intent.LOOK)


def stop_of(scene: Scene) -> Order:
    """The one stop that stands at the exchange."""
    [stop] = [order for order in scene.account.live.values() if order.trigger is not None]
    return stop


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges; their clock stands where a test's own does."""
    async with running_exchange(start=START) as exchange:
        yield exchange


@pytest.fixture
async def scene(
    database_url: str, venue: Exchange, exchange: str, market_type: MarketType
) -> AsyncIterator[Scene]:
    async with opened_desk(database_url, Clock()) as opened:
        now = venue.clock.now
        endpoints = dict.fromkeys(("binance", "binanceusdm", "bybit"), venue.url)
        brokers = Directory({"crypto": open_crypto(opened.vault, endpoints, now)})
        desk = replace(opened, brokers=brokers, now=now)
        keys = venue.open_account({"USDT": str(DEPOSIT)})
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
                "leverage": Decimal(5) if market_type is MarketType.SWAP else None,
            },
        )
        examination = await connections.test(desk, USER, connection.id)
        assert examination.ok, examination.message
        await connections.activate(desk, USER, connection.id)
        yield Scene(desk, venue, exchange, market_type, connection)
        assert venue.crashes == []
        venue.audit()
        await brokers.close()


@pytest.mark.parametrize(("exchange", "market_type"), SWAPS + SPOT)
async def test_what_the_owner_does_by_hand_is_booked_and_never_fought(scene: Scene) -> None:
    opened = await scene.enter()

    # An order of the owner's own is counted; stops they cancel are put back.
    own = await scene.hand(Side.BUY, "0.01", "15000")
    for order in list(scene.account.live.values()):
        if order.trigger is not None:
            scene.floor.cancel(scene.account, order)
    await scene.a_while()
    [position] = await positions(scene.desk)
    assert (position.protection, position.foreign_orders) == (Protection.NATIVE, 1)
    assert any(order.trigger is not None for order in scene.account.live.values())

    # While the venue answers nothing that can be read, nothing is concluded.
    scene.venue.faults.add(HTML, _asks, times=500)
    await scene.rounds(61, 11)
    assert len(scene.venue.faults.struck) > 5
    scene.venue.faults.clear()
    [position] = await positions(scene.desk)
    assert (position.status, position.missing_since) == (PositionStatus.OPEN, None)

    # A part that is sold leaves the rest protected.
    await scene.sell_by_hand(Decimal("0.4"))
    await scene.a_while()
    [position] = await positions(scene.desk)
    sold = opened.remaining_quantity - position.remaining_quantity
    assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NATIVE)
    assert Decimal("0.0399") <= sold <= Decimal("0.04")
    stops = [order for order in await orders(scene.desk) if order.is_live and order.trigger_price]
    protected = sum(order.quantity for order in stops)
    assert position.remaining_quantity - Decimal("0.00001") < protected <= position.remaining_quantity

    # All of it: the venue's own ledger and ours agree.
    scene.venue.move(scene.symbol, 20500)
    await scene.sell_by_hand(Decimal(1))
    await scene.a_while()
    [position] = await positions(scene.desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.EXTERNAL)
    assert position.pnl_complete
    assert position.realized_pnl.quantize(_CENTS) == scene.result.quantize(_CENTS)
    assert all(order.status in FINAL for order in await orders(scene.desk))
    assert {order.client_id for order in scene.account.live.values()} <= {own.client_order_id}


@pytest.mark.parametrize(("exchange", "market_type"), SWAPS)
class TestOnMargin:
    @pytest.mark.parametrize("force", list(Force))
    async def test_what_the_venue_forced_is_a_liquidation_with_all_it_cost(
        self, scene: Scene, force: Force
    ) -> None:
        await scene.enter()
        scene.venue.move(scene.symbol, 19500)
        scene.venue.liquidate(scene.symbol, force)
        await scene.a_while()
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.LIQUIDATION)
        assert position.pnl_complete
        assert position.realized_pnl == scene.result
        assert len(await scene.told(NotificationType.LIQUIDATION)) == 1

    async def test_of_a_trade_that_closed_more_than_ours_a_part_is_booked_and_can_be_shown(
        self, scene: Scene
    ) -> None:
        await scene.enter()
        await scene.hand(Side.BUY, "0.2")
        await scene.rounds(61, 11)
        # Of 0.23 that are sold 0.2 were the owner's: ours is 3/23 of the fee, which has no end as a decimal.
        await scene.hand(Side.SELL, "0.23")
        await scene.a_while()
        [position] = await positions(scene.desk)
        assert position.remaining_quantity == Decimal("0.07")
        [left] = [order for order in await orders(scene.desk) if order.reason is CloseReason.EXTERNAL]
        [fee] = api.Order.seen(left).fees
        assert fee.amount == parse(left.fees["USDT"]) > 0
        assert left.average_price is not None
        assert f"at {text(left.average_price)}" in (await scene.told(NotificationType.CLOSE))[0]

    async def test_an_entry_that_shows_itself_after_all_is_taken_back_and_what_it_filled_is_protected(
        self, scene: Scene
    ) -> None:
        desk = scene.desk
        await publish(desk, order_type="limit", entry_price="19500", stop_loss="19000")
        await execute_all(desk)
        [entry] = await orders(desk)
        async with desk.sessions.begin() as session:
            trade = await trades.locked(session, entry.execution_id)
            endings.refuse(trade, trade.order(entry.id), trades.NEVER_ARRIVED, "It is absent.", desk.now())
            await rows.reconcile_at(session, entry.connection_id, desk.now())
        scene.venue.thin(scene.symbol, "0.4")
        scene.venue.move(scene.symbol, 19500)
        await scene.rounds(6)
        [position] = await positions(desk)
        assert (position.remaining_quantity, position.protection) == (Decimal("0.04"), Protection.NATIVE)
        assert [order.quantity for order in scene.account.live.values()] == [Decimal("0.04")]
        assert [each.status for each in await executions(desk)] == [ExecutionStatus.PARTIAL]

    async def test_orders_that_were_moved_are_the_owners_edits(self, scene: Scene) -> None:
        await scene.enter()
        placed = len(scene.account.orders)
        [stop] = [order for order in scene.account.live.values() if order.trigger is not None]
        [target] = [order for order in scene.account.live.values() if order.price == Decimal(21000)]
        stop.trigger, target.price = Trigger(Decimal(19400), rising=False), Decimal(21500)
        await scene.rounds(6, 6)
        [position] = await positions(scene.desk)
        assert position.stop_loss == Decimal(19400)
        assert [rung["price"] for rung in position.take_profits] == ["21500", "23000"]
        assert (position.protection, position.edited) == (Protection.NATIVE, ["stop_loss", "take_profits"])
        assert len(scene.account.orders) == placed
        scene.venue.move(scene.symbol, 19300)
        await scene.rounds(6, 6)
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
        assert position.realized_pnl == scene.result

    async def test_a_stop_of_another_size_is_replaced_by_one_for_all_that_is_held(self, scene: Scene) -> None:
        await scene.enter()
        stop = stop_of(scene)
        for size in ("0.04", "0.25"):
            stop.quantity = Decimal(size)
            await scene.rounds(6, 6)
            resized, stop = stop, stop_of(scene)
            assert (stop.quantity, stop.id != resized.id) == (Decimal("0.1"), True)
        [position] = await positions(scene.desk)
        assert (position.protection, position.stop_loss) == (Protection.NATIVE, Decimal(19000))
        assert position.edited == []
        placed = len(scene.account.orders)
        # What a venue cuts off in the last decimals is nobody's doing.
        stop.quantity = Decimal("0.099999")
        await scene.rounds(6, 6, 61)
        assert len(scene.account.orders) == placed
        told = await scene.told(NotificationType.RISK)
        assert len(told) == 2
        assert all("cover all 0.1 that is held" in each for each in told)

    async def test_a_target_of_another_size_is_the_owners_edit(self, scene: Scene) -> None:
        await scene.enter()
        [target] = [order for order in scene.account.live.values() if order.price == Decimal(21000)]
        target.quantity = Decimal("0.033")
        await scene.rounds(6, 6)
        [position] = await positions(scene.desk)
        assert [(rung["price"], rung["quantity"]) for rung in position.take_profits] == [
            ("21000", "0.033"),
            ("23000", "0.05"),
        ]
        assert position.edited == ["take_profits"]
        assert target.id in scene.account.live, "it is left as it is"
        target.quantity = Decimal("0.08")
        await scene.rounds(6, 6, 61)
        [position] = await positions(scene.desk)
        assert [rung["quantity"] for rung in position.take_profits] == ["0.08", "0.02"]
        assert position.protection is Protection.NATIVE
        legs = {order.price: order.quantity for order in scene.account.live.values() if order.price}
        assert legs == {Decimal(21000): Decimal("0.08"), Decimal(23000): Decimal("0.02")}
        scene.venue.move(scene.symbol, 23100)
        await scene.rounds(6, 6)
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.TAKE_PROFIT)
        assert position.realized_pnl == scene.result

    @pytest.mark.parametrize("size", ["0.06", "0.2"])
    async def test_an_entry_of_another_size_is_protected_as_it_fills(self, scene: Scene, size: str) -> None:
        await publish(
            scene.desk, order_type="limit", entry_price="19500", stop_loss="19000", targets=[("21000", "1")]
        )
        await execute_all(scene.desk)
        await scene.rounds(6)
        [entry] = scene.account.live.values()
        entry.quantity = Decimal(size)
        await scene.rounds(6, 6)
        assert [order.quantity for order in await orders(scene.desk)] == [Decimal(size)]
        assert len(await scene.told(NotificationType.RISK)) == 1
        scene.venue.move(scene.symbol, 19490)
        await scene.rounds(6, 6, 6)
        [position] = await positions(scene.desk)
        assert (position.remaining_quantity, position.protection) == (Decimal(size), Protection.NATIVE)
        [stop] = [order for order in scene.account.live.values() if order.trigger is not None]
        assert stop.quantity == Decimal(size)

    async def test_added_size_outlives_ours_and_denies_the_next_entry(self, scene: Scene) -> None:
        await scene.enter()
        await scene.hand(Side.BUY, "0.05")
        await scene.a_while()
        [position] = await positions(scene.desk)
        assert (position.remaining_quantity, position.foreign_quantity) == (Decimal("0.1"), Decimal("0.05"))
        await closing.request_close(scene.desk, USER, position.id, None, idempotency_key=None)
        await execute_all(scene.desk)
        [position] = await positions(scene.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
        [held] = scene.account.open_positions
        assert held.quantity == Decimal("0.05")

        # What is held may still be what we have just closed: that is waited out, then it is the owner's.
        await publish(scene.desk, "s2", stop_loss="19000")
        await execute_all(scene.desk)
        assert (await executions(scene.desk))[-1].status is ExecutionStatus.PENDING
        # A stop of ours that had ended shows itself once more, beside a position that is not ours.
        own = await scene.hand(Side.BUY, "0.01", "15000")
        [lost] = [order for order in scene.account.orders.values() if order.trigger is not None]
        lost.status = Status.UNTRIGGERED
        scene.account.live[lost.id] = lost
        await scene.a_while()
        execution = (await executions(scene.desk))[-1]
        assert (execution.status, execution.code) == (ExecutionStatus.DENIED, "foreign_position")
        assert lost.status is Status.CANCELLED
        assert [order.client_id for order in scene.account.live.values()] == [own.client_order_id]


@pytest.mark.parametrize(
    ("exchange", "market_type", "gone"), [(*SWAPS[0], False), (*SWAPS[0], True), (*SWAPS[1], False)]
)
async def test_a_delisted_symbol_is_told_once_and_never_taken_for_flat(scene: Scene, *, gone: bool) -> None:
    await scene.enter()
    scene.venue.delist(scene.symbol, gone=gone)
    await scene.rounds(3700, 61, 11, 61, 11)
    [position] = await positions(scene.desk)
    assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, Decimal("0.1"))
    assert position.delisted_at is not None
    told = await scene.told(NotificationType.RISK)
    assert sum("no longer lists" in each for each in told) == 1
