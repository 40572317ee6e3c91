"""Binance USD-M futures: `fapi.binance.com`, with conditional orders in the algo namespace of their own."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from app.domain.money import ZERO
from app.domain.orders import Side
from tests.venues.accounts import Account, FeeRates, Position, grains
from tests.venues.binance import (
    BinanceApi,
    Call,
    Route,
    filters_of,
    is_on,
    refused,
    side_of,
    status_word,
)
from tests.venues.clock import Clock
from tests.venues.floor import Floor, Rejection, Why
from tests.venues.orders import Book, Fill, Force, Kind, Listing, Market, Order, Status, Trigger
from tests.venues.wire import Intent, Params, Refusal, plain

HOSTS = frozenset({"fapi.binance.com", "demo-fapi.binance.com", "testnet.binancefuture.com"})
FEES = FeeRates(maker=Decimal("0.0002"), taker=Decimal("0.0005"))

INSURANCE = Decimal("0.0125")
"""What a liquidation costs of the position's worth, beside the fee."""

ALGO_TYPES = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET")
DAY = 86_400_000

SAYINGS = {
    Why.NO_FUNDS: (-2019, "Margin is insufficient."),
    Why.NOTHING_TO_REDUCE: (-2022, "ReduceOnly Order is rejected."),
    Why.WOULD_TRIGGER: (-2021, "Order would immediately trigger."),
    Why.WOULD_TAKE: (
        -5022,
        (
            "Due to the order could not be executed as maker, the Post Only order will be rejected. "
            "The order will not be recorded in the order history"
        ),
    ),
}

ALGO_WORDS = {
    Status.UNTRIGGERED: "NEW",
    Status.OPEN: "TRIGGERED",
    Status.CANCELLED: "CANCELED",
    Status.EXPIRED: "EXPIRED",
    Status.REJECTED: "REJECTED",
}


class BinanceUsdm(BinanceApi):
    """The USD-M API."""

    def __init__(self, clock: Clock, listings: Sequence[Listing]) -> None:
        swaps = [listing for listing in listings if listing.kind is Kind.SWAP]
        floor = Floor(clock, swaps, {Kind.SWAP: FEES})
        super().__init__(clock, floor, Kind.SWAP, HOSTS, re.compile(r"[.A-Z:/a-z0-9_-]{1,36}"))
        floor.forgets = self.has_forgotten
        self.recently = DAY
        """For how long, in milliseconds, the client id of a closed order cannot come again."""
        self.routes = {
            ("GET", "/fapi/v1/ping"): Route(Intent.PUBLIC, lambda _: {}, signed=False),
            ("GET", "/fapi/v1/time"): Route(Intent.PUBLIC, self.time, signed=False),
            ("GET", "/fapi/v1/exchangeInfo"): Route(Intent.PUBLIC, self.exchange_info, signed=False),
            ("GET", "/dapi/v1/exchangeInfo"): Route(Intent.PUBLIC, lambda _: {"symbols": []}, signed=False),
            ("GET", "/fapi/v1/klines"): Route(Intent.PUBLIC, self.klines, 2, signed=False),
            ("GET", "/fapi/v1/depth"): Route(Intent.PUBLIC, self.depth, 5, signed=False),
            ("GET", "/fapi/v1/ticker/24hr"): Route(Intent.PUBLIC, self.day_tickers, 40, signed=False),
            ("GET", "/fapi/v1/ticker/bookTicker"): Route(Intent.PUBLIC, self.book_tickers, 5, signed=False),
            ("GET", "/fapi/v1/ticker/price"): Route(Intent.PUBLIC, self.prices, 2, signed=False),
            ("GET", "/fapi/v2/ticker/price"): Route(Intent.PUBLIC, self.prices, 2, signed=False),
            ("GET", "/fapi/v1/premiumIndex"): Route(Intent.PUBLIC, self.mark_prices, 10, signed=False),
            ("GET", "/fapi/v2/account"): Route(Intent.ACCOUNT, self.account, 5),
            ("GET", "/fapi/v3/account"): Route(Intent.ACCOUNT, self.account, 5),
            ("GET", "/fapi/v2/balance"): Route(Intent.ACCOUNT, self.balance, 5),
            ("GET", "/fapi/v3/balance"): Route(Intent.ACCOUNT, self.balance, 5),
            ("GET", "/fapi/v2/positionRisk"): Route(Intent.ACCOUNT, self.all_positions, 5),
            ("GET", "/fapi/v3/positionRisk"): Route(Intent.ACCOUNT, self.positions, 5),
            ("GET", "/fapi/v1/leverageBracket"): Route(Intent.ACCOUNT, self.brackets),
            ("GET", "/fapi/v1/symbolConfig"): Route(Intent.ACCOUNT, self.symbol_configs, 5),
            ("GET", "/fapi/v1/accountConfig"): Route(Intent.ACCOUNT, self.account_config, 5),
            ("GET", "/fapi/v1/commissionRate"): Route(Intent.ACCOUNT, self.commission, 20),
            ("GET", "/fapi/v1/multiAssetsMargin"): Route(
                Intent.ACCOUNT, lambda _: {"multiAssetsMargin": False}, 30
            ),
            ("GET", "/fapi/v1/positionSide/dual"): Route(Intent.ACCOUNT, self.position_mode, 30),
            ("POST", "/fapi/v1/positionSide/dual"): Route(Intent.SET, self.set_position_mode),
            ("POST", "/fapi/v1/leverage"): Route(Intent.SET, self.set_leverage),
            ("POST", "/fapi/v1/marginType"): Route(Intent.SET, self.set_margin_type),
            ("GET", "/fapi/v1/income"): Route(Intent.ACCOUNT, self.income, 30),
            ("GET", "/fapi/v1/forceOrders"): Route(Intent.LOOK, self.force_orders, 20),
            ("POST", "/fapi/v1/order"): Route(Intent.PLACE, self.place, 0),
            ("GET", "/fapi/v1/order"): Route(Intent.LOOK, self.query),
            ("GET", "/fapi/v1/openOrder"): Route(Intent.LOOK, self.query_open),
            ("DELETE", "/fapi/v1/order"): Route(Intent.CANCEL, self.cancel),
            ("GET", "/fapi/v1/openOrders"): Route(Intent.LOOK, self.open_orders),
            ("DELETE", "/fapi/v1/allOpenOrders"): Route(Intent.CANCEL, self.cancel_all),
            ("GET", "/fapi/v1/allOrders"): Route(Intent.LOOK, self.all_orders, 5),
            ("GET", "/fapi/v1/userTrades"): Route(Intent.LOOK, self.user_trades, 5),
            ("POST", "/fapi/v1/algoOrder"): Route(Intent.PLACE, self.place_algo, 0),
            ("GET", "/fapi/v1/algoOrder"): Route(Intent.LOOK, self.query_algo),
            ("DELETE", "/fapi/v1/algoOrder"): Route(Intent.CANCEL, self.cancel_algo),
            ("GET", "/fapi/v1/openAlgoOrders"): Route(Intent.LOOK, self.open_algos),
            ("GET", "/fapi/v1/allAlgoOrders"): Route(Intent.LOOK, self.all_algos, 5),
            ("DELETE", "/fapi/v1/algoOpenOrders"): Route(Intent.CANCEL, self.cancel_all_algos),
        }

    def has_forgotten(self, order: Order) -> bool:
        """Binance forgets what ended without a fill after three days, and everything after ninety."""
        age = self.clock.milliseconds() - order.created
        came_to_nothing = order.status in (Status.CANCELLED, Status.EXPIRED) and not order.filled
        return not order.is_live and age > (3 * DAY if came_to_nothing else 90 * DAY)

    def time(self, _: Call) -> dict[str, int]:
        """The venue's clock."""
        return {"serverTime": self.clock.milliseconds()}

    def exchange_info(self, _: Call) -> dict[str, Any]:
        """Every contract with its filters."""
        return {
            "timezone": "UTC",
            "serverTime": self.clock.milliseconds(),
            "futuresType": "U_MARGINED",
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
                {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
            ],
            "exchangeFilters": [],
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [symbol_info(market) for market in self.floor.markets.values() if not market.gone],
        }

    def day_tickers(self, call: Call) -> Any:
        """The last day; futures say no bid and ask here."""
        return self.tickers(call, self.day_ticker)

    def book_tickers(self, call: Call) -> Any:
        """Best bid and ask."""
        now = self.clock.milliseconds()
        return self.tickers(call, lambda market: {**self.book_ticker(market), "time": now})

    def prices(self, call: Call) -> Any:
        """The last price."""
        now = self.clock.milliseconds()
        return self.tickers(call, lambda m: {"symbol": m.id, "price": plain(m.price), "time": now})

    def mark_prices(self, call: Call) -> Any:
        """Mark and index price, and a funding rate of nothing."""
        now = self.clock.milliseconds()

        def mark(market: Market) -> dict[str, Any]:
            price = plain(market.mark, 8)
            return {
                "symbol": market.id,
                "markPrice": price,
                "indexPrice": price,
                "estimatedSettlePrice": price,
                "lastFundingRate": "0.00000000",
                "interestRate": "0.00010000",
                "nextFundingTime": now - now % (8 * 3_600_000) + 8 * 3_600_000,
                "time": now,
            }

        return self.tickers(call, mark)

    def account(self, call: Call) -> dict[str, Any]:
        """Assets and positions."""
        account = call.account
        assets = [self.asset(account, currency) for currency in account.balances]
        quote = self.asset(account, "USDT")
        return {
            "totalInitialMargin": quote["initialMargin"],
            "totalMaintMargin": quote["maintMargin"],
            "totalWalletBalance": quote["walletBalance"],
            "totalUnrealizedProfit": quote["unrealizedProfit"],
            "totalMarginBalance": quote["marginBalance"],
            "totalPositionInitialMargin": quote["positionInitialMargin"],
            "totalOpenOrderInitialMargin": quote["openOrderInitialMargin"],
            "totalCrossWalletBalance": quote["crossWalletBalance"],
            "totalCrossUnPnl": quote["crossUnPnl"],
            "availableBalance": quote["availableBalance"],
            "maxWithdrawAmount": quote["maxWithdrawAmount"],
            "assets": assets,
            "positions": [self.account_position(account, position) for position in account.open_positions],
        }

    def asset(self, account: Account, currency: str) -> dict[str, Any]:
        """One currency of the wallet."""
        wallet, unrealized = account.balances.get(currency, ZERO), account.unrealized(currency)
        held, ordered = account.position_margin(currency), account.order_margin(currency)
        free = account.free(currency)
        maintenance = sum((maintenance_of(p) for p in account.open_positions), ZERO)
        return {
            "asset": currency,
            "walletBalance": plain(wallet, 8),
            "unrealizedProfit": plain(unrealized, 8),
            "marginBalance": plain(wallet + unrealized, 8),
            "maintMargin": plain(maintenance if currency == "USDT" else ZERO, 8),
            "initialMargin": plain(held + ordered, 8),
            "positionInitialMargin": plain(held, 8),
            "openOrderInitialMargin": plain(ordered, 8),
            "crossWalletBalance": plain(wallet, 8),
            "crossUnPnl": plain(unrealized, 8),
            "availableBalance": plain(free, 8),
            "maxWithdrawAmount": plain(free, 8),
            "updateTime": self.clock.milliseconds(),
        }

    def balance(self, call: Call) -> list[dict[str, Any]]:
        """Every currency of the wallet."""
        account = call.account
        kept = (
            "asset",
            "crossWalletBalance",
            "crossUnPnl",
            "availableBalance",
            "maxWithdrawAmount",
            "updateTime",
        )
        rows = [self.asset(account, currency) for currency in account.balances]
        return [
            {
                "accountAlias": f"alias{account.uid}",
                "balance": row["walletBalance"],
                "marginAvailable": True,
                **{name: row[name] for name in kept},
            }
            for row in rows
        ]

    def positions(self, call: Call) -> list[dict[str, Any]]:
        """Open positions."""
        return [
            self.position_risk(call.account, position)
            for position in call.account.open_positions
            if call.params.get("symbol") in (None, position.market.id)
        ]

    def all_positions(self, call: Call) -> list[dict[str, Any]]:
        """A position for every symbol, most of them empty, in the words of version 2."""
        account = call.account
        books = (Book.LONG, Book.SHORT) if account.hedged else (Book.BOTH,)
        found = []
        for market in self.floor.markets.values():
            if call.params.get("symbol") in (None, market.id):
                for book in books:
                    position = account.positions.get((market.id, book), Position(market, book))
                    isolated = market.id in account.isolated
                    found.append(
                        {
                            **self.position_risk(account, position),
                            "leverage": plain(account.leverage_of(market)),
                            "marginType": "isolated" if isolated else "cross",
                            "isolated": isolated,
                            "isAutoAddMargin": "false",
                            "maxNotionalValue": "50000000",
                        }
                    )
        return found

    def position_risk(self, account: Account, position: Position) -> dict[str, Any]:
        """One position."""
        market, margin = position.market, account.margin_of(position)
        isolated = market.id in account.isolated
        entry = plain(position.entry.quantize(Decimal("0.00000000001")))
        return {
            "symbol": market.id,
            "positionSide": position.book.name,
            "positionAmt": plain(position.quantity),
            "entryPrice": entry,
            "breakEvenPrice": entry,
            "markPrice": plain(market.mark, 8),
            "unRealizedProfit": plain(position.unrealized, 8),
            "liquidationPrice": "0",
            "isolatedMargin": plain(margin, 8) if isolated else "0",
            "notional": plain(position.notional, 8),
            "marginAsset": market.listing.quote,
            "isolatedWallet": plain(margin, 8) if isolated else "0",
            "initialMargin": plain(margin, 8),
            "maintMargin": plain(maintenance_of(position), 8),
            "positionInitialMargin": plain(margin, 8),
            "openOrderInitialMargin": "0",
            "adl": 1,
            "bidNotional": "0",
            "askNotional": "0",
            "updateTime": position.updated,
        }

    def account_position(self, account: Account, position: Position) -> dict[str, Any]:
        """One position in the account's words."""
        risk = self.position_risk(account, position)
        left_out = ("unRealizedProfit", "markPrice", "liquidationPrice", "marginAsset", "adl")
        return {
            **{name: value for name, value in risk.items() if name not in left_out},
            "unrealizedProfit": risk["unRealizedProfit"],
            "leverage": plain(account.leverage_of(position.market)),
            "isolated": position.market.id in account.isolated,
        }

    def brackets(self, call: Call) -> list[dict[str, Any]]:
        """One bracket per symbol."""
        return [
            {
                "symbol": market.id,
                "brackets": [
                    {
                        "bracket": 1,
                        "initialLeverage": int(market.listing.max_leverage),
                        "notionalCap": 50_000_000,
                        "notionalFloor": 0,
                        "maintMarginRatio": float(market.listing.maintenance),
                        "cum": 0.0,
                    }
                ],
            }
            for market in self.floor.markets.values()
            if call.params.get("symbol") in (None, market.id)
        ]

    def symbol_configs(self, call: Call) -> list[dict[str, Any]]:
        """Leverage and margin type per symbol."""
        account = call.account
        return [
            {
                "symbol": market.id,
                "marginType": "ISOLATED" if market.id in account.isolated else "CROSSED",
                "isAutoAddMargin": False,
                "leverage": int(account.leverage_of(market)),
                "maxNotionalValue": "50000000",
            }
            for market in self.floor.markets.values()
            if call.params.get("symbol") in (None, market.id)
        ]

    def account_config(self, call: Call) -> dict[str, Any]:
        """What the account may do."""
        return {
            "feeTier": 0,
            "canTrade": call.account.can_trade,
            "canDeposit": True,
            "canWithdraw": True,
            "dualSidePosition": call.account.hedged,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }

    def commission(self, call: Call) -> dict[str, Any]:
        """The fees of a symbol."""
        market, fees = self.market(call.params), self.floor.fees[Kind.SWAP]
        return {
            "symbol": market.id,
            "makerCommissionRate": plain(fees.maker),
            "takerCommissionRate": plain(fees.taker),
        }

    def position_mode(self, call: Call) -> dict[str, Any]:
        """One-way or hedged."""
        return {"dualSidePosition": call.account.hedged}

    def set_position_mode(self, call: Call) -> dict[str, Any]:
        """Go from one-way to hedged or back."""
        account, hedged = call.account, call.params.required("dualSidePosition") == "true"
        if hedged == account.hedged:
            raise refused(-4059, "No need to change position side.")
        if account.open_positions:
            raise refused(-4068, "Position side cannot be changed if there exists position.")
        if account.live:
            raise refused(-4067, "Position side cannot be changed if there exists open orders.")
        account.hedged = hedged
        return {"code": 200, "msg": "success"}

    def set_leverage(self, call: Call) -> dict[str, Any]:
        """Set the leverage of a symbol; the same again is no error."""
        market, leverage = self.market(call.params), call.params.required_amount("leverage")
        if not 1 <= leverage <= market.listing.max_leverage or leverage != int(leverage):
            raise refused(-4028, f"Leverage {plain(leverage)} is not valid")
        call.account.leverage[market.id] = leverage
        return {"leverage": int(leverage), "maxNotionalValue": "50000000", "symbol": market.id}

    def set_margin_type(self, call: Call) -> dict[str, Any]:
        """Set cross or isolated margin of a symbol."""
        account, market = call.account, self.market(call.params)
        isolated = call.params.required("marginType") == "ISOLATED"
        if isolated == (market.id in account.isolated):
            raise refused(-4046, "No need to change margin type.")
        if any(position.market is market for position in account.open_positions):
            raise refused(-4048, "Margin type cannot be changed if there exists position.")
        if any(order.market is market for order in account.live.values()):
            raise refused(-4047, "Margin type cannot be changed if there exists open orders.")
        (account.isolated.add if isolated else account.isolated.discard)(market.id)
        return {"code": 200, "msg": "success"}

    def place(self, call: Call) -> dict[str, Any]:
        """Place one order; conditional ones belong to the algo service."""
        params, market = call.params, self.market(call.params)
        type, side = params.required("type"), side_of(call.params)
        if type in (*ALGO_TYPES, "TRAILING_STOP_MARKET"):
            raise refused(
                -4120,
                "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
            )
        if type not in ("LIMIT", "MARKET"):
            raise refused(-1116, "Invalid orderType.")
        price = params.required_amount("price") if type == "LIMIT" else None
        time_in_force = params.required("timeInForce") if type == "LIMIT" else "GTC"
        if type == "MARKET" and "price" in params:
            raise refused(-1106, "Parameter 'price' sent when not required.")
        order = self.order_of(call, market, side, params.required_amount("quantity"), price, time_in_force)
        order.client_id = self.new_client_id(call, "newClientOrderId", "order")
        order.words |= {"type": type, "space": "order"}
        self.accept(call, order)
        return self.report(order, brief=params.get("newOrderRespType", "ACK") == "ACK")

    def place_algo(self, call: Call) -> dict[str, Any]:
        """Place one conditional order."""
        params, market = call.params, self.market(call.params)
        if params.required("algoType") != "CONDITIONAL":
            raise refused(-4500, "Invalid algoType.")
        type, side = params.required("type"), side_of(call.params)
        if type not in ALGO_TYPES:
            raise refused(-1116, "Invalid orderType.")
        limited, whole = type in ("STOP", "TAKE_PROFIT"), params.flag("closePosition")
        if whole and ("quantity" in params or params.flag("reduceOnly") or limited):
            raise refused(-4136, "Target strategy invalid for orderType " + type + ",closePosition true")
        price = params.required_amount("price") if limited else None
        stop = params.required_amount("triggerPrice")
        check_price(market, stop)
        quantity = ZERO if whole else params.required_amount("quantity")
        time_in_force = params.get("timeInForce", "GTC")
        order = self.order_of(call, market, side, quantity, price, time_in_force, whole=whole)
        order.trigger = Trigger(stop, (side is Side.BUY) == type.startswith("STOP"))
        order.spawns = {
            **order.words,
            "type": "LIMIT" if limited else "MARKET",
            "origType": type,
            "space": "order",
        }
        order.locks, order.dies_with_position = False, whole
        order.on_mark = params.get("workingType") == "MARK_PRICE"
        if whole and not call.account.reducible(order):
            raise refused(
                -4509,
                "Time in Force (TIF) GTE can only be used with open positions. "
                "Please ensure that positions are available.",
            )
        order.client_id = self.new_client_id(call, "clientAlgoId", "algo")
        order.words |= {
            "type": type,
            "space": "algo",
            "workingType": params.get("workingType", "CONTRACT_PRICE"),
        }
        self.accept(call, order)
        return self.algo_report(order)

    def query(self, call: Call) -> dict[str, Any]:
        """One order."""
        return self.report(self.order_named(call, refused(-2013, "Order does not exist.")))

    def query_open(self, call: Call) -> dict[str, Any]:
        """One order, while it is open."""
        nothing = refused(-2013, "Order does not exist.")
        order = self.order_named(call, nothing)
        if not order.is_live:
            raise nothing
        return self.report(order)

    def cancel(self, call: Call) -> dict[str, Any]:
        """Take an order back."""
        nothing = refused(-2011, "Unknown order sent.")
        order = self.order_named(call, nothing)
        if not order.is_live:
            raise nothing
        self.floor.cancel(call.account, order)
        return self.report(order)

    def cancel_all(self, call: Call) -> dict[str, Any]:
        """Take every plain order of a symbol back."""
        self.cancel_those_of(call, "order")
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def open_orders(self, call: Call) -> list[dict[str, Any]]:
        """Plain orders that are live."""
        live = of_space(call.account.live.values(), "order")
        return [self.report(order) for order in self.shown(live, call.params)]

    def all_orders(self, call: Call) -> list[dict[str, Any]]:
        """Every plain order of a symbol, at most a week at a time."""
        self.market(call.params)
        self.within_a_week(call.params)
        return [
            self.report(o) for o in self.shown(of_space(call.account.orders.values(), "order"), call.params)
        ]

    def user_trades(self, call: Call) -> list[dict[str, Any]]:
        """The fills of a symbol, at most a week at a time."""
        self.within_a_week(call.params)
        return [trade_report(fill) for fill in self.trades(call)]

    def force(self, account: Account, position: Position, force: Force) -> None:
        """Close a position: an order named autoclose, and for a liquidation a charge for the insurance fund."""
        is_liquidation = force is Force.LIQUIDATION
        name = f"autoclose-{position.market.id}-{len(account.orders)}" if is_liquidation else "adl_autoclose"
        words = {"type": "LIMIT", "timeInForce": "IOC", "space": "order", "reduceOnly": "True"}
        charge = INSURANCE if is_liquidation else ZERO
        self.floor.force(account, position, force, client_id=name, words=words, charge=charge)

    def force_orders(self, call: Call) -> list[dict[str, Any]]:
        """The orders by which positions were closed, of both kinds unless one is named."""
        wanted = call.params.get("autoCloseType")
        if wanted not in (None, "LIQUIDATION", "ADL"):
            raise refused(-1130, "Data sent for parameter 'autoCloseType' is not valid.")
        forced = [order for order in call.account.orders.values() if order.force is not None]
        return [
            self.report(order)
            for order in self.shown(forced, call.params)
            if wanted is None or (order.force is Force.ADL) == (wanted == "ADL")
        ]

    def income(self, call: Call) -> list[dict[str, Any]]:
        """What came in and went out beside trades: funding, and charges for the insurance fund; oldest first."""
        params, account = call.params, call.account
        now = self.clock.milliseconds()
        charges = [
            income_row(charge.market, "INSURANCE_CLEAR", -charge.amount, charge.time, number)
            for number, charge in enumerate(account.charges, 9_000_001)
        ]
        settled = [
            income_row(each.position.market, "FUNDING_FEE", each.amount, each.time, each.number)
            for each in account.settlements
            if each.visible <= now
        ]
        since, until = params.integer("startTime"), params.integer("endTime")
        if since is None and until is None:
            since = now - 7 * DAY
        found = [
            row
            for row in sorted(charges + settled, key=lambda row: row["time"])
            if params.get("incomeType") in (None, row["incomeType"])
            and params.get("symbol") in (None, row["symbol"])
            and (since or 0) <= row["time"] <= (now if until is None else until)
        ]
        size = min(params.integer("limit") or 100, 1000)
        skipped = size * ((params.integer("page") or 1) - 1)
        return found[skipped : skipped + size]

    def query_algo(self, call: Call) -> dict[str, Any]:
        """One conditional order; one that triggered says `FINISHED`, nothing filled, and whom to ask."""
        return self.algo_report(self.algo_named(call, refused(-2013, "Order does not exist.")))

    def cancel_algo(self, call: Call) -> dict[str, Any]:
        """Take a conditional order back."""
        nothing = refused(-2011, "Unknown order sent.")
        order = self.algo_named(call, nothing)
        if not order.is_live:
            raise nothing
        self.floor.cancel(call.account, order)
        return {"algoId": order.number, "clientAlgoId": order.client_id, "code": "200", "msg": "success"}

    def cancel_all_algos(self, call: Call) -> dict[str, Any]:
        """Take every conditional order of a symbol back."""
        self.cancel_those_of(call, "algo")
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def open_algos(self, call: Call) -> list[dict[str, Any]]:
        """Conditional orders that wait."""
        live = of_space(call.account.live.values(), "algo")
        return [self.algo_report(order) for order in self.shown(live, call.params)]

    def all_algos(self, call: Call) -> list[dict[str, Any]]:
        """Every conditional order of a symbol."""
        self.market(call.params)
        self.within_a_week(call.params)
        every = of_space(call.account.orders.values(), "algo")
        return [self.algo_report(order) for order in self.shown(every, call.params)]

    def cancel_those_of(self, call: Call, space: str) -> None:
        """Take every order of a symbol and a namespace back."""
        for order in self.shown(of_space(call.account.live.values(), space), call.params):
            self.floor.cancel(call.account, order)

    def within_a_week(self, params: Params) -> None:
        """Binance answers for at most a week at a time. Raises Refusal."""
        since, until = params.integer("startTime"), params.integer("endTime")
        if since is not None and until is not None and until - since > 7 * DAY:
            raise refused(-4165, "Maximum time interval is 7 days.")

    def new_client_id(self, call: Call, name: str, space: str) -> str:
        """A client id that no open order and no recent one has. Raises Refusal."""
        client_id, since = self.client_id(call.params, name), self.clock.milliseconds() - self.recently
        if any(o.is_live or o.created >= since for o in of_space(call.account.known_as(client_id), space)):
            raise refused(-4116, "ClientOrderId is duplicated.")
        return client_id

    def order_of(
        self,
        call: Call,
        market: Market,
        side: Side,
        quantity: Decimal,
        price: Decimal | None,
        time_in_force: str,
        *,
        whole: bool = False,
    ) -> Order:
        """The order that was asked for, checked against the filters. Raises Refusal."""
        params, book = call.params, book_of(call)
        if time_in_force not in ("GTC", "IOC", "FOK", "GTX", "GTD"):
            raise refused(-1115, "Invalid timeInForce.")
        reduces = params.flag("reduceOnly")
        if call.account.hedged:
            if "reduceOnly" in params:
                raise refused(-1106, "Parameter 'reduceonly' sent when not required.")
            reduces = (book is Book.LONG) == (side is Side.SELL)
        if price is not None:
            check_price(market, price)
        if not whole:
            check_quantity(market, quantity, is_market=price is None)
            if not reduces and quantity * (price or market.price) < market.listing.min_notional:
                least = plain(market.listing.min_notional)
                raise refused(
                    -4164,
                    f"Order's notional must be no smaller than {least} (unless you choose reduce only).",
                )
        return Order(
            market=market,
            client_id="",
            side=side,
            quantity=quantity,
            price=price,
            reduce_only=reduces,
            whole=whole,
            book=book,
            stays=price is not None and time_in_force in ("GTC", "GTX", "GTD"),
            post_only=time_in_force == "GTX",
            fill_or_kill=time_in_force == "FOK",
            until=params.integer("goodTillDate") if time_in_force == "GTD" else None,
            fraction=call.conditions.fraction,
            visible=self.clock.milliseconds() + int(call.conditions.lag * 1000),
            words={"timeInForce": time_in_force, "reduceOnly": str(params.flag("reduceOnly"))},
        )

    def accept(self, call: Call, order: Order) -> None:
        """Put an order on the floor. Raises Refusal."""
        try:
            self.floor.place(call.account, order)
        except Rejection as rejection:
            raise refused(*SAYINGS[rejection.why]) from None

    def order_named(self, call: Call, otherwise: Refusal) -> Order:
        """The plain order a request names. Raises `otherwise` when there is none."""
        id, client_id = self.named(call.params, id_name="orderId", client_name="origClientOrderId")
        order = self.found(call.account, self.market(call.params), id, client_id)
        if order is None or order.words["space"] != "order":
            raise otherwise
        return order

    def algo_named(self, call: Call, otherwise: Refusal) -> Order:
        """The conditional order a request names. Raises `otherwise` when there is none."""
        id, client_id = self.named(call.params, id_name="algoId", client_name="clientAlgoId")
        every = (
            [call.account.orders[id]] if id in call.account.orders else call.account.known_as(client_id or "")
        )
        found = [order for order in of_space(every, "algo") if self.floor.is_visible(order)]
        if not found:
            raise otherwise
        return found[-1]

    def report(self, order: Order, *, brief: bool = False) -> dict[str, Any]:
        """What is said of a plain order; `brief` is before the book has seen it."""
        filled = ZERO if brief else order.filled
        value = ZERO if brief else order.value
        average = value / filled if filled else ZERO
        return {
            "orderId": order.number,
            "symbol": order.market.id,
            "status": "NEW" if brief else status_word(order),
            "clientOrderId": order.client_id,
            "price": plain(order.price or ZERO, 2),
            "avgPrice": plain(average.quantize(Decimal("0.0000000001"))) if filled else "0.00",
            "origQty": plain(order.quantity),
            "executedQty": plain(filled),
            "cumQty": plain(filled),
            "cumQuote": plain(value, 8),
            "timeInForce": order.words["timeInForce"],
            "type": order.words["type"],
            "reduceOnly": order.reduce_only,
            "closePosition": order.whole,
            "side": order.side.name,
            "positionSide": order.book.name,
            "stopPrice": "0",
            "workingType": "CONTRACT_PRICE",
            "priceProtect": False,
            "origType": order.words.get("origType", order.words["type"]),
            "priceMatch": "NONE",
            "selfTradePreventionMode": "EXPIRE_MAKER",
            "goodTillDate": order.until or 0,
            "time": order.created,
            "updateTime": order.updated,
        }

    def algo_report(self, order: Order) -> dict[str, Any]:
        """What is said of a conditional order."""
        assert order.trigger is not None
        child = order.child
        return {
            "algoId": order.number,
            "clientAlgoId": order.client_id,
            "algoType": "CONDITIONAL",
            "orderType": order.words["type"],
            "symbol": order.market.id,
            "side": order.side.name,
            "positionSide": order.book.name,
            "timeInForce": order.words["timeInForce"],
            "quantity": plain(order.quantity),
            "algoStatus": algo_word(order),
            "actualOrderId": child.id if child else "",
            "actualPrice": plain(child.average, 8) if child else "0.00000",
            "triggerPrice": plain(order.trigger.price, 2),
            "price": plain(order.price or ZERO, 2),
            "icebergQuantity": None,
            "tpTriggerPrice": "0.000",
            "tpPrice": "0.000",
            "slTriggerPrice": "0.000",
            "slPrice": "0.000",
            "tpOrderType": "",
            "selfTradePreventionMode": "EXPIRE_MAKER",
            "workingType": order.words["workingType"],
            "priceMatch": "NONE",
            "closePosition": order.whole,
            "priceProtect": False,
            "reduceOnly": order.reduce_only,
            "createTime": order.created,
            "updateTime": order.updated,
            "triggerTime": order.triggered,
            "goodTillDate": order.until or 0,
        }


def income_row(market: Market, kind: str, amount: Decimal, time: int, number: int) -> dict[str, Any]:
    """One line of what came in and went out."""
    return {
        "symbol": market.id,
        "incomeType": kind,
        "income": plain(amount, 8),
        "asset": market.listing.quote,
        "time": time,
        "info": kind,
        "tranId": number,
        "tradeId": "",
    }


def algo_word(order: Order) -> str:
    """Binance's word for where a conditional order stands: triggered while its child is live, then finished."""
    if order.status is Status.FILLED:
        return "TRIGGERED" if order.child is not None and order.child.is_live else "FINISHED"
    return ALGO_WORDS[order.status]


def of_space(orders: Any, space: str) -> list[Order]:
    """The orders of a namespace."""
    return [order for order in orders if order.words["space"] == space]


def book_of(call: Call) -> Book:
    """The position an order is for, which must fit the account's mode. Raises Refusal."""
    book = Book(call.params.get("positionSide", "BOTH").lower())
    if (book is Book.BOTH) == call.account.hedged:
        raise refused(-4061, "Order's position side does not match user's setting.")
    return book


def maintenance_of(position: Position) -> Decimal:
    """The maintenance margin of a position."""
    return grains(abs(position.notional) * position.market.listing.maintenance)


def check_price(market: Market, price: Decimal) -> None:
    """Hold a price against the filters. Raises Refusal."""
    if price <= ZERO:
        raise refused(-4001, "Price less than 0.")
    if not is_on(price, market.listing.tick):
        raise refused(-4014, "Price not increased by tick size.")


def check_quantity(market: Market, quantity: Decimal, *, is_market: bool) -> None:
    """Hold a quantity against the filters. Raises Refusal."""
    listing = market.listing
    if quantity <= ZERO:
        raise refused(-4003, "Quantity less than or equal to zero.")
    if not is_on(quantity, listing.step):
        raise refused(-1111, "Precision is over the maximum defined for this asset.")
    if quantity < listing.min_quantity:
        raise refused(-4004, "Quantity less than min quantity.")
    if quantity > (listing.max_market_quantity if is_market else listing.max_quantity):
        raise refused(-4005, "Quantity greater than max quantity.")


def symbol_info(market: Market) -> dict[str, Any]:
    """One contract."""
    listing = market.listing
    return {
        "symbol": market.id,
        "pair": market.id,
        "contractType": "PERPETUAL",
        "deliveryDate": 4_133_404_800_000,
        "onboardDate": 1_569_398_400_000,
        "status": "SETTLING" if market.closed else "TRADING",
        "baseAsset": listing.base,
        "quoteAsset": listing.quote,
        "marginAsset": listing.quote,
        "pricePrecision": -int(listing.tick.as_tuple().exponent),
        "quantityPrecision": -int(listing.step.as_tuple().exponent),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "triggerProtect": "0.0500",
        "liquidationFee": "0.010000",
        "marketTakeBound": "0.05",
        "orderTypes": ["LIMIT", "MARKET", *ALGO_TYPES, "TRAILING_STOP_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "filters": [
            *filters_of(market),
            {"filterType": "MIN_NOTIONAL", "notional": plain(listing.min_notional)},
        ],
    }


def trade_report(fill: Fill) -> dict[str, Any]:
    """A fill as userTrades lists it."""
    order = fill.order
    return {
        "symbol": order.market.id,
        "id": fill.number,
        "orderId": order.number,
        "side": order.side.name,
        "price": plain(fill.price),
        "qty": plain(fill.quantity),
        "realizedPnl": plain(fill.realized, 8),
        "quoteQty": plain(fill.price * fill.quantity, 8),
        "commission": plain(fill.fee, 8),
        "commissionAsset": fill.fee_currency,
        "time": fill.time,
        "positionSide": order.book.name,
        "buyer": order.side is Side.BUY,
        "maker": fill.maker,
    }
