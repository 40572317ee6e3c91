"""Whoever wants everything closed wants nothing opened: what rests is taken back, what it fills is closed."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.brokers.port import Refused
from app.domain.errors import Conflict
from app.domain.exits import CloseReason
from app.domain.money import ZERO
from app.domain.orders import FINAL, OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import closing, halting, losses, reviewing
from app.engine.reviewing import Finding
from app.store.audit import Action
from app.store.connections import Connection
from app.store.executions import ExecutionStatus
from tests.desks import USER
from tests.engine.signals import change, execute_all, executions, publish, sweep_all
from tests.engine.stages import OnPaper, flat, on_paper
from tests.engine.test_halting import audited
from tests.faults import Fault

# At the third second a limit at 19900 is filled in part, at the tenth its target is reached; from the 100th on it may
# be filled further.
CANDLES = [
    *flat("20000", 3),
    ("20000", "20000", "19900", "20000"),
    *flat("20000", 6),
    *flat("20600", 10),
    *flat("20300", 80),
    *flat("19850", 900),
]
RESTING: dict[str, Any] = {"order_type": "limit", "entry_price": "19900", "stop_loss": "17000"}


@pytest.fixture
async def paper(database_url: str, tmp_path: Path) -> AsyncIterator[OnPaper]:
    async with on_paper(database_url, tmp_path, CANDLES) as stage:
        yield stage


async def _sold_while_the_rest_rests(paper: OnPaper) -> None:
    """All that an entry has opened is sold, and the venue has not confirmed that its rest is cancelled."""
    await paper.connect(paper={"partial_fill_percent": "40"}, protection={"max_hold_minutes": 1})
    await publish(paper.desk, targets=[("20500", "1")], **RESTING)
    await execute_all(paper.desk)
    await paper.rounds(1, seconds=4)
    assert len(await paper.standing()) == 1
    paper.venue.deaf = True
    await paper.rounds(1)
    position = await paper.position()
    assert (position.quantity, position.remaining_quantity) == (Decimal("0.04"), ZERO)
    assert position.status is PositionStatus.OPEN
    await paper.advance(20)


async def _ask_for_all_of_it(paper: OnPaper) -> None:
    position = await paper.position()
    for _ in range(2):
        answer = await closing.request_close(paper.desk, USER, position.id, None, idempotency_key="once")
        assert (answer.status, answer.remaining_quantity) == (PositionStatus.CLOSING, ZERO)


async def _close_everything(paper: OnPaper) -> None:
    cleared = await halting.close_all(paper.desk, USER, (await paper.connection()).id, None, owner=USER)
    assert [each.status for each in cleared.entries] == [ExecutionStatus.OPEN]
    assert [each.message for each in cleared.positions] == [
        "Nothing is held; its entry is being taken back, and what it fills until then is closed."
    ]


async def _end_the_signal(paper: OnPaper) -> None:
    await change(paper.desk, EventType.CLOSED)
    await execute_all(paper.desk)


async def _hold_it_too_long(paper: OnPaper) -> None:
    await paper.advance(40)
    await paper.rounds(1)


async def _lose_too_much(paper: OnPaper) -> None:
    async with paper.desk.sessions.begin() as session:
        until, limits = paper.desk.now() + timedelta(hours=1), {"on_daily_loss": "close"}
        await session.execute(update(Connection).values(reducing_until=until, limits=limits))
    await losses.enforce(paper.desk)


ASKING = {
    "owner": (_ask_for_all_of_it, CloseReason.MANUAL),
    "close-all": (_close_everything, CloseReason.MANUAL),
    "source": (_end_the_signal, CloseReason.SIGNAL),
    "time": (_hold_it_too_long, CloseReason.TIMEOUT),
    "loss": (_lose_too_much, CloseReason.RISK),
}


@pytest.mark.parametrize("who", ASKING)
async def test_where_all_is_sold_the_entry_that_rests_is_taken_back(paper: OnPaper, who: str) -> None:
    await _sold_while_the_rest_rests(paper)
    ask, _ = ASKING[who]
    await ask(paper)
    paper.venue.deaf = False
    await paper.rounds(2)
    [entry] = await paper.orders(Purpose.ENTRY)
    assert (entry.status, entry.filled_quantity) == (OrderStatus.CANCELLED, Decimal("0.04"))
    position = await paper.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.TAKE_PROFIT)
    assert await paper.orders(Purpose.CLOSE) == []


@pytest.mark.parametrize("who", ASKING)
async def test_what_it_fills_before_it_is_taken_back_is_closed(paper: OnPaper, who: str) -> None:
    await _sold_while_the_rest_rests(paper)
    ask, reason = ASKING[who]
    await ask(paper)
    await paper.rounds(18)
    [entry] = await paper.orders(Purpose.ENTRY)
    assert (entry.status, entry.filled_quantity) == (OrderStatus.FILLED, Decimal("0.1"))
    position = await paper.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, reason)
    assert (position.quantity, await paper.held()) == (Decimal("0.1"), [])


async def test_of_nothing_there_is_no_part_to_be_closed(paper: OnPaper) -> None:
    await _sold_while_the_rest_rests(paper)
    position = await paper.position()
    with pytest.raises(Conflict, match="Nothing is held; its entry still rests"):
        await closing.request_close(paper.desk, USER, position.id, Decimal("0.5"), idempotency_key=None)
    await _ask_for_all_of_it(paper)
    assert [entry.action for entry in await audited(paper.desk)] == [Action.CLOSE] * 2


async def test_what_an_entry_had_opened_is_left_so_its_rest_is_not_meant_any_more(paper: OnPaper) -> None:
    await _sold_while_the_rest_rests(paper)
    paper.venue.deaf = False
    await paper.rounds(1)
    [entry] = await paper.orders(Purpose.ENTRY)
    assert entry.status is OrderStatus.CANCELLED
    assert (await paper.position()).status is PositionStatus.CLOSED


async def _close_all(paper: OnPaper) -> list[ExecutionStatus]:
    cleared = await halting.close_all(paper.desk, USER, (await paper.connection()).id, None, owner=USER)
    return [each.status for each in cleared.entries]


async def test_close_all_takes_back_later_what_the_venue_did_not_confirm(paper: OnPaper) -> None:
    await paper.connect()
    await publish(paper.desk, **{**RESTING, "entry_price": "19500"})
    await execute_all(paper.desk)
    paper.venue.deaf = True
    assert await _close_all(paper) == [ExecutionStatus.OPEN]
    await paper.rounds(2)
    paper.venue.deaf = False
    await paper.rounds(1)
    assert [each.status for each in await executions(paper.desk)] == [ExecutionStatus.CANCELLED]


async def test_what_close_all_finds_filled_in_part_and_its_venue_calls_too_small_ends_as_dust(
    paper: OnPaper,
) -> None:
    await paper.connect(paper={"partial_fill_percent": "40"}, protection={"native": False})
    await publish(paper.desk, **RESTING)
    await execute_all(paper.desk)
    await paper.rounds(1, seconds=4)
    assert (await paper.position()).remaining_quantity == Decimal("0.04")
    paper.venue.refusal = Refused("The order is worth less than 5.", code="notional_below_minimum")
    paper.venue.pick = lambda request: request.reduce_only
    paper.venue.faults.extend([Fault.REFUSED] * 100)
    assert await _close_all(paper) == [ExecutionStatus.PARTIAL]
    await paper.rounds(10)
    position = await paper.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.DUST)
    assert position.dust == Decimal("0.04")
    assert len(paper.venue.faults) == 99, "what is too small for ever is not sent again"


@pytest.mark.parametrize("price", ["19500", "20000"], ids=["rests", "fills"])
async def test_close_all_holds_for_an_entry_that_is_on_its_way(paper: OnPaper, price: str) -> None:
    await paper.connect()
    paper.venue.faults.append(Fault.ANSWER_LOST)
    await publish(paper.desk, **{**RESTING, "entry_price": price})
    await execute_all(paper.desk)
    assert await _close_all(paper) == [ExecutionStatus.SENDING]
    await paper.rounds(4)
    [done] = await executions(paper.desk)
    if price == "19500":
        assert done.status is ExecutionStatus.CANCELLED
    else:
        position = await paper.position()
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
    assert await paper.held() == []
    assert await (await paper.broker()).resting(None) == []


async def test_close_all_sends_nothing_again_that_never_arrived(paper: OnPaper) -> None:
    await paper.connect()
    paper.venue.faults.append(Fault.REQUEST_LOST)
    await publish(paper.desk, stop_loss="17000")
    await execute_all(paper.desk)
    assert await _close_all(paper) == [ExecutionStatus.SENDING]
    await paper.rounds(8)
    [done] = await executions(paper.desk)
    assert (done.status, done.message) == (
        ExecutionStatus.CANCELLED,
        "Taken back, because everything was to be closed.",
    )
    assert paper.venue.placed == []


async def test_close_all_holds_for_an_entry_in_review(paper: OnPaper) -> None:
    await paper.connect()
    paper.venue.faults.append(Fault.ANSWER_LOST)
    paper.venue.blind = True
    await publish(paper.desk, stop_loss="17000")
    await execute_all(paper.desk)
    for _ in range(200):
        await paper.advance(2)
        await sweep_all(paper.desk)
    assert await _close_all(paper) == [ExecutionStatus.NEEDS_REVIEW]
    paper.venue.blind = False
    [waiting] = await executions(paper.desk)
    await reviewing.resolve(paper.desk, USER, waiting.id, Finding.PLACED, None)
    await paper.rounds(2)
    position = await paper.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
    assert all(order.status in FINAL for order in await paper.orders(Purpose.CLOSE))


async def test_a_signal_that_is_cancelled_too_late_leaves_no_word_of_it_on_what_was_filled(
    paper: OnPaper,
) -> None:
    await paper.connect()
    paper.venue.faults.append(Fault.ANSWER_LOST)
    await publish(paper.desk, stop_loss="17000")
    await execute_all(paper.desk)
    await change(paper.desk, EventType.CANCELLED)
    await execute_all(paper.desk)
    [waiting] = await executions(paper.desk)
    assert (waiting.status, waiting.message) == (
        ExecutionStatus.SENDING,
        "The provider cancelled the signal.",
    )
    await paper.rounds(3)
    [done] = await executions(paper.desk)
    assert (done.status, done.code, done.message) == (ExecutionStatus.EXECUTED, None, None)
    assert [each["outcome"] for each in done.signal_events] == ["applied"]
    assert (await paper.position()).status is PositionStatus.OPEN


async def test_an_entry_on_its_way_when_its_signal_is_cancelled_is_taken_back_when_it_rests(
    paper: OnPaper,
) -> None:
    await paper.connect()
    paper.venue.faults.append(Fault.ANSWER_LOST)
    await publish(paper.desk, **{**RESTING, "entry_price": "19500"})
    await execute_all(paper.desk)
    await change(paper.desk, EventType.CANCELLED)
    await execute_all(paper.desk)
    await paper.rounds(3)
    [done] = await executions(paper.desk)
    assert (done.status, done.code) == (ExecutionStatus.CANCELLED, "signal_cancelled")
    assert await (await paper.broker()).resting(None) == []
