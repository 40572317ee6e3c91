"""What little a position may come to: nothing that its venue still takes is given up as dust."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from app.brokers.port import Refused
from app.domain.exits import CloseReason
from app.domain.market import MarketType
from app.domain.money import ZERO
from app.domain.orders import OrderStatus, Purpose, Side
from app.domain.positions import PositionStatus
from app.engine import closing
from tests.desks import START, USER
from tests.engine.signals import execute_all, publish
from tests.engine.stages import AtExchange, OnPaper, at_exchange, flat, on_paper
from tests.faults import Fault
from tests.venues.exchange import Exchange, running_exchange

SWAP = "BTC/USDT:USDT"
SWAPS = [("binanceusdm", MarketType.SWAP), ("bybit", MarketType.SWAP)]

# A quarter of a thousandth of a BTC is worth 5.20 at 20000, which may be entered, and 4.94 at 19000.
SMALL = {"strategy": "fixed", "value": "0.00026"}
CANDLES = [*flat("20000", 60), *flat("19000", 60), *flat("17900", 40), *flat("19000", 600)]


@pytest.fixture
async def paper(database_url: str, tmp_path: Path) -> AsyncIterator[OnPaper]:
    async with on_paper(database_url, tmp_path, CANDLES) as stage:
        yield stage


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The exchanges; their clock stands where a test's own does."""
    async with running_exchange(start=START) as exchange:
        yield exchange
        exchange.audit()


@pytest.fixture
async def scene(
    database_url: str, venue: Exchange, exchange: str, market_type: MarketType
) -> AsyncIterator[AtExchange]:
    async with at_exchange(database_url, venue, exchange, market_type) as stage:
        yield stage


async def test_a_swap_position_that_is_worth_less_than_an_entry_follows_its_trailing_stop_to_the_end(
    paper: OnPaper,
) -> None:
    trailing = {"activation_percent": "3", "distance_percent": "4"}
    await paper.connect(sizing=SMALL, protection={"trailing": trailing})
    await publish(paper.desk, direction="sell", stop_loss="21000")
    await execute_all(paper.desk)
    await paper.rounds(14)
    position = await paper.position()
    assert position.stop_loss == Decimal("19760")
    assert position.status is PositionStatus.OPEN
    [stop] = await paper.standing()
    assert (stop.quantity, stop.trigger_price) == (Decimal("0.00026"), Decimal("19760"))

    await paper.rounds(20)
    position = await paper.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.TRAILING_STOP)
    assert position.dust == ZERO
    assert await paper.held() == []


@pytest.mark.parametrize("native", [True, False])
async def test_its_owner_closes_a_swap_position_that_is_worth_less_than_an_entry(
    paper: OnPaper, native: bool
) -> None:
    await paper.connect(sizing=SMALL, protection={"native": native})
    await publish(
        paper.desk, direction="sell", stop_loss="21000", targets=[("15000", "0.5"), ("14000", "0.5")]
    )
    await execute_all(paper.desk)
    await paper.rounds(14)
    assert (await paper.position()).current_price == 19000
    await paper.close("0.5")
    assert (await paper.position()).remaining_quantity == Decimal("0.00013")
    await paper.close()
    position = await paper.position()
    assert (position.status, position.close_reason, position.dust) == (
        PositionStatus.CLOSED,
        CloseReason.MANUAL,
        ZERO,
    )
    assert await paper.held() == []


@pytest.mark.parametrize(("exchange", "market_type"), SWAPS)
async def test_what_an_owner_leaves_of_a_swap_position_is_protected_and_closed_however_little_it_is(
    scene: AtExchange,
) -> None:
    await scene.connect(sizing={"strategy": "fixed", "value": "0.001"})
    await publish(scene.desk, stop_loss="18000")
    await execute_all(scene.desk)
    await scene.rounds(4)
    await scene.hand(SWAP, Side.SELL, "0.0009", reduces=True)
    await scene.rounds(24)
    position = await scene.position()
    # 0.0001 is worth two.
    assert (position.status, position.remaining_quantity) == (PositionStatus.OPEN, Decimal("0.0001"))
    [stop] = await scene.standing()
    assert stop.quantity == Decimal("0.0001")

    scene.venue.move(SWAP, 17900)
    await scene.rounds(4)
    position = await scene.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    assert position.dust == ZERO
    assert await scene.held() == []
    assert scene.account.open_positions == []


@pytest.mark.parametrize(("exchange", "market_type"), SWAPS[:1])
async def test_an_owner_closes_in_parts_down_to_the_smallest_quantity(
    scene: AtExchange,
) -> None:
    await scene.connect(sizing={"strategy": "fixed", "value": "0.001"})
    await publish(scene.desk, stop_loss="18000")
    await execute_all(scene.desk)
    for _ in range(3):
        await scene.close("0.5")
    assert (await scene.position()).remaining_quantity == Decimal("0.00013")
    await scene.close()
    position = await scene.position()
    assert (position.status, position.dust) == (PositionStatus.CLOSED, ZERO)
    assert await scene.held() == []


async def test_what_the_venue_itself_calls_too_small_ends_as_dust(paper: OnPaper) -> None:
    paper.venue.refusal = Refused("The order is worth less than 5.", code="notional_below_minimum")
    await paper.connect(sizing=SMALL, protection={"native": False})
    await publish(paper.desk, stop_loss="19500")
    await execute_all(paper.desk)
    paper.venue.pick = lambda request: request.reduce_only
    paper.venue.faults.append(Fault.REFUSED)
    await paper.rounds(14)
    position = await paper.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.DUST)
    assert position.dust == Decimal("0.00026")
    [close] = await paper.orders(Purpose.CLOSE)
    assert (close.status, close.code) == (OrderStatus.REJECTED, "notional_below_minimum")


async def test_coins_worth_less_than_the_least_order_still_end_as_dust(paper: OnPaper) -> None:
    await paper.connect(market_type=MarketType.SPOT, leverage=None, sizing=SMALL)
    await publish(paper.desk)
    await execute_all(paper.desk)
    await paper.rounds(14)
    await paper.close()
    position = await paper.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.DUST)
    [close] = await paper.orders(Purpose.CLOSE)
    assert (close.status, close.attempt) == (OrderStatus.CANCELLED, 0), "the venue would have refused it"


async def test_a_portion_below_the_smallest_quantity_is_refused_with_the_numbers(paper: OnPaper) -> None:
    await paper.connect(sizing=SMALL)
    await publish(paper.desk)
    await execute_all(paper.desk)
    position = await paper.position()
    with pytest.raises(Exception, match=r"comes to 0; the venue takes 0.00001 or more\.$"):
        await closing.request_close(paper.desk, USER, position.id, Decimal("0.01"), idempotency_key=None)


async def test_what_is_worth_enough_only_by_what_no_order_can_name_ends_as_dust(paper: OnPaper) -> None:
    """What is left after the fee is worth 5.03 at 19000; down to the step it is worth 4.94."""
    terms = {"fee_in": "base", "fee_percent": "1.9"}
    await paper.connect(
        market_type=MarketType.SPOT,
        leverage=None,
        paper=terms,
        sizing={"strategy": "fixed", "value": "0.00027"},
    )
    await publish(paper.desk)
    await execute_all(paper.desk)
    await paper.rounds(14)
    assert (await paper.position()).remaining_quantity == Decimal("0.00026487")
    await paper.close()
    position = await paper.position()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.DUST)
    assert position.dust == Decimal("0.00026487")
