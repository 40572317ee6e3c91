"""Stops: how compatible venues hold them, as data, and why the others leave them to our monitor.

A venue holds stops here only where the whole way of one is proven on its wire: placing it, finding it by our id, taking
it back, and reading what it became. A stop that would be lost, or stand twice, is worse than none.
"""

from collections.abc import Mapping
from typing import Any, Final

from app.brokers.crypto.ways import ClientId, Follow, LookUp, Shape, Trigger
from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.domain.orders import OrderType, TriggerSource

_SPOT, _SWAP = MarketType.SPOT, MarketType.SWAP


def _refused(*codes: int | str) -> dict[str, str]:
    return {str(code): "rejected_by_venue" for code in codes}


_OKX: Final = {
    "style": NativeStyle.STOP_ONLY,
    "refusals": _refused(51023, 51112, 51169, 51250, 51252, 51275, 51277, 51278, 51279, 51280),
    "triggers": {
        TriggerSource.MARK: Trigger({"slTriggerPxType": "mark"}, "fetch_mark_prices", "markPrice"),
        TriggerSource.LAST: Trigger({"slTriggerPxType": "last"}, "fetch_tickers", "last"),
    },
    # Beside the id of conditional orders the class would send one of its own for other orders.
    "options": {"brokerId": None},
    "stop_id": ClientId("algoClOrdId", "clOrdId", told="algoClOrdId"),
    "rooms": {OrderType.STOP: {"trigger": True, "ordType": "conditional"}},
    "real_order": ("ordIdList", "ordId"),
}
_OKX_SPOT: Final = {
    "style": NativeStyle.STOP_ONLY,
    "refusals": _OKX["refusals"],
    "options": _OKX["options"],
    # The class would borrow for it.
    "stop_params": {"tdMode": "cash"},
    "stop_id": _OKX["stop_id"],
    "rooms": _OKX["rooms"],
    "real_order": _OKX["real_order"],
}
_GATE: Final = {
    "style": NativeStyle.STOP_ONLY,
    "refusals": _refused("AUTO_TRIGGER_PRICE_LESS_LAST", "AUTO_TRIGGER_PRICE_GREATE_LAST", "POSITION_EMPTY"),
    "triggers": {
        TriggerSource.MARK: Trigger({"price_type": "1"}, "fetch_tickers", "markPrice"),
        TriggerSource.LAST: Trigger({"price_type": "0"}, "fetch_tickers", "last"),
        TriggerSource.INDEX: Trigger({"price_type": "2"}, "fetch_tickers", "indexPrice"),
    },
    "stop_id": ClientId("clientOrderId", "text", Shape.HEX28, prefix="t-", is_prefixed_here=True),
    "rooms": {OrderType.STOP: {"trigger": True}},
    "real_order": ("trade_id",),
}
_KUCOIN: Final = {
    # A stop stays the same order when it fires; untriggered ones are listed apart.
    "style": NativeStyle.STOP_ONLY,
    "refusals": _refused(300000, 300009, 300011, 300012),
    "triggers": {TriggerSource.LAST: Trigger({"stopPriceType": "TP"}, "fetch_tickers", "last")},
    "stop_lists": {"trigger": True},
    "cancels_stops_by_id": True,
    "unified": ("is_uta_enabled",),
}
_BITGET: Final = {
    "style": NativeStyle.STOP_ONLY,
    "refusals": _refused(22002, 40833, 40834, 40835, 40836, 40837, 40917, 45122),
    # The position is not there yet: a moment after the fill it is.
    "not_executed": frozenset({"43023"}),
    "triggers": {
        TriggerSource.MARK: Trigger({"triggerType": "mark_price"}, "fetch_tickers", "markPrice"),
        TriggerSource.LAST: Trigger({"triggerType": "fill_price"}, "fetch_tickers", "last"),
    },
    # The class would set the one stop of the whole position, whatever it is to sell.
    "stop_params": {"planType": "loss_plan"},
    "stop_look_up": LookUp.FILTERED,
    "rooms": {OrderType.STOP: {"trigger": True, "planType": "profit_loss"}},
    "cancels_stops_by_id": True,
    "real_order": ("executeOrderId",),
    "unified": ("handle_uta_and_params", "createOrder"),
}
_BITGET_SPOT: Final = {
    # It keeps no coins for a stop, and tells by a request of its own what it became.
    "style": NativeStyle.STOP_ONLY,
    "infers_direction": True,
    # What its class calls a stop loss it has for swaps only.
    "stop_price": "stopPrice",
    "stop_params": {"triggerType": "fill_price"},
    "stop_look_up": LookUp.SEARCHED,
    "rooms": {OrderType.STOP: {"trigger": True}},
    "stop_lists": {"limit": 100},
    "follow": Follow("v2/spot/trade/plan-sub-order", ("private", "spot"), "planOrderId", "orderId"),
    "unified": _BITGET["unified"],
}
_HYPERLIQUID: Final = {
    # A stop waits in the list of all orders, and stays the same one when it fires.
    "style": NativeStyle.STOP_ONLY,
    "refusing_words": ("Invalid TP/SL price", "Reduce only order would increase position"),
}

HELD: Final[Mapping[tuple[str, MarketType], Mapping[str, Any]]] = {
    # A stop waits in the list of all orders, and stays the same one when it fires. Where a symbol lists no such order,
    # its class refuses.
    ("binanceus", _SPOT): {"style": NativeStyle.STOP_ONLY},
    ("bitget", _SPOT): _BITGET_SPOT,
    ("bitget", _SWAP): _BITGET,
    # Their protocol is Bybit's own, and their classes are that of Bybit under other addresses.
    **{(each, _SPOT): {"style": NativeStyle.STOP_ONLY} for each in ("bybiteu", "bybitid")},
    ("bybitid", _SWAP): {"style": NativeStyle.STOP_AND_TARGETS},
    ("gate", _SWAP): _GATE,
    ("hyperliquid", _SWAP): _HYPERLIQUID,
    # A stop waits in the list of all orders, and stays the same one when it fires. Its deadline is for the request to
    # arrive by: that venue has one for every order, and stops wait for weeks.
    ("kraken", _SPOT): {"style": NativeStyle.STOP_ONLY},
    ("kucoin", _SWAP): _KUCOIN,
    ("kucoinfutures", _SWAP): _KUCOIN,
    # Its class is that of OKX under another address, too.
    **{(each, _SWAP): _OKX for each in ("myokx", "okx")},
    **{(each, _SPOT): _OKX_SPOT for each in ("myokx", "okx", "okxus")},
}
"""What it changes of a profile that the venue is to hold stops."""

_AT_ONCE: Final = "Told of a stop loss, its class would sell at once there."
_IDS_ASIDE: Final = "Its class puts our id beside the trigger, not into the order that it becomes."
_LOGGED: Final = "What became of a stop is told by a log of its own, which its class does not read."

SOFTWARE_ONLY: Final[Mapping[tuple[str, MarketType], str]] = {
    (
        "bingx",
        _SPOT,
    ): "It answers for our id for two hours only, and does not say what a stop becomes that fires.",
    ("bingx", _SWAP): "A stop that fired is gone there, and the order in its place has no id of ours.",
    ("coinbase", _SPOT): "Its stops sell at a limit, which the price may leave behind.",
    (
        "cryptocom",
        _SPOT,
    ): "Its class places stops by a request from before the venue gave them one of their own.",
    **{("deribit", kind): _LOGGED for kind in (_SPOT, _SWAP)},
    **{(each, _SPOT): _IDS_ASIDE for each in ("gate", "gateeu")},
    ("htx", _SPOT): _AT_ONCE,
    ("krakenfutures", _SWAP): "It tells for five seconds what became of a stop, and then only that it fired.",
    ("kucoin", _SPOT): "Its class reads a stop that fired as one that was cancelled.",
    ("mexc", _SWAP): f"{_AT_ONCE} The venue's own conditional orders take no id of ours.",
    **{("phemex", kind): _AT_ONCE for kind in (_SPOT, _SWAP)},
}
"""Why our monitor watches the stops of a market whose class could place them."""
