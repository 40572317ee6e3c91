"""Platforms: how MetaTrader 4 and 5 differ behind the same bridge, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_REJECTED: Final = "rejected_by_venue"


def _codes(code: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, code)


_CANNOT_LOG_IN: Final = _codes(
    _REJECTED,
    "INVALID_ACCOUNT",
    "ACCOUNT_DISABLED",
    "INVALID_SERVER",
    "UNKNOWN_ACCOUNT",
    "INVALID_PASSWORD",
    "PASSWORD_MUST_CHANGED",
    "INVALID_ONETIME_PASSWORD",
    "SECRET_KEY_REQUIRED",
    "CERTIFICATE_REQUIRED",
    "OLD_VERSION",
    "NOT_ENOUGH_RIGHTS",
    "NOT_PERMISSION",
)
"""The account cannot be opened like this, and could not be a moment later."""


@dataclass(frozen=True, slots=True)
class Platform:
    """One of the two. The codes are closed lists: what is on neither says nothing about an order."""

    id: str
    name: str
    endpoint: str
    quote: str
    """The request for one quote."""
    magic: str
    """The parameter for the number that makes an order ours."""
    symbols: str
    """The request for the names of all symbols."""
    details: str | None
    """The request that says on which server an account is; None where nothing says so."""
    has_deals: bool
    """Whether a position keeps its ticket and every fill of it is a deal; else a partial close makes a new ticket."""
    deletes: tuple[str, ...]
    """The requests that take a pending order back, the first that a bridge has."""
    refusals: Mapping[str, str]
    """What certainly was not done and would not be a moment later, and our code for each."""
    not_executed: frozenset[str]
    """What certainly was not done, and may be asked again."""


_PLATFORM_5: Final = Platform(
    id="mt5",
    name="MetaTrader 5",
    endpoint="https://mt5.mtapi.io",
    quote="GetQuote",
    magic="expertID",
    symbols="SymbolList",
    details="AccountDetails",
    has_deals=True,
    deletes=("OrderCancelTask", "OrderClose"),
    refusals={
        **_CANNOT_LOG_IN,
        **_codes(
            _REJECTED,
            *("INVALID_REQUEST", "INVALID_PRICE", "INVALID_EXPIRATION", "UNSUPPORTED_FILLING_MODE"),
            *("INVALID_VOLUME", "INVALID_TICKET", "NULL_ARGUMENT", "NO_CHANGES", "SAME_PARAMS"),
            *("VOLUME_CLOSE_EXCEEDS_POSITION", "INVALID_ORDER", "POSITION_NOT_EXISTS", "REQUEST_REJECTED"),
            *("REQUEST_CANCELLED", "AUTOTRADE_DISABLE_SERVER", "AUTOTRADE_DISABLE_CLIENT"),
            *("ORDER_LIMIT_REACHED_EX", "VOLUME_LIMIT_REACHED", "POSITION_LIMIT_REACHED", "FIFO_CLOSE"),
            *("HEDGE_PROHIBITED", "ORDER_CLOSE_ALREADY_EXISTS", "MODIFICATION_FAILED"),
        ),
        **_codes("symbol_unknown", "INVALID_SYMBOL", "SYMBOL_NOT_FOUND"),
        **_codes("stop_too_close", "INVALID_STOPS"),
        **_codes("symbol_not_tradable", "TRADE_DISABLED", "ONLY_CLOSE_POSITION"),
        **_codes("direction_not_allowed", "ONLY_LONG_POSITION", "ONLY_SHORT_POSITION"),
        **_codes("market_closed", "MARKET_CLOSED"),
        **_codes("insufficient_balance", "NO_MONEY"),
    },
    not_executed=frozenset(
        {"REQUOTE", "PRICES", "PRICE_CHANGED", "NO_PRICES", "TOO_MANY_TRADE_REQUESTS"}
        | {"TOO_FREQUENT_REQUEST", "MAX_SESSIONS_REACHED"}
    ),
)

_PLATFORM_4: Final = Platform(
    id="mt4",
    name="MetaTrader 4",
    endpoint="https://mt4.mtapi.io",
    quote="Quote",
    magic="magic",
    symbols="Symbols",
    details=None,
    has_deals=False,
    deletes=("OrderDelete",),
    refusals={
        **_CANNOT_LOG_IN,
        **_codes(
            _REJECTED,
            *("INVALID_PARAM", "INVALID_PRICES", "INVALID_VOLUME", "INVALID_TICKET", "SAME_PARAMS"),
            *("ORDER_LOCKED", "MODIFICATIONS_DENIED", "EXPIRATION_DISABLED", "TOO_MANY_ORDERS"),
            *("REQUEST_CANCELLED", "HEDGE_PROHIBITED", "RPROHIBITED_FIFO", "NULL_ARGUMENT"),
        ),
        **_codes("symbol_unknown", "INVALID_SYMBOL"),
        **_codes("stop_too_close", "INVALID_SL_TP"),
        **_codes("symbol_not_tradable", "TRADE_DISABLED"),
        **_codes("direction_not_allowed", "LONG_POS_ALLOWED"),
        **_codes("market_closed", "MARKET_CLOSED"),
        **_codes("insufficient_balance", "NOT_MONEY"),
    },
    not_executed=frozenset(
        {"PRICE_CHANGED", "OFF_QUOTES", "BROKER_BUSY", "REQUOTE", "TOO_MANY_REQUESTS", "TRADE_CONTEXT_BUSY"}
        | {"SERVER_BUSY", "TOO_FREQUENT_REQUEST", "TOO_FREQUENT_REQUESTS"}
    ),
)

PLATFORMS: Final[Mapping[str, Platform]] = {each.id: each for each in (_PLATFORM_4, _PLATFORM_5)}
"""Both, by the id of their exchange."""
