"""Phemex, whose spot counts in hundred-millionths."""

from typing import Any

from tests.wire.story import ASK, BID, NOW, OTHER_ASK, OTHER_BID, Answers, Shown, Story, Venue

SCALE = 100_000_000
_NANO = NOW * 1_000_000


def _ok(data: Any) -> Any:
    return {"code": 0, "msg": "", "data": data}


def _spot_book(name: str, bid: str, ask: str) -> Any:
    book = {"asks": [[int(ask) * SCALE, SCALE]], "bids": [[int(bid) * SCALE, SCALE]]}
    return {"error": None, "id": 0, "result": {"book": book, "depth": 30, "symbol": name, "timestamp": _NANO}}


def _spot_account(story: Story) -> Answers:
    del story
    return {
        "GET /spot/wallets": _ok(
            [
                {"currency": name, "balanceEv": total, "lockedTradingBalanceEv": used, "lockedWithdrawEv": 0}
                for name, total, used in (("USDT", 1000 * SCALE, 100 * SCALE), ("BTC", SCALE // 2, 0))
            ]
        ),
    }


def _scaled(text: str) -> int:
    return round(float(text) * SCALE)


def _spot_row(shown: Shown) -> Any:
    return {
        "orderID": shown.id,
        "clOrdID": shown.ours,
        "symbol": "BTCUSDT",
        "side": shown.side.capitalize(),
        "ordType": shown.type.capitalize(),
        "ordStatus": shown.pick("New", "Filled", "Canceled"),
        "priceEp": 0 if shown.type == "market" else _scaled(ASK),
        "baseQtyEv": _scaled(shown.size),
        "cumBaseQtyEv": _scaled(shown.filled),
        "leavesBaseQtyEv": _scaled(shown.left),
        "cumQuoteQtyEv": _scaled(shown.cost),
        "cumQuoteValueEv": _scaled(shown.cost),
        "avgPriceEp": _scaled(shown.average),
        "cumFeeEv": _scaled(shown.fee),
        "feeCurrency": "USDT",
        "timeInForce": "GoodTillCancel",
        "createTimeNs": _NANO,
        "actionTimeNs": _NANO,
    }


def _spot_orders(shown: Shown) -> Answers:
    row = _spot_row(shown)
    return {
        "GET /api-data/spots/orders/by-order-id": _ok([row]),
        "GET /api-data/spots/orders": _ok({"rows": [row]}),
        "GET /spot/orders": _ok({"rows": [row] if shown.state == "open" else []}),
    }


SPOT = Venue(
    quotes={
        "GET /v1/md/fullbook#BTCUSDT": _spot_book("BTCUSDT", BID, ASK),
        "GET /v1/md/fullbook#ETHUSDT": _spot_book("ETHUSDT", OTHER_BID, OTHER_ASK),
    },
    account=_spot_account,
    create="POST /spot/orders",
    created=lambda shown: _ok(_spot_row(shown)),
    orders=_spot_orders,
    cancel="DELETE /spot/orders",
)


def _swap_book(name: str, bid: str, ask: str) -> Any:
    book = {"asks": [[ask, "1"]], "bids": [[bid, "1"]]}
    return {
        "error": None,
        "id": 0,
        "result": {"orderbook_p": book, "depth": 30, "symbol": name, "timestamp": _NANO},
    }


def _swap_account(story: Story) -> Answers:
    position = {
        "accountID": 44,
        "symbol": "BTCUSDT",
        "currency": "USDT",
        "side": "Buy" if story.held > 0 else "Sell" if story.held < 0 else "None",
        "positionStatus": "Normal",
        "crossMargin": False,
        "leverageRr": "5",
        "size": str(abs(story.held)),
        "valueRv": "7400",
        "avgEntryPriceRp": ASK,
        "markPriceRp": ASK,
        "positionMarginRv": "1480",
        "assignedPosBalanceRv": "1480",
        "maintMarginReqRr": "0.005",
        "posSide": "Merged",
        "posMode": "Hedged" if story.is_hedged else "OneWay",
        "openedTimeNs": NOW,
    }
    account = {"accountId": 44, "currency": "USDT", "accountBalanceRv": "1000", "totalUsedBalanceRv": "100"}
    return {
        "GET /g-accounts/accountPositions": _ok({"account": account, "positions": [position]}),
        "PUT /g-positions/leverage": _ok("OK"),
    }


def _swap_row(shown: Shown) -> Any:
    return {
        "orderID": shown.id,
        "clOrdID": shown.ours,
        "symbol": "BTCUSDT",
        "side": shown.side.capitalize(),
        "orderType": shown.type.capitalize(),
        "ordStatus": shown.pick("New", "Filled", "Canceled"),
        "priceRp": ASK,
        "orderQtyRq": shown.size,
        "cumQtyRq": shown.filled,
        "leavesQtyRq": shown.left,
        "cumValueRv": shown.cost,
        "closedPnlRv": "0",
        "reduceOnly": False,
        "timeInForce": "GoodTillCancel",
        "actionTimeNs": _NANO,
        "transactTimeNs": _NANO,
    }


def _swap_orders(shown: Shown) -> Answers:
    row = _swap_row(shown)
    trade = {
        "createdAt": NOW,
        "symbol": "BTCUSDT",
        "currency": "USDT",
        "action": 1,
        "tradeType": 1,
        "execQtyRq": shown.size,
        "execPriceRp": ASK,
        "side": 1 if shown.side == "buy" else 2,
        "orderQtyRq": shown.size,
        "priceRp": ASK,
        "execValueRv": "7400",
        "feeRateRr": "0.001",
        "execFeeRv": shown.fee,
        "ordType": 1,
        "execId": "e1",
        "execStatus": 7,
        "orderID": shown.id,
        "clOrdID": shown.ours,
    }
    return {
        "GET /api-data/g-futures/orders/by-order-id": _ok([row]),
        "GET /g-orders/activeList": _ok({"rows": [row] if shown.state == "open" else []}),
        "GET /exchange/order/v2/orderList": _ok({"rows": [row]}),
        "GET /exchange/order/v2/tradingList": _ok([trade] if shown.state == "filled" else []),
    }


SWAP = Venue(
    quotes={
        "GET /md/v2/orderbook#BTCUSDT": _swap_book("BTCUSDT", BID, ASK),
        "GET /md/v2/orderbook#ETHUSDT": _swap_book("ETHUSDT", OTHER_BID, OTHER_ASK),
    },
    account=_swap_account,
    create="POST /g-orders",
    created=lambda shown: _ok(_swap_row(shown)),
    orders=_swap_orders,
    cancel="DELETE /g-orders/cancel",
    none={"GET /g-orders/activeList": _ok({"rows": []})},
)
