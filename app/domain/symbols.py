"""Symbols: which instrument of a venue a signal's symbol means on one connection. Never a guess."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Self

from app.domain.errors import Denied
from app.domain.market import Instrument, MarketType
from app.domain.money import parse

_UNIFIED = re.compile(r"(?P<base>[^/:\s]+)/(?P<quote>[^/:\s]+)(?::(?P<settle>[^/:\s]+))?")
_PERPETUAL = ".P"
_MANY: Final = re.compile(r"10+|1?[KM]", re.IGNORECASE)
"""How the names of instruments begin that count a coin by the thousand or the million."""

SymbolMap = Mapping[str, Any]
"""An owner's names for instruments, as a connection keeps them: a symbol, or `{"symbol": …, "multiplier": …}`."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an owner's map says of a name."""

    symbol: str
    multiplier: Decimal | None = None
    """How many of the signal's coins one of the instrument's is; None says nothing of it."""

    @classmethod
    def read(cls, stored: str | Mapping[str, Any]) -> Self:
        """From the JSON a connection keeps."""
        if isinstance(stored, str):
            return cls(stored)
        told = stored.get("multiplier")
        return cls(stored["symbol"], None if told is None else parse(told))


@dataclass(frozen=True, slots=True)
class Resolved:
    """The instrument that a signal's symbol means, and how many of the signal's coins one of its coins is."""

    instrument: Instrument
    multiplier: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a symbol text says: both currencies (`pair`), or only their concatenation (`compact`)."""

    compact: str
    pair: tuple[str, str] | None = None
    settle: str | None = None
    perpetual: bool = False

    def names(self, instrument: Instrument) -> bool:
        """Whether `instrument` fits, settle currency included where one was given."""
        if self.settle is not None and self.settle != instrument.settle:
            return False
        if self.perpetual and instrument.market_type is not MarketType.SWAP:
            return False
        if self.pair is not None:
            return self.pair == (instrument.base, instrument.quote)
        return self.compact in (instrument.base + instrument.quote, instrument.symbol.upper())


def read(text: str) -> Wanted:
    """Read `BASE/QUOTE`, `BASE/QUOTE:SETTLE`, `BASE-QUOTE`, `BASEQUOTE` or `BASEQUOTE.P`, in any case."""
    name = text.upper()
    perpetual = name.endswith(_PERPETUAL)
    name = name.removesuffix(_PERPETUAL)
    if unified := _UNIFIED.fullmatch(name):
        base, quote, settle = unified["base"], unified["quote"], unified["settle"]
        return Wanted(base + quote, (base, quote), settle, perpetual or settle is not None)
    base, dash, quote = name.partition("-")
    if dash:
        return Wanted(base + quote, (base, quote), None, perpetual)
    return Wanted(name, None, None, perpetual)


def resolve(
    text: str, instruments: Mapping[str, Instrument], market_type: MarketType, symbol_map: SymbolMap
) -> Resolved:
    """The one instrument of `market_type` that `text` means.

    An entry of the owner's `symbol_map` decides alone, upper or lower case alike. Raises Denied:
    `market_mismatch` for a perpetual on a spot account and for inverse contracts, `symbol_unknown`,
    `symbol_ambiguous`.
    """
    target = _target(text, symbol_map)
    if target is not None:
        return _mapped(text, target, instruments, market_type)
    wanted = read(text)
    if wanted.perpetual and market_type is not MarketType.SWAP:
        raise Denied(
            "market_mismatch", f"{text} is a perpetual contract and this connection trades {market_type}."
        )
    fitting = [
        each for each in instruments.values() if each.market_type is market_type and wanted.names(each)
    ]
    linear = [each for each in fitting if _is_linear(each)]
    if fitting and not linear:
        raise _not_linear(fitting[0])
    if not linear:
        raise Denied("symbol_unknown", f"{text} is not listed as {market_type} at this venue.")
    linear = _nearest(linear, wanted)
    if len(linear) > 1:
        names = ", ".join(sorted(each.symbol for each in linear))
        raise Denied("symbol_ambiguous", f"{text} could be any of {names}; say which in symbol_map.")
    return Resolved(linear[0])


def names_for(text: str, symbol_map: SymbolMap) -> tuple[str, ...]:
    """Everything that `text` may be called at a venue: itself, and what the owner's map says of it."""
    mapped = (target for name, target in symbol_map.items() if name.upper() == text.upper())
    return (text, *(Target.read(target).symbol for target in mapped))


def names_of(symbol: str, symbol_map: SymbolMap) -> tuple[str, ...]:
    """The owner's own names for an instrument."""
    return tuple(name for name, target in symbol_map.items() if Target.read(target).symbol == symbol)


def _target(text: str, symbol_map: SymbolMap) -> Target | None:
    """What the owner's map says of `text`: as it is written, else in another case, where that is unambiguous."""
    if text in symbol_map:
        return Target.read(symbol_map[text])
    targets = {Target.read(target) for name, target in symbol_map.items() if name.upper() == text.upper()}
    if len(targets) > 1:
        names = ", ".join(sorted(target.symbol for target in targets))
        raise Denied("symbol_ambiguous", f"symbol_map sends {text} to any of {names}, depending on the case.")
    return next(iter(targets), None)


def _nearest(fitting: Sequence[Instrument], wanted: Wanted) -> list[Instrument]:
    """Of several the ones that can be opened; of those the one that is called exactly so, without a broker's suffix."""
    open_to_us = [each for each in fitting if each.opens] or list(fitting)
    exact = [each for each in open_to_us if each.symbol.upper() == wanted.compact]
    return exact if len(exact) == 1 else open_to_us


def _is_linear(instrument: Instrument) -> bool:
    return instrument.settle is None or instrument.settle == instrument.quote


def _not_linear(instrument: Instrument) -> Denied:
    return Denied(
        "market_mismatch",
        f"{instrument.symbol} is settled in {instrument.settle}, not in {instrument.quote}; "
        f"inverse and quanto contracts are not supported.",
    )


def _mapped(
    text: str, target: Target, instruments: Mapping[str, Instrument], market_type: MarketType
) -> Resolved:
    symbol, instrument = target.symbol, instruments.get(target.symbol)
    if instrument is None:
        raise Denied(
            "symbol_unknown", f"symbol_map sends {text} to {symbol}, which this venue does not list."
        )
    if instrument.market_type is not market_type:
        raise Denied("market_mismatch", f"symbol_map sends {text} to {symbol}, which is not {market_type}.")
    if not _is_linear(instrument):
        raise _not_linear(instrument)
    if target.multiplier is None and _counts_by_many(instrument.base, read(text), instrument.quote):
        raise Denied(
            "symbol_ambiguous",
            f"symbol_map sends {text} to {symbol}, which counts it in larger units; say its multiplier there.",
        )
    return Resolved(instrument, target.multiplier or Decimal(1))


def _counts_by_many(base: str, wanted: Wanted, quote: str) -> bool:
    """Whether a base like 1000PEPE is a signal's coin by the thousand."""
    coin = wanted.pair[0] if wanted.pair is not None else wanted.compact.removesuffix(quote)
    prefix = base[: len(base) - len(coin)]
    return base.upper().endswith(coin.upper()) and _MANY.fullmatch(prefix) is not None
