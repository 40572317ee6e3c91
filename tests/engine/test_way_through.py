"""The way through: from a published signal to a protected position, its exits and its numbers."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from app.desk import Desk
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.orders import OrderStatus, OrderType, Purpose
from app.domain.positions import PositionSide, PositionStatus
from app.domain.signals import EventType
from app.engine import closing, monitoring
from app.store.events import Reception
from app.store.executions import ExecutionStatus
from app.store.notifications import Notification
from tests.desks import USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import change, execute_all, executions, orders, positions, publish, sweep_all

# One candle a second. The price stands at 20000 for ten seconds, rises to 20500 in the next, then falls to 19400.
CANDLES = [
    *[("20000", "20000", "20000", "20000")] * 10,
    ("20000", "20500", "20000", "20500"),
    *[("20500", "20500", "20500", "20500")] * 9,
    ("20500", "20500", "19400", "19400"),
    *[("19400", "19400", "19400", "19400")] * 100,
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Desk]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        yield desk


async def test_a_signal_becomes_a_position_that_the_venue_protects(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    clock.move(1)
    await publish(desk, stop_loss="19500", targets=[("20400", "0.5"), ("21000", "0.5")])
    await execute_all(desk)

    [execution] = await executions(desk)
    assert execution.status is ExecutionStatus.EXECUTED
    assert execution.filled_quantity == Decimal("0.1")
    assert execution.average_price == Decimal(20000)
    [position] = await positions(desk)
    assert position.side is PositionSide.LONG
    assert position.protection is Protection.NATIVE
    assert position.protect_due_at is None
    legs = [order for order in await orders(desk) if order.purpose is Purpose.PROTECTION]
    assert [(leg.type, leg.quantity, leg.trigger_price, leg.price) for leg in legs] == [
        (OrderType.OCO, Decimal("0.05"), Decimal(19500), Decimal(20400)),
        (OrderType.OCO, Decimal("0.05"), Decimal(19500), Decimal(21000)),
    ]
    assert all(leg.status is OrderStatus.OPEN for leg in legs)


@pytest.mark.parametrize("native", [True, False])
async def test_target_and_stop_close_the_position_at_prices_of_the_market(
    desk: Desk, clock: Clock, native: bool
) -> None:
    await add_connection(desk, protection={"native": native})
    clock.move(1)
    await publish(desk, stop_loss="19500", targets=[("20400", "0.5"), ("21000", "0.5")])
    await execute_all(desk)
    clock.move(11)
    await monitoring.watch(desk)
    await execute_all(desk)

    [position] = await positions(desk)
    assert position.remaining_quantity == Decimal("0.05")
    assert position.protection is (Protection.NATIVE if native else Protection.SOFTWARE)
    first = Decimal(20400) if native else Decimal(20500)
    assert position.exit_price == first
    assert [rung["filled_quantity"] for rung in position.take_profits] == ["0.05", "0"]

    clock.move(10)
    await monitoring.watch(desk)
    await execute_all(desk)
    [position] = await positions(desk)
    second = Decimal(19500) if native else Decimal(19400)
    assert position.status is PositionStatus.CLOSED
    assert position.close_reason is CloseReason.STOP_LOSS
    gross = Decimal("0.05") * (first - 20000) + Decimal("0.05") * (second - 20000)
    fees = Decimal("0.001") * (Decimal("0.1") * 20000 + Decimal("0.05") * first + Decimal("0.05") * second)
    assert position.gross_pnl == gross
    assert position.fees == fees
    assert position.realized_pnl == gross - fees
    assert position.unrealized_pnl == 0
    assert all(order.status not in (OrderStatus.OPEN, OrderStatus.SENDING) for order in await orders(desk))
    async with desk.sessions() as session:
        told = list(await session.scalars(select(Notification.type).order_by(Notification.id)))
    stopped = ["sl_hit", "close"]
    assert told == ["execution", "open", "tp_hit", *stopped], "in the order in which it happened"


async def test_the_same_signal_twice_is_one_execution(desk: Desk) -> None:
    await add_connection(desk)
    first = await publish(desk, "s1")
    again = await publish(desk, "s1", webhook_id="another delivery")
    same = await publish(desk, "s1", webhook_id="another delivery")
    await execute_all(desk)

    assert (first.status, again.status, same.status) == (
        Reception.ACCEPTED,
        Reception.DUPLICATE,
        Reception.DUPLICATE,
    )
    assert again.signal_id == first.signal_id
    assert len(await executions(desk)) == 1
    assert len(await orders(desk)) == 1


async def test_a_manual_close_cancels_the_legs_first_and_sells_what_remains(desk: Desk, clock: Clock) -> None:
    await add_connection(desk, market_type=MarketType.SPOT)
    clock.move(1)
    await publish(desk, stop_loss="19500", targets=[("21000", "1")])
    await execute_all(desk)
    [position] = await positions(desk)

    await closing.request_close(desk, USER, position.id, None, idempotency_key=None)
    await execute_all(desk)

    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
    states = {order.purpose: order.status for order in await orders(desk)}
    assert states == {
        Purpose.ENTRY: OrderStatus.FILLED,
        Purpose.PROTECTION: OrderStatus.CANCELLED,
        Purpose.CLOSE: OrderStatus.FILLED,
    }


async def test_a_close_in_part_protects_the_rest_again(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    clock.move(1)
    await publish(desk, stop_loss="19500", targets=[("21000", "1")])
    await execute_all(desk)
    [position] = await positions(desk)

    await closing.request_close(desk, USER, position.id, Decimal("0.25"), idempotency_key="k")
    await execute_all(desk)

    [position] = await positions(desk)
    assert position.status is PositionStatus.OPEN
    assert position.remaining_quantity == Decimal("0.075")
    assert position.protection is Protection.NATIVE
    live = [order for order in await orders(desk) if order.status is OrderStatus.OPEN]
    assert sum(order.quantity for order in live) == Decimal("0.075")
    assert {order.trigger_price for order in live} == {Decimal(19500)}


async def test_without_a_bell_the_sweep_does_it(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19500")
    clock.move(4)
    assert await sweep_all(desk) == 1
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.EXECUTED]


@pytest.mark.parametrize(
    ("type_", "code"), [(EventType.CANCELLED, "signal_cancelled"), (EventType.CLOSED, "signal_closed")]
)
async def test_a_cancel_or_close_before_its_signal_denies_it(desk: Desk, type_: EventType, code: str) -> None:
    await add_connection(desk)
    await change(desk, type_)
    await publish(desk)
    await execute_all(desk)
    [execution] = await executions(desk)
    assert (execution.status, execution.code) == (ExecutionStatus.DENIED, code)
    assert await orders(desk) == []


async def test_a_sell_on_spot_is_denied(desk: Desk) -> None:
    await add_connection(desk, market_type=MarketType.SPOT)
    await publish(desk, direction="sell")
    await execute_all(desk)
    [execution] = await executions(desk)
    assert (execution.status, execution.code) == (ExecutionStatus.DENIED, "short_not_supported")


async def test_a_second_entry_in_a_netted_symbol_is_denied(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, "s1")
    await publish(desk, "s2")
    await publish(desk, "s3", direction="sell")
    await execute_all(desk)
    assert [each.code for each in await executions(desk)] == [None, "symbol_in_use", "opposite_position"]


async def test_an_early_close_of_a_portion_reduces_the_entry(desk: Desk) -> None:
    await add_connection(desk)
    await change(desk, EventType.CLOSED, portion="0.5")
    await publish(desk)
    await execute_all(desk)
    [position] = await positions(desk)
    assert position.quantity == Decimal("0.05")


async def test_a_limit_rests_and_is_taken_back_when_the_signal_is_cancelled(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    clock.move(1)
    await publish(desk, order_type="limit", entry_price="19000", stop_loss="18000")
    await execute_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.OPEN]
    await change(desk, EventType.CANCELLED)
    await execute_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.CANCELLED]
    assert await positions(desk) == []


async def test_closing_the_signal_closes_its_positions(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    clock.move(1)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    await change(desk, EventType.CLOSED, portion="0.5")
    await execute_all(desk)
    [position] = await positions(desk)
    assert position.remaining_quantity == Decimal("0.05")
    clock.move(1)
    await change(desk, EventType.CLOSED)
    await execute_all(desk)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.SIGNAL)
