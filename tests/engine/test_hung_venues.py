"""A venue that takes requests and never answers: whatever is asked of another one goes on as if it were not there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from app.brokers.metatrader.gateway import Patience
from app.domain.exits import CloseReason
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import guarding, monitoring
from app.store.executions import ExecutionStatus
from app.store.positions import Position
from tests.engine.metatrader import Stage
from tests.engine.signals import change, execute_all, executions, positions, publish
from tests.engine.test_bridge_faults import Pair, opened_pair
from tests.venues.faults import HANG, REQUEST_LOST, Fault, When, leaves, looks, server_error
from tests.venues.metatrader import Method
from tests.venues.wire import Intent, WireRequest

ENDLESS = Patience(connect=600, read=600, order=600)
"""Real seconds: nothing is given up while a test runs, so that what happens does not wait for what hangs."""


def asks_for_quotes(request: WireRequest) -> bool:
    """Requests for prices."""
    return "quote" in request.path.lower()


def hang(pair: Pair, stage: Stage, when: When) -> None:
    """From now on the bridge of one account does not answer requests of a kind."""
    host = pair.venue.bridge(stage.platform).url.removeprefix("http://")
    pair.venue.faults.policy = lambda request: HANG if request.host == host and when(request) else None


async def hangs(pair: Pair) -> bool:
    """Whether somebody waits for an answer already."""
    return bool(pair.venue.faults.struck)


@asynccontextmanager
async def begun(*work: Awaitable[object]) -> AsyncIterator[list["asyncio.Task[object]"]]:
    """Work that is under way while the body lasts, and is given up then."""

    async def carried(each: Awaitable[object]) -> object:
        return await each

    tasks = [asyncio.create_task(carried(each)) for each in work]
    try:
        yield tasks
    finally:
        while left := [each for each in tasks if not each.done()]:
            for each in left:
                each.cancel()
            await asyncio.wait(left, timeout=0.1)
        await asyncio.gather(*tasks, return_exceptions=True)


async def held_on(pair: Pair, stage: Stage) -> list[Position]:
    """The positions of one account, oldest first."""
    assert stage.connection is not None
    return [each for each in await positions(pair.desk) if each.connection_id == stage.connection.id]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that does not hang; a machine may be slow."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.05)


async def is_closed(pair: Pair, stage: Stage, reason: CloseReason) -> bool:
    """Whether all of an account has been left for this reason."""
    return {(each.status, each.close_reason) for each in await held_on(pair, stage)} == {
        (PositionStatus.CLOSED, reason)
    }


@pytest.mark.parametrize("what", [asks_for_quotes, looks], ids=["quotes", "survey"])
async def test_a_stop_fires_while_another_venue_answers_nothing(database_url: str, what: When) -> None:
    async with opened_pair(database_url, patience=ENDLESS, protection={"native": False}) as pair:
        hung, healthy = pair.stages
        await publish(pair.desk, "held", symbol="EUR/USD", stop_loss="1.09")
        # There is something to be surveyed, too.
        await publish(pair.desk, "rests", symbol="EUR/USD", order_type="limit", entry_price="1.02")
        await execute_all(pair.desk)
        await pair.round()
        hang(pair, hung, what)
        pair.venue.move("EUR/USD", "1.085")
        await pair.venue.advance(5)
        async with begun(monitoring.watch(pair.desk)) as [first]:
            await until(lambda: hangs(pair))
            await pair.venue.advance(5)
            async with begun(monitoring.watch(pair.desk)):
                await until(lambda: is_closed(pair, healthy, CloseReason.STOP_LOSS))
                assert not first.done(), "it still waits for the venue that hangs"
        assert [each.status for each in await held_on(pair, hung)] == [PositionStatus.OPEN]


async def test_a_stop_fires_while_another_account_of_the_venue_is_not_answered(database_url: str) -> None:
    """One bridge, two accounts; whoever stands behind one of them is away."""
    accounts = [("mt5", Method.HEDGING)] * 2
    async with opened_pair(database_url, accounts, patience=ENDLESS, protection={"native": False}) as pair:
        hung, healthy = pair.stages
        await publish(pair.desk, "held", symbol="EUR/USD", stop_loss="1.09")
        await publish(pair.desk, "rests", symbol="EUR/USD", order_type="limit", entry_price="1.02")
        await execute_all(pair.desk)
        await pair.round()
        [token] = [each.token for each in pair.venue.mt5.sessions.live if each.login is hung.login]
        pair.venue.faults.policy = lambda request: HANG if looks(request) and token in request.query else None
        pair.venue.move("EUR/USD", "1.085")
        await pair.venue.advance(5)
        async with begun(monitoring.watch(pair.desk)) as [first]:
            await until(lambda: is_closed(pair, healthy, CloseReason.STOP_LOSS))
            assert not first.done()


async def test_what_a_days_loss_closes_is_closed_while_another_venue_takes_no_order(
    database_url: str,
) -> None:
    limits = {"max_daily_loss": "1", "on_daily_loss": "close"}
    async with opened_pair(database_url, patience=ENDLESS, limits=limits) as pair:
        hung, healthy = pair.stages
        await publish(pair.desk, symbol="EUR/USD", stop_loss="1.05")
        await execute_all(pair.desk)
        await pair.round()
        hang(pair, hung, leaves)
        pair.venue.move("EUR/USD", "1.085")
        await pair.venue.advance(5)
        async with begun(monitoring.watch(pair.desk)) as [first]:
            await until(lambda: is_closed(pair, healthy, CloseReason.RISK))
            assert not first.done()


async def test_what_has_been_held_for_long_enough_is_left_while_another_venue_takes_no_order(
    database_url: str,
) -> None:
    async with opened_pair(database_url, patience=ENDLESS, protection={"max_hold_minutes": 10}) as pair:
        hung, healthy = pair.stages
        await publish(pair.desk, symbol="EUR/USD", stop_loss="1.05")
        await execute_all(pair.desk)
        await pair.round()
        hang(pair, hung, leaves)
        await pair.venue.advance(600)
        async with begun(monitoring.watch(pair.desk)) as [first]:
            await until(lambda: is_closed(pair, healthy, CloseReason.TIMEOUT))
            assert not first.done()


async def test_a_stop_that_comes_out_of_sight_is_told_of_while_another_venue_answers_nothing(
    database_url: str,
) -> None:
    async with opened_pair(database_url, patience=ENDLESS, protection={"native": False}) as pair:
        hung, blind = pair.stages
        await publish(pair.desk, "held", symbol="EUR/USD", stop_loss="1.05")
        await publish(pair.desk, "rests", symbol="EUR/USD", order_type="limit", entry_price="1.02")
        await execute_all(pair.desk)
        await pair.round()
        away = pair.venue.bridge(hung.platform).url.removeprefix("http://")

        def fault(request: WireRequest) -> Fault | None:
            if request.host == away:
                return HANG if looks(request) else None
            return server_error(502, executed=False) if asks_for_quotes(request) else None

        async def is_told() -> bool:
            return all(each.price_lost_at is not None for each in await held_on(pair, blind))

        pair.venue.faults.policy = fault
        await pair.venue.advance(guarding.BLIND.total_seconds() + 5)
        async with begun(monitoring.watch(pair.desk)) as [first]:
            await until(is_told)
            assert not first.done()


async def _in_turn(pair: Pair) -> list[Stage]:
    """The accounts as their executions come one after the other."""
    stages = {stage.connection.id: stage for stage in pair.stages if stage.connection is not None}
    return [stages[each.connection_id] for each in await executions(pair.desk)]


@pytest.mark.parametrize("what", [EventType.CLOSED, EventType.CANCELLED, EventType.UPDATED])
async def test_an_event_reaches_an_account_while_another_venue_answers_nothing(
    database_url: str, what: EventType
) -> None:
    async with opened_pair(database_url, patience=ENDLESS) as pair:
        limit: dict[str, Any] = {"order_type": "limit", "entry_price": "1.02"}
        await publish(
            pair.desk, symbol="EUR/USD", stop_loss="1.01", **(limit if what is EventType.CANCELLED else {})
        )
        await execute_all(pair.desk)
        hung, healthy = await _in_turn(pair)
        hang(pair, hung, lambda _: True)
        said = {"stop_loss": "1.05"} if what is EventType.UPDATED else {}
        await change(pair.desk, what, **said)

        async def is_carried_out() -> bool:
            if what is EventType.CANCELLED:
                return not healthy.login.pending
            if what is EventType.CLOSED:
                return await is_closed(pair, healthy, CloseReason.SIGNAL)
            return {ticket.stop_loss for ticket in healthy.login.positions.values()} == {Decimal("1.05")}

        async with begun(execute_all(pair.desk)) as [following]:
            await until(is_carried_out)
            await until(lambda: hangs(pair))
            assert not following.done(), "it still waits for the venue that hangs"


async def test_an_entry_is_taken_back_again_while_another_venue_answers_nothing(database_url: str) -> None:
    async with opened_pair(database_url, patience=ENDLESS) as pair:
        await publish(pair.desk, symbol="EUR/USD", stop_loss="1.01", order_type="limit", entry_price="1.02")
        await execute_all(pair.desk)
        hung, healthy = await _in_turn(pair)
        assert healthy.connection is not None
        account, lost = healthy.connection.id, list[WireRequest]()

        def fault(request: WireRequest) -> Fault | None:
            if request.host == pair.venue.bridge(hung.platform).url.removeprefix("http://"):
                return HANG
            if request.intent is Intent.CANCEL and not lost:
                lost.append(request)
                return REQUEST_LOST
            return None

        async def is_lost() -> bool:
            return bool(lost)

        async def is_taken_back() -> bool:
            [done] = [each for each in await executions(pair.desk) if each.connection_id == account]
            return done.status is ExecutionStatus.CANCELLED

        pair.venue.faults.policy = fault
        await change(pair.desk, EventType.CANCELLED)
        async with begun(execute_all(pair.desk)) as [following]:
            await until(is_lost)
            assert healthy.login.pending
            await pair.venue.advance(15)
            async with begun(monitoring.watch(pair.desk)):
                await until(is_taken_back)
            assert not following.done(), "it still waits for the venue that hangs"
