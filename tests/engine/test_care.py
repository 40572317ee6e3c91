"""Care for what is open: edits, partial fills, vanished orders, fees in coins, connections that go away."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import delete, event, select, update

from app.brokers.paper.book import PaperOrder
from app.desk import Desk
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.orders import OrderStatus, Purpose
from app.domain.owners import Owner, Role
from app.domain.positions import PositionStatus
from app.engine import closing, connections, monitoring
from app.engine.protection import PlanChange, edit_plan
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from app.store.notifications import Notification, NotificationType
from tests.desks import USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, executions, orders, positions, publish, sweep_all

# 20000 for half a minute, one candle down to 19800 and back up to 20200, where it stays.
CANDLES = [
    *[("20000", "20000", "20000", "20000")] * 30,
    ("20000", "20000", "19800", "19800"),
    *[("19800", "19800", "19800", "19800")] * 29,
    ("19800", "20200", "19800", "20200"),
    *[("20200", "20200", "20200", "20200")] * 600,
]
NOBODY = Owner(Role.ADMIN, USER.id)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Desk]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        clock.move(1)
        yield desk


async def rounds(desk: Desk, clock: Clock, count: int, seconds: float = 5) -> None:
    """Let the worker's rounds run for a while."""
    for _ in range(count):
        clock.move(seconds)
        await monitoring.watch(desk)
        await execute_all(desk)
        await sweep_all(desk)


async def live_legs(desk: Desk) -> list[tuple[Decimal, Decimal | None, Decimal | None]]:
    """Quantity, stop and target of every protective order at the venue."""
    return [
        (order.quantity, order.trigger_price, order.price)
        for order in await orders(desk)
        if order.purpose is Purpose.PROTECTION and order.status is OrderStatus.OPEN
    ]


def moved(stop: str) -> PlanChange:
    """An edit of the stop alone."""
    return PlanChange(frozenset({"stop_loss"}), stop_loss=Decimal(stop))


async def test_an_edited_plan_reaches_the_venue_and_is_watched_meanwhile(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000", targets=[("21000", "1")])
    await execute_all(desk)
    [position] = await positions(desk)

    edited = await edit_plan(desk, USER, position.id, moved("19900"))
    assert edited.protection is Protection.SOFTWARE
    await execute_all(desk)
    assert await live_legs(desk) == [(Decimal("0.1"), Decimal(19900), Decimal(21000))]

    new_targets = PlanChange(
        frozenset({"take_profits"}),
        take_profits=((Decimal(20500), Decimal("0.5")), (Decimal(20600), Decimal("0.5"))),
    )
    await edit_plan(desk, USER, position.id, new_targets)
    await execute_all(desk)
    assert await live_legs(desk) == [
        (Decimal("0.05"), Decimal(19900), Decimal(20500)),
        (Decimal("0.05"), Decimal(19900), Decimal(20600)),
    ]
    [position] = await positions(desk)
    assert position.protection is Protection.NATIVE


async def test_a_plan_on_the_wrong_side_is_refused_and_changes_nothing(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    [position] = await positions(desk)
    with pytest.raises(Invalid):
        await edit_plan(desk, USER, position.id, moved("20100"))
    with pytest.raises(NotFound):
        await edit_plan(desk, NOBODY, position.id, moved("19500"))
    with pytest.raises(NotFound):
        await closing.request_close(desk, NOBODY, position.id, None, idempotency_key=None)
    [position] = await positions(desk)
    assert position.stop_loss == Decimal(19000)
    assert position.protection is Protection.NATIVE


async def test_a_stop_that_is_taken_away_leaves_nothing_at_the_venue(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    [position] = await positions(desk)
    await edit_plan(desk, USER, position.id, PlanChange(frozenset({"stop_loss"})))
    await execute_all(desk)
    [position] = await positions(desk)
    assert (position.stop_loss, position.protection) == (None, Protection.NONE)
    assert await live_legs(desk) == []


async def test_every_part_of_a_partial_fill_is_protected(desk: Desk, clock: Clock) -> None:
    await add_connection(desk, paper={"partial_fill_percent": "40"})
    await publish(desk, order_type="limit", entry_price="19900", stop_loss="19000")
    await execute_all(desk)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.OPEN]
    held = Decimal(0)
    for _ in range(40):
        await rounds(desk, clock, 1, seconds=1)
        now_held = await positions(desk)
        if now_held:
            [position] = now_held
            assert sum(quantity for quantity, _, _ in await live_legs(desk)) == position.remaining_quantity
            assert position.remaining_quantity >= held
            held = position.remaining_quantity
    assert held == Decimal("0.1")
    [execution] = await executions(desk)
    assert execution.status is ExecutionStatus.EXECUTED


async def test_a_protective_order_that_vanishes_is_put_back(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    async with desk.sessions.begin() as session:
        await session.execute(delete(PaperOrder).where(PaperOrder.status == OrderStatus.OPEN))
    assert len(await live_legs(desk)) == 1
    await rounds(desk, clock, 4)
    [position] = await positions(desk)
    assert position.protection is Protection.NATIVE
    legs = [order for order in await orders(desk) if order.purpose is Purpose.PROTECTION]
    assert [leg.status for leg in legs] == [OrderStatus.CANCELLED, OrderStatus.OPEN]


async def test_a_fee_taken_in_the_coin_shrinks_what_is_held_and_the_rest_is_dust(
    desk: Desk, clock: Clock
) -> None:
    await add_connection(
        desk,
        market_type=MarketType.SPOT,
        paper={"fee_in": "base"},
        sizing={"strategy": "fixed", "value": "0.01"},
    )
    await publish(desk, stop_loss="19000", targets=[("20100", "1")])
    await execute_all(desk)
    [position] = await positions(desk)
    assert position.quantity == Decimal("0.00999")
    await rounds(desk, clock, 14)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.TAKE_PROFIT)
    sold = position.quantity - position.dust
    share = sold / position.quantity
    assert position.gross_pnl == (Decimal(20100) - 20000) * sold
    exit_fee = Decimal("0.001") * sold * 20100
    assert position.fees == Decimal("0.00001") * 20000 * share + exit_fee


async def test_deactivating_takes_back_what_rests_and_keeps_watching_what_is_open(
    desk: Desk, clock: Clock
) -> None:
    connection = await add_connection(desk, market_type=MarketType.SPOT)
    await publish(desk, "held", stop_loss="19900")
    await publish(desk, "resting", order_type="limit", entry_price="19000")
    await execute_all(desk)
    await publish(desk, "waiting")
    await connections.deactivate(desk, USER, connection.id)
    assert [each.status for each in await executions(desk)] == [
        ExecutionStatus.EXECUTED,
        ExecutionStatus.CANCELLED,
        ExecutionStatus.DENIED,
    ]
    await rounds(desk, clock, 7)
    [position] = await positions(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)


async def test_an_entry_found_resting_after_its_connection_went_inactive_is_taken_back(
    desk: Desk, clock: Clock
) -> None:
    connection = await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19000")
    await execute_all(desk)
    async with desk.sessions.begin() as session:
        await session.execute(
            update(Connection).where(Connection.id == connection.id).values(status="inactive")
        )
    await rounds(desk, clock, 1)
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.CANCELLED]


async def test_a_deleted_connection_is_managed_no_more(desk: Desk, clock: Clock) -> None:
    connection = await add_connection(desk, protection={"native": False})
    await publish(desk, stop_loss="19900")
    await execute_all(desk)
    await connections.delete(desk, USER, connection.id, force=True)
    await rounds(desk, clock, 7)
    [position] = await positions(desk)
    assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NONE)
    assert position.protect_due_at is None
    with pytest.raises(Conflict):
        await closing.request_close(desk, USER, position.id, None, idempotency_key=None)


async def test_a_close_portion_too_small_to_be_an_order_is_refused_with_the_numbers(desk: Desk) -> None:
    await add_connection(desk, market_type=MarketType.SPOT, sizing={"strategy": "fixed", "value": "0.001"})
    await publish(desk)
    await execute_all(desk)
    [position] = await positions(desk)
    with pytest.raises(Invalid, match=r"0\.0001"):
        await closing.request_close(desk, USER, position.id, Decimal("0.1"), idempotency_key=None)
    await closing.request_close(desk, USER, position.id, Decimal("0.9"), idempotency_key=None)
    await execute_all(desk)
    [position] = await positions(desk)
    assert position.status is PositionStatus.CLOSED, "a rest too small to be sold is closed with it"


async def test_a_round_asks_and_writes_in_bulk(desk: Desk, clock: Clock) -> None:
    for _ in range(8):
        await add_connection(
            desk,
            market_type=MarketType.SPOT,
            protection={"native": False},
            sizing={"strategy": "fixed", "value": "0.01"},
        )
    for number in range(3):
        await publish(desk, f"s{number}", stop_loss="15000")
    await execute_all(desk)
    assert len(await positions(desk)) == 24
    clock.move(5)
    await monitoring.watch(desk)  # the first round also asks each venue what it holds
    statements: list[str] = []
    engine = desk.sessions.kw["bind"].sync_engine
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    clock.move(5)
    assert await monitoring.watch(desk) == 8
    assert len(statements) < 14
    assert {each.current_price for each in await positions(desk)} == {Decimal(20000)}


async def test_a_round_is_taken_by_one_worker_at_a_time(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="15000")
    await execute_all(desk)
    assert await monitoring.watch(desk) == 1
    assert await monitoring.watch(desk) == 0
    clock.move(5)
    assert await monitoring.watch(desk) == 1


async def test_targets_too_small_are_merged_and_their_owner_told(desk: Desk) -> None:
    await add_connection(desk, market_type=MarketType.SPOT, sizing={"strategy": "fixed", "value": "0.001"})
    await publish(desk, stop_loss="19000", targets=[("20500", "0.2"), ("21000", "0.8")])
    await execute_all(desk)
    [position] = await positions(desk)
    [execution] = await executions(desk)
    said = "The take-profit at 20500 is too small by itself and joins the one at 21000."
    assert [rung["price"] for rung in position.take_profits] == ["21000"]
    assert (position.take_profits_note, execution.message) == (said, said)
    async with desk.sessions() as session:
        told = await session.scalars(select(Notification).where(Notification.type == NotificationType.OPEN))
        assert said in told.one().message


async def test_targets_that_vanish_do_not_do_so_silently(desk: Desk) -> None:
    await add_connection(desk, market_type=MarketType.SPOT, sizing={"strategy": "fixed", "value": "0.001"})
    await publish(desk, stop_loss="19000", targets=[("20500", "0.1"), ("21000", "0.1")])
    await execute_all(desk)
    [position] = await positions(desk)
    assert (position.take_profits, position.stop_loss) == ([], Decimal(19000))
    assert position.take_profits_note == "Every take-profit is too small for the venue, so none is placed."
