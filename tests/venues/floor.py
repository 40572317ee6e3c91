"""The trading floor of one exchange: it accepts orders, matches them against a price that walks, and books fills."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from itertools import count

from app.domain.money import ZERO, exact, floor_to_step
from app.domain.orders import Side
from tests.venues.accounts import Account, Charge, FeeRates, FeesIn, Position, Settlement, grains, spot_claim
from tests.venues.clock import Clock
from tests.venues.orders import Attached, Book, Fill, Force, Kind, Listing, Market, Order, Status, Trigger


class Why(Enum):
    """Why the floor does not take an order."""

    NO_FUNDS = "the account cannot pay for it"
    NOTHING_TO_REDUCE = "there is no position that it would reduce"
    WOULD_TRIGGER = "its trigger is passed already"
    WOULD_TAKE = "a post-only order would be filled at once"


class Rejection(Exception):
    """The floor does not take an order."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.value)
        self.why = why


class Floor:
    """Markets, accounts and orders of one exchange. Everything here happens in zero time."""

    def __init__(
        self,
        clock: Clock,
        listings: Iterable[Listing],
        fees: Mapping[Kind, FeeRates],
        id_of: Callable[[int, Market], str] = lambda number, _: str(number),
    ) -> None:
        self.clock = clock
        self.fees = dict(fees)
        self.markets = {(listing.kind, listing.id): Market(listing) for listing in listings}
        self.accounts: dict[str, Account] = {}
        self.read_lag = 0.0
        """For how many seconds a new order stays out of every query."""
        self.settlement_lag = 0.0
        """For how many seconds funding stays out of every query."""
        self.forgets: Callable[[Order], bool] = lambda _: False
        """Which old orders queries show no more."""
        self._id_of = id_of
        self._numbers = count(100_001)
        self._trades = count(700_001)
        self._groups = count(4_001)
        self._settlements = count(5_000_001)
        self._resting: dict[Market, dict[Order, Account]] = {market: {} for market in self.markets.values()}
        self._dated: dict[Order, Account] = {}

    @property
    def orders(self) -> list[Order]:
        """Every order that was ever accepted, in the order of their numbers."""
        known = (order for account in self.accounts.values() for order in account.orders.values())
        return sorted(known, key=lambda order: order.number)

    def market(self, kind: Kind, id: str) -> Market | None:
        """A market by the venues' own name."""
        return self.markets.get((kind, id))

    def market_of(self, symbol: str) -> Market | None:
        """A market by its unified name."""
        return next((m for m in self.markets.values() if m.listing.symbol == symbol), None)

    def new_group(self) -> int:
        """A number for orders that cancel each other."""
        return next(self._groups)

    def is_visible(self, order: Order) -> bool:
        """Whether queries show it: not yet in its first moments, and not for ever."""
        return order.visible <= self.clock.milliseconds() and not self.forgets(order)

    @exact
    def place(self, account: Account, order: Order) -> None:
        """Accept an order, and fill of it what can be filled. Raises Rejection."""
        self.place_all(account, [order])

    @exact
    def place_all(self, account: Account, orders: Sequence[Order]) -> None:
        """Accept orders of one group together, or none of them. Raises Rejection."""
        for order in orders:
            self._check(account, order)
        self._check_funds(account, [order for order in orders if order.trigger is None or order.locks])
        for order in orders:
            self._accept(account, order)
        for order in orders:
            if order.is_live and order.trigger is None:
                self._take(account, order)

    @exact
    def cancel(self, account: Account, order: Order) -> None:
        """Take a live order back, and its siblings with it."""
        self._end(account, order, Status.CANCELLED, "by its owner")
        self._end_siblings(account, order, Status.CANCELLED)

    @exact
    def end(self, account: Account, order: Order, status: Status, because: str) -> None:
        """End a live order for a reason of the venue's."""
        self._end(account, order, status, because)

    @exact
    def move(self, market: Market, price: Decimal, *, gap: bool = False) -> None:
        """Let the price walk to `price` through every level between, or jump there at once."""
        self.expire()
        minute = self.clock.milliseconds() // 60_000
        while True:
            rising = price > market.price
            levels = [level for order in self._resting[market] if (level := order.level) is not None]
            between = [
                level for level in levels if min(market.price, price) < level < max(market.price, price)
            ]
            if gap or not between:
                market.trade(price, minute)
                self._touch(market)
                return
            market.trade(min(between) if rising else max(between), minute)
            self._touch(market)

    @exact
    def pin(self, market: Market, mark: Decimal | None) -> None:
        """Hold the mark price somewhere, or with None let it follow the last price again."""
        market.pinned = mark
        self._touch(market)

    @exact
    def expire(self) -> None:
        """End what was good until now or earlier."""
        now = self.clock.milliseconds()
        for order, account in list(self._dated.items()):
            if order.until is not None and order.until <= now:
                self._end(account, order, Status.EXPIRED, "its time was up")

    @exact
    def fund(self, account: Account, currency: str, amount: Decimal) -> None:
        """Pay into an account, or out of it, as from outside."""
        account.deposits = {
            **account.deposits,
            currency: account.deposits.get(currency, ZERO) + amount,
        }
        account.change(currency, amount)

    @exact
    def force(
        self,
        account: Account,
        position: Position,
        force: Force,
        *,
        client_id: str,
        words: Mapping[str, str],
        charge: Decimal,
    ) -> Order:
        """Close a position by an order of the venue's own, and take `charge` of its worth beside the fee."""
        order = Order(
            market=position.market,
            client_id=client_id,
            side=Side.SELL if position.quantity > 0 else Side.BUY,
            quantity=abs(position.quantity),
            reduce_only=True,
            book=position.book,
            stays=False,
            force=force,
            words=dict(words),
        )
        self._accept(account, order)
        self._take(account, order)
        if taken := grains(order.value * charge):
            currency = position.market.listing.quote
            account.change(currency, -taken)
            account.charges.append(Charge(position.market, currency, taken, self.clock.milliseconds()))
        return order

    @exact
    def settle(self, market: Market, rate: Decimal) -> None:
        """Charge and pay everybody who holds the market: above zero, longs pay shorts."""
        now = self.clock.milliseconds()
        for account in self.accounts.values():
            for position in account.open_positions:
                if position.market is not market:
                    continue
                amount = grains(-position.notional * rate)
                account.change(market.listing.quote, amount)
                account.settlements.append(
                    Settlement(
                        next(self._settlements),
                        position,
                        position.quantity,
                        rate,
                        amount,
                        now,
                        now + int(self.settlement_lag * 1000),
                    )
                )

    @exact
    def close_market(self, market: Market, *, gone: bool) -> None:
        """Trade a market no longer: what rests in it ends, what is held stays held."""
        market.closed, market.gone = True, gone
        for order, account in list(self._resting[market].items()):
            self._end(account, order, Status.EXPIRED, "the market is closed")

    @exact
    def attach(
        self, account: Account, source: Order, attached: Attached, quantity: Decimal, group: int | None
    ) -> None:
        """Bring a stop or a target for `source`'s position into the world; what is passed already fires at once.

        A stop or target for the whole position takes the place of the one there was.
        """
        if attached.whole:
            self.detach(account, source.market, source.book, attached.words)
        child = Order(
            market=source.market,
            client_id="",
            side=source.side.opposite,
            quantity=quantity,
            trigger=attached.trigger,
            reduce_only=True,
            whole=attached.whole,
            book=source.book,
            stays=False,
            dies_with_position=True,
            group=group,
            words=dict(attached.words),
        )
        child.parent = source
        if account.reducible(child):
            self._accept(account, child)
            if attached.trigger.is_reached_by(source.market.price):
                self._wake(account, child)

    @exact
    def detach(self, account: Account, market: Market, book: Book, words: Mapping[str, str]) -> bool:
        """Take the whole position's stop or target of these words away; whether there was one."""
        found = [
            order
            for order in account.live.values()
            if order.whole and order.market is market and order.book is book and order.words == words
        ]
        for order in found:
            self._end(account, order, Status.CANCELLED, "another took its place")
        return bool(found)

    def _check(self, account: Account, order: Order) -> None:
        if order.trigger is not None:
            if order.is_triggered():
                raise Rejection(Why.WOULD_TRIGGER)
            return
        if order.post_only and order.crosses():
            raise Rejection(Why.WOULD_TAKE)
        if order.reduce_only and not account.reducible(order):
            raise Rejection(Why.NOTHING_TO_REDUCE)

    def _check_funds(self, account: Account, orders: Sequence[Order]) -> None:
        needs: dict[str, Decimal] = {}
        for order in orders:
            currency, amount = self._need(account, order)
            needs[currency] = max(needs.get(currency, ZERO), amount)
        if any(amount > ZERO and amount > account.free(currency) for currency, amount in needs.items()):
            raise Rejection(Why.NO_FUNDS)

    def _need(self, account: Account, order: Order) -> tuple[str, Decimal]:
        """What an order must find free, and in which currency."""
        listing, fee_rate = order.market.listing, self.fees[order.market.kind].taker
        if order.market.kind is Kind.SPOT:
            currency, amount = spot_claim(order, order.quantity)
            if order.side is Side.BUY and account.fees_in is FeesIn.QUOTE:
                amount *= 1 + fee_rate
            return currency, amount
        opens = order.quantity - account.reducible(order)
        if order.reduce_only or order.whole or opens <= ZERO:
            return listing.quote, ZERO
        price = order.price or (order.trigger.price if order.trigger else order.market.taking(order.side))
        return listing.quote, account.margin_for(order, opens) + grains(opens * price * fee_rate)

    def _accept(self, account: Account, order: Order) -> None:
        order.number = next(self._numbers)
        order.id = self._id_of(order.number, order.market)
        order.created = order.updated = self.clock.milliseconds()
        order.visible = max(order.visible, order.created + int(self.read_lag * 1000))
        order.status = Status.OPEN if order.trigger is None else Status.UNTRIGGERED
        account.orders[order.id] = order
        account.live[order.id] = order
        if order.client_id:
            account.by_client_id.setdefault(order.client_id, []).append(order)
        self._resting[order.market][order] = account
        if order.until is not None:
            self._dated[order] = account

    def _take(self, account: Account, order: Order) -> None:
        """What a new or freshly triggered order takes from the market."""
        if order.crosses():
            whole = order.portion() >= order.remaining
            if whole or not order.fill_or_kill:
                self._fill(account, order, order.portion(), order.market.taking(order.side), maker=False)
        if order.is_live and (order.price is None or not order.stays):
            self._end(account, order, Status.EXPIRED, "nothing was there to fill it")

    def _touch(self, market: Market) -> None:
        """What the present price does to the orders that wait."""
        for order, account in sorted(self._resting[market].items(), key=lambda item: item[0].number):
            # An order before this one at the same price may have ended it.
            if order.status is Status.UNTRIGGERED:
                if order.is_triggered():
                    self._wake(account, order)
            elif order.status is Status.OPEN and order.price is not None and order.is_touched():
                self._fill(account, order, order.portion(), order.price, maker=True)

    def _wake(self, account: Account, order: Order) -> None:
        """A trigger is reached: the order, or the one it spawns, goes to the market."""
        order.triggered = order.updated = self.clock.milliseconds()
        self._end_siblings(account, order, Status.EXPIRED)
        if order.whole:
            order.quantity = account.reducible(order)
        acting = order if order.spawns is None else spawned_by(order, order.spawns)
        try:
            self._check_awake(account, acting)
        except Rejection as rejection:
            self._end(account, order, Status.REJECTED, rejection.why.value)
            return
        if acting is order:
            order.status = Status.OPEN
        else:
            order.child = acting
            self._accept(account, acting)
            self._end(account, order, Status.FILLED, "triggered")
        self._take(account, acting)

    def _check_awake(self, account: Account, order: Order) -> None:
        """What an order must stand that comes to the market by its trigger. Raises Rejection."""
        if (order.reduce_only or order.whole) and not account.reducible(order):
            raise Rejection(Why.NOTHING_TO_REDUCE)
        if not order.locks:
            self._check_funds(account, [order])

    def _fill(
        self, account: Account, order: Order, quantity: Decimal, price: Decimal, *, maker: bool
    ) -> None:
        market, now = order.market, self.clock.milliseconds()
        if order.reduce_only:
            quantity = min(quantity, account.reducible(order))
        if quantity <= ZERO:
            if order.reduce_only:
                self._end(account, order, Status.EXPIRED, "there was nothing left to reduce")
            return
        fee, fee_currency = self._fee(account, order, quantity, price, maker=maker)
        realized = ZERO
        if market.kind is Kind.SPOT:
            account.change(market.listing.base, quantity * order.side.sign)
            account.change(market.listing.quote, -quantity * price * order.side.sign)
        else:
            position = account.position(market, order.book)
            realized = position.book_fill(quantity * order.side.sign, price)
            position.updated = now
            account.change(market.listing.quote, realized)
        account.change(fee_currency, -fee)
        fill = Fill(next(self._trades), order, quantity, price, fee, fee_currency, realized, maker, now)
        account.fills.append(fill)
        first = not order.fills
        order.fills.append(fill)
        order.filled += quantity
        order.value += quantity * price
        order.updated = now
        if first:
            self._end_siblings(account, order, Status.EXPIRED)
        if not order.remaining:
            self._end(account, order, Status.FILLED, "")
        self._bring_attached(account, order, first=first)
        if market.kind is Kind.SWAP and not account.position(market, order.book).quantity:
            self._position_closed(account, market, order.book)

    def _bring_attached(self, account: Account, order: Order, *, first: bool) -> None:
        """What an order attached comes with its first fill and grows with the others."""
        if first:
            group = self.new_group() if order.attached else None
            for attached in order.attached:
                self.attach(account, order, attached, order.filled, group)
        elif order.attached:
            for child in account.live.values():
                if child.parent is order:
                    child.quantity = order.filled

    def _fee(
        self, account: Account, order: Order, quantity: Decimal, price: Decimal, *, maker: bool
    ) -> tuple[Decimal, str]:
        rates, listing = self.fees[order.market.kind], order.market.listing
        rate = rates.maker if maker else rates.taker
        in_quote = grains(quantity * price * rate)
        bnb = self.market(listing.kind, f"BNB{listing.quote}")
        if account.fees_in is FeesIn.BNB and bnb is not None:
            in_bnb = grains(in_quote * Decimal("0.75") / bnb.price)
            if account.balances.get("BNB", ZERO) >= in_bnb:
                return in_bnb, "BNB"
        if listing.kind is Kind.SWAP:
            return in_quote, listing.quote
        if order.side is Side.BUY and account.fees_in is not FeesIn.QUOTE:
            return grains(quantity * rate), listing.base
        return in_quote, listing.quote

    def _position_closed(self, account: Account, market: Market, book: Book) -> None:
        for order in list(account.live.values()):
            if order.market is market and order.book is book and order.dies_with_position:
                self._end(account, order, Status.EXPIRED, "its position is closed")

    def _end_siblings(self, account: Account, order: Order, status: Status) -> None:
        if order.group is None:
            return
        for sibling in list(account.live.values()):
            if sibling is not order and sibling.group == order.group:
                self._end(account, sibling, status, "its sibling was taken")

    def _end(self, account: Account, order: Order, status: Status, because: str) -> None:
        if not order.is_live:
            return
        order.status, order.ended_because = status, because
        order.updated = self.clock.milliseconds()
        account.live.pop(order.id, None)
        self._resting[order.market].pop(order, None)
        self._dated.pop(order, None)


def spawned_by(order: Order, words: Mapping[str, str]) -> Order:
    """The order that a triggered one sends to the book in its place, under an id of its own."""
    child = Order(
        market=order.market,
        client_id=f"spawned-{order.id}",
        side=order.side,
        quantity=order.quantity,
        price=order.price,
        reduce_only=order.reduce_only or order.whole,
        book=order.book,
        stays=order.stays,
        visible=order.visible,
        words=dict(words),
    )
    child.parent = order
    return child


def quantity_for(market: Market, side: Side, cost: Decimal) -> Decimal:
    """What an amount of quote currency buys or sells, on the step."""
    return floor_to_step(cost / market.taking(side), market.listing.step)


def trigger_for(market: Market, price: Decimal, *, rising: bool | None = None) -> Trigger:
    """A trigger; without a direction it is reached from where the price is now."""
    return Trigger(price, price > market.price if rising is None else rising)
