"""Whoever wants a position closed gets it closed in the end: what is in the way of it only makes it later."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import update

from app.brokers.port import Refused
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.money import ZERO
from app.domain.orders import FINAL, LIVE, OrderStatus, Purpose, Side
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import halting
from app.store.notifications import NotificationType
from app.store.orders import Order
from tests.desks import START, USER
from tests.engine.signals import change, execute_all, publish
from tests.engine.stages import AtExchange, OnPaper, at_exchange, flat, on_paper
from tests.faults import Fault
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import places

CANDLES = [*flat("20000", 600), *flat("16900", 600)]
LATER = START + timedelta(hours=2)
CLOSED_MARKET = Refused("Market is closed.", code="market_closed")


@pytest.fixture
async def paper(database_url: str, tmp_path: Path) -> AsyncIterator[OnPaper]:
    async with on_paper(database_url, tmp_path, CANDLES) as stage:
        stage.venue.pick = lambda request: request.reduce_only
        yield stage


async def _open(paper: OnPaper) -> None:
    await paper.connect()
    await publish(paper.desk, stop_loss="17000")
    await execute_all(paper.desk)


async def _assert_closed(paper: OnPaper, reason: CloseReason) -> None:
    position = await paper.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, reason)
    assert await paper.held() == []
    closes = await paper.orders(Purpose.CLOSE)
    assert all(order.status in FINAL for order in closes)
    assert sum(order.filled_quantity for order in closes) == position.quantity


@pytest.mark.parametrize("portion", [None, "0.5"])
async def test_a_close_of_the_source_that_is_refused_is_sent_until_it_is_taken(
    paper: OnPaper, portion: str | None
) -> None:
    await _open(paper)
    paper.venue.refusal = CLOSED_MARKET
    paper.venue.faults.extend([Fault.REFUSED] * 4)
    await change(paper.desk, EventType.CLOSED, **({} if portion is None else {"portion": portion}))
    await execute_all(paper.desk)
    [close] = await paper.orders(Purpose.CLOSE)
    assert (close.status, close.code) == (OrderStatus.PENDING, "market_closed")
    [told] = await paper.told(NotificationType.ERROR)
    assert told == (
        "BTC/USDT:USDT: closing order refused (market closed): The venue refused the closing order: "
        "Market is closed. It is sent again until the venue takes it."
    )
    await paper.rounds(20)
    if portion is None:
        await _assert_closed(paper, CloseReason.SIGNAL)
    else:
        assert (await paper.position()).remaining_quantity == Decimal("0.05")
        assert len(await paper.standing()) == 1
    assert len(await paper.told(NotificationType.ERROR)) == 1


async def test_an_owner_is_told_of_a_refusal_whichever_attempt_met_it_first(paper: OnPaper) -> None:
    await _open(paper)
    paper.venue.refusal = CLOSED_MARKET
    paper.venue.faults.extend([Fault.NOT_EXECUTED, *[Fault.REFUSED] * 3])
    await change(paper.desk, EventType.CLOSED)
    await execute_all(paper.desk)
    assert await paper.told(NotificationType.ERROR) == []
    await paper.rounds(20)
    await _assert_closed(paper, CloseReason.SIGNAL)
    [told] = await paper.told(NotificationType.ERROR)
    assert told.startswith("BTC/USDT:USDT: closing order refused (market closed): ")


async def test_a_stop_goes_before_a_close_of_a_part_that_waits_to_be_sent_again(paper: OnPaper) -> None:
    await _open(paper)
    paper.venue.faults.extend([Fault.REFUSED] * 30)
    await change(paper.desk, EventType.CLOSED, portion="0.5")
    await execute_all(paper.desk)
    await paper.rounds(6)
    position = await paper.position()
    assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.SOFTWARE)
    assert position.unprotected_since is None, "the monitor watches meanwhile"
    assert len(paper.venue.faults) > 20

    paper.venue.faults.clear()
    async with paper.desk.sessions.begin() as session:
        # The next attempt is far away, as after many refusals.
        await session.execute(update(Order).where(Order.status == OrderStatus.PENDING).values(due_at=LATER))
    await paper.advance(600)
    await paper.rounds(1)
    await _assert_closed(paper, CloseReason.STOP_LOSS)


async def test_an_owner_is_told_that_the_market_is_closed(paper: OnPaper) -> None:
    await _open(paper)
    paper.venue.refusal = CLOSED_MARKET
    paper.venue.faults.extend([Fault.NOT_EXECUTED, Fault.REFUSED])
    await paper.close()
    await paper.rounds(3)
    [close] = await paper.orders(Purpose.CLOSE)
    assert (close.status, close.code) == (OrderStatus.REJECTED, "market_closed")
    [told] = await paper.told(NotificationType.ERROR)
    assert told.startswith("BTC/USDT:USDT: closing order refused (market closed): ")
    assert told.endswith(
        "It is not sent again and has closed nothing: close the position again when the market is open."
    )
    assert (await paper.position()).status is PositionStatus.OPEN
    assert len(await paper.standing()) == 1, "its stop is back"

    await paper.close()
    await _assert_closed(paper, CloseReason.MANUAL)


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST, Fault.REFUSED, None])
async def test_close_all_closes_what_a_close_of_a_part_leaves(paper: OnPaper, fault: Fault | None) -> None:
    await _open(paper)
    if fault is not None:
        paper.venue.faults.append(fault)
    connection = await paper.connection()
    if fault is None:
        # Nobody has carried it out yet: it becomes one of everything.
        await paper.intend_close("0.1")
    else:
        await paper.close("0.1")
    cleared = await halting.close_all(paper.desk, USER, connection.id, "enough", owner=USER)
    if fault in (Fault.ANSWER_LOST, Fault.REQUEST_LOST):
        assert [each.message for each in cleared.positions] == [
            "Another close is under way; what it leaves is closed after it."
        ]
    await paper.rounds(8)
    await _assert_closed(paper, CloseReason.MANUAL)


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST])
async def test_the_end_of_a_signal_closes_what_a_close_of_a_part_leaves(paper: OnPaper, fault: Fault) -> None:
    await _open(paper)
    paper.venue.faults.append(fault)
    await paper.close("0.1")
    [part] = await paper.orders(Purpose.CLOSE)
    assert part.status in LIVE
    await change(paper.desk, EventType.CLOSED)
    await execute_all(paper.desk)
    await paper.rounds(8)
    await _assert_closed(paper, CloseReason.SIGNAL)


async def test_the_end_of_a_signal_outlives_an_owners_close_that_is_refused(paper: OnPaper) -> None:
    await _open(paper)
    paper.venue.faults.extend([Fault.NOT_EXECUTED, Fault.REFUSED])
    await paper.close()
    assert (await paper.position()).status is PositionStatus.CLOSING
    await change(paper.desk, EventType.CLOSED)
    await execute_all(paper.desk)
    await paper.rounds(8)
    await _assert_closed(paper, CloseReason.SIGNAL)


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges; their clock stands where a test's own does."""
    async with running_exchange(start=START) as exchange:
        yield exchange
        exchange.audit()


@pytest.mark.parametrize("by", [CloseReason.STOP_LOSS, CloseReason.SIGNAL, CloseReason.MANUAL])
@pytest.mark.parametrize("exchange", ["binance", "bybit"])
async def test_coins_that_the_owners_orders_hold_are_sold_when_they_are_free(
    database_url: str, venue: Exchange, exchange: str, by: CloseReason
) -> None:
    async with at_exchange(database_url, venue, exchange, MarketType.SPOT) as scene:
        await _sell_what_is_free(scene, by)


async def _sell_what_is_free(scene: AtExchange, by: CloseReason) -> None:
    await scene.connect(native=False)
    await publish(scene.desk, stop_loss="19000")
    await execute_all(scene.desk)
    await scene.hand(scene.symbol, Side.SELL, "0.05", price="30000")
    bought = (await scene.position()).quantity

    if by is CloseReason.STOP_LOSS:
        scene.venue.move(scene.symbol, 18900)
    elif by is CloseReason.SIGNAL:
        await change(scene.desk, EventType.CLOSED)
        await execute_all(scene.desk)
    else:
        await scene.close()
    await scene.rounds(4)
    position = await scene.position()
    assert position.status is PositionStatus.CLOSING
    assert Decimal("0.05") <= position.remaining_quantity < Decimal("0.0501"), "what was free is sold"
    [told] = await scene.told(NotificationType.ERROR)
    assert told.endswith(
        "Orders of your own hold some of the BTC: what is free is closed now, the rest as soon as it is free."
    )
    asked = len(scene.venue.requests)
    await scene.rounds(4, seconds=15)
    assert not [r for r in list(scene.venue.requests)[asked:] if places(r)], (
        "nothing is free, and nothing is sent"
    )

    [order] = scene.account.live.values()
    scene.floor.cancel(scene.account, order)
    await scene.rounds(6)
    position = await scene.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, by)
    closes = await scene.orders(Purpose.CLOSE)
    assert sum((close.filled_quantity for close in closes), ZERO) == bought - position.dust
    assert position.dust < Decimal("0.00002")
    assert len(await scene.told(NotificationType.ERROR)) == 1
