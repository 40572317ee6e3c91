"""Binance US."""

from typing import Any

from tests.wire.story import ASK, BID, NOW, OTHER_ASK, OTHER_BID, Answers, Shown, Story, Venue


def _ticker(name: str, bid: str, ask: str) -> dict[str, str]:
    return {"symbol": name, "bidPrice": bid, "bidQty": "1", "askPrice": ask, "askQty": "1"}


def _account(story: Story) -> Answers:
    del story
    return {
        "GET /api/v3/account": {
            "canTrade": True,
            "uid": 44,
            "updateTime": NOW,
            "balances": [
                {"asset": "USDT", "free": "900", "locked": "100"},
                {"asset": "BTC", "free": "0.5", "locked": "0"},
            ],
        },
        "GET /sapi/v1/account/apiRestrictions": {
            "ipRestrict": True,
            "enableWithdrawals": False,
            "enableSpotAndMarginTrading": True,
        },
    }


def _row(shown: Shown) -> Any:
    return {
        "symbol": "BTCUSDT",
        "orderId": int(shown.id),
        "orderListId": -1,
        "clientOrderId": shown.ours,
        "price": "0" if shown.type == "market" else ASK,
        "origQty": shown.size,
        "executedQty": shown.filled,
        "cummulativeQuoteQty": shown.cost,
        "status": shown.pick("NEW", "FILLED", "CANCELED"),
        "timeInForce": "GTC",
        "type": shown.type.upper(),
        "side": shown.side.upper(),
        "time": NOW,
        "updateTime": NOW,
        "transactTime": NOW,
    }


def _orders(shown: Shown) -> Answers:
    row = _row(shown)
    trade = {
        "symbol": "BTCUSDT",
        "id": 1,
        "orderId": int(shown.id),
        "price": ASK,
        "qty": shown.size,
        "quoteQty": "7400",
        "commission": shown.fee,
        "commissionAsset": "USDT",
        "time": NOW,
        "isBuyer": shown.side == "buy",
        "isMaker": False,
    }
    return {
        "GET /api/v3/order": row,
        "GET /api/v3/openOrders": [row] if shown.state == "open" else [],
        "GET /api/v3/myTrades": [trade] if shown.state == "filled" else [],
    }


US = Venue(
    quotes={
        "GET /api/v3/ticker/bookTicker#ETHUSDT": [
            _ticker("BTCUSDT", BID, ASK),
            _ticker("ETHUSDT", OTHER_BID, OTHER_ASK),
        ],
        "GET /api/v3/ticker/bookTicker": [_ticker("BTCUSDT", BID, ASK)],
    },
    account=_account,
    create="POST /api/v3/order",
    created=_row,
    orders=_orders,
    cancel="DELETE /api/v3/order",
)
