"""What owners do at their terminals while the engine looks after the same positions."""

from collections.abc import AsyncIterator
from decimal import Decimal
from uuid import UUID

import pytest

from app.domain.exits import CloseReason, Protection
from app.domain.money import ZERO
from app.domain.orders import FINAL, OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.engine import closing, monitoring
from app.engine.protection import PlanChange, edit_plan
from app.store.executions import ExecutionStatus
from app.store.positions import Position
from tests.desks import USER
from tests.engine.metatrader import ACCOUNTS, Stage, opened_stage
from tests.engine.signals import execute_all, executions, orders, positions, publish, sweep_all
from tests.venues import faults
from tests.venues.metatrader.accounts import Operation
from tests.venues.metatrader.accounts import Position as Ticket
from tests.venues.metatrader.server import Wish

D = Decimal
HEDGING = [name for name in ACCOUNTS if name != "mt5-netting"]


@pytest.fixture(params=HEDGING)
async def stage(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Stage]:
    """An active hedging account of 10,000 USD on each platform in turn."""
    async with opened_stage(database_url, request.param) as opened:
        await opened.activate()
        yield opened


async def enter(stage: Stage, source: str = "s1", stop_loss: str = "1.09") -> Position:
    """Half a lot of EUR/USD, protected and settled."""
    await publish(stage.desk, source, symbol="EUR/USD", stop_loss=stop_loss, targets=[("1.2", "1")])
    await execute_all(stage.desk)
    await stage.walk("EUR/USD", None, rounds=2, seconds=15)
    position = (await positions(stage.desk))[-1]
    assert position.protection is Protection.NATIVE
    return position


def by_hand(stage: Stage, ticket: Ticket, lots: str = "0") -> None:
    """Close a ticket at the terminal, or a part of it."""
    stage.venue.bridge(stage.platform).server.close(stage.login, ticket, D(lots))


def the_ticket(stage: Stage) -> Ticket:
    """The only one that is open."""
    [ticket] = stage.login.positions.values()
    return ticket


async def close(stage: Stage, position_id: UUID, portion: str | None = None) -> None:
    """Ask for a close, and carry it out."""
    wanted = None if portion is None else D(portion)
    await closing.request_close(stage.desk, USER, position_id, wanted, idempotency_key=None)
    await execute_all(stage.desk)


def is_closed(position: Position) -> bool:
    """Whether it has ended."""
    return position.status is PositionStatus.CLOSED


async def until_closed(stage: Stage) -> Position:
    """Go on until the only position has ended; the books agree to the cent."""
    position = await stage.until(is_closed)
    assert stage.login.positions == {}
    assert position.pnl_complete
    assert position.realized_pnl == stage.login.realized
    await stage.walk("EUR/USD", None, rounds=3, seconds=15)
    assert all(order.status in FINAL for order in await orders(stage.desk))
    return position


async def test_what_is_closed_by_hand_is_that_position_and_no_other(stage: Stage) -> None:
    first = await enter(stage, "one", "1.09")
    second = await enter(stage, "two", "1.08")
    older, newer = (stage.login.positions[number] for number in sorted(stage.login.positions))
    by_hand(stage, older)
    for _ in range(12):
        await stage.walk("EUR/USD", None, rounds=1, seconds=10)
        assert (newer.stop_loss, newer.take_profit) == (D("1.08"), D("1.2"))
    by_id = {each.id: each for each in await positions(stage.desk)}
    ended, left = by_id[first.id], by_id[second.id]
    assert (ended.status, ended.close_reason) == (PositionStatus.CLOSED, CloseReason.EXTERNAL)
    assert ended.realized_pnl == stage.login.realized
    assert (left.status, left.remaining_quantity, left.protection) == (
        PositionStatus.OPEN,
        D("0.5"),
        Protection.NATIVE,
    )
    assert not [call for call in stage.venue.calls("OrderModifySafe") if "stoploss=0&" in call.query]


async def test_positions_of_the_owners_own_make_up_for_nothing(stage: Stage) -> None:
    """The account holds as much as before, and not of ours."""
    await enter(stage)
    ours = the_ticket(stage)
    server = stage.venue.bridge(stage.platform).server
    server.send(stage.login, Wish(server.market("EURUSD"), Operation.BUY, D("0.5"), 0, "mine"))
    by_hand(stage, ours)
    await stage.walk("EUR/USD", None, rounds=10, seconds=15)
    [position] = await positions(stage.desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.EXTERNAL)
    assert the_ticket(stage).comment == "mine"


@pytest.mark.parametrize("says_origin", [True, False])
async def test_parts_closed_by_hand_do_not_lose_the_rest(stage: Stage, *, says_origin: bool) -> None:
    stage.venue.bridge(stage.platform).server.rest_says_origin = says_origin
    opened = await enter(stage)
    for left in ("0.4", "0.3"):
        by_hand(stage, the_ticket(stage), "0.1")
        await stage.walk("EUR/USD", None, rounds=8, seconds=15)
        [position] = await positions(stage.desk)
        assert position.remaining_quantity == D(left) == the_ticket(stage).lots
        assert position.protection is Protection.NATIVE
        assert the_ticket(stage).stop_loss == D("1.09")
    await close(stage, opened.id)
    position = await until_closed(stage)
    assert position.close_reason is CloseReason.MANUAL


class TestJustBefore:
    """A part is closed by hand less than a minute before we close, and nobody has looked in between."""

    async def test_the_rest_is_closed_and_the_part_is_booked_as_the_owners(self, stage: Stage) -> None:
        opened = await enter(stage)
        await stage.venue.advance(60)
        by_hand(stage, the_ticket(stage), "0.2")
        await stage.venue.advance(10)
        await close(stage, opened.id)
        await until_closed(stage)
        closes = [each for each in await orders(stage.desk) if each.purpose is Purpose.CLOSE]
        assert sorted((each.filled_quantity, each.reason) for each in closes) == [
            (D("0.2"), CloseReason.EXTERNAL),
            (D("0.3"), CloseReason.MANUAL),
        ]
        assert [each.attempt for each in closes if each.reason is CloseReason.MANUAL] == [1]

    @pytest.mark.parametrize("keeps_comments", [True, False])
    @pytest.mark.parametrize("portion", [None, "0.4"])
    async def test_what_the_owner_closed_is_not_taken_for_our_lost_request(
        self, stage: Stage, portion: str | None, *, keeps_comments: bool
    ) -> None:
        stage.venue.bridge(stage.platform).server.keeps_comments = keeps_comments
        opened = await enter(stage)
        await stage.venue.advance(60)
        by_hand(stage, the_ticket(stage), "0.2")
        await stage.venue.advance(10)
        stage.venue.faults.add(faults.REQUEST_LOST, faults.leaves)
        await close(stage, opened.id, portion)
        if portion is None:
            await until_closed(stage)
            return
        position = await stage.until(lambda position: position.remaining_quantity == D("0.1"))
        assert position.remaining_quantity == the_ticket(stage).lots == D("0.1")
        [ours] = [each for each in await orders(stage.desk) if each.reason is CloseReason.MANUAL]
        assert (ours.status, ours.attempt, ours.filled_quantity) == (OrderStatus.FILLED, 2, D("0.2"))

    async def test_a_part_closed_by_hand_while_our_answer_is_awaited_is_the_owners(
        self, stage: Stage
    ) -> None:
        """What left the position afterwards is told from what our close took of it."""
        opened = await enter(stage)
        stage.venue.faults.add(faults.ANSWER_LOST, faults.leaves)
        stage.venue.bridge(stage.platform).history_lag = 30
        await close(stage, opened.id, "0.4")
        by_hand(stage, the_ticket(stage), "0.1")
        await stage.walk("EUR/USD", None, rounds=16, seconds=15)
        [position] = await positions(stage.desk)
        assert position.remaining_quantity == the_ticket(stage).lots == D("0.2")
        [ours] = [each for each in await orders(stage.desk) if each.reason is CloseReason.MANUAL]
        assert (ours.status, ours.attempt, ours.filled_quantity) == (OrderStatus.FILLED, 1, D("0.2"))
        assert len(stage.venue.calls("OrderCloseSafe")) == 1


class TestNetting:
    @pytest.fixture
    async def netting(self, database_url: str) -> AsyncIterator[Stage]:
        """An active netting account, at a broker that charges commission."""
        async with opened_stage(database_url, "mt5-netting", commission="3") as opened:
            await opened.activate()
            yield opened

    def add(self, stage: Stage, lots: str) -> None:
        """More of the same, by the owner's hand."""
        server = stage.venue.mt5.server
        server.send(stage.login, Wish(server.market("EURUSD"), Operation.BUY, D(lots), 0))

    async def test_of_what_the_stop_takes_only_our_share_is_booked(self, netting: Stage) -> None:
        await enter(netting)
        self.add(netting, "1.5")
        # The owner's order takes over what the position is called, not its levels.
        netting.venue.roll_over()
        await netting.walk("EUR/USD", None, rounds=6, seconds=15)
        await netting.walk("EUR/USD", "1.0899", rounds=6, seconds=15)
        assert netting.login.positions == {}
        [position] = await positions(netting.desk)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
        out = netting.login.deals[-1]
        assert (out.lots, position.quantity) == (D(2), D("0.5"))
        # A quarter of what was booked for all of it, and our own way in.
        assert position.gross_pnl == out.profit / 4
        assert position.funding == out.swap / 4
        assert position.fees == D("1.5") - out.commission / 4

    async def test_our_part_is_closed_once_and_the_owners_stays(self, netting: Stage) -> None:
        opened = await enter(netting)
        self.add(netting, "1.5")
        await netting.walk("EUR/USD", None, rounds=6, seconds=15)
        netting.venue.mt5.history_lag = 120
        netting.venue.faults.add(faults.ANSWER_LOST, faults.leaves)
        await close(netting, opened.id)
        position = await netting.until(is_closed)
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
        assert len(netting.venue.calls("OrderCloseSafe")) == 1
        assert the_ticket(netting).lots == D("1.5")
        # What is left is the owner's, with the stop it has: nothing more is done to it.
        modified = len(netting.venue.calls("OrderModifySafe"))
        await netting.walk("EUR/USD", None, rounds=6, seconds=15)
        assert len(netting.venue.calls("OrderModifySafe")) == modified
        assert all(order.status in FINAL for order in await orders(netting.desk))

    @pytest.mark.parametrize("told", ["Default", ""])
    @pytest.mark.parametrize("account", ["mt5-netting", "mt5-hedging"])
    async def test_an_account_that_does_not_say_that_it_hedges_is_taken_to_net(
        self, database_url: str, account: str, told: str
    ) -> None:
        async with opened_stage(database_url, account) as stage:
            stage.venue.mt5.method_told = told
            await stage.activate()
            await publish(stage.desk, "one", symbol="EUR/USD")
            await publish(stage.desk, "two", symbol="EUR/USD", direction="sell")
            await execute_all(stage.desk)
            [first, second] = await executions(stage.desk)
            assert (first.status, second.code) == (ExecutionStatus.EXECUTED, "opposite_position")
            assert len(stage.login.positions) == 1


async def test_a_round_watches_on_while_a_history_is_late(stage: Stage) -> None:
    """A part closed by hand that the history does not show for a while is booked, and the rest stays protected."""
    await enter(stage)
    stage.venue.bridge(stage.platform).history_lag = 300
    by_hand(stage, the_ticket(stage), "0.2")
    for _ in range(12):
        await stage.venue.advance(15)
        await monitoring.watch(stage.desk)
        await execute_all(stage.desk)
        await sweep_all(stage.desk)
        assert the_ticket(stage).stop_loss == D("1.09")
    [position] = await positions(stage.desk)
    assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, D("0.3"))


def take_the_stop_off(stage: Stage) -> None:
    """The owner's hand, which leaves the target where it is."""
    ticket = the_ticket(stage)
    server = stage.venue.bridge(stage.platform).server
    server.modify(stage.login, ticket.ticket, stop_loss=ZERO, take_profit=ticket.take_profit)
    assert the_ticket(stage).stop_loss == ZERO


async def rounds_until_the_stop_is_back(stage: Stage, stop: str) -> int:
    """How many rounds of five seconds it takes."""
    for count in range(1, 40):
        await stage.walk("EUR/USD", None, rounds=1, seconds=4)
        if the_ticket(stage).stop_loss == D(stop):
            return count
    raise AssertionError("it is not put back")


async def test_a_stop_taken_off_by_hand_is_back_within_a_minute_however_new_it_is(stage: Stage) -> None:
    await publish(stage.desk, symbol="EUR/USD", stop_loss="1.09", targets=[("1.2", "1")])
    await execute_all(stage.desk)
    await stage.walk("EUR/USD", None, rounds=1, seconds=4)
    take_the_stop_off(stage)
    assert await rounds_until_the_stop_is_back(stage, "1.09") <= 12

    # The same of another stop, which the monitor has seen once since it was set.
    [position] = await positions(stage.desk)
    change = PlanChange(frozenset({"stop_loss"}), stop_loss=D("1.095"))
    await edit_plan(stage.desk, USER, position.id, change)
    await execute_all(stage.desk)
    await stage.walk("EUR/USD", None, rounds=1, seconds=4)
    assert the_ticket(stage).stop_loss == D("1.095")
    take_the_stop_off(stage)
    assert await rounds_until_the_stop_is_back(stage, "1.095") <= 12
    [position] = await positions(stage.desk)
    assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NATIVE)
