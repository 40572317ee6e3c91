"""Permissions: whose account a key opens and what the key may do, where the venue tells. Never probed by trying."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import ccxt.async_support as library

from app.brokers.port import CREDENTIALS_REFUSED, Permissions, Refused
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
    moves = [_told(answer.get(each)) for each in ("enableInternalTransfer", "permitsUniversalTransfer")]
    transfer = None if None in moves else any(moves)
    return Key(None, Permissions(_told(answer.get(field)), _told(withdraw), transfer))


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
        Permissions(
            trade,
            None if wallet is None else "Withdraw" in wallet,
            None if wallet is None else "SubMemberTransfer" in wallet,
        ),
    )


def _okx(answer: Answer, _: MarketType) -> Key:
    account: Answer = next(iter(answer.get("data") or ()), {})
    granted = _words(account.get("perm"))
    if not granted:
        return Key(account.get("uid"), UNTOLD.permissions)
    return Key(account.get("uid"), Permissions("trade" in granted, "withdraw" in granted))


def _kraken(answer: Answer, _: MarketType) -> Key:
    granted = (answer.get("result") or {}).get("permissions")
    if not isinstance(granted, list):
        return UNTOLD
    words = [str(each).lower() for each in granted]
    return Key(None, Permissions(None, any("withdraw" in word for word in words)))


def _coinbase(answer: Answer, _: MarketType) -> Key:
    return Key(None, Permissions(_told(answer.get("can_trade")), _told(answer.get("can_transfer"))))


def _kucoin(answer: Answer, market_type: MarketType) -> Key:
    data = answer.get("data") or {}
    uid, granted = data.get("uid"), _words(data.get("permission"))
    identity = None if uid in (None, "") else str(uid)
    if not granted:
        return Key(identity, UNTOLD.permissions)
    trading = {"Trade", "Spot" if market_type is MarketType.SPOT else "Futures"}
    # What the venue calls a transfer leaves it; an inner one does not.
    leaving = {"Transfer", "Withdraw", "Withdrawal"}
    return Key(
        identity, Permissions(bool(granted & trading), bool(granted & leaving), "InnerTransfer" in granted)
    )


_BITGET_CODE: Final = 4
"""How long the codes of single permissions are; there are keys of an older kind that are described in words."""


def _bitget(answer: Answer, market_type: MarketType) -> Key:
    data = answer.get("data") or {}
    uid, told = data.get("userId"), data.get("authorities")
    identity = None if uid in (None, "") else str(uid)
    granted = [str(each) for each in told] if isinstance(told, list) else []
    if not granted or any(len(each) != _BITGET_CODE for each in granted):
        return Key(identity, UNTOLD.permissions)
    trading = "stow" if market_type is MarketType.SPOT else "coow"
    return Key(identity, Permissions(trading in granted, "wwow" in granted, "wtow" in granted))


_BINGX: Final = {MarketType.SPOT: "1", MarketType.SWAP: "3"}
_BINGX_TRANSFERS, _BINGX_WITHDRAWALS = {"4", "7"}, {"5"}
"""The numbers of permissions."""


def _bingx(answer: Answer, market_type: MarketType) -> Key:
    data = answer.get("data") or answer
    told = data.get("permissions")
    if not isinstance(told, list):
        # Its newer reference describes it in the words of Binance.
        return _binance(data, market_type)
    granted = {str(each) for each in told}
    if not granted:
        return UNTOLD
    trade = _BINGX[market_type] in granted
    return Key(None, Permissions(trade, bool(granted & _BINGX_WITHDRAWALS), bool(granted & _BINGX_TRANSFERS)))


def _mexc(answer: Answer, market_type: MarketType) -> Key:
    granted = _words(answer.get("permissions"))
    if not granted:
        return UNTOLD
    trading = "SPOT_DEAL_WRITE" if market_type is MarketType.SPOT else "CONTRACT_DEAL_WRITE"
    return Key(
        None,
        Permissions(trading in granted, "SPOT_WITHDRAW_WRITE" in granted, "SPOT_TRANSFER_WRITE" in granted),
    )


def _bitfinex(answer: Any, _: MarketType) -> Key:
    scopes = {str(row[0]): row[2] for row in answer if isinstance(row, list) and len(row) > 2}
    writes = {scope: str(flag) == "1" for scope, flag in scopes.items()}
    return Key(None, Permissions(writes.get("orders"), writes.get("withdraw")))


def _deribit(row: Answer, _: MarketType) -> Key:
    granted = _words(row.get("max_scope"))
    if not granted:
        return UNTOLD
    # What moves between accounts of one owner needs the same.
    moves = "wallet:read_write" in granted
    return Key(None, Permissions("trade:read_write" in granted, moves, moves))


def _htx(row: Answer, _: MarketType) -> Key:
    granted = _words(row.get("permission"))
    return Key(None, Permissions("trade" in granted, "withdraw" in granted)) if granted else UNTOLD


def _words(value: object) -> frozenset[str]:
    """What is listed in one text, with commas or without; nothing where it is none."""
    return frozenset(value.replace(",", " ").split()) if isinstance(value, str) else frozenset()


def _told(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


_READERS: Final[Mapping[str, tuple[str, Callable[[Any, MarketType], Key]]]] = {
    "binance": ("sapiGetAccountApiRestrictions", _binance),
    "binanceusdm": ("sapiGetAccountApiRestrictions", _binance),
    "binanceus": ("sapiGetAccountApiRestrictions", _binance),
    "bybit": ("privateGetV5UserQueryApi", _bybit),
    "bybiteu": ("privateGetV5UserQueryApi", _bybit),
    "bybitid": ("privateGetV5UserQueryApi", _bybit),
    "kucoin": ("privateGetUserApiKey", _kucoin),
    "kucoinfutures": ("privateGetUserApiKey", _kucoin),
    "bitget": ("privateSpotGetV2SpotAccountInfo", _bitget),
    "bingx": ("accountV1PrivateGetAccountApiPermissions", _bingx),
    "bitfinex": ("privatePostAuthRPermissions", _bitfinex),
    "mexc": ("spotPrivateGetApiKeyInfo", _mexc),
    "okx": ("privateGetAccountConfig", _okx),
    "myokx": ("privateGetAccountConfig", _okx),
    "okxus": ("privateGetAccountConfig", _okx),
    "kraken": ("privatePostGetApiKeyInfo", _kraken),
    "coinbase": ("v3PrivateGetBrokerageKeyPermissions", _coinbase),
    "deribit": ("privateGetListApiKeys", _deribit),
    "htx": ("v2PrivateGetUserApiKey", _htx),
}
"""By exchange: what is asked, and how the answer is read.

Gate lists keys without saying which of them asks, nor whether one may withdraw; Phemex has no such question.
"""

_LISTS: Final[Mapping[str, tuple[str, str]]] = {
    "deribit": ("result", "client_id"),
    "htx": ("data", "accessKey"),
}
"""Where all keys of an account are told of: what holds them, and what names each."""


def _at(*steps: str) -> Callable[[Any], object]:
    """What an answer holds there; of a list, in its first item."""

    def found(answer: Any) -> object:
        for step in steps:
            if isinstance(answer, list):
                answer = next(iter(answer), None)
            answer = answer.get(step) if isinstance(answer, Mapping) else None
        return answer

    return found


_BINANCE_ALIAS: Final = ("fapiPrivateV3GetBalance", _at("accountAlias"))
_KUCOIN_UID: Final = ("privateGetUserApiKey", _at("data", "uid"))
_GATE_UID: Final = ("privateAccountGetDetail", _at("user_id"))

_NAMES: Final[Mapping[tuple[str, MarketType], tuple[str, Callable[[Any], object]]]] = {
    ("binance", MarketType.SPOT): ("privateGetAccount", _at("uid")),
    # Its futures know nothing of the UID; their alias is as unique, and demo accounts have one, too.
    ("binance", MarketType.SWAP): _BINANCE_ALIAS,
    ("binanceusdm", MarketType.SWAP): _BINANCE_ALIAS,
    **{
        (exchange, market_type): asked
        for exchange, asked in {
            "bitget": ("privateSpotGetV2SpotAccountInfo", _at("data", "userId")),
            "bingx": ("accountV1PrivateGetUid", _at("data", "uid")),
            "gate": _GATE_UID,
            "gateeu": _GATE_UID,
            "htx": ("v2PrivateGetUserUid", _at("data")),
            "kucoin": _KUCOIN_UID,
            "kucoinfutures": _KUCOIN_UID,
            "mexc": ("spotPrivateGetUid", _at("uid")),
        }.items()
        for market_type in (MarketType.SPOT, MarketType.SWAP)
    },
}
"""Where the account's name is asked for, if what is told of the key does not hold it."""

_NAMING_FIELDS: Final = ("walletAddress", "accountId", "uid")
"""Credentials that are the account's own name where a class requires them."""


async def name_of(exchange: Any, market_type: MarketType) -> str | None:
    """The venue's name for the account that a key opens; None where it tells none. Raises ccxt's error out of reach."""
    known = _NAMES.get((exchange.id, market_type))
    if known is not None:
        method, read = known
        ask: Callable[[], Awaitable[Any]] = getattr(exchange, method)
        try:
            told = read(await ask())
        except library.ExchangeError:
            # The key has just shown its account: this is what it may not ask.
            return None
        return str(told) if isinstance(told, str | int) and told != "" else None
    required = exchange.requiredCredentials
    return next((getattr(exchange, field) for field in _NAMING_FIELDS if required.get(field)), None)


_WALLETS: Final = frozenset({"hyperliquid"})
"""Where a private key of the account's own or of an API wallet signs: the first can withdraw, the second cannot."""


def _wallet_key(exchange: Any) -> Key:
    """Whether the key is the account's own. Of another only the venue knows whose it is, which may be the owner's too.

    Raises Refused for what is no key.
    """
    try:
        address = str(exchange.eth_get_address_from_private_key(exchange.privateKey))
    except ValueError:
        raise Refused(
            "The private key is none: it has 64 hexadecimal digits.", code=CREDENTIALS_REFUSED
        ) from None
    is_own = address.lower() == str(exchange.walletAddress).lower()
    return Key(None, Permissions(None, True if is_own else None))


async def key_of(exchange: Any, market_type: MarketType) -> Key:
    """What the venue tells of this key. A venue that will not say says nothing; one out of reach raises ccxt's error.

    Practice accounts have no such end points at most venues.
    """
    if exchange.id in _WALLETS:
        return _wallet_key(exchange)
    known = _READERS.get(exchange.id)
    if known is None:
        return UNTOLD
    method, read = known
    ask: Callable[[Answer], Awaitable[Any]] = getattr(exchange, method)
    # Two venues want to be told which key they are asked about, and one of them whose it is.
    asked = {"accessKey": exchange.apiKey} if read in (_mexc, _htx) else {}
    if read is _htx:
        asked["uid"] = await name_of(exchange, market_type) or ""
    try:
        answer = await ask(asked)
    except (library.NotSupported, library.PermissionDenied, library.BadRequest):
        return UNTOLD
    if exchange.id in _LISTS:
        rows, name = _LISTS[exchange.id]
        listed = _at(rows)(answer)
        found = (
            (row for row in listed if row.get(name) == exchange.apiKey) if isinstance(listed, list) else ()
        )
        answer = next(iter(found), None)
    is_readable = isinstance(answer, list if read is _bitfinex else Mapping)
    return read(answer, market_type) if is_readable else UNTOLD
