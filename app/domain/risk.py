"""Risk: the checks an entry passes before it is claimed. Each raises Denied with its numbers, or passes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

from app.domain.errors import Denied
from app.domain.market import Instrument, MarketType, Quote
from app.domain.money import exact, parse, text
from app.domain.orders import OrderType, Side
from app.domain.signals import Market, Signal
from app.domain.symbols import read

DEFAULT_MAX_AGE = timedelta(seconds=300)
"""How old a market signal may be where the connection does not say."""

LIQUIDATION_BUFFER = Decimal("0.1")
"""Part of the way from entry to liquidation that the stop has to leave free."""


class Mode(StrEnum):
    """How far a connection, or the whole engine, may trade."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"

    @property
    def strictness(self) -> int:
        """Larger is stricter."""
        return list(Mode).index(self)


class OnDailyLoss(StrEnum):
    """What happens to open positions when the day's loss reaches its limit."""

    STOP = "stop"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Limits:
    """A connection's own limits; None is no limit."""

    max_open_positions: int | None = None
    max_positions_per_symbol: int | None = None
    max_daily_trades: int | None = None
    max_daily_loss: Decimal | None = None
    """Money, in each currency that positions are counted in."""
    on_daily_loss: OnDailyLoss = OnDailyLoss.STOP
    allow_symbols: Collection[str] = ()
    deny_symbols: Collection[str] = ()
    max_signal_age: timedelta | None = None
    max_price_drift_percent: Decimal | None = None
    max_spread_percent: Decimal | None = None

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """From the JSON a connection keeps (amounts as decimal strings)."""
        age = stored.get("max_signal_age_seconds")
        return cls(
            max_open_positions=stored.get("max_open_positions"),
            max_positions_per_symbol=stored.get("max_positions_per_symbol"),
            max_daily_trades=stored.get("max_daily_trades"),
            max_daily_loss=_optional(stored.get("max_daily_loss")),
            on_daily_loss=OnDailyLoss(stored.get("on_daily_loss") or OnDailyLoss.STOP),
            allow_symbols=tuple(stored.get("allow_symbols") or ()),
            deny_symbols=tuple(stored.get("deny_symbols") or ()),
            max_signal_age=None if age is None else timedelta(seconds=age),
            max_price_drift_percent=_optional(stored.get("max_price_drift_percent")),
            max_spread_percent=_optional(stored.get("max_spread_percent")),
        )


def _optional(value: object) -> Decimal | None:
    return None if value is None else parse(value)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What of ours is already under way on a connection, counted under its lock."""

    positions: int
    """Pending, sending, open and needs-review entries, and open and closing positions."""
    positions_of_symbol: int
    sides_of_symbol: frozenset[Side]
    entries_today: int
    """Executions that reached `sending` since 00:00 UTC."""
    lost_today: Mapping[str, Decimal] = field(default_factory=dict)
    """By currency: −(net realised profit since 00:00 UTC + change of unrealised since then)."""
    foreign_quantity: Decimal = Decimal(0)
    """What a netting account holds of the symbol, on whichever side, that we did not open."""
    in_review: bool = False
    """Whether nobody knows what became of an order of ours in the symbol."""


def check_mode(mode: Mode, *, whole_engine: bool = False) -> None:
    """Entries pass in mode `active` only."""
    who = "The whole engine" if whole_engine else "The connection"
    if mode is Mode.REDUCING:
        raise Denied("trading_reducing", f"{who} only reduces positions at the moment.")
    if mode is Mode.HALTED:
        raise Denied("trading_halted", f"{who} is halted.")


def check_market(signal: Signal, market_type: MarketType) -> None:
    """A signal that names its market is for accounts of that market."""
    market = Market.FX if market_type is MarketType.FX else Market.CRYPTO
    if signal.market is not None and signal.market is not market:
        raise Denied(
            "market_mismatch", f"The signal is for {signal.market} and this connection trades {market}."
        )


def check_age(signal: Signal, published_at: datetime, limits: Limits, now: datetime) -> None:
    """The signal has not expired, and is young enough; limit entries age only where the connection says so.

    A limit without an expiry of its own expires 24 h after its publication.
    """
    ends = signal.entry_ends_at(published_at)
    if ends is not None and now >= ends:
        raise Denied("signal_expired", f"The signal expired at {ends:%Y-%m-%dT%H:%M:%SZ}.")
    longest = limits.max_signal_age
    if longest is None and signal.order_type is OrderType.MARKET:
        longest = DEFAULT_MAX_AGE
    age = now - published_at
    if longest is not None and age > longest:
        raise Denied(
            "signal_too_old",
            f"The signal is {age.total_seconds():.0f} s old; {longest.total_seconds():.0f} s are accepted.",
        )


def check_symbol(instrument: Instrument, limits: Limits, aliases: Collection[str] = ()) -> None:
    """The owner's lists allow the symbol, in whatever form they name it; an empty allow list allows all.

    `aliases` are the owner's own names for the instrument: those of the symbol_map count as well.
    """
    if limits.allow_symbols and not _is_named(instrument, limits.allow_symbols, aliases):
        raise Denied("symbol_not_allowed", f"{instrument.symbol} is not on the connection's allow list.")
    if _is_named(instrument, limits.deny_symbols, aliases):
        raise Denied("symbol_not_allowed", f"{instrument.symbol} is on the connection's deny list.")


def _is_named(instrument: Instrument, names: Collection[str], aliases: Collection[str]) -> bool:
    written = (instrument.symbol, f"{instrument.base}/{instrument.quote}", instrument.base + instrument.quote)
    owned = {read(alias).compact for alias in aliases}
    return any(
        name in written or read(name).names(instrument) or read(name).compact in owned for name in names
    )


def check_direction(signal: Signal, instrument: Instrument) -> None:
    """Spot opens long only; elsewhere the venue may let open one side or none."""
    if not instrument.opens:
        raise Denied(
            "symbol_not_tradable", f"The venue lets nobody open positions in {instrument.symbol} at present."
        )
    if signal.direction not in instrument.opens:
        raise Denied(
            "direction_not_allowed",
            f"The venue lets {instrument.symbol} be opened by {' and '.join(instrument.opens)} orders only.",
        )
    if signal.direction is Side.SELL and instrument.market_type is MarketType.SPOT:
        raise Denied("short_not_supported", f"{instrument.symbol} is spot, which opens long only.")


def check_session(quote: Quote | None, symbol: str) -> None:
    """Hold an entry against the market's hours, where the venue tells them."""
    if quote is not None and not quote.is_session:
        raise Denied("market_closed", f"The market of {symbol} is closed at the moment.")


def check_quote(quote: Quote | None, symbol: str, now: datetime, max_age: timedelta) -> Quote:
    """The quote, when decisions may rest on it."""
    if quote is None:
        raise Denied("quote_stale", f"The venue quotes no price for {symbol}.")
    check_session(quote, symbol)
    if not 0 < quote.bid <= quote.ask:
        raise Denied(
            "quote_stale",
            f"The quote of {symbol} is unsound: bid {text(quote.bid)}, ask {text(quote.ask)}.",
        )
    if not quote.is_usable(now, max_age):
        age = (now - quote.time).total_seconds()
        raise Denied(
            "quote_stale",
            f"The last quote of {symbol} is {age:.0f} s old (bid {text(quote.bid)}, ask {text(quote.ask)}); "
            f"at most {max_age.total_seconds():.0f} s are accepted.",
        )
    return quote


@exact
def check_price(signal: Signal, quote: Quote, limits: Limits) -> None:
    """The live price has passed neither stop nor first target, has not drifted too far, and the spread is sane.

    Drift counts the adverse move only: (ask − entry) ÷ entry for buys, mirrored for sells.
    """
    first_target = signal.take_profits[0].price if signal.take_profits else None
    check_not_passed(signal.direction, signal.stop_loss, first_target, quote)
    if signal.order_type is OrderType.MARKET:
        _check_drift(signal, quote.entering(signal.direction), limits)
    widest = limits.max_spread_percent
    if widest is not None and quote.spread_percent > widest:
        raise Denied(
            "spread_too_wide",
            f"The spread is {quote.spread_percent:.4f} %; {text(widest)} % are accepted.",
        )


def check_not_passed(
    direction: Side, stop_loss: Decimal | None, first_target: Decimal | None, quote: Quote
) -> None:
    """The price at which a position could be left has reached neither its stop nor its first target."""
    sign, leaving = direction.sign, quote.leaving(direction)
    if stop_loss is not None and leaving * sign <= stop_loss * sign:
        raise Denied(
            "stop_already_passed",
            f"The price is {text(leaving)}, already beyond the stop-loss {text(stop_loss)}.",
        )
    if first_target is not None and leaving * sign >= first_target * sign:
        raise Denied(
            "target_already_passed",
            f"The price is {text(leaving)}, already beyond the first take-profit {text(first_target)}.",
        )


def _check_drift(signal: Signal, price: Decimal, limits: Limits) -> None:
    most = limits.max_price_drift_percent
    if most is None:
        return
    if signal.entry_price is None:
        raise Denied("price_drift", "The connection limits price drift and the signal names no entry_price.")
    drift = (price - signal.entry_price) / signal.entry_price * signal.direction.sign * 100
    if drift > most:
        raise Denied(
            "price_drift",
            f"The price {text(price)} is {drift:.4f} % worse than the entry {text(signal.entry_price)}; "
            f"{text(most)} % are accepted.",
        )


@exact
def check_stop_side(side: Side, price: Decimal, stop: Decimal | None) -> None:
    """An entry at `price` does not begin beyond its own stop, as a limit may after an update of the signal."""
    if stop is not None and stop * side.sign >= price * side.sign:
        below = "below" if side is Side.BUY else "above"
        raise Denied(
            "stop_already_passed", f"The stop-loss {text(stop)} is not {below} the entry at {text(price)}."
        )


@exact
def check_stop_distance(price: Decimal, stop: Decimal, quote: Quote, fee_rate: Decimal) -> None:
    """A stop that sizes the order lies further off than spread and fees, which would eat the whole risk."""
    nearest = quote.spread + fee_rate * (price + stop)
    if quote.worth is not None:
        nearest += quote.worth.commission / quote.worth.move
    if abs(price - stop) < nearest:
        raise Denied(
            "stop_too_close",
            f"The stop is {text(abs(price - stop))} from the price; spread and fees alone are {nearest:.8f}.",
        )


@exact
def check_stop_level(
    side: Side, quote: Quote, limit: Decimal | None, stop: Decimal | None, instrument: Instrument
) -> None:
    """A stop is not nearer than the venue takes one: to the price it would be left at, or to a limit entry."""
    if stop is None or not instrument.stop_level:
        return
    distance = abs((quote.leaving(side) if limit is None else limit) - stop)
    if distance < instrument.stop_level:
        raise Denied(
            "stop_too_close",
            f"The stop is {text(distance)} from the price; the venue takes {text(instrument.stop_level)} or more.",
        )


@exact
def check_liquidation(
    side: Side, price: Decimal, stop: Decimal | None, leverage: Decimal, instrument: Instrument
) -> None:
    """On margin the stop is reached before the estimated liquidation price, with a buffer.

    Estimate for an isolated linear contract: entry × (1 ∓ (1 ÷ leverage − maintenance margin)).
    """
    if stop is None or instrument.market_type is not MarketType.SWAP:
        return
    room = price * (1 / leverage - instrument.maintenance_margin)
    if abs(price - stop) > room * (1 - LIQUIDATION_BUFFER):
        liquidation = price - room * side.sign
        raise Denied(
            "stop_beyond_liquidation",
            f"At {text(leverage)}x the position would be liquidated near {liquidation:.8f}, "
            f"before or too close to the stop {text(stop)}.",
        )


def check_exposure(limits: Limits, exposure: Exposure, side: Side, symbol: str, *, netting: bool) -> None:
    """Room for one more position; on a netting account none of ours in the symbol yet."""
    if netting and exposure.positions_of_symbol:
        if side.opposite in exposure.sides_of_symbol:
            raise Denied("opposite_position", f"{symbol} is already held in the other direction.")
        raise Denied("symbol_in_use", f"{symbol} already has a position or pending entry of ours.")
    if netting and exposure.foreign_quantity:
        raise Denied(
            "foreign_position",
            f"The account holds {text(exposure.foreign_quantity)} {symbol} that the engine did not open.",
        )
    if exposure.in_review:
        raise Denied(
            "order_in_review",
            f"What became of an order of ours in {symbol} is not known; nothing is entered there until it is.",
        )
    _check_count("max_open_positions", exposure.positions, limits.max_open_positions, "positions are open")
    _check_count(
        "max_positions_per_symbol",
        exposure.positions_of_symbol,
        limits.max_positions_per_symbol,
        f"positions of {symbol} are open",
    )
    _check_count(
        "max_daily_trades", exposure.entries_today, limits.max_daily_trades, "entries were sent today"
    )


def _check_count(code: str, count: int, limit: int | None, what: str) -> None:
    if limit is not None and count >= limit:
        raise Denied(code, f"{count} {what}; the limit is {limit}.")


@exact
def check_daily_loss(limits: Limits, lost_today: Mapping[str, Decimal]) -> None:
    """Today's loss is below the limit, in every currency; losses of different currencies are never added up."""
    most = limits.max_daily_loss
    for currency, lost in sorted(lost_today.items()):
        if most is not None and lost >= most:
            raise Denied(
                "max_daily_loss",
                f"Today's loss is {lost:.8f} {currency}; the limit is {text(most)} {currency}.",
            )
