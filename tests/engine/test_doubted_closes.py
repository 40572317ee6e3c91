"""A close of which nobody knows what became leaves no stop switched off, is told, and sells nothing twice."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from app.domain.errors import Conflict
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType
from app.domain.money import ZERO
from app.domain.orders import FINAL, OrderStatus, OrderType, Purpose, Side
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.store.notifications import NotificationType
from tests.desks import START
from tests.engine.signals import change, execute_all, publish
from tests.engine.stages import OnPaper, at_exchange, flat, on_paper
from tests.faults import Fault
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import ANSWER_LOST, REQUEST_LOST, looks, of_order, places, server_error
from tests.venues.faults import Fault as WireFault

DOWN = server_error(executed=False)
LOST = [Fault.ANSWER_LOST, Fault.REQUEST_LOST]
CANDLES = [*flat("20000", 600), *flat("18400", 3000)]
TENTH, REST = Decimal("0.01"), Decimal("0.09")


@pytest.fixture
async def paper(database_url: str, tmp_path: Path) -> AsyncIterator[OnPaper]:
    async with on_paper(database_url, tmp_path, CANDLES) as stage:
        # Only what leaves now goes wrong, never a leg that waits.
        stage.venue.pick = lambda request: request.reduce_only and request.type is OrderType.MARKET
        yield stage


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges; their clock stands where a test's own does."""
    async with running_exchange(start=START) as exchange:
        yield exchange
        exchange.audit()


async def _open(paper: OnPaper, **terms: object) -> None:
    await paper.connect(**terms)
    await publish(paper.desk, stop_loss="18500")
    await execute_all(paper.desk)


async def _doubt(paper: OnPaper, fault: Fault, portion: str | None = "0.1") -> None:
    """Close a portion; its outcome is lost, and the venue answers no look-up."""
    paper.venue.faults.append(fault)
    paper.venue.blind = True
    await paper.close(portion)


async def _reviews(paper: OnPaper) -> list[str]:
    """What the owner was told of closes in review."""
    return [told for told in await paper.told(NotificationType.ERROR) if "needs your review" in told]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("fault", LOST)
async def test_a_swap_position_is_protected_as_a_whole_while_its_close_is_in_review(
    paper: OnPaper, fault: Fault, native: bool
) -> None:
    await _open(paper, protection={"native": native})
    paper.venue.secretive = True
    await _doubt(paper, fault)
    position = await paper.position()
    assert (position.protection, position.unprotected_since) == (Protection.SOFTWARE, paper.desk.now())
    assert await paper.told(NotificationType.ERROR) == []

    await paper.rounds(7)
    [close] = await paper.orders(Purpose.CLOSE)
    assert close.status is OrderStatus.NEEDS_REVIEW
    [told] = await _reviews(paper)
    assert told == (
        "BTC/USDT:USDT: closing order needs your review: The venue cannot say whether the closing order of 0.01 "
        "BTC/USDT:USDT was placed; please look there. The engine goes on asking, and protects what that order does "
        "not cover."
    )
    position = await paper.position()
    assert position.status is PositionStatus.OPEN
    assert position.protection is (Protection.NATIVE if native else Protection.SOFTWARE)
    assert position.unprotected_since is None
    assert Decimal(29) < position.unprotected_seconds < Decimal(45)
    assert [leg.quantity for leg in await paper.standing()] == ([Decimal("0.1")] if native else [])

    await paper.advance(600)
    await paper.rounds(4)
    assert len(await _reviews(paper)) == 1
    paper.venue.blind = paper.venue.secretive = False
    assert await paper.held() == [], "the stop was reached"
    await paper.rounds(20)
    position = await paper.position()
    assert (position.status, position.dust) == (PositionStatus.CLOSED, ZERO)
    sold = await paper.orders(Purpose.CLOSE) + await paper.orders(Purpose.PROTECTION)
    assert sum((order.filled_quantity for order in sold), ZERO) == Decimal("0.1")
    assert all(order.status in FINAL for order in sold)


@pytest.mark.parametrize("portion", ["0.1", None])
async def test_two_looks_at_what_is_held_settle_a_close_that_was_executed(
    paper: OnPaper, portion: str | None
) -> None:
    await _open(paper)
    await _doubt(paper, Fault.ANSWER_LOST, portion)
    await paper.rounds(20)
    [close] = await paper.orders(Purpose.CLOSE)
    quantity = Decimal("0.1") if portion is None else TENTH
    assert (close.status, close.filled_quantity) == (OrderStatus.FILLED, quantity)
    assert close.average_price == 20000
    assert close.fees == {"USDT": "2" if portion is None else "0.2"}
    position = await paper.position()
    assert position.pnl_complete
    if portion is None:
        assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
    else:
        assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, REST)
        assert [leg.quantity for leg in await paper.standing()] == [REST]

    paper.venue.blind = False
    await paper.rounds(20)
    assert (await paper.position()).remaining_quantity == position.remaining_quantity


@pytest.mark.parametrize("portion", ["0.1", None])
async def test_two_looks_at_what_is_held_settle_a_close_that_never_arrived(
    paper: OnPaper, portion: str | None
) -> None:
    await _open(paper)
    await _doubt(paper, Fault.REQUEST_LOST, portion)
    await paper.rounds(20)
    [close] = await paper.orders(Purpose.CLOSE)
    assert (close.status, close.attempt) == (OrderStatus.FILLED, 2), "it was sent again, and only then"
    position = await paper.position()
    assert position.remaining_quantity == (ZERO if portion is None else REST)
    assert sum((each.quantity for each in await paper.held()), ZERO) == position.remaining_quantity


async def test_what_somebody_else_holds_beside_ours_settles_nothing(paper: OnPaper) -> None:
    await _open(paper)
    await _doubt(paper, Fault.ANSWER_LOST)
    await paper.hand("BTC/USDT:USDT", Side.BUY, "0.03")
    await paper.rounds(30)
    [close] = await paper.orders(Purpose.CLOSE)
    assert close.status is OrderStatus.NEEDS_REVIEW
    assert [leg.quantity for leg in await paper.standing()] == [Decimal("0.1")]


async def test_an_owner_closes_the_rest_beside_a_close_in_review(paper: OnPaper) -> None:
    await _open(paper)
    paper.venue.secretive = True
    await _doubt(paper, Fault.ANSWER_LOST)
    await paper.rounds(7)
    await paper.close()
    paper.venue.blind = paper.venue.secretive = False
    assert await paper.held() == []
    await paper.rounds(20)
    position = await paper.position()
    assert (position.status, position.remaining_quantity, position.dust) == (
        PositionStatus.CLOSED,
        ZERO,
        ZERO,
    )


async def test_one_close_after_another_in_doubt_is_given_more_time_and_one_word(paper: OnPaper) -> None:
    await _open(paper, protection={"native": False})
    paper.venue.blind = paper.venue.secretive = True
    paper.venue.faults.extend([Fault.REQUEST_LOST] * 50)
    await paper.advance(600)
    await paper.rounds(80, seconds=15)
    closes = await paper.orders(Purpose.CLOSE)
    assert 4 <= len(closes) <= 7, "twenty minutes: after 30 s, 1, 2, 4 and 8 minutes"
    assert len(await _reviews(paper)) == 1
    paper.venue.faults.clear()
    paper.venue.blind = paper.venue.secretive = False
    await paper.rounds(30)
    position = await paper.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    closes = await paper.orders(Purpose.CLOSE)
    assert sum((order.filled_quantity for order in closes), ZERO) == Decimal("0.1")
    assert all(order.status in FINAL for order in closes)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("fault", LOST)
async def test_coins_that_a_close_in_review_may_have_sold_are_not_sold_again(
    paper: OnPaper, fault: Fault, native: bool
) -> None:
    await _open(paper, market_type=MarketType.SPOT, leverage=None, protection={"native": native})
    await paper.hand("BTC/USDT", Side.BUY, "0.1")
    await _doubt(paper, fault)
    await paper.rounds(7)
    position = await paper.position()
    assert position.doubtful_quantity == TENTH
    assert position.protection is (Protection.NATIVE if native else Protection.SOFTWARE)
    assert position.unprotected_since is not None, "what may have been sold is watched by nobody"
    assert [leg.quantity for leg in await paper.standing()] == ([REST] if native else [])

    await paper.advance(600)
    await paper.rounds(4)
    position = await paper.position()
    assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, TENTH)
    assert position.protection is Protection.NONE
    [held] = await paper.held()
    assert held.quantity >= Decimal("0.1"), "the owner's own coins are there"

    paper.venue.blind = False
    await paper.rounds(20)
    position = await paper.position()
    assert (position.status, position.dust) == (PositionStatus.CLOSED, ZERO)
    assert [each.quantity for each in await paper.held()] == [Decimal("0.1")]


async def test_a_spot_position_of_which_all_is_in_doubt_takes_no_other_close(paper: OnPaper) -> None:
    await _open(paper, market_type=MarketType.SPOT, leverage=None)
    await _doubt(paper, Fault.REQUEST_LOST, None)
    await paper.rounds(7)
    position = await paper.position()
    assert (position.status, position.protection) == (PositionStatus.OPEN, Protection.NONE)
    assert position.unprotected_since is not None
    with pytest.raises(Conflict, match="in review"):
        await paper.close()
    await change(paper.desk, EventType.CLOSED)
    await execute_all(paper.desk)
    await paper.rounds(10)
    assert len(await paper.orders(Purpose.CLOSE)) == 1
    paper.venue.blind = False
    await paper.rounds(20)
    position = await paper.position()
    assert position.status is PositionStatus.CLOSED
    assert await paper.held() == []


@pytest.mark.parametrize("fault", [ANSWER_LOST, REQUEST_LOST])
@pytest.mark.parametrize("exchange", ["binanceusdm", "bybit"])
async def test_an_exchange_that_answers_no_look_up_has_its_books_believed(
    database_url: str, venue: Exchange, exchange: str, fault: WireFault
) -> None:
    async with at_exchange(database_url, venue, exchange, MarketType.SWAP) as scene:
        await scene.connect()
        await publish(scene.desk, stop_loss="18500")
        await execute_all(scene.desk)
        await scene.rounds(12)
        venue.faults.add(fault, places)
        venue.faults.policy = lambda request: DOWN if venue.faults.struck and looks(request) else None
        await scene.close("0.1")
        await scene.rounds(8)
        [close] = await scene.orders(Purpose.CLOSE)
        assert close.status is OrderStatus.NEEDS_REVIEW
        assert [leg.quantity for leg in await scene.standing()] == [Decimal("0.1")]

        only_it = of_order(close.client_order_id or "")
        venue.faults.policy = lambda request: DOWN if looks(request) and only_it(request) else None
        await scene.rounds(24)
        [close] = await scene.orders(Purpose.CLOSE)
        assert (close.status, close.filled_quantity) == (OrderStatus.FILLED, TENTH)
        assert close.attempt == (1 if fault is ANSWER_LOST else 2)
        position = await scene.position()
        assert (position.remaining_quantity, position.protection) == (REST, Protection.NATIVE)
        assert [leg.quantity for leg in await scene.standing()] == [REST]
        assert sum(held.quantity for held in scene.account.open_positions) == REST
