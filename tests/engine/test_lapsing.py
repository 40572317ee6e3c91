"""Entries that rest and are not meant any more: taken back by the monitor, with the reason."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.desk import Desk
from app.domain.exits import Protection
from app.domain.market import MarketType
from app.domain.orders import OrderStatus
from app.domain.owners import Owner, Role
from app.domain.positions import PositionStatus
from app.domain.risk import Mode
from app.domain.signals import EventType
from app.engine import intake, monitoring
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from app.store.notifications import Notification
from tests.desks import START, USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import (
    change,
    execute_all,
    executions,
    message,
    orders,
    positions,
    publish,
    sweep_all,
)

# 20000 for half a minute, then 20500, where it stays.
CANDLES = [
    *[("20000", "20000", "20000", "20000")] * 30,
    *[("20500", "20500", "20500", "20500")] * 600,
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Desk]:
    recording = write_recording(tmp_path / "btc.csv", CANDLES)
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        clock.move(1)
        yield desk


async def rounds(desk: Desk, clock: Clock, seconds: int) -> None:
    """Let the worker's rounds run for so long."""
    for _ in range(seconds // 5):
        clock.move(5)
        await monitoring.watch(desk)
        await execute_all(desk)
        await sweep_all(desk)


async def outcome(desk: Desk) -> tuple[ExecutionStatus, str | None, str]:
    """How the one execution ended."""
    [execution] = await executions(desk)
    return execution.status, execution.code, execution.message or ""


async def test_an_entry_is_taken_back_when_its_target_comes_first(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    targets = [("20400", "0.5"), ("21000", "0.5")]
    await publish(desk, order_type="limit", entry_price="19900", stop_loss="19000", targets=targets)
    await execute_all(desk)
    await rounds(desk, clock, 20)
    assert (await outcome(desk))[0] is ExecutionStatus.OPEN
    await rounds(desk, clock, 20)
    status, code, message = await outcome(desk)
    assert (status, code) == (ExecutionStatus.CANCELLED, "target_already_passed")
    assert "20400" in message
    assert await positions(desk) == []
    assert [order.status for order in await orders(desk)] == [OrderStatus.CANCELLED]
    async with desk.sessions() as session:
        told = [each.message for each in await session.scalars(select(Notification))]
    assert any(message in each for each in told)


async def test_a_sell_is_taken_back_when_its_stop_comes_first(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, direction="sell", order_type="limit", entry_price="20600", stop_loss="21000")
    await execute_all(desk)
    await change(desk, EventType.UPDATED, stop_loss="20400")
    await execute_all(desk)
    await rounds(desk, clock, 20)
    assert (await outcome(desk))[0] is ExecutionStatus.OPEN
    await rounds(desk, clock, 20)
    status, code, message = await outcome(desk)
    assert (status, code) == (ExecutionStatus.CANCELLED, "stop_already_passed")
    assert "20400" in message


async def test_a_far_target_and_no_price_leave_an_entry_where_it_is(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19900", stop_loss="19000", targets=[("22000", "1")])
    await execute_all(desk)
    await rounds(desk, clock, 60)
    assert (await outcome(desk))[0] is ExecutionStatus.OPEN


async def test_an_entry_that_its_venue_ends_in_time_has_expired(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19900", expires_at=START + timedelta(seconds=20))
    await execute_all(desk)
    await rounds(desk, clock, 30)
    assert (await outcome(desk))[:2] == (ExecutionStatus.EXPIRED, "signal_expired")


async def test_an_entry_whose_end_was_moved_up_has_expired(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19900")
    await execute_all(desk)
    ends = START + timedelta(seconds=10)
    await change(desk, EventType.UPDATED, expires_at=ends.isoformat())
    await execute_all(desk)
    assert (await outcome(desk))[0] is ExecutionStatus.OPEN
    await rounds(desk, clock, 15)
    status, code, message = await outcome(desk)
    assert (status, code) == (ExecutionStatus.EXPIRED, "signal_expired")
    assert "2026-11-24 09:30:10" in message


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"status": "inactive"}, "connection_inactive"),
        ({"mode": Mode.REDUCING}, "trading_reducing"),
        ({"mode": Mode.HALTED}, "trading_halted"),
        ({"reducing_until": START + timedelta(days=1)}, "max_daily_loss"),
    ],
)
async def test_an_entry_rests_only_where_entries_are_taken(
    desk: Desk, clock: Clock, values: dict[str, object], code: str
) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19900")
    await execute_all(desk)
    async with desk.sessions.begin() as session:
        await session.execute(update(Connection).values(**values))
    await rounds(desk, clock, 5)
    assert (await outcome(desk))[:2] == (ExecutionStatus.CANCELLED, code)


async def entitled(desk: Desk, clock: Clock, plans: list[str], ends_at: datetime | None = None) -> None:
    """The platform says what the user may have from now on."""
    clock.move(1)
    event = message(desk, EventType.SUBSCRIPTION, "a subscription")
    await intake.subscribe(
        desk, event, user_id=USER.id, plans=plans, expires_at=ends_at, max_connections=None
    )


async def one_open_and_one_resting(desk: Desk, owner: Owner = USER) -> None:
    """A position, and an entry that waits below the price, both for the plan gold."""
    await add_connection(desk, owner=owner, market_type=MarketType.SPOT)
    await publish(desk, "filled", stop_loss="19000", plans=["gold"])
    await publish(desk, "resting", order_type="limit", entry_price="19900", plans=["gold"])
    await execute_all(desk)


@pytest.mark.parametrize(
    ("plans", "ends_after"),
    [(["silver"], None), ([], None), (["gold"], timedelta(0)), (["gold"], timedelta(seconds=12))],
    ids=["another plan", "no plan", "ended at once", "ends by itself"],
)
async def test_what_a_lapsed_user_has_resting_is_taken_back_and_what_is_open_stays(
    desk: Desk, clock: Clock, plans: list[str], ends_after: timedelta | None
) -> None:
    desk = replace(desk, entitlements_required=True)
    await entitled(desk, clock, ["gold"])
    await one_open_and_one_resting(desk)
    await rounds(desk, clock, 5)
    assert [each.status for each in await executions(desk)] == [
        ExecutionStatus.EXECUTED,
        ExecutionStatus.OPEN,
    ]
    await entitled(desk, clock, plans, None if ends_after is None else clock() + ends_after)
    await rounds(desk, clock, 15)
    filled, resting = await executions(desk)
    assert filled.status is ExecutionStatus.EXECUTED
    assert (resting.status, resting.code) == (ExecutionStatus.CANCELLED, "plan_required")
    [position] = await positions(desk)
    assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NATIVE)


async def test_an_entry_of_a_plan_that_is_renewed_stays(desk: Desk, clock: Clock) -> None:
    desk = replace(desk, entitlements_required=True)
    await entitled(desk, clock, ["gold"])
    await one_open_and_one_resting(desk)
    await entitled(desk, clock, ["silver", "gold"], clock() + timedelta(minutes=5))
    await rounds(desk, clock, 15)
    assert [each.status for each in await executions(desk)] == [
        ExecutionStatus.EXECUTED,
        ExecutionStatus.OPEN,
    ]


@pytest.mark.parametrize(("owner", "required"), [(Owner(Role.ADMIN, "user-1"), True), (USER, False)])
async def test_who_needs_no_plan_keeps_what_rests(
    desk: Desk, clock: Clock, owner: Owner, required: bool
) -> None:
    desk = replace(desk, entitlements_required=required)
    await one_open_and_one_resting(desk, owner)
    await entitled(desk, clock, [], clock())
    await rounds(desk, clock, 15)
    assert [each.status for each in await executions(desk)] == [
        ExecutionStatus.EXECUTED,
        ExecutionStatus.OPEN,
    ]


async def test_a_part_that_was_filled_stays_when_the_rest_has_expired(desk: Desk, clock: Clock) -> None:
    await add_connection(desk, paper={"partial_fill_percent": "40"}, market_type=MarketType.SPOT)
    await publish(
        desk,
        order_type="limit",
        entry_price="20000",
        stop_loss="19000",
        expires_at=START + timedelta(seconds=1.1),
    )
    await execute_all(desk)
    await rounds(desk, clock, 30)
    assert (await outcome(desk))[:2] == (ExecutionStatus.PARTIAL, "signal_expired")
    [position] = await positions(desk)
    assert position.remaining_quantity > 0
