"""Leverage and margin mode at the simulated exchanges: changed only where they differ and nothing rests on them."""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from app.brokers.port import Refused, VenueError
from app.domain.market import MarketType
from app.domain.orders import OrderStatus, OrderType, Side
from tests.brokers.contract.exchanges import STARTED_AT, ExchangeStage, exchange_stage
from tests.brokers.contract.stage import buy, order
from tests.venues.accounts import Account
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import reject
from tests.venues.wire import Intent

SWAP = MarketType.SWAP


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The simulated exchanges."""
    async with running_exchange(start=STARTED_AT) as exchange:
        yield exchange


@pytest.fixture(params=["binanceusdm", "bybit"])
async def stage(venue: Exchange, request: pytest.FixtureRequest) -> AsyncIterator[ExchangeStage]:
    """A swap account at each, that wants isolated margin."""
    opened = await exchange_stage(venue, request.param, SWAP)
    opened.margin_mode = "isolated"
    await opened.restart()
    yield opened
    await opened.close()


def _account(stage: ExchangeStage) -> Account:
    floor = stage.venue.bybit.floor if stage.exchange == "bybit" else stage.venue.usdm.floor
    return floor.accounts[stage.keys.api_key]


def _is_isolated(stage: ExchangeStage) -> bool:
    return any("BTCUSDT" in name for name in _account(stage).isolated)


def _changes(stage: ExchangeStage) -> list[str]:
    """What was changed at the venue, in order."""
    return [each.path.rpartition("/")[2] for each in stage.venue.requests if each.intent is Intent.SET]


async def test_margin_and_leverage_are_set_before_the_first_entry_and_only_then(stage: ExchangeStage) -> None:
    await buy(stage)
    assert _is_isolated(stage)
    [leverage] = set(_account(stage).leverage.values())
    assert leverage == 5
    changed = _changes(stage)
    assert len(changed) == 2
    await stage.broker.place(order(stage, Side.SELL, OrderType.MARKET, reduce_only=True))
    await buy(stage)
    assert _changes(stage) == changed


async def test_what_is_so_already_is_not_set_again(stage: ExchangeStage) -> None:
    await buy(stage)
    await stage.broker.place(order(stage, Side.SELL, OrderType.MARKET, reduce_only=True))
    changed = _changes(stage)
    # A process that knows nothing reads what is there, with a position of the owner's own as well.
    await stage.restart()
    await buy(stage)
    await stage.restart()
    await buy(stage)
    assert [each for each in _changes(stage)[len(changed) :] if "argin" in each] == []


async def test_a_connection_that_asks_for_no_mode_leaves_it(stage: ExchangeStage) -> None:
    stage.margin_mode = None
    await stage.restart()
    await buy(stage)
    assert not _is_isolated(stage)
    assert len(_changes(stage)) == 1


async def test_a_position_of_the_owner_is_never_moved_to_another_mode(stage: ExchangeStage) -> None:
    stage.margin_mode = None
    await stage.restart()
    await buy(stage)
    changed = _changes(stage)
    stage.margin_mode = "isolated"
    await stage.restart()
    with pytest.raises(Refused, match="position") as refusal:
        await buy(stage)
    assert refusal.value.code == "venue_settings_conflict"
    assert _changes(stage) == changed
    assert not _is_isolated(stage)


@pytest.mark.parametrize("wanted", ["margin mode", "leverage"])
@pytest.mark.parametrize("resting", [OrderType.LIMIT, OrderType.STOP])
async def test_an_order_of_the_owner_keeps_the_settings_as_they_are(
    stage: ExchangeStage, resting: OrderType, wanted: str
) -> None:
    stage.margin_mode = None
    await stage.restart()
    await buy(stage)
    price, trigger = (19000, None) if resting is OrderType.LIMIT else (None, 18000)
    side = Side.BUY if resting is OrderType.LIMIT else Side.SELL
    report = await stage.broker.place(order(stage, side, resting, price=price, trigger=trigger))
    assert report.status is OrderStatus.OPEN
    await stage.broker.place(order(stage, Side.SELL, OrderType.MARKET, reduce_only=True))
    if not _account(stage).live:
        # This venue ends a stop with its position: there is nothing left to be in the way.
        assert (stage.exchange, resting) == ("bybit", OrderType.STOP)
        return
    changed = _changes(stage)

    if wanted == "leverage":
        stage.leverage *= 2
    else:
        stage.margin_mode = "isolated"
    await stage.restart()
    with pytest.raises(Refused, match="has an order") as refusal:
        await buy(stage)
    assert refusal.value.code == "venue_settings_conflict"
    assert _changes(stage) == changed


async def test_a_conflict_is_told_before_anything_is_sent_or_set(stage: ExchangeStage) -> None:
    assert await stage.broker.conflict(stage.symbol) is None
    assert _changes(stage) == []
    await buy(stage)
    assert await stage.broker.conflict(stage.symbol) is None
    changed = _changes(stage)
    _account(stage).leverage["BTCUSDT"] = Decimal(50)
    told = await stage.broker.conflict(stage.symbol)
    assert told == "BTC/USDT:USDT has a position at the venue, so it cannot be set to a leverage of 5."
    assert _changes(stage) == changed


async def test_what_was_read_is_believed_for_a_minute_and_no_longer(stage: ExchangeStage) -> None:
    await buy(stage)
    await stage.broker.place(order(stage, Side.SELL, OrderType.MARKET, reduce_only=True))
    _account(stage).leverage["BTCUSDT"] = Decimal(50)
    await stage.advance(61)
    await buy(stage)
    assert _account(stage).leverage["BTCUSDT"] == 5
    # Nor does an answer of the look before an entry count for longer than that.
    await stage.broker.place(order(stage, Side.SELL, OrderType.MARKET, reduce_only=True))
    _account(stage).leverage["BTCUSDT"] = Decimal(50)
    assert await stage.broker.conflict(stage.symbol) is None
    await buy(stage)
    assert _account(stage).leverage["BTCUSDT"] == 5


async def test_being_told_that_it_is_so_already_is_no_failure(stage: ExchangeStage) -> None:
    unchanged = {
        "binanceusdm": (reject({"code": -4046, "msg": "No need to change margin type."}), "marginType"),
        "bybit": (
            reject({"retCode": 110043, "retMsg": "Set leverage not modified", "result": {}}, 200),
            "set-leverage",
        ),
    }
    fault, path = unchanged[stage.exchange]
    stage.venue.faults.add(fault, lambda asked: asked.path.endswith(path))
    report = await buy(stage)
    assert report.status is OrderStatus.FILLED


async def test_being_refused_a_setting_places_nothing(stage: ExchangeStage) -> None:
    stage.venue.faults.add(
        reject({"code": -4048, "retCode": 10001, "msg": "no", "retMsg": "no", "result": {}}, 400),
        lambda asked: asked.intent is Intent.SET,
    )
    with pytest.raises(VenueError):
        await buy(stage)
    assert _account(stage).orders == {}


async def test_a_hedged_account_is_adapted_to_and_never_switched(stage: ExchangeStage) -> None:
    _account(stage).hedged = True
    report = await buy(stage)
    assert report.status is OrderStatus.FILLED
    [position] = _account(stage).open_positions
    assert position.book.name == "LONG"
    await stage.broker.place(order(stage, Side.SELL, OrderType.MARKET, reduce_only=True))
    assert _account(stage).open_positions == []
    assert _account(stage).hedged
    assert not any("osition" in change for change in _changes(stage))
