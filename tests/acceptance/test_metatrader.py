"""A signal on both MetaTrader platforms: executed, protected by the broker, left in parts and whole; PnL as booked."""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from app.domain.exits import CloseReason, Protection
from app.domain.market import QuantityUnit
from app.domain.orders import OrderStatus, OrderType, Purpose
from app.domain.positions import PositionStatus
from app.engine import closing
from app.store.executions import ExecutionStatus
from tests.desks import USER
from tests.engine.metatrader import ACCOUNTS, Stage, opened_stage
from tests.engine.signals import execute_all, executions, orders, positions, publish

D = Decimal


@pytest.fixture(params=ACCOUNTS)
async def stage(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Stage]:
    """An account of 10,000 EUR with a commission of 3.5 a lot and side, on each platform in turn."""
    async with opened_stage(
        database_url, request.param, currency="EUR", commission="3.5", suffix="m"
    ) as opened:
        yield opened


async def test_a_ladder_is_taken_and_the_books_agree_to_the_cent(stage: Stage) -> None:
    await stage.activate()
    await publish(
        stage.desk, symbol="EUR/USD", stop_loss="1.095", targets=[("1.105", "0.4"), ("1.11", "0.6")]
    )
    await execute_all(stage.desk)

    [execution] = await executions(stage.desk)
    assert (execution.status, execution.code) == (ExecutionStatus.EXECUTED, None), execution.message
    [position] = await positions(stage.desk)
    assert (position.symbol, position.currency, position.quantity_unit) == (
        "EURUSDm",
        "EUR",
        QuantityUnit.LOTS,
    )
    assert (position.quantity, position.entry_price) == (D("0.5"), D("1.1001"))
    assert position.protection is Protection.NATIVE
    [leg] = [each for each in await orders(stage.desk) if each.purpose is Purpose.PROTECTION]
    assert (leg.type, leg.status, leg.trigger_price, leg.price) == (
        OrderType.OCO,
        OrderStatus.OPEN,
        D("1.095"),
        D("1.11"),
    )
    [held] = stage.login.positions.values()
    assert (held.stop_loss, held.take_profit) == (D("1.095"), D("1.11"))
    # It was protected from its first moment: the order itself carried both.
    assert stage.venue.calls("OrderModifySafe") == []

    stage.venue.roll_over()
    await stage.walk("EUR/USD", "1.1052")
    [position] = await positions(stage.desk)
    assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, D("0.3"))
    assert position.protection is Protection.NATIVE
    [held] = stage.login.positions.values()
    assert (held.lots, held.stop_loss, held.take_profit) == (D("0.3"), D("1.095"), D("1.11"))

    await stage.walk("EUR/USD", "1.1101")
    [position] = await positions(stage.desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.TAKE_PROFIT)
    assert stage.login.positions == {}
    assert position.realized_pnl == stage.login.realized
    assert position.funding == sum(deal.swap for deal in stage.login.deals) != 0
    assert position.fees == D("3.5")
    assert position.gross_pnl > D(350)
    assert position.pnl_complete
    assert all(not each.is_live for each in await orders(stage.desk))


async def test_the_broker_stops_what_was_partly_closed_by_hand(stage: Stage) -> None:
    await stage.activate()
    await publish(stage.desk, symbol="EURUSD", direction="sell", stop_loss="1.105", targets=[("1.08", "1")])
    await execute_all(stage.desk)
    [position] = await positions(stage.desk)
    await closing.request_close(stage.desk, USER, position.id, D("0.5"), idempotency_key="half")
    await execute_all(stage.desk)
    [position] = await positions(stage.desk)
    assert (position.remaining_quantity, position.protection) == (D("0.25"), Protection.NATIVE)
    await stage.walk("EUR/USD", "1.1075")
    [position] = await positions(stage.desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    assert position.realized_pnl == stage.login.realized < 0
    assert len(stage.venue.calls("OrderCloseSafe")) == 1


async def test_an_owner_closes_everything(stage: Stage) -> None:
    await stage.activate()
    await publish(stage.desk, symbol="EURUSD", stop_loss="1.09")
    await execute_all(stage.desk)
    [position] = await positions(stage.desk)
    await closing.request_close(stage.desk, USER, position.id, None, idempotency_key=None)
    await execute_all(stage.desk)
    [position] = await positions(stage.desk)
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
    assert position.realized_pnl == stage.login.realized
    await stage.walk("EUR/USD", "1.08")
    assert all(not each.is_live for each in await orders(stage.desk))
