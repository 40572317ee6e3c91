"""Binance spot: `api.binance.com`, with order lists (OCO) and the key's own restrictions under sapi."""

import re
import secrets
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from app.domain.orders import Side
from tests.venues.accounts import FeeRates
from tests.venues.binance import (
    BinanceApi,
    Call,
    Route,
    filters_of,
    is_on,
    missing,
    refused,
    side_of,
    status_word,
)
from tests.venues.clock import Clock
from tests.venues.floor import Floor, Rejection, Why, quantity_for
from tests.venues.orders import Fill, Kind, Listing, Market, Order, Trigger
from tests.venues.wire import Intent, Params, Refusal, plain

HOSTS = frozenset(
    {
        "api.binance.com",
        "demo-api.binance.com",
        "testnet.binance.vision",
        "dapi.binance.com",
        "demo-dapi.binance.com",
    }
)
"""With the coin-margined API, which lists nothing here but is asked when all markets are loaded."""

FEES = FeeRates(maker=Decimal("0.001"), taker=Decimal("0.001"))

TYPES = (
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
)
LIMITED = ("LIMIT", "LIMIT_MAKER", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT")
TRIGGERED = ("STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")
TIMED = ("LIMIT", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT")

ORDER_PARAMS = frozenset(
    {
        "symbol",
        "side",
        "type",
        "timeInForce",
        "quantity",
        "quoteOrderQty",
        "price",
        "newClientOrderId",
        "strategyId",
        "strategyType",
        "stopPrice",
        "trailingDelta",
        "icebergQty",
        "newOrderRespType",
        "selfTradePreventionMode",
        "recvWindow",
        "timestamp",
        "signature",
    }
)

SAYINGS = {
    Why.NO_FUNDS: "Account has insufficient balance for requested action.",
    Why.WOULD_TRIGGER: "Stop price would trigger immediately.",
    Why.WOULD_TAKE: "Order would immediately match and take.",
    Why.NOTHING_TO_REDUCE: "Order was rejected.",
}


class BinanceSpot(BinanceApi):
    """The spot API."""

    def __init__(self, clock: Clock, listings: Sequence[Listing]) -> None:
        spot = [listing for listing in listings if listing.kind is Kind.SPOT]
        floor = Floor(clock, spot, {Kind.SPOT: FEES})
        super().__init__(clock, floor, Kind.SPOT, HOSTS, re.compile(r"[a-zA-Z0-9-_]{1,36}"))
        self.routes = {
            ("GET", "/api/v3/ping"): Route(Intent.PUBLIC, lambda _: {}, signed=False),
            ("GET", "/api/v3/time"): Route(Intent.PUBLIC, self.time, signed=False),
            ("GET", "/api/v3/exchangeInfo"): Route(Intent.PUBLIC, self.exchange_info, 20, signed=False),
            ("GET", "/dapi/v1/exchangeInfo"): Route(Intent.PUBLIC, lambda _: {"symbols": []}, signed=False),
            ("GET", "/api/v3/klines"): Route(Intent.PUBLIC, self.klines, 2, signed=False),
            ("GET", "/api/v3/depth"): Route(Intent.PUBLIC, self.depth, 5, signed=False),
            ("GET", "/api/v3/ticker/24hr"): Route(Intent.PUBLIC, self.day_tickers, 40, signed=False),
            ("GET", "/api/v3/ticker/bookTicker"): Route(Intent.PUBLIC, self.book_tickers, 4, signed=False),
            ("GET", "/api/v3/ticker/price"): Route(Intent.PUBLIC, self.prices, 4, signed=False),
            ("GET", "/api/v3/account"): Route(Intent.ACCOUNT, self.account, 20),
            ("POST", "/api/v3/order"): Route(Intent.PLACE, self.place),
            ("POST", "/api/v3/order/test"): Route(Intent.ACCOUNT, lambda _: {}),
            ("GET", "/api/v3/order"): Route(Intent.LOOK, self.query, 4),
            ("DELETE", "/api/v3/order"): Route(Intent.CANCEL, self.cancel),
            ("GET", "/api/v3/openOrders"): Route(Intent.LOOK, self.open_orders, 6),
            ("DELETE", "/api/v3/openOrders"): Route(Intent.CANCEL, self.cancel_all),
            ("GET", "/api/v3/allOrders"): Route(Intent.LOOK, self.all_orders, 20),
            ("GET", "/api/v3/myTrades"): Route(Intent.LOOK, self.my_trades, 20),
            ("POST", "/api/v3/orderList/oco"): Route(Intent.PLACE, self.place_oco),
            ("GET", "/api/v3/orderList"): Route(Intent.LOOK, self.query_list, 4),
            ("DELETE", "/api/v3/orderList"): Route(Intent.CANCEL, self.cancel_list),
            ("GET", "/api/v3/openOrderList"): Route(Intent.LOOK, self.open_lists, 6),
            ("GET", "/api/v3/allOrderList"): Route(Intent.LOOK, self.all_lists, 20),
            ("GET", "/sapi/v1/account/apiRestrictions"): Route(Intent.ACCOUNT, self.restrictions),
            ("GET", "/sapi/v1/capital/config/getall"): Route(Intent.ACCOUNT, self.coins, 10),
            ("GET", "/sapi/v1/margin/allPairs"): Route(Intent.ACCOUNT, lambda _: []),
            ("GET", "/sapi/v1/margin/isolated/allPairs"): Route(Intent.ACCOUNT, lambda _: []),
            ("GET", "/sapi/v1/asset/tradeFee"): Route(Intent.ACCOUNT, self.trade_fees),
        }

    def time(self, _: Call) -> dict[str, int]:
        """The venue's clock."""
        return {"serverTime": self.clock.milliseconds()}

    def exchange_info(self, _: Call) -> dict[str, Any]:
        """Every symbol with its filters."""
        return {
            "timezone": "UTC",
            "serverTime": self.clock.milliseconds(),
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
                {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
            ],
            "exchangeFilters": [],
            "symbols": [
                self.symbol_info(market) for market in self.floor.markets.values() if not market.gone
            ],
        }

    def symbol_info(self, market: Market) -> dict[str, Any]:
        """One symbol."""
        listing = market.listing
        notional = {
            "filterType": "NOTIONAL",
            "minNotional": plain(listing.min_notional),
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        }
        return {
            "symbol": market.id,
            "status": "BREAK" if market.closed else "TRADING",
            "baseAsset": listing.base,
            "baseAssetPrecision": 8,
            "quoteAsset": listing.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": list(TYPES),
            "icebergAllowed": True,
            "ocoAllowed": True,
            "quoteOrderQtyMarketAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [*filters_of(market), notional],
            "permissions": [],
            "permissionSets": [["SPOT"]],
        }

    def day_tickers(self, call: Call) -> Any:
        """The last day."""
        return self.tickers(call, lambda market: {**self.day_ticker(market), **self.book_ticker(market)})

    def book_tickers(self, call: Call) -> Any:
        """Best bid and ask."""
        return self.tickers(call, self.book_ticker)

    def prices(self, call: Call) -> Any:
        """The last price."""
        return self.tickers(call, lambda market: {"symbol": market.id, "price": plain(market.price, 8)})

    def account(self, call: Call) -> dict[str, Any]:
        """Balances and who it is."""
        account, fees = call.account, self.floor.fees[Kind.SPOT]
        balances = [
            {
                "asset": currency,
                "free": plain(account.free(currency), 8),
                "locked": plain(account.locked(currency), 8),
            }
            for currency, amount in account.balances.items()
            if amount or not call.params.flag("omitZeroBalances")
        ]
        return {
            "makerCommission": int(fees.maker * 10000),
            "takerCommission": int(fees.taker * 10000),
            "commissionRates": {
                "maker": plain(fees.maker, 8),
                "taker": plain(fees.taker, 8),
                "buyer": "0.00000000",
                "seller": "0.00000000",
            },
            "canTrade": True,
            "canWithdraw": True,
            "canDeposit": True,
            "updateTime": self.clock.milliseconds(),
            "accountType": "SPOT",
            "balances": balances,
            "permissions": ["SPOT"],
            "uid": account.uid,
        }

    def restrictions(self, call: Call) -> dict[str, Any]:
        """What the key may do."""
        account = call.account
        return {
            "ipRestrict": False,
            "createTime": 1_698_645_219_000,
            "enableReading": True,
            "enableWithdrawals": account.can_withdraw,
            "enableInternalTransfer": account.can_withdraw,
            "enableMargin": False,
            "enableFutures": account.can_trade,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": True,
            "enableSpotAndMarginTrading": account.can_trade,
            "enablePortfolioMarginTrading": False,
        }

    def coins(self, call: Call) -> list[dict[str, Any]]:
        """Every coin."""
        return [
            {"coin": currency, "name": currency, "trading": True, "isLegalMoney": False, "networkList": []}
            for currency in call.account.balances
        ]

    def trade_fees(self, call: Call) -> list[dict[str, Any]]:
        """The fees of one symbol, or of all."""
        fees = self.floor.fees[Kind.SPOT]
        markets = [self.market(call.params)] if "symbol" in call.params else self.floor.markets.values()
        return [
            {"symbol": m.id, "makerCommission": plain(fees.maker), "takerCommission": plain(fees.taker)}
            for m in markets
        ]

    def place(self, call: Call) -> dict[str, Any]:
        """Place one order."""
        params = call.params
        if unread := sorted(params.keys() - ORDER_PARAMS):
            read = len(params) - len(unread)
            raise refused(
                -1104,
                f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(params)}'.",
            )
        market = self.market(params)
        order = self.order_of(
            call, market, params.required("type"), self.new_client_id(call, "newClientOrderId")
        )
        self.accept(call, [order])
        default = "FULL" if order.words["type"] in ("MARKET", "LIMIT") else "ACK"
        return self.placed(order, params.get("newOrderRespType", default))

    def place_oco(self, call: Call) -> dict[str, Any]:
        """Place two orders that cancel each other, one above the price and one below."""
        params, market = call.params, self.market(call.params)
        list_id = self.new_client_id(call, "listClientOrderId")
        legs = [self.leg_of(call, market, name, list_id) for name in ("above", "below")]
        above, below = (leg.trigger.price if leg.trigger else leg.price for leg in legs)
        if above is None or below is None or not below < market.price < above:
            raise refused(-2010, "The relationship of the prices for the orders is not correct.")
        group = self.floor.new_group()
        for leg in legs:
            leg.group = group
        self.accept(call, legs)
        report = self.list_report(legs)
        return {
            **report,
            "orderReports": [self.placed(leg, params.get("newOrderRespType", "RESULT")) for leg in legs],
        }

    def query(self, call: Call) -> dict[str, Any]:
        """One order."""
        order = self.order_named(call)
        if order is None:
            raise refused(-2013, "Order does not exist.")
        return self.report(order)

    def cancel(self, call: Call) -> dict[str, Any]:
        """Take an order back; of a list, the whole list."""
        order = self.order_named(call)
        if order is None or not order.is_live:
            raise refused(-2011, "Unknown order sent.")
        siblings = self.list_of(call, order.group) if order.group is not None else []
        self.floor.cancel(call.account, order)
        if siblings:
            return {
                **self.list_report(siblings),
                "orderReports": [self.cancelled(call, leg) for leg in siblings],
            }
        return self.cancelled(call, order)

    def cancel_all(self, call: Call) -> list[dict[str, Any]]:
        """Take everything of a symbol back."""
        market = self.market(call.params)
        live = [o for o in call.account.live.values() if o.market is market and self.floor.is_visible(o)]
        if not live:
            raise refused(-2011, "Unknown order sent.")
        for order in live:
            self.floor.cancel(call.account, order)
        return [self.cancelled(call, order) for order in live]

    def open_orders(self, call: Call) -> list[dict[str, Any]]:
        """What is live."""
        return [self.report(order) for order in self.shown(call.account.live.values(), call.params)]

    def all_orders(self, call: Call) -> list[dict[str, Any]]:
        """What there ever was of a symbol."""
        self.within_a_day(call.params)
        return [self.report(order) for order in self.shown(call.account.orders.values(), call.params)]

    def my_trades(self, call: Call) -> list[dict[str, Any]]:
        """The fills of a symbol."""
        self.within_a_day(call.params)
        return [trade_report(fill) for fill in self.trades(call)]

    def query_list(self, call: Call) -> dict[str, Any]:
        """One order list, by its id or its client id."""
        return self.list_report(
            self.legs_named(call, "origClientOrderId", refused(-2018, "Order list does not exist."))
        )

    def cancel_list(self, call: Call) -> dict[str, Any]:
        """Take an order list back."""
        legs = self.legs_named(call, "listClientOrderId", refused(-2011, "Unknown order list sent."))
        if not any(leg.is_live for leg in legs):
            raise refused(-2011, "Unknown order list sent.")
        for leg in legs:
            if leg.is_live:
                self.floor.cancel(call.account, leg)
        return {**self.list_report(legs), "orderReports": [self.cancelled(call, leg) for leg in legs]}

    def open_lists(self, call: Call) -> list[dict[str, Any]]:
        """Order lists with anything live."""
        return [self.list_report(legs) for legs in self.lists(call) if any(leg.is_live for leg in legs)]

    def all_lists(self, call: Call) -> list[dict[str, Any]]:
        """Every order list."""
        return [self.list_report(legs) for legs in self.lists(call)]

    def within_a_day(self, params: Params) -> None:
        """Binance answers for at most a day at a time. Raises Refusal."""
        since, until = params.integer("startTime"), params.integer("endTime")
        if since is not None and until is not None and until - since > 86_400_000:
            raise refused(-1127, "More than 24 hours between startTime and endTime.")

    def new_client_id(self, call: Call, name: str) -> str:
        """A client order id that no open order has; that of a closed one may come again. Raises Refusal."""
        client_id = self.client_id(call.params, name)
        if any(order.is_live for order in call.account.known_as(client_id)):
            raise refused(-2010, "Duplicate order sent.")
        return client_id

    def leg_of(self, call: Call, market: Market, name: str, list_id: str) -> Order:
        """One leg of an OCO."""
        prefixed = {
            "side": call.params.required("side"),
            "quantity": call.params.required("quantity"),
            "price": call.params.get(f"{name}Price", ""),
            "stopPrice": call.params.get(f"{name}StopPrice", ""),
            "timeInForce": call.params.get(f"{name}TimeInForce", ""),
        }
        params = Params(prefixed, missing, lambda each: missing(f"{name}{each}"))
        client_id = self.new_client_id(call, f"{name}ClientOrderId")
        type = call.params.required(f"{name}Type")
        if type not in ("LIMIT_MAKER", *TRIGGERED):
            raise refused(-1116, "Invalid orderType.")
        order = self.order_of(Call(call.account, params, call.conditions), market, type, client_id)
        order.words["list"] = list_id
        return order

    def order_of(self, call: Call, market: Market, type: str, client_id: str) -> Order:
        """The order that was asked for, checked against the filters. Raises Refusal."""
        params, side = call.params, side_of(call.params)
        if type not in TYPES:
            raise refused(-1116, "Invalid orderType.")
        price = params.required_amount("price") if type in LIMITED else None
        stop = params.required_amount("stopPrice") if type in TRIGGERED else None
        time_in_force = params.required("timeInForce") if type in TIMED else "GTC"
        for name in ("price", "timeInForce"):
            if type == "MARKET" and name in params:
                raise refused(-1106, f"Parameter '{name}' sent when not required.")
        if time_in_force not in ("GTC", "IOC", "FOK"):
            raise refused(-1115, "Invalid timeInForce.")
        cost = params.positive("quoteOrderQty")
        if type == "MARKET" and cost is not None and params.positive("quantity") is None:
            quantity = quantity_for(market, side, cost)
        else:
            quantity = params.required_amount("quantity")
        check_filters(market, quantity, price, stop, is_market=price is None)
        trigger = None
        if stop is not None:
            rising = (side is Side.BUY) == type.startswith("STOP_LOSS")
            trigger = Trigger(stop, rising)
        return Order(
            market=market,
            client_id=client_id,
            side=side,
            quantity=quantity,
            price=price,
            trigger=trigger,
            stays=price is not None and time_in_force == "GTC",
            post_only=type == "LIMIT_MAKER",
            fill_or_kill=time_in_force == "FOK",
            fraction=call.conditions.fraction,
            visible=self.clock.milliseconds() + int(call.conditions.lag * 1000),
            words={"type": type, "timeInForce": time_in_force, "cost": plain(cost or Decimal(0), 8)},
        )

    def accept(self, call: Call, orders: Sequence[Order]) -> None:
        """Put orders on the floor together. Raises Refusal."""
        try:
            self.floor.place_all(call.account, orders)
        except Rejection as rejection:
            raise refused(-2010, SAYINGS[rejection.why]) from None

    def order_named(self, call: Call) -> Order | None:
        """The order a request names."""
        id, client_id = self.named(call.params, id_name="orderId", client_name="origClientOrderId")
        return self.found(call.account, self.market(call.params), id, client_id)

    def legs_named(self, call: Call, client_name: str, otherwise: Refusal) -> list[Order]:
        """The legs of the list a request names. Raises `otherwise` when there is none."""
        id, client_id = self.named(call.params, id_name="orderListId", client_name=client_name)
        for legs in reversed(self.lists(call)):
            if str(legs[0].group) == id or (id is None and legs[0].words["list"] == client_id):
                return legs
        raise otherwise

    def lists(self, call: Call) -> list[list[Order]]:
        """Every order list, oldest first."""
        lists: dict[int, list[Order]] = {}
        for order in call.account.orders.values():
            if order.group is not None and self.floor.is_visible(order):
                lists.setdefault(order.group, []).append(order)
        return list(lists.values())

    def list_of(self, call: Call, group: int) -> list[Order]:
        """The legs of one list."""
        return [order for order in call.account.orders.values() if order.group == group]

    def list_report(self, legs: Sequence[Order]) -> dict[str, Any]:
        """What is said of an order list."""
        live, first = any(leg.is_live for leg in legs), legs[0]
        return {
            "orderListId": first.group,
            "contingencyType": "OCO",
            "listStatusType": "EXEC_STARTED" if live else "ALL_DONE",
            "listOrderStatus": "EXECUTING" if live else "ALL_DONE",
            "listClientOrderId": first.words["list"],
            "transactionTime": max(leg.updated for leg in legs),
            "symbol": first.market.id,
            "isIsolated": False,
            "orders": [
                {"symbol": leg.market.id, "orderId": leg.number, "clientOrderId": leg.client_id}
                for leg in legs
            ],
        }

    def placed(self, order: Order, kind: str) -> dict[str, Any]:
        """What is said of an order when it is placed."""
        brief = {
            "symbol": order.market.id,
            "orderId": order.number,
            "orderListId": -1 if order.group is None else order.group,
            "clientOrderId": order.client_id,
            "transactTime": order.created,
        }
        if kind == "ACK":
            return brief
        result = {**brief, **totals(order), "workingTime": order.created}
        return (
            result if kind == "RESULT" else {**result, "fills": [placed_fill(fill) for fill in order.fills]}
        )

    def cancelled(self, call: Call, order: Order) -> dict[str, Any]:
        """What is said of an order when it is taken back: the id of the cancellation, and that of the order."""
        return {
            "symbol": order.market.id,
            "origClientOrderId": order.client_id,
            "orderId": order.number,
            "orderListId": -1 if order.group is None else order.group,
            "clientOrderId": call.params.get("newClientOrderId") or secrets.token_hex(11),
            "transactTime": order.updated,
            **totals(order),
        }

    def report(self, order: Order) -> dict[str, Any]:
        """What is said of an order when it is asked for."""
        return {
            "symbol": order.market.id,
            "orderId": order.number,
            "orderListId": -1 if order.group is None else order.group,
            "clientOrderId": order.client_id,
            **totals(order),
            "icebergQty": "0.00000000",
            "time": order.created,
            "updateTime": order.updated,
            "isWorking": order.trigger is None or bool(order.triggered),
            "workingTime": order.triggered or order.created,
        }


def check_filters(
    market: Market, quantity: Decimal, price: Decimal | None, stop: Decimal | None, *, is_market: bool
) -> None:
    """Hold an order against the symbol's filters. Raises Refusal."""
    listing = market.listing
    for each in (price, stop):
        if each is not None and (each < listing.tick or not is_on(each, listing.tick)):
            raise refused(-1013, "Filter failure: PRICE_FILTER")
    if not listing.min_quantity <= quantity <= listing.max_quantity or not is_on(quantity, listing.step):
        raise refused(-1013, "Filter failure: LOT_SIZE")
    if is_market and quantity > listing.max_market_quantity:
        raise refused(-1013, "Filter failure: MARKET_LOT_SIZE")
    if quantity * (price or stop or market.price) < listing.min_notional:
        raise refused(-1013, "Filter failure: NOTIONAL")


def totals(order: Order) -> dict[str, Any]:
    """What every report of an order has."""
    stop = {"stopPrice": plain(order.trigger.price, 8)} if order.trigger else {"stopPrice": "0.00000000"}
    return {
        "price": plain(order.price or Decimal(0), 8),
        "origQty": plain(order.quantity, 8),
        "executedQty": plain(order.filled, 8),
        "origQuoteOrderQty": order.words["cost"],
        "cummulativeQuoteQty": plain(order.value, 8),
        "status": status_word(order),
        "timeInForce": order.words["timeInForce"],
        "type": order.words["type"],
        "side": order.side.name,
        **stop,
        "selfTradePreventionMode": "NONE",
    }


def placed_fill(fill: Fill) -> dict[str, Any]:
    """A fill as the answer to a placement lists it."""
    return {
        "price": plain(fill.price, 8),
        "qty": plain(fill.quantity, 8),
        "commission": plain(fill.fee, 8),
        "commissionAsset": fill.fee_currency,
        "tradeId": fill.number,
    }


def trade_report(fill: Fill) -> dict[str, Any]:
    """A fill as myTrades lists it."""
    order = fill.order
    return {
        "symbol": order.market.id,
        "id": fill.number,
        "orderId": order.number,
        "orderListId": -1 if order.group is None else order.group,
        "price": plain(fill.price, 8),
        "qty": plain(fill.quantity, 8),
        "quoteQty": plain(fill.price * fill.quantity, 8),
        "commission": plain(fill.fee, 8),
        "commissionAsset": fill.fee_currency,
        "time": fill.time,
        "isBuyer": order.side is Side.BUY,
        "isMaker": fill.maker,
        "isBestMatch": True,
    }
