"""Symbols: which instrument of a venue a signal's symbol means on one connection. Never a guess."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.errors import Denied
from app.domain.market import Instrument, MarketType

_UNIFIED = re.compile(r"(?P<base>[^/:\s]+)/(?P<quote>[^/:\s]+)(?::(?P<settle>[^/:\s]+))?")
_PERPETUAL = ".P"


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
        if self.pair is not None:
            return self.pair == (instrument.base, instrument.quote)
        return self.compact == instrument.base + instrument.quote


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
    text: str, instruments: Mapping[str, Instrument], market_type: MarketType, symbol_map: Mapping[str, str]
) -> Instrument:
    """The one instrument of `market_type` that `text` means.

    An entry of the owner's `symbol_map` decides alone. Raises Denied: `market_mismatch` for a perpetual on a
    spot account and for inverse contracts, `symbol_unknown`, `symbol_ambiguous`.
    """
    if text in symbol_map:
        return _mapped(text, symbol_map[text], instruments, market_type)
    wanted = read(text)
    if wanted.perpetual and market_type is not MarketType.SWAP:
        raise Denied(
            "market_mismatch", f"{text} is a perpetual contract and this connection trades {market_type}."
        )
    fitting = [
        each for each in instruments.values() if each.market_type is market_type and wanted.names(each)
    ]
    linear = [each for each in fitting if each.settle is None or each.settle == each.quote]
    if fitting and not linear:
        raise Denied(
            "market_mismatch", f"{fitting[0].symbol} is an inverse contract, which is not supported."
        )
    if not linear:
        raise Denied("symbol_unknown", f"{text} is not listed as {market_type} at this venue.")
    if len(linear) > 1:
        names = ", ".join(sorted(each.symbol for each in linear))
        raise Denied("symbol_ambiguous", f"{text} could be any of {names}; say which in symbol_map.")
    return linear[0]


def _mapped(
    text: str, target: str, instruments: Mapping[str, Instrument], market_type: MarketType
) -> Instrument:
    instrument = instruments.get(target)
    if instrument is None:
        raise Denied(
            "symbol_unknown", f"symbol_map sends {text} to {target}, which this venue does not list."
        )
    if instrument.market_type is not market_type:
        raise Denied("market_mismatch", f"symbol_map sends {text} to {target}, which is not {market_type}.")
    return instrument
