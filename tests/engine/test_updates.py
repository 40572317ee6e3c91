"""A signal lives on: updates of what is open from it, in any order, each applied once and seen on the execution."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from app.desk import Desk
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import closing, monitoring
from app.engine.intake import Message, change_signal
from app.engine.protection import PlanChange, edit_plan
from app.store.connections import Connection
from app.store.positions import Position
from tests.desks import START, USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import change, execute_all, executions, orders, positions, publish, sweep_all

STILL = [("20000", "20000", "20000", "20000")] * 900


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Desk]:
    recording = write_recording(tmp_path / "btc.csv", STILL)
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        clock.move(10)
        yield desk


async def say(desk: Desk, second: int, source_id: str = "s1", **data: Any) -> None:
    """An update that its source dates so many seconds after the start, heard now."""
    message = Message(
        webhook_id=f"update:{source_id}:{second}",
        type=EventType.UPDATED,
        timestamp=START + timedelta(seconds=second),
        body_sha256=b"",
        data={"id": source_id, **data},
        provider="default",
        source_id=source_id,
    )
    await change_signal(desk, message)


async def outcomes(desk: Desk) -> list[tuple[str | None, str]]:
    """Field and outcome of every event noted on the one execution."""
    [execution] = await executions(desk)
    return [(each["field"], each["outcome"]) for each in execution.signal_events]


async def held(desk: Desk) -> Position:
    """The one position."""
    [position] = await positions(desk)
    return position


async def legs(desk: Desk) -> list[tuple[Decimal, Decimal | None, Decimal | None]]:
    """Quantity, stop and target of what protects it at the venue."""
    return [
        (order.quantity, order.trigger_price, order.price)
        for order in await orders(desk)
        if order.purpose is Purpose.PROTECTION and order.status is OrderStatus.OPEN
    ]


async def test_an_update_reaches_the_venue_on_every_connection(desk: Desk) -> None:
    for market_type in (MarketType.SWAP, MarketType.SPOT):
        await add_connection(desk, market_type=market_type)
    await publish(desk, stop_loss="19000", targets=[("21000", "1")])
    await execute_all(desk)
    await say(
        desk,
        5,
        stop_loss="19500",
        take_profits=[{"price": "20500", "portion": "0.5"}, {"price": "22000", "portion": "0.5"}],
    )
    await execute_all(desk)
    half = Decimal("0.05")
    expected = [
        (half, Decimal(19500), Decimal(20500)),
        (half, Decimal(19500), Decimal(22000)),
    ]
    assert sorted(await legs(desk)) == sorted(expected * 2)
    assert {each.protection for each in await positions(desk)} == {Protection.NATIVE}
    for execution in await executions(desk):
        noted = [(each["field"], each["outcome"]) for each in execution.signal_events]
        assert noted == [("take_profits", "applied"), ("stop_loss", "applied")]


async def test_hearing_it_twice_applies_it_once(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    for _ in range(2):
        await say(desk, 5, stop_loss="19500")
        await execute_all(desk)
    clock.move(5)
    await sweep_all(desk)
    assert await outcomes(desk) == [("stop_loss", "applied")]
    assert len(await orders(desk)) == 3, "the entry, the first stop and the second"


@pytest.mark.parametrize("order", list(permutations([1, 2, 3])))
async def test_in_whatever_order_they_come_the_latest_of_each_field_holds(
    desk: Desk, order: tuple[int, ...]
) -> None:
    await add_connection(desk)
    updates: dict[int, dict[str, Any]] = {
        1: {"stop_loss": "19100", "take_profits": [{"price": "21000"}]},
        2: {"stop_loss": "19200"},
        3: {"take_profits": [{"price": "23000"}]},
    }
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    for number in order:
        await say(desk, number, **updates[number])
        await execute_all(desk)
    assert await legs(desk) == [(Decimal("0.1"), Decimal(19200), Decimal(23000))]
    assert len(await outcomes(desk)) == 4


async def test_an_update_before_its_signal_or_before_the_entry_is_in_the_first_plan(desk: Desk) -> None:
    await add_connection(desk)
    await say(desk, 1, stop_loss="18000")
    await execute_all(desk)
    await publish(desk, stop_loss="19000")
    await say(desk, 2, stop_loss="19200")
    await say(desk, 3, stop_loss="19500")
    await say(desk, 4, stop_loss="19300")
    await execute_all(desk)
    assert await legs(desk) == [(Decimal("0.1"), Decimal(19500), None)]
    assert await outcomes(desk) == [
        ("stop_loss", "kept"),
        ("stop_loss", "superseded"),
        ("stop_loss", "applied"),
        ("stop_loss", "kept"),
    ]


async def test_an_update_loosens_no_stop_of_an_entry_that_rests(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19900", stop_loss="19000")
    await execute_all(desk)
    for second, stop in ((1, "18000"), (2, "19100"), (3, None)):
        await say(desk, second, stop_loss=stop)
        await execute_all(desk)
    [execution] = await executions(desk)
    assert (execution.plan or {})["stop_loss"] == "19100"
    assert await outcomes(desk) == [("stop_loss", "kept"), ("stop_loss", "applied"), ("stop_loss", "kept")]


@pytest.mark.parametrize(("stop", "direction"), [("18900", "buy"), (None, "buy"), ("21100", "sell")])
async def test_an_update_may_not_loosen_a_stop(desk: Desk, stop: str | None, direction: str) -> None:
    await add_connection(desk)
    present = "19000" if direction == "buy" else "21000"
    await publish(desk, direction=direction, stop_loss=present)
    await execute_all(desk)
    await say(desk, 5, stop_loss=stop)
    await execute_all(desk)
    assert (await held(desk)).stop_loss == Decimal(present)
    assert await outcomes(desk) == [("stop_loss", "kept")]


async def test_an_update_may_not_override_what_the_owner_has_set(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000", targets=[("21000", "1")])
    await execute_all(desk)
    position = await held(desk)
    await edit_plan(desk, USER, position.id, PlanChange(frozenset({"stop_loss"}), stop_loss=Decimal(18000)))
    await say(desk, 5, stop_loss="19500", take_profits=[{"price": "22000"}])
    await execute_all(desk)
    assert await legs(desk) == [(Decimal("0.1"), Decimal(18000), Decimal(22000))]
    assert await outcomes(desk) == [("take_profits", "applied"), ("stop_loss", "kept")]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("direction", "stop"), [("buy", "20001"), ("sell", "19999")])
async def test_a_stop_that_is_already_crossed_closes_at_market(
    desk: Desk, native: bool, direction: str, stop: str
) -> None:
    await add_connection(desk, protection={"native": native})
    await publish(desk, direction=direction)
    await execute_all(desk)
    await say(desk, 5, stop_loss=stop)
    await execute_all(desk)
    position = await held(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    assert position.exit_price == Decimal(20000)
    assert await outcomes(desk) == [("stop_loss", "closed")]


async def test_a_new_ladder_is_for_what_remains(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000", targets=[("21000", "1")])
    await execute_all(desk)
    await closing.request_close(desk, USER, (await held(desk)).id, Decimal("0.4"), idempotency_key=None)
    await execute_all(desk)
    halves = [{"price": "20500", "portion": "0.5"}, {"price": "20600", "portion": "0.5"}]
    await say(desk, 5, take_profits=halves)
    await execute_all(desk)
    assert [quantity for quantity, _, _ in await legs(desk)] == [Decimal("0.03"), Decimal("0.03")]


async def test_targets_on_the_wrong_side_of_the_stop_are_refused(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000", targets=[("21000", "1")])
    await execute_all(desk)
    await say(desk, 5, take_profits=[{"price": "18000"}])
    await say(desk, 6, stop_loss="21500")
    await execute_all(desk)
    assert await legs(desk) == [(Decimal("0.1"), Decimal(19000), Decimal(21000))]
    assert await outcomes(desk) == [("take_profits", "refused"), ("stop_loss", "refused")]


async def test_an_update_of_a_resting_entry_is_in_the_position_it_opens(desk: Desk) -> None:
    await add_connection(desk, paper={"partial_fill_percent": "100"})
    await publish(desk, order_type="limit", entry_price="19900", stop_loss="18000")
    await execute_all(desk)
    await say(desk, 5, stop_loss="18500", take_profits=[{"price": "21000"}])
    await execute_all(desk)
    [execution] = await executions(desk)
    assert execution.plan is not None
    assert (execution.plan["stop_loss"], len(execution.plan["levels"])) == ("18500", 1)
    assert await outcomes(desk) == [("take_profits", "applied"), ("stop_loss", "applied")]


@pytest.mark.parametrize("seconds", [-1, 20])
async def test_a_resting_entry_ends_when_an_update_says_so(desk: Desk, clock: Clock, seconds: int) -> None:
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19000")
    await execute_all(desk)
    ends_at = (clock() + timedelta(seconds=seconds)).isoformat()
    await say(desk, 5, expires_at=ends_at)
    await execute_all(desk)
    if seconds > 0:
        assert [each.status for each in await executions(desk)] == ["open"]
        clock.move(seconds)
        await monitoring.watch(desk)
    assert [(each.status, each.code) for each in await executions(desk)] == [("expired", "signal_expired")]
    assert await outcomes(desk) == [("expires_at", "applied")]


async def test_an_entry_at_the_venue_cannot_end_later_than_it_was_sent_with(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    ends_at = clock() + timedelta(hours=1)
    await publish(desk, order_type="limit", entry_price="19000", expires_at=ends_at)
    await execute_all(desk)
    await say(desk, 5, expires_at=(ends_at + timedelta(hours=1)).isoformat())
    await execute_all(desk)
    assert await outcomes(desk) == [("expires_at", "kept")]


async def test_what_is_over_has_nothing_left_to_change(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    await say(desk, 5, expires_at=START.isoformat())
    await execute_all(desk)
    assert await outcomes(desk) == [("expires_at", "nothing")]


async def test_a_close_and_a_cancel_are_noted_too(desk: Desk) -> None:
    await add_connection(desk, market_type=MarketType.SPOT)
    await publish(desk, "resting", order_type="limit", entry_price="19000")
    await execute_all(desk)
    await change(desk, EventType.CANCELLED, "resting")
    await execute_all(desk)
    assert await outcomes(desk) == [(None, "applied")]


async def test_a_close_waits_for_one_that_is_under_way_and_is_applied_once(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    await closing.request_close(desk, USER, (await held(desk)).id, Decimal("0.5"), idempotency_key=None)
    await change(desk, EventType.CLOSED, portion="0.5")
    queue: Any = desk.queue
    queue.rung.reverse()
    await execute_all(desk)
    assert (await held(desk)).remaining_quantity == Decimal("0.05")
    for _ in range(4):
        clock.move(5)
        await sweep_all(desk)
    assert (await held(desk)).remaining_quantity == Decimal("0.025")
    assert await outcomes(desk) == [(None, "closed")]


async def test_a_close_of_everything_takes_over_one_of_a_part_that_is_not_on_its_way_yet(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    await closing.request_close(desk, USER, (await held(desk)).id, Decimal("0.5"), idempotency_key=None)
    await change(desk, EventType.CLOSED)
    queue: Any = desk.queue
    queue.rung.reverse()
    await execute_all(desk)
    position = await held(desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.SIGNAL)
    assert await outcomes(desk) == [(None, "closed")]


async def test_a_close_too_small_to_be_an_order_is_refused_with_the_numbers(desk: Desk) -> None:
    await add_connection(desk, market_type=MarketType.SPOT, sizing={"strategy": "fixed", "value": "0.001"})
    await publish(desk)
    await execute_all(desk)
    await change(desk, EventType.CLOSED, portion="0.1")
    await execute_all(desk)
    [execution] = await executions(desk)
    [noted] = execution.signal_events
    assert noted["outcome"] == "refused"
    assert "0.0001" in noted["message"]


async def test_one_account_that_cannot_be_opened_keeps_no_other_from_an_event(desk: Desk) -> None:
    first = await add_connection(desk)
    await add_connection(desk)
    await publish(desk, order_type="limit", entry_price="19000")
    await execute_all(desk)
    async with desk.sessions.begin() as session:
        row = await session.get_one(Connection, first.id)
        row.paper = {**(row.paper or {}), "prices": "no such market"}
    await change(desk, EventType.CANCELLED)
    await execute_all(desk)
    assert sorted(each.status for each in await executions(desk)) == ["cancelled", "open"]


async def test_an_account_that_cannot_be_opened_keeps_no_other_one_waiting(desk: Desk, clock: Clock) -> None:
    closed, healthy = [await add_connection(desk) for _ in range(2)]
    await publish(desk, stop_loss="19000")
    await execute_all(desk)

    async def say_terms(**paper: Any) -> None:
        async with desk.sessions.begin() as session:
            row = await session.get_one(Connection, closed.id)
            assert row.paper is not None
            row.paper = {**row.paper, **paper}

    await say_terms(balance="nothing that is a number")
    await say(desk, 1, stop_loss="19500")
    await execute_all(desk)
    stops = {order.connection_id: order.trigger_price for order in await orders(desk) if order.trigger_price}
    assert stops == {closed.id: Decimal(19000), healthy.id: Decimal(19500)}

    await say_terms(balance="10000")
    for _ in range(3):
        clock.move(5)
        await sweep_all(desk)
    assert sorted(await legs(desk)) == [(Decimal("0.1"), Decimal(19500), None)] * 2
