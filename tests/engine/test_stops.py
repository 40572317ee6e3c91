"""Trade management on the paper venue: break-even, trailing and the longest hold, native and watched by us."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.desk import Desk
from app.domain.exits import CloseReason, Protection
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import monitoring
from app.engine.protection import PlanChange, edit_plan
from app.store.positions import Position
from tests.desks import USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import change, execute_all, orders, positions, publish, sweep_all

# 20000, at second 20 up to 20400, at 40 to 20800, at 60 back to 20500, at 80 down to 19900, where it stays.
LEVELS = [("20000", 20), ("20400", 20), ("20800", 20), ("20500", 20), ("19900", 900)]
CANDLES = [(price, price, price, price) for price, seconds in LEVELS for _ in range(seconds)]
BOTH = pytest.mark.parametrize("native", [True, False])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "btc.csv", CANDLES)


@pytest.fixture
async def desk(database_url: str, clock: Clock, recording: Path) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        clock.move(1)
        yield desk


async def until(desk: Desk, clock: Clock, second: int) -> Position:
    """Let the worker's rounds run until this second after the start; the position then."""
    while clock.moment.minute * 60 + clock.moment.second < 30 * 60 + second:
        clock.move(5)
        await monitoring.watch(desk)
        await execute_all(desk)
        await sweep_all(desk)
    [position] = await positions(desk)
    return position


async def stops_at_venue(desk: Desk) -> list[Decimal | None]:
    """The triggers of what protects at the venue."""
    return [
        order.trigger_price
        for order in await orders(desk)
        if order.purpose is Purpose.PROTECTION and order.status is OrderStatus.OPEN
    ]


async def open_with(desk: Desk, *, native: bool, signal: dict[str, Any], **terms: Any) -> None:
    """A long of 0.1 at 20000 under these protection terms."""
    await add_connection(desk, protection={"native": native, **terms})
    await publish(desk, **signal)
    await execute_all(desk)


@BOTH
async def test_after_a_level_the_stop_goes_to_break_even(desk: Desk, clock: Clock, native: bool) -> None:
    signal = {"stop_loss": "19000", "targets": [("20300", "0.5"), ("30000", "0.5")]}
    await open_with(desk, native=native, signal=signal, break_even_after_tp=1)
    position = await until(desk, clock, 15)
    assert position.stop_loss == Decimal(19000)
    position = await until(desk, clock, 35)
    # 20000 × 1.001 ÷ 0.999, up to the tick.
    even = position.stop_loss
    assert even == Decimal(20041)
    assert position.protection is (Protection.NATIVE if native else Protection.SOFTWARE)
    assert await stops_at_venue(desk) == ([even] if native else [])
    position = await until(desk, clock, 95)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    assert position.realized_pnl > 0


@BOTH
async def test_at_a_gain_the_stop_goes_to_break_even(desk: Desk, clock: Clock, native: bool) -> None:
    await open_with(desk, native=native, signal={"stop_loss": "19000"}, break_even_at_percent="3")
    assert (await until(desk, clock, 35)).stop_loss == Decimal(19000)
    assert (await until(desk, clock, 55)).stop_loss == Decimal(20041)


@BOTH
async def test_a_stop_trails_and_closes_as_a_trailing_stop(desk: Desk, clock: Clock, native: bool) -> None:
    trailing = {"activation_percent": "2", "distance_percent": "1"}
    await open_with(desk, native=native, signal={}, trailing=trailing)
    position = await until(desk, clock, 15)
    assert (position.stop_loss, position.protection) == (None, Protection.NONE)
    position = await until(desk, clock, 35)
    assert (position.stop_loss, position.best_price) == (Decimal(20196), Decimal(20400))
    position = await until(desk, clock, 55)
    assert (position.stop_loss, position.best_price) == (Decimal(20592), Decimal(20800))
    assert await stops_at_venue(desk) == ([Decimal(20592)] if native else [])
    position = await until(desk, clock, 75)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.TRAILING_STOP)
    # At its level where the venue held it; the recording gapped through, so there it is the price after the gap.
    assert position.exit_price in (Decimal(20592), Decimal(20500))


async def test_a_trail_is_kept_over_a_restart(
    database_url: str, clock: Clock, recording: Path, desk: Desk
) -> None:
    trailing = {"activation_percent": "2", "distance_percent": "2"}
    await open_with(desk, native=False, signal={}, trailing=trailing)
    assert (await until(desk, clock, 55)).stop_loss == Decimal(20384)
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as restarted:
        position = await until(restarted, clock, 75)
        assert (position.stop_loss, position.best_price) == (Decimal(20384), Decimal(20800))
        position = await until(restarted, clock, 95)
    assert position.close_reason is CloseReason.TRAILING_STOP


@BOTH
async def test_a_position_is_held_no_longer_than_it_may_be(desk: Desk, clock: Clock, native: bool) -> None:
    await open_with(desk, native=native, signal={"stop_loss": "15000"}, max_hold_minutes=1)
    assert (await until(desk, clock, 55)).status is PositionStatus.OPEN
    position = await until(desk, clock, 65)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.TIMEOUT)
    assert await stops_at_venue(desk) == []


@BOTH
async def test_a_stop_that_the_owner_set_is_left_there(desk: Desk, clock: Clock, native: bool) -> None:
    trailing = {"activation_percent": "2", "distance_percent": "1"}
    await open_with(desk, native=native, signal={"stop_loss": "19000"}, trailing=trailing)
    position = await until(desk, clock, 35)
    assert position.stop_loss == Decimal(20196)
    looser = PlanChange(frozenset({"stop_loss"}), stop_loss=Decimal(19950))
    await edit_plan(desk, USER, position.id, looser)
    assert (await until(desk, clock, 55)).stop_loss == Decimal(19950)
    position = await until(desk, clock, 95)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)


async def test_an_update_never_loosens_what_has_been_trailed(desk: Desk, clock: Clock) -> None:
    trailing = {"activation_percent": "2", "distance_percent": "1"}
    await open_with(desk, native=True, signal={"stop_loss": "19000"}, trailing=trailing)
    await until(desk, clock, 35)
    await change(desk, EventType.UPDATED, stop_loss="20100")
    await execute_all(desk)
    [position] = await positions(desk)
    assert (position.stop_loss, position.stop_reason) == (Decimal(20196), CloseReason.TRAILING_STOP)
    assert await stops_at_venue(desk) == [Decimal(20196)]


async def test_a_position_keeps_the_terms_it_was_opened_with(desk: Desk, clock: Clock) -> None:
    await open_with(desk, native=True, signal={"stop_loss": "19000"})
    [position] = await positions(desk)
    assert position.management == {}
    assert (await until(desk, clock, 55)).stop_loss == Decimal(19000)
