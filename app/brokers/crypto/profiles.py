"""Profiles: how one venue differs from another, as data. What is not in the table gets a cautious default.

The default sends the unified client order id, believes nothing about look-ups that find nothing, and leaves
protection to our monitor: an exchange nobody has looked into is slower, never wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.domain.orders import OrderType, TriggerSource

VALIDITY: Final = timedelta(seconds=5)
"""How long after its claim a request may still be accepted."""

CAUTIOUS_SETTLE: Final = timedelta(seconds=60)
"""Where nothing is known of a venue's processing time."""


class Shape(StrEnum):
    """What a venue takes for a client order id; each is made from the same 32 hex digits."""

    HEX32 = "hex32"
    HEX28 = "hex28"
    HEX_0X = "0x_hex32"
    INTEGER63 = "integer63"
    INTEGER45 = "integer45"


class LookUp(StrEnum):
    """How an order is found by our id."""

    ONE = "one"
    """One request for the order of this id; the class tells "not found" from a failure."""
    FILTERED = "filtered"
    """Open, then closed orders, filtered by the venue."""
    LISTED = "listed"
    """Open, then closed orders, searched here."""


@dataclass(frozen=True, slots=True)
class ClientId:
    """Under which keys our id travels, native ones where the class would drop the unified key."""

    create: str = "clientOrderId"
    look_up: str = "clientOrderId"
    shape: Shape = Shape.HEX32


@dataclass(frozen=True, slots=True)
class Trigger:
    """How a stop is told to go by one price, and how the class tells that price."""

    params: Mapping[str, str]
    """What the stop is created with."""
    method: str
    """The method that answers by symbol."""
    field: str
    """Where its answers hold the price."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One venue's ways on one of its markets."""

    taker_fee: Decimal | None = None
    """The standard taker fee, as a fraction; None takes what the class states."""
    client_id: ClientId = field(default_factory=ClientId)
    look_up: LookUp = LookUp.LISTED
    is_proven: bool = False
    """Whether a clean look-up that finds nothing may be believed."""
    settle: timedelta = CAUTIOUS_SETTLE
    window_option: str | None = None
    """The option of the class that holds the validity window in milliseconds, where it signs one."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the class, other than the window."""
    alone: Mapping[str, Any] = field(default_factory=dict)
    """Options that make the class load the markets of this type only."""
    is_demo: bool = False
    """Whether its practice accounts are reached by demo trading instead of the sandbox."""
    style: NativeStyle = NativeStyle.NONE
    triggers: Mapping[TriggerSource, Trigger] = field(default_factory=dict)
    """Which prices may wake its stops, the usual one first; empty where there is no choice."""
    rooms: Mapping[OrderType, Mapping[str, Any]] = field(default_factory=dict)
    """What a look-up or cancel has to add to see orders of a type: conditional orders live apart."""
    infers_direction: bool = False
    """Whether a stop fires whichever way its trigger is reached: one that was passed would wait for a return."""
    real_order: tuple[str, ...] = ()
    """Where a conditional order that has fired names the order it became, in the venue's own answer."""
    trades_by: str | None = None
    """The key by which trades of one order are asked for."""
    fee_detail: str | None = None
    """Where an order's own answer holds its fees by currency."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Codes that certainly mean no, and our code for each."""
    credential_codes: frozenset[str] = frozenset()
    """Codes that say that the key is not accepted: wrong, expired, disabled, or from this address."""
    refusing_words: tuple[str, ...] = ()
    """Messages that certainly mean no where their code has other meanings too."""
    not_executed: frozenset[str] = frozenset()
    """Codes that certainly mean "not now": rate limits and clocks."""
    not_executed_statuses: frozenset[int] = frozenset()
    """The same for statuses of HTTP."""
    uncertain: frozenset[str] = frozenset()
    """Codes that say nothing, whatever error the class makes of them."""
    places_by_get: bool = False
    """Whether orders are sent with GET, so that no method tells a read from a write."""
    holds_hedged: bool = False
    """Whether the class takes `hedged` for accounts with a long and a short side."""


_REJECTED: Final = "rejected_by_venue"
_SMALL_VALUE: Final = "notional_below_minimum"
_SMALL: Final = "quantity_below_minimum"
_POOR: Final = "insufficient_balance"


def _codes(code: str, *numbers: int) -> dict[str, str]:
    return {str(number): code for number in numbers}


_BINANCE_REFUSALS: Final = {
    **_codes(_REJECTED, -1013, -1100, -1101, -1102, -1103, -1104, -1105, -1106, -1111, -1112, -1114, -1115),
    **_codes(_REJECTED, -1116, -1117, -1128, -1130, -2014, -2015, -1022, -1002),
    **_codes("symbol_unknown", -1121),
}
_BINANCE: Final = Profile(
    client_id=ClientId("newClientOrderId", "origClientOrderId"),
    look_up=LookUp.ONE,
    is_proven=True,
    settle=timedelta(seconds=20),
    window_option="recvWindow",
    options={
        "fetchCurrencies": False,
        "fetchMargins": False,
        "fetchOpenOrders": {"warnWithoutSymbol": False},
    },
    trades_by="orderId",
    refusals=_BINANCE_REFUSALS,
    credential_codes=frozenset({"-2014", "-2015", "-1022"}),
    refusing_words=(
        "would trigger immediately",
        "would immediately match and take",
        "relationship of the prices for the orders is not correct",
        "is not permitted for this account",
        "not supported for this symbol",
        "trading is not enabled",
    ),
    not_executed=frozenset({"-1003", "-1015", "-1021"}),
    not_executed_statuses=frozenset({418, 429}),
    uncertain=frozenset({"-1000", "-1001", "-1006", "-1007", "-4116"}),
    holds_hedged=True,
)
_BINANCE_SPOT: Final = replace(
    _BINANCE,
    taker_fee=Decimal("0.001"),
    alone={"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"},
    style=NativeStyle.BRACKET,
)
_BINANCE_SWAP: Final = replace(
    _BINANCE,
    alone={"fetchMarkets": {"types": ["linear"]}, "defaultType": "swap", "defaultSubType": "linear"},
    taker_fee=Decimal("0.0005"),
    is_demo=True,
    style=NativeStyle.STOP_AND_TARGETS,
    triggers={
        TriggerSource.MARK: Trigger({"workingType": "MARK_PRICE"}, "fetch_mark_prices", "markPrice"),
        TriggerSource.LAST: Trigger({"workingType": "CONTRACT_PRICE"}, "fetch_last_prices", "price"),
    },
    rooms={OrderType.STOP: {"trigger": True}},
    real_order=("actualOrderId",),
    refusals={
        **_BINANCE_REFUSALS,
        **_codes(_POOR, -2018, -2019),
        **_codes(
            _REJECTED, -2020, -2021, -2022, -2023, -2024, -2025, -2026, -2027, -2028, -4001, -4002, -4003
        ),
        **_codes(
            _REJECTED, -4004, -4005, -4013, -4014, -4015, -4016, -4023, -4024, -4061, -4120, -4131, -4400
        ),
        **_codes(_SMALL_VALUE, -4164),
    },
)
_BYBIT: Final = Profile(
    client_id=ClientId("orderLinkId", "orderLinkId"),
    look_up=LookUp.FILTERED,
    is_proven=True,
    settle=timedelta(seconds=20),
    window_option="recvWindow",
    trades_by="orderId",
    fee_detail="cumFeeDetail",
    refusals={
        **_codes(
            _REJECTED, 10001, 10003, 10004, 10005, 10009, 10010, 10024, 33004, 110003, 110008, 110013, 110017
        ),
        **_codes(_REJECTED, 110018, 110023, 110028, 110030, 110092, 110093, 110095, 110096, 110097),
        **_codes(
            _REJECTED, 170115, 170116, 170117, 170130, 170132, 170133, 170134, 170135, 170136, 170137, 170193
        ),
        **_codes(_REJECTED, 170194, 170196, 170198, 170220, 170221, 170222, 170344, 170348),
        **_codes("symbol_unknown", 170121),
        **_codes(_SMALL, 170124),
        **_codes(_POOR, 110004, 110006, 110007, 110012, 110014, 110044, 110045, 110052, 170033, 170131),
        **_codes(_SMALL_VALUE, 110094, 170140),
    },
    credential_codes=frozenset({"10003", "10004", "10005", "10010", "33004"}),
    not_executed=frozenset({"10002"}),
    uncertain=frozenset(
        _codes(
            "",
            10000,
            10006,
            10014,
            10016,
            10019,
            10403,
            10429,
            110072,
            170001,
            170005,
            170007,
            170032,
            170141,
        )
        | _codes("", 20003, 20006)
    ),
)
_BYBIT_SPOT: Final = replace(
    _BYBIT,
    taker_fee=Decimal("0.001"),
    alone={"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"},
    style=NativeStyle.STOP_ONLY,
    infers_direction=True,
    rooms={OrderType.STOP: {"orderFilter": "tpslOrder"}},
)
_BYBIT_SWAP: Final = replace(
    _BYBIT,
    taker_fee=Decimal("0.00055"),
    alone={"fetchMarkets": {"types": ["linear"]}, "defaultType": "swap", "defaultSubType": "linear"},
    style=NativeStyle.STOP_AND_TARGETS,
    triggers={
        TriggerSource.MARK: Trigger({"triggerBy": "MarkPrice"}, "fetch_tickers", "markPrice"),
        TriggerSource.LAST: Trigger({"triggerBy": "LastPrice"}, "fetch_tickers", "last"),
        TriggerSource.INDEX: Trigger({"triggerBy": "IndexPrice"}, "fetch_tickers", "indexPrice"),
    },
    holds_hedged=True,
)


def _found_by_id(create: str, look_up: str, **more: Any) -> Profile:
    return Profile(client_id=ClientId(create, look_up), look_up=LookUp.ONE, is_proven=True, **more)


def _sent_as(create: str, shape: Shape = Shape.HEX32) -> Profile:
    """Our id reaches the venue; what its listings leave out is not known, so absence is never believed."""
    return Profile(client_id=ClientId(create, create, shape))


_ANY: Final[Mapping[str, Profile]] = {
    "okx": _found_by_id("clOrdId", "clOrdId"),
    "myokx": _found_by_id("clOrdId", "clOrdId"),
    "okxus": _found_by_id("clOrdId", "clOrdId"),
    "kucoin": _found_by_id("clientOid", "clientOid"),
    "bitget": _found_by_id("clientOid", "clientOrderId"),
    "cryptocom": _found_by_id("client_oid", "client_oid"),
    "hyperliquid": replace(_sent_as("clientOrderId", Shape.HEX_0X), client_id=ClientId(shape=Shape.HEX_0X)),
    "kraken": _sent_as("cl_ord_id"),
    "krakenfutures": _sent_as("cliOrdId"),
    "coinbase": _sent_as("client_order_id"),
    "gate": Profile(client_id=ClientId("clientOrderId", "text", Shape.HEX28)),
    "mexc": replace(_sent_as("clientOrderId"), window_option="recvWindow"),
    "bingx": replace(_sent_as("clientOrderId"), window_option="recvWindow"),
    "htx": Profile(client_id=ClientId("clientOrderId")),
    "deribit": replace(_sent_as("label"), places_by_get=True),
    "phemex": _sent_as("clOrdID"),
    "poloniex": _sent_as("clientOrderId"),
    "upbit": _sent_as("identifier"),
    "lbank": _sent_as("custom_id"),
    "bitfinex": _sent_as("cid", Shape.INTEGER45),
    "bitstamp": _sent_as("client_order_id"),
    "delta": _sent_as("client_order_id"),
    "bithumb": _sent_as("client_order_id"),
    "onetrading": _sent_as("client_id"),
    "btse": _sent_as("clOrderID"),
    "deepcoin": _sent_as("clOrdId"),
    "woo": _sent_as("clientOrderId", Shape.INTEGER63),
    "woofipro": _sent_as("clientOrderId"),
    "coinmate": _sent_as("clientOrderId", Shape.INTEGER63),
    "lighter": _sent_as("clientOrderId", Shape.INTEGER45),
    "dydx": _sent_as("clientId", Shape.INTEGER45),
}

_PROFILES: Final[Mapping[tuple[str, MarketType], Profile]] = {
    ("binance", MarketType.SPOT): _BINANCE_SPOT,
    ("binance", MarketType.SWAP): _BINANCE_SWAP,
    ("binanceus", MarketType.SPOT): replace(_BINANCE_SPOT, alone={}),
    ("binanceusdm", MarketType.SWAP): _BINANCE_SWAP,
    ("bybit", MarketType.SPOT): _BYBIT_SPOT,
    ("bybit", MarketType.SWAP): _BYBIT_SWAP,
}

CERTIFIED: Final = frozenset(
    {
        ("binance", MarketType.SPOT),
        ("binance", MarketType.SWAP),
        ("binanceusdm", MarketType.SWAP),
        ("bybit", MarketType.SPOT),
        ("bybit", MarketType.SWAP),
    }
)
"""What passes the contract suite of brokers against a simulator of its wire protocol."""


def profile_of(exchange: str, market_type: MarketType) -> Profile:
    """The ways of a venue on one of its markets; the cautious ones where the table has none."""
    return _PROFILES.get((exchange, market_type)) or _ANY.get(exchange) or Profile()


def shaped(hex32: str, shape: Shape) -> str:
    """Our id in the shape a venue takes."""
    match shape:
        case Shape.HEX32:
            return hex32
        case Shape.HEX28:
            return hex32[:28]
        case Shape.HEX_0X:
            return f"0x{hex32}"
        case Shape.INTEGER63:
            return str(int(hex32, 16) >> 65)
        case Shape.INTEGER45:
            return str(int(hex32, 16) >> 83)
