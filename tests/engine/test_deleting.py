"""A connection that is deleted by force while something of it is under way: nothing of that is lost or left hanging."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from app.brokers.directory import Access, Venue
from app.brokers.port import Broker
from app.domain.errors import Conflict
from app.domain.exits import Protection
from app.domain.money import ZERO
from app.domain.orders import OrderReport, OrderRequest, OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.engine import closing, connections, reviewing
from app.engine.reviewing import Finding
from app.engine.trades import NEVER_ARRIVED
from app.store.executions import ExecutionStatus
from app.store.notifications import NotificationType
from tests.desks import USER
from tests.engine.signals import execute_all, executions, orders, publish, sweep_all
from tests.engine.stages import OnPaper, flat, on_paper
from tests.faults import Fault, FaultyBroker, FaultyVenue

LEFT_OPEN = "Its connection was deleted before the venue said what became of it; please look there."


class SlowVenue(FaultyVenue):
    """A venue that keeps its answer to an order until it is let go."""

    def __init__(self, venue: Venue) -> None:
        super().__init__(venue)
        self.has_it = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def open(self, access: Access) -> Broker:
        """The real broker, slow."""
        return SlowBroker(await self._venue.open(access), self)


class SlowBroker(FaultyBroker):
    """Executes an order at once, or not at all, and says so later."""

    async def place(self, request: OrderRequest) -> OrderReport:
        """The real answer, later."""
        assert isinstance(self._venue, SlowVenue)
        try:
            return await super().place(request)
        finally:
            self._venue.has_it.set()
            await self._venue.may_answer.wait()


@pytest.fixture
async def paper(database_url: str, tmp_path: Path) -> AsyncIterator[OnPaper]:
    async with on_paper(database_url, tmp_path, flat("20000", 900), SlowVenue) as stage:
        yield stage


async def _delete(paper: OnPaper) -> None:
    await connections.delete(paper.desk, USER, (await paper.connection()).id, force=True)


async def _assert_at_rest(paper: OnPaper) -> None:
    """Nobody takes anything of it up again."""
    await paper.rounds(4)
    assert await sweep_all(paper.desk) == 0
    await paper.advance(3600)
    assert await sweep_all(paper.desk) == 0


async def test_what_became_of_an_entry_is_found_out_while_there_are_credentials(paper: OnPaper) -> None:
    await paper.connect()
    paper.venue.faults.append(Fault.ANSWER_LOST)
    await publish(paper.desk, stop_loss="17000")
    await execute_all(paper.desk)
    await _delete(paper)
    [done] = await executions(paper.desk)
    assert done.status is ExecutionStatus.EXECUTED
    position = await paper.position()
    assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NATIVE)
    assert (await paper.told(NotificationType.CONNECTION))[-1] == (
        "Connection test deleted: No longer managed: 1 of its positions are open. "
        "Stop and targets stay at the venue for BTC/USDT:USDT."
    )
    await _assert_at_rest(paper)


async def test_an_entry_that_is_found_resting_is_taken_back_first(paper: OnPaper) -> None:
    await paper.connect()
    paper.venue.faults.append(Fault.ANSWER_LOST)
    await publish(paper.desk, order_type="limit", entry_price="19000", stop_loss="17000")
    await execute_all(paper.desk)
    broker = await paper.broker()
    await _delete(paper)
    [done] = await executions(paper.desk)
    assert (done.status, done.code) == (ExecutionStatus.CANCELLED, "connection_inactive")
    assert await broker.resting(None) == []
    await _assert_at_rest(paper)


async def test_an_entry_whose_outcome_nobody_can_find_out_any_more_ends_in_review(paper: OnPaper) -> None:
    await paper.connect()
    paper.venue.faults.append(Fault.ANSWER_LOST)
    paper.venue.blind = True
    await publish(paper.desk, stop_loss="17000")
    await execute_all(paper.desk)
    await _delete(paper)
    assert (await paper.told(NotificationType.CONNECTION))[-1].endswith(
        "It is not known what became of entries in BTC/USDT:USDT; please look at the venue."
    )
    await paper.rounds(4)
    [done] = await executions(paper.desk)
    assert (done.status, done.message) == (ExecutionStatus.NEEDS_REVIEW, LEFT_OPEN)
    assert LEFT_OPEN in (await paper.told(NotificationType.ERROR))[-1]
    await _assert_at_rest(paper)


async def test_an_entry_that_may_still_rest_ends_in_review(paper: OnPaper) -> None:
    await paper.connect()
    await publish(paper.desk, order_type="limit", entry_price="19000", stop_loss="17000")
    await execute_all(paper.desk)
    paper.venue.deaf = True
    await _delete(paper)
    [done] = await executions(paper.desk)
    assert (done.status, done.message) == (ExecutionStatus.NEEDS_REVIEW, LEFT_OPEN)
    await _assert_at_rest(paper)


@pytest.mark.parametrize("percent", [None, "40"], ids=["unfilled", "filled in part"])
async def test_its_owner_can_still_end_the_review(paper: OnPaper, percent: str | None) -> None:
    await paper.connect(paper={} if percent is None else {"partial_fill_percent": percent})
    price = "19000" if percent is None else "20000"
    await publish(paper.desk, order_type="limit", entry_price=price, stop_loss="17000")
    await execute_all(paper.desk)
    paper.venue.deaf = True
    await _delete(paper)
    [left] = await executions(paper.desk)
    with pytest.raises(Conflict, match="say absent"):
        await reviewing.resolve(paper.desk, USER, left.id, Finding.PLACED, None)
    await reviewing.resolve(paper.desk, USER, left.id, Finding.ABSENT, None)
    [done] = await executions(paper.desk)
    expected = ExecutionStatus.REJECTED if percent is None else ExecutionStatus.PARTIAL
    assert (done.status, done.code) == (expected, NEVER_ARRIVED)
    assert (done.filled_quantity > ZERO) is (percent is not None)
    await _assert_at_rest(paper)


async def test_a_close_in_review_that_is_said_to_be_absent_is_not_sent_again(paper: OnPaper) -> None:
    await paper.connect(protection={"native": False})
    await publish(paper.desk, stop_loss="17000")
    await execute_all(paper.desk)
    paper.venue.faults.append(Fault.REQUEST_LOST)
    paper.venue.blind = paper.venue.secretive = True
    position = await paper.position()
    await closing.request_close(paper.desk, USER, position.id, None, idempotency_key=None)
    await execute_all(paper.desk)
    await _delete(paper)
    await paper.rounds(30)
    assert [each.status for each in await orders(paper.desk)] == [
        OrderStatus.FILLED,
        OrderStatus.NEEDS_REVIEW,
    ]
    await reviewing.resolve(paper.desk, USER, position.execution_id, Finding.ABSENT, None)
    assert [each.status for each in await orders(paper.desk)] == [OrderStatus.FILLED, OrderStatus.CANCELLED]
    await _assert_at_rest(paper)


@pytest.mark.parametrize("fault", [None, Fault.NOT_EXECUTED], ids=["filled", "not executed"])
async def test_the_answer_to_an_entry_that_was_on_its_way_is_heard(
    paper: OnPaper, fault: Fault | None
) -> None:
    await paper.connect()
    if fault is not None:
        paper.venue.faults.append(fault)
    slow = paper.venue
    assert isinstance(slow, SlowVenue)
    slow.may_answer.clear()
    await publish(paper.desk, stop_loss="17000")
    placing = asyncio.create_task(execute_all(paper.desk))
    await slow.has_it.wait()
    paper.venue.blind = True
    await _delete(paper)
    slow.may_answer.set()
    await placing
    [done] = await executions(paper.desk)
    if fault is not None:
        assert (done.status, done.message) == (
            ExecutionStatus.CANCELLED,
            "Its connection was deleted before it was sent.",
        )
    else:
        assert done.status is ExecutionStatus.EXECUTED
        position = await paper.position()
        assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NONE)
        assert position.protect_by is None
        assert (await paper.told(NotificationType.ERROR))[-1] == (
            "BTC/USDT:USDT: filled after its connection was deleted: The venue filled 0.1 BTC/USDT:USDT after the "
            "connection test had been deleted: nobody manages or watches that here; please look there."
        )
    assert await paper.orders(Purpose.CLOSE) == []
    await _assert_at_rest(paper)


async def test_a_close_that_waits_is_not_sent_and_its_position_stays_open(paper: OnPaper) -> None:
    await paper.connect()
    await publish(paper.desk, stop_loss="17000")
    await execute_all(paper.desk)
    await paper.intend_close()
    assert (await paper.position()).status is PositionStatus.CLOSING
    await _delete(paper)
    position = await paper.position()
    assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, Decimal("0.1"))
    [close] = await paper.orders(Purpose.CLOSE)
    assert (close.status, close.filled_quantity) == (OrderStatus.CANCELLED, ZERO)
    await _assert_at_rest(paper)
