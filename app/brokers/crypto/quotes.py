"""Quotes: both sides of a market, by whichever of a class's questions tells them. No symbol blinds another."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.crypto.clock import VenueClock
from app.brokers.crypto.exchange import Call, calling
from app.brokers.crypto.markets import decimal
from app.brokers.crypto.outcomes import of_keyless_read
from app.brokers.crypto.ways import Quoting
from app.brokers.limits.buckets import Urgency
from app.brokers.port import BANNED, Uncertain, VenueError
from app.domain.market import Quote

_AT_ONCE: Final = (Quoting.BIDS_ASKS, Quoting.TICKERS)
"""Questions about many symbols."""

_SLOW_DOWN: Final = (library.RateLimitExceeded, library.DDoSProtection)


class Quotes:
    """The questions of one class, in the order in which they are tried."""

    def __init__(self, exchange: Any, ways: Sequence[Quoting], clock: VenueClock) -> None:
        self._exchange = exchange
        self._clock = clock
        has = exchange.has
        # What a class puts together out of other questions is no saving.
        self._ways = [
            way for way in ways if has.get(way.value) is True or (has.get(way.value) and way not in _AT_ONCE)
        ]

    async def of(self, symbols: Sequence[str], now: Callable[[], datetime]) -> Mapping[str, Quote]:
        """The quotes of symbols that are listed; those that have none are left out.

        Raises VenueError where the venue cannot be reached, and where no symbol could be asked about.
        """
        found: dict[str, Quote] = {}
        failure: VenueError | None = None
        is_answered = False
        for way in self._ways:
            rest = [symbol for symbol in symbols if symbol not in found]
            if not rest:
                break
            # One symbol is asked about by itself where that is another question: lists are long and dear.
            if way is Quoting.TICKERS and len(rest) == 1 and Quoting.TICKER in self._ways:
                continue
            asked_at = now()
            try:
                answers = await (self._at_once(way, rest) if way in _AT_ONCE else self._one_by_one(way, rest))
            except VenueError:
                if found:
                    return found
                raise
            for symbol, answer in answers.items():
                if isinstance(answer, VenueError):
                    failure = answer
                    continue
                is_answered = True
                quote = _quote(symbol, answer, asked_at, self._clock)
                if quote is not None:
                    found[symbol] = quote
        if not is_answered:
            raise failure or Uncertain(f"{self._exchange.name} does not tell its prices.")
        return found

    async def _at_once(self, way: Quoting, symbols: Sequence[str]) -> Mapping[str, Any]:
        """The answers of one request by symbol. Raises VenueError where the venue is out of reach."""
        exchange = self._exchange
        ask = exchange.fetch_bids_asks if way is Quoting.BIDS_ASKS else exchange.fetch_tickers
        answers = await self._asked(lambda: ask(list(symbols), {}))
        if isinstance(answers, VenueError):
            return dict.fromkeys(symbols, answers)
        return {symbol: answers[symbol] for symbol in symbols if symbol in answers}

    async def _one_by_one(self, way: Quoting, symbols: Sequence[str]) -> Mapping[str, Any]:
        """The answers of a request for each symbol, side by side. Raises VenueError where every one is out of reach."""
        ask = self._exchange.fetch_ticker if way is Quoting.TICKER else self._book
        lost: list[VenueError] = []

        async def one(symbol: str) -> Any:
            try:
                return await self._asked(lambda: ask(symbol))
            except VenueError as failure:
                lost.append(failure)
                return failure

        answers = await asyncio.gather(*(one(symbol) for symbol in symbols))
        if len(lost) == len(symbols):
            raise lost[0]
        return dict(zip(symbols, answers, strict=True))

    async def _book(self, symbol: str) -> Mapping[str, Any]:
        """The top of a symbol's order book, in the words of a ticker."""
        book = await self._exchange.fetch_order_book(symbol, None, {})
        bids, asks = book.get("bids") or (), book.get("asks") or ()
        return {
            "bid": bids[0][0] if bids else None,
            "ask": asks[0][0] if asks else None,
            "timestamp": book.get("timestamp"),
        }

    async def _asked(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """An answer, or the failure of a question that another may stand in for.

        Raises VenueError where the venue gave none or wants us to slow down: the next question would fare no better.
        """
        with calling(Call(urgency=Urgency.PROTECTION)) as call:
            try:
                return await ask()
            except Exception as error:  # noqa: BLE001 - classes raise anything; each is told as what it proves
                failure = of_keyless_read(error, call)
                # Classes take a refusal of one symbol for an outage; a venue that is in trouble says so by its status.
                is_out = call.status is None or call.status >= 500
                is_silent = isinstance(error, library.OperationFailed) and is_out
                if isinstance(error, (VenueError, *_SLOW_DOWN)) or is_silent or failure.code == BANNED:
                    raise failure from None
                return failure


def price_of(answer: Any, field: str) -> Decimal | None:
    """A price above zero in an answer; None where there is none that can be read."""
    try:
        price = decimal(answer[field])
    except (ArithmeticError, KeyError, TypeError):
        return None
    return price if price is not None and price > 0 else None


def _quote(symbol: str, ticker: Any, asked_at: datetime, clock: VenueClock) -> Quote | None:
    """None without both sides, or where they cannot be read. What carries no time is as old as the question."""
    bid, ask = price_of(ticker, "bid"), price_of(ticker, "ask")
    if bid is None or ask is None:
        return None
    try:
        moment = ticker.get("timestamp")
        told_at = clock.ours(datetime.fromtimestamp(int(moment) / 1000, UTC)) if moment else asked_at
    except (ValueError, TypeError, OSError, OverflowError):
        return None
    return Quote(symbol=symbol, bid=bid, ask=ask, time=told_at)
