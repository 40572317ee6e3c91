"""A broker's trade server: it takes orders, fills them at a price that walks, and keeps the accounts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum
from itertools import count

from app.domain.money import HUNDRED, ZERO, exact, floor_to_step
from app.domain.orders import Side
from tests.venues.clock import Clock
from tests.venues.metatrader.accounts import (
    Deal,
    Direction,
    Login,
    Method,
    Operation,
    Order,
    Placed,
    Platform,
    Position,
    State,
)
from tests.venues.metatrader.instruments import Execution, Listing, Market, TradeMode

FIRST_TICKET = {Platform.MT4: 70_000_001, Platform.MT5: 4_300_000_001}
"""MT4 counts in 32 bits, MT5 in 64."""

COMMENT_LIMIT = 31


class Why(Enum):
    """Why the server does not do what is asked: the code on MT5, the code on MT4, and the words."""

    SYMBOL = ("INVALID_SYMBOL", "INVALID_SYMBOL", "Symbol not found")
    VOLUME = ("INVALID_VOLUME", "INVALID_VOLUME", "Invalid volume")
    PRICE = ("INVALID_PRICE", "INVALID_PRICES", "Invalid price")
    STOPS = ("INVALID_STOPS", "INVALID_SL_TP", "Invalid stops")
    EXPIRATION = ("INVALID_EXPIRATION", "INVALID_PARAM", "Invalid expiration")
    NO_EXPIRATION = ("INVALID_EXPIRATION", "EXPIRATION_DISABLED", "Expiration is not allowed")
    MONEY = ("NO_MONEY", "NOT_MONEY", "Not enough money")
    CLOSED = ("MARKET_CLOSED", "MARKET_CLOSED", "Market closed")
    DISABLED = ("TRADE_DISABLED", "TRADE_DISABLED", "Trade disabled")
    LONG_ONLY = ("ONLY_LONG_POSITION", "LONG_POS_ALLOWED", "Only long positions are allowed")
    SHORT_ONLY = ("ONLY_SHORT_POSITION", "TRADE_DISABLED", "Only short positions are allowed")
    CLOSE_ONLY = ("ONLY_CLOSE_POSITION", "TRADE_DISABLED", "Only closing is allowed")
    REQUOTE = ("REQUOTE", "REQUOTE", "Requote")
    TICKET = ("INVALID_TICKET", "INVALID_TICKET", "Invalid ticket")
    EXCEEDS = ("VOLUME_CLOSE_EXCEEDS_POSITION", "INVALID_VOLUME", "More than the position holds")
    SAME = ("NO_CHANGES", "SAME_PARAMS", "No changes in request")
    FROZEN = ("MODIFICATION_FAILED", "MODIFICATIONS_DENIED", "Too close to market")
    OPERATION = ("INVALID_REQUEST", "INVALID_PARAM", "Invalid request")

    @property
    def words(self) -> str:
        """What is said to people."""
        return self.value[2]

    def code(self, platform: Platform) -> str:
        """What is said to programs."""
        return self.value[0] if platform is Platform.MT5 else self.value[1]


class Rejection(Exception):
    """The server certainly does not do it."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.words)
        self.why = why


@dataclass(frozen=True, slots=True)
class Wish:
    """An order as a client asks for it; prices of zero are none, times are aware UTC."""

    market: Market
    operation: Operation
    lots: Decimal
    magic: int
    comment: str = ""
    price: Decimal = ZERO
    slippage: int = 0
    stop_limit: Decimal = ZERO
    stop_loss: Decimal = ZERO
    take_profit: Decimal = ZERO
    expiration: datetime | None = None
    placed_type: str = "Default"
    lag: float = 0.0
    """For how many seconds what comes of it stays out of queries."""


class TradeServer:
    """Symbols, accounts, orders and deals of one broker on one platform. Everything happens in zero time."""

    def __init__(
        self,
        platform: Platform,
        clock: Clock,
        listings: Iterable[Listing],
        *,
        name: str,
        utc_offset: timedelta,
        suffix: str = "",
        unlisted_rates: Mapping[tuple[str, str], Decimal] | None = None,
    ) -> None:
        self.platform = platform
        self.clock = clock
        self.name = name
        self.utc_offset = utc_offset
        """What server time is ahead of UTC."""
        self.access: tuple[str, ...] = (f"198.51.100.{4 if platform is Platform.MT4 else 5}:443",)
        self.markets = {market.name: market for market in (Market(each, suffix) for each in listings)}
        self.logins: dict[int, Login] = {}
        self.keeps_comments = True
        """Some brokers drop what a client writes."""
        self.keeps_magic = True
        """Some drop the number an order carries."""
        self.rest_keeps_magic = True
        """MT4: whether what is left of a partly closed ticket has its magic number still."""
        self.rest_says_origin = True
        """MT4: whether what is left of it says where it comes from."""
        self.part_says_rest = True
        """MT4: whether the closed part says what became of the rest."""
        self.min_expiration = timedelta(0)
        self.tells_expirations = True
        """MT5: whether a symbol that takes no expiration says so."""
        self._unlisted = dict(unlisted_rates or {})
        self._tickets = count(FIRST_TICKET[platform])
        self._deals = count(FIRST_TICKET[platform] // 2)
        self._users = count(5_000_001 if platform is Platform.MT4 else 90_000_001)

    def open_login(self, login: Login, deposit: Decimal) -> None:
        """Take an account in and pay its deposit."""
        self.logins[login.user] = login
        self.pay(login, deposit)

    def next_user(self) -> int:
        """The number of the next account."""
        return next(self._users)

    @exact
    def pay(self, login: Login, amount: Decimal, comment: str = "Deposit") -> None:
        """Pay into an account, or out of it."""
        self._book(login, profit=amount, comment=comment)

    def market(self, name: str) -> Market:
        """A market by the broker's own name, which is case-sensitive. Raises Rejection."""
        market = self.markets.get(name)
        if market is None:
            raise Rejection(Why.SYMBOL)
        return market

    def market_of(self, pair: str) -> Market | None:
        """A market by the name the rest of the world uses."""
        return next((m for m in self.markets.values() if pair in (m.listing.pair, m.name)), None)

    @exact
    def send(self, login: Login, wish: Wish) -> Order:
        """Accept an order and fill it if it does not wait. Raises Rejection."""
        self._check_order(login, wish)
        order = self._accept(login, wish)
        if not wish.operation.waits:
            self._fill(login, order, wish.market.entering(wish.operation.side))
        return order

    @exact
    def modify(
        self,
        login: Login,
        ticket: int,
        *,
        stop_loss: Decimal,
        take_profit: Decimal,
        price: Decimal = ZERO,
        expiration: datetime | None = None,
    ) -> Position | Order:
        """Set both levels of a position or a pending order; zero removes one. Raises Rejection."""
        position, order = login.positions.get(ticket), login.order(ticket)
        target = position or order
        if target is None:
            raise Rejection(Why.TICKET)
        self._check_open(target.market)
        self._check_freeze(target)
        if position is not None:
            if (stop_loss, take_profit) == (position.stop_loss, position.take_profit):
                raise Rejection(Why.SAME)
            at = target.market.leaving(position.side)
            check_levels(target.market, position.side, at, stop_loss, take_profit)
        elif order is not None:
            price = price or order.price
            wanted = (stop_loss, take_profit, price, expiration or order.expiration)
            if wanted == (order.stop_loss, order.take_profit, order.price, order.expiration):
                raise Rejection(Why.SAME)
            check_pending_price(target.market, order.operation, price, order.stop_limit)
            check_levels(target.market, order.operation.side, price, stop_loss, take_profit)
            self._check_expiration(target.market, expiration)
            order.price, order.expiration = price, expiration or order.expiration
        target.stop_loss, target.take_profit = stop_loss, take_profit
        return target

    @exact
    def close(
        self,
        login: Login,
        position: Position,
        lots: Decimal,
        *,
        price: Decimal = ZERO,
        slippage: int = 0,
        comment: str = "",
    ) -> Deal:
        """Close a position, or `lots` of it, at market; zero lots are all. Raises Rejection."""
        market = position.market
        self._check_open(market)
        if market.mode is TradeMode.DISABLED:
            raise Rejection(Why.DISABLED)
        self._check_freeze(position)
        lots = lots or position.lots
        if lots > position.lots:
            raise Rejection(Why.EXCEEDS)
        if lots < position.lots and not is_tradable(market.listing, lots):
            raise Rejection(Why.VOLUME)
        self._check_instant(market, market.leaving(position.side), price, slippage)
        return self._leave(login, position, lots, market.leaving(position.side), Placed.CLIENT, comment)

    @exact
    def cancel(self, order: Order) -> None:
        """Take a pending order back. Raises Rejection."""
        self._check_open(order.market)
        self._check_freeze(order)
        self._end(order, State.CANCELLED, "cancelled")

    @exact
    def move(self, market: Market, bid: Decimal, *, gap: bool = False) -> None:
        """Let the bid walk to `bid` through every level between, or jump there at once.

        While the session is closed nobody sees it, and the market opens there.
        """
        self.expire()
        if not market.is_open:
            market.bid = bid
            return
        while True:
            low, high = sorted((market.bid, bid))
            between = [level for level in self._levels(market) if low < level < high]
            if gap or not between:
                market.bid = bid
                self._touch(market)
                return
            market.bid = min(between) if bid > market.bid else max(between)
            self._touch(market)

    @exact
    def widen(self, market: Market, points: int) -> None:
        """Let the spread be so many points from now on."""
        market.spread = points * market.point
        if market.is_open:
            self._touch(market)

    @exact
    def open_session(self, market: Market) -> None:
        """Let trading in a market begin, at the price it has by now."""
        market.is_open = True
        self.expire()
        self._touch(market)

    @exact
    def expire(self) -> None:
        """End the pending orders whose time is up."""
        now = self.clock.now()
        for login in self.logins.values():
            for order in login.pending:
                if order.expiration is not None and order.expiration <= now:
                    self._end(order, State.EXPIRED, "expiration")

    @exact
    def roll_over(self) -> None:
        """Charge every open position the swap of one night."""
        for login in self.logins.values():
            for position in login.positions.values():
                listing = position.market.listing
                points = listing.swap_long if position.side is Side.BUY else listing.swap_short
                amount = points * listing.point * listing.contract_size * position.lots
                position.swap += self.money(login, amount * self.rate(listing.quote, login.currency))

    @exact
    def rate(self, source: str, target: str) -> Decimal:
        """What one unit of `source` is worth in `target`: directly, by the inverse, or over the dollar."""
        if source == target:
            return Decimal(1)
        known = self._quoted_rate(source, target)
        if known is None and "USD" not in (source, target):
            first, second = self._quoted_rate(source, "USD"), self._quoted_rate("USD", target)
            known = first * second if first is not None and second is not None else None
        if known is None:
            raise LookupError(f"the broker does not convert {source} to {target}")
        return known

    @exact
    def floating(self, login: Login, position: Position) -> Decimal:
        """What a position would bring if it were closed now, costs aside, in account currency."""
        return self._profit(login, position, position.lots, position.market.leaving(position.side))

    @exact
    def equity(self, login: Login) -> Decimal:
        """Balance and credit with what open positions would bring."""
        equity = login.balance + login.credit
        for position in login.positions.values():
            equity += self.floating(login, position) + position.swap
            if self.platform is Platform.MT4:
                equity += position.commission
        return equity

    @exact
    def margin(self, login: Login) -> Decimal:
        """What open positions hold back."""
        return sum(
            (self.margin_for(login, p.market, p.lots, p.price) for p in login.positions.values()), ZERO
        )

    @exact
    def margin_for(self, login: Login, market: Market, lots: Decimal, price: Decimal) -> Decimal:
        """What `lots` at `price` hold back."""
        listing = market.listing
        value = lots * listing.contract_size * price * self.rate(listing.quote, login.currency)
        return self.money(login, value / login.leverage)

    def money(self, login: Login, amount: Decimal) -> Decimal:
        """Rounded to what the account counts in."""
        return amount.quantize(Decimal(1).scaleb(-login.money_digits), ROUND_HALF_UP)

    def server_time(self, moment: datetime) -> datetime:
        """A moment as the broker's clock shows it, without a zone."""
        return (moment + self.utc_offset).replace(tzinfo=None)

    def moment(self, server_time: datetime) -> datetime:
        """The moment that the broker's clock shows so."""
        return server_time.replace(tzinfo=self.clock.now().tzinfo) - self.utc_offset

    def _quoted_rate(self, source: str, target: str) -> Decimal | None:
        for market in self.markets.values():
            listing = market.listing
            if (listing.base, listing.quote) == (source, target):
                return market.bid
            if (listing.base, listing.quote) == (target, source):
                return 1 / market.ask
        if (source, target) in self._unlisted:
            return self._unlisted[source, target]
        inverse = self._unlisted.get((target, source))
        return None if inverse is None else 1 / inverse

    def _check_order(self, login: Login, wish: Wish) -> None:
        market, side = wish.market, wish.operation.side
        if self.platform is Platform.MT4 and wish.operation in (
            Operation.BUY_STOP_LIMIT,
            Operation.SELL_STOP_LIMIT,
        ):
            raise Rejection(Why.OPERATION)
        self._check_open(market)
        check_mode(market, side, reduces=self._only_reduces(login, wish))
        if not is_tradable(market.listing, wish.lots):
            raise Rejection(Why.VOLUME)
        at = market.entering(side)
        if wish.operation.waits:
            check_pending_price(market, wish.operation, wish.price, wish.stop_limit)
            self._check_expiration(market, wish.expiration)
            at = wish.stop_limit or wish.price
            check_levels(market, side, at, wish.stop_loss, wish.take_profit)
        else:
            self._check_instant(market, at, wish.price, wish.slippage)
            check_levels(market, side, market.leaving(side), wish.stop_loss, wish.take_profit)
        self._check_money(login, market, side, wish.lots, at)

    def _only_reduces(self, login: Login, wish: Wish) -> bool:
        held = login.held(wish.market) if login.method is Method.NETTING else ZERO
        return not wish.operation.waits and held * wish.operation.side.sign <= -wish.lots

    def _check_open(self, market: Market) -> None:
        if not market.is_open:
            raise Rejection(Why.CLOSED)

    def _check_instant(self, market: Market, at: Decimal, price: Decimal, slippage: int) -> None:
        """On instant execution the client names the price, and gets it or a requote."""
        if market.listing.execution is not Execution.INSTANT:
            return
        if price <= ZERO:
            if self.platform is Platform.MT4:
                raise Rejection(Why.PRICE)
            return
        if abs(price - at) > slippage * market.point:
            raise Rejection(Why.REQUOTE)

    def _check_expiration(self, market: Market, expiration: datetime | None) -> None:
        if expiration is None:
            return
        if not market.listing.takes_expiration:
            raise Rejection(Why.NO_EXPIRATION)
        if expiration <= self.clock.now() + self.min_expiration:
            raise Rejection(Why.EXPIRATION)

    def _check_freeze(self, target: Position | Order) -> None:
        market = target.market
        distance = market.listing.freeze_level * market.point
        if not distance:
            return
        if isinstance(target, Order):
            near = [abs(target.price - market.entering(target.operation.side))]
        else:
            at = market.leaving(target.side)
            near = [abs(level - at) for level in (target.stop_loss, target.take_profit) if level]
        if any(each < distance for each in near):
            raise Rejection(Why.FROZEN)

    def _check_money(self, login: Login, market: Market, side: Side, lots: Decimal, price: Decimal) -> None:
        if login.method is Method.NETTING:
            held = login.held(market)
            lots = max(abs(held + lots * side.sign) - abs(held), ZERO)
        needed = self.margin_for(login, market, lots, price)
        if needed > self.equity(login) - self.margin(login):
            raise Rejection(Why.MONEY)

    def _accept(self, login: Login, wish: Wish) -> Order:
        now = self.clock.now()
        order = Order(
            ticket=next(self._tickets),
            market=wish.market,
            operation=wish.operation,
            lots=wish.lots,
            magic=wish.magic if self.keeps_magic else 0,
            comment=wish.comment[:COMMENT_LIMIT] if self.keeps_comments else "",
            placed_type=wish.placed_type,
            opened=now,
            price=wish.price if wish.operation.waits else ZERO,
            stop_limit=wish.stop_limit,
            stop_loss=wish.stop_loss,
            take_profit=wish.take_profit,
            expiration=wish.expiration,
            visible=now + timedelta(seconds=wish.lag) if wish.lag else None,
        )
        login.orders.append(order)
        return order

    def _end(self, order: Order, state: State, because: str) -> None:
        order.state, order.done, order.ended_because = state, self.clock.now(), because

    def _fill(self, login: Login, order: Order, price: Decimal) -> None:
        """Turn an order into a deal, and the deal into a position."""
        order.state, order.done = State.FILLED, self.clock.now()
        known = None
        if login.method is Method.NETTING:
            known = next((p for p in login.positions.values() if p.market is order.market), None)
        if known is None:
            order.position = self._enter(login, order, order.lots, price, Direction.IN).ticket
        elif known.side is order.operation.side:
            self._add(login, known, order, price)
        else:
            self._turn(login, known, order, price)

    def _enter(
        self, login: Login, order: Order, lots: Decimal, price: Decimal, direction: Direction
    ) -> Position:
        position = Position(
            ticket=order.ticket,
            market=order.market,
            side=order.operation.side,
            lots=lots,
            price=price,
            opened=self.clock.now(),
            magic=order.magic,
            comment=order.comment,
            placed_type=order.placed_type,
            stop_loss=order.stop_loss,
            take_profit=order.take_profit,
            visible=order.visible,
        )
        login.positions[position.ticket] = position
        self._book_entry(login, position, order, lots, price, direction)
        return position

    def _add(self, login: Login, position: Position, order: Order, price: Decimal) -> None:
        """Netting: more of the same side. The position takes over the newest order's names and levels."""
        lots = position.lots + order.lots
        position.price = (position.price * position.lots + price * order.lots) / lots
        position.lots, position.magic, position.comment = lots, order.magic, order.comment
        position.stop_loss = order.stop_loss or position.stop_loss
        position.take_profit = order.take_profit or position.take_profit
        order.position = position.ticket
        self._book_entry(login, position, order, order.lots, price, Direction.IN)

    def _turn(self, login: Login, position: Position, order: Order, price: Decimal) -> None:
        """Netting: the other side closes, and what is too much opens the other way round."""
        closing = min(order.lots, position.lots)
        order.position = position.ticket
        self._leave(
            login, position, closing, price, order.placed_type, order.comment, order.ticket, order.magic
        )
        if order.lots > closing:
            order.position = self._enter(login, order, order.lots - closing, price, Direction.IN).ticket

    def _book_entry(
        self,
        login: Login,
        position: Position,
        order: Order,
        lots: Decimal,
        price: Decimal,
        direction: Direction,
    ) -> None:
        """MT5 takes the commission deal by deal, MT4 for the round turn when the ticket is closed."""
        paid = self.money(login, login.commission * lots)
        position.commission -= paid * 2 if self.platform is Platform.MT4 else paid
        self._book(
            login,
            order=order.ticket,
            position=position.ticket,
            market=position.market,
            side=position.side,
            direction=direction,
            lots=lots,
            price=price,
            commission=ZERO if self.platform is Platform.MT4 else -paid,
            magic=order.magic,
            comment=order.comment,
            placed=order.placed_type,
            stop_loss=order.stop_loss,
            take_profit=order.take_profit,
        )

    def _leave(
        self,
        login: Login,
        position: Position,
        lots: Decimal,
        price: Decimal,
        placed: str,
        comment: str,
        order: int = 0,
        magic: int | None = None,
    ) -> Deal:
        """Close `lots` of a position at `price`."""
        profit = self._profit(login, position, lots, price)
        whole = lots == position.lots
        swap = position.swap if whole else self.money(login, position.swap * lots / position.lots)
        if self.platform is Platform.MT4:
            share = position.commission * lots / position.lots
            commission = position.commission if whole else self.money(login, share)
        else:
            commission = -self.money(login, login.commission * lots)
        deal = self._book(
            login,
            order=order or next(self._tickets),
            position=position.ticket,
            market=position.market,
            side=position.side.opposite,
            direction=Direction.OUT,
            lots=lots,
            price=price,
            profit=profit,
            commission=commission,
            swap=swap,
            magic=position.magic if magic is None and placed != Placed.CLIENT else magic or 0,
            comment=comment,
            placed=placed,
            stop_loss=position.stop_loss,
            take_profit=position.take_profit,
        )
        if self.platform is Platform.MT4:
            self._settle_ticket(login, position, deal)
        else:
            position.swap -= swap
            position.lots -= lots
            if not position.lots:
                del login.positions[position.ticket]
        return deal

    def _settle_ticket(self, login: Login, position: Position, deal: Deal) -> None:
        """MT4: the closed lots keep the ticket, what is left gets a new one that says where it comes from."""
        del login.positions[position.ticket]
        left = position.lots - deal.lots
        if left:
            rest = replace(
                position,
                ticket=next(self._tickets),
                lots=left,
                swap=position.swap - deal.swap,
                commission=position.commission - deal.commission,
                magic=position.magic if self.rest_keeps_magic else 0,
                comment=f"from #{position.ticket}" if self.rest_says_origin else "",
            )
            login.positions[rest.ticket] = rest
            position.comment = f"to #{rest.ticket}" if self.part_says_rest else position.comment
            position.part = True
        elif deal.placed == Placed.STOP_OUT:
            position.comment = deal.comment
        elif deal.placed != Placed.CLIENT:
            position.comment = f"{position.comment[: COMMENT_LIMIT - len(deal.comment)]}{deal.comment}"
        position.lots, position.profit, position.close_price = deal.lots, deal.profit, deal.price
        position.swap, position.commission, position.closed = deal.swap, deal.commission, deal.time
        login.closed.append(position)

    def _profit(self, login: Login, position: Position, lots: Decimal, price: Decimal) -> Decimal:
        listing = position.market.listing
        moved = (price - position.price) * position.side.sign
        return self.money(
            login, moved * lots * listing.contract_size * self.rate(listing.quote, login.currency)
        )

    def _book(
        self,
        login: Login,
        *,
        order: int = 0,
        position: int = 0,
        market: Market | None = None,
        side: Side | None = None,
        direction: Direction = Direction.IN,
        lots: Decimal = ZERO,
        price: Decimal = ZERO,
        profit: Decimal = ZERO,
        commission: Decimal = ZERO,
        swap: Decimal = ZERO,
        magic: int = 0,
        comment: str = "",
        placed: str = "Manually",
        stop_loss: Decimal = ZERO,
        take_profit: Decimal = ZERO,
    ) -> Deal:
        deal = Deal(
            ticket=next(self._deals),
            order=order,
            position=position,
            market=market,
            side=side,
            direction=direction,
            lots=lots,
            price=price,
            profit=profit,
            commission=commission,
            swap=swap,
            magic=magic,
            comment=comment[:COMMENT_LIMIT],
            placed=placed,
            time=self.clock.now(),
            stop_loss=stop_loss,
            take_profit=take_profit,
        )
        login.deals.append(deal)
        login.balance += deal.amount
        return deal

    def _levels(self, market: Market) -> list[Decimal]:
        """The bids at which something happens in a market."""
        levels = []
        for login in self.logins.values():
            levels += [
                market.bid_when_leaving_at(position.side, level)
                for position in login.positions.values()
                for level in (position.stop_loss, position.take_profit)
                if position.market is market and level
            ]
            levels += [
                market.bid_when_entering_at(order.operation.side, order.price)
                for order in login.pending
                if order.market is market
            ]
        return levels

    def _touch(self, market: Market) -> None:
        """What the present price does to positions and to orders that wait."""
        for login in self.logins.values():
            for position in list(login.positions.values()):
                if position.market is market:
                    self._touch_position(login, position)
            for order in login.pending:
                if order.market is market and is_reached(market, order):
                    self._wake(login, order)
            self._stop_out(login)

    def _touch_position(self, login: Login, position: Position) -> None:
        at, sign = position.market.leaving(position.side), position.side.sign
        stop, target = position.stop_loss, position.take_profit
        mt5 = self.platform is Platform.MT5
        if stop and at * sign <= stop * sign:
            comment = f"[sl {stop}]" if mt5 else "[sl]"
            self._leave(login, position, position.lots, at, Placed.STOP_LOSS, comment)
        elif target and at * sign >= target * sign:
            comment = f"[tp {target}]" if mt5 else "[tp]"
            self._leave(login, position, position.lots, at, Placed.TAKE_PROFIT, comment)

    def _wake(self, login: Login, order: Order) -> None:
        market, side = order.market, order.operation.side
        if order.stop_limit:
            order.operation = Operation.BUY_LIMIT if side is Side.BUY else Operation.SELL_LIMIT
            order.price, order.stop_limit = order.stop_limit, ZERO
            if not is_reached(market, order):
                return
        try:
            self._check_money(login, market, side, order.lots, market.entering(side))
        except Rejection as rejection:
            self._end(order, State.REJECTED, rejection.why.words)
            return
        self._fill(login, order, market.entering(side))

    def _stop_out(self, login: Login) -> None:
        """Close the worst position at market for as long as the margin level is too low."""
        while login.positions:
            equity, margin = self.equity(login), self.margin(login)
            if not margin or equity / margin * HUNDRED >= login.stop_out:
                return
            worst = min(login.positions.values(), key=lambda position: self.floating(login, position))
            at = worst.market.leaving(worst.side)
            level = f"{equity / margin * HUNDRED:.1f}%/{equity:.1f}/{margin:.1f}"
            comment = f"[so {level}]" if self.platform is Platform.MT5 else f"so: {level}"
            self._leave(login, worst, worst.lots, at, Placed.STOP_OUT, comment)


def is_tradable(listing: Listing, lots: Decimal) -> bool:
    """Whether the symbol takes so many lots."""
    return listing.min_lots <= lots <= listing.max_lots and floor_to_step(lots, listing.lot_step) == lots


def is_reached(market: Market, order: Order) -> bool:
    """Whether the price has come to a pending order."""
    at, sign = market.entering(order.operation.side), order.operation.side.sign
    if order.operation.is_limit:
        return at * sign <= order.price * sign
    return at * sign >= order.price * sign


def check_mode(market: Market, side: Side, *, reduces: bool) -> None:
    """Hold an order against what the symbol takes at all. Raises Rejection."""
    match market.mode:
        case TradeMode.DISABLED:
            raise Rejection(Why.DISABLED)
        case TradeMode.CLOSE_ONLY if not reduces:
            raise Rejection(Why.CLOSE_ONLY)
        case TradeMode.LONG_ONLY if side is Side.SELL and not reduces:
            raise Rejection(Why.LONG_ONLY)
        case TradeMode.SHORT_ONLY if side is Side.BUY and not reduces:
            raise Rejection(Why.SHORT_ONLY)
        case _:
            pass


def check_levels(market: Market, side: Side, at: Decimal, stop_loss: Decimal, take_profit: Decimal) -> None:
    """Stop and target must lie beyond the price, and not nearer than the stops level. Raises Rejection."""
    distance = max(market.listing.stops_level, 1) * market.point
    if stop_loss and (at - stop_loss) * side.sign < distance:
        raise Rejection(Why.STOPS)
    if take_profit and (take_profit - at) * side.sign < distance:
        raise Rejection(Why.STOPS)
    for level in (stop_loss, take_profit):
        if level < ZERO or floor_to_step(level, market.point) != level:
            raise Rejection(Why.STOPS)


def check_pending_price(market: Market, operation: Operation, price: Decimal, stop_limit: Decimal) -> None:
    """A pending order must wait for something: limits below or above the bid, stops beyond. Raises Rejection."""
    if price <= ZERO or floor_to_step(price, market.point) != price:
        raise Rejection(Why.PRICE)
    distance = market.listing.stops_level * market.point
    from_ask = operation in (Operation.BUY_STOP, Operation.BUY_STOP_LIMIT)
    at = market.ask if from_ask else market.bid
    above = operation in (Operation.SELL_LIMIT, Operation.BUY_STOP, Operation.BUY_STOP_LIMIT)
    if (price - at if above else at - price) < distance:
        raise Rejection(Why.PRICE)
    waits_twice = operation in (Operation.BUY_STOP_LIMIT, Operation.SELL_STOP_LIMIT)
    if waits_twice != bool(stop_limit):
        raise Rejection(Why.PRICE)
    if waits_twice and (price - stop_limit) * operation.side.sign < ZERO:
        raise Rejection(Why.PRICE)
