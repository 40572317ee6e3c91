"""Our client order id reaches the venue: each class is driven as the broker drives it, and its request is caught."""

from typing import Any
from uuid import uuid4

import ccxt.async_support as library
import pytest

from app.brokers.crypto.markets import listings_of
from app.brokers.crypto.profiles import profile_of, shaped
from app.brokers.crypto.requests import creation
from app.domain.market import MarketType
from app.domain.orders import OrderRequest, OrderType, Side, client_order_id
from tests.desks import START

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP

BOTH = (
    "binance bingx bitget bitstamp btse bybit cryptocom deepcoin deribit mexc myokx okx onetrading phemex "
    "poloniex woo"
)
SPOT_ONLY = "binanceus coinmate gate kraken lbank okxus upbit"
SWAP_ONLY = "binanceusdm htx krakenfutures"

CASES = [
    *((exchange, kind) for exchange in BOTH.split() for kind in (SPOT, SWAP)),
    *((exchange, SPOT) for exchange in SPOT_ONLY.split()),
    *((exchange, SWAP) for exchange in SWAP_ONLY.split()),
]

CREDENTIALS = {
    "apiKey": "k" * 32,
    "secret": "MDEyMzQ1Njc4OWFiY2RlZg==",
    "password": "p",
    "uid": "1",
}


class Caught(Exception):
    """A request was about to leave."""


def _market(exchange: Any, market_type: MarketType) -> dict[str, Any]:
    """A symbol with plain rules, as the class itself would describe it."""
    is_swap = market_type is SWAP
    market: dict[str, Any] = exchange.safe_market_structure(
        {
            "id": "BTCUSDT",
            "symbol": "BTC/USDT:USDT" if is_swap else "BTC/USDT",
            "base": "BTC",
            "quote": "USDT",
            "settle": "USDT" if is_swap else None,
            "baseId": "BTC",
            "quoteId": "USDT",
            "settleId": "USDT",
            "type": market_type.value,
            "spot": not is_swap,
            "swap": is_swap,
            "contract": is_swap,
            "linear": is_swap or None,
            "inverse": False if is_swap else None,
            "contractSize": "1" if is_swap else None,
            "active": True,
            "precision": {"amount": "0.001", "price": "0.1"},
            "limits": {"amount": {"min": "0.001"}},
            "info": {"orderTypes": ["LIMIT", "MARKET"], "symbol": "BTCUSDT"},
        }
    )
    return market


@pytest.mark.parametrize(("exchange", "market_type"), CASES)
async def test_an_order_carries_our_id_in_one_request(exchange: str, market_type: MarketType) -> None:
    profile = profile_of(exchange, market_type)
    driven = getattr(library, exchange)(
        {
            "number": str,
            "enableRateLimit": False,
            "options": {**profile.options, **profile.alone},
            **CREDENTIALS,
        }
    )
    market = _market(driven, market_type)
    driven.set_markets([market])
    # What classes ask about an account before its first order is answered already.
    driven.options |= {"enableUnifiedMargin": False, "enableUnifiedAccount": True}
    listed = listings_of(driven.markets, driven.precisionMode)[market["symbol"]]
    requests: list[str] = []

    async def catch(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        del headers
        requests.append(f"{method} {url} {body}")
        raise Caught

    driven.fetch = catch
    name = shaped(client_order_id(uuid4(), 1), profile.client_id.shape)
    request = OrderRequest(
        client_order_id=name,
        symbol=market["symbol"],
        side=Side.BUY,
        type=OrderType.LIMIT,
        quantity=listed.instrument.quantity_step * 10,
        signed_at=START,
        price=listed.instrument.price_tick * 200_000,
    )
    order = creation(request, listed, profile, is_hedged=False)
    with pytest.raises(Caught):
        await driven.create_order(
            order.symbol, order.type, order.side, order.amount, order.price, order.params
        )
    await driven.close()
    # Some classes ask for the account's mode first; the order itself is one request, and the last.
    assert [name in each for each in requests].count(True) == 1
    sent = requests[-1]
    assert name in sent
    assert "None" not in sent.partition(" ")[2].rpartition(" ")[0]
