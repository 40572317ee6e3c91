"""What is looked for in every class of the pinned ccxt, so that none of a newer one gets in unseen."""

import asyncio
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import ccxt.async_support as library
import pytest

from app.brokers.crypto.catalogue import catalogue
from app.brokers.crypto.exchange import Call, calling
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.requests import creation
from app.brokers.crypto.tiers import CERTIFIED, COMPATIBLE, UNPLACED, UNREDUCED
from app.brokers.crypto.ways import MarketBuy
from app.brokers.port import VenueError
from app.domain.market import MarketType
from app.domain.orders import OrderRequest, OrderType, Side
from tests.wire.classes import CONTRACT, ORDER_ID, PLAIN, QUANTITY, driven, quote
from tests.wire.table import ANSWERS
from tests.wire.transport import Sent

CASES: Final = [(entry.id, kind) for entry in catalogue().values() for kind in entry.market_types]
SPOTS: Final = [exchange for exchange, kind in CASES if kind is MarketType.SPOT]

NO_MARKET_ORDERS: Final = {"coinone", "coinspot", "gemini", "nado", "p2b", "zaif"}
"""Classes that place limit orders only, and say so."""
BOUNDED: Final = {"derive"}
"""Classes whose market orders, either way, need a price that bounds them, and which place none for another reason."""


@dataclass
class Tried:
    """What came of an order."""

    sent: list[Sent]
    words: str
    request: OrderRequest

    @property
    def places(self) -> list[Sent]:
        """The requests that say what is to be traded."""
        told = {self.request.client_order_id, "0.37", "37", "7400", "37000000"}
        return [each for each in self.sent if told & {value for _, value in each.pairs()}]


async def _tried(exchange: str, market_type: MarketType, order_type: OrderType) -> Tried:
    async with driven(exchange, market_type, ANSWERS.get(exchange, {})) as opened:
        request = opened.request(order_type, Side.BUY)
        words = await _caught(opened, request)
        return Tried(opened.taken(), words, request)


async def _caught(opened: Any, request: OrderRequest) -> str:
    order = creation(
        request,
        opened.listed_as,
        opened.profile,
        is_hedged=False,
        quote=quote(request.symbol),
        leverage=PLAIN.leverage,
    )
    with calling(Call(signed_at=request.signed_at)):
        try:
            await opened.exchange.create_order(
                order.symbol, order.type, order.side, order.amount, order.price, order.params
            )
        except Exception as error:  # noqa: BLE001 - what a class says of an order is what is looked at
            return f"{type(error).__name__} {error}"
    return ""


@pytest.mark.parametrize("exchange", SPOTS)
async def test_a_market_buy_is_told_what_its_class_asks_for(exchange: str) -> None:
    tried = await _tried(exchange, MarketType.SPOT, OrderType.MARKET)
    if exchange in NO_MARKET_ORDERS:
        assert "limit" in tried.words
        return
    if exchange in BOUNDED:
        assert "price" in tried.words
        return
    complains = not tried.places and re.search(r"\bcost\b|\bprice\b", tried.words)
    assert not complains, tried.words
    if "createMarketBuyOrderRequiresPrice" in _source_of(exchange) and not tried.places:
        # It cannot be driven so far without an account: what its source says has to be in the profile.
        assert profile_of(exchange, MarketType.SPOT).market_buy is not MarketBuy.QUANTITY


@pytest.mark.parametrize(("exchange", "market_type"), CASES, ids=lambda part: str(part))
async def test_who_places_by_get_is_known(exchange: str, market_type: MarketType) -> None:
    by_get = profile_of(exchange, market_type).places_by_get
    tried = await _tried(exchange, market_type, OrderType.LIMIT)
    if tried.places:
        assert {each.method == "GET" for each in tried.places} == {by_get}
    # Some cannot be driven so far without an account.
    assert bool(_gets(exchange)) is by_get, _gets(exchange)


ODD: Final = {
    ("bitflyer", MarketType.SPOT): {"the cancel says None", "the look-up says None"},
    ("bydfi", MarketType.SWAP): {"nothing is cancelled"},
    ("coinone", MarketType.SPOT): {"nothing is cancelled"},
    ("coinspot", MarketType.SPOT): {"nothing is cancelled", "nothing is looked up"},
    ("indodax", MarketType.SPOT): {"nothing is cancelled"},
    ("paymium", MarketType.SPOT): {"nothing is looked up"},
    ("zebpay", MarketType.SWAP): {"nothing is cancelled"},
}
"""What classes do that are listed for it, or for more: they list orders, have no such request, fill in the limit, or
ask for more of an order than its id."""


SCALES: Final = (1, 10**8, 10**18)
"""By what amounts are multiplied on the wire."""
NUMBER: Final = re.compile(r"\d+(\.\d+)?")


async def test_every_class_places_finds_and_takes_back_the_one_order_that_is_meant() -> None:
    wrong = await asyncio.gather(*(_wrong(*case) for case in CASES))
    found = dict(zip(CASES, wrong, strict=True))
    assert {exchange for (exchange, _), each in found.items() if each is None} == UNPLACED.keys()
    assert {case: each for case, each in found.items() if each} == ODD
    assert not ODD.keys() & (CERTIFIED | COMPATIBLE)


async def _wrong(exchange: str, market_type: MarketType) -> set[str] | None:
    """What is wrong with what leaves for a limit entry, its look-up and its cancel; None where no order leaves."""
    async with driven(exchange, market_type, ANSWERS.get(exchange, {})) as opened:
        request = opened.request(OrderType.LIMIT, Side.BUY)
        await _caught(opened, request)
        sent = opened.taken()
        tried = Tried(sent, "", request)
        if not tried.places:
            return None
        ids = [value for each in sent for _, value in each.pairs() if request.client_order_id in value]
        wrong = _silly("the order", sent)
        wrong |= set() if len(sent) == len(ids) == 1 else {"an order is not one request with one id of ours"}
        amount = QUANTITY / CONTRACT if market_type is MarketType.SWAP else QUANTITY
        numbers = {Decimal(value) for _, value in sent[0].pairs() if NUMBER.fullmatch(value)}
        if not {amount * scale for scale in SCALES} & numbers:
            wrong.add("the amount is another")
        # Classes keep what they are given, and what they were told before.
        await _caught(opened, request)
        again = opened.taken()
        if list(map(_said_by, again)) != list(map(_said_by, sent)):
            wrong.add("the next order is another")
        # By the venue's id where orders are found in lists, by ours where they are asked for by it.
        key = opened.key()
        names = {key.client_order_id, ORDER_ID}
        with suppress(VenueError):
            await opened.broker.cancel(key)
        sent = opened.taken()
        wrong |= _silly("the cancel", sent)
        cancel = sent[0] if sent else None
        await opened.broker.find(key)
        sent = opened.taken()
        # A cancel that is not sent is still looked after.
        if cancel is None or (sent and _asks_the_same(cancel, sent[0])):
            wrong.add("nothing is cancelled")
        elif not any(cancel.names_order(name) for name in names):
            wrong.add("the cancel names another order")
        return wrong | _silly("the look-up", sent) | (set() if sent else {"nothing is looked up"})


def _asks_the_same(one: Sent, other: Sent) -> bool:
    """Whether two requests say the same, but for numbers and signatures."""
    return _said_by(one) == _said_by(other)


def _said_by(sent: Sent) -> tuple[str, str, set[tuple[str, str]]]:
    words = {(name, value if value.replace("_", "").isalpha() else "") for name, value in sent.pairs()}
    return sent.method, urlsplit(sent.url).path, words


def _silly(what: str, sent: Sequence[Sent]) -> set[str]:
    """Whether something is said that Python says of nothing."""
    said = {value for each in sent for _, value in each.pairs()} | {
        step for each in sent for step in urlsplit(each.url).path.split("/")
    }
    return {f"{what} says None"} if said & {"None", "null", "nan", "undefined"} else set()


BUILT: Final = [exchange for exchange in catalogue() if "builderFee" in getattr(library, exchange)().options]


@pytest.mark.parametrize("exchange", BUILT)
async def test_nobody_is_paid_for_an_owners_orders(exchange: str) -> None:
    """Left to itself each of these classes signs, in the owner's name, that a builder may charge for every order."""
    for kind in catalogue()[exchange].market_types:
        async with driven(exchange, kind, ANSWERS.get(exchange, {})) as opened:
            assert opened.exchange.options["builderFee"] is False
            await _caught(opened, opened.request(OrderType.LIMIT, Side.BUY))
            sent = opened.taken()
            assert not [name for each in sent for name, _ in each.pairs() if "builder" in name.lower()]
            assert not [each.url for each in sent if "builder" in each.url.lower()]


DOCUMENTED: Final = {("coinone", "user_order_id"), ("coinsph", "newClientOrderId"), ("deribit", "label")}
"""What venues call our id in their references, where their classes pass it on unread."""
UNSHOWN: Final = {"nado"}
"""Where it comes with fills that are streamed, and not with an order that is asked for."""


async def test_the_catalogue_says_whose_orders_carry_our_id() -> None:
    found = dict(zip(CASES, await asyncio.gather(*(_is_named(*case) for case in CASES)), strict=True))
    said = {
        (entry.id, kind): told
        for entry in catalogue().values()
        for kind, told in entry.client_order_ids.items()
    }
    assert said == found


async def _is_named(exchange: str, market_type: MarketType) -> bool | None:
    """Whether our id leaves under a name that means something there; None where no order leaves."""
    tried = await _tried(exchange, market_type, OrderType.LIMIT)
    if not tried.places:
        return None
    [name] = [
        name for each in tried.sent for name, value in each.pairs() if tried.request.client_order_id in value
    ]
    is_known = _reads(exchange, name) or (exchange, name) in DOCUMENTED
    return is_known and exchange not in UNSHOWN


_UUID: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
MADE: Final = {
    **dict.fromkeys(("bitfinex", "bullish", "coinmate", "grvt", "nado", "ndax", "woo"), r"\d{1,19}"),
    **dict.fromkeys(("bitvavo", "revolutx"), _UUID),
    "hyperliquid": "0x[0-9a-f]{32}",
}
"""Where venues take ids of one make only."""


@pytest.mark.parametrize("exchange", MADE)
async def test_our_id_is_of_the_make_that_its_venue_takes(exchange: str) -> None:
    for market_type in catalogue()[exchange].market_types:
        tried = await _tried(exchange, market_type, OrderType.LIMIT)
        [value] = [v for each in tried.sent for _, v in each.pairs() if tried.request.client_order_id in v]
        assert re.fullmatch(MADE[exchange], value)


_REDUCE: Final = {("reduceOnly", "true")}
_REDUCE_SNAKE: Final = {("reduce_only", "true")}
EXITS: Final[Mapping[str, set[tuple[str, str]]]] = {
    "aster": {("reduceOnly", "True")},
    "bitfinex": {("flags", "1024")},
    "bitget": {("reduceOnly", "YES")},
    "bitrue": {("open", "CLOSE")},
    "deepcoin": {("posSide", "long"), *_REDUCE},
    **dict.fromkeys(("delta", "deribit", "fmfwio", "gate", "grvt", "hitbtc", "modetrade"), _REDUCE_SNAKE),
    "digifinex": {("type", "3")},
    "hashkey": {("side", "SELL_CLOSE"), *_REDUCE},
    "hibachi": {("orderFlags", "REDUCE_ONLY")},
    "htx": {("reduce_only", "1")},
    "hyperliquid": {("r", "true")},
    "mexc": {("side", "4")},
    "mudrex": _REDUCE_SNAKE,
    "paradex": {("flags", "REDUCE_ONLY")},
    "toobit": {("side", "SELL_CLOSE")},
    **{each: {("positionSide", "LONG"), *_REDUCE} for each in ("weex", "xt")},
    "woofipro": _REDUCE_SNAKE,
}
"""What a sale says that may only reduce a long position, and one that may open a short does not, where that differs."""
PASSED_ON: Final = {"whitebit"}
"""Where the word is the venue's own, though its class passes it on unread."""
SWAPS: Final = [
    exchange
    for exchange, kind in CASES
    if kind is MarketType.SWAP and exchange not in NO_MARKET_ORDERS and exchange not in UNPLACED
]


@pytest.mark.parametrize("exchange", SWAPS)
async def test_an_exit_says_that_it_only_reduces_or_no_account_is_opened(exchange: str) -> None:
    async with driven(exchange, MarketType.SWAP, ANSWERS.get(exchange, {})) as opened:
        said = []
        for reduce_only in (False, True):
            await _caught(opened, opened.request(OrderType.MARKET, Side.SELL, reduce_only=reduce_only))
            [sent] = opened.taken()
            said.append(set(sent.pairs()))
    words = EXITS.get(exchange, _REDUCE)
    is_said = words <= said[1] and not words & said[0]
    is_meant = words != _REDUCE or _reads(exchange, "reduceOnly") or exchange in PASSED_ON
    assert (is_said and is_meant) is ((exchange, MarketType.SWAP) not in UNREDUCED)


def _reads(exchange: str, word: str) -> bool:
    """Whether the class's own code looks a word up, rather than passing on what it is given."""
    return re.search(rf"^[^#\n]*'{re.escape(word)}'(?!:)", _source_of(exchange), re.MULTILINE) is not None


@cache
def _text_of(module: str) -> str:
    return Path(inspect.getfile(sys.modules[module])).read_text()


def _source_of(exchange: str) -> str:
    """Of a class and those it is made of, but for the one that all are."""
    modules = dict.fromkeys(each.__module__ for each in getattr(library, exchange).__mro__)
    own = [each for each in modules if "async_support" in each and not each.endswith("base.exchange")]
    return "".join(_text_of(module) for module in own)


_METHODS: Final = re.compile(r"\n    (?:async )?def ")
_CREATES: Final = re.compile(r"create_\w*orders?\(")
_ASKS: Final = re.compile(r"await self\.([a-zA-Z0-9_]*(?:ublic|rivate|Rpc)[a-zA-Z0-9]*?Get[A-Z]\w*)\(")
"""Methods of a class that are requests by GET."""


def _gets(exchange: str) -> list[str]:
    """Those by which it creates orders."""
    methods = _METHODS.split(_source_of(exchange))
    return [name for body in methods if _CREATES.match(body) for name in _ASKS.findall(body)]
