"""Bybit v5: `api.bybit.com`, one unified account for spot and linear contracts."""

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.domain.money import ZERO, exact, floor_to_step
from app.domain.orders import Side
from tests.venues.accounts import Account, FeeRates, Position, Settlement, grains
from tests.venues.clock import Clock
from tests.venues.floor import Floor, Rejection, Why, quantity_for, trigger_for
from tests.venues.limits import Bans, Window
from tests.venues.orders import Attached, Book, Fill, Force, Kind, Listing, Market, Order, Status, Trigger
from tests.venues.wire import (
    Conditions,
    Intent,
    Params,
    Refusal,
    Reply,
    WireRequest,
    is_signed_by,
    parsed,
    plain,
)

HOSTS = frozenset(
    {"api.bybit.com", "api.bytick.com", "api-testnet.bybit.com", "api-demo.bybit.com", "api.bybit.nl"}
)
SPOT_FEES = FeeRates(maker=Decimal("0.001"), taker=Decimal("0.001"))
LINEAR_FEES = FeeRates(maker=Decimal("0.0002"), taker=Decimal("0.00055"))

UNLIMITED = 10**9
AHEAD = 1000
RECENT = 500
"""How many closed orders the realtime endpoint still knows."""

DAY = 86_400_000
WEEK = 7 * DAY
"""How much of the past one request for history is answered for, in milliseconds."""

BOOKS = {"0": Book.BOTH, "1": Book.LONG, "2": Book.SHORT}
INDEXES = {book: int(index) for index, book in BOOKS.items()}

SAYINGS: dict[tuple[Kind, Why], tuple[int, str]] = {
    (Kind.SPOT, Why.NO_FUNDS): (170131, "Insufficient balance."),
    (Kind.SWAP, Why.NO_FUNDS): (110007, "ab not enough for new order"),
    (Kind.SPOT, Why.NOTHING_TO_REDUCE): (170210, "New order rejected."),
    (Kind.SWAP, Why.NOTHING_TO_REDUCE): (
        110017,
        "current position is zero, cannot fix reduce-only order qty",
    ),
    (Kind.SPOT, Why.WOULD_TAKE): (170218, "The LIMIT-MAKER order is rejected due to invalid price."),
    (Kind.SWAP, Why.WOULD_TAKE): (170218, "The LIMIT-MAKER order is rejected due to invalid price."),
    (Kind.SPOT, Why.WOULD_TRIGGER): (170204, "trigger price is passed already"),
}

WORDS = {
    Status.UNTRIGGERED: "Untriggered",
    Status.OPEN: "New",
    Status.FILLED: "Filled",
    Status.CANCELLED: "Cancelled",
    Status.EXPIRED: "Cancelled",
    Status.REJECTED: "Rejected",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in."""

    account: Account
    params: Params
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint: what it is for, who answers it, and whether it needs a signature."""

    intent: Intent
    answer: Callable[[Call], Any]
    signed: bool = True


class Bybit:
    """The v5 API. Budgets are unlimited until a test sets them."""

    hosts = HOSTS

    def __init__(self, clock: Clock, listings: Sequence[Listing]) -> None:
        self.clock = clock
        self.floor = Floor(clock, listings, {Kind.SPOT: SPOT_FEES, Kind.SWAP: LINEAR_FEES}, order_id)
        self.per_endpoint = Window(UNLIMITED, 1)
        """Requests per account and endpoint in a second; beyond it 10006."""
        self.per_address = Window(UNLIMITED, 5)
        """Requests per address in five seconds; beyond it 403, for `bans.seconds`."""
        self.bans = Bans(patience=0, seconds=600)
        self.cleared: set[str] = set()
        """Closed orders that the realtime endpoint has forgotten with a release."""
        self.routes = {
            ("GET", "/v5/market/time"): Route(Intent.PUBLIC, self.time, signed=False),
            ("GET", "/v5/market/instruments-info"): Route(Intent.PUBLIC, self.instruments, signed=False),
            ("GET", "/v5/market/tickers"): Route(Intent.PUBLIC, self.tickers, signed=False),
            ("GET", "/v5/market/orderbook"): Route(Intent.PUBLIC, self.order_book, signed=False),
            ("GET", "/v5/user/query-api"): Route(Intent.ACCOUNT, self.key_info),
            ("GET", "/v5/account/info"): Route(Intent.ACCOUNT, self.account_info),
            ("GET", "/v5/account/wallet-balance"): Route(Intent.ACCOUNT, self.wallet),
            ("GET", "/v5/account/transaction-log"): Route(Intent.ACCOUNT, self.transaction_log),
            ("GET", "/v5/account/fee-rate"): Route(Intent.ACCOUNT, self.fee_rates),
            ("POST", "/v5/account/set-margin-mode"): Route(Intent.SET, self.set_margin_mode),
            ("GET", "/v5/asset/coin/query-info"): Route(Intent.ACCOUNT, lambda _: {"rows": []}),
            ("GET", "/v5/position/list"): Route(Intent.ACCOUNT, self.positions),
            ("POST", "/v5/position/set-leverage"): Route(Intent.SET, self.set_leverage),
            ("POST", "/v5/position/switch-mode"): Route(Intent.SET, self.switch_mode),
            ("POST", "/v5/position/trading-stop"): Route(Intent.PLACE, self.trading_stop),
            ("POST", "/v5/order/create"): Route(Intent.PLACE, self.create),
            ("POST", "/v5/order/cancel"): Route(Intent.CANCEL, self.cancel),
            ("POST", "/v5/order/cancel-all"): Route(Intent.CANCEL, self.cancel_all),
            ("GET", "/v5/order/realtime"): Route(Intent.LOOK, self.realtime),
            ("GET", "/v5/order/history"): Route(Intent.LOOK, self.history),
            ("GET", "/v5/execution/list"): Route(Intent.LOOK, self.executions),
        }

    def describe(self, host: str, method: str, path: str, query: str, body: str) -> tuple[Intent, str | None]:
        """What a request is for, and which client order id it names."""
        del host
        route = self.routes.get((method, path))
        return route.intent if route else Intent.PUBLIC, params_in(query, body).get("orderLinkId") or None

    @exact
    def answer(self, request: WireRequest, conditions: Conditions) -> Reply:
        """Carry a request out; what goes wrong is said with status 200 and a code."""
        self.floor.expire()
        headers = {"Timenow": str(self.clock.milliseconds())}
        try:
            result = self._carry_out(request, conditions, headers)
        except Refusal as refusal:
            reply = refusal.reply
            payload = reply.payload
            if isinstance(payload, dict):
                payload = {**payload, "time": self.clock.milliseconds()}
            return Reply(payload, reply.status, {**headers, **reply.headers})
        return Reply(
            {
                "retCode": 0,
                "retMsg": "OK",
                "result": result,
                "retExtInfo": {},
                "time": self.clock.milliseconds(),
            },
            headers=headers,
        )

    def time(self, _: Call) -> dict[str, str]:
        """The venue's clock."""
        now = self.clock.milliseconds()
        return {"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)}

    def instruments(self, call: Call) -> dict[str, Any]:
        """Every instrument of a category; inverse contracts and options are not listed."""
        category = call.params.required("category")
        found = [
            spot_info(market) if market.kind is Kind.SPOT else linear_info(market)
            for market in self.markets_in(call.params)
            if call.params.get("status", "Trading") == ("Closed" if market.closed else "Trading")
            and not market.gone
        ]
        return {"category": category, "list": found, "nextPageCursor": ""}

    def tickers(self, call: Call) -> dict[str, Any]:
        """The last day, with best bid and ask."""
        wanted = call.params.get("symbol")
        found = [self.ticker(market) for market in self.markets_in(call.params)]
        if wanted and not found:
            raise refused(10001, "params error: symbol invalid")
        return {"category": call.params.required("category"), "list": found}

    def ticker(self, market: Market) -> dict[str, Any]:
        """The ticker of one market."""
        last = plain(market.price)
        ticker = {
            "symbol": market.id,
            "bid1Price": plain(market.bid),
            "bid1Size": "1000",
            "ask1Price": plain(market.ask),
            "ask1Size": "1000",
            "lastPrice": last,
            "prevPrice24h": last,
            "price24hPcnt": "0",
            "highPrice24h": last,
            "lowPrice24h": last,
            "turnover24h": plain(market.price * 1000),
            "volume24h": "1000",
        }
        if market.kind is Kind.SPOT:
            return {**ticker, "usdIndexPrice": last}
        more = {
            "indexPrice": last,
            "markPrice": plain(market.mark),
            "openInterest": "1000",
            "openInterestValue": "1000",
        }
        return {**ticker, **more, "fundingRate": "0", "nextFundingTime": "0", "deliveryTime": "0"}

    def order_book(self, call: Call) -> dict[str, Any]:
        """An order book of one level."""
        market, now = self.market(call.params), self.clock.milliseconds()
        bids, asks = [[plain(market.bid), "1000"]], [[plain(market.ask), "1000"]]
        return {"s": market.id, "b": bids, "a": asks, "ts": now, "u": 1, "seq": 1, "cts": now}

    def key_info(self, call: Call) -> dict[str, Any]:
        """What the key may do."""
        account = call.account
        trade = account.can_trade
        return {
            "id": str(account.uid),
            "note": "",
            "apiKey": account.key,
            "readOnly": 0 if trade else 1,
            "secret": "",
            "permissions": {
                "ContractTrade": ["Order", "Position"] if trade else [],
                "Spot": ["SpotTrade"] if trade else [],
                "Wallet": ["AccountTransfer", "Withdraw"] if account.can_withdraw else [],
                "Options": [],
                "Derivatives": ["DerivativesTrade"] if trade else [],
                "Exchange": [],
                "NFT": [],
            },
            "ips": ["*"],
            "type": 1,
            "deadlineDay": 83,
            "expiredAt": "2030-05-15T03:21:05Z",
            "createdAt": "2022-10-16T02:24:40Z",
            "unified": 0,
            "uta": 1,
            "userID": account.uid,
            "inviterID": 0,
            "vipLevel": "No VIP",
            "mktMakerLevel": "0",
            "affiliateID": 0,
            "rsaPublicKey": "",
            "isMaster": True,
            "parentUid": "0",
        }

    def account_info(self, call: Call) -> dict[str, Any]:
        """The account's modes."""
        return {
            "marginMode": "ISOLATED_MARGIN" if call.account.isolated else "REGULAR_MARGIN",
            "updatedTime": "1697078946000",
            "unifiedMarginStatus": 5,
            "dcpStatus": "OFF",
            "timeWindow": 0,
            "smpGroup": 0,
            "isMasterTrader": False,
            "spotHedgingStatus": "OFF",
        }

    def wallet(self, call: Call) -> dict[str, Any]:
        """Every coin of the unified account."""
        account = call.account
        coins = [coin_row(account, currency) for currency in account.balances]
        total = account.balances.get("USDT", ZERO)
        equity = total + account.unrealized("USDT")
        return {
            "list": [
                {
                    "accountType": "UNIFIED",
                    "totalEquity": plain(equity),
                    "totalWalletBalance": plain(total),
                    "totalMarginBalance": plain(equity),
                    "totalAvailableBalance": plain(account.free("USDT")),
                    "totalPerpUPL": plain(account.unrealized("USDT")),
                    "totalInitialMargin": plain(
                        account.position_margin("USDT") + account.order_margin("USDT")
                    ),
                    "totalMaintenanceMargin": plain(sum(map(maintenance_of, account.open_positions), ZERO)),
                    "accountIMRate": "0",
                    "accountMMRate": "0",
                    "accountLTV": "0",
                    "coin": coins,
                }
            ]
        }

    def fee_rates(self, call: Call) -> dict[str, Any]:
        """The fees of a category."""
        return {
            "list": [
                {
                    "symbol": market.id,
                    "takerFeeRate": plain(self.floor.fees[market.kind].taker),
                    "makerFeeRate": plain(self.floor.fees[market.kind].maker),
                }
                for market in self.markets_in(call.params)
            ]
        }

    def transaction_log(self, call: Call) -> dict[str, Any]:
        """Funding alone, newest first, of a week at most."""
        params, now = call.params, self.clock.milliseconds()
        since, until = self.window(params)
        found = [
            settlement_row(each)
            for each in reversed(call.account.settlements)
            if each.visible <= now and since <= each.time <= until
        ]
        if params.get("type") not in (None, "", "SETTLEMENT") or params.get("category") not in (
            None,
            "",
            "linear",
        ):
            found = []
        skipped, size = int(params.get("cursor") or 0), min(params.integer("limit") or 20, 50)
        rest = found[skipped:]
        return {"list": rest[:size], "nextPageCursor": str(skipped + size) if rest[size:] else ""}

    def window(self, params: Params) -> tuple[int, int]:
        """The time that a question about the past is for: a week, unless it says another one. Raises Refusal."""
        now = self.clock.milliseconds()
        since, until = params.integer("startTime"), params.integer("endTime")
        if since is not None and until is not None and until - since > WEEK:
            raise refused(10001, "The interval between startTime and endTime must be within 7 days.")
        if since is None:
            since = (now if until is None else until) - WEEK
        return since, since + WEEK if until is None else until

    def positions(self, call: Call) -> dict[str, Any]:
        """The position of a symbol even when it is empty, or all open ones."""
        account, params = call.account, call.params
        if params.get("symbol"):
            market = self.market(params)
            books = (Book.LONG, Book.SHORT) if account.hedged else (Book.BOTH,)
            found = [account.positions.get((market.id, book), Position(market, book)) for book in books]
        else:
            coin = params.get("settleCoin")
            found = [p for p in account.open_positions if coin in (None, p.market.listing.quote)]
        rows = [self.position_row(account, position) for position in found]
        return {"category": params.required("category"), "list": rows, "nextPageCursor": ""}

    def position_row(self, account: Account, position: Position) -> dict[str, Any]:
        """One position."""
        market, quantity = position.market, position.quantity
        margin = plain(account.margin_of(position))
        whole = {
            order.words["stopOrderType"]: plain(order.trigger.price)
            for order in account.live.values()
            if order.whole and order.market is market and order.book is position.book and order.trigger
        }
        return {
            "positionIdx": INDEXES[position.book],
            "riskId": 1,
            "riskLimitValue": "2000000",
            "symbol": market.id,
            "side": "" if not quantity else "Buy" if quantity > 0 else "Sell",
            "size": plain(abs(quantity)),
            "avgPrice": plain(position.entry.quantize(Decimal("0.0000000001"))),
            "positionValue": plain(abs(position.cost)),
            "tradeMode": 0,
            "autoAddMargin": 0,
            "positionStatus": "Normal",
            "leverage": plain(account.leverage_of(market)),
            "markPrice": plain(market.mark),
            "liqPrice": "",
            "bustPrice": "",
            "positionIM": margin if quantity else "",
            "positionMM": plain(maintenance_of(position)) if quantity else "",
            "positionBalance": "0",
            "tpslMode": "Full",
            "takeProfit": whole.get("TakeProfit", ""),
            "stopLoss": whole.get("StopLoss", ""),
            "trailingStop": "0",
            "unrealisedPnl": plain(position.unrealized),
            "curRealisedPnl": "0",
            "cumRealisedPnl": "0",
            "adlRankIndicator": 2 if quantity else 0,
            "isReduceOnly": False,
            "createdTime": str(position.updated),
            "updatedTime": str(position.updated),
            "seq": -1,
        }

    def set_leverage(self, call: Call) -> dict[str, Any]:
        """Set the leverage of a symbol; the same again is 110043."""
        account, market = call.account, self.market(call.params)
        leverage = call.params.required_amount("buyLeverage")
        if leverage != call.params.required_amount("sellLeverage") and not account.hedged:
            raise refused(10001, "buyLeverage must equal sellLeverage")
        if not 1 <= leverage <= market.listing.max_leverage:
            raise refused(110013, "cannot set leverage due to risk limit")
        if leverage == account.leverage_of(market):
            raise refused(110043, "Set leverage not modified")
        account.leverage[market.id] = leverage
        return {}

    def switch_mode(self, call: Call) -> dict[str, Any]:
        """Go from one-way (0) to hedged (3) or back; the same again is 110025."""
        account, hedged = call.account, call.params.required("mode") == "3"
        if hedged == account.hedged:
            raise refused(110025, "Position mode is not modified")
        if account.open_positions:
            raise refused(110024, "You have an existing position, so position mode cannot be switched")
        if any(order.market.kind is Kind.SWAP for order in account.live.values()):
            raise refused(110028, "Open orders exist, so you cannot change position mode")
        account.hedged = hedged
        return {}

    def set_margin_mode(self, call: Call) -> dict[str, Any]:
        """Set the account's margin mode; the same again changes nothing and is no error."""
        mode = call.params.required("setMarginMode")
        if mode not in ("ISOLATED_MARGIN", "REGULAR_MARGIN"):
            raise refused(3400045, "Set margin mode failed")
        ids = {market.id for market in self.floor.markets.values() if market.kind is Kind.SWAP}
        call.account.isolated = ids if mode == "ISOLATED_MARGIN" else set()
        return {"reasons": []}

    def create(self, call: Call) -> dict[str, str]:
        """Place one order; what became of it must be asked."""
        market = self.market(call.params)
        order = self.spot_order(call, market) if market.kind is Kind.SPOT else self.linear_order(call, market)
        self.check_link_id(call.account, market, order.client_id)
        try:
            self.floor.place(call.account, order)
        except Rejection as rejection:
            raise self.rejected(order, rejection.why) from None
        return named(order)

    def trading_stop(self, call: Call) -> dict[str, Any]:
        """Set, change or take away the stop and the target of a position, for all of it or for a part."""
        params, account, market = call.params, call.account, self.market(call.params)
        position = account.position(market, self.book_of(call))
        if not position.quantity:
            raise refused(10001, "can not set tp/sl/ts for zero position")
        whole = params.get("tpslMode", "Full") == "Full"
        long = position.quantity > 0
        sides = [("takeProfit", "tpSize", long), ("stopLoss", "slSize", not long)]
        changed = [
            self.set_stop(call, position, name, size, rising=rising, whole=whole)
            for name, size, rising in sides
            if params.get(name)
        ]
        if not any(changed):
            raise refused(34040, "not modified")
        return {}

    def set_stop(
        self, call: Call, position: Position, name: str, size: str, *, rising: bool, whole: bool
    ) -> bool:
        """Set one side of a position's protection; whether anything changed."""
        account, price = call.account, call.params.required_amount(name)
        words = stop_words(name, whole=whole)
        present = [
            order
            for order in account.live.values()
            if order.whole
            and order.market is position.market
            and order.book is position.book
            and order.words == words
        ]
        if whole and any(order.trigger is not None and order.trigger.price == price for order in present):
            return False
        if not price:
            return self.floor.detach(account, position.market, position.book, words)
        trigger = Trigger(price, rising)
        check_tick(position.market, price)
        if trigger.is_reached_by(position.market.price):
            raise refused(10001, f"{name} is on the wrong side of the market price")
        quantity = abs(position.quantity) if whole else call.params.required_amount(size)
        if quantity > abs(position.quantity):
            raise refused(110058, "Insufficient number of remaining position size to set tp/sl")
        opened = Order(
            market=position.market,
            client_id="",
            side=Side.BUY if position.quantity > 0 else Side.SELL,
            quantity=quantity,
            book=position.book,
        )
        self.floor.attach(account, opened, Attached(trigger, whole, words), quantity, None)
        return True

    def cancel(self, call: Call) -> dict[str, str]:
        """Take an order back; on spot only through the filter it was placed under."""
        market = self.market(call.params)
        found = self.those_named(call, market)
        wanted = call.params.get("orderFilter") or ("Order" if market.kind is Kind.SPOT else None)
        for order in found:
            if order.is_live and wanted in (None, order.words["orderFilter"]):
                self.floor.cancel(call.account, order)
                return named(order)
        if market.kind is Kind.SPOT:
            raise refused(170213, "Order does not exist.")
        raise refused(110001, "order not exists or too late to cancel")

    def cancel_all(self, call: Call) -> dict[str, Any]:
        """Take everything back that a request describes."""
        symbol, filter = call.params.get("symbol"), call.params.get("orderFilter")
        kind = kind_of(call.params)
        live = [
            order
            for order in call.account.live.values()
            if order.market.kind is kind
            and symbol in (None, order.market.id)
            and filter in (None, order.words["orderFilter"])
        ]
        for order in live:
            self.floor.cancel(call.account, order)
        return {"list": [named(order) for order in live], "success": "1"}

    def realtime(self, call: Call) -> dict[str, Any]:
        """What is open; with an id, or with openOnly=1, also what was closed of late."""
        account, params = call.account, call.params
        if kind_of(params) is Kind.SWAP and not (params.keys() & {"symbol", "baseCoin", "settleCoin"}):
            raise refused(10001, "params error: symbol, baseCoin or settleCoin is required")
        closed = params.get("openOnly") == "1" or params.get("orderId") or params.get("orderLinkId")
        ended = [o for o in account.orders.values() if not o.is_live and o.id not in self.cleared]
        recent = {order.id for order in ended[-RECENT:]} if closed else set[str]()
        return self.page(call, (o for o in account.orders.values() if o.is_live or o.id in recent))

    def release(self) -> None:
        """Go live with a new version: what was closed before is in the history alone."""
        self.cleared |= {order.id for order in self.floor.orders if not order.is_live}

    def history(self, call: Call) -> dict[str, Any]:
        """What is closed, of the last week or of one week; what ended without a fill is kept for a day."""
        params, now = call.params, self.clock.milliseconds()
        since, until = self.window(params)
        wanted = params.get("orderStatus")
        return self.page(
            call,
            (
                order
                for order in call.account.orders.values()
                if not order.is_live
                and since <= order.created <= until
                and wanted in (None, "", status_word(order))
                and (order.filled or now - order.updated <= DAY)
            ),
        )

    def page(self, call: Call, orders: Iterable[Order]) -> dict[str, Any]:
        """Those of the orders that a request describes, newest first."""
        params, kind = call.params, kind_of(call.params)
        since, until = params.integer("startTime") or 0, params.integer("endTime")
        wanted = [
            (name, params[key])
            for name, key in (
                ("symbol", "symbol"),
                ("orderId", "orderId"),
                ("orderLinkId", "orderLinkId"),
            )
            if params.get(key)
        ]
        found = [
            order
            for order in orders
            if order.market.kind is kind
            and self.floor.is_visible(order)
            and params.get("orderFilter") in (None, "", order.words["orderFilter"])
            and all({**named(order), "symbol": order.market.id}[name] == value for name, value in wanted)
            and order.created >= since
            and (until is None or order.created <= until)
        ]
        rows = [order_row(order) for order in reversed(found[-(params.integer("limit") or 50) :])]
        return {"category": params.required("category"), "list": rows, "nextPageCursor": ""}

    def executions(self, call: Call) -> dict[str, Any]:
        """Fills, newest first."""
        params, kind = call.params, kind_of(call.params)
        since, until = params.integer("startTime") or 0, params.integer("endTime")
        wanted = {name: params[name] for name in ("symbol", "orderId", "orderLinkId") if params.get(name)}
        found = [
            fill
            for fill in call.account.fills
            if fill.order.market.kind is kind
            and self.floor.is_visible(fill.order)
            and wanted.items() <= {**named(fill.order), "symbol": fill.order.market.id}.items()
            and params.get("execType") in (None, "", exec_type(fill))
            and fill.time >= since
            and (until is None or fill.time <= until)
        ]
        rows = [execution_row(fill) for fill in reversed(found[-(params.integer("limit") or 50) :])]
        return {"category": params.required("category"), "list": rows, "nextPageCursor": ""}

    def force(self, account: Account, position: Position, force: Force) -> None:
        """Close a position; what it costs is the fee of its trades."""
        words = {
            "timeInForce": "IOC",
            "orderType": "Market",
            "orderFilter": "Order",
            "stopOrderType": "",
            "createType": "CreateByLiq" if force is Force.LIQUIDATION else "CreateByAdl_PassThrough",
        }
        self.floor.force(account, position, force, client_id="", words=words, charge=ZERO)

    def market(self, params: Params) -> Market:
        """The market a request names. Raises Refusal."""
        market = self.floor.market(kind_of(params), params.required("symbol"))
        if market is None:
            if kind_of(params) is Kind.SPOT:
                raise refused(170121, "Invalid symbol.")
            raise refused(10001, "params error: symbol invalid")
        return market

    def markets_in(self, params: Params) -> list[Market]:
        """The markets of a category, and of a symbol when one is named."""
        kind = {"spot": Kind.SPOT, "linear": Kind.SWAP}.get(params.required("category"))
        symbol = params.get("symbol") or None
        return [m for m in self.floor.markets.values() if m.kind is kind and symbol in (None, m.id)]

    def book_of(self, call: Call) -> Book:
        """The position an order is for, which must fit the account's mode. Raises Refusal."""
        book = BOOKS.get(call.params.get("positionIdx", "0"))
        if book is None or (book is Book.BOTH) == call.account.hedged:
            raise refused(10001, "position idx not match position mode")
        return book

    def spot_order(self, call: Call, market: Market) -> Order:
        """The spot order that was asked for. Raises Refusal."""
        params, side, type = call.params, side_of(call.params), type_of(call.params)
        price = params.required_amount("price") if type == "Limit" else None
        filter, trigger = params.get("orderFilter", "Order"), None
        quantity = params.required_amount("qty")
        in_quote = type == "Market" and params.get("marketUnit", "") == "quoteCoin"
        if type == "Market" and side is Side.BUY and not params.get("marketUnit"):
            in_quote = True
        if in_quote:
            quantity = quantity_for(market, side, quantity)
        stop = params.positive("triggerPrice")
        if filter != "Order":
            if stop is None:
                raise refused(170203, "Please enter the TP/SL price.")
            trigger = trigger_for(market, stop)
        check_spot(market, quantity, price, stop, in_quote=in_quote)
        order = self.order_of(call, market, side, quantity, price, type)
        order.trigger, order.locks = trigger, filter != "StopOrder"
        order.words |= {"orderFilter": filter, "marketUnit": params.get("marketUnit", "")}
        if trigger is not None:
            order.words["stopOrderType"] = "Stop" if filter == "StopOrder" else "tpslOrder"
        if in_quote:
            order.words["cost"] = params["qty"]
        return order

    def linear_order(self, call: Call, market: Market) -> Order:
        """The linear order that was asked for. Raises Refusal."""
        params, side, type = call.params, side_of(call.params), type_of(call.params)
        price = params.required_amount("price") if type == "Limit" else None
        reduces, book = params.flag("reduceOnly"), self.book_of(call)
        quantity = params.required_amount("qty")
        stop, direction = params.positive("triggerPrice"), params.get("triggerDirection")
        whole = not quantity and (reduces and params.flag("closeOnTrigger"))
        check_linear(market, quantity, price, stop, reduces=reduces, whole=whole)
        if reduces and (params.positive("takeProfit") or params.positive("stopLoss")):
            raise refused(110057, "Reduce-only orders cannot carry tp/sl")
        order = self.order_of(call, market, side, quantity, price, type)
        order.reduce_only, order.book, order.whole = reduces, book, whole and stop is not None
        if whole and stop is None:
            order.quantity = order.market.listing.max_quantity
        if stop is None and reduces and (reducible := call.account.reducible(order)):
            # What is more than the position is cut off.
            order.quantity = min(order.quantity, reducible)
        order.dies_with_position = reduces and stop is None
        order.words |= {"orderFilter": "Order", "closeOnTrigger": str(params.flag("closeOnTrigger"))}
        order.attached = self.attached_to(call, market, side)
        if stop is not None:
            if direction not in ("1", "2"):
                raise refused(10001, "params error: triggerDirection invalid")
            order.trigger, order.locks = Trigger(stop, direction == "1"), False
            order.on_mark = params.get("triggerBy") == "MarkPrice"
            order.words |= {
                "orderFilter": "StopOrder",
                "stopOrderType": "Stop",
                "triggerBy": params.get("triggerBy") or "LastPrice",
            }
        return order

    def order_of(
        self, call: Call, market: Market, side: Side, quantity: Decimal, price: Decimal | None, type: str
    ) -> Order:
        """What spot and linear orders have in common."""
        time_in_force = call.params.get("timeInForce") or ("GTC" if type == "Limit" else "IOC")
        if time_in_force not in ("GTC", "IOC", "FOK", "PostOnly"):
            raise refused(170115, "Invalid timeInForce.")
        if price is None:
            time_in_force = "IOC"
        return Order(
            market=market,
            client_id=call.params.get("orderLinkId", ""),
            side=side,
            quantity=quantity,
            price=price,
            stays=price is not None and time_in_force in ("GTC", "PostOnly"),
            post_only=time_in_force == "PostOnly",
            fill_or_kill=time_in_force == "FOK",
            fraction=call.conditions.fraction,
            visible=self.clock.milliseconds() + int(call.conditions.lag * 1000),
            words={"timeInForce": time_in_force, "orderType": type, "stopOrderType": ""},
        )

    def attached_to(self, call: Call, market: Market, side: Side) -> tuple[Attached, ...]:
        """The stop and the target that an order is to bring along. Raises Refusal."""
        params, whole = call.params, call.params.get("tpslMode", "Full") == "Full"
        reference = params.positive("price") or market.price
        found = []
        for name in ("takeProfit", "stopLoss"):
            price = params.positive(name)
            if price is None:
                continue
            check_tick(market, price)
            rising = (side is Side.BUY) == (name == "takeProfit")
            if Trigger(price, rising).is_reached_by(reference):
                relation = "higher" if rising else "lower"
                raise refused(10001, f"{name} should be {relation} than base_price:{plain(reference)}")
            found.append(Attached(Trigger(price, rising), whole, stop_words(name, whole=whole)))
        return tuple(found)

    def check_link_id(self, account: Account, market: Market, link_id: str) -> None:
        """A client id is good once, for ever. Raises Refusal."""
        if not link_id:
            return
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,36}", link_id):
            raise refused(10001, "params error: orderLinkId invalid")
        if account.known_as(link_id):
            if market.kind is Kind.SPOT:
                raise refused(170141, "Duplicate clientOrderId")
            raise refused(110072, "OrderLinkedID is duplicate")

    def those_named(self, call: Call, market: Market) -> list[Order]:
        """The orders a request names by its id or its client id. Raises Refusal."""
        id, link_id = call.params.get("orderId"), call.params.get("orderLinkId")
        if not id and not link_id:
            raise refused(10001, "params error: orderId or orderLinkId is required")
        orders = call.account.orders
        every = ([orders[id]] if id in orders else []) if id else call.account.known_as(link_id or "")
        return [order for order in every if order.market is market and self.floor.is_visible(order)]

    def rejected(self, order: Order, why: Why) -> Refusal:
        """Why the floor did not take an order, in Bybit's words."""
        kind = order.market.kind
        if why is Why.WOULD_TRIGGER and kind is Kind.SWAP and order.trigger is not None:
            price, now = plain(order.trigger.price), plain(order.market.price)
            if order.trigger.rising:
                return refused(110092, f"expect Rising, but trigger_price[{price}] <= current[{now}]")
            return refused(110093, f"expect Falling, but trigger_price[{price}] >= current[{now}]")
        return refused(*SAYINGS[kind, why])

    def _carry_out(self, request: WireRequest, conditions: Conditions, headers: dict[str, str]) -> Any:
        ip = request.ip
        if self.bans.seconds_left(self.clock, ip):
            raise Refusal(Reply({"retCode": 10018, "retMsg": "access too frequent"}, 403))
        if self.per_address.spend(self.clock, ip, 1) > self.per_address.budget:
            self.bans.ban(self.clock, ip)
            raise Refusal(Reply({"retCode": 10018, "retMsg": "access too frequent"}, 403))
        route = self.routes.get((request.method, request.path))
        if route is None:
            raise Refusal(Reply({"retCode": 404, "retMsg": "Not found"}, 404))
        params = Params(params_in(request.query, request.body), invalid, invalid)
        if not route.signed:
            return route.answer(Call(Account("", "", 0, {}), params, conditions))
        account = self._account(request)
        self._count(account, request.path, headers)
        if not account.can_trade and route.intent in (Intent.PLACE, Intent.CANCEL, Intent.SET):
            raise refused(10005, "Permission denied, please check your API key permissions.")
        return route.answer(Call(account, params, conditions))

    def _account(self, request: WireRequest) -> Account:
        """Who asks, proven by key, time and signature. Raises Refusal."""
        headers = request.headers
        key, stamp = headers.get("X-BAPI-API-KEY", ""), headers.get("X-BAPI-TIMESTAMP", "")
        window = headers.get("X-BAPI-RECV-WINDOW", "5000")
        account = self.floor.accounts.get(key)
        if account is None:
            raise refused(10003, "API key is invalid.")
        if not stamp.isdigit() or not window.isdigit():
            raise refused(10001, "params error: timestamp invalid")
        now = request.judged_at or self.clock.milliseconds()
        if not now - int(window) <= int(stamp) < now + AHEAD:
            raise refused(
                10002,
                "invalid request, please check your server timestamp or recv_window param. "
                f"req_timestamp[{stamp}],server_timestamp[{now}],recv_window[{window}]",
            )
        sent = request.body if request.method == "POST" else request.query
        payload = stamp + key + headers.get("X-BAPI-RECV-WINDOW", "") + sent
        if not is_signed_by(account.secret, payload, headers.get("X-BAPI-SIGN", "")):
            raise refused(10004, f"error sign! origin_string[{payload}]")
        return account

    def _count(self, account: Account, path: str, headers: dict[str, str]) -> None:
        used = self.per_endpoint.spend(self.clock, f"{account.key} {path}", 1)
        left = max(self.per_endpoint.budget - used, 0)
        reset = (self.clock.milliseconds() // 1000 + 1) * 1000
        headers["X-Bapi-Limit"] = str(self.per_endpoint.budget)
        headers["X-Bapi-Limit-Status"] = str(left)
        headers["X-Bapi-Limit-Reset-Timestamp"] = str(reset)
        if used > self.per_endpoint.budget:
            raise refused(10006, "Too many visits. Exceeded the API Rate Limit.")


def refused(code: int, message: str) -> Refusal:
    """No, in Bybit's words: with status 200."""
    return Refusal(Reply({"retCode": code, "retMsg": message, "result": {}, "retExtInfo": {}}))


def invalid(name: str) -> Refusal:
    """A parameter is missing or no number."""
    return refused(10001, f"params error: {name} invalid")


def params_in(query: str, body: str) -> dict[str, str]:
    """The parameters of a request, from its query or its JSON body, as text."""
    found = parsed(query)
    if body:
        with suppress(ValueError):
            sent = json.loads(body)
            found |= {
                name: str(value).lower() if isinstance(value, bool) else str(value)
                for name, value in sent.items()
                if value is not None
            }
    return found


def order_id(number: int, market: Market) -> str:
    """Digits on spot, a UUID on contracts."""
    if market.kind is Kind.SPOT:
        return str(1_523_347_543_495_541_248 + number)
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def kind_of(params: Params) -> Kind:
    """The category a request is about. Raises Refusal."""
    category = params.required("category")
    if category not in ("spot", "linear"):
        raise refused(10001, "params error: category invalid")
    return Kind.SPOT if category == "spot" else Kind.SWAP


def side_of(params: Params) -> Side:
    """Buy or Sell. Raises Refusal."""
    side = params.required("side")
    if side not in ("Buy", "Sell"):
        raise refused(10001, "params error: side invalid")
    return Side(side.lower())


def type_of(params: Params) -> str:
    """Market or Limit. Raises Refusal."""
    type = params.required("orderType")
    if type not in ("Market", "Limit"):
        raise refused(10001, "params error: orderType invalid")
    return type


def check_tick(market: Market, price: Decimal) -> None:
    """Hold a price against the tick. Raises Refusal."""
    if floor_to_step(price, market.listing.tick) != price:
        raise refused(10001, "params error: price invalid")


def check_spot(
    market: Market, quantity: Decimal, price: Decimal | None, stop: Decimal | None, *, in_quote: bool
) -> None:
    """Hold a spot order against the instrument's rules. Raises Refusal."""
    listing = market.listing
    for each in (price, stop):
        if each is not None and floor_to_step(each, listing.tick) != each:
            raise refused(170134, "Order price has too many decimals.")
    if floor_to_step(quantity, listing.step) != quantity:
        raise refused(170137, "Order quantity has too many decimals.")
    if quantity < listing.min_quantity and not in_quote:
        raise refused(170136, "Order quantity exceeded lower limit.")
    if quantity > (listing.max_market_quantity if price is None else listing.max_quantity):
        raise refused(170135, "Order quantity exceeded upper limit.")
    if quantity * (price or stop or market.price) < listing.min_notional - (
        listing.tick if in_quote else ZERO
    ):
        raise refused(170140, "Order value exceeded lower limit.")


def check_linear(
    market: Market,
    quantity: Decimal,
    price: Decimal | None,
    stop: Decimal | None,
    *,
    reduces: bool,
    whole: bool,
) -> None:
    """Hold a linear order against the instrument's rules. Raises Refusal."""
    listing = market.listing
    for each in (price, stop):
        if each is not None:
            check_tick(market, each)
    if whole:
        return
    if quantity < listing.min_quantity or floor_to_step(quantity, listing.step) != quantity:
        raise refused(10001, "Qty invalid")
    if quantity > (listing.max_market_quantity if price is None else listing.max_quantity):
        raise refused(10001, "The number of contracts exceeds maximum limit allowed: too large")
    if not reduces and quantity * (price or stop or market.price) < listing.min_notional:
        raise refused(110094, f"Order does not meet minimum order value {plain(listing.min_notional)}USDT")


def maintenance_of(position: Position) -> Decimal:
    """The maintenance margin of a position."""
    return grains(abs(position.notional) * position.market.listing.maintenance)


def stop_words(name: str, *, whole: bool) -> Mapping[str, str]:
    """What an attached stop or target is called."""
    kind = "TakeProfit" if name == "takeProfit" else "StopLoss"
    return {
        "timeInForce": "IOC",
        "orderType": "Market",
        "orderFilter": "StopOrder",
        "stopOrderType": kind if whole else f"Partial{kind}",
        "tpslMode": "Full" if whole else "Partial",
        "closeOnTrigger": "True",
        "createType": f"CreateBy{'' if whole else 'Partial'}{kind}",
    }


def named(order: Order) -> dict[str, str]:
    """How an order is named."""
    return {"orderId": order.id, "orderLinkId": order.client_id}


def status_word(order: Order) -> str:
    """Bybit's word for where an order stands."""
    if order.is_live and order.filled:
        return "PartiallyFilled"
    if order.status is Status.EXPIRED and order.dies_with_position and not order.triggered and order.trigger:
        return "Deactivated"
    if order.status in (Status.CANCELLED, Status.EXPIRED) and order.filled and order.market.kind is Kind.SPOT:
        return "PartiallyFilledCanceled"
    if order.status is Status.CANCELLED and order.trigger is not None and not order.triggered:
        return "Deactivated" if order.market.kind is Kind.SWAP else "Cancelled"
    return WORDS[order.status]


def order_row(order: Order) -> dict[str, Any]:
    """What is said of an order."""
    market, words, trigger = order.market, order.words, order.trigger
    left = order.remaining if order.is_live else ZERO
    attached = {
        each.words["stopOrderType"].removeprefix("Partial"): each.trigger.price for each in order.attached
    }
    fees = {currency: plain(amount) for currency, amount in order.fees.items()}
    direction = 0 if trigger is None else 1 if trigger.rising else 2
    return {
        "orderId": order.id,
        "orderLinkId": order.client_id,
        "blockTradeId": "",
        "symbol": market.id,
        "price": plain(order.price or ZERO),
        "qty": words.get("cost", plain(order.quantity)),
        "side": order.side.name.capitalize(),
        "isLeverage": "0" if market.kind is Kind.SPOT else "",
        "positionIdx": INDEXES[order.book],
        "orderStatus": status_word(order),
        "createType": words.get("createType", "CreateByUser"),
        "cancelType": cancel_word(order),
        "rejectReason": "EC_NoError" if order.status is not Status.REJECTED else "EC_NoEnoughQtyToFill",
        "avgPrice": plain(order.average.quantize(Decimal("0.0000000001"))) if order.filled else "",
        "leavesQty": plain(left),
        "leavesValue": plain(left * (order.price or ZERO)),
        "cumExecQty": plain(order.filled),
        "cumExecValue": plain(order.value),
        "cumExecFee": plain(sum(order.fees.values(), ZERO)),
        "cumFeeDetail": fees,
        "timeInForce": words["timeInForce"],
        "orderType": words["orderType"],
        "stopOrderType": words["stopOrderType"],
        "marketUnit": words.get("marketUnit", ""),
        "orderIv": "",
        "triggerPrice": "" if trigger is None else plain(trigger.price),
        "takeProfit": plain(attached["TakeProfit"]) if "TakeProfit" in attached else "",
        "stopLoss": plain(attached["StopLoss"]) if "StopLoss" in attached else "",
        "tpslMode": words.get("tpslMode", ""),
        "tpTriggerBy": "",
        "slTriggerBy": "",
        "tpLimitPrice": "0",
        "slLimitPrice": "0",
        "triggerDirection": direction,
        "triggerBy": "" if trigger is None else words.get("triggerBy") or "LastPrice",
        "lastPriceOnCreated": "",
        "reduceOnly": order.reduce_only,
        "closeOnTrigger": words.get("closeOnTrigger") == "True",
        "placeType": "",
        "smpType": "None",
        "smpGroup": 0,
        "smpOrderId": "",
        "createdTime": str(order.created),
        "updatedTime": str(order.updated),
    }


def cancel_word(order: Order) -> str:
    """Why an order was taken back."""
    if order.status is Status.CANCELLED:
        return "CancelByUser"
    if order.status is Status.EXPIRED and order.dies_with_position:
        return "CancelByTpSlTsClear" if order.trigger is not None else "CancelByReduceOnly"
    return "UNKNOWN"


def exec_type(fill: Fill) -> str:
    """Bybit's word for why a trade happened."""
    forced = {Force.LIQUIDATION: "BustTrade", Force.ADL: "AdlTrade"}
    return forced[fill.order.force] if fill.order.force else "Trade"


def execution_row(fill: Fill) -> dict[str, Any]:
    """What is said of a fill."""
    order, value = fill.order, fill.price * fill.quantity
    rate = fill.fee / (fill.quantity if fill.fee_currency == order.market.listing.base else value)
    return {
        "symbol": order.market.id,
        **named(order),
        "side": order.side.name.capitalize(),
        "orderPrice": plain(order.price or ZERO),
        "orderQty": plain(order.quantity),
        "leavesQty": plain(order.remaining),
        "createType": order.words.get("createType", "CreateByUser"),
        "orderType": order.words["orderType"],
        "stopOrderType": order.words["stopOrderType"] or "UNKNOWN",
        "execFee": plain(fill.fee),
        "execId": str(uuid.uuid5(uuid.NAMESPACE_OID, f"fill {fill.number}")),
        "execPrice": plain(fill.price),
        "execQty": plain(fill.quantity),
        "execType": exec_type(fill),
        "execValue": plain(value),
        "execTime": str(fill.time),
        "feeCurrency": fill.fee_currency,
        "isMaker": fill.maker,
        "feeRate": plain(rate.quantize(Decimal("0.00000001"))),
        "markPrice": plain(order.market.price),
        "closedSize": "",
        "blockTradeId": "",
        "seq": fill.number,
    }


def settlement_row(settled: Settlement) -> dict[str, Any]:
    """What is said of funding: above zero was received."""
    market, quantity = settled.position.market, settled.quantity
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"settlement {settled.number}")),
        "symbol": market.id,
        "side": "Buy" if quantity > 0 else "Sell",
        "funding": plain(settled.amount),
        "orderLinkId": "",
        "orderId": str(settled.number),
        "fee": "0",
        "change": plain(settled.amount),
        "cashFlow": "0",
        "transactionTime": str(settled.time),
        "type": "SETTLEMENT",
        "feeRate": plain(settled.rate if quantity > 0 else -settled.rate),
        "bonusChange": "",
        "size": plain(quantity),
        "qty": plain(abs(quantity)),
        "cashBalance": "0",
        "currency": market.listing.quote,
        "category": "linear",
        "tradePrice": plain(market.mark),
        "tradeId": str(settled.number),
    }


def coin_row(account: Account, currency: str) -> dict[str, Any]:
    """One coin of the wallet."""
    wallet, unrealized = account.balances[currency], account.unrealized(currency)
    return {
        "coin": currency,
        "equity": plain(wallet + unrealized),
        "usdValue": plain(wallet),
        "walletBalance": plain(wallet),
        "free": "",
        "locked": plain(account.locked(currency)),
        "spotHedgingQty": "0",
        "borrowAmount": "0.0",
        "availableToWithdraw": "",
        "accruedInterest": "0",
        "totalOrderIM": plain(account.order_margin(currency)),
        "totalPositionIM": plain(account.position_margin(currency)),
        "totalPositionMM": "0",
        "unrealisedPnl": plain(unrealized),
        "cumRealisedPnl": "0",
        "bonus": "0",
        "marginCollateral": True,
        "collateralSwitch": True,
        "availableToBorrow": "",
    }


def spot_info(market: Market) -> dict[str, Any]:
    """One spot instrument."""
    listing = market.listing
    return {
        "symbol": market.id,
        "baseCoin": listing.base,
        "quoteCoin": listing.quote,
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "none",
        "lotSizeFilter": {
            "basePrecision": plain(listing.step),
            "quotePrecision": "0.00000001",
            "minOrderQty": plain(listing.min_quantity),
            "maxOrderQty": plain(listing.max_quantity),
            "minOrderAmt": plain(listing.min_notional),
            "maxOrderAmt": "4000000",
            "maxLimitOrderQty": plain(listing.max_quantity),
            "maxMarketOrderQty": plain(listing.max_market_quantity),
        },
        "priceFilter": {"tickSize": plain(listing.tick)},
        "riskParameters": {"priceLimitRatioX": "0.5", "priceLimitRatioY": "0.5"},
    }


def linear_info(market: Market) -> dict[str, Any]:
    """One linear contract."""
    listing = market.listing
    return {
        "symbol": market.id,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": listing.base,
        "quoteCoin": listing.quote,
        "settleCoin": listing.quote,
        "launchTime": "1584230400000",
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(-int(listing.tick.as_tuple().exponent)),
        "leverageFilter": {
            "minLeverage": "1",
            "maxLeverage": plain(listing.max_leverage),
            "leverageStep": "0.01",
        },
        "priceFilter": {
            "minPrice": plain(listing.tick),
            "maxPrice": "1999999.80",
            "tickSize": plain(listing.tick),
        },
        "lotSizeFilter": {
            "maxOrderQty": plain(listing.max_quantity),
            "maxMktOrderQty": plain(listing.max_market_quantity),
            "minOrderQty": plain(listing.min_quantity),
            "qtyStep": plain(listing.step),
            "postOnlyMaxOrderQty": plain(listing.max_quantity),
            "minNotionalValue": plain(listing.min_notional),
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "copyTrading": "none",
        "upperFundingRate": "0.00375",
        "lowerFundingRate": "-0.00375",
    }
