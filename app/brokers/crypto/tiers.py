"""Tiers: how far each exchange is proven. The tests fail where this says more, or less, than they do."""

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from app.domain.market import MarketType


class Tier(StrEnum):
    """How far an exchange is proven, on every market it offers."""

    CERTIFIED = "certified"
    """It passes the contract suite of brokers against a simulator of its wire protocol."""
    COMPATIBLE = "compatible"
    """Every request we send of its class has been checked: place, find and cancel."""
    LISTED = "listed"
    """Its class is ccxt's, and nobody has looked further."""


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
    "alpaca bequant binanceus bingx bitget bitrue blockchaincom btcmarkets btcturk bybiteu "
    "bybitid coinbase coinmate coinsph cryptocom deepcoin delta deribit fmfwio foxbit gate "
    "gateeu hashkey hitbtc htx kraken kucoin latoken lbank mexc myokx okx okxus phemex "
    "tokocrypto toobit upbit weex whitebit woo xt "
)
_COMPATIBLE_SWAP: Final = (
    "bingx bitget bitrue blofin bybitid deepcoin delta deribit fmfwio gate hashkey hitbtc "
    "krakenfutures kucoin kucoinfutures mexc modetrade myokx okx phemex toobit weex woo "
    "woofipro xt "
)

COMPATIBLE: Final = frozenset(
    {(exchange, MarketType.SPOT) for exchange in _COMPATIBLE_SPOT.split()}
    | {(exchange, MarketType.SWAP) for exchange in _COMPATIBLE_SWAP.split()}
)


def tier_of(exchange: str, market_types: Collection[MarketType]) -> Tier:
    """The tier that holds for every market an exchange offers."""
    markets = {(exchange, market_type) for market_type in market_types}
    if markets <= CERTIFIED:
        return Tier.CERTIFIED
    return Tier.COMPATIBLE if markets <= CERTIFIED | COMPATIBLE else Tier.LISTED
