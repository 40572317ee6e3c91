"""Unmodified exchange classes on synthetic markets, driven as our broker drives them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import uuid4

import ccxt.async_support as library

from app.brokers.crypto.broker import CryptoBroker, Terms
from app.brokers.crypto.exchange import Call, Surroundings, calling, exchange_of
from app.brokers.crypto.markets import Listed
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.public import PublicMarket
from app.brokers.crypto.requests import creation
from app.brokers.crypto.settings import Wanted
from app.brokers.crypto.tariffs import Tariff, Toll
from app.brokers.crypto.transport import Transport
from app.brokers.crypto.ways import Profile
from app.brokers.limits.gate import Gate
from app.brokers.limits.ledger import Ledger
from app.brokers.port import Traits
from app.domain.market import MarketType, Quote
from app.domain.orders import OrderKey, OrderRequest, OrderType, Side
from tests.desks import START
from tests.wire.transport import CapturedLine, Sent

_TRANSPORT: Final = Transport()
"""Nothing goes through it: it is asked for its TLS context only."""

ASK: Final = Decimal(20000)
QUANTITY: Final = Decimal("0.37")
"""Base units; 37 of the contracts below."""
CONTRACT: Final = Decimal("0.01")
ORDER_ID: Final = "778899"
"""The id a venue gave an order of ours."""

PLAIN: Final = Wanted(Decimal(1))
"""What a connection asks for that asks for nothing."""

CREDENTIALS: Final = {
    "apiKey": "k" * 32,
    "secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "password": "passphrase",
    "uid": "1",
    "accountId": "1",
    "privateKey": "0x" + "1" * 64,
    "walletAddress": "0x" + "2" * 40,
}
_PEM: Final = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
"""
_WALLET: Final = {"apiKey": "", "secret": "", "walletAddress": "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"}
"""Where the private key above alone signs in."""
_OWN_KEYS: Final[Mapping[str, Mapping[str, str]]] = {
    "coinbaseinternational": {"secret": f"{'MDEyMzQ1Njc4OWFi' * 5}MDEyMw=="},
    "gemini": {"apiKey": f"account-{'k' * 20}"},
    "grvt": _WALLET,
    "hibachi": {"privateKey": "k" * 44},
    "lbank": {"secret": "s" * 32},
    "modetrade": {"secret": "ed25519:4zvwRjXUKGfvwnParsHAS3HuSVzV5cA4McphgmoCtajS"},
    "nado": _WALLET,
    "ndax": {"login": "owner@example.com"},
    "pacifica": {"privateKey": "4zvwRjXUKGfvwnParsHAS3HuSVzV5cA4McphgmoCtajS"},
    "polymarket": _WALLET,
    "revolutx": {"privateKey": _PEM},
    "woofipro": {"secret": "ed25519:4zvwRjXUKGfvwnParsHAS3HuSVzV5cA4McphgmoCtajS"},
}
"""What a class cannot sign without, or would take for a key of another make."""


_NUMBERED: Final = frozenset({"nado", "ndax", "polymarket"})
"""Where markets are called by a number."""


def money_of(exchange: str) -> str:
    """What things are paid for with there."""
    return "USDC" if exchange == "hyperliquid" else "USDT"


def market_of(exchange: Any, market_type: MarketType, base: str = "BTC") -> dict[str, Any]:
    """A symbol with plain rules, as the class itself would describe it."""
    is_swap = market_type is MarketType.SWAP
    money = money_of(exchange.id)
    symbol = f"{base}/{money}:{money}" if is_swap else f"{base}/{money}"
    # Hyperliquid calls a coin by its number, and its perpetual by the coin.
    is_numbered = exchange.id == "hyperliquid"
    number = "0" if base == "BTC" else "1"
    counts_digits = exchange.precisionMode == library.SIGNIFICANT_DIGITS
    market: dict[str, Any] = exchange.safe_market_structure(
        {
            "id": symbol if is_numbered else number if exchange.id in _NUMBERED else f"{base}{money}",
            "symbol": symbol,
            "base": base,
            "baseName": base,
            "quote": money,
            "settle": money if is_swap else None,
            "baseId": number if is_numbered else base,
            "quoteId": money,
            "settleId": money if is_swap else None,
            "type": market_type.value,
            "spot": not is_swap,
            "swap": is_swap,
            "contract": is_swap,
            "linear": is_swap or None,
            "inverse": False if is_swap else None,
            "contractSize": str(CONTRACT) if is_swap else None,
            "active": True,
            "precision": {"amount": 8, "price": 5}
            if counts_digits
            else {"amount": "1" if is_swap else "0.001", "price": "0.1", "base": "0.001"},
            "limits": {"amount": {"min": "1" if is_swap else "0.001"}},
            # What single classes read beside the unified fields.
            "numericId": 27 if base == "BTC" else 28,
            "uppercaseId": f"{base}_{money}",
            # Phemex scales the numbers of its spot markets.
            "priceScale": 0 if is_swap else 8,
            "valueScale": 0 if is_swap else 8,
            "info": {
                # What Binance US takes on its markets.
                "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
                "symbol": f"{base}USDT",
                "baseTickSizeEv": "1",
                "product_specs": {},
                "instrument_hash": "0x030501",
                "underlyingDecimals": 10,
                "settlementDecimals": 6,
                "l2Config": {
                    "syntheticId": "0x4254432d3600000000000000000000",
                    "syntheticResolution": 1_000_000,
                    "collateralId": "0x1",
                    "collateralResolution": 1_000_000,
                },
            },
        }
    )
    return market


def quote(symbol: str) -> Quote:
    """What it costs."""
    return Quote(symbol, ASK - 1, ASK, START)


@dataclass
class Driven:
    """One class with our layer and a captured transport."""

    exchange: Any
    profile: Profile
    line: CapturedLine
    public: CapturedLine
    """Where it is asked without a key."""
    listed_as: Listed
    broker: CryptoBroker

    @property
    def symbol(self) -> str:
        """The symbol that is traded."""
        return self.listed_as.instrument.symbol

    def request(self, order_type: OrderType, side: Side, *, reduce_only: bool = False) -> OrderRequest:
        """An order as the engine makes it, claimed a second ago."""
        name = self.broker.client_order_id(uuid4(), 1)
        price = None if order_type is OrderType.MARKET else ASK
        return OrderRequest(
            name, self.symbol, side, order_type, QUANTITY, START, price=price, reduce_only=reduce_only
        )

    def key(self, *, known: bool = True) -> OrderKey:
        """The key of an order that was sent; `known` when the venue's own id is."""
        key = self.request(OrderType.LIMIT, Side.BUY).key
        return replace(key, exchange_order_id=ORDER_ID if known else None)

    async def place(self, request: OrderRequest, margin_mode: str | None = None) -> list[Sent]:
        """What leaves when the order is created, as the broker creates it."""
        order = creation(
            request,
            self.listed_as,
            self.profile,
            is_hedged=False,
            quote=quote(request.symbol),
            margin_mode=margin_mode,
            leverage=PLAIN.leverage,
        )
        with calling(Call(signed_at=request.signed_at)):
            await self._caught(
                self.exchange.create_order(
                    order.symbol, order.type, order.side, order.amount, order.price, order.params
                )
            )
        return self.taken()

    async def listed(self, method: str) -> list[Sent]:
        """What leaves when orders are listed, as the broker lists them; nothing where the class cannot."""
        since = None if method == "fetch_open_orders" else int(START.timestamp() * 1000)
        with calling(Call()):
            await self._caught(getattr(self.exchange, method)(self.symbol, since, None, {}))
        return self.taken()

    def taken(self) -> list[Sent]:
        """What was sent since the last time."""
        sent, self.line.sent = self.line.sent, []
        return sent

    async def _caught(self, call: Any) -> None:
        try:
            await call
        except (library.ExchangeNotAvailable, library.NotSupported):
            return
        raise AssertionError("the class has an answer to a request that was caught")


def unlimited() -> Toll:
    """What is paid where nothing is limited."""
    return Toll(Gate(Ledger(), "wire"), Tariff("wire", ()), None)


@asynccontextmanager
async def driven(
    exchange: str,
    market_type: MarketType,
    answers: Mapping[str, Any],
    *,
    sandbox: bool = False,
    wanted: Wanted = PLAIN,
) -> AsyncIterator[Driven]:
    """A class ready to be driven."""
    profile, line = profile_of(exchange, market_type), CapturedLine(answers)
    surroundings = Surroundings(
        _TRANSPORT,
        line,  # type: ignore[arg-type]  # it does what a Line does, and sends nothing
        lambda: START + timedelta(seconds=1),
    )
    credentials = {**CREDENTIALS, **_OWN_KEYS.get(exchange, {})}
    opened = exchange_of(exchange, profile, surroundings, unlimited(), credentials, sandbox=sandbox)
    public = CapturedLine()
    market = _public(exchange, market_type, profile, public)
    money = money_of(exchange)
    symbol = f"BTC/{money}:{money}" if market_type is MarketType.SWAP else f"BTC/{money}"
    listed = (await market.listings())[symbol]
    await market.lend(opened)
    public.sent.clear()
    traits = Traits(
        netting=market_type is MarketType.SWAP,
        native_protection=False,
        fee_rate=Decimal("0.001"),
        slippage=Decimal("0.002"),
        validity=timedelta(seconds=5),
        settle=profile.settle,
    )
    terms = Terms(exchange, market_type, wanted, "digest")
    broker = CryptoBroker(terms, profile, traits, opened, market, surroundings)
    try:
        yield Driven(opened, profile, line, public, listed, broker)
    finally:
        await opened.close()
        await market.close()


def _public(exchange: str, market_type: MarketType, profile: Profile, line: CapturedLine) -> PublicMarket:
    """The public side of a class whose market table is ours."""
    surroundings = Surroundings(
        _TRANSPORT,
        line,  # type: ignore[arg-type]  # as below
        lambda: START + timedelta(seconds=1),
    )
    keyless = exchange_of(exchange, profile, surroundings, unlimited(), sandbox=False)

    async def fetch_markets(params: object) -> list[dict[str, Any]]:
        del params
        return [market_of(keyless, market_type, base) for base in ("BTC", "ETH")]

    keyless.fetch_markets = fetch_markets
    # Currencies come with the markets, and the venue has our time.
    keyless.has = {**keyless.has, "fetchCurrencies": None, "fetchTime": None}
    for made_on_the_way in keyless.options.get("marketHelperProps", ()):
        keyless.options.setdefault(made_on_the_way, None)
    return PublicMarket("synthetic", keyless, surroundings, profile.quoted_by)
