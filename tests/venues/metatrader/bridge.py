"""What both bridges answer alike: sessions, the account, symbols, quotes, and the calls that trade."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from app.domain.money import ZERO, exact
from app.domain.orders import Side
from tests.venues.faults import Page
from tests.venues.metatrader.accounts import (
    OPERATIONS,
    Deal,
    Login,
    Operation,
    Order,
    Platform,
    Position,
)
from tests.venues.metatrader.instruments import Market
from tests.venues.metatrader.server import Rejection, TradeServer, Why, Wish
from tests.venues.metatrader.sessions import Session, Sessions
from tests.venues.metatrader.wire import (
    EMPTY_TIME,
    BridgeError,
    MalformedParameter,
    Query,
    error_page,
    page,
    written,
)
from tests.venues.wire import CALM, Conditions, Intent, WireRequest

Row = dict[str, Any]

TRADING = frozenset({Intent.PLACE, Intent.CANCEL, Intent.LEAVE, Intent.MODIFY})


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its parameters, the session it names, and what is out of the ordinary for it."""

    query: Query
    session: Session | None = None
    conditions: Conditions = CALM

    @property
    def login(self) -> Login:
        """The account of the session."""
        assert self.session is not None
        return self.session.login


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path is for, and who answers it."""

    intent: Intent
    answer: Callable[[Call], Any]
    signed: bool = True
    """Whether it takes a session's token as `id`."""


class Bridge(ABC):
    """One REST bridge of one platform, in front of one broker."""

    platform: Platform
    closed_orders_limit: int
    quote_path: str
    magic_name: str

    def __init__(self, server: TradeServer) -> None:
        self.server = server
        self.sessions = Sessions(server.clock)
        self.url = ""
        self.api_key: str | None = None
        """What the ApiKey header must say; None lets everybody in."""
        self.has_safe_twins = True
        """Whether OrderSendSafe, OrderModifySafe and OrderCloseSafe exist."""
        self.lacks: set[str] = set()
        """Other requests that this bridge has not, in lower case."""
        self.pascal_case = False
        """Whether names in answers begin with capitals, as those of some resellers do."""
        self.symbols_shape = "object"
        """How /Symbols answers on MT5: `object`, `nested`, or `names`."""
        self.history_lag = 0.0
        """For how many seconds what has happened stays out of histories."""
        self.partial_histories = 0
        """How many histories come with half of their rows first."""
        self.check_reconnects = False
        """Whether CheckConnect opens a broken line again, and says that all is well."""
        self.zero_quotes_when_closed = True
        self.leaks_passwords = False
        """Whether error messages name login and password, as the containers' own logs do."""
        self.max_failed_logins: int | None = None
        """After how many wrong passwords the bridge wants a pause."""
        self.misuse: list[str] = []
        """Calls that a bridge swallows and that nobody can have meant."""
        self.lapses: list[str] = []
        """Calls that a bridge understands, and that a careful client never makes."""
        self.bared: list[int] = []
        """Positions that a call has taken the stop off."""
        self.failed_logins = 0
        self._request_ids = count(1)
        self._endpoints = {name.lower(): endpoint for name, endpoint in self._common().items()}
        self._endpoints.update({name.lower(): endpoint for name, endpoint in self._own().items()})

    @property
    def is_off_hours(self) -> bool:
        """Whether every market of the broker is closed."""
        return not any(market.is_open for market in self.server.markets.values())

    def describe(self, path: str, query: str) -> tuple[Intent, str | None]:
        """What a call is for, and the comment of the order it places, or else its magic number."""
        endpoint = self._endpoint(path)
        read = Query(query)
        named = read.text("comment") or read.text(self.magic_name) or None
        return (Intent.PUBLIC if endpoint is None else endpoint.intent), named

    def answer(self, request: WireRequest, conditions: Conditions) -> Page:
        """Carry a call out; what is refused is answered too."""
        endpoint = self._endpoint(request.path)
        if endpoint is None:
            return Page(404, "", "text/plain")
        if self.api_key is not None and request.headers.get("ApiKey") != self.api_key:
            return Page(401, "Unauthorized", "text/plain")
        if request.method != "GET":
            return Page(405, "", "text/plain")
        query = Query(request.query)
        try:
            session = self._session(query) if endpoint.signed else None
            call = Call(query, session, conditions)
            if endpoint.intent in TRADING:
                self._check_trading(call)
            said = endpoint.answer(call)
        except BridgeError as error:
            return error_page(self._leaking(error, query), pascal_case=self.pascal_case)
        except Rejection as rejection:
            no = BridgeError(rejection.why.code(self.platform), rejection.why.words)
            return error_page(self._leaking(no, query), pascal_case=self.pascal_case)
        except MalformedParameter as malformed:
            problem = {"title": "One or more validation errors occurred.", "status": 400, "errors": {}}
            return Page(
                400, written({**problem, "errors": {str(malformed): ["not valid"]}}), "application/json"
            )
        return page(said, request.headers.get("Accept", ""), pascal_case=self.pascal_case)

    @abstractmethod
    def _own(self) -> dict[str, Endpoint]:
        """The endpoints of this platform alone."""

    @abstractmethod
    def opened_row(self, login: Login, position: Position) -> Row:
        """An open position as it is listed."""

    @abstractmethod
    def pending_row(self, login: Login, order: Order) -> Row:
        """A pending order as it is listed."""

    @abstractmethod
    def sent_row(self, login: Login, order: Order) -> Row:
        """The answer to an order that was accepted."""

    @abstractmethod
    def closed_row(self, login: Login, position: Position, deal: Deal) -> Row:
        """The answer to a position that was closed, or a part of it."""

    @abstractmethod
    def history_rows(self, login: Login, since: datetime, until: datetime) -> list[Row]:
        """What has ended between two moments, as it is listed."""

    @abstractmethod
    def symbol_params(self, login: Login, market: Market) -> Row:
        """The terms of a symbol."""

    @abstractmethod
    def summary(self, login: Login, *, investor: bool) -> Row:
        """The account's figures. Raises BridgeError."""

    def _common(self) -> dict[str, Endpoint]:
        safe = {
            "OrderSend": Endpoint(Intent.PLACE, self._order_send),
            "OrderModify": Endpoint(Intent.MODIFY, self._order_modify),
            "OrderClose": Endpoint(Intent.LEAVE, self._order_close),
        }
        return {
            "Connect": Endpoint(Intent.SESSION, self._connect, signed=False),
            "ConnectEx": Endpoint(Intent.SESSION, self._connect_ex, signed=False),
            "ConnectByToken": Endpoint(Intent.SESSION, self._connect_by_token, signed=False),
            "CheckConnect": Endpoint(Intent.SESSION, self._check_connect),
            "ConnectionStatus": Endpoint(Intent.SESSION, self._connection_status),
            "Disconnect": Endpoint(Intent.SESSION, self._disconnect),
            "Ping": Endpoint(Intent.PUBLIC, lambda _: "OK", signed=False),
            "Health": Endpoint(Intent.PUBLIC, lambda _: "Healthy", signed=False),
            "Version": Endpoint(Intent.PUBLIC, lambda _: "2026.09.10", signed=False),
            "Search": Endpoint(Intent.PUBLIC, self._search, signed=False),
            "ServerTimezone": Endpoint(Intent.PUBLIC, self._server_timezone),
            "AccountSummary": Endpoint(
                Intent.ACCOUNT, lambda call: self.summary(call.login, investor=is_investor(call))
            ),
            "SymbolList": Endpoint(Intent.PUBLIC, lambda _: list(self.server.markets)),
            "SymbolParams": Endpoint(Intent.PUBLIC, self._symbol_params),
            "SymbolParamsMany": Endpoint(Intent.PUBLIC, self._symbol_params_many),
            self.quote_path: Endpoint(Intent.PUBLIC, self._quote),
            "GetQuoteMany": Endpoint(Intent.PUBLIC, self._quotes),
            "TickValueWithSize": Endpoint(Intent.PUBLIC, self._tick_values),
            "OpenedOrders": Endpoint(Intent.LOOK, lambda call: self._opened(call.login)),
            "OpenedOrder": Endpoint(Intent.LOOK, self._opened_one),
            "ClosedOrders": Endpoint(Intent.LOOK, self._closed_orders),
            "OrderHistoryPagination": Endpoint(Intent.LOOK, self._history_page),
            **safe,
            **{f"{name}Safe": endpoint for name, endpoint in safe.items()},
        }

    def _endpoint(self, path: str) -> Endpoint | None:
        name = path.lstrip("/").lower()
        if name.endswith("safe") and not self.has_safe_twins:
            return None
        return None if name in self.lacks else self._endpoints.get(name)

    def _session(self, query: Query) -> Session:
        token = query.required("id")
        session = self.sessions.find(token)
        if session is None:
            raise BridgeError("INVALID_TOKEN", f"Client with id {token} not found")
        return session

    def _check_trading(self, call: Call) -> None:
        self.check_line(call.login)
        if is_investor(call):
            code = "TRADE_DISABLED" if self.platform is Platform.MT5 else "NOT_ENOUGH_RIGHTS"
            raise BridgeError(code, "Investor mode")

    def check_line(self, login: Login) -> None:
        """Whether the broker can be reached for this account. Raises BridgeError."""
        if not login.is_reachable:
            raise BridgeError("NO_CONNECTION", f"Not connected (:{login.user})")

    def _leaking(self, error: BridgeError, query: Query) -> BridgeError:
        session = self.sessions.find(query.text("id"))
        if not self.leaks_passwords or session is None:
            return error
        login = session.login
        words = f"{error.message} ({login.user} {login.password} {self.server.access[0]})"
        return BridgeError(error.code, words)

    def _connect(self, call: Call) -> str:
        host, port = call.query.required("host"), call.query.text("port") or "443"
        if f"{host}:{port}" not in self.server.access:
            raise BridgeError("CONNECT_ERROR", f"Cannot connect to {host}:{port}")
        return self._log_in(call)

    def _connect_ex(self, call: Call) -> str:
        name = call.query.required("server")
        if name != self.server.name:
            terminal = "MT5" if self.platform is Platform.MT5 else "MT4"
            words = (
                f"Server '{name}' not found: neither /Search nor /SearchMQ has it. "
                f"Use the exact server name shown in the {terminal} terminal."
            )
            raise BridgeError("DONE" if self.platform is Platform.MT5 else "INTERNAL_ERROR", words)
        return self._log_in(call)

    def _log_in(self, call: Call) -> str:
        user, password = call.query.integer("user"), call.query.required("password")
        limit = self.max_failed_logins
        if limit is not None and self.failed_logins >= limit:
            words = "Too frequent fail connect, wait 60000 milliseconds"
            raise BridgeError("TOO_FREQUENT_FAIL_CONNECT", words)
        login = self.server.logins.get(user or 0)
        if login is None or password not in (login.password, login.investor_password):
            self.failed_logins += 1
            raise BridgeError("INVALID_ACCOUNT", "Invalid account")
        self.failed_logins = 0
        self.check_line(login)
        investor = password == login.investor_password
        return self.sessions.open(login, call.query.text("id") or None, investor=investor).token

    def _connect_by_token(self, call: Call) -> str:
        token = call.query.required("id")
        session = self.sessions.reopen(token)
        if session is None:
            raise BridgeError("INVALID_TOKEN", f"Client with id {token} not found")
        self.check_line(session.login)
        return session.token

    def _check_connect(self, call: Call) -> str:
        if self.is_off_hours:
            raise BridgeError("SERVICE_NOT_AVAILABLE", "Service not available")
        call.login.is_reachable |= self.check_reconnects
        if not call.login.is_reachable:
            raise BridgeError("CONNECT_ERROR", f"Not connected (:{call.login.user})")
        return "OK"

    def _connection_status(self, call: Call) -> Row:
        session = call.session
        assert session is not None
        return {
            "id": session.token,
            "isConnected": session.login.is_reachable and not self.is_off_hours,
            "connectTimeUTC": session.connected.replace(tzinfo=None).isoformat() + "Z",
            "lastQuoteTimeUTC": EMPTY_TIME,
            "clientIp": None,
        }

    def _disconnect(self, call: Call) -> str:
        self.sessions.end(call.query.text("id"))
        return "OK"

    def _search(self, call: Call) -> list[Row]:
        wanted = call.query.required("company").lower()
        if len(wanted) < 4 or wanted not in self.server.name.lower():
            return []
        results = [{"name": self.server.name, "access": list(self.server.access)}]
        return [{"companyName": f"{self.server.name.split('-')[0]} Ltd", "results": results}]

    def _server_timezone(self, _: Call) -> Any:
        hours = self.server.utc_offset / timedelta(hours=1)
        return int(hours) if self.platform is Platform.MT4 else hours

    def market(self, call: Call) -> Market:
        """The market that a call names. Raises BridgeError, Rejection."""
        return self.server.market(call.query.required("symbol"))

    def _symbol_params(self, call: Call) -> Row:
        return self.symbol_params(call.login, self.market(call))

    def _symbol_params_many(self, call: Call) -> list[Row]:
        names = call.query.many("symbol" if self.platform is Platform.MT5 else "symbols")
        return [self.symbol_params(call.login, self.server.market(name)) for name in names]

    def _quote(self, call: Call) -> Row:
        self.check_line(call.login)
        return self.quote_row(self.market(call))

    def _quotes(self, call: Call) -> list[Row]:
        self.check_line(call.login)
        return [self.quote_row(self.server.market(name)) for name in call.query.many("symbols")]

    def quote_row(self, market: Market) -> Row:
        """What a symbol costs now; nothing out of its session."""
        silent = not market.is_open and self.zero_quotes_when_closed
        return {
            "symbol": market.name,
            "bid": ZERO if silent else market.bid,
            "ask": ZERO if silent else market.ask,
            "time": self.time(self.server.clock.now()),
        }

    def _tick_values(self, call: Call) -> list[Row]:
        rows = []
        for name in call.query.many("symbol"):
            market = self.server.market(name)
            rows.append(
                {
                    "tickValue": self.tick_value(call.login, market),
                    "tickSize": market.point,
                    "symbol": market.name,
                }
            )
        return rows

    @exact
    def tick_value(self, login: Login, market: Market) -> Decimal:
        """What one point is worth for one lot, in account currency."""
        value = market.point * market.listing.contract_size
        return value * self.server.rate(market.listing.quote, login.currency)

    def _order_send(self, call: Call) -> Row:
        operation = self._operation(call.query.required("operation"))
        expiration = self.expiration(call)
        magic = call.query.integer(self.magic_name)
        if magic is None:
            magic = 0 if self.platform is Platform.MT4 else self.server.clock.milliseconds()
        if self.platform is Platform.MT4 and not -(2**31) <= magic < 2**31:
            raise MalformedParameter(self.magic_name)
        wish = Wish(
            market=self.market(call),
            operation=operation,
            lots=call.query.amount("volume"),
            magic=magic,
            comment=call.query.text("comment"),
            price=call.query.amount("price"),
            slippage=call.query.integer("slippage") or 0,
            stop_limit=call.query.amount("stopLimitPrice"),
            stop_loss=call.query.amount("stoploss"),
            take_profit=call.query.amount("takeprofit"),
            expiration=expiration,
            placed_type=call.query.text("placedType") or "Default",
            lag=call.conditions.lag,
        )
        order = self.server.send(call.login, wish)
        for _ in range(call.conditions.copies - 1):
            order = self.server.send(call.login, wish)
        return self.sent_row(call.login, order)

    def _operation(self, text: str) -> Operation:
        if text.isdigit():
            number = int(text)
            if number in (100, 101):
                raise BridgeError("TIMEOUT", "Trade timeout")
            if number >= len(OPERATIONS):
                raise Rejection(Why.OPERATION)
            return OPERATIONS[number]
        known = {operation.lower(): operation for operation in OPERATIONS}
        if text.lower() not in known:
            raise MalformedParameter("operation")
        return known[text.lower()]

    def expiration(self, call: Call) -> datetime | None:
        """When a pending order is to end. On MT5 a time means nothing without its type."""
        moment = call.query.server_time("expiration")
        if self.platform is Platform.MT5:
            kind = call.query.text("expirationType") or "GTC"
            if kind != "Specified":
                if moment is not None:
                    self.misuse.append(f"an expiration with expirationType {kind}")
                return None
            if moment is None:
                raise Rejection(Why.EXPIRATION)
        return None if moment is None else self.server.moment(moment)

    def _ticket(self, call: Call) -> int:
        call.query.required("ticket")
        return call.query.integer("ticket") or 0

    def _order_modify(self, call: Call) -> Row:
        """What is not sent is taken for zero, which removes it."""
        login, ticket = call.login, self._ticket(call)
        position = login.positions.get(ticket)
        if position is not None and position.stop_loss and not call.query.amount("stoploss"):
            self.bared.append(ticket)
        target = self.server.modify(
            login,
            ticket,
            stop_loss=call.query.amount("stoploss"),
            take_profit=call.query.amount("takeprofit"),
            price=call.query.amount("price"),
            expiration=self.expiration(call),
        )
        if isinstance(target, Order):
            return self.pending_row(login, target)
        return self.opened_row(login, target)

    def _order_close(self, call: Call) -> Row:
        """Only `lots` says how much; any other name for it is ignored, and everything is closed."""
        login, ticket = call.login, self._ticket(call)
        if "volume" in call.query:
            self.misuse.append("OrderClose with volume, which it does not know: everything is closed")
        position = login.positions.get(ticket)
        if position is None:
            return self._close_pending(login, ticket)
        self._note_lapses(login, position, call)
        deal = self.server.close(
            login,
            position,
            call.query.amount("lots"),
            price=call.query.amount("price"),
            slippage=call.query.integer("slippage") or 0,
            comment=call.query.text("comment") if self.platform is Platform.MT5 else "",
        )
        return self.closed_row(login, position, deal)

    def _note_lapses(self, login: Login, position: Position, call: Call) -> None:
        """To close without saying how much closes everything: nobody means that, but of what a pending order opened."""
        lots, step = call.query.amount("lots"), position.market.listing.lot_step
        has_waited = any(
            each.ticket == position.ticket and "Limit" in each.operation for each in login.orders
        )
        if not lots and not has_waited:
            self.lapses.append(f"{position.ticket} closed without lots")
        elif lots % step:
            self.lapses.append(f"{lots} lots of {position.ticket} closed in steps of {step}")

    def _close_pending(self, login: Login, ticket: int) -> Row:
        order = login.order(ticket)
        if order is None or self.platform is Platform.MT4:
            raise Rejection(Why.TICKET)
        self.server.cancel(order)
        return self.pending_row(login, order)

    def _opened(self, login: Login) -> list[Row]:
        """Positions and pending orders together; nothing when the line is down, as if there were none."""
        if not login.is_reachable:
            return []
        self.server.expire()
        rows = [self.opened_row(login, each) for each in self.seen(list(login.positions.values()))]
        return rows + [self.pending_row(login, each) for each in self.seen(login.pending)]

    def _opened_one(self, call: Call) -> Row:
        ticket = self._ticket(call)
        for row in self._opened(call.login):
            if row["ticket"] == ticket:
                return row
        raise Rejection(Why.TICKET)

    def _closed_orders(self, call: Call) -> list[Row]:
        """What was closed in this session, the newest of it; never a cancelled order."""
        assert call.session is not None
        if not call.login.is_reachable:
            return []
        now = self.server.clock.now()
        rows = self.history_rows(call.login, call.session.connected, now)
        closed = [row for row in rows if row["symbol"] and row["closePrice"]]
        return closed[-self.closed_orders_limit :]

    def window(self, call: Call) -> tuple[datetime, datetime]:
        """The moments between which a history is asked for. Raises BridgeError."""
        call.query.required("from")
        call.query.required("to")
        since, until = call.query.server_time("from"), call.query.server_time("to")
        assert since is not None
        assert until is not None
        return self.server.moment(since), self.server.moment(until)

    def rows_in_window(self, call: Call) -> tuple[list[Row], bool]:
        """A history, and whether it is only the first half of it."""
        since, until = self.window(call)
        if not call.login.is_reachable:
            return [], False
        rows = self.history_rows(call.login, since, until)
        if not self.partial_histories:
            return rows, False
        self.partial_histories -= 1
        return rows[: len(rows) // 2], True

    def _history_page(self, call: Call) -> Row:
        rows, _ = self.rows_in_window(call)
        if call.query.text("ignoreDepositWithdraw").lower() == "true":
            rows = [row for row in rows if row["symbol"]]
        wanted = {int(each) for each in call.query.many("tickets")}
        if wanted:
            rows = [row for row in rows if row["ticket"] in wanted]
        size, number = call.query.integer("ordersPerPage") or 1, call.query.integer("pageNumber") or 0
        return {
            "pagesCount": -(-len(rows) // size),
            "pageNumber": number,
            "orders": rows[number * size : (number + 1) * size],
        }

    def seen(self, items: Sequence[Any]) -> list[Any]:
        """Those that queries show by now."""
        now = self.server.clock.now()
        return [each for each in items if each.visible is None or each.visible <= now]

    def is_in_history(self, moment: datetime, since: datetime, until: datetime) -> bool:
        """Whether what happened at a moment is in a history of that window by now."""
        known = moment + timedelta(seconds=self.history_lag) <= self.server.clock.now()
        return since <= moment <= until and known

    def next_request_id(self) -> int:
        """A number for the next request to the broker."""
        return next(self._request_ids)

    def time(self, moment: datetime | None) -> str:
        """A moment as the broker's clock shows it."""
        if moment is None:
            return EMPTY_TIME
        shown = self.server.server_time(moment)
        return shown.isoformat(timespec="seconds" if self.platform is Platform.MT4 else "milliseconds")


def is_investor(call: Call) -> bool:
    """Whether a session may only look."""
    return call.session is not None and call.session.investor


def order_type(side: Side) -> str:
    """What a position of this side is called."""
    return Operation.BUY if side is Side.BUY else Operation.SELL
