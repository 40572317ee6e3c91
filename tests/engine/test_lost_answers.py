"""MetaTrader requests whose answers are lost, late or wrong: what stands keeps standing, and nothing is done twice."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pytest

from app.domain.exits import CloseReason, Protection
from app.domain.orders import FINAL, OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import closing
from app.engine.access import broker_of
from app.engine.protection import PlanChange, edit_plan
from app.store.executions import ExecutionStatus
from app.store.positions import Position
from tests.desks import USER
from tests.engine.metatrader import ACCOUNTS, Stage, opened_stage
from tests.engine.signals import change, execute_all, executions, orders, positions, publish
from tests.engine.test_bridge_faults import ACCIDENTS, named
from tests.venues import faults
from tests.venues.faults import Fault, altered
from tests.venues.wire import WireRequest

D = Decimal
HEDGING = [name for name in ACCOUNTS if name != "mt5-netting"]


@pytest.fixture(params=HEDGING)
async def stage(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Stage]:
    """An active hedging account of 10,000 USD on each platform in turn."""
    async with opened_stage(database_url, request.param) as opened:
        await opened.activate()
        yield opened


@pytest.fixture
async def five(database_url: str) -> AsyncIterator[Stage]:
    """An active hedging account of 10,000 USD on MetaTrader 5."""
    async with opened_stage(database_url, "mt5-hedging") as opened:
        await opened.activate()
        yield opened


async def enter(stage: Stage) -> Position:
    """Half a lot of EUR/USD, protected and settled."""
    await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09", targets=[("1.2", "1")])
    await execute_all(stage.desk)
    await stage.walk("EUR/USD", None, rounds=2, seconds=15)
    return await the_position(stage)


async def the_position(stage: Stage) -> Position:
    """The only one."""
    [position] = await positions(stage.desk)
    return position


def stops_sent(stage: Stage) -> list[str]:
    """Every stop that was asked for on a position, in order."""
    calls = stage.venue.calls("OrderModifySafe")
    return [parse_qs(call.query)["stoploss"][0] for call in calls]


@pytest.mark.parametrize("fault", ACCIDENTS, ids=named)
async def test_a_change_of_the_stop_takes_none_off_whatever_befalls_it(stage: Stage, fault: Fault) -> None:
    opened = await enter(stage)
    stage.venue.faults.add(fault, faults.modifies)
    await edit_plan(stage.desk, USER, opened.id, PlanChange(frozenset({"stop_loss"}), D("1.095")))
    await execute_all(stage.desk)
    position = await stage.until(lambda position: position.protection is Protection.NATIVE)
    await stage.walk("EUR/USD", None, rounds=4, seconds=12)
    [held] = stage.login.positions.values()
    assert (held.stop_loss, held.take_profit, position.stop_loss) == (D("1.095"), D("1.2"), D("1.095"))
    assert set(stops_sent(stage)) == {"1.095"}
    legs = [each for each in await orders(stage.desk) if each.purpose is Purpose.PROTECTION and each.is_live]
    assert [(leg.status, leg.trigger_price) for leg in legs] == [(OrderStatus.OPEN, D("1.095"))]
    # Either stop protects it until then: it is not closed for want of one.
    assert position.status is PositionStatus.OPEN
    assert position.unprotected_since is None


async def test_a_stop_that_fires_while_its_change_is_in_doubt_is_booked_once(stage: Stage) -> None:
    opened = await enter(stage)
    stage.venue.faults.add(faults.REQUEST_LOST, faults.modifies)
    await edit_plan(stage.desk, USER, opened.id, PlanChange(frozenset({"stop_loss"}), D("1.085")))
    await execute_all(stage.desk)
    stage.venue.move("EUR/USD", "1.0899")
    position = await stage.until(lambda position: position.status is PositionStatus.CLOSED)
    await stage.walk("EUR/USD", None, rounds=12, seconds=15)
    assert position.realized_pnl == stage.login.realized
    legs = [each for each in await orders(stage.desk) if each.purpose is Purpose.PROTECTION]
    assert sorted(each.filled_quantity for each in legs) == [D(0), D("0.5")]
    assert all(each.status in FINAL for each in legs)


async def test_a_stop_that_is_taken_away_is_taken_off_once(stage: Stage) -> None:
    stage.may_take_stops_off = True
    opened = await enter(stage)
    changed = PlanChange(frozenset({"stop_loss", "take_profits"}))
    await edit_plan(stage.desk, USER, opened.id, changed)
    await execute_all(stage.desk)
    await stage.walk("EUR/USD", None, rounds=3)
    [held] = stage.login.positions.values()
    assert (held.stop_loss, held.take_profit) == (D(0), D(0))
    assert stops_sent(stage) == ["0"]


class TestPartsOfPositions:
    @pytest.mark.parametrize("lag", [120, 300])
    async def test_a_part_is_closed_once_however_late_the_history_is(self, stage: Stage, lag: int) -> None:
        opened = await enter(stage)
        stage.venue.bridge(stage.platform).history_lag = lag
        stage.venue.faults.add(faults.ANSWER_LOST, faults.leaves)
        await closing.request_close(stage.desk, USER, opened.id, D("0.4"), idempotency_key=None)
        await execute_all(stage.desk)
        await stage.until(lambda position: position.remaining_quantity == D("0.3"))
        [held] = stage.login.positions.values()
        assert (held.lots, held.stop_loss) == (D("0.3"), D("1.09"))
        assert len(stage.venue.calls("OrderCloseSafe")) == 1

    @pytest.mark.parametrize("hours", [-3, 1, 12])
    async def test_a_bridge_that_is_wrong_about_the_clock_makes_nobody_close_twice(
        self, stage: Stage, hours: int
    ) -> None:
        opened = await enter(stage)
        wrong = altered("another time zone", lambda told: told if isinstance(told, dict) else told + hours)
        stage.venue.faults.policy = lambda request: wrong if faults.on("/ServerTimezone")(request) else None
        # For so long what the bridge said of it before is believed.
        await stage.venue.advance(16 * 60)
        stage.venue.faults.add(faults.ANSWER_LOST, faults.leaves)
        await closing.request_close(stage.desk, USER, opened.id, D("0.4"), idempotency_key=None)
        await execute_all(stage.desk)
        await stage.until(lambda position: position.remaining_quantity == D("0.3"))
        [held] = stage.login.positions.values()
        assert held.lots == D("0.3")
        assert len(stage.venue.calls("OrderCloseSafe")) == 1


class TestMarks:
    @pytest.mark.parametrize("lost", [None, faults.ANSWER_LOST, faults.REQUEST_LOST, faults.lagging(20)])
    async def test_a_broker_that_drops_our_number_gets_an_order_once(
        self, stage: Stage, lost: Fault | None
    ) -> None:
        stage.venue.bridge(stage.platform).server.keeps_magic = False
        if lost is not None:
            stage.venue.faults.add(lost)
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None, rounds=16, seconds=12)
        [execution] = await executions(stage.desk)
        assert execution.status is ExecutionStatus.EXECUTED
        assert len(stage.login.orders) == 1
        assert (await the_position(stage)).protection is Protection.NATIVE
        await stage.walk("EUR/USD", "1.0899")
        assert (await the_position(stage)).realized_pnl == stage.login.realized

    async def test_the_number_of_the_answer_is_enough_where_nothing_of_ours_is_kept(
        self, stage: Stage
    ) -> None:
        server = stage.venue.bridge(stage.platform).server
        server.keeps_magic = server.keeps_comments = False
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None, rounds=8, seconds=15)
        assert (await the_position(stage)).protection is Protection.NATIVE
        assert len(stage.login.orders) == 1

    async def test_without_that_answer_a_person_is_asked(self, stage: Stage) -> None:
        server = stage.venue.bridge(stage.platform).server
        server.keeps_magic = server.keeps_comments = False
        stage.venue.faults.add(faults.ANSWER_LOST)
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None, rounds=28, seconds=12)
        [execution] = await executions(stage.desk)
        assert execution.status is ExecutionStatus.NEEDS_REVIEW
        assert len(stage.login.orders) == 1

    async def test_an_order_that_was_carried_out_three_times_is_in_review_at_once(self, stage: Stage) -> None:
        stage.venue.faults.add(faults.doubled(3))
        await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(stage.desk)
        await stage.walk("EUR/USD", None, rounds=1, seconds=3)
        [execution] = await executions(stage.desk)
        assert execution.status is ExecutionStatus.NEEDS_REVIEW
        assert execution.message is not None
        assert "more than one" in execution.message


class TestLines:
    """The line between bridge and broker is down: lists are empty, and CheckConnect opens it again."""

    @pytest.fixture
    async def mending(self, stage: Stage) -> Stage:
        """A bridge with that habit."""
        stage.venue.bridge(stage.platform).check_reconnects = True
        return stage

    async def test_an_order_whose_answer_is_lost_with_the_line_is_found(self, mending: Stage) -> None:
        mending.venue.faults.add(faults.ANSWER_LOST)
        mending.venue.faults.add(faults.HTML, faults.on("/OpenedOrders"))
        await publish(mending.desk, symbol="EUR/USD", stop_loss="1.09")
        await execute_all(mending.desk)
        [execution] = await executions(mending.desk)
        assert execution.status is ExecutionStatus.SENDING
        for _ in range(16):
            mending.login.is_reachable = False
            await mending.walk("EUR/USD", None, rounds=1, seconds=12)
        [execution] = await executions(mending.desk)
        assert (execution.status, execution.attempts) == (ExecutionStatus.EXECUTED, 1)
        assert len(mending.login.orders) == 1

    async def test_what_is_held_is_not_gone_while_it_is_not_shown(self, mending: Stage) -> None:
        opened = await enter(mending)
        assert mending.connection is not None
        broker = await broker_of(mending.desk, mending.connection)
        [key] = [each.key for each in await orders(mending.desk) if each.purpose is Purpose.ENTRY]
        for ask in (
            lambda: broker.holdings([opened.handle or ""]),
            lambda: broker.holdings(),
            lambda: broker.find(key),
            lambda: broker.survey([key]),
        ):
            whole = await ask()
            mending.login.is_reachable = False
            assert await ask() == whole
            assert mending.login.is_reachable

    async def test_it_stays_protected_through_hours_of_that(self, mending: Stage) -> None:
        await enter(mending)
        for _ in range(20):
            mending.login.is_reachable = False
            await mending.walk("EUR/USD", None, rounds=1, seconds=20)
        position = await the_position(mending)
        assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, D("0.5"))
        assert position.protection is Protection.NATIVE
        assert stops_sent(mending) == []


class TestCancelling:
    """A pending order fills at the moment at which it is taken back."""

    @pytest.mark.parametrize("has_request", [True, False])
    async def test_what_it_has_opened_is_ours(self, five: Stage, *, has_request: bool) -> None:
        path = "/OrderCancelTask" if has_request else "/OrderClose"
        if not has_request:
            five.venue.mt5.lacks.add("ordercanceltask")
        await publish(five.desk, symbol="EUR/USD", order_type="limit", entry_price="1.095", stop_loss="1.09")
        await execute_all(five.desk)

        def fill(request: WireRequest) -> Fault | None:
            if request.path == path:
                five.venue.move("EUR/USD", "1.0949")
            return None

        five.venue.faults.policy = fill
        await change(five.desk, EventType.CANCELLED)
        await execute_all(five.desk)
        five.venue.faults.clear()
        await five.walk("EUR/USD", None, rounds=10, seconds=15)
        [execution] = await executions(five.desk)
        assert execution.status is ExecutionStatus.EXECUTED
        position = await the_position(five)
        if has_request:
            # Nothing but the pending order was meant: what it has opened stays, with its stop.
            assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NATIVE)
            return
        assert five.login.positions == {}
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
        assert position.realized_pnl == five.login.realized

    @pytest.mark.parametrize("has_request", [True, False])
    async def test_one_that_waits_still_is_taken_back(self, five: Stage, *, has_request: bool) -> None:
        if not has_request:
            five.venue.mt5.lacks.add("ordercanceltask")
        await publish(five.desk, symbol="EUR/USD", order_type="limit", entry_price="1.095")
        await execute_all(five.desk)
        await change(five.desk, EventType.CANCELLED)
        await execute_all(five.desk)
        [execution] = await executions(five.desk)
        assert (execution.status, execution.code) == (ExecutionStatus.CANCELLED, "signal_cancelled")
        assert five.login.pending == []


class TestUnreadable:
    @pytest.mark.parametrize("type_", ["", "CloseBy", 9])
    async def test_a_row_that_is_not_understood_is_not_a_flat_account(self, stage: Stage, type_: Any) -> None:
        await publish(stage.desk, symbol="EUR/USD")
        await execute_all(stage.desk)
        name = "type" if stage.platform == "mt4" else "orderType"
        strange = altered("a strange type", lambda rows: [{**row, name: type_} for row in rows])
        stage.venue.faults.policy = lambda request: strange if faults.on("/OpenedOrders")(request) else None
        await stage.walk("EUR/USD", None, rounds=14, seconds=15)
        position = await the_position(stage)
        assert (position.status, position.missing_since) == (PositionStatus.OPEN, None)
