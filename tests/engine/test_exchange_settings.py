"""What an owner changes at the exchange between two entries: the next is made as the connection asks, or denied."""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from app.domain.errors import Denied
from app.domain.orders import Side
from app.domain.positions import PositionStatus
from app.domain.signals import EventType, Signal
from app.engine import previewing
from app.store.executions import ExecutionStatus
from tests.desks import USER
from tests.engine.exchanges import SWAP, Stage, opened_stage
from tests.engine.signals import change, execute_all, executions, positions, publish
from tests.venues.orders import Order

BY_HAND = Decimal(50)


@pytest.fixture(params=["binanceusdm", "bybit"])
async def stage(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Stage]:
    """A swap account at each exchange."""
    async with opened_stage(database_url, request.param, SWAP) as opened:
        yield opened


async def _entered_and_left(stage: Stage) -> None:
    """A first position at a leverage of 5, closed again a few seconds later."""
    await publish(stage.desk, "first", stop_loss="18000")
    await execute_all(stage.desk)
    assert stage.ledger.leverage_of(stage.market) == 5
    await change(stage.desk, EventType.CLOSED, "first")
    await execute_all(stage.desk)
    await stage.walk(None, rounds=3)
    [position] = await positions(stage.desk)
    assert position.status is PositionStatus.CLOSED


async def test_an_entry_after_a_change_by_hand_is_made_at_the_connections_leverage(stage: Stage) -> None:
    await stage.activate(leverage=Decimal(5))
    await _entered_and_left(stage)
    stage.ledger.leverage[stage.market.id] = BY_HAND
    await publish(stage.desk, "second", stop_loss="18000")
    await execute_all(stage.desk)
    assert [each.status for each in await executions(stage.desk)] == [ExecutionStatus.EXECUTED] * 2
    assert stage.ledger.leverage_of(stage.market) == 5


async def test_where_an_order_by_hand_keeps_the_leverage_the_entry_is_denied_as_its_preview_says(
    stage: Stage,
) -> None:
    await stage.activate(leverage=Decimal(5))
    await _entered_and_left(stage)
    stage.ledger.leverage[stage.market.id] = BY_HAND
    words = {"type": "LIMIT", "timeInForce": "GTC", "space": "order", "reduceOnly": "False"}
    words |= {"orderType": "Limit", "orderFilter": "Order", "stopOrderType": ""}
    order = Order(stage.market, "by-hand", Side.BUY, Decimal("0.01"), Decimal(15000), words=words)
    stage.floor.place(stage.ledger, order)
    signal = Signal("BTC/USDT", Side.BUY, stop_loss=Decimal(18000))
    [preview] = await previewing.preview(stage.desk, USER, signal, (), stage.desk.now())
    await publish(stage.desk, "second", stop_loss="18000")
    await execute_all(stage.desk)
    denied = (await executions(stage.desk))[1]
    assert (denied.status, denied.code) == (ExecutionStatus.DENIED, "venue_settings_conflict")
    assert isinstance(preview.outcome, Denied)
    assert (preview.outcome.code, preview.outcome.message) == (denied.code, denied.message)
    assert stage.ledger.leverage_of(stage.market) == BY_HAND
    assert [each.client_id for each in stage.ledger.live.values()] == ["by-hand"]


async def test_a_position_mode_switched_by_hand_costs_one_more_attempt(stage: Stage) -> None:
    await stage.activate(leverage=Decimal(5))
    await _entered_and_left(stage)
    stage.ledger.hedged = True
    await publish(stage.desk, "second", stop_loss="18000")
    await execute_all(stage.desk)
    await stage.walk(None, rounds=2)
    execution = (await executions(stage.desk))[1]
    assert (execution.status, execution.attempts) == (ExecutionStatus.EXECUTED, 2)
    [held] = stage.ledger.open_positions
    assert held.book.name == "LONG"
    await change(stage.desk, EventType.CLOSED, "second")
    await execute_all(stage.desk)
    await stage.walk(None, rounds=2)
    assert stage.ledger.open_positions == []
