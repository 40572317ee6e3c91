"""What compatible means: our broker goes the whole way at a venue, from the quote to taking an order back.

Its class is unmodified, its markets are ours, and its answers are laid out in the venue's own words.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final
from uuid import uuid4

import pytest

from app.brokers.crypto.settings import Wanted
from app.brokers.port import Refused
from app.domain.market import MarketType, Quote
from app.domain.money import ZERO, text
from app.domain.orders import OrderReport, OrderRequest, OrderStatus, OrderType, Side
from app.domain.positions import PositionSide
from tests.desks import START
from tests.wire.classes import ASK, QUANTITY, Driven, driven
from tests.wire.stages import VENUES
from tests.wire.story import Story
from tests.wire.table import WIRES
from tests.wire.transport import Sent

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP
CASES: Final = sorted(VENUES)
SWAPS: Final = [case for case in CASES if case[1] is SWAP]


NO_MODE: Final = {"cryptocom", "deribit"}
"""Venues whose margin mode is the account's, and not ours to set."""


@dataclass
class Told:
    """A class that is driven, and the account it is answered for."""

    driven: Driven
    story: Story

    async def place(self, order_type: OrderType, side: Side, *, reduce_only: bool = False) -> OrderReport:
        """One order, from the settings before it to what became of it."""
        self.story.side, self.story.type, self.story.reduces = side.value, order_type.value, reduce_only
        request = OrderRequest(
            client_order_id=self.driven.broker.client_order_id(uuid4(), 1),
            symbol=self.driven.symbol,
            side=side,
            type=order_type,
            quantity=QUANTITY,
            signed_at=START,
            price=None if order_type is OrderType.MARKET else ASK,
            reduce_only=reduce_only,
        )
        before = len(self.story.placed)
        report = await self.driven.broker.place(request)
        assert len(self.story.placed) == before + 1, "an order is one request"
        assert report.client_order_id == request.client_order_id
        self.request = request
        return report


@asynccontextmanager
async def telling(
    exchange: str, market_type: MarketType, margin_mode: str | None = "isolated"
) -> AsyncIterator[Told]:
    """A connection that asks for a leverage of 5, and for a margin mode where there is one to have."""
    wanted = Wanted(Decimal(5), None if market_type is SPOT or exchange in NO_MODE else margin_mode)
    async with driven(exchange, market_type, {}, wanted=wanted) as opened:
        story = Story(VENUES[exchange, market_type], market_type, WIRES[exchange, market_type].id)
        opened.line.venue, opened.public.venue = story.private, story.public
        yield Told(opened, story)
        assert story.unanswered == []


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
async def told(request: pytest.FixtureRequest) -> AsyncIterator[Told]:
    """Each venue."""
    async with telling(*request.param) as opened:
        yield opened


@pytest.fixture(params=SWAPS, ids=lambda case: case[0])
async def swap(request: pytest.FixtureRequest) -> AsyncIterator[Told]:
    """Each venue of swaps."""
    async with telling(*request.param) as opened:
        yield opened


async def test_one_symbol_is_quoted_and_so_are_two(told: Told) -> None:
    btc = told.driven.symbol
    eth = btc.replace("BTC", "ETH")
    assert _sides(await told.driven.broker.quotes([btc])) == {btc: ("19990", "20000")}
    assert len(told.driven.public.sent) == 1, "one question"
    both = await told.driven.broker.quotes([btc, eth, "XRP/USDT"])
    assert _sides(both) == {btc: ("19990", "20000"), eth: ("990", "1000")}


def _sides(quotes: Mapping[str, Quote]) -> dict[str, tuple[str, str]]:
    return {symbol: (text(quote.bid), text(quote.ask)) for symbol, quote in quotes.items()}


async def test_the_account_is_told(told: Told) -> None:
    account = await told.driven.broker.account()
    money = told.driven.listed_as.instrument.quote
    assert (account.balances[money].free, account.balances[money].total) == (Decimal(900), Decimal(1000))
    assert account.permissions.withdraw in (None, False)
    held = await told.driven.broker.holdings()
    if told.story.market_type is SWAP:
        assert held == []
    else:
        assert [(each.symbol, each.quantity) for each in held] == [("BTC/USDT", Decimal("0.5"))]


async def test_a_market_entry_is_filled_and_left_again(told: Told) -> None:
    entered = await told.place(OrderType.MARKET, Side.BUY)
    _check_filled(entered)
    if told.story.market_type is SWAP:
        [held] = await told.driven.broker.holdings()
        assert (held.symbol, held.side, held.quantity) == (
            told.driven.symbol,
            PositionSide.LONG,
            QUANTITY,
        )
    left = await told.place(OrderType.MARKET, Side.SELL, reduce_only=True)
    _check_filled(left)
    if told.story.market_type is SWAP:
        assert await told.driven.broker.holdings() == []


def _check_filled(report: OrderReport) -> None:
    assert report.status is OrderStatus.FILLED
    assert report.filled_quantity == QUANTITY
    assert report.average_price == ASK
    paid = [fee for fee in report.fees.values() if fee]
    assert paid == ([Decimal("7.4")] if report.fees_told else [])


async def test_a_short_is_held_as_one(swap: Told) -> None:
    _check_filled(await swap.place(OrderType.MARKET, Side.SELL))
    [held] = await swap.driven.broker.holdings()
    assert (held.side, held.quantity) == (PositionSide.SHORT, QUANTITY)


async def test_a_limit_entry_rests_is_found_by_our_id_and_taken_back(told: Told) -> None:
    report = await told.place(OrderType.LIMIT, Side.BUY)
    assert (report.status, report.filled_quantity) == (OrderStatus.OPEN, ZERO)
    broker, key = told.driven.broker, told.request.key
    found = await broker.find(key)
    assert isinstance(found, OrderReport), "by our id alone"
    assert found.exchange_order_id == report.exchange_order_id
    assert (found.status, found.quantity) == (OrderStatus.OPEN, QUANTITY)
    assert found.price in (ASK, None)
    named = replace(key, exchange_order_id=report.exchange_order_id)
    assert await broker.find(named) == found
    assert (await broker.survey([named]))[key.client_order_id] == found
    [resting] = await broker.resting([told.driven.symbol])
    assert (resting.client_order_id, resting.exchange_order_id) == (
        key.client_order_id,
        report.exchange_order_id,
    )
    assert resting.side is Side.BUY
    ended = await broker.cancel(named)
    assert (ended.status, ended.filled_quantity) == (OrderStatus.CANCELLED, ZERO)
    assert len(told.story.placed) == 1


TRADES: Final = sorted(
    {
        ("binanceus", SPOT),
        ("mexc", SPOT),
        *((each, SWAP) for each in ("gate", "hyperliquid", "krakenfutures")),
    }
    | {(each, SWAP) for each in ("kucoin", "kucoinfutures", "mexc", "phemex")}
)
"""Where the answers hold a list of trades."""


@pytest.mark.parametrize(("exchange", "market_type"), TRADES, ids=lambda part: str(part))
async def test_what_was_traded_is_told_with_its_side(exchange: str, market_type: MarketType) -> None:
    orders = [(Side.BUY, False), (Side.SELL, True)]
    orders += [(Side.SELL, False), (Side.BUY, True)] if market_type is SWAP else []
    async with telling(exchange, market_type) as told:
        for side, reduce_only in orders:
            await told.place(OrderType.MARKET, side, reduce_only=reduce_only)
            [fill] = await told.driven.broker.fills(told.driven.symbol, START, [])
            assert (fill.side, fill.quantity, fill.price) == (side, QUANTITY, ASK)
            # Those of our own orders are known.
            ours = replace(told.request.key, exchange_order_id=fill.exchange_order_id)
            assert await told.driven.broker.fills(told.driven.symbol, START, [ours]) == []


async def test_nothing_is_set_beside_a_position_that_is_as_the_connection_wants_it(swap: Told) -> None:
    await swap.place(OrderType.MARKET, Side.BUY)
    assert await swap.driven.broker.conflict(swap.driven.symbol) is None


async def test_an_account_with_two_sides_is_traded_on_the_right_one_or_not_at_all(swap: Told) -> None:
    profile = swap.driven.profile
    swap.story.is_hedged = True
    if not profile.holds_hedged:
        has_mode = profile.position_mode is not None or swap.driven.exchange.has["fetchPositionMode"] is True
        if not has_mode:
            assert (swap.driven.exchange.id in ONE_WAY) is True
            return
        assert "one-way" in str(await swap.driven.broker.conflict(swap.driven.symbol))
        with pytest.raises(Refused) as refusal:
            await swap.place(OrderType.MARKET, Side.BUY)
        assert refusal.value.code == "venue_settings_conflict"
        assert swap.story.placed == []
        return
    sides = {}
    for side, reduce_only in ((Side.BUY, False), (Side.SELL, True), (Side.SELL, False), (Side.BUY, True)):
        await swap.place(OrderType.MARKET, side, reduce_only=reduce_only)
        sides[side, reduce_only] = _side_of(swap)
    assert sides[Side.BUY, False] == sides[Side.SELL, True] == "long"
    assert sides[Side.SELL, False] == sides[Side.BUY, True] == "short"


SETTINGS: Final = {
    "bingx": (("ISOLATED", "BOTH 5"), ("BOTH 5",), ("ISOLATED", "LONG 5", "SHORT 5")),
    "bitget": (("5",), ("5",), ("5",)),
    "deribit": ((), (), None),
    "gate": (("5",), ("0 5",), None),
    "hyperliquid": (("5 false",), ("5 true",), None),
    "krakenfutures": (("5",), None, None),
    "kucoin": ((), ("5",), ()),
    "mexc": ((), ("5 2 1", "5 2 2"), ()),
    "okx": (("5 isolated net",), ("5 cross",), ("5 isolated long", "5 isolated short")),
    "phemex": ((), ("5 -5",), ()),
}
"""What is set before the first entry, for isolated and for cross margin, and for isolated margin in an account with two
sides; None where there is no such thing."""


@pytest.mark.parametrize("exchange", sorted(SETTINGS))
@pytest.mark.parametrize("case", ["isolated", "cross", "hedged"])
async def test_what_is_set_before_an_entry_is_what_the_connection_asks_for(exchange: str, case: str) -> None:
    expected = SETTINGS[exchange][["isolated", "cross", "hedged"].index(case)]
    async with telling(exchange, SWAP, "cross" if case == "cross" else "isolated") as told:
        told.story.is_hedged = case == "hedged"
        if expected is None:
            if exchange not in ONE_WAY or case == "cross":
                with pytest.raises(Refused) as refusal:
                    await told.place(OrderType.MARKET, Side.BUY)
                assert refusal.value.code == "venue_settings_conflict"
            return
        await told.place(OrderType.MARKET, Side.BUY)
        assert tuple(_set(each) for each in told.story.settings) == expected


def _set(sent: Sent) -> str:
    """What a setting says, in a fixed order."""
    names = (
        "side",
        "marginType",
        "leverage",
        "lever",
        "leverageRr",
        "maxLeverage",
        "cross_leverage_limit",
        "isCross",
        "mgnMode",
        "posSide",
        "openType",
        "positionType",
    )
    said = [sent.values(name)[0] for name in names if sent.values(name)]
    return " ".join(said)


@pytest.mark.parametrize("exchange", ["kucoin", "kucoinfutures", "mexc"])
async def test_an_order_says_its_leverage_as_the_whole_number_that_it_is(exchange: str) -> None:
    async with telling(exchange, SWAP) as told:
        await told.place(OrderType.MARKET, Side.BUY)
        assert told.story.placed[-1].values("leverage") == ["5"]


async def test_nothing_is_signed_in_the_owners_name_but_what_was_meant() -> None:
    """Its class would approve of a builder and name one in every order, and set a referrer."""
    async with telling("hyperliquid", SWAP) as told:
        await told.place(OrderType.MARKET, Side.BUY)
        signed = [each.body for each in told.story.asked if each.url.endswith("/exchange")]
        assert len(signed) == 2, "leverage, and the order"
        assert not any(word in body for body in signed for word in ("uilder", "eferrer"))


ONE_WAY: Final = {"cryptocom", "deribit", "hyperliquid", "krakenfutures", "bitfinex"}
"""Venues that know no other position mode."""


def _side_of(told: Told) -> str:
    """The side of the position the last order was for, in lower case."""
    sent = told.story.placed[-1]
    for name in ("posSide", "positionSide"):
        if sent.values(name):
            return sent.values(name)[0].lower()
    # Bitget names the side of the position with every order, and says whether it opens or closes it.
    if sent.values("tradeSide"):
        return {"buy": "long", "sell": "short"}[sent.values("side")[0]]
    if sent.values("positionIdx"):
        return {"1": "long", "2": "short"}[sent.values("positionIdx")[0]]
    # MEXC numbers what is done: 1 opens a long, 2 closes a short, 3 opens a short, 4 closes a long.
    return {"1": "long", "2": "short", "3": "short", "4": "long"}[sent.values("side")[0]]
