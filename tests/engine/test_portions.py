"""A close of a portion counts once: for an entry still to be sent, for what is held, and for what fills later."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.domain.market import MarketType
from app.domain.money import ZERO
from app.domain.orders import Purpose
from app.domain.signals import EventType
from app.engine import execution, following
from app.store.executions import ExecutionStatus
from tests.desks import START
from tests.engine.signals import change, execute_all, executions, publish
from tests.engine.stages import AtExchange, OnPaper, at_exchange, flat, on_paper
from tests.faults import Fault
from tests.venues.exchange import Exchange, running_exchange

SWAP = "BTC/USDT:USDT"
CANDLES = [*flat("20000", 60), *flat("19400", 600)]


@pytest.fixture
async def paper(database_url: str, tmp_path: Path) -> AsyncIterator[OnPaper]:
    async with on_paper(database_url, tmp_path, CANDLES) as stage:
        await stage.connect()
        yield stage


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges; their clock stands where a test's own does."""
    async with running_exchange(start=START) as exchange:
        yield exchange
        exchange.audit()


async def _assert_half(paper: OnPaper) -> None:
    """An entry of half the size is held, and nothing of it was closed."""
    for _ in range(2):
        await paper.rounds(3)
        position = await paper.position()
        assert (position.quantity, position.remaining_quantity) == (Decimal("0.05"), Decimal("0.05"))
        assert await paper.orders(Purpose.CLOSE) == []
    [done] = await executions(paper.desk)
    assert [(each["type"], each["outcome"]) for each in done.signal_events] == [("signal.closed", "applied")]


@pytest.mark.parametrize("is_followed_first", [False, True])
async def test_an_entry_that_was_made_smaller_for_it_is_not_closed_by_it_as_well(
    paper: OnPaper, is_followed_first: bool
) -> None:
    await publish(paper.desk, stop_loss="17000")
    await change(paper.desk, EventType.CLOSED, portion="0.5")
    queue: Any = paper.desk.queue
    if is_followed_first:
        queue.rung.reverse()
    await execute_all(paper.desk)
    await _assert_half(paper)


@pytest.mark.parametrize("is_early", [False, True])
async def test_an_entry_that_is_claimed_again_counts_it_once(paper: OnPaper, is_early: bool) -> None:
    paper.venue.faults.append(Fault.NOT_EXECUTED)
    await publish(paper.desk, stop_loss="17000")
    if is_early:
        await change(paper.desk, EventType.CLOSED, portion="0.5")
    await execute_all(paper.desk)
    [waiting] = await executions(paper.desk)
    assert (waiting.status, waiting.attempts) == (ExecutionStatus.PENDING, 1)
    if not is_early:
        await change(paper.desk, EventType.CLOSED, portion="0.5")
        await execute_all(paper.desk)
    await _assert_half(paper)


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST])
async def test_one_that_comes_while_an_entry_is_in_doubt_counts_once(paper: OnPaper, fault: Fault) -> None:
    paper.venue.faults.append(fault)
    await publish(paper.desk, stop_loss="17000")
    await execute_all(paper.desk)
    await change(paper.desk, EventType.CLOSED, portion="0.5")
    await execute_all(paper.desk)
    assert [each.status for each in await executions(paper.desk)] == [ExecutionStatus.SENDING]
    await paper.rounds(8)
    position = await paper.position()
    assert position.remaining_quantity == Decimal("0.05")
    closed = sum((order.filled_quantity for order in await paper.orders(Purpose.CLOSE)), ZERO)
    # What never arrived is claimed anew, and smaller; what had arrived is held and then closed by half.
    assert closed == (ZERO if fault is Fault.REQUEST_LOST else Decimal("0.05"))


async def test_what_a_resting_entry_fills_later_is_closed_by_the_portion(paper: OnPaper) -> None:
    await publish(paper.desk, order_type="limit", entry_price="19500", stop_loss="17000")
    await execute_all(paper.desk)
    await change(paper.desk, EventType.CLOSED, portion="0.1")
    await execute_all(paper.desk)
    [resting] = await executions(paper.desk)
    assert (resting.status, resting.requested_quantity) == (ExecutionStatus.OPEN, Decimal("0.1"))
    [noted] = resting.signal_events
    assert noted["message"] == "The order rests; 0.1 of whatever it fills is closed."

    await paper.rounds(14)
    position = await paper.position()
    assert (position.quantity, position.remaining_quantity) == (Decimal("0.1"), Decimal("0.09"))
    [close] = await paper.orders(Purpose.CLOSE)
    assert (close.filled_quantity, close.reason) == (Decimal("0.01"), "signal")
    await paper.rounds(4)
    assert (await paper.position()).remaining_quantity == Decimal("0.09")
    [done] = await executions(paper.desk)
    assert [each["outcome"] for each in done.signal_events] == ["applied", "closed"]


async def test_the_end_of_a_signal_still_takes_back_what_a_portion_has_let_rest(paper: OnPaper) -> None:
    await publish(paper.desk, order_type="limit", entry_price="19500", stop_loss="17000")
    await execute_all(paper.desk)
    await change(paper.desk, EventType.CLOSED, portion="0.1")
    await execute_all(paper.desk)
    await paper.advance(2)
    await change(paper.desk, EventType.CLOSED)
    await execute_all(paper.desk)
    [done] = await executions(paper.desk)
    assert (done.status, done.code) == (ExecutionStatus.CANCELLED, "signal_closed")


async def test_every_part_that_an_entry_fills_is_closed_by_the_portion(
    database_url: str, venue: Exchange
) -> None:
    async with at_exchange(database_url, venue, "binanceusdm", MarketType.SWAP) as scene:
        await _fill_in_parts(scene)


async def _fill_in_parts(scene: AtExchange) -> None:
    await scene.connect()
    await publish(scene.desk, order_type="limit", entry_price="19500", stop_loss="17000")
    await execute_all(scene.desk)
    scene.venue.thin(SWAP, "0.4")
    scene.venue.move(SWAP, 19500, gap=True)
    await scene.rounds(2)
    held = (await scene.position()).quantity
    assert ZERO < held < Decimal("0.1")
    scene.venue.thin(SWAP, "1")

    await change(scene.desk, EventType.CLOSED, portion="0.5")
    await execute_all(scene.desk)
    position = await scene.position()
    assert (position.quantity, position.remaining_quantity) == (held, held / 2)
    [entry] = await scene.orders(Purpose.ENTRY)
    assert entry.is_live, "the rest goes on resting"

    scene.venue.move(SWAP, 19400)
    await scene.rounds(6)
    position = await scene.position()
    assert (position.quantity, position.remaining_quantity) == (Decimal("0.1"), Decimal("0.05"))
    [stop] = await scene.standing()
    assert stop.quantity == Decimal("0.05")


async def test_following_an_event_again_and_again_changes_nothing(paper: OnPaper) -> None:
    await publish(paper.desk, stop_loss="17000")
    await execute_all(paper.desk)
    await change(paper.desk, EventType.CLOSED, portion="0.5")
    queue: Any = paper.desk.queue
    [(_, event_id)] = queue.rung
    for _ in range(3):
        await following.follow(paper.desk, event_id)
    [done] = await executions(paper.desk)
    await execution.execute(paper.desk, done.id)
    assert (await paper.position()).remaining_quantity == Decimal("0.05")
