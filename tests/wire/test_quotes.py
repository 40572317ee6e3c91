"""Quotes where a venue answers some questions and not others: what can be told is told."""

from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any, Final

import pytest

from app.brokers.crypto.catalogue import catalogue
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.tiers import REASONS
from app.brokers.port import Unreachable, VenueError
from app.domain.market import MarketType, Quote
from tests.wire.classes import driven
from tests.wire.transport import Sent

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP
BTC, ETH = "BTC/USDT", "ETH/USDT"
CASES: Final = [(entry.id, kind) for entry in catalogue().values() for kind in entry.market_types]
NOT_QUOTED: Final = {"modetrade", "mudrex", "pacifica", "woofipro"}
"""Classes that refuse to ask without a key, or with exact numbers; they are listed with that reason."""
_REFUSAL: Final = {"code": "51001", "msg": "Instrument ID does not exist", "data": []}


def _ticker(name: str, bid: str, ask: str) -> dict[str, str]:
    return {"instId": name, "last": ask, "bidPx": bid, "askPx": ask, "ts": "1795512601000"}


def _book(bid: str, ask: str) -> Any:
    return {
        "code": "0",
        "data": [{"asks": [[ask, "1", "0", "1"]], "bids": [[bid, "1", "0", "1"]], "ts": "1795512601000"}],
    }


def _ok(*rows: Any) -> Any:
    return {"code": "0", "msg": "", "data": list(rows)}


async def _quoted(
    answer: Callable[[Sent], Any], symbols: Collection[str] = (BTC, ETH)
) -> tuple[Mapping[str, Quote] | VenueError, list[str]]:
    """What OKX's quotes are, or why there are none, and the paths that were asked."""
    async with driven("okx", SPOT, {}) as opened:
        opened.public.venue = answer
        try:
            told: Mapping[str, Quote] | VenueError = await opened.broker.quotes(list(symbols))
        except VenueError as failure:
            told = failure
        return told, [each.url.partition("/market/")[2] for each in opened.public.sent]


async def test_a_list_that_is_refused_is_asked_for_symbol_by_symbol_and_one_blinds_no_other() -> None:
    def answer(sent: Sent) -> Any:
        is_btc = "ticker?" in sent.url and "BTCUSDT" in sent.url
        return _ok(_ticker("BTCUSDT", "19990", "20000")) if is_btc else _REFUSAL

    told, asked = await _quoted(answer)
    assert isinstance(told, Mapping)
    assert {symbol: quote.ask for symbol, quote in told.items()} == {BTC: Decimal(20000)}
    assert [each.partition("?")[0] for each in asked] == ["tickers", "ticker", "ticker", "books"]


async def test_what_a_ticker_does_not_hold_the_book_does() -> None:
    def answer(sent: Sent) -> Any:
        if "/market/books" in sent.url:
            return _book("19990", "20000")
        return _ok(_ticker("BTCUSDT", "", ""), _ticker("ETHUSDT", "990", "1000"))

    told, asked = await _quoted(answer)
    assert isinstance(told, Mapping)
    assert {symbol: (quote.bid, quote.ask) for symbol, quote in told.items()} == {
        BTC: (Decimal(19990), Decimal(20000)),
        ETH: (Decimal(990), Decimal(1000)),
    }
    # The ticker alone holds no more than the list did, and is asked in case it does.
    assert [each.partition("?")[0] for each in asked] == ["tickers", "ticker", "books"]


async def test_a_market_without_both_sides_has_no_quote_and_that_is_no_failure() -> None:
    def answer(sent: Sent) -> Any:
        if "/market/books" in sent.url:
            return {
                "code": "0",
                "data": [{"asks": [], "bids": [["1", "1", "0", "1"]], "ts": "1795512601000"}],
            }
        return _ok(_ticker("BTCUSDT", "", ""))

    told, _ = await _quoted(answer, [BTC])
    assert told == {}


async def test_a_venue_out_of_reach_is_asked_once() -> None:
    told, asked = await _quoted(lambda _: None)
    assert isinstance(told, Unreachable)
    assert len(asked) == 1


async def test_a_venue_that_refuses_everything_says_so() -> None:
    told, _ = await _quoted(lambda _: _REFUSAL)
    assert isinstance(told, VenueError)


@pytest.mark.parametrize("exchange", ["upbit", "lbank", "blockchaincom", "deepcoin"])
async def test_whose_tickers_hold_no_sides_is_asked_for_its_books(exchange: str) -> None:
    async with driven(exchange, SPOT, {}) as opened:
        with pytest.raises(VenueError):
            await opened.broker.quotes([BTC])
        [sent] = opened.public.sent
        assert any(word in sent.url.lower() for word in ("book", "depth", "l2"))


def test_markets_that_share_a_table_are_quoted_alike() -> None:
    for entry in catalogue().values():
        profiles = [profile_of(entry.id, kind) for kind in entry.market_types]
        shared = [profile.quoted_by for profile in profiles if not profile.alone]
        assert len(set(shared)) <= 1, entry.id


@pytest.mark.parametrize(("exchange", "market_type"), CASES, ids=lambda part: str(part))
async def test_every_class_sends_a_question_about_one_symbol_and_about_two(
    exchange: str, market_type: MarketType
) -> None:
    async with driven(exchange, market_type, {}) as opened:
        symbols = [opened.symbol, opened.symbol.replace("BTC", "ETH")]
        for asked in (symbols[:1], symbols):
            opened.public.sent.clear()
            with pytest.raises(VenueError):
                await opened.broker.quotes(asked)
            assert bool(opened.public.sent) is (exchange not in NOT_QUOTED)
    if exchange in NOT_QUOTED:
        assert (exchange, market_type) in REASONS
