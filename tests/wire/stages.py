"""Which venue answers which class."""

from collections.abc import Mapping
from typing import Final

from app.domain.market import MarketType
from tests.wire.story import Venue
from tests.wire.venues import (
    binance,
    bingx,
    bitget,
    bybit,
    coinbase,
    cryptocom,
    deribit,
    gate,
    htx,
    hyperliquid,
    kraken,
    kucoin,
    mexc,
    phemex,
)
from tests.wire.venues.okx import OKX_SPOT, OKX_SWAP

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP

VENUES: Final[Mapping[tuple[str, MarketType], Venue]] = {
    ("binanceus", SPOT): binance.US,
    ("bingx", SPOT): bingx.SPOT,
    ("bingx", SWAP): bingx.SWAP,
    ("bitget", SPOT): bitget.SPOT,
    ("bitget", SWAP): bitget.SWAP,
    ("bybiteu", SPOT): bybit.SPOT,
    ("bybitid", SPOT): bybit.SPOT,
    ("bybitid", SWAP): bybit.SWAP,
    ("coinbase", SPOT): coinbase.SPOT,
    ("cryptocom", SPOT): cryptocom.SPOT,
    ("deribit", SPOT): deribit.SPOT,
    ("deribit", SWAP): deribit.SWAP,
    ("gate", SPOT): gate.SPOT,
    ("gate", SWAP): gate.SWAP,
    ("gateeu", SPOT): gate.SPOT,
    ("htx", SPOT): htx.SPOT,
    ("hyperliquid", SWAP): hyperliquid.SWAP,
    ("kraken", SPOT): kraken.SPOT,
    ("krakenfutures", SWAP): kraken.SWAP,
    ("kucoin", SPOT): kucoin.SPOT,
    ("kucoin", SWAP): kucoin.SWAP,
    ("kucoinfutures", SWAP): kucoin.SWAP,
    ("mexc", SPOT): mexc.SPOT,
    ("mexc", SWAP): mexc.SWAP,
    ("myokx", SPOT): OKX_SPOT,
    ("myokx", SWAP): OKX_SWAP,
    ("okx", SPOT): OKX_SPOT,
    ("okx", SWAP): OKX_SWAP,
    ("okxus", SPOT): OKX_SPOT,
    ("phemex", SPOT): phemex.SPOT,
    ("phemex", SWAP): phemex.SWAP,
}
"""Everything of tier compatible, and nothing else."""
