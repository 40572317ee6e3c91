"""The bridge of MetaTrader 4: one ticket is order, position and history, and a partial close splits it."""

from datetime import datetime
from typing import Any

from app.domain.money import ZERO, exact
from tests.venues.metatrader.accounts import Deal, Login, Order, Platform, Position, State
from tests.venues.metatrader.bridge import Bridge, Call, Endpoint, Row, is_investor, order_type
from tests.venues.metatrader.instruments import Market, TradeMode
from tests.venues.metatrader.server import Rejection, Why
from tests.venues.metatrader.wire import EMPTY_TIME, BridgeError
from tests.venues.wire import Intent

TRADE_FLAGS = {TradeMode.DISABLED: 0, TradeMode.CLOSE_ONLY: 1}


class Mt4Bridge(Bridge):
    """mt4rest."""

    platform = Platform.MT4
    closed_orders_limit = 10
    quote_path = "Quote"
    magic_name = "magic"

    tells_trade_mode = True
    """Whether `symbol.ex.trade` says what may be done; many brokers leave it at zero."""

    def _own(self) -> dict[str, Endpoint]:
        return {
            "Symbols": Endpoint(Intent.PUBLIC, lambda _: list(self.server.markets)),
            "IsInvestor": Endpoint(Intent.ACCOUNT, is_investor),
            "OrderDelete": Endpoint(Intent.CANCEL, self._order_delete),
            "OrderHistory": Endpoint(Intent.LOOK, lambda call: self.rows_in_window(call)[0]),
            "HistoryPositions": Endpoint(Intent.LOOK, self._history_positions),
        }

    def summary(self, login: Login, *, investor: bool) -> Row:
        """Nothing here says whether the figures have come in: an account that is not there is an error."""
        self.check_line(login)
        known = login.is_synced
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
            "type": "Real" if login.real else "Demo",
            "isInvestor": investor,
        }

    def quote_row(self, market: Market) -> Row:
        """With the day's range."""
        return {**super().quote_row(market), "high": market.bid, "low": market.bid}

    @exact
    def symbol_params(self, login: Login, market: Market) -> Row:
        """The symbol, its raw record, and the terms of the account's group."""
        listing = market.listing
        shown = self.tells_trade_mode
        return {
            "symbolName": market.name,
            "symbol": {
                "execution": listing.execution,
                "stopsLevel": listing.stops_level,
                "digits": listing.digits,
                "point": listing.point,
                "swapLong": listing.swap_long,
                "swapShort": listing.swap_short,
                "spread": listing.spread,
                "freezeLevel": listing.freeze_level,
                "marginCurrency": listing.base if listing.forex else listing.quote,
                "profitMode": "Forex" if listing.forex else "CFD",
                "marginMode": "Forex" if listing.forex else "CfdLeverage",
                "contractSize": listing.contract_size,
                "currency": listing.base if listing.forex else listing.quote,
                "marginDivider": 1,
                "ex": {
                    "currency": listing.base if listing.forex else listing.quote,
                    "digits": listing.digits,
                    "trade": TRADE_FLAGS.get(market.mode, 2) if shown else 0,
                    "profit_mode": 0 if listing.forex else 1,
                    "contract_size": listing.contract_size,
                    "tick_value": ZERO if listing.forex else self.tick_value(login, market),
                    "tick_size": ZERO if listing.forex else listing.point,
                    "stops_level": listing.stops_level,
                    "long_only": int(shown and market.mode is TradeMode.LONG_ONLY),
                    "freeze_level": listing.freeze_level,
                },
                "code": 0,
            },
            "group": {"name": "Forex" if listing.forex else "CFD", "description": ""},
            "groupParams": {
                "minLot": listing.min_lots,
                "maxLot": listing.max_lots,
                "lotStep": listing.lot_step,
                "show": 1,
                "trade": 0,
                "execution": 1,
                "comm_base": login.commission * 2,
                "comm_type": 0,
                "comm_lots": 0,
                "ie_deviation": 20,
            },
        }

    def opened_row(self, login: Login, position: Position) -> Row:
        """An open position."""
        return {
            **self._ticket_row(login, position),
            "closePrice": position.market.leaving(position.side),
            "profit": self.server.floating(login, position),
            "state": "OPEN_NORMAL",
        }

    def pending_row(self, login: Login, order: Order) -> Row:
        """A pending order, or what became of it without a fill."""
        del login
        return {
            **self._row(order.market),
            "ticket": order.ticket,
            "type": order.operation,
            "lots": order.lots,
            "openPrice": order.price,
            "openTime": self.time(order.opened),
            "closeTime": self.time(order.done),
            "closePrice": ZERO,
            "expiration": self.time(order.expiration),
            "stopLoss": order.stop_loss,
            "takeProfit": order.take_profit,
            "magicNumber": order.magic,
            "comment": order.ended_because or order.comment,
            "placedType": order.placed_type,
            "state": "OPEN_NORMAL" if order.state is State.PLACED else "DELETED",
        }

    def sent_row(self, login: Login, order: Order) -> Row:
        """Under the ticket that it will keep until a part of it is closed."""
        if order.state is State.PLACED:
            return self.pending_row(login, order)
        return self.opened_row(login, login.positions[order.position])

    def closed_row(self, login: Login, position: Position, deal: Deal) -> Row:
        """What was closed, under the old ticket; of what is left only the lists tell."""
        del deal
        return self._closed_ticket_row(login, position)

    def history_rows(self, login: Login, since: datetime, until: datetime) -> list[Row]:
        """Closed tickets, deleted orders and payments."""
        rows = [
            self._balance_row(deal)
            for deal in login.deals
            if deal.market is None and self.is_in_history(deal.time, since, until)
        ]
        rows += [
            self._closed_ticket_row(login, each)
            for each in self.seen(login.closed)
            if each.closed is not None and self.is_in_history(each.closed, since, until)
        ]
        rows += [
            self.pending_row(login, order)
            for order in self.seen(login.orders)
            if order.state not in (State.PLACED, State.FILLED)
            and order.done is not None
            and self.is_in_history(order.done, since, until)
        ]
        return sorted(rows, key=lambda row: str(row["closeTime"]))

    def _order_delete(self, call: Call) -> str:
        order = call.login.order(self._ticket(call))
        if order is None:
            raise Rejection(Why.TICKET)
        self.server.cancel(order)
        return "OK"

    def _history_positions(self, _: Call) -> Any:
        raise BridgeError("INTERNAL_ERROR", "Order history not available")

    def _closed_ticket_row(self, login: Login, position: Position) -> Row:
        return {
            **self._ticket_row(login, position),
            "closePrice": position.close_price,
            "closeTime": self.time(position.closed),
            "profit": position.profit,
            "state": "CLOSED_PART" if position.part else "CLOSED_NORMAL",
        }

    def _ticket_row(self, login: Login, position: Position) -> Row:
        return {
            **self._row(position.market),
            "ticket": position.ticket,
            "type": order_type(position.side),
            "lots": position.lots,
            "openPrice": position.price,
            "openTime": self.time(position.opened),
            "stopLoss": position.stop_loss,
            "takeProfit": position.take_profit,
            "magicNumber": position.magic,
            "swap": position.swap,
            "commission": position.commission,
            "comment": position.comment,
            "placedType": position.placed_type,
            "rateOpen": self.server.rate(position.market.listing.quote, login.currency),
        }

    def _balance_row(self, deal: Deal) -> Row:
        return {
            **self._row(None),
            "ticket": deal.ticket,
            "type": "Balance",
            "openTime": self.time(deal.time),
            "closeTime": self.time(deal.time),
            "profit": deal.profit,
            "comment": deal.comment,
            "state": "CLOSED_NORMAL",
        }

    def _row(self, market: Market | None) -> Row:
        """A ticket with nothing in it yet."""
        return {
            "ticket": 0,
            "symbol": market.name if market else "",
            "type": "Buy",
            "lots": ZERO,
            "openPrice": ZERO,
            "openTime": EMPTY_TIME,
            "closePrice": ZERO,
            "closeTime": EMPTY_TIME,
            "expiration": EMPTY_TIME,
            "stopLoss": ZERO,
            "takeProfit": ZERO,
            "magicNumber": 0,
            "swap": ZERO,
            "commission": ZERO,
            "comment": "",
            "profit": ZERO,
            "rateOpen": ZERO,
            "rateClose": ZERO,
            "rateMargin": ZERO,
            "placedType": "Client",
            "state": "OPEN_NORMAL",
            "digits": market.listing.digits if market else 2,
        }
