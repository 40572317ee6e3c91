"""What is looked for in every class of the pinned ccxt, so that none of a newer one gets in unseen."""

import asyncio
import inspect
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
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
from app.brokers.crypto.tiers import CERTIFIED, COMPATIBLE
from app.brokers.crypto.ways import MarketBuy
from app.brokers.port import VenueError
from app.domain.market import MarketType
from app.domain.orders import OrderRequest, OrderType, Side
from tests.wire.classes import ORDER_ID, PLAIN, driven, quote
from tests.wire.table import ANSWERS
from tests.wire.transport import Sent

CASES: Final = [(entry.id, kind) for entry in catalogue().values() for kind in entry.market_types]
SPOTS: Final = [exchange for exchange, kind in CASES if kind is MarketType.SPOT]

NO_MARKET_ORDERS: Final = {"coinone", "coinspot", "gemini", "p2b", "zaif"}
"""Classes that place limit orders only, and say so."""
BOUNDED: Final = {"apex", "derive", "mudrex"}
"""Classes whose market orders, either way, need a price that bounds them; they are listed with that reason."""


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


UNDRIVEN: Final = {
    *{"apex", "aster", "bitbns", "bitfinex", "bithumb", "bittrade", "bitvavo", "bullish", "cex", "coinone"},
    *{"coinbaseinternational", "derive", "dydx", "extended", "gemini", "grvt", "hibachi", "lighter", "nado"},
    *{"ndax", "pacifica", "paradex", "polymarket", "revolutx"},
}
"""Classes that place nothing without an account's answers, keys of a certain make or markets of their own."""

ODD: Final = {
    ("bitflyer", MarketType.SPOT): {"the cancel says None", "the look-up says None"},
    ("bydfi", MarketType.SWAP): {"the cancel names another order"},
    ("coinspot", MarketType.SPOT): {"nothing is cancelled", "nothing is looked up"},
    ("paymium", MarketType.SPOT): {"nothing is looked up"},
}
"""What classes do that are listed for it, or for more: they list orders, have no such request, or fill in the limit."""


async def test_every_class_places_finds_and_takes_back_the_one_order_that_is_meant() -> None:
    wrong = await asyncio.gather(*(_wrong(*case) for case in CASES))
    found = dict(zip(CASES, wrong, strict=True))
    assert {exchange for (exchange, _), each in found.items() if each is None} == UNDRIVEN
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
        # By the venue's id where orders are found in lists, by ours where they are asked for by it.
        key = opened.key()
        names = {key.client_order_id, ORDER_ID}
        with suppress(VenueError):
            await opened.broker.cancel(key)
        sent = opened.taken()
        wrong |= _silly("the cancel", sent)
        if not sent:
            wrong.add("nothing is cancelled")
        elif not any(sent[0].names_order(name) for name in names):
            wrong.add("the cancel names another order")
        await opened.broker.find(key)
        sent = opened.taken()
        return wrong | _silly("the look-up", sent) | (set() if sent else {"nothing is looked up"})


def _silly(what: str, sent: Sequence[Sent]) -> set[str]:
    """Whether something is said that Python says of nothing."""
    said = {value for each in sent for _, value in each.pairs()} | {
        step for each in sent for step in urlsplit(each.url).path.split("/")
    }
    return {f"{what} says None"} if said & {"None", "null", "nan", "undefined"} else set()


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
