"""What each venue calls things on the wire: written down from the venues' own references, not from our profiles."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.domain.market import MarketType
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
