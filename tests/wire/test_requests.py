"""Every request of a class without a simulator: it is driven as the broker drives it, and what leaves is read."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from app.brokers.crypto.lookups import LISTS
from app.brokers.crypto.ways import LookUp
from app.brokers.port import VenueError
from app.domain.market import MarketType
from app.domain.orders import OrderRequest, OrderType, Side
from tests.desks import START
from tests.wire.classes import ASK, CONTRACT, ORDER_ID, QUANTITY, Driven, driven
from tests.wire.table import ANSWERS, WIRES, Wire
from tests.wire.transport import Sent

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP
CASES = sorted(WIRES)


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
async def drive(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Driven, Wire]]:
    """Each class, and what its venue calls things."""
    exchange, market_type = request.param
    async with driven(exchange, market_type, ANSWERS.get(exchange, {})) as opened:
        yield opened, WIRES[request.param]


def _check_named(sent: Sent, wire: Wire, request: OrderRequest) -> None:
    """Our id stands once, where it belongs."""
    named = [(key, value) for key, value in sent.pairs() if request.client_order_id in value]
    assert [key for key, _ in named] == [wire.id]
    assert named[0][1].removeprefix("t-") == request.client_order_id


def _check_plain(sent: Sent) -> None:
    """Nothing that was not meant."""
    values = [value for _, value in sent.pairs()]
    assert not {"None", "null", "nan", "undefined"} & set(values)
    assert "None" not in sent.url


def _amount(sent: Sent, name: str) -> Decimal:
    [value] = sent.values(name)
    return Decimal(value)


def _units(drive: Driven) -> Decimal:
    """The quantity as the venue counts it: contracts on swap."""
    is_swap = drive.listed_as.instrument.market_type is SWAP
    return QUANTITY / CONTRACT if is_swap else QUANTITY


async def test_a_limit_entry(drive: tuple[Driven, Wire]) -> None:
    opened, wire = drive
    request = opened.request(OrderType.LIMIT, Side.BUY)
    [sent] = await opened.place(request)
    _check_named(sent, wire, request)
    _check_plain(sent)
    assert _amount(sent, wire.amount) == _units(opened) * wire.scale
    assert _amount(sent, wire.price) == ASK * wire.scale
    assert not _says(sent, wire.exit)


async def test_a_market_entry(drive: tuple[Driven, Wire]) -> None:
    opened, wire = drive
    request = opened.request(OrderType.MARKET, Side.BUY)
    [sent] = await opened.place(request)
    _check_named(sent, wire, request)
    _check_plain(sent)
    if wire.cost is None:
        assert _amount(sent, wire.amount) == _units(opened) * wire.scale
    else:
        assert _amount(sent, wire.cost) == QUANTITY * ASK
    assert not _says(sent, wire.exit)


async def test_a_market_exit(drive: tuple[Driven, Wire]) -> None:
    opened, wire = drive
    request = opened.request(OrderType.MARKET, Side.SELL, reduce_only=True)
    [sent] = await opened.place(request)
    _check_named(sent, wire, request)
    _check_plain(sent)
    assert abs(_amount(sent, wire.amount)) == _units(opened) * wire.scale
    if opened.listed_as.instrument.market_type is SWAP:
        assert wire.exit
        assert _says(sent, wire.exit)


def _says(sent: Sent, what: Any) -> bool:
    return bool(what) and all(sent.values(name) == [value] for name, value in what.items())


async def test_the_margin_mode_travels_with_each_order_where_there_is_none_to_set(
    drive: tuple[Driven, Wire],
) -> None:
    opened, _ = drive
    said = []
    for mode in ("isolated", "cross"):
        [sent] = await opened.place(opened.request(OrderType.LIMIT, Side.BUY), margin_mode=mode)
        # MEXC writes it as a number.
        number = {"isolated"} if sent.values("openType") == ["1"] else set()
        said.append(number | {value.lower() for _, value in sent.pairs()} & {"isolated", "cross", "crossed"})
    if opened.profile.margin_in_orders and opened.listed_as.instrument.market_type is SWAP:
        assert "isolated" in said[0]
        assert "isolated" not in said[1]
    else:
        assert said[0] == said[1]


async def test_a_short_is_another_request_than_a_long(drive: tuple[Driven, Wire]) -> None:
    opened, _ = drive
    [bought] = await opened.place(opened.request(OrderType.LIMIT, Side.BUY))
    [sold] = await opened.place(opened.request(OrderType.LIMIT, Side.SELL))
    assert _words(bought) != _words(sold)


def _words(sent: Sent) -> tuple[str, set[str]]:
    """The path, and every short word: what tells a buy from a sell."""
    path = sent.url.partition("?")[0]
    return path, {f"{key}={value}" for key, value in sent.pairs() if len(value) < 12}


async def test_an_order_is_valid_from_its_claim_for_a_moment(drive: tuple[Driven, Wire]) -> None:
    opened, wire = drive
    [sent] = await opened.place(opened.request(OrderType.LIMIT, Side.BUY))
    claimed = int(START.timestamp())
    profile = opened.profile
    if wire.window is None:
        assert profile.window_option is None
        assert profile.deadline is None
        return
    told = set(sent.values(wire.window))
    if profile.deadline is not None:
        assert told & {str((claimed + 5) * 1000), "2026-11-24T09:30:07Z"}
    elif wire.window == "x-phemex-request-expiry":
        assert told == {str(claimed + 5)}
    else:
        assert told == {"5000"}
        said = {value for _, value in sent.pairs()} | set(sent.headers.values())
        assert str(claimed * 1000) in said


async def test_cancels_name_the_order() -> None:
    # Side by side: the broker looks for a moment what became of each.
    wrong = await asyncio.gather(*(_cancelled(*case) for case in CASES))
    assert {case: each for case, each in zip(CASES, wrong, strict=True) if each} == {}


async def _cancelled(exchange: str, market_type: MarketType) -> str | None:
    """What is wrong with the first request that leaves when an order is taken back."""
    async with driven(exchange, market_type, ANSWERS.get(exchange, {})) as opened:
        key = opened.key()
        with pytest.raises(VenueError):
            await opened.broker.cancel(key)
        sent = opened.taken()
        name = ORDER_ID if opened.profile.look_up is LookUp.LISTED else key.client_order_id
        if not sent:
            return "nothing was sent"
        _check_plain(sent[0])
        return None if sent[0].names_order(name) else sent[0].url


async def test_a_look_up_names_the_order(drive: tuple[Driven, Wire]) -> None:
    opened, _ = drive
    key = opened.key()
    await opened.broker.find(key)
    [sent] = opened.taken()
    _check_plain(sent)
    if opened.profile.look_up is not LookUp.LISTED:
        assert sent.names_order(key.client_order_id)
    elif opened.exchange.has["fetchOrder"] is True:
        assert sent.names_order(ORDER_ID)


async def test_a_doubtful_order_is_looked_for_by_our_id(drive: tuple[Driven, Wire]) -> None:
    opened, _ = drive
    key = opened.key(known=False)
    await opened.broker.find(key)
    [sent] = opened.taken()
    _check_plain(sent)
    if opened.profile.look_up is not LookUp.LISTED:
        assert sent.names_order(key.client_order_id)


async def test_what_was_filled_can_be_seen_and_lists_are_asked_plainly(drive: tuple[Driven, Wire]) -> None:
    opened, _ = drive
    asked = {}
    for flag, method in LISTS:
        if opened.exchange.has[flag] is True:
            asked[flag] = await opened.listed(method)
            for sent in asked[flag]:
                _check_plain(sent)
    assert opened.exchange.has["fetchOrder"] is True or any(
        asked.get(flag) for flag in ("fetchClosedOrders", "fetchOrders")
    )


async def test_a_survey_asks_once_for_all(drive: tuple[Driven, Wire]) -> None:
    opened, _ = drive
    await opened.broker.survey([opened.key(), opened.key()])
    sent = opened.taken()
    assert len(sent) == 3, "one listing, and when it fails one look-up each"
    for each in sent:
        _check_plain(each)
