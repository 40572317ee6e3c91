"""Hyperliquid, which answers all questions at one address."""

from typing import Any

from tests.wire.story import (
    ASK,
    BID,
    NOW,
    OTHER_ASK,
    OTHER_BID,
    TRIGGER,
    Answers,
    Shown,
    Stops,
    Story,
    Venue,
)


def _book(coin: str, bid: str, ask: str) -> Any:
    levels = [[{"px": bid, "sz": "1", "n": 1}], [{"px": ask, "sz": "1", "n": 1}]]
    return {"coin": coin, "time": NOW, "levels": levels}


def _account(story: Story) -> Answers:
    position = {
        "type": "oneWay",
        "position": {
            "coin": "BTC",
            "szi": str(story.held),
            "entryPx": ASK,
            "leverage": {"type": "isolated", "value": 5, "rawUsd": "0"},
            "positionValue": "7400",
            "unrealizedPnl": "0",
            "marginUsed": "1480",
            "liquidationPx": None,
        },
    }
    margin = {"accountValue": "1000", "totalMarginUsed": "100", "totalNtlPos": "0", "totalRawUsd": "1000"}
    return {
        "POST /info#userAbstraction": "default",
        "POST /info#clearinghouseState": {
            "marginSummary": margin,
            "crossMarginSummary": margin,
            "withdrawable": "900",
            "assetPositions": [position] if story.held else [],
            "time": NOW,
        },
        "POST /exchange#updateLeverage": {"status": "ok", "response": {"type": "default"}},
    }


def _taken(status: Any) -> Any:
    return {"status": "ok", "response": {"type": "order", "data": {"statuses": [status]}}}


def _created(shown: Shown) -> Any:
    if shown.state == "open":
        return _taken({"resting": {"oid": int(shown.id), "cloid": shown.ours}})
    return _taken(
        {"filled": {"totalSz": shown.size, "avgPx": ASK, "oid": int(shown.id), "cloid": shown.ours}}
    )


def _orders(shown: Shown) -> Answers:
    order = {
        "coin": "BTC",
        "side": "B" if shown.side == "buy" else "A",
        "limitPx": ASK,
        "sz": shown.left,
        "oid": int(shown.id),
        "timestamp": NOW,
        "origSz": shown.size,
        "isTrigger": False,
        "triggerPx": "0.0",
        "reduceOnly": False,
        "orderType": shown.type.capitalize(),
        "tif": "Gtc",
        "cloid": shown.ours,
    }
    status = shown.pick("open", "filled", "canceled")
    fill = {
        "coin": "BTC",
        "px": ASK,
        "sz": shown.size,
        "side": order["side"],
        "time": NOW,
        "oid": int(shown.id),
        "crossed": True,
        "fee": shown.fee,
        "feeToken": "USDC",
        "tid": 1,
    }
    return {
        "POST /info#orderStatus": {
            "status": "order",
            "order": {"order": order, "status": status, "statusTimestamp": NOW},
        },
        "POST /info#frontendOpenOrders": [order] if shown.state == "open" else [],
        "POST /info#historicalOrders": [{"order": order, "status": status, "statusTimestamp": NOW}],
        "POST /info#userFills": [fill] if shown.state == "filled" else [],
    }


def _stop_orders(shown: Shown) -> Answers:
    """A stop rests among all other orders, and stays the same one when it fires."""
    answers = {**_orders(shown)}
    order = answers["POST /info#orderStatus"]["order"]["order"]
    order |= {
        "isTrigger": True,
        "triggerPx": TRIGGER,
        "triggerCondition": f"Price below {TRIGGER}",
        "isPositionTpsl": False,
        "reduceOnly": True,
        "orderType": "Stop Market",
        "tif": None,
    }
    return answers


SWAP = Venue(
    quotes={
        'POST /info#"BTC"': _book("BTC", BID, ASK),
        'POST /info#"ETH"': _book("ETH", OTHER_BID, OTHER_ASK),
    },
    account=_account,
    create="POST /exchange",
    created=_created,
    orders=_orders,
    cancel='POST /exchange#"cancel"',
    cancelled=lambda _: _taken("success"),
    none={"POST /info#frontendOpenOrders": []},
    stops=Stops(
        create="POST /exchange",
        name="c",
        created=_created,
        orders=_stop_orders,
        cancel='POST /exchange#"cancel"',
        cancelled=lambda _: _taken("success"),
        gone=_taken({"error": "Order was never placed, already canceled, or filled. asset=0"}),
        refused=_taken({"error": "Invalid TP/SL price. asset=0"}),
        none={
            "POST /info#orderStatus": {"status": "unknownOid"},
            "POST /info#frontendOpenOrders": [],
            "POST /info#historicalOrders": [],
            "POST /info#userFills": [],
        },
    ),
)
