"""Exchanges as grounds."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.domain.market import MarketType
from app.domain.money import ZERO, exact, floor_to_step, round_to_tick
from app.domain.orders import OrderRequest, OrderType, Side
from app.engine.access import broker_of
from app.store.connections import Connection
from app.store.positions import Position
from tests.chaos.checker import Account, check
from tests.chaos.verdict import BY_HAND, Heard, Verdict
from tests.desks import USER
from tests.engine import exchanges
from tests.stateful.grounds import OnWire
from tests.venues import faults
from tests.venues.orders import Order, Status, Trigger

_REFUSED: Final = {
    "binance": faults.reject(
        {"code": -2010, "msg": "Account has insufficient balance for requested action."}
    ),
    "binanceusdm": faults.reject({"code": -2019, "msg": "Margin is insufficient."}),
    "bybit": faults.reject(
        {"retCode": 110007, "retMsg": "Insufficient available balance", "result": {}}, 200
    ),
}


class Crypto(OnWire):
    """A simulated exchange."""

    def __init__(self, stage: exchanges.Stage) -> None:
        super().__init__(stage.desk)
        self.stage, self.venue = stage, stage.venue
        self.is_spot = stage.market_type is MarketType.SPOT
        self.sells = not self.is_spot
        self.refused = _REFUSED[stage.exchange]
        self._account: Account | None = None

    def brokers(self) -> Directory:
        endpoints = dict.fromkeys(("binance", "binanceusdm", "bybit"), self.venue.url)
        return Directory(
            {"crypto": open_crypto(self.desk.vault, endpoints, self.desk.now, ledger=self.budget())}
        )

    def _symbol(self, number: int) -> str:
        return self.symbols[number] if self.is_spot else f"{self.symbols[number]}:USDT"

    async def connect(self, **terms: Any) -> Connection:
        """With five times its money on swap."""
        more: dict[str, Any] = {} if self.is_spot else {"leverage": Decimal(5)}
        connection = await self.stage.activate(**terms, **more)
        self._account = Account(
            connection.id, USER, "", self.stage.exchange, self.stage.market_type, self.stage.keys
        )
        return connection

    def price(self, number: int) -> Decimal:
        """The last one."""
        market = self.stage.floor.market_of(self._symbol(number))
        assert market is not None
        return market.price

    @exact
    def move(self, number: int, price: Decimal, *, gap: bool) -> None:
        """On spot and swap alike."""
        for symbol in (self.symbols[number], f"{self.symbols[number]}:USDT"):
            self.venue.move(symbol, round_to_tick(price, Decimal("0.01")), gap=gap)

    def thin(self, fraction: Decimal) -> None:
        """Of every symbol."""
        for number in range(len(self.symbols)):
            self.venue.thin(self._symbol(number), fraction)

    async def verdict(self, heard: Heard) -> Verdict:
        """Of this account alone."""
        assert self._account is not None
        now = self.desk.now()
        return await check(self.desk.sessions, self.venue, [self._account], heard, now)

    async def held(self) -> Mapping[str, Decimal]:
        """Balances of coins, or positions."""
        ledger = self.stage.ledger
        if self.is_spot:
            return {symbol: ledger.balances.get(symbol.partition("/")[0], ZERO) for symbol in self.symbols}
        nets: dict[str, Decimal] = {}
        for each in ledger.open_positions:
            symbol = each.market.listing.symbol
            nets[symbol] = nets.get(symbol, ZERO) + each.quantity
        return nets

    @exact
    async def made(self) -> Decimal | None:
        """By the balance; coins that are left count for nothing."""
        ledger = self.stage.ledger
        return ledger.balances["USDT"] - ledger.deposits["USDT"]

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
        market = self.stage.floor.market_of(position.symbol)
        assert market is not None
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
        async with self.undisturbed(), self.desk.sessions() as session:
            connection = await session.get_one(Connection, position.connection_id)
            await (await broker_of(self.desk, connection)).place(request)

    def _legs(self, position: Position) -> list[Order]:
        return [
            order
            for order in list(self.stage.ledger.live.values())
            if order.market.listing.symbol == position.symbol
            and order.side is position.side.entry_side.opposite
        ]

    async def move_stop_by_hand(self, position: Position, price: Decimal) -> None:
        """Every stop of the symbol."""
        for order in self._legs(position):
            if order.status is Status.UNTRIGGERED and order.trigger is not None:
                if order.trigger.rising is (position.side.entry_side is Side.BUY):
                    continue
                order.trigger = Trigger(round_to_tick(price, Decimal("0.01")), rising=order.trigger.rising)

    async def cancel_by_hand(self, position: Position) -> None:
        """Whatever would leave it."""
        for order in self._legs(position):
            if order.is_live:
                self.stage.floor.cancel(self.stage.ledger, order)
