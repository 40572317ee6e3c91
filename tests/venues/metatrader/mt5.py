"""The bridge of MetaTrader 5: orders, deals and positions are three things, and quantities come twice."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from app.domain.money import ZERO, exact
from app.domain.orders import Side
from tests.venues.metatrader.accounts import Deal, Direction, Login, Order, Platform, Position, State
from tests.venues.metatrader.bridge import Bridge, Call, Endpoint, Row, is_investor, order_type
from tests.venues.metatrader.instruments import Execution, Market
from tests.venues.metatrader.wire import EMPTY_TIME
from tests.venues.wire import Intent

RAW = Decimal(100_000_000)
"""Raw volumes count hundred-millionths of a lot."""


class Mt5Bridge(Bridge):
    """mt5rest."""

    platform = Platform.MT5
    closed_orders_limit = 100
    quote_path = "GetQuote"
    magic_name = "expertID"

    closes_answer_with_position = False
    """Whether the answer to a close names the position's ticket; else that of the closing order."""

    method_told: str | None = None
    """What summaries say of how positions are held, in place of the truth; nothing where it is empty."""

    def _own(self) -> dict[str, Endpoint]:
        return {
            "Symbols": Endpoint(Intent.PUBLIC, self._symbols),
            "Account": Endpoint(Intent.ACCOUNT, self._account),
            "AccountDetails": Endpoint(Intent.ACCOUNT, self._account_details),
            "IsTradeSession": Endpoint(Intent.PUBLIC, lambda call: self.market(call).is_open),
            "RequiredMargin": Endpoint(Intent.PUBLIC, self._required_margin),
            "OpenedOrdersTickets": Endpoint(
                Intent.LOOK, lambda call: [row["ticket"] for row in self._opened(call.login)]
            ),
            "OrderHistory": Endpoint(Intent.LOOK, self._history),
            "PendingOrderHistory": Endpoint(Intent.LOOK, self._pending_history),
            "HistoryPositions": Endpoint(Intent.LOOK, self._history_positions),
            "OrderCancelTask": Endpoint(
                Intent.CANCEL, lambda call: self._close_pending(call.login, self._ticket(call))
            ),
        }

    def summary(self, login: Login, *, investor: bool) -> Row:
        """Zeros as long as the account's figures have not come in."""
        known = login.is_synced and login.is_reachable
        equity, margin = self.server.equity(login), self.server.margin(login)
        figures = {
            "balance": login.balance,
            "credit": login.credit,
            "profit": equity - login.balance - login.credit,
            "equity": equity,
            "margin": margin,
            "freeMargin": equity - margin,
            "marginLevel": equity / margin * 100 if margin else ZERO,
        }
        return {
            **{name: amount if known else ZERO for name, amount in figures.items()},
            "leverage": login.leverage,
            "currency": login.currency,
            **({} if self.method_told == "" else {"method": self.method_told or login.method}),
            "type": "real" if login.real else "demo",
            "isInvestor": investor,
            "synced": known and not self.is_off_hours,
        }

    def quote_row(self, market: Market) -> Row:
        """With the last deal, of which currencies have none."""
        return {**super().quote_row(market), "last": ZERO, "volume": 0}

    @exact
    def symbol_params(self, login: Login, market: Market) -> Row:
        """The symbol itself, and the terms of the account's group for it."""
        listing = market.listing
        return {
            "symbol": market.name,
            "symbolInfo": self._symbol_info(login, market),
            "symbolGroup": {
                "minLots": listing.min_lots,
                "maxLots": listing.max_lots,
                "lotsStep": listing.lot_step,
                "groupName": "Forex\\*" if listing.forex else "CFD\\*",
                "tradeMode": market.mode,
                "sl": listing.stops_level,
                "tp": listing.stops_level,
                "tradeType": listing.execution,
                "fillPolicy": "FOK, IOC",
                "expiration": "ALL"
                if listing.takes_expiration or not self.server.tells_expirations
                else "GTC",
                "minVolume": int(listing.min_lots * RAW),
                "maxVolume": int(listing.max_lots * RAW),
                "volumeStep": int(listing.lot_step * RAW),
                "initialMargin": ZERO,
                "maintenanceMargin": ZERO,
                "swapType": "InPoints",
                "swapLong": listing.swap_long,
                "swapShort": listing.swap_short,
                "threeDaysSwap": "Wednesday",
            },
        }

    def opened_row(self, login: Login, position: Position) -> Row:
        """An open position."""
        deals = [deal for deal in login.deals if deal.position == position.ticket]
        entries = [deal for deal in deals if deal.direction is Direction.IN]
        return {
            **self._row(position.market),
            "ticket": position.ticket,
            "profit": self.server.floating(login, position),
            "swap": position.swap,
            "commission": position.commission,
            "closePrice": position.market.leaving(position.side),
            "openPrice": position.price,
            "openTime": self.time(position.opened),
            "openTimestampUTC": stamp(position.opened),
            "lots": position.lots,
            "volume": int(position.lots * RAW),
            "expertId": position.magic,
            "placedType": position.placed_type,
            "orderType": order_type(position.side),
            "dealType": deal_type(position.side),
            "comment": position.comment,
            "state": State.FILLED.value,
            "stopLoss": position.stop_loss,
            "takeProfit": position.take_profit,
            "profitRate": self.server.rate(position.market.listing.quote, login.currency),
            "dealInternalIn": self._deal(login, entries[0]) if entries else None,
            "partialFillDeals": [self._deal(login, deal) for deal in entries[1:]],
            "partialCloseDeals": [self._deal(login, deal) for deal in deals if deal not in entries],
        }

    def pending_row(self, login: Login, order: Order) -> Row:
        """A pending order."""
        return {
            **self._row(order.market),
            "ticket": order.ticket,
            "openPrice": order.price,
            "openTime": self.time(order.opened),
            "openTimestampUTC": stamp(order.opened),
            "closeTime": self.time(order.done),
            "lots": order.lots,
            "volume": int(order.lots * RAW),
            "expertId": order.magic,
            "placedType": order.placed_type,
            "orderType": order.operation,
            "comment": order.comment,
            "state": order.state.value,
            "stopLoss": order.stop_loss,
            "takeProfit": order.take_profit,
            "stopLimitPrice": order.stop_limit,
            "expirationType": "GTC" if order.expiration is None else "Specified",
            "expirationTime": self.time(order.expiration),
            "orderInternal": self._order(login, order),
        }

    def sent_row(self, login: Login, order: Order) -> Row:
        """Under the ticket of the order, which on a netting account need not be the position's."""
        if order.state is State.PLACED:
            return {**self.pending_row(login, order), "requestId": self.next_request_id()}
        deal = next(deal for deal in reversed(login.deals) if deal.order == order.ticket)
        return {
            **self._row(order.market),
            "ticket": order.ticket,
            "profit": ZERO,
            "commission": deal.commission,
            "openPrice": deal.price,
            "openTime": self.time(deal.time),
            "openTimestampUTC": stamp(deal.time),
            "lots": order.lots,
            "volume": int(order.lots * RAW),
            "expertId": order.magic,
            "placedType": order.placed_type,
            "orderType": order.operation,
            "dealType": deal_type(order.operation.side),
            "comment": order.comment,
            "state": State.FILLED.value,
            "stopLoss": order.stop_loss,
            "takeProfit": order.take_profit,
            "requestId": self.next_request_id(),
            "dealInternalIn": self._deal(login, deal),
        }

    def closed_row(self, login: Login, position: Position, deal: Deal) -> Row:
        """A good close is called Started."""
        return {
            **self._row(position.market),
            "ticket": position.ticket if self.closes_answer_with_position else deal.order,
            "profit": deal.profit,
            "swap": deal.swap,
            "commission": deal.commission,
            "closePrice": deal.price,
            "closeTime": self.time(deal.time),
            "closeTimestampUTC": stamp(deal.time),
            "closeLots": deal.lots,
            "closeVolume": int(deal.lots * RAW),
            "openTime": self.time(position.opened),
            "openTimestampUTC": stamp(position.opened),
            "lots": position.lots + deal.lots,
            "volume": int((position.lots + deal.lots) * RAW),
            "expertId": position.magic,
            "placedType": position.placed_type,
            "orderType": order_type(position.side),
            "dealType": deal_type(position.side),
            "comment": deal.comment,
            "state": "Started",
            "stopLoss": position.stop_loss,
            "takeProfit": position.take_profit,
            "requestId": self.next_request_id(),
            "dealInternalOut": self._deal(login, deal),
        }

    def deals_in(self, login: Login, since: datetime, until: datetime) -> list[Deal]:
        """The deals of a window that histories show by now."""
        hidden = {order.ticket for order in login.orders} - {o.ticket for o in self.seen(login.orders)}
        return [
            deal
            for deal in login.deals
            if self.is_in_history(deal.time, since, until) and deal.order not in hidden
        ]

    def history_rows(self, login: Login, since: datetime, until: datetime) -> list[Row]:
        """One row for a position of which the window has more than one deal; a lone deal makes none."""
        rows, groups = [], dict[int, list[Deal]]()
        for deal in self.deals_in(login, since, until):
            if deal.market is None:
                rows.append(self._balance_row(deal))
            else:
                groups.setdefault(deal.position, []).append(deal)
        rows += [self._position_row(login, deals) for deals in groups.values() if len(deals) > 1]
        return sorted(rows, key=lambda row: str(row["closeTime"]))

    @exact
    def _position_row(self, login: Login, deals: Sequence[Deal]) -> Row:
        entries = [deal for deal in deals if deal.direction is Direction.IN]
        exits = [deal for deal in deals if deal.direction is not Direction.IN]
        first, last = (entries or exits)[0], exits[-1] if exits else None
        market, side = first.market, first.side
        assert market is not None
        assert side is not None
        lots = sum((deal.lots for deal in entries), ZERO)
        closed = sum((deal.lots for deal in exits), ZERO)
        parts = exits[:-1] if lots == closed else exits
        row = {
            **self._row(market),
            "ticket": first.position,
            "profit": sum((deal.profit for deal in deals), ZERO),
            "swap": sum((deal.swap for deal in deals), ZERO),
            "commission": sum((deal.commission for deal in deals), ZERO),
            "openPrice": average(entries),
            "openTime": self.time(first.time),
            "openTimestampUTC": stamp(first.time),
            "lots": lots,
            "volume": int(lots * RAW),
            "expertId": first.magic if entries else 0,
            "placedType": first.placed,
            "orderType": order_type(side if entries else side.opposite),
            "dealType": deal_type(side),
            "comment": first.comment if entries else "",
            "state": "Started",
            "stopLoss": first.stop_loss,
            "takeProfit": first.take_profit,
            "dealInternalIn": self._deal(login, first) if entries else None,
            "partialFillDeals": [self._deal(login, deal) for deal in entries[1:]],
            "partialCloseDeals": [self._deal(login, deal) for deal in parts],
        }
        if last is None:
            return row
        return {
            **row,
            "closePrice": average(exits),
            "closeTime": self.time(last.time),
            "closeTimestampUTC": stamp(last.time),
            "closeLots": closed,
            "closeVolume": int(closed * RAW),
            "closeComment": last.comment,
            "stopLoss": last.stop_loss,
            "takeProfit": last.take_profit,
            "dealInternalOut": self._deal(login, last),
        }

    def _balance_row(self, deal: Deal) -> Row:
        return {
            **self._row(None),
            "ticket": deal.ticket,
            "profit": deal.profit,
            "openTime": self.time(deal.time),
            "closeTime": self.time(deal.time),
            "openTimestampUTC": stamp(deal.time),
            "closeTimestampUTC": stamp(deal.time),
            "orderType": "Balance",
            "dealType": "Balance",
            "comment": deal.comment,
            "state": State.FILLED.value,
        }

    def _history(self, call: Call) -> Row:
        rows, partial = self.rows_in_window(call)
        since, until = self.window(call)
        deals = self.deals_in(call.login, since, until) if call.login.is_reachable else []
        shown = deals[: len(deals) // 2] if partial else deals
        return {
            "partialResponse": partial,
            "orders": rows,
            "internalDeals": [self._deal(call.login, deal) for deal in shown],
            "internalOrders": [],
            "action": 14 if partial else 1,
        }

    def _pending_history(self, call: Call) -> list[Row]:
        since, until = self.window(call)
        if not call.login.is_reachable:
            return []
        self.server.expire()
        return [
            self._order(call.login, order)
            for order in self.seen(call.login.orders)
            if order.price and order.done is not None and self.is_in_history(order.done, since, until)
        ]

    def _history_positions(self, call: Call) -> list[Row]:
        rows, _ = self.rows_in_window(call)
        return [row for row in rows if row["symbol"]]

    def _symbols(self, call: Call) -> Any:
        infos = {name: self._symbol_info(call.login, market) for name, market in self.server.markets.items()}
        match self.symbols_shape:
            case "names":
                return list(infos)
            case "nested":
                return {"names": list(infos), "infos": infos}
            case _:
                return infos

    def _symbol_info(self, login: Login, market: Market) -> Row:
        listing = market.listing
        return {
            "currency": listing.base,
            "description": f"{listing.base} vs {listing.quote}",
            "profitCurrency": listing.quote,
            "marginCurrency": listing.base if listing.forex else listing.quote,
            "digits": listing.digits,
            "points": listing.point,
            "spread": listing.spread,
            "tickValue": self.tick_value(login, market),
            "tickSize": listing.point,
            "contractSize": listing.contract_size,
            "calcMode": "Forex" if listing.forex else "CFD",
        }

    def _account(self, call: Call) -> Row:
        login = call.login
        return {
            "login": login.user,
            "type": "real" if login.real else "demo",
            "userName": "Test Account",
            "tradeFlags": 0,
            "country": "",
            "balance": login.balance,
            "credit": login.credit,
            "blocked": ZERO,
            "leverage": login.leverage,
        }

    def _account_details(self, call: Call) -> Row:
        login = call.login
        return {
            "serverName": self.server.name,
            "user": login.user,
            "host": self.server.access[0],
            "timezone": self._server_timezone(call),
            "company": f"{self.server.name.split('-')[0]} Ltd",
            "currency": login.currency,
            "accountName": "Test Account",
            "group": "demo\\forex",
            "accountType": "real" if login.real else "demo",
            "accountLeverage": login.leverage,
            "accountMethod": login.method,
            "isInvestor": is_investor(call),
        }

    @exact
    def _required_margin(self, call: Call) -> Decimal:
        market = self.market(call)
        price = call.query.amount("price") or market.ask
        return self.server.margin_for(call.login, market, call.query.amount("lots"), price)

    def _row(self, market: Market | None) -> Row:
        """An order with nothing in it yet."""
        listing = None if market is None else market.listing
        return {
            "ticket": 0,
            "profit": ZERO,
            "swap": ZERO,
            "commission": ZERO,
            "fee": ZERO,
            "closePrice": ZERO,
            "closeTime": EMPTY_TIME,
            "closeLots": ZERO,
            "closeComment": None,
            "openPrice": ZERO,
            "openTime": EMPTY_TIME,
            "lots": ZERO,
            "contractSize": listing.contract_size if listing else ZERO,
            "expertId": 0,
            "placedType": "Manually",
            "orderType": "Buy",
            "dealType": "DealBuy",
            "symbol": market.name if market else "",
            "comment": "",
            "state": "Started",
            "stopLoss": ZERO,
            "takeProfit": ZERO,
            "requestId": 0,
            "digits": listing.digits if listing else 2,
            "profitRate": ZERO,
            "stopLimitPrice": ZERO,
            "dealInternalIn": None,
            "dealInternalOut": None,
            "orderInternal": None,
            "partialCloseDeals": [],
            "partialFillDeals": [],
            "closeVolume": 0,
            "volume": 0,
            "expirationType": "GTC",
            "expirationTime": EMPTY_TIME,
            "fillPolicy": fill_policy(market),
            "openTimestampUTC": 0,
            "closeTimestampUTC": 0,
        }

    def _server_stamp(self, moment: datetime | None) -> int:
        """Milliseconds as raw records count them: the broker's clock, taken for UTC."""
        return 0 if moment is None else stamp(moment + self.server.utc_offset)

    def _deal(self, login: Login, deal: Deal) -> Row:
        market = deal.market
        return {
            "openTimeAsDateTime": self.time(deal.time),
            "lots": deal.lots,
            "ticketNumber": deal.ticket,
            "id": "",
            "login": login.user,
            "orderTicket": deal.order,
            "openTime": self._server_stamp(deal.time) // 1000,
            "openTimeMs": self._server_stamp(deal.time),
            "symbol": market.name if market else "",
            "type": "Balance" if deal.side is None else deal_type(deal.side),
            "direction": deal.direction,
            "openPrice": deal.price,
            "price": deal.price,
            "stopLoss": deal.stop_loss,
            "takeProfit": deal.take_profit,
            "volume": int(deal.lots * RAW),
            "profit": deal.profit,
            "commission": deal.commission,
            "fee": ZERO,
            "swap": deal.swap,
            "expertId": deal.magic,
            "positionTicket": deal.position,
            "comment": deal.comment,
            "contractSize": market.listing.contract_size if market else ZERO,
            "digits": market.listing.digits if market else 2,
            "moneyDigits": login.money_digits,
            "placedType": deal.placed,
        }

    def _order(self, login: Login, order: Order) -> Row:
        filled = order.lots if order.state is State.FILLED else ZERO
        return {
            "ticket": order.ticket,
            "ticketNumber": order.ticket,
            "id": "",
            "login": login.user,
            "symbol": order.market.name,
            "type": order.operation,
            "state": order.state.value,
            "lots": order.lots - filled,
            "requestLots": order.lots,
            "volume": int((order.lots - filled) * RAW),
            "requestVolume": int(order.lots * RAW),
            "openPrice": order.price,
            "stopLimitPrice": order.stop_limit,
            "stopLoss": order.stop_loss,
            "takeProfit": order.take_profit,
            "expertId": order.magic,
            "comment": order.comment,
            "placedType": order.placed_type,
            "fillPolicy": fill_policy(order.market),
            "expirationType": "GTC" if order.expiration is None else "Specified",
            "expirationTime": self._server_stamp(order.expiration) // 1000,
            "openTimeMs": self._server_stamp(order.opened),
            "openTimeMsAsDateTime": self.time(order.opened),
            "executionTimeAsDateTime": self.time(order.done),
            "dealTicket": next((d.ticket for d in login.deals if d.order == order.ticket), 0),
            "contractSize": order.market.listing.contract_size,
            "digits": order.market.listing.digits,
        }


def average(deals: Sequence[Deal]) -> Decimal:
    """The price of some deals, by their lots."""
    lots = sum((deal.lots for deal in deals), ZERO)
    return sum((deal.price * deal.lots for deal in deals), ZERO) / lots if lots else ZERO


def deal_type(side: Side) -> str:
    """What a deal of this side is called."""
    return "DealBuy" if side is Side.BUY else "DealSell"


def fill_policy(market: Market | None) -> str:
    """How an order in a market is filled."""
    instant = market is not None and market.listing.execution is Execution.INSTANT
    return "FillOrKill" if instant else "ImmediateOrCancel"


def stamp(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return int(moment.timestamp() * 1000)
