"""The play: five owners at five venues, a buy that reaches its targets, a sell that is stopped out, and the proof."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from traceback import extract_tb
from typing import Any, Final

from app.demo.proof import Finding, analytics_agree, pnl_agrees
from app.demo.screen import as_price
from app.demo.show import Play
from app.demo.signals import breakout, fade
from app.demo.stage import EXECUTION_PATIENCE, Stage
from app.demo.trader import Style, Trader
from tests.demo.books import Book, ExchangeBook, MetaTraderBook
from tests.venues.exchange import Exchange
from tests.venues.floor import Floor
from tests.venues.metatrader import MetaTraderVenue

COIN: Final = "BTC/USDT"
PAIR: Final = "EUR/USD"
PIP: Final = Decimal("0.00001")
EXIT_PATIENCE: Final = timedelta(seconds=60)
STEPS: Final = 12
STEP_SECONDS: Final = 0.25
RISK: Final[Mapping[str, Any]] = {"sizing": {"strategy": "risk_percentage", "value": "1"}}

PAST_FIRST_TARGET: Final = Decimal("1.01")
PAST_LAST_TARGET: Final = Decimal("1.022")
PAST_STOP: Final = Decimal("1.006")


@dataclass(frozen=True, slots=True)
class Seat:
    """An owner's account at a venue, from both sides."""

    venue: str
    style: Style
    book: Book
    currency: str
    sells: bool = True
    """Whether it can open shorts."""


def play_of(exchanges: Exchange, bridges: MetaTraderVenue) -> Play:
    """The play on these venues, with a fresh account at each."""
    seats = {
        "ann": _swap_seat("Binance USD-M", "binanceusdm", exchanges, exchanges.usdm.floor),
        "ben": _spot_seat("Binance spot", "binance", exchanges, exchanges.spot.floor),
        "cid": _swap_seat("Bybit", "bybit", exchanges, exchanges.bybit.floor),
        "dan": _fx_seat("MetaTrader 5", "mt5", bridges),
        "eve": _fx_seat("MetaTrader 4", "mt4", bridges),
    }
    return Play(
        title="Signed signals on simulated exchanges and MetaTrader brokers, which speak the venues' own protocols.",
        prices="the simulated venues' own; this program lets them walk",
        prices_afterwards="the simulated venues' own; they stand still",
        opening="Five owners subscribe and connect an account each, by its credentials",
        traders={name: seat.style for name, seat in seats.items()},
        act=lambda stage: Performance(stage, list(seats.values()), exchanges, bridges).act(),
    )


def _swap_seat(venue: str, exchange: str, exchanges: Exchange, floor: Floor) -> Seat:
    terms = {"exchange": exchange, "market_type": "swap", "leverage": "5", **RISK}
    described = f"{venue}, swap, risks 1 % of equity a trade; the venue holds stop and targets (native)"
    return _exchange_seat(venue, described, terms, exchanges, floor)


def _spot_seat(venue: str, exchange: str, exchanges: Exchange, floor: Floor) -> Seat:
    sizing = {"strategy": "fixed_amount", "value": "2000"}
    terms = {"exchange": exchange, "market_type": "spot", "sizing": sizing}
    described = f"{venue}, buys for 2,000 USDT a trade; the venue holds stop and targets (native)"
    return replace(_exchange_seat(venue, described, terms, exchanges, floor), sells=False)


def _exchange_seat(
    venue: str, described: str, terms: Mapping[str, Any], exchanges: Exchange, floor: Floor
) -> Seat:
    """An account that was opened just now, as its owner connects it."""
    keys = exchanges.open_account({"USDT": "10000"})
    credentials = {"api_key": keys.api_key, "api_secret": keys.secret}
    style = Style(described, "native", {"kind": "crypto", "credentials": credentials, **terms})
    return Seat(venue, style, ExchangeBook(floor.accounts[keys.api_key]), "USDT")


def _fx_seat(venue: str, platform: str, bridges: MetaTraderVenue) -> Seat:
    owner = bridges.open_account(platform, commission="3.5")
    credentials = {"account_id": str(owner.user), "api_secret": owner.password, "server": owner.server}
    style = Style(
        f"{venue}, risks 1 % of equity a trade; the position carries stop and last target (native)",
        "native",
        {"kind": "fx", "exchange": platform, "market_type": "fx", "credentials": credentials, **RISK},
    )
    return Seat(venue, style, MetaTraderBook(bridges.login(platform, owner.user)), "USD")


@dataclass
class Performance:
    """One run of the play, with what has been found so far."""

    stage: Stage
    seats: Sequence[Seat]
    exchanges: Exchange
    bridges: MetaTraderVenue
    findings: list[Finding] = field(default_factory=list)

    @property
    def cast(self) -> list[tuple[Trader, Seat]]:
        """Traders with their accounts."""
        return list(zip(self.stage.traders, self.seats, strict=True))

    async def act(self) -> list[Finding]:
        """Both signals, each judged by what the venues' ledgers have gained; then the day as a whole."""
        rounds = [await self._judged(self._win), await self._judged(self._lose)]
        summaries = await self.stage.show_analytics()
        for trader, seat in self.cast:
            results = [each[trader.name] for each in rounds if trader.name in each]
            self.findings.append(analytics_agree(trader.name, summaries[trader.name], seat.currency, results))
        self.findings += [self._left_behind(trader, seat) for trader, seat in self.cast]
        by_trader = sorted(self.findings, key=lambda finding: finding.claim.partition(":")[0])
        return [*by_trader, self._audited()]

    async def _judged(self, act: Callable[[], Awaitable[Mapping[str, str]]]) -> dict[str, Decimal]:
        """Play an act, which answers its signal by trader; answer what each account that traded has gained."""
        before = {trader.name: seat.book.result for trader, seat in self.cast}
        signals = await act()
        gained = {}
        for trader, seat in self.cast:
            position = trader.position_of(signals[trader.name])
            if position is not None:
                gained[trader.name] = seat.book.result - before[trader.name]
                self.findings.append(
                    pnl_agrees(trader.name, position, gained[trader.name], f"the ledger of {seat.venue}")
                )
        return gained

    async def _win(self) -> dict[str, str]:
        """A buy of each market: every account takes it, its venue holds the exits, both targets are reached."""
        self.stage.screen.title("Two buy signals, signed and posted to the webhook")
        coin, pair = self._prices()
        signals = await self._publish(breakout(coin), breakout(pair, PAIR, PIP))
        await self._until(
            "a protected position on every account",
            lambda trader: trader.is_protected(signals[trader.name]),
            EXECUTION_PATIENCE,
        )
        self.stage.screen.title("What the venues' own books say")
        for trader, seat in self.cast:
            self.findings += [
                trader.answered("the buy", signals[trader.name], "executed"),
                self._held_there(trader, seat, signals[trader.name]),
            ]
        self.stage.screen.title("The prices rise")
        await self._walk_until(
            coin * PAST_FIRST_TARGET,
            pair * PAST_FIRST_TARGET,
            "a first take-profit on every account",
            lambda trader: trader.told("tp_hit", signals[trader.name]).holds,
        )
        await self._walk_until(
            coin * PAST_LAST_TARGET,
            pair * PAST_LAST_TARGET,
            "the close of every position at its last take-profit",
            lambda trader: trader.has_left(signals[trader.name], "take_profit"),
        )
        self.findings += [trader.told("tp_hit", signals[trader.name]) for trader in self.stage.traders]
        return signals

    async def _lose(self) -> dict[str, str]:
        """A sell of each market, against a rise: spot cannot open it, everyone else is stopped out at the venue."""
        self.stage.screen.title("Two sell signals")
        coin, pair = self._prices()
        signals = await self._publish(fade(coin, coin), fade(pair, pair, PAIR, PIP))
        spot = {trader.name for trader, seat in self.cast if not seat.sells}
        await self._until(
            "a protected short everywhere but on spot, which denies it",
            lambda trader: (trader.was_denied if trader.name in spot else trader.is_protected)(
                signals[trader.name]
            ),
            EXECUTION_PATIENCE,
        )
        self.stage.screen.title("The prices go on rising")
        await self._walk_until(
            coin * PAST_STOP,
            pair * PAST_STOP,
            "the close of every short at its stop-loss",
            lambda trader: trader.name in spot or trader.has_left(signals[trader.name], "stop_loss"),
        )
        for trader, seat in self.cast:
            signal = signals[trader.name]
            self.findings.append(trader.answered("the sell", signal, "executed" if seat.sells else "denied"))
            if seat.sells:
                self.findings.append(trader.told("sl_hit", signal))
        return signals

    async def _publish(self, coin: Mapping[str, Any], pair: Mapping[str, Any]) -> dict[str, str]:
        """Publish a signal of each market; answers which is whose."""
        signals = {
            "USDT": await self.stage.publish({**coin, "market": "crypto"}),
            "USD": await self.stage.publish(
                {**pair, "market": "fx", "title": f"Euro {pair['title'].lower()}"}
            ),
        }
        return {trader.name: signals[seat.currency] for trader, seat in self.cast}

    def _held_there(self, trader: Trader, seat: Seat, signal: str) -> Finding:
        """Stop and last target of a position rest at its venue, whatever the engine says."""
        resting = seat.book.resting
        for each in resting:
            self.stage.screen.line(trader.name, f"{seat.venue:<13} {each.described}")
        position = trader.position_of(signal)
        assert position is not None
        stops = {each.price for each in resting if each.is_stop}
        targets = {each.price for each in resting if not each.is_stop}
        return Finding(
            f"{trader.name}: stop and last target rest at {seat.venue}",
            f"stop {', '.join(map(as_price, sorted(stops)))}, targets {', '.join(map(as_price, sorted(targets)))}",
            stops == {position.stop_loss} and position.take_profits[-1].price in targets,
        )

    def _left_behind(self, trader: Trader, seat: Seat) -> Finding:
        """No order came twice, and nothing rests at the venue any more."""
        book = seat.book
        return Finding(
            f"{trader.name}: the books of {seat.venue}",
            f"{book.orders} orders accepted, {book.doubles} of them twice; {len(book.resting)} still rest there",
            not book.doubles and not book.resting,
        )

    def _audited(self) -> Finding:
        """No venue made or lost money, broke down, or was asked for what it does not know."""
        found, holds = "deposits and trades explain every balance", True
        try:
            self.exchanges.audit()
            self.bridges.audit()
        except AssertionError as wrong:
            found, holds = f"does not hold: {extract_tb(wrong.__traceback__)[-1].line}", False
        return Finding("every venue: its ledger", found, holds)

    async def _until(self, awaited: str, happened: Callable[[Trader], bool], patience: timedelta) -> None:
        traders = self.stage.traders
        deadline = datetime.now(UTC) + patience
        await self.stage.until(awaited, lambda: all(happened(trader) for trader in traders), deadline)

    async def _walk_until(
        self, coin: Decimal, pair: Decimal, awaited: str, happened: Callable[[Trader], bool]
    ) -> None:
        """Let the prices walk while everyone looks on, until something has happened everywhere."""
        walk = asyncio.create_task(self._walk(coin, pair), name="prices")
        try:
            await self._until(awaited, happened, EXIT_PATIENCE)
            await walk
        finally:
            walk.cancel()

    async def _walk(self, coin: Decimal, pair: Decimal) -> None:
        starts = self._prices()
        for step in range(1, STEPS + 1):
            now = [
                start + (end - start) * step / STEPS for start, end in zip(starts, (coin, pair), strict=True)
            ]
            for symbol in (COIN, f"{COIN}:USDT"):
                self.exchanges.move(symbol, now[0].quantize(Decimal("0.01")))
            self.bridges.move(PAIR, now[1].quantize(PIP))
            await asyncio.sleep(STEP_SECONDS)

    def _prices(self) -> tuple[Decimal, Decimal]:
        """Of the coin and of the pair, as the venues have them."""
        return self.exchanges.markets(COIN)[0].price, self.bridges.markets(PAIR)[0][1].bid
