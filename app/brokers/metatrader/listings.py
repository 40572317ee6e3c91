"""Listings: a broker's symbols, with what it takes to trade and to value each. Read from its own parameters."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from app.brokers.metatrader.rows import positive
from app.brokers.metatrader.wire import Record, ServerTime, Unreadable
from app.domain.market import BOTH_SIDES, Instrument, MarketType, QuantityUnit
from app.domain.money import ZERO, exact
from app.domain.orders import Side
from app.domain.symbols import read

_NOT_A_NAME: Final = re.compile(r"[^A-Z0-9]")
_BY_TICK: Final = frozenset({"futures", "exchangefutures", "fortsfutures"})
_AT_A_PRICE: Final = frozenset({"instant", "request"})
_LEVELS: Final = ("stopsLevel", "freezeLevel", "sl", "tp")
_MOST: Final = 12
"""How many symbols one text may mean before it means nothing."""

_OPENS: Final = {
    "fullaccess": BOTH_SIDES,
    "longonly": frozenset({Side.BUY}),
    "shortonly": frozenset({Side.SELL}),
    "closeonly": frozenset[Side](),
    "disabled": frozenset[Side](),
}
_MT4_CLOSE_ONLY: Final = 1
_BY_MONEY: Final = 0
_PER_LOT: Final = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol of a broker."""

    instrument: Instrument
    point: Decimal
    contract_size: Decimal
    base_currency: str
    profit_currency: str
    by_tick: Decimal | None
    """What a price move of one is worth per lot in the profit currency, where the contract does not say so."""
    needs_price: bool
    """Whether a market order names the price it expects."""
    commission: Decimal | None
    """Of one lot in and out, in the account's currency; None where the broker does not tell."""
    trade_sessions: tuple[tuple[tuple[int, int], ...], ...] = ()
    """Minutes of the broker's day, by weekday from Sunday; empty where the broker does not tell."""
    takes_expiration: bool = True
    """Whether a pending order may say when it ends; true where the broker does not tell."""

    @property
    @exact
    def unit(self) -> Decimal:
        """What a price move of one is worth per lot, in the profit currency."""
        return self.contract_size if self.by_tick is None else self.by_tick

    def is_session(self, moment: datetime, server: ServerTime) -> bool | None:
        """Whether it trades at a moment; None where the broker does not tell."""
        if not self.trade_sessions:
            return None
        there = moment + server.offset
        minute = there.hour * 60 + there.minute
        today = self.trade_sessions[(there.weekday() + 1) % 7]
        return any(start <= minute < end for start, end in today)


def candidates(names: Iterable[str], meant: Iterable[str]) -> list[str]:
    """The broker's names that one of these texts may mean: called so, or so with something before or behind it."""
    known = list(names)
    found: dict[str, None] = {}
    for text in meant:
        compact = _NOT_A_NAME.sub("", read(text).compact)
        if not compact:
            continue
        fitting = [name for name in known if name == text or compact in _NOT_A_NAME.sub("", name.upper())]
        found |= dict.fromkeys(sorted(fitting, key=len)[:_MOST])
    return list(found)


def pair_of(name: str, margin_currency: str, profit_currency: str) -> tuple[str, str]:
    """Base and quote that a broker's name stands for, whatever it puts before or behind them."""
    upper = name.upper()
    at = upper.find(profit_currency, 1) if profit_currency else -1
    if at < 1:
        return _NOT_A_NAME.sub("", upper), profit_currency
    base = upper[:at]
    if margin_currency and base.endswith(margin_currency):
        return margin_currency, profit_currency
    return _NOT_A_NAME.sub("", base), profit_currency


def listing_5(name: str, params: Record, currency: str) -> Listing:
    """One symbol of MetaTrader 5, for an account in `currency`. Raises Unreadable."""
    info, group = params.record("symbolInfo"), params.record("symbolGroup")
    if info is None or group is None:
        raise Unreadable(f"The bridge tells nothing of {name}.")
    point = positive(info, "points") or _point(info)
    margin, profit = info.text("marginCurrency").upper(), info.text("profitCurrency").upper()
    instrument = _instrument(
        name,
        (margin, profit),
        (group.amount("minLots"), group.amount("maxLots"), group.amount("lotsStep")),
        positive(info, "tickSize") or point,
        currency,
        _OPENS.get(group.text("tradeMode").lower(), BOTH_SIDES),
        _level(point, info, group),
    )
    return Listing(
        instrument=instrument,
        point=point,
        contract_size=info.amount("contractSize"),
        base_currency=margin,
        profit_currency=profit or instrument.quote,
        by_tick=_by_tick(info.text("calcMode"), positive(info, "tickValue"), positive(info, "tickSize")),
        needs_price=group.text("tradeType").lower() in _AT_A_PRICE,
        commission=None,
        takes_expiration=_takes_expiration(group.text("expiration")),
    )


def listing_4(name: str, params: Record, currency: str) -> Listing:
    """One symbol of MetaTrader 4, for an account in `currency`. Raises Unreadable."""
    info, group = params.record("symbol"), params.record("groupParams")
    if info is None or group is None:
        raise Unreadable(f"The bridge tells nothing of {name}.")
    more = info.record("ex") or Record({})
    point = positive(info, "point") or _point(info)
    margin = (info.text("marginCurrency") or more.text("margin_currency")).upper()
    profit = _profit_currency(name, info.text("currency").upper(), margin, currency)
    instrument = _instrument(
        name,
        (margin, profit),
        (group.amount("minLot"), group.amount("maxLot"), group.amount("lotStep")),
        positive(more, "tick_size") or point,
        currency,
        _opens_4(more),
        _level(point, info),
    )
    return Listing(
        instrument=instrument,
        point=point,
        contract_size=positive(info, "contractSize") or more.amount("contract_size"),
        base_currency=margin,
        profit_currency=profit,
        by_tick=_by_tick(info.text("profitMode"), positive(more, "tick_value"), positive(more, "tick_size")),
        needs_price=info.text("execution").lower() in _AT_A_PRICE,
        commission=_commission_4(group),
        trade_sessions=_sessions(more),
    )


def _profit_currency(name: str, told: str, margin: str, account: str) -> str:
    """MetaTrader 4 names one currency of a symbol; the other one stands in its name."""
    letters = _NOT_A_NAME.sub("", name.upper())
    at = letters.find(margin) if margin else -1
    behind = letters[at + len(margin) : at + len(margin) + 3] if at >= 0 else ""
    if behind.isalpha() and len(behind) == len("USD"):
        return behind
    return told if told and told != margin else margin or told or account


@exact
def _point(info: Record) -> Decimal:
    return Decimal(1).scaleb(-info.whole("digits"))


@exact
def _level(point: Decimal, *told: Record) -> Decimal:
    """How near to the price a stop may be. MetaTrader 5's groups call their two levels `sl` and `tp`."""
    return max(each.whole(name) for each in told for name in _LEVELS) * point


@exact
def _by_tick(mode: str, value: Decimal | None, size: Decimal | None) -> Decimal | None:
    if mode.lower() not in _BY_TICK or value is None or size is None:
        return None
    return value / size


def _opens_4(more: Record) -> frozenset[Side]:
    """What may be opened. A mode of 0 is what many brokers' servers send for everything: their own no counts."""
    if more.whole("trade") == _MT4_CLOSE_ONLY:
        return frozenset()
    return frozenset({Side.BUY}) if more.whole("long_only") else BOTH_SIDES


def _commission_4(group: Record) -> Decimal | None:
    base = group.amount_or_none("comm_base")
    if base is None or group.whole("comm_type") != _BY_MONEY or group.whole("comm_lots") != _PER_LOT:
        return None
    return abs(base)


def _takes_expiration(told: str) -> bool:
    """Whether it may end at a moment, by the modes there are: `GTC, Today, Specified`; `All` is all of them."""
    modes = {each.strip().lower() for each in told.split(",")}
    return not modes.isdisjoint({"", "all", "specified"})


def _sessions(more: Record) -> tuple[tuple[tuple[int, int], ...], ...]:
    days = more.records("sessions")
    if len(days) != len(("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")):
        return ()
    return tuple(
        tuple((each.whole("open"), each.whole("close")) for each in day.records("trade")) for day in days
    )


def _instrument(
    name: str,
    currencies: tuple[str, str],
    lots: tuple[Decimal, Decimal, Decimal],
    tick: Decimal,
    currency: str,
    opens: frozenset[Side],
    stop_level: Decimal,
) -> Instrument:
    base, quote = pair_of(name, *currencies)
    smallest, largest, step = lots
    if smallest <= ZERO or step <= ZERO:
        raise Unreadable(f"The bridge tells no lot sizes of {name}.")
    return Instrument(
        symbol=name,
        base=base,
        quote=quote,
        settle=None,
        market_type=MarketType.FX,
        quantity_step=step,
        price_tick=tick,
        min_quantity=smallest,
        max_quantity=largest if largest > ZERO else None,
        quantity_unit=QuantityUnit.LOTS,
        counted_in=currency,
        opens=opens,
        stop_level=stop_level,
    )
