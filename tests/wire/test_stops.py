"""What a stop at a compatible venue goes through: placed, seen, taken back, fired: on answers in the venue's words.

Targets that are conditional orders go through the same.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final
from uuid import uuid4

import pytest

from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.tiers import COMPATIBLE
from app.brokers.port import Refused, Unreachable
from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.domain.money import ZERO
from app.domain.orders import Leg, OrderReport, OrderRequest, OrderStatus, OrderType, Side, TriggerSource
from tests.desks import START
from tests.wire.classes import ASK, CONTRACT, QUANTITY, driven
from tests.wire.story import CUT, TARGET, TRIGGER
from tests.wire.table import ANSWERS, STOPS, TARGETS, WIRES, StopWire
from tests.wire.test_stories import Told, telling
from tests.wire.transport import Sent

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP
CASES: Final = sorted(STOPS)

STOP, TAKE_PROFIT = OrderType.STOP, OrderType.TAKE_PROFIT
LEGS: Final = {STOP: Leg.STOP, TAKE_PROFIT: Leg.TARGET}
CONDITIONAL: Final = [(*case, STOP) for case in CASES] + [(*case, TAKE_PROFIT) for case in sorted(TARGETS)]


@dataclass
class Waiting(Told):
    """An account whose venue holds conditional orders of one type."""

    type: OrderType

    @property
    def wire(self) -> StopWire:
        """How such an order is written there."""
        tables = {STOP: STOPS, TAKE_PROFIT: TARGETS}
        return tables[self.type][self.driven.exchange.id, self.story.market_type]

    @property
    def awaited(self) -> Decimal:
        """The price that it waits for."""
        return Decimal(TARGET if self.type is TAKE_PROFIT else TRIGGER)

    def order(self, side: Side = Side.SELL, source: TriggerSource | None = None) -> OrderRequest:
        """One for all that is held, as the engine makes it."""
        is_stop = self.type is STOP
        self.story.side, self.story.reduces = side.value, True
        self.story.type = "stop" if is_stop else "target"
        return OrderRequest(
            client_order_id=self.driven.broker.client_order_id(uuid4(), 1),
            symbol=self.driven.symbol,
            side=side,
            type=self.type,
            quantity=QUANTITY,
            signed_at=START,
            price=None if is_stop else self.awaited,
            trigger_price=self.awaited if is_stop else None,
            trigger_source=source,
            reduce_only=True,
        )


@asynccontextmanager
async def waiting(
    exchange: str, market_type: MarketType, order_type: OrderType = STOP
) -> AsyncIterator[Waiting]:
    """One that has been opened, for orders of a type."""
    async with telling(exchange, market_type) as opened:
        yield Waiting(opened.driven, opened.story, order_type)


@pytest.fixture(params=CONDITIONAL, ids=lambda case: "-".join(case))
async def told(request: pytest.FixtureRequest) -> AsyncIterator[Waiting]:
    """Each venue that holds stops, and each whose targets are conditional orders, too."""
    async with waiting(*request.param) as opened:
        yield opened


def _cannot_be(told: Waiting, side: Side) -> bool:
    """Whether nothing is held there that such a stop could be for: spot has no short side."""
    return told.story.market_type is MarketType.SPOT and side is Side.BUY


async def _placed(told: Waiting, request: OrderRequest) -> OrderReport:
    """It has been put to the venue."""
    report = await told.driven.broker.place(request)
    assert len(told.story.placed) == 1, "a stop is one request"
    return report


def _says(sent: Sent, what: dict[str, str]) -> None:
    assert {name: sent.values(name) for name in what} == {name: [value] for name, value in what.items()}


def test_every_market_that_holds_stops_has_been_read() -> None:
    native = {case for case in COMPATIBLE if profile_of(*case).style is not NativeStyle.NONE}
    assert set(STOPS) == native
    assert set(TARGETS) == {case for case in native if profile_of(*case).is_conditional(TAKE_PROFIT)}
    assert set(TARGETS) <= set(WITH_TARGETS)
    assert set(TARGETS) <= {(exchange, SWAP) for exchange, _ in FOR_MORE}
    for tables in (STOPS, TARGETS):
        for case, wire in tables.items():
            assert tuple(profile_of(*case).triggers) == tuple(wire.sources)


@pytest.mark.parametrize("side", [Side.SELL, Side.BUY])
async def test_a_stop_says_what_it_is(told: Waiting, side: Side) -> None:
    if _cannot_be(told, side):
        return
    request, wire = told.order(side), told.wire
    await _placed(told, request)
    [sent] = told.story.placed
    usual = next(iter(wire.sources.values()), {})
    _says(sent, {**wire.says, **(wire.sells if side is Side.SELL else wire.buys), **usual})
    units = QUANTITY / CONTRACT if told.story.market_type is SWAP else QUANTITY
    assert [abs(Decimal(each)) for each in sent.values(wire.amount)] == [units]
    # No price is at market.
    assert [each for each in map(Decimal, sent.values(wire.trigger)) if each] == [told.awaited]
    named = [(key, value) for key, value in sent.pairs() if request.client_order_id in value]
    assert named == [(wire.id, told.driven.profile.client_id.prefix + request.client_order_id)], "once"
    values = [value for _, value in sent.pairs()]
    assert not {"None", "null", "nan", "undefined"} & set(values)


@pytest.mark.parametrize("source", list(TriggerSource))
async def test_a_stop_goes_by_the_price_that_is_meant(told: Waiting, source: TriggerSource) -> None:
    wire = told.wire
    if source not in wire.sources:
        return
    await _placed(told, told.order(source=source))
    _says(told.story.placed[0], dict(wire.sources[source]))


async def test_the_prices_that_stops_go_by_are_told(told: Waiting) -> None:
    symbol = told.driven.symbol
    for source in told.wire.sources:
        assert await told.driven.broker.references(source, [symbol]) == {symbol: ASK}


async def test_a_stop_is_for_the_side_that_is_held(told: Waiting) -> None:
    wire = told.wire
    if told.story.market_type is MarketType.SPOT or not told.driven.profile.holds_hedged:
        assert wire.closes_long is None
        return
    assert wire.closes_long is not None
    told.story.is_hedged = True
    await _placed(told, told.order())
    _says(told.story.placed[0], dict(wire.closes_long))


async def test_an_entry_that_rests_is_no_stop_and_is_asked_for_once(told: Waiting) -> None:
    report = await told.place(OrderType.LIMIT, Side.BUY)
    named = replace(told.request.key, exchange_order_id=report.exchange_order_id)
    told.story.asked.clear()
    seen = (await told.driven.broker.survey([named]))[named.client_order_id]
    assert isinstance(seen, OrderReport)
    assert len(told.story.asked) == 1


WITH_TARGETS: Final = [case for case in CASES if profile_of(*case).style is NativeStyle.STOP_AND_TARGETS]
LIMITS: Final = [case for case in WITH_TARGETS if case not in TARGETS]


@pytest.mark.parametrize(("exchange", "market_type"), LIMITS)
async def test_a_target_that_is_a_limit_order_beside_a_stop_only_reduces(
    exchange: str, market_type: MarketType
) -> None:
    async with telling(exchange, market_type) as told:
        report = await told.place(OrderType.TAKE_PROFIT, Side.SELL, reduce_only=True)
        assert (report.status, report.quantity) == (OrderStatus.OPEN, QUANTITY)
        _says(told.story.placed[0], dict(WIRES[exchange, market_type].exit))
        assert [Decimal(each) for each in told.story.placed[0].values("price")] == [ASK]


async def test_a_stop_rests_and_is_found_by_our_id_alone(told: Waiting) -> None:
    request, broker = told.order(), told.driven.broker
    report = await _placed(told, request)
    assert (report.status, report.filled_quantity) == (OrderStatus.OPEN, ZERO)
    is_stop = told.type is STOP
    assert report.trigger_price == (told.awaited if is_stop else None)
    assert report.price == (None if is_stop else told.awaited)
    found = await broker.find(request.key)
    assert isinstance(found, OrderReport), "by our id alone"
    assert found == report
    assert (found.quantity, found.exchange_order_id) == (QUANTITY, report.exchange_order_id)
    named = replace(request.key, exchange_order_id=report.exchange_order_id)
    assert await broker.find(named) == found
    assert (await broker.survey([named]))[request.client_order_id] == found
    [resting] = await broker.resting([told.driven.symbol])
    assert (resting.client_order_id, resting.exchange_order_id) == (
        request.client_order_id,
        report.exchange_order_id,
    )
    assert (resting.side, resting.quantity) == (Side.SELL, QUANTITY)


@pytest.mark.parametrize("knows", [True, False], ids=["by its id", "by ours alone"])
async def test_a_stop_is_taken_back(told: Waiting, knows: bool) -> None:
    request, broker = told.order(), told.driven.broker
    report = await _placed(told, request)
    key = replace(request.key, exchange_order_id=report.exchange_order_id if knows else None)
    ended = await broker.cancel(key)
    assert (ended.status, ended.filled_quantity) == (OrderStatus.CANCELLED, ZERO)
    assert ended.exchange_order_id == report.exchange_order_id
    assert told.story.order is not None
    assert told.story.order.state == "cancelled"
    assert await broker.resting([told.driven.symbol]) == []
    # Whoever takes it back again is told the same.
    assert await broker.cancel(key) == ended
    assert await broker.find(request.key) == ended


@pytest.mark.parametrize("side", [Side.SELL, Side.BUY])
async def test_a_stop_that_has_fired_is_what_it_became(told: Waiting, side: Side) -> None:
    if _cannot_be(told, side):
        return
    request, broker = told.order(side), told.driven.broker
    report = await _placed(told, request)
    told.story.become("filled")
    named = replace(request.key, exchange_order_id=report.exchange_order_id)
    fired = await broker.find(request.key)
    assert isinstance(fired, OrderReport)
    assert (fired.status, fired.filled_quantity, fired.average_price) == (OrderStatus.FILLED, QUANTITY, ASK)
    assert [fee for fee in fired.fees.values() if fee] == ([Decimal("7.4")] if fired.fees_told else [])
    assert (fired.leg, fired.exchange_order_id) == (LEGS[told.type], report.exchange_order_id)
    assert await broker.find(named) == fired
    assert (await broker.survey([named]))[request.client_order_id] == fired
    assert await broker.resting([told.driven.symbol]) == []
    assert await broker.cancel(named) == fired
    assert len(told.story.placed) == 1


FOR_MORE: Final = [
    ("gate", OrderStatus.CANCELLED),
    ("kucoin", OrderStatus.CANCELLED),
    ("kucoinfutures", OrderStatus.CANCELLED),
    # They make the order for what is left, so it is whole.
    ("myokx", OrderStatus.FILLED),
    ("okx", OrderStatus.FILLED),
]


@pytest.mark.parametrize(("exchange", "status"), FOR_MORE)
async def test_a_stop_for_more_than_is_left_tells_what_it_has_sold(
    exchange: str, status: OrderStatus
) -> None:
    """A part was closed by a target or by hand, and the stop was not replaced yet."""
    async with waiting(exchange, SWAP) as told:
        request, broker = told.order(), told.driven.broker
        report = await _placed(told, request)
        told.story.become("cut")
        named = replace(request.key, exchange_order_id=report.exchange_order_id)
        for key in (request.key, named):
            fired = await broker.find(key)
            assert isinstance(fired, OrderReport)
            assert (fired.status, fired.filled_quantity) == (status, CUT)
            assert (fired.average_price, fired.leg) == (ASK, Leg.STOP)
        [fill] = await broker.fills(told.driven.symbol, START, [])
        assert fill.quantity == CUT


async def test_what_a_fired_stop_traded_is_known_as_ours(told: Waiting) -> None:
    request, broker = told.order(), told.driven.broker
    report = await _placed(told, request)
    told.story.become("filled")
    named = replace(request.key, exchange_order_id=report.exchange_order_id)
    [fill] = await broker.fills(told.driven.symbol, START, [])
    assert (fill.side, fill.quantity, fill.price) == (Side.SELL, QUANTITY, ASK)
    assert await broker.fills(told.driven.symbol, START, [named]) == []


INFERRING: Final = [case for case in CASES if profile_of(*case).infers_direction]


@pytest.mark.parametrize(("exchange", "market_type"), INFERRING)
async def test_a_stop_that_was_passed_does_not_wait_for_the_price_to_come_back(
    exchange: str, market_type: MarketType
) -> None:
    async with waiting(exchange, market_type) as told:
        with pytest.raises(Refused):
            await told.driven.broker.place(replace(told.order(), trigger_price=ASK))
        assert told.story.placed == []


async def test_a_stop_that_comes_before_its_position_may_come_again() -> None:
    async with waiting("bitget", SWAP) as told:
        assert told.story.venue.stops is not None
        early = {"code": "43023", "msg": "Insufficient position, can not set profit or stop loss"}
        told.story.venue = replace(told.story.venue, stops=replace(told.story.venue.stops, refused=early))
        told.story.refuses = True
        with pytest.raises(Unreachable):
            await told.driven.broker.place(told.order())


@pytest.mark.parametrize(
    ("exchange", "order_type"),
    [
        ("bitget", STOP),
        *((each, kind) for each in ("kucoin", "kucoinfutures") for kind in (STOP, TAKE_PROFIT)),
    ],
)
async def test_no_stop_is_left_in_accounts_whose_stops_nobody_has_read(
    exchange: str, order_type: OrderType
) -> None:
    async with waiting(exchange, SWAP, order_type) as told:
        told.story.is_unified = True
        # The position mode is not what this is about.
        with pytest.raises(Refused, match="unified"):
            await told.driven.broker.place(told.order())
        assert told.story.placed == []


async def test_a_stop_that_cannot_stand_is_refused_for_certain(told: Waiting) -> None:
    """In doubt it would stand in the way of the exit that is due."""
    told.story.refuses = True
    request = told.order()
    with pytest.raises(Refused):
        await told.driven.broker.place(request)
    assert len(told.story.placed) == 1
    assert not isinstance(await told.driven.broker.find(request.key), OrderReport)


async def test_what_a_symbol_lists_no_stop_for_is_refused_before_it_leaves() -> None:
    async with waiting("binanceus", SPOT) as told:
        listed = told.driven.exchange.market(told.driven.symbol)["info"]["orderTypes"]
        assert [each for each in listed if each.startswith("STOP")] == ["STOP_LOSS_LIMIT"]
        with pytest.raises(Refused):
            await told.driven.broker.place(told.order())
        assert told.story.placed == []
        # Nothing else is in its way.
        listed.append("STOP_LOSS")
        await told.driven.broker.place(told.order())
        _says(told.story.placed[0], {"type": "STOP_LOSS", "stopPrice": TRIGGER})


async def _left(exchange: str, market_type: MarketType) -> tuple[OrderRequest, list[Sent]]:
    """A stop where none is left, and what its class would send of it: why that is so, for as long as it is."""
    async with driven(exchange, market_type, ANSWERS.get(exchange, {})) as opened:
        stop = opened.request(OrderType.STOP, Side.SELL, reduce_only=True)
        stop = replace(stop, price=None, trigger_price=Decimal(TRIGGER))
        return stop, await opened.place(stop, "isolated" if market_type is SWAP else None)


@pytest.mark.parametrize(
    ("exchange", "market_type", "says"),
    [
        ("htx", SPOT, {"type": "sell-market"}),
        ("mexc", SWAP, {"type": "6", "side": "4"}),
        ("phemex", SPOT, {"ordType": "Market"}),
        ("phemex", SWAP, {"ordType": "Market"}),
    ],
)
async def test_a_class_that_takes_no_stop_loss_would_sell_at_once(
    exchange: str, market_type: MarketType, says: dict[str, str]
) -> None:
    _, [sent] = await _left(exchange, market_type)
    _says(sent, says)
    assert not [name for name, _ in sent.pairs() if "trigger" in name.lower() or "stopP" in name]


@pytest.mark.parametrize("exchange", ["gate", "gateeu"])
async def test_our_id_would_not_reach_the_order_that_a_stop_becomes(exchange: str) -> None:
    stop, [sent] = await _left(exchange, SPOT)
    said = json.loads(sent.body)
    assert said["trigger"]["text"] == stop.client_order_id
    assert "text" not in said["put"]


async def test_a_stop_would_leave_by_a_request_that_is_for_other_orders() -> None:
    _, [sent] = await _left("cryptocom", SPOT)
    assert sent.url.endswith("/private/create-order")
    _says(sent, {"type": "STOP_LOSS", "ref_price": TRIGGER})


async def test_a_class_whose_stops_sell_at_a_limit_sends_none_that_sells_at_market() -> None:
    _, sent = await _left("coinbase", SPOT)
    assert sent == []


async def test_a_class_may_read_a_stop_that_fired_as_cancelled() -> None:
    fired = {"id": "vs8", "symbol": "BTCUSDT", "status": "TRIGGERED", "stop": "loss", "stopTriggerTime": 1}
    async with driven("kucoin", SPOT, {}) as opened:
        assert opened.exchange.parse_order(fired)["status"] == "cancelled"


async def test_what_a_stop_became_may_have_no_id_of_ours() -> None:
    async with waiting("bingx", SWAP) as told:
        request, broker = told.order(), told.driven.broker
        await _placed(told, request)
        assert isinstance(await broker.find(request.key), OrderReport)
        told.story.become("filled")
        assert not isinstance(await broker.find(request.key), OrderReport)


async def test_a_log_may_say_that_a_stop_fired_and_not_what_it_became() -> None:
    fired = {
        "uid": "ts8",
        "tradeable": "BTCUSDT",
        "direction": "Sell",
        "quantity": str(QUANTITY),
        "orderType": "IoC",
        "clientId": "ours",
        "reduceOnly": True,
        "triggerOptions": {"triggerPrice": TRIGGER, "triggerSignal": "MarkPrice", "triggerSide": "Below"},
    }
    log = {"elements": [{"uid": "es8", "event": {"OrderTriggerActivated": {"order": fired}}}]}
    async with driven("krakenfutures", SWAP, {"history/v2/triggers": log}) as opened:
        [read] = await opened.exchange.fetch_closed_orders(opened.symbol, params={"trigger": True})
        assert (read["id"], read["status"], Decimal(read["filled"])) == ("ts8", "closed", ZERO)
