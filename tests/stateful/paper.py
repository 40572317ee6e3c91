"""The paper venue as a ground: on the prices of a simulated exchange, with accidents between it and us."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import select

from app.brokers.crypto import LazyCryptoVenue, open_crypto
from app.brokers.directory import Directory
from app.brokers.paper.book import PaperAccount, PaperOrder, PaperPosition
from app.brokers.paper.venue import PaperBroker, open_paper
from app.desk import Desk
from app.domain import money
from app.domain.market import MarketType
from app.domain.money import ZERO, exact, floor_to_step, round_to_tick
from app.domain.orders import OrderRequest, OrderStatus, OrderType, Side
from app.engine.access import access_of
from app.store.connections import Connection
from app.store.positions import Position
from tests import faults as accidents
from tests.chaos.checker import Account, check
from tests.chaos.verdict import BY_HAND, Heard, Verdict
from tests.desks import USER, add_connection
from tests.faults import FaultyVenue
from tests.stateful.grounds import OnWire
from tests.venues.accounts import Account as Ledger
from tests.venues.exchange import Exchange, Keys
from tests.venues.orders import Fill, Market, Order, Status, Trigger

DEPOSIT: Final = Decimal(100_000)

_FAULTS: Final[Mapping[str, accidents.Fault]] = {
    "answer lost": accidents.Fault.ANSWER_LOST,
    "request lost": accidents.Fault.REQUEST_LOST,
    "503 before": accidents.Fault.NOT_EXECUTED,
    "refused": accidents.Fault.REFUSED,
}
"""What of the accidents there is between the venue and us."""

_STATUS: Final[Mapping[OrderStatus, Status]] = {
    OrderStatus.OPEN: Status.OPEN,
    OrderStatus.FILLED: Status.FILLED,
    OrderStatus.CANCELLED: Status.CANCELLED,
    OrderStatus.EXPIRED: Status.EXPIRED,
}


@dataclass(frozen=True, slots=True)
class _Account(Account):
    """An account whose book is in tables: it is read before it is compared."""

    book: Ledger

    def ledger(self, venue: Exchange) -> Ledger:  # noqa: ARG002 - it is no exchange's
        """As it was read."""
        return self.book


class Paper(OnWire):
    """One account of the paper venue."""

    venue: Exchange
    fills_in_part = False

    def __init__(self, desk: Desk, venue: Exchange, market_type: MarketType) -> None:
        super().__init__(desk)
        self.venue, self.market_type = venue, market_type
        self.is_spot = market_type is MarketType.SPOT
        self.sells = not self.is_spot
        self._faulty: list[FaultyVenue] = []
        self._crypto = self._prices()
        self._hand = open_paper(desk.sessions, None, desk.now, self._crypto.public)
        self._connection: Connection | None = None

    def brokers(self) -> Directory:
        """The paper venue behind accidents, and the exchange whose prices it has."""
        crypto = self._prices()
        paper = FaultyVenue(open_paper(self.desk.sessions, None, self.desk.now, crypto.public))
        self._faulty.append(paper)
        return Directory({"paper": paper, "crypto": crypto})

    def _prices(self) -> LazyCryptoVenue:
        endpoints = dict.fromkeys(("binance", "binanceusdm"), self.venue.url)
        return open_crypto(self.desk.vault, endpoints, self.desk.now, ledger=self.budget())

    async def close(self) -> None:
        """The owner's own terminal as well."""
        await super().close()
        await self._hand.close()
        await self._crypto.close()

    async def connect(self, **terms: Any) -> Connection:
        """With five times its money on swap."""
        self._connection = await add_connection(
            self.desk,
            market_type=self.market_type,
            leverage=None if self.is_spot else Decimal(5),
            paper={
                "prices": "binance" if self.is_spot else "binanceusdm",
                "balance": str(DEPOSIT),
                "slippage_percent": "0",
            },
            **terms,
        )
        return self._connection

    def _symbol(self, number: int) -> str:
        return self.symbols[number] if self.is_spot else f"{self.symbols[number]}:USDT"

    def _market(self, symbol: str) -> Market:
        return self.venue.markets(symbol)[0]

    def price(self, number: int) -> Decimal:
        """The exchange's."""
        return self._market(self._symbol(number)).price

    @exact
    def move(self, number: int, price: Decimal, *, gap: bool) -> None:
        """The exchange's."""
        self.venue.move(self._symbol(number), round_to_tick(price, Decimal("0.01")), gap=gap)

    def strike(self, fault: str, requests: str, times: int) -> None:
        """Orders meet accidents one by one; questions and cancellations stay without an answer until all is calm."""
        for venue in self._faulty:
            if requests in ("look", "any"):
                venue.blind = venue.secretive = True
            elif requests == "cancel":
                venue.deaf = True
            elif fault in _FAULTS:
                venue.faults.extend([_FAULTS[fault]] * times)

    def calm(self) -> None:
        """Nothing is left of it."""
        super().calm()
        for venue in self._faulty:
            venue.faults.clear()
            venue.blind = venue.secretive = venue.deaf = False

    async def verdict(self, heard: Heard) -> Verdict:
        """By the book in its tables."""
        assert self._connection is not None
        account = _Account(
            self._connection.id, USER, "", "paper", self.market_type, Keys("", ""), await self._book()
        )
        return await check(self.desk.sessions, self.venue, [account], heard, self.desk.now())

    async def _book(self) -> Ledger:
        """The book in the words of an exchange's ledger; every order has filled at once or not at all."""
        ledger = Ledger("", "", 0, {"USDT": DEPOSIT})
        async with self.desk.sessions() as session:
            for row in await session.scalars(select(PaperOrder).order_by(PaperOrder.number)):
                order = self._order(row)
                ledger.orders[order.id] = order
                ledger.fills += order.fills
            for account in await session.scalars(select(PaperAccount)):
                ledger.balances = {coin: money.parse(total) for coin, total in account.balances.items()}
            for held in await session.scalars(select(PaperPosition)):
                ledger.position(self._market(held.symbol)).quantity = held.quantity
        return ledger

    @exact
    def _order(self, row: PaperOrder) -> Order:
        # Both legs of a bracket are one order here; what it is to leave at is its stop where it has one.
        rising = row.side is Side.BUY
        order = Order(
            self._market(row.symbol),
            row.client_order_id,
            row.side,
            row.quantity,
            row.price,
            trigger=None if row.trigger_price is None else Trigger(row.trigger_price, rising=rising),
            reduce_only=row.reduce_only,
            number=row.number,
            id=str(row.number),
            status=_STATUS[row.status],
            filled=row.filled,
            value=row.cost,
        )
        if row.filled:
            [(coin, fee), *_] = [*row.fees.items(), ("USDT", "0")]
            price = row.cost / row.filled
            order.fills.append(
                Fill(row.number, order, row.filled, price, money.parse(fee), coin, ZERO, maker=False, time=0)
            )
        return order

    async def held(self) -> Mapping[str, Decimal]:
        """Balances of coins, or positions."""
        ledger = await self._book()
        if self.is_spot:
            return {symbol: ledger.balances.get(symbol.partition("/")[0], ZERO) for symbol in self.symbols}
        return {each.market.listing.symbol: each.quantity for each in ledger.open_positions}

    @exact
    async def made(self) -> Decimal | None:
        """By the balance; coins that are left count for nothing."""
        return (await self._book()).balances.get("USDT", DEPOSIT) - DEPOSIT

    async def _terminal(self) -> PaperBroker:
        """The account as its owner reaches it, past all accidents."""
        assert self._connection is not None
        return await self._hand.open(access_of(self._connection))

    async def reduce_by_hand(self, position: Position, portion: Decimal) -> None:
        """Coins that orders hold are set free before."""
        held = abs((await self.held()).get(position.symbol, ZERO))
        if self.is_spot:
            await self.cancel_by_hand(position)
        quantity = held if portion == 1 else held * portion
        await self._by_hand(position, position.side.entry_side.opposite, quantity, reduces=not self.is_spot)

    async def add_by_hand(self, position: Position) -> None:
        """As much as is left of it."""
        self.has_added = True
        await self._by_hand(position, position.side.entry_side, position.remaining_quantity, reduces=False)

    async def _by_hand(self, position: Position, side: Side, quantity: Decimal, *, reduces: bool) -> None:
        quantity = floor_to_step(quantity, position.quantity_step)
        market = self._market(position.symbol)
        if not quantity or (not reduces and quantity * market.price < market.listing.min_notional):
            return
        self.hand_made += 1
        request = OrderRequest(
            client_order_id=f"{BY_HAND}-{next(self.numbers)}",
            symbol=position.symbol,
            side=side,
            type=OrderType.MARKET,
            quantity=quantity,
            signed_at=self.desk.now(),
            reduce_only=reduces,
        )
        await (await self._terminal()).place(request)

    async def move_stop_by_hand(self, position: Position, price: Decimal) -> None:
        """Nobody can: its orders are as they were placed."""

    async def cancel_by_hand(self, position: Position) -> None:
        """Whatever would leave it."""
        broker, leaves = await self._terminal(), position.side.entry_side.opposite
        async with self.desk.sessions() as session:
            standing = await session.scalars(
                select(PaperOrder).where(
                    PaperOrder.status == OrderStatus.OPEN,
                    PaperOrder.symbol == position.symbol,
                    PaperOrder.side == leaves,
                )
            )
            keys = [row.ticket().request.key for row in standing]
        for key in keys:
            await broker.cancel(key)
