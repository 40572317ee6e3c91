"""One line for everything that becomes of a signal, each with the ids by which it is found."""

from collections.abc import AsyncIterator, MutableMapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog

from app.brokers.directory import Directory
from app.desk import Desk
from app.domain.owners import Owner, Role
from app.domain.risk import Mode
from app.domain.signals import EventType
from app.engine import closing, halting, journal, monitoring
from app.store.positions import Position
from tests.desks import USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.signals import change, execute_all, executions, orders, positions, publish, sweep_all
from tests.faults import Fault, FaultyVenue

Lines = Sequence[MutableMapping[str, Any]]

QUIET = {"trading_set", "signal_event_accepted"}
"""What is about no single execution."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Desk]:
    recording = write_recording(tmp_path / "btc.csv", [("20000", "20000", "20000", "20000")] * 300)
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        journal.attach(desk)
        yield desk


def listening() -> Any:
    """What is logged meanwhile, with the ids that are bound to it."""
    return structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars])


async def check_named(desk: Desk, lines: Lines) -> None:
    """Every line is of the signal, execution and connection that it is about, and an order's of one of its orders."""
    by_execution = {str(each.id): each for each in await executions(desk)}
    of_orders = {str(each.id): str(each.execution_id) for each in await orders(desk)}
    for line in lines:
        if line["event"] in QUIET:
            continue
        if line["event"] == "signal_accepted":
            assert line["signal_id"] in {str(each.signal_id) for each in by_execution.values()}
            continue
        execution = by_execution[line["execution_id"]]
        assert line["signal_id"] == str(execution.signal_id), line
        assert line["connection_id"] == str(execution.connection_id), line
        if "order" in line["event"]:
            assert of_orders[line["order_id"]] == line["execution_id"], line


def told(lines: Lines, **wanted: str) -> list[str]:
    """The events of the lines in which these words stand."""
    return [line["event"] for line in lines if all(line.get(key) == word for key, word in wanted.items())]


async def test_a_signals_whole_life_is_read_by_its_ids(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    with listening() as lines:
        clock.move(1)
        await publish(desk, stop_loss="19000", targets=[("21000", "1")])
        await execute_all(desk)
        [position] = await positions(desk)
        await closing.request_close(desk, USER, position.id, None, idempotency_key=None)
        await execute_all(desk)
    await check_named(desk, lines)
    [execution] = await executions(desk)
    life = told(lines, execution_id=str(execution.id))
    milestones = (
        "execution_changed",
        "order_claimed",
        "order_acknowledged",
        "position_opened",
        "position_protected",
        "position_closed",
    )
    assert [life.index(each) for each in milestones] == sorted(life.index(each) for each in milestones)
    entry, *others = await orders(desk)
    of_entry = [
        line["status"]
        for line in lines
        if line["event"] == "order_changed" and line["order_id"] == str(entry.id)
    ]
    assert of_entry == ["sending", "filled"]
    assert others
    for order in others:
        assert "order_changed" in told(lines, order_id=str(order.id))
    [closed] = [line for line in lines if line["event"] == "position_closed"]
    assert closed["reason"] == "manual"
    assert Decimal(closed["realized_pnl"]) == (await only(desk)).realized_pnl


async def only(desk: Desk) -> Position:
    """The only position."""
    [position] = await positions(desk)
    return position


async def test_denials_cancels_and_halts_are_told_with_their_ids(desk: Desk, clock: Clock) -> None:
    await add_connection(desk)
    await add_connection(desk, owner=Owner(Role.USER, "user-2"), limits={"deny_symbols": ["BTC/USDT"]})
    with listening() as lines:
        clock.move(1)
        await publish(desk, order_type="limit", entry_price="19000", stop_loss="18000")
        await execute_all(desk)
        await change(desk, EventType.CANCELLED)
        await execute_all(desk)
        await publish(desk, "s2", order_type="limit", entry_price="19000", stop_loss="18000")
        await execute_all(desk)
        await halting.set_trading(desk, Owner(Role.ADMIN, "root"), Mode.HALTED, "drill")
        clock.move(10)
        await monitoring.watch(desk)
    await check_named(desk, lines)
    events = told(lines)
    assert events.count("execution_denied") == 2
    codes = [line["code"] for line in lines if line["event"] == "entry_taken_back"]
    assert codes == ["signal_cancelled", "trading_halted"]
    assert told(lines, event="execution_changed", status="cancelled") == ["execution_changed"] * 2


async def test_doubt_and_what_is_found_are_told_with_their_ids(desk: Desk, clock: Clock) -> None:
    venue = FaultyVenue(desk.brokers)
    venue.faults.append(Fault.ANSWER_LOST)
    doubtful = replace(desk, brokers=Directory({"paper": venue}))
    await add_connection(doubtful)
    with listening() as lines:
        await publish(doubtful, stop_loss="19000")
        await execute_all(doubtful)
        clock.move(10)
        await sweep_all(doubtful)
    await check_named(doubtful, lines)
    assert {"order_uncertain", "order_found", "position_opened"} <= set(told(lines))


async def test_what_is_rolled_back_is_not_told(desk: Desk) -> None:
    await add_connection(desk)
    await publish(desk)
    [execution] = await executions(desk)
    with listening() as lines, pytest.raises(RuntimeError, match="on purpose"):
        async with desk.sessions.begin() as session:
            session.add(execution)
            execution.code = "made_up"
            execution.attempts = 3
            execution.status = type(execution.status).DENIED
            await session.flush()
            raise RuntimeError("on purpose")
    assert lines == []
