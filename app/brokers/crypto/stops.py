"""Stops and targets: how compatible venues hold them, and why of others our monitor watches them.

A venue holds them here only where the whole way of one is proven on its wire: placing it, finding it by our id, taking
it back, and reading what it became. A stop that would be lost, or stand twice, is worse than none.

Targets that wait beside a stop are conditional orders like it: what rests in no book reserves nothing that the stop is
to sell. When one has been taken the stop is for more than is left until it is replaced, so none may stand where such
a stop would be refused whole.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from app.brokers.crypto.ways import ClientId, Conditional, LookUp, Profile, Shape, Trigger
from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.domain.orders import OrderType, TriggerSource

_SPOT, _SWAP = MarketType.SPOT, MarketType.SWAP

_BOTH: Final = frozenset({OrderType.STOP, OrderType.TAKE_PROFIT})


def _refused(*codes: int | str) -> dict[str, str]:
    return {str(code): "rejected_by_venue" for code in codes}


def _stops(profile: Profile) -> Profile:
    """They travel like any other order."""
    return replace(profile, style=NativeStyle.STOP_ONLY)


def _stops_and_limits(profile: Profile) -> Profile:
    """The same beside targets that are limit orders."""
    return replace(profile, style=NativeStyle.STOP_AND_TARGETS)


_OKX_REFUSALS: Final = _refused(
    *(51023, 51112, 51169, 51250, 51252, 51261, 51275, 51277, 51278, 51279, 51280, 51299),
    *(51300, 51302, 51303, 51304),
)
_OKX: Final = Conditional(
    client_id=ClientId("algoClOrdId", "clOrdId", told="algoClOrdId"),
    room={"trigger": True, "ordType": "conditional"},
    real_order=("ordIdList", "ordId"),
)


def _okx_spot(profile: Profile) -> Profile:
    return replace(
        _stops(profile),
        refusals=_OKX_REFUSALS,
        # Beside the id of conditional orders the class would send one of its own for other orders.
        options={**profile.options, "brokerId": None},
        # The class would borrow for it.
        conditional=replace(_OKX, params={OrderType.STOP: {"tdMode": "cash"}}),
    )


def _okx_swap(profile: Profile) -> Profile:
    """What is to close more than is left closes what is left, in accounts of either position mode."""
    return replace(
        profile,
        style=NativeStyle.STOP_AND_TARGETS,
        refusals=_OKX_REFUSALS,
        triggers={
            TriggerSource.MARK: _okx_trigger("mark", "fetch_mark_prices", "markPrice"),
            TriggerSource.LAST: _okx_trigger("last", "fetch_tickers", "last"),
        },
        options={**profile.options, "brokerId": None},
        conditional=replace(_OKX, types=_BOTH),
    )


def _okx_trigger(name: str, method: str, field: str) -> Trigger:
    return Trigger({"slTriggerPxType": name}, method, field, {"tpTriggerPxType": name})


def _gate(profile: Profile) -> Profile:
    return replace(
        _stops(profile),
        refusals=_refused("AUTO_TRIGGER_PRICE_LESS_LAST", "AUTO_TRIGGER_PRICE_GREATE_LAST", "POSITION_EMPTY"),
        triggers={
            TriggerSource.MARK: Trigger({"price_type": "1"}, "fetch_tickers", "markPrice"),
            TriggerSource.LAST: Trigger({"price_type": "0"}, "fetch_tickers", "last"),
            TriggerSource.INDEX: Trigger({"price_type": "2"}, "fetch_tickers", "indexPrice"),
        },
        conditional=Conditional(
            client_id=ClientId("clientOrderId", "text", Shape.HEX28, prefix="t-", is_prefixed_here=True),
            room={"trigger": True},
            real_order=("trade_id",),
        ),
    )


def _kucoin(profile: Profile) -> Profile:
    """What goes beyond the position is cancelled there of an order that only reduces."""
    return replace(
        profile,
        style=NativeStyle.STOP_AND_TARGETS,
        refusals=_refused(300000, 300009, 300011, 300012),
        triggers={TriggerSource.LAST: Trigger({"stopPriceType": "TP"}, "fetch_tickers", "last")},
        # They stay the same orders when they fire; untriggered ones are listed apart.
        conditional=Conditional(types=_BOTH, lists={"trigger": True}, cancels_by_id=True),
        unified=("is_uta_enabled",),
    )


def _bitget(profile: Profile) -> Profile:
    return replace(
        _stops(profile),
        refusals=_refused(22002, 40833, 40834, 40835, 40836, 40837, 40917, 45122),
        # The position is not there yet: a moment after the fill it is.
        not_executed=frozenset({"43023"}),
        triggers={
            TriggerSource.MARK: Trigger({"triggerType": "mark_price"}, "fetch_tickers", "markPrice"),
            TriggerSource.LAST: Trigger({"triggerType": "fill_price"}, "fetch_tickers", "last"),
        },
        conditional=Conditional(
            look_up=LookUp.FILTERED,
            # The class would set the one stop of the whole position, whatever it is to sell.
            params={OrderType.STOP: {"planType": "loss_plan"}},
            room={"trigger": True, "planType": "profit_loss"},
            cancels_by_id=True,
            real_order=("executeOrderId",),
        ),
        unified=("handle_uta_and_params", "createOrder"),
    )


def _hyperliquid(profile: Profile) -> Profile:
    """A stop waits in the list of all orders, and stays the same one when it fires."""
    words = ("Invalid TP/SL price", "Reduce only order would increase position")
    return replace(_stops(profile), refusing_words=words)


HELD: Final[Mapping[tuple[str, MarketType], Callable[[Profile], Profile]]] = {
    ("bitget", _SWAP): _bitget,
    # Their protocol is Bybit's own, and their classes are that of Bybit under other addresses.
    **{(each, _SPOT): _stops for each in ("bybiteu", "bybitid")},
    ("bybitid", _SWAP): _stops_and_limits,
    ("gate", _SWAP): _gate,
    ("hyperliquid", _SWAP): _hyperliquid,
    # A stop waits in the list of all orders, and stays the same one when it fires. Its deadline is for the request to
    # arrive by: that venue has one for every order, and stops wait for weeks.
    ("kraken", _SPOT): _stops,
    **{(each, _SWAP): _kucoin for each in ("kucoin", "kucoinfutures")},
    # The class of the other is that of OKX under another address.
    **{(each, _SWAP): _okx_swap for each in ("myokx", "okx")},
    **{(each, _SPOT): _okx_spot for each in ("myokx", "okx", "okxus")},
}
"""What it changes of a profile that the venue is to hold stops, and targets where it can."""

_HELD_TWICE: Final = (
    "A target there would hold coins that the stop is to sell, or outlive it and sell the owner's."
)
_FOR_MORE: Final = "a stop might sell nothing between a target and its own replacement."

STOP_ONLY: Final[Mapping[tuple[str, MarketType], str]] = {
    **{(exchange, kind): _HELD_TWICE for exchange, kind in HELD if kind is _SPOT},
    (
        "bitget",
        _SWAP,
    ): f"It refuses an order that would close more than is left, and excepts no stop: {_FOR_MORE}",
    (
        "gate",
        _SWAP,
    ): f"It cancels an order that would turn a position, and does not say that the rest is closed: {_FOR_MORE}",
    ("hyperliquid", _SWAP): f"It refuses an order that would close more than is left: {_FOR_MORE}",
}
"""Why our monitor watches the targets of a market whose stops the venue holds."""

_AT_ONCE: Final = "Told of a stop loss, its class would sell at once there."
_IDS_ASIDE: Final = "Its class puts our id beside the trigger, not into the order that it becomes."
_LOGGED: Final = "What became of a stop is told by a log of its own, which its class does not read."

SOFTWARE_ONLY: Final[Mapping[tuple[str, MarketType], str]] = {
    (
        "binanceus",
        _SPOT,
    ): "Its markets list no stop but one that sells at a limit, which the price may leave behind.",
    (
        "bingx",
        _SPOT,
    ): "It answers for our id for two hours only, and does not say what a stop becomes that fires.",
    ("bingx", _SWAP): "A stop that fired is gone there, and the order in its place has no id of ours.",
    (
        "bitget",
        _SPOT,
    ): "It keeps no coins for a stop, and what it says of one that fired and failed nobody has seen on its wire.",
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
