"""Permissions: whose account a key opens and what the key may do, where the venue tells. Never probed by trying."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.port import Permissions
from app.domain.market import MarketType

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """What a venue says of a key; `identity` is None where it names no account."""

    identity: str | None
    permissions: Permissions


UNTOLD: Final = Key(None, Permissions(trade=None, withdraw=None))


def _binance(answer: Answer, market_type: MarketType) -> Key:
    field = "enableSpotAndMarginTrading" if market_type is MarketType.SPOT else "enableFutures"
    withdraw = answer.get("enableWithdrawals")
    return Key(None, Permissions(_told(answer.get(field)), _told(withdraw)))


def _bybit(answer: Answer, market_type: MarketType) -> Key:
    result = answer.get("result") or {}
    granted = result.get("permissions") or {}
    trading = granted.get("Spot" if market_type is MarketType.SPOT else "ContractTrade") or granted.get(
        "Derivatives"
    )
    trade = None if result.get("readOnly") is None else str(result["readOnly"]) == "0" and bool(trading)
    identity = result.get("userID")
    wallet = granted.get("Wallet")
    return Key(
        None if identity is None else str(identity),
        Permissions(trade, None if wallet is None else "Withdraw" in wallet),
    )


def _okx(answer: Answer, _: MarketType) -> Key:
    account: Answer = next(iter(answer.get("data") or ()), {})
    granted = str(account.get("perm", "")).split(",")
    return Key(account.get("uid"), Permissions("trade" in granted, "withdraw" in granted))


def _kraken(answer: Answer, _: MarketType) -> Key:
    granted = (answer.get("result") or {}).get("permissions")
    if not isinstance(granted, list):
        return UNTOLD
    words = [str(each).lower() for each in granted]
    return Key(None, Permissions(None, any("withdraw" in word for word in words)))


def _coinbase(answer: Answer, _: MarketType) -> Key:
    return Key(None, Permissions(_told(answer.get("can_trade")), _told(answer.get("can_transfer"))))


def _told(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


_READERS: Final[Mapping[str, tuple[str, Callable[[Answer, MarketType], Key]]]] = {
    "binance": ("sapiGetAccountApiRestrictions", _binance),
    "binanceusdm": ("sapiGetAccountApiRestrictions", _binance),
    "binanceus": ("sapiGetAccountApiRestrictions", _binance),
    "bybit": ("privateGetV5UserQueryApi", _bybit),
    "okx": ("privateGetAccountConfig", _okx),
    "myokx": ("privateGetAccountConfig", _okx),
    "okxus": ("privateGetAccountConfig", _okx),
    "kraken": ("privatePostGetApiKeyInfo", _kraken),
    "coinbase": ("v3PrivateGetBrokerageKeyPermissions", _coinbase),
}
"""By exchange: what is asked, and how the answer is read."""


async def key_of(exchange: Any, market_type: MarketType) -> Key:
    """What the venue tells of this key. A venue that will not say says nothing; one out of reach raises ccxt's error.

    Practice accounts have no such end points at most venues.
    """
    known = _READERS.get(exchange.id)
    if known is None:
        return UNTOLD
    method, read = known
    ask: Callable[[], Awaitable[Any]] = getattr(exchange, method)
    try:
        answer = await ask()
    except (library.NotSupported, library.PermissionDenied, library.BadRequest):
        return UNTOLD
    return read(answer, market_type) if isinstance(answer, Mapping) else UNTOLD
