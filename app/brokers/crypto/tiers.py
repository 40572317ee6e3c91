"""Tiers: how far each exchange is proven. The tests fail where this says more, or less, than they do."""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

from app.domain.market import MarketType


class Tier(StrEnum):
    """How far an exchange is proven, on every market it offers."""

    CERTIFIED = "certified"
    """It passes the contract suite of brokers against a simulator of its wire protocol."""
    COMPATIBLE = "compatible"
    """Our broker goes the whole way with its class, on answers laid out as the venue writes them: quotes, account,
    settings, placing, finding and taking back, one request for each order."""
    LISTED = "listed"
    """Its class is ccxt's, and nobody has gone the whole way; `REASONS` says what is known to be in it."""


CERTIFIED: Final = frozenset(
    {
        ("binance", MarketType.SPOT),
        ("binance", MarketType.SWAP),
        ("binanceusdm", MarketType.SWAP),
        ("bybit", MarketType.SPOT),
        ("bybit", MarketType.SWAP),
    }
)

_COMPATIBLE_SPOT: Final = (
    "binanceus bingx bitget bybiteu bybitid coinbase cryptocom deribit gate gateeu htx kraken kucoin mexc myokx okx "
    "okxus phemex "
)
_COMPATIBLE_SWAP: Final = (
    "bingx bitget bybitid deribit gate hyperliquid krakenfutures kucoin kucoinfutures mexc myokx okx phemex "
)

COMPATIBLE: Final = frozenset(
    {(exchange, MarketType.SPOT) for exchange in _COMPATIBLE_SPOT.split()}
    | {(exchange, MarketType.SWAP) for exchange in _COMPATIBLE_SWAP.split()}
)


_NO_ID = "It takes no id of ours: what became of an order without an answer, only a person can say."
_SPENDS_ON_SALE = "Its class sells at market for an amount of money only."
_UNSEEN = "Its class does not find an order that was taken back unfilled."
_ALWAYS_TWO_SIDES = (
    "Its positions have two sides whatever the account is set to, and leverage is set for each of them."
)
_NO_POSITIONS = "Its class does not list positions."
_PRICED = "Its market orders fill at the price of the moment they were sent at, or not at all."
_OTHER_TRADES = "Its class asks for the trades of an order by an id that it does not tell."
_FOR_ACCOUNTS = "It tells bid and ask to accounts only."
_LIMIT_ONLY = "Its class places no market orders."
_BALANCED = "Its class cannot set leverage without being told a margin balance."
_UNTOLD_MODE = "It has accounts with two sides, and does not tell which an account is."

_WITHOUT_IDS: Final = (
    "bit2c bitbank bitbns bitflyer bitopro bitso bitteam btcbox coincheck coinspot digifinex hibachi hollaex "
    "independentreserve indodax luno mercado mudrex nado p2b paymium zaif "
)

UNPLACED: Final[Mapping[str, str]] = {
    "apex": "Its class signs orders with seeds that a connection does not hold, and a library that is not installed.",
    "cex": "Its class wants the name of a sub-account with each order, which a connection does not say.",
    "coinbaseinternational": "Its class fails where it signs in.",
    "derive": "Its class wants the number of a subaccount and the highest fee of each order, which a connection does "
    "not say.",
    "dydx": "Its class signs orders with libraries that are not installed.",
    "lighter": "Its class signs orders with a compiled library that is not installed.",
    "pacifica": "Its class cannot ask for anything with exact numbers.",
    "polymarket": "Its class fails where it signs.",
}
"""Classes that place no order as they are opened here, and why."""

_SPOT, _SWAP = MarketType.SPOT, MarketType.SWAP

_TURNS = "Its class cannot say that an order may only reduce a position."

UNREDUCED: Final[Mapping[tuple[str, MarketType], str]] = {
    **{
        (each, _SWAP): _TURNS
        for each in ("bigone", "bitstamp", "bullish", "cryptocom", "onetrading", "zebpay")
    },
    ("coinbase", _SWAP): "Its class closes the whole of a position where a part is meant.",
}
"""Where what is sent to leave a position might do more than that, and why."""

_NEVER_LEFT: Final = {
    **{(each, _SPOT): _LIMIT_ONLY for each in ("coinone", "coinspot", "gemini", "nado", "p2b", "zaif")},
    **{(each, _SWAP): _LIMIT_ONLY for each in ("gemini", "nado")},
    ("zebpay", _SPOT): _SPENDS_ON_SALE,
    **{(each, kind): why for each, why in UNPLACED.items() for kind in (_SPOT, _SWAP)},
}
"""Where nothing can be sent that leaves a position, and why."""

UNSERVED: Final[Mapping[tuple[str, MarketType], str]] = {
    case: f"{why} No account is opened there." for case, why in {**_NEVER_LEFT, **UNREDUCED}.items()
}
"""Where no account is opened, because what is bought there could not be sold again, and nothing else with it."""

REASONS: Final[Mapping[tuple[str, MarketType], str]] = {
    **{(each, kind): _NO_ID for each in _WITHOUT_IDS.split() for kind in (_SPOT, _SWAP)},
    **UNSERVED,
    ("htx", _SWAP): "Our id is not taken by its class there, and the position mode is not told.",
    ("bitrue", _SWAP): _NO_POSITIONS,
    ("hashkey", _SWAP): "Its class lists the positions of one symbol at a time.",
    ("whitebit", _SPOT): _UNSEEN,
    **{(each, _SWAP): _ALWAYS_TWO_SIDES for each in ("deepcoin", "toobit", "weex", "xt")},
    ("woo", _SWAP): _UNTOLD_MODE,
    ("delta", _SWAP): "Its class sets margin modes of sub-accounts only.",
    **{(each, _SPOT): _OTHER_TRADES for each in ("bequant", "fmfwio", "hitbtc")},
    **{(each, _SWAP): _BALANCED for each in ("fmfwio", "hitbtc")},
    **{(each, _SWAP): _FOR_ACCOUNTS for each in ("modetrade", "mudrex", "woofipro")},
    ("bydfi", _SWAP): "Its class takes no order back.",
    ("extended", _SWAP): _PRICED,
}
"""Why a market is listed and no more, where that is known."""


def takes_client_ids(exchange: str) -> bool | None:
    """Whether orders carry our id there; None where no order leaves."""
    return None if exchange in UNPLACED else exchange not in _WITHOUT_IDS.split()


def tier_of(exchange: str, market_types: Collection[MarketType]) -> Tier:
    """The tier that holds for every market an exchange offers."""
    markets = {(exchange, market_type) for market_type in market_types}
    if markets <= CERTIFIED:
        return Tier.CERTIFIED
    return Tier.COMPATIBLE if markets <= CERTIFIED | COMPATIBLE else Tier.LISTED
