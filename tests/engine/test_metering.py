"""What is counted is what was committed: each outcome once, with how long it took."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from app.desk import Desk
from app.domain.exits import Protection
from app.domain.orders import OrderType
from app.engine import metering, monitoring, protection
from app.store.executions import ExecutionStatus
from tests.desks import USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import execute_all, executions, positions, publish, sweep_all


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Desk]:
    recording = write_recording(tmp_path / "btc.csv", [("20000", "20000", "20000", "20000")] * 100)
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        metering.attach(desk)
        yield desk


def value(desk: Desk, name: str, **labels: str) -> float:
    """A sample of the desk's metrics; nothing counted is 0."""
    return desk.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_an_execution_is_counted_once_in_each_state_with_its_latency(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    clock.move(1)
    await publish(desk)
    clock.move(3)
    await execute_all(desk)
    await sweep_all(desk)
    for status in ("sending", "executed"):
        assert value(desk, "engine_executions_total", status=status, code="") == 1
    assert value(desk, "engine_webhook_to_sent_seconds_count") == 1
    assert value(desk, "engine_webhook_to_sent_seconds_sum") == 3
    assert value(desk, "engine_webhook_to_filled_seconds_count") == 1


async def test_each_time_unprotected_is_measured_when_it_ends(desk: Desk, clock: Clock) -> None:
    await add_connection(desk, protection={"native": False})
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    [position] = await positions(desk)
    assert position.unprotected_since is not None
    assert value(desk, "engine_unprotected_seconds_count") == 0, "it has not ended"
    clock.move(4)
    await monitoring.watch(desk)
    [position] = await positions(desk)
    assert (position.unprotected_since, position.unprotected_seconds) == (None, Decimal(4))
    assert value(desk, "engine_unprotected_seconds_count") == 1
    assert value(desk, "engine_unprotected_seconds_sum") == 4
    clock.move(5)
    await monitoring.watch(desk)
    assert value(desk, "engine_unprotected_seconds_count") == 1


async def test_a_stop_that_is_replaced_counts_anew(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await publish(desk, stop_loss="19000")
    await execute_all(desk)
    [position] = await positions(desk)
    assert position.protection is Protection.NATIVE
    counted = value(desk, "engine_unprotected_seconds_count")
    changes = protection.PlanChange(frozenset({"stop_loss"}), stop_loss=Decimal(19500))
    await protection.edit_plan(desk, USER, position.id, changes)
    clock.move(2)
    await execute_all(desk)
    [position] = await positions(desk)
    assert (position.protection, position.unprotected_since) == (Protection.NATIVE, None)
    assert value(desk, "engine_unprotected_seconds_count") == counted + 1
    assert value(desk, "engine_unprotected_seconds_sum") == float(position.unprotected_seconds)


async def test_a_denial_is_counted_by_its_code(desk: Desk) -> None:
    await add_connection(desk, limits={"deny_symbols": ["BTC/USDT"]})
    await publish(desk)
    await execute_all(desk)
    assert value(desk, "engine_executions_total", status="denied", code="symbol_not_allowed") == 1
    assert value(desk, "engine_webhook_to_sent_seconds_count") == 0


async def test_what_is_rolled_back_is_not_counted(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk, order_type=OrderType.LIMIT, entry_price="19000")
    [execution] = await executions(desk)
    with pytest.raises(RuntimeError, match="on purpose"):
        async with desk.sessions.begin() as session:
            session.add(execution)
            execution.status = ExecutionStatus.DENIED
            await session.flush()
            raise RuntimeError("on purpose")
    assert value(desk, "engine_executions_total", status="denied", code="") == 0
    assert [each.status for each in await executions(desk)] == [ExecutionStatus.PENDING]


async def test_calls_of_a_venue_are_timed_by_outcome(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk)
    await execute_all(desk)
    placed = {"exchange": "paper", "call": "place", "outcome": "done"}
    assert value(desk, "engine_venue_call_seconds_count", **placed) == 1
    assert value(desk, "engine_venue_call_seconds_count", **{**placed, "outcome": "uncertain"}) == 0
