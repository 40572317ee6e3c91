"""The rules can be broken: what each of them is there for is found once somebody does it."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import pytest
from sqlalchemy import update

from app.brokers.metatrader.marks import client_order_id, magic_of
from app.domain.exits import Protection
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.store.orders import Order
from app.store.positions import Position
from app.store.schema import new_id
from tests.servers import Databases
from tests.stateful import rules
from tests.stateful.crypto import Crypto
from tests.stateful.fx import Fx
from tests.stateful.rules import State
from tests.stateful.run import Broken, Run
from tests.stateful.steps import CloseAll, Publish, Terms
from tests.stateful.test_programs import opened_ground
from tests.venues.metatrader.accounts import Operation
from tests.venues.metatrader.server import Wish
from tests.venues.orders import Order as VenueOrder

OPENED: Final = Publish(1, symbol=0, targets=(("1", "0.5"),))


async def _settled(run: Run, *steps: Any) -> State:
    await run.connect()
    for step in (OPENED, *steps):
        await run.do(step)
    await run.settle()
    await run.check_settled()
    return await rules.read(run.desk.sessions)


async def _say(run: Run, table: type[Any], **values: Any) -> None:
    """Let every row of the database say something else."""
    async with run.desk.sessions.begin() as session:
        await session.execute(update(table).values(**values))


class TestAtAnExchange:
    """The venue's ledger is meddled with, or the database."""

    async def test_a_stop_that_is_not_there(self, databases: Databases) -> None:
        async with opened_ground(databases, "binanceusdm") as ground:
            run = Run(ground, Terms())
            [position] = (await _settled(run)).positions
            await ground.cancel_by_hand(position)
            with pytest.raises(Broken, match="unprotected"):
                await run.check_settled()

    async def test_a_stop_that_nobody_watches(self, databases: Databases) -> None:
        async with opened_ground(databases, "binanceusdm") as ground:
            run = Run(ground, Terms())
            await _settled(run)
            await _say(run, Position, unprotected_since=run.desk.now())
            with pytest.raises(Broken, match="unprotected"):
                await run.check_settled()

    async def test_a_close_that_is_carried_out_twice(self, databases: Databases) -> None:
        async with opened_ground(databases, "bybit-swap") as ground:
            assert isinstance(ground, Crypto)
            run = Run(ground, Terms())
            state = await _settled(run, CloseAll())
            [close] = [row for row in state.orders if row.purpose is Purpose.CLOSE]
            [sold] = ground.stage.ledger.known_as(close.client_order_id or "")
            again = VenueOrder(sold.market, sold.client_id, sold.side, sold.quantity, words=sold.words)
            ground.stage.floor.place(ground.stage.ledger, again)
            with pytest.raises(Broken, match=r"double close(.|\n)*reversed"):
                await run.check("now")

    async def test_an_order_that_nobody_knows(self, databases: Databases) -> None:
        async with opened_ground(databases, "binance-spot") as ground:
            assert isinstance(ground, Crypto)
            run = Run(ground, Terms())
            state = await _settled(run)
            [entry] = [row for row in state.orders if row.purpose is Purpose.ENTRY]
            [bought] = ground.stage.ledger.known_as(entry.client_order_id or "")
            other = VenueOrder(bought.market, "whose", bought.side, bought.quantity, words=bought.words)
            ground.stage.floor.place(ground.stage.ledger, other)
            with pytest.raises(Broken, match=r"orphan(.|\n)*the venue holds"):
                await run.check_settled()

    async def test_a_leg_that_is_left_behind(self, databases: Databases) -> None:
        async with opened_ground(databases, "binance-spot") as ground:
            run = Run(ground, Terms())
            await _settled(run)
            await _say(run, Position, status=PositionStatus.CLOSED)
            with pytest.raises(Broken, match="left behind"):
                await run.check_settled()

    async def test_money_that_is_in_no_figure(self, databases: Databases) -> None:
        async with opened_ground(databases, "binance-spot") as ground:
            run = Run(ground, Terms())
            await _settled(run, CloseAll())
            await run.check_flat()
            await _say(run, Position, realized_pnl=Position.realized_pnl + Decimal("0.000001"))
            with pytest.raises(Broken, match="money"):
                await run.check_flat()

    async def test_something_that_is_left_open(self, databases: Databases) -> None:
        async with opened_ground(databases, "bybit-spot") as ground:
            run = Run(ground, Terms())
            await _settled(run)
            with pytest.raises(Broken, match="open"):
                await run.check_flat()


async def test_on_paper_a_quantity_that_is_not_true(databases: Databases) -> None:
    async with opened_ground(databases, "paper-swap") as ground:
        run = Run(ground, Terms())
        await _settled(run)
        await _say(run, Position, remaining_quantity=Position.remaining_quantity - Decimal("0.01"))
        with pytest.raises(Broken, match="untruthful"):
            await run.check_settled()


class TestAtABroker:
    """The same where nothing has a client id."""

    async def test_an_entry_that_is_carried_out_twice(self, databases: Databases) -> None:
        async with opened_ground(databases, "mt5-hedging") as ground:
            assert isinstance(ground, Fx)
            run = Run(ground, Terms())
            [entry] = (row for row in (await _settled(run)).orders if row.purpose is Purpose.ENTRY)
            server, login = ground.stage.venue.mt5.server, ground.stage.login
            magic = magic_of(client_order_id(entry.id, entry.attempt))
            server.send(login, Wish(server.market("EURUSD"), Operation.BUY, entry.quantity, magic))
            with pytest.raises(Broken, match="duplicate"):
                await run.check("now")

    async def test_a_stop_that_is_not_there(self, databases: Databases) -> None:
        async with opened_ground(databases, "mt4") as ground:
            run = Run(ground, Terms())
            [position] = (await _settled(run)).positions
            await ground.cancel_by_hand(position)
            with pytest.raises(Broken, match="unprotected"):
                await run.check_settled()


def _order(**fields: Any) -> Order:
    given = {"id": new_id(), "execution_id": new_id(), "status": OrderStatus.OPEN, "attempt": 1, **fields}
    return Order(**given)


def _state(orders: Sequence[Order], positions: Sequence[Position] = ()) -> State:
    return State((), orders, positions)


def test_one_close_of_a_position_at_a_time_except_in_review() -> None:
    closes = [_order(purpose=Purpose.CLOSE, position_id=1, status=OrderStatus.SENDING) for _ in range(2)]
    assert [rule for rule, _ in rules.closes(closes)] == ["two closes"]
    closes[0].status = OrderStatus.NEEDS_REVIEW
    assert rules.closes(closes) == []


@pytest.mark.parametrize(
    ("two", "three"),
    [
        (Terms(max_open_positions=2), Terms(max_open_positions=3)),
        (Terms(max_daily_trades=2), Terms(max_daily_trades=3)),
    ],
)
def test_a_limit_is_a_limit(two: Terms, three: Terms) -> None:
    entries = [_order(purpose=Purpose.ENTRY) for _ in range(3)]
    assert [rule for rule, _ in rules.limits(_state(entries), two)] == ["limit"]
    assert rules.limits(_state(entries), three) == []


def test_a_position_that_nobody_protects_counts_as_open() -> None:
    held = Position(
        execution_id=new_id(), status=PositionStatus.OPEN, protection=Protection.NONE, symbol="BTC/USDT"
    )
    assert _state((), [held]).entered == {held.execution_id}
