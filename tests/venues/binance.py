"""What Binance's APIs have in common: keys, signatures, time, weights, bans, errors, and how numbers look."""

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from app.domain.money import ZERO, exact, floor_to_step
from app.domain.orders import Side
from tests.venues.accounts import Account
from tests.venues.clock import Clock
from tests.venues.floor import Floor
from tests.venues.limits import Bans, Window
from tests.venues.orders import Fill, Kind, Market, Order, Status
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

UNLIMITED = 10**9
RECV_WINDOW = 5000
LONGEST_RECV_WINDOW = 60_000
AHEAD = 1000
"""How far a request may run ahead of the venue's clock, in milliseconds."""

CLIENT_IDS = ("newClientOrderId", "origClientOrderId", "clientAlgoId", "listClientOrderId")

WORDS = {
    Status.UNTRIGGERED: "NEW",
    Status.OPEN: "NEW",
    Status.FILLED: "FILLED",
    Status.CANCELLED: "CANCELED",
    Status.EXPIRED: "EXPIRED",
    Status.REJECTED: "REJECTED",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in."""

    account: Account
    params: Params
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint: what it is for, who answers it, what it weighs, and whether it needs a signature."""

    intent: Intent
    answer: Callable[[Call], Any]
    weight: int = 1
    signed: bool = True


@dataclass
class BinanceApi:
    """The edge of one Binance API. Budgets are unlimited until a test sets them."""

    clock: Clock
    floor: Floor
    kind: Kind
    hosts: frozenset[str]
    client_id_shape: re.Pattern[str]
    weight: Window = field(default_factory=lambda: Window(UNLIMITED, 60))
    order_count: Window = field(default_factory=lambda: Window(UNLIMITED, 10))
    bans: Bans = field(default_factory=Bans)
    routes: dict[tuple[str, str], Route] = field(default_factory=dict)

    def describe(self, host: str, method: str, path: str, query: str, body: str) -> tuple[Intent, str | None]:
        """What a request is for, and which client order id it names."""
        del host
        route = self.routes.get((method, path))
        params = parsed(query) | parsed(body)
        named = next((params[name] for name in CLIENT_IDS if name in params), None)
        return route.intent if route else Intent.PUBLIC, named

    @exact
    def answer(self, request: WireRequest, conditions: Conditions) -> Reply:
        """Carry a request out."""
        self.floor.expire()
        headers: dict[str, str] = {}
        try:
            payload = self._carry_out(request, conditions, headers)
        except Refusal as refusal:
            reply = refusal.reply
            return Reply(reply.payload, reply.status, {**headers, **reply.headers})
        return Reply(payload, headers=headers)

    def market(self, params: Params) -> Market:
        """The market a request names. Raises Refusal."""
        market = self.floor.market(self.kind, params.required("symbol"))
        if market is None:
            raise refused(-1121, "Invalid symbol.")
        return market

    def client_id(self, params: Params, name: str) -> str:
        """The client order id of a new order, made up when it has none. Raises Refusal."""
        if name not in params:
            return secrets.token_hex(11)
        given = params[name]
        if not self.client_id_shape.fullmatch(given):
            shape = self.client_id_shape.pattern
            raise refused(
                -1100, f"Illegal characters found in parameter '{name}'; legal range is '^{shape}$'."
            )
        return given

    def found(self, account: Account, market: Market, id: str | None, client_id: str | None) -> Order | None:
        """An order that queries show: by its id, or the newest under a client id."""
        known = [account.orders[id]] if id in account.orders else []
        candidates = known if id else account.known_as(client_id or "")
        shown = [order for order in candidates if order.market is market and self.floor.is_visible(order)]
        return shown[-1] if shown else None

    def named(self, params: Params, *, id_name: str, client_name: str) -> tuple[str | None, str | None]:
        """The id or client id a request names its order by. Raises Refusal."""
        id, client_id = params.get(id_name), params.get(client_name)
        if not id and not client_id:
            raise refused(
                -1102, f"Param '{client_name}' or '{id_name}' must be sent, but both were empty/null!"
            )
        if id and not id.isdigit():
            raise illegal(id_name)
        return id, client_id

    def shown(self, orders: Iterable[Order], params: Params) -> list[Order]:
        """Those of the orders that queries show, of the market, time and number that were asked for."""
        market = self.market(params) if "symbol" in params else None
        since, until = params.integer("startTime") or 0, params.integer("endTime")
        first, limit = params.integer("orderId") or 0, params.integer("limit") or 500
        found = [
            order
            for order in orders
            if self.floor.is_visible(order)
            and (market is None or order.market is market)
            and order.created >= since
            and (until is None or order.created <= until)
            and order.number >= first
        ]
        return found[-limit:]

    def trades(self, call: Call) -> list[Fill]:
        """The fills that were asked for."""
        market, params = self.market(call.params), call.params
        since, until = params.integer("startTime") or 0, params.integer("endTime")
        order_id, first = params.get("orderId"), params.integer("fromId") or 0
        found = [
            fill
            for fill in call.account.fills
            if fill.order.market is market
            and self.floor.is_visible(fill.order)
            and fill.time >= since
            and (until is None or fill.time <= until)
            and (order_id is None or fill.order.id == order_id)
            and fill.number >= first
        ]
        return found[-(params.integer("limit") or 500) :]

    def tickers(self, call: Call, ticker: Callable[[Market], dict[str, Any]]) -> Any:
        """One ticker, some, or all."""
        if "symbol" in call.params:
            return ticker(self.market(call.params))
        wanted = set(re.findall(r"[A-Z0-9]+", call.params.get("symbols", "")))
        known = {market.id: market for (kind, _), market in self.floor.markets.items() if kind is self.kind}
        if wanted - known.keys():
            raise refused(-1121, "Invalid symbol.")
        return [ticker(market) for id, market in known.items() if not wanted or id in wanted]

    def klines(self, call: Call) -> list[list[Any]]:
        """One-minute candles, the present one among them; a minute without a move stands at the close before."""
        market, now = self.market(call.params), self.clock.milliseconds() // 60_000
        if call.params.get("interval") != "1m":
            raise refused(-1120, "Invalid interval.")
        start, limit = call.params.integer("startTime"), call.params.integer("limit") or 500
        first = now - limit + 1 if start is None else -(-start // 60_000)
        before = [minute for minute in market.minutes if minute < first]
        close = market.minutes[max(before)][3] if before else market.listing.price
        bars = []
        for minute in range(first, min(now, first + limit - 1) + 1):
            bar = market.minutes.get(minute, (close,) * 4)
            close = bar[3]
            opened = minute * 60_000
            bars.append(
                [opened, *(plain(price, 8) for price in bar), "1.0", opened + 59_999, "1.0", 1, "0", "0", "0"]
            )
        return bars

    def book_ticker(self, market: Market) -> dict[str, Any]:
        """Best bid and ask; spot says no time, by which ccxt tells the two apart."""
        return {
            "symbol": market.id,
            "bidPrice": plain(market.bid, 8),
            "bidQty": "1000.00000000",
            "askPrice": plain(market.ask, 8),
            "askQty": "1000.00000000",
        }

    def day_ticker(self, market: Market) -> dict[str, Any]:
        """The last day, on which nothing happened."""
        last, now = plain(market.price, 8), self.clock.milliseconds()
        prices = ("weightedAvgPrice", "lastPrice", "openPrice", "highPrice", "lowPrice", "prevClosePrice")
        return {
            "symbol": market.id,
            "priceChange": "0",
            "priceChangePercent": "0",
            **dict.fromkeys(prices, last),
            "volume": "1000",
            "quoteVolume": plain(market.price * 1000),
            "openTime": now - 86_400_000,
            "closeTime": now,
            "count": 1,
        }

    def depth(self, call: Call) -> dict[str, Any]:
        """An order book of one level."""
        market = self.market(call.params)
        return {
            "lastUpdateId": 1,
            "bids": [[plain(market.bid, 8), "1000.00000000"]],
            "asks": [[plain(market.ask, 8), "1000.00000000"]],
        }

    def _carry_out(self, request: WireRequest, conditions: Conditions, headers: dict[str, str]) -> Any:
        self._let_in(request.ip)
        route = self.routes.get((request.method, request.path))
        if route is None:
            raise refused(-5000, f"Path {request.path}, Method {request.method} is invalid", 404)
        self._weigh(request.ip, route.weight, headers)
        values = parsed(request.query) | parsed(request.body)
        params = Params(values, missing, illegal)
        if not route.signed:
            return route.answer(Call(Account("", "", 0, {}), params, conditions))
        account = self._account(request, params)
        if route.intent is Intent.PLACE:
            self._count_order(account, headers)
        return route.answer(Call(account, params, conditions))

    def _let_in(self, ip: str) -> None:
        if left := self.bans.seconds_left(self.clock, ip):
            raise refused(
                -1003,
                f"Way too much request weight used; IP banned until {self.bans.until[ip]}. "
                "Please use WebSocket Streams for live updates to avoid bans.",
                418,
                {"Retry-After": str(left)},
            )

    def _weigh(self, ip: str, weight: int, headers: dict[str, str]) -> None:
        used = self.weight.spend(self.clock, ip, weight)
        headers["X-MBX-USED-WEIGHT-1M"] = str(used)
        if used > self.weight.budget:
            self.bans.warn(self.clock, ip)
            self._let_in(ip)
            raise refused(
                -1003,
                f"Too much request weight used; current limit is {self.weight.budget} request weight per "
                "1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API.",
                429,
                {"Retry-After": str(self.weight.seconds_left(self.clock))},
            )

    def _count_order(self, account: Account, headers: dict[str, str]) -> None:
        used = self.order_count.spend(self.clock, account.key, 1)
        headers["X-MBX-ORDER-COUNT-10S"] = str(used)
        if used > self.order_count.budget:
            raise refused(
                -1015,
                f"Too many new orders; current limit is {self.order_count.budget} orders per 10 SECOND.",
                429,
                {"Retry-After": str(self.order_count.seconds_left(self.clock))},
            )

    def _account(self, request: WireRequest, params: Params) -> Account:
        """Who asks, proven by key, signature and time. Raises Refusal."""
        key = request.headers.get("X-MBX-APIKEY", "")
        if not re.fullmatch(r"[A-Za-z0-9]{64}", key):
            raise refused(-2014, "API-key format invalid.", 401)
        account = self.floor.accounts.get(key)
        if account is None or not (account.can_trade or request.intent is not Intent.PLACE):
            raise refused(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        claimed = params.required("signature")
        sent = request.query + request.body
        payload = re.sub(rf"&?signature={re.escape(claimed)}", "", sent, count=1)
        if not is_signed_by(account.secret, payload, claimed):
            raise refused(-1022, "Signature for this request is not valid.")
        self._check_time(request, params)
        return account

    def _check_time(self, request: WireRequest, params: Params) -> None:
        window = params.integer("recvWindow")
        window = RECV_WINDOW if window is None else window
        if window > LONGEST_RECV_WINDOW:
            raise refused(-1131, "recvWindow must be less than 60000.")
        now = request.judged_at or self.clock.milliseconds()
        stamped = int(params.required_amount("timestamp"))
        if stamped >= now + AHEAD:
            raise refused(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now - stamped > window:
            raise refused(-1021, "Timestamp for this request is outside of the recvWindow.")


def refused(code: int, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> Refusal:
    """No, in Binance's words."""
    return Refusal(Reply({"code": code, "msg": message}, status, headers or {}))


def missing(name: str) -> Refusal:
    """A parameter is not there."""
    return refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def illegal(name: str) -> Refusal:
    """A parameter is no number."""
    return refused(
        -1100,
        f"Illegal characters found in parameter '{name}'; legal range is '^([0-9]{{1,20}})(\\.[0-9]{{1,20}})?$'.",
    )


def side_of(params: Params) -> Side:
    """BUY or SELL. Raises Refusal."""
    side = params.required("side")
    if side not in ("BUY", "SELL"):
        raise refused(-1117, "Invalid side.")
    return Side(side.lower())


def is_on(amount: Decimal, step: Decimal) -> bool:
    """Whether an amount is a multiple of a step."""
    return floor_to_step(amount, step) == amount


def status_word(order: Order) -> str:
    """Binance's word for where an order stands."""
    return "PARTIALLY_FILLED" if order.is_live and order.filled else WORDS[order.status]


def filters_of(market: Market) -> list[dict[str, Any]]:
    """The filters that spot and futures write alike."""
    listing = market.listing
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": plain(listing.tick),
            "maxPrice": "1000000.00",
            "tickSize": plain(listing.tick),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": plain(listing.min_quantity),
            "maxQty": plain(listing.max_quantity),
            "stepSize": plain(listing.step),
        },
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": plain(listing.min_quantity if listing.kind is Kind.SWAP else ZERO),
            "maxQty": plain(listing.max_market_quantity),
            "stepSize": plain(listing.step if listing.kind is Kind.SWAP else ZERO),
        },
    ]
