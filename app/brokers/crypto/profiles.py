"""Profiles: how one venue differs from another, as data. What is not in the table gets a cautious default.

The default sends the unified client order id, believes nothing about look-ups that find nothing, and leaves
protection to our monitor: an exchange nobody has looked into is slower, never wrong.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any, Final

from app.brokers.crypto.certified import BINANCE_SPOT, BINANCE_SWAP, BYBIT_SPOT, BYBIT_SWAP
from app.brokers.crypto.stops import HELD
from app.brokers.crypto.ways import (
    CAUTIOUS_SETTLE,
    MILLISECOND,
    VALIDITY,
    ClientId,
    Deadline,
    LeverageBy,
    LookUp,
    MarketBuy,
    PositionMode,
    Practice,
    Profile,
    Quoting,
    Shape,
)
from app.domain.exits import NativeStyle
from app.domain.market import MarketType

WINDOWED_SETTLE: Final = timedelta(seconds=20)
"""The validity with what a venue may take to process and show an order, and clocks that differ."""


def _sent_as(create: str, shape: Shape = Shape.HEX32, **more: Any) -> Profile:
    """Our id reaches the venue; what its listings leave out is not known, so absence is never believed."""
    return Profile(client_id=ClientId(create, create, shape), **more)


def _windowed(profile: Profile, option: str = "recvWindow", unit: timedelta = MILLISECOND) -> Profile:
    """Its requests name how long after their time they may arrive."""
    return replace(profile, window_option=option, window_unit=unit, settle=WINDOWED_SETTLE)


def _ending(profile: Profile, deadline: Deadline) -> Profile:
    """Its orders name the moment after which they are refused."""
    return replace(profile, deadline=deadline, settle=WINDOWED_SETTLE)


def _bought_for_money(profile: Profile) -> Profile:
    return replace(profile, market_buy=MarketBuy.COST)


_OKX: Final = _ending(
    Profile(
        client_id=ClientId("clOrdId", "clOrdId"),
        look_up=LookUp.ONE,
        margin_in_orders=True,
        holds_hedged=True,
        leverage_sides_hedged=({"posSide": "long"}, {"posSide": "short"}),
    ),
    Deadline("expTime", is_header=True),
)
_GATE: Final = _ending(
    Profile(
        client_id=ClientId("clientOrderId", "text", Shape.HEX28, prefix="t-"),
        leverage_by=LeverageBy.WITH_MODE,
        position_mode=PositionMode(
            ("in_dual_mode",), frozenset({"True"}), "privateFuturesGetSettleAccounts", {"settle": "usdt"}
        ),
    ),
    Deadline("x-gate-exptime", is_header=True),
)
_KUCOIN: Final = Profile(
    client_id=ClientId("clientOid", "clientOid"),
    look_up=LookUp.ONE,
    margin_in_orders=True,
    leverage_in_orders=True,
    holds_hedged=True,
    # Its list of contracts, which the class would take for one of tickers, has no bid and ask.
    options={"fetchTickers": {"method": "futuresPublicGetAllTickers"}},
)
_BITGET: Final = Profile(
    client_id=ClientId("clientOid", "clientOrderId"),
    look_up=LookUp.ONE,
    margin_in_orders=True,
    holds_hedged=True,
    position_mode=PositionMode(("info", "posMode"), frozenset({"hedge_mode"}), "fetch_leverage"),
)
_UNBUILT: Final = {"builderFee": False}
"""Keeps a class from approving a builder's fee in the owner's name, and from having it charged with each order."""
_BOOK_ONLY: Final = (Quoting.BOOK,)
"""Tickers without bid and ask, or none that we may ask for."""
_ONE_BY_ONE: Final = (Quoting.TICKER, Quoting.BOOK)
"""Lists without bid and ask, or only for who has a key."""

_ANY: Final[Mapping[str, Profile]] = {
    "okx": _OKX,
    "myokx": _OKX,
    "okxus": _OKX,
    "kucoin": _KUCOIN,
    "kucoinfutures": _KUCOIN,
    "bitget": _BITGET,
    # Its look-up by our id sends an empty order id beside it, so it is asked by its own id or in lists.
    "cryptocom": _sent_as("client_oid"),
    "hyperliquid": Profile(
        client_id=ClientId(shape=Shape.HEX_0X),
        # The class would sign a referral and a builder's approval in the owner's name, even without a fee; an address
        # that cannot be signed for keeps it from that before anything leaves, and from naming a builder in orders.
        options={"refSet": True, "builderFee": False, "builder": "nobody"},
        leverage_by=LeverageBy.WITH_MODE,
        prices_market_orders=True,
        # Its lists of tickers are whole market tables without bid and ask.
        quoted_by=_BOOK_ONLY,
    ),
    # It refuses a deadline that is less than two seconds away.
    "kraken": _ending(_sent_as("cl_ord_id"), Deadline("deadline", is_text=True, grace=timedelta(seconds=2))),
    "krakenfutures": _sent_as("cliOrdId", leverage_by=LeverageBy.ISOLATING, balance_type="flex"),
    "coinbase": _sent_as(
        "client_order_id",
        quoted_by=_ONE_BY_ONE,
        # Its older list of accounts does not tell what orders hold.
        options={"fetchBalance": "v3PrivateGetBrokerageAccounts"},
    ),
    "coinbaseinternational": Profile(places_by_get=True),
    "gate": _GATE,
    "gateeu": _GATE,
    # Its book tickers are asked for without the one symbol, and read as if they were of it.
    "mexc": _sent_as("clientOrderId", quoted_by=(Quoting.TICKERS, *_ONE_BY_ONE)),
    "bingx": _sent_as(
        "clientOrderId",
        order_params={"recvWindow": VALIDITY // MILLISECOND},
        holds_hedged=True,
        leverage_sides=({"side": "BOTH"},),
        leverage_sides_hedged=({"side": "LONG"}, {"side": "SHORT"}),
    ),
    "deribit": _ending(
        Profile(client_id=ClientId("label", "label", told="label"), places_by_get=True),
        Deadline("valid_until"),
    ),
    "phemex": _windowed(
        _sent_as(
            "clOrdID",
            leverage_by=LeverageBy.IN_MODE,
            holds_hedged=True,
            position_mode=PositionMode(("posMode",), frozenset({"Hedged"})),
            quoted_by=_BOOK_ONLY,
        ),
        "x-phemex-request-expiry",
        timedelta(seconds=1),
    ),
    **{each: Profile(options=_UNBUILT) for each in ("aster", "pacifica")},
    "grvt": _sent_as("clientOrderId", Shape.INTEGER63, options=_UNBUILT),
    "revolutx": _sent_as("client_order_id", Shape.UUID),
    "extended": Profile(options=_UNBUILT, prices_market_orders=True),
    "mudrex": Profile(prices_market_orders=True),
    "nado": _sent_as("id", Shape.INTEGER45, options=_UNBUILT),
    "whitebit": Profile(quoted_by=_ONE_BY_ONE),
    "modetrade": Profile(quoted_by=_BOOK_ONLY),
    "bigone": Profile(market_buy=MarketBuy.COST),
    "bittrade": Profile(market_buy=MarketBuy.COST),
    "mercado": Profile(market_buy=MarketBuy.PRICED),
    "zebpay": Profile(market_buy=MarketBuy.COST),
    "poloniex": _sent_as("clientOrderId"),
    "upbit": _sent_as("identifier", market_buy=MarketBuy.COST, quoted_by=_BOOK_ONLY),
    "lbank": _sent_as("custom_id", market_buy=MarketBuy.COST, quoted_by=_BOOK_ONLY),
    "bitfinex": _sent_as("cid", Shape.INTEGER45),
    "bitstamp": _sent_as("client_order_id"),
    # Any number that names who or what of the owner's sent it, which is always us.
    "bitvavo": _sent_as("clientOrderId", Shape.UUID, options={"operatorId": 1}),
    "bullish": _sent_as("clientOrderId", Shape.INTEGER63),
    "coinone": _sent_as("user_order_id"),
    "ndax": _sent_as("clientOrderId", Shape.INTEGER45),
    "delta": _sent_as("client_order_id"),
    "bithumb": _sent_as(
        "client_order_id",
        market_buy=MarketBuy.SPENT,
        options={"createMarketBuyOrderRequiresPrice": False},
    ),
    "onetrading": _sent_as("client_id", uncertain=frozenset({"INTERNAL_ERROR"})),
    # Their classes take a nonce that was used before for a key that is not accepted.
    "bitso": Profile(uncertain=frozenset({"0201"})),
    "p2b": Profile(uncertain=frozenset({"1016"})),
    "btse": _sent_as("clOrderID"),
    # The code is for a nonce that was used before.
    "blofin": Profile(margin_in_orders=True, uncertain=frozenset({"152407"})),
    "deepcoin": _sent_as("clOrdId", margin_in_orders=True, quoted_by=_BOOK_ONLY),
    "woo": _sent_as("clientOrderId", Shape.INTEGER63, quoted_by=_BOOK_ONLY),
    "woofipro": _sent_as("clientOrderId", quoted_by=_BOOK_ONLY),
    "coinmate": _sent_as("clientOrderId", Shape.INTEGER63, market_buy=MarketBuy.SPENT),
    "luno": Profile(market_buy=MarketBuy.SPENT),
    "lighter": _sent_as("clientOrderId", Shape.INTEGER45, options=_UNBUILT),
    "dydx": _sent_as("clientId", Shape.INTEGER45, places_by_get=True),
    "bequant": _sent_as("client_order_id"),
    "hitbtc": _sent_as("client_order_id"),
    "fmfwio": _sent_as("client_order_id"),
    "blockchaincom": _sent_as("clOrdId", Shape.HEX20, practice=Practice.NONE, quoted_by=_BOOK_ONLY),
    "weex": Profile(practice=Practice.NONE),
    "btcturk": _sent_as("newClientOrderId"),
    "coinsph": _windowed(_sent_as("newClientOrderId", market_buy=MarketBuy.COST)),
    "cryptomus": _sent_as("clientOrderId", market_buy=MarketBuy.COST),
    "hashkey": _windowed(_sent_as("clientOrderId")),
    "indodax": Profile(market_buy=MarketBuy.COST),
    "tokocrypto": _windowed(_sent_as("clientId", market_buy=MarketBuy.COST)),
    "toobit": _windowed(_sent_as("newClientOrderId")),
    "bitrue": _windowed(_sent_as("clientOrderId")),
    "xt": _sent_as("clientOrderId"),
}

_PROFILES: Final[Mapping[tuple[str, MarketType], Profile]] = {
    ("binance", MarketType.SPOT): BINANCE_SPOT,
    ("binance", MarketType.SWAP): BINANCE_SWAP,
    ("binanceus", MarketType.SPOT): replace(
        BINANCE_SPOT,
        alone={},
        lists_all=False,
        is_proven=False,
        settle=CAUTIOUS_SETTLE,
        style=NativeStyle.NONE,
    ),
    ("binanceusdm", MarketType.SWAP): BINANCE_SWAP,
    ("bybit", MarketType.SPOT): BYBIT_SPOT,
    ("bybit", MarketType.SWAP): BYBIT_SWAP,
    **{
        (exchange, kind): replace(
            profile, is_proven=False, settle=CAUTIOUS_SETTLE, style=NativeStyle.NONE, funding=None
        )
        for exchange in ("bybiteu", "bybitid")
        for kind, profile in ((MarketType.SPOT, BYBIT_SPOT), (MarketType.SWAP, BYBIT_SWAP))
    },
    ("mexc", MarketType.SPOT): _windowed(_ANY["mexc"]),
    ("mexc", MarketType.SWAP): replace(
        _ANY["mexc"],
        client_id=ClientId(told="externalOid"),
        margin_in_orders=True,
        leverage_in_orders=True,
        leverage_by=LeverageBy.IN_MODE,
        leverage_sides=({"direction": "long"}, {"direction": "short"}),
        holds_hedged=True,
        # Its four kinds of orders are to open or to close a long or a short. Told `hedged`, the class takes the close
        # of the one for that of the other.
        names_side=True,
        sides={"1": "buy", "2": "buy", "3": "sell", "4": "sell"},
    ),
    ("xt", MarketType.SPOT): _windowed(_bought_for_money(_ANY["xt"])),
    **{
        (exchange, MarketType.SPOT): _bought_for_money(_ANY.get(exchange, Profile()))
        for exchange in (
            "bitget",
            "btse",
            "coinbase",
            "digifinex",
            "gate",
            "gateeu",
            "htx",
            "poloniex",
            "toobit",
        )
    },
    ("bitrue", MarketType.SWAP): _bought_for_money(_ANY["bitrue"]),
}


_DATE_REQUESTS: Final = (
    "aster binance binancecoinm binanceus binanceusdm bitget bitrue blofin bybit bybiteu bybitid coinbase "
    "cryptocom digifinex grvt hashkey hollaex kucoin kucoinfutures latoken mexc myokx okx okxus revolutx "
    "tokocrypto "
)
"""Exchanges whose class calls nothing but a time outside the window an invalid nonce."""


@cache
def profile_of(exchange: str, market_type: MarketType) -> Profile:
    """The ways of a venue on one of its markets; the cautious ones where the table has none."""
    known = _PROFILES.get((exchange, market_type)) or _ANY.get(exchange) or Profile()
    profile = replace(known, dates_requests=exchange in _DATE_REQUESTS.split())
    holding = HELD.get((exchange, market_type))
    return profile if holding is None else holding(profile)


_SAME_VENUE: Final[Mapping[str, str]] = {"binanceusdm": "binance", "kucoinfutures": "kucoin"}
"""Classes that open the accounts of another class by the same keys."""


def venue_of(exchange: str) -> str:
    """The venue behind a class: an account is one by whichever of its classes it is opened."""
    return _SAME_VENUE.get(exchange, exchange)
