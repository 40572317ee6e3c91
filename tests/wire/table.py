"""What each venue calls things on the wire: written down from the venues' own references, not from our profiles."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from app.domain.market import MarketType
from app.domain.orders import TriggerSource
from tests.wire.transport import Answer

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP


@dataclass(frozen=True)
class Wire:
    """The native names of one venue on one market."""

    id: str
    """Of our client order id."""
    amount: str
    """Of the quantity."""
    cost: str | None = None
    """Of the money, where market buys are told that instead of a quantity."""
    price: str = "price"
    exit: Mapping[str, str] = field(default_factory=dict)
    """What marks a swap order that may only reduce a position."""
    window: str | None = None
    """Of the validity window, or of the deadline, where orders carry one."""
    scale: int = 1
    """By what amounts and prices are multiplied on the wire."""


REDUCE: Final = {"reduceOnly": "true"}
REDUCE_SNAKE: Final = {"reduce_only": "true"}

WIRES: Final[Mapping[tuple[str, MarketType], Wire]] = {
    ("bingx", SPOT): Wire("newClientOrderId", "quantity", window="recvWindow"),
    ("bingx", SWAP): Wire("clientOrderID", "quantity", exit=REDUCE, window="recvWindow"),
    ("bitget", SPOT): Wire("clientOid", "size", cost="size"),
    ("bitget", SWAP): Wire("clientOid", "size", exit={"reduceOnly": "YES"}),
    ("bybiteu", SPOT): Wire("orderLinkId", "qty", window="X-BAPI-RECV-WINDOW"),
    ("bybitid", SPOT): Wire("orderLinkId", "qty", window="X-BAPI-RECV-WINDOW"),
    ("bybitid", SWAP): Wire("orderLinkId", "qty", exit=REDUCE, window="X-BAPI-RECV-WINDOW"),
    ("binanceus", SPOT): Wire("newClientOrderId", "quantity", window="recvWindow"),
    ("coinbase", SPOT): Wire("client_order_id", "base_size", cost="quote_size", price="limit_price"),
    ("cryptocom", SPOT): Wire("client_oid", "quantity"),
    ("deribit", SPOT): Wire("label", "amount", window="valid_until"),
    ("deribit", SWAP): Wire("label", "amount", exit=REDUCE_SNAKE, window="valid_until"),
    ("gate", SPOT): Wire("text", "amount", cost="amount", window="x-gate-exptime"),
    ("gate", SWAP): Wire("text", "size", exit=REDUCE_SNAKE, window="x-gate-exptime"),
    ("gateeu", SPOT): Wire("text", "amount", cost="amount", window="x-gate-exptime"),
    ("htx", SPOT): Wire("client-order-id", "amount", cost="amount"),
    ("hyperliquid", SWAP): Wire("c", "s", price="p", exit={"r": "true"}),
    ("kraken", SPOT): Wire("cl_ord_id", "volume", window="deadline"),
    ("krakenfutures", SWAP): Wire("cliOrdId", "size", price="limitPrice", exit=REDUCE),
    ("kucoin", SPOT): Wire("clientOid", "size"),
    ("kucoin", SWAP): Wire("clientOid", "size", exit=REDUCE),
    ("kucoinfutures", SWAP): Wire("clientOid", "size", exit=REDUCE),
    ("mexc", SPOT): Wire("newClientOrderId", "quantity", window="recvWindow"),
    ("mexc", SWAP): Wire("externalOid", "vol", exit={"side": "4"}),
    ("myokx", SPOT): Wire("clOrdId", "sz", price="px", window="expTime"),
    ("myokx", SWAP): Wire("clOrdId", "sz", price="px", exit=REDUCE, window="expTime"),
    ("okx", SPOT): Wire("clOrdId", "sz", price="px", window="expTime"),
    ("okx", SWAP): Wire("clOrdId", "sz", price="px", exit=REDUCE, window="expTime"),
    ("okxus", SPOT): Wire("clOrdId", "sz", price="px", window="expTime"),
    ("phemex", SPOT): Wire(
        "clOrdID", "baseQtyEv", price="priceEp", window="x-phemex-request-expiry", scale=100_000_000
    ),
    ("phemex", SWAP): Wire(
        "clOrdID", "orderQtyRq", price="priceRp", exit=REDUCE, window="x-phemex-request-expiry"
    ),
}
"""Everything of tier compatible, and nothing else."""


@dataclass(frozen=True)
class StopWire:
    """The native names of one venue for its stops, or for targets that are conditional orders like them."""

    id: str
    """Of our client order id."""
    amount: str
    trigger: str
    """Of the price it waits for."""
    says: Mapping[str, str]
    """What else it says: that it sells at market, and may only reduce a position."""
    sells: Mapping[str, str]
    """How it says that it leaves a long: which way it trades, and on which side of the price it waits."""
    buys: Mapping[str, str]
    """How it says that it leaves a short."""
    sources: Mapping[TriggerSource, Mapping[str, str]] = field(default_factory=dict)
    """How it says by which price it goes, where there is a choice; the usual one first."""
    closes_long: Mapping[str, str] | None = None
    """How it says in an account with two sides that it protects a long; None where there are no such accounts."""


_KUCOIN_STOP: Final = StopWire(
    "clientOid",
    "size",
    "stopPrice",
    {"type": "market", "reduceOnly": "true", "marginMode": "ISOLATED", "leverage": "5"},
    {"side": "sell", "stop": "down"},
    {"side": "buy", "stop": "up"},
    {TriggerSource.LAST: {"stopPriceType": "TP"}},
    {"side": "sell", "stop": "down", "positionSide": "LONG"},
)

_KUCOIN_TARGET: Final = replace(
    _KUCOIN_STOP,
    sells={"side": "sell", "stop": "up"},
    buys={"side": "buy", "stop": "down"},
    closes_long={"side": "sell", "stop": "up", "positionSide": "LONG"},
)

_BYBIT_STOP: Final = StopWire(
    "orderLinkId",
    "qty",
    "triggerPrice",
    {"orderType": "Market", "category": "spot", "orderFilter": "tpslOrder"},
    {"side": "Sell"},
    {"side": "Buy"},
)
_OKX_STOP: Final = StopWire(
    "algoClOrdId",
    "sz",
    "slTriggerPx",
    {"ordType": "conditional", "slOrdPx": "-1", "slTriggerPxType": "last", "tdMode": "cash"},
    {"side": "sell"},
    {"side": "buy"},
)

_OKX_SWAP_STOP: Final = StopWire(
    "algoClOrdId",
    "sz",
    "slTriggerPx",
    {"ordType": "conditional", "slOrdPx": "-1", "reduceOnly": "true", "tdMode": "isolated"},
    {"side": "sell"},
    {"side": "buy"},
    {
        TriggerSource.MARK: {"slTriggerPxType": "mark"},
        TriggerSource.LAST: {"slTriggerPxType": "last"},
    },
    {"posSide": "long", "side": "sell"},
)

STOPS: Final[Mapping[tuple[str, MarketType], StopWire]] = {
    **{(each, SPOT): _BYBIT_STOP for each in ("bybiteu", "bybitid")},
    **{(each, SPOT): _OKX_STOP for each in ("myokx", "okx", "okxus")},
    ("kraken", SPOT): StopWire(
        "cl_ord_id", "volume", "price", {"ordertype": "stop-loss"}, {"type": "sell"}, {"type": "buy"}
    ),
    ("kucoin", SWAP): _KUCOIN_STOP,
    ("kucoinfutures", SWAP): _KUCOIN_STOP,
    ("bitget", SWAP): StopWire(
        "clientOid",
        "size",
        "triggerPrice",
        # By its nature it closes what is held, at market.
        {"planType": "loss_plan", "marginCoin": "USDT", "productType": "USDT-FUTURES"},
        {"holdSide": "buy"},
        {"holdSide": "sell"},
        {
            TriggerSource.MARK: {"triggerType": "mark_price"},
            TriggerSource.LAST: {"triggerType": "fill_price"},
        },
        {"holdSide": "long"},
    ),
    ("bybitid", SWAP): StopWire(
        "orderLinkId",
        "qty",
        "triggerPrice",
        {"orderType": "Market", "reduceOnly": "true"},
        {"side": "Sell", "triggerDirection": "2"},
        {"side": "Buy", "triggerDirection": "1"},
        {
            TriggerSource.MARK: {"triggerBy": "MarkPrice"},
            TriggerSource.LAST: {"triggerBy": "LastPrice"},
            TriggerSource.INDEX: {"triggerBy": "IndexPrice"},
        },
        {"positionIdx": "1", "side": "Sell"},
    ),
    ("gate", SWAP): StopWire(
        "text",
        "size",
        # Of the order and of its trigger: at market, and from where on.
        "price",
        {"reduce_only": "true", "tif": "ioc"},
        {"size": "-37", "rule": "2"},
        {"size": "37", "rule": "1"},
        {
            TriggerSource.MARK: {"price_type": "1"},
            TriggerSource.LAST: {"price_type": "0"},
            TriggerSource.INDEX: {"price_type": "2"},
        },
    ),
    ("hyperliquid", SWAP): StopWire(
        "c",
        "s",
        "triggerPx",
        {"isMarket": "true", "tpsl": "sl", "r": "true", "grouping": "na"},
        # The price bounds the market order that it becomes.
        {"b": "false", "p": "18050"},
        {"b": "true", "p": "19950"},
    ),
    **{(each, SWAP): _OKX_SWAP_STOP for each in ("myokx", "okx")},
}
"""Every market of tier compatible whose stops the venue holds, and nothing else."""

TARGETS: Final[Mapping[tuple[str, MarketType], StopWire]] = {
    ("kucoin", SWAP): _KUCOIN_TARGET,
    ("kucoinfutures", SWAP): _KUCOIN_TARGET,
    **{
        (each, SWAP): replace(
            _OKX_SWAP_STOP,
            trigger="tpTriggerPx",
            says={"ordType": "conditional", "tpOrdPx": "-1", "reduceOnly": "true", "tdMode": "isolated"},
            sources={
                TriggerSource.MARK: {"tpTriggerPxType": "mark"},
                TriggerSource.LAST: {"tpTriggerPxType": "last"},
            },
        )
        for each in ("myokx", "okx")
    },
}
"""The same of those whose targets are conditional orders."""

_BYBIT: Final = {
    "user/query-api": {"retCode": 0, "result": {"unified": 0, "uta": 1}},
    "account/info": {"retCode": 0, "result": {"unifiedMarginStatus": 6}},
}
_HTX_ACCOUNTS: Final = {
    "account/accounts": {
        "status": "ok",
        "data": [{"id": 7, "type": "spot", "subtype": "", "state": "working"}],
    }
}
ANSWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    # A classic account is refused what only unified accounts have.
    "bitget": {"account/settings": {"code": "40084", "msg": "classic account"}},
    "bittrade": _HTX_ACCOUNTS,
    "bullish": {
        "users/hmac/login": {"authorizer": "03E0", "token": "a.b.c"},
        "accounts/trading-accounts": [
            {"tradingAccountId": "111309424211255", "tradingAccountName": "Primary Account"}
        ],
    },
    "bybit": _BYBIT,
    "bybiteu": _BYBIT,
    "bybitid": _BYBIT,
    "coinbaseinternational": {"public/auth": {"result": {"access_token": "1.abc", "expires_in": 900}}},
    "extended": {"user/account/info": {"status": "OK", "data": {"l2Key": "0x1a2b", "l2Vault": "10001"}}},
    "grvt": {
        "auth/wallet/login": Answer(
            '{"status": "success"}', headers={"Set-Cookie": "gravity=s; Path=/", "X-Grvt-Account-Id": "a"}
        ),
        "aggregated_account_summary": {"result": {"main_account_id": "0xa1"}},
        "get_sub_accounts": {"sub_account_ids": ["2927361400114782"]},
    },
    "ndax": {"GetUserAccounts": [7], "Authenticate?": {"Authenticated": True, "SessionToken": "s"}},
    "nado": {
        "type=contracts": {
            "status": "success",
            "data": {"chain_id": "57073", "endpoint_addr": "0x" + "3" * 40},
        }
    },
    "paradex": {
        "system/config": {
            "starknet_chain_id": "PRIVATE_SN_PARACLEAR_MAINNET",
            "l1_chain_id": "1",
            "paraclear_account_hash": "0x41cb0280ebadaa75f996d8d92c6f265f6d040bb3ba442e5f86a554f1765244e",
            "paraclear_account_proxy_hash": "0x3530cc4759d78042f1b543bf797f5f3d647cde0388c33734cf91b7f7b9314a9",
        },
        "v1/auth": {"jwt_token": "a.b.c"},
    },
    "polymarket": {"account/proxy": {"secret": "s"}},
    "gate": {"account/detail": {"user_id": 1, "key": {"mode": 1}}},
    "gateeu": {"account/detail": {"user_id": 1, "key": {"mode": 1}}},
    "htx": _HTX_ACCOUNTS,
    "hyperliquid": {"userAbstraction": "default"},
    "kucoin": {"account/mode": {"code": "200000", "data": {"selfAccountMode": "CLASSIC"}}},
    "kucoinfutures": {"account/mode": {"code": "200000", "data": {"selfAccountMode": "CLASSIC"}}},
}
"""What a class asks about the account before its first order, and what it is told."""
