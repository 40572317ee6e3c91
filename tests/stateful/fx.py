"""MetaTrader brokers as grounds."""

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

from app.brokers.directory import Directory
from app.brokers.metatrader import open_metatrader
from app.brokers.metatrader.marks import Handle
from app.domain.money import ZERO, exact, floor_to_step, round_to_tick
from app.domain.orders import Side
from app.store.connections import Connection
from app.store.positions import Position
from tests.chaos.checker import check
from tests.chaos.tickets import FxAccount
from tests.chaos.verdict import BY_HAND, Heard, Verdict
from tests.desks import USER
from tests.engine import metatrader
from tests.stateful.grounds import OnWire
from tests.venues.metatrader import Method, Platform, refusal
from tests.venues.metatrader.accounts import Operation
from tests.venues.metatrader.accounts import Position as Ticket
from tests.venues.metatrader.instruments import Market
from tests.venues.metatrader.server import Rejection, TradeServer, Wish


class Fx(OnWire):
    """A MetaTrader broker behind its bridge."""

    symbols = ("EUR/USD", "GBP/USD")
    sizes = ({"strategy": "fixed", "value": "0.05"}, {"strategy": "fixed", "value": "0.01"})
    fills_in_part = False

    def __init__(self, stage: metatrader.Stage) -> None:
        super().__init__(stage.desk)
        self.stage, self.venue = stage, stage.venue
        self.refused = refusal("REQUOTE")
        self._account: FxAccount | None = None

    def brokers(self) -> Directory:
        endpoints = {"mt4": self.venue.mt4.url, "mt5": self.venue.mt5.url}
        venue = open_metatrader(self.desk.vault, endpoints, self.desk.now, metatrader.PATIENCE)
        return Directory({"fx": venue})

    async def connect(self, **terms: Any) -> Connection:
        """At the broker's leverage."""
        connection = await self.stage.activate(**terms)
        self._account = FxAccount(connection.id, USER, "", Platform(self.stage.platform), self.stage.owner)
        return connection

    @property
    def _server(self) -> TradeServer:
        return self.stage.venue.bridge(self.stage.platform).server

    def _market(self, symbol: str) -> Market:
        market = self._server.market_of(symbol)
        assert market is not None
        return market

    def price(self, number: int) -> Decimal:
        """The bid."""
        return self._market(self.symbols[number]).bid

    @exact
    def move(self, number: int, price: Decimal, *, gap: bool) -> None:
        """The bid."""
        point = self._market(self.symbols[number]).point
        self.venue.move(self.symbols[number], round_to_tick(price, point), gap=gap)

    async def verdict(self, heard: Heard) -> Verdict:
        """Of this account alone."""
        assert self._account is not None
        now = self.desk.now()
        return await check(
            self.desk.sessions, None, [], heard, now, brokers=self.venue, fx_accounts=[self._account]
        )

    async def held(self) -> Mapping[str, Decimal]:
        """Lots; where an account hedges, tickets of its owner's own are beside ours."""
        nets: dict[str, Decimal] = {}
        login = self.stage.login
        for ticket in login.positions.values():
            if login.method is Method.HEDGING and ticket.comment.startswith(BY_HAND):
                continue
            nets[ticket.market.name] = nets.get(ticket.market.name, ZERO) + ticket.lots * ticket.side.sign
        return nets

    async def made(self) -> Decimal | None:
        """To the cent."""
        return self.stage.login.realized

    def _tickets(self, position: Position) -> list[Ticket]:
        if position.handle is None:
            return []
        known = Handle.read(position.handle)
        return [
            ticket
            for ticket in self.stage.login.positions.values()
            if ticket.magic == known.magic or ticket.ticket == known.ticket
        ]

    async def reduce_by_hand(self, position: Position, portion: Decimal) -> None:
        """At the terminal."""
        for ticket in self._tickets(position):
            lots = ticket.lots if portion == 1 else floor_to_step(ticket.lots * portion, Decimal("0.01"))
            if lots:
                self.hand_made += 1
                self._server.close(self.stage.login, ticket, lots)

    async def add_by_hand(self, position: Position) -> None:
        """A ticket of its own where the account hedges."""
        market = self._market(position.symbol)
        operation = Operation.BUY if position.side.entry_side is Side.BUY else Operation.SELL
        self.has_added = True
        self.hand_made += 1
        wish = Wish(market, operation, Decimal("0.03"), magic=0, comment=f"{BY_HAND}-{next(self.numbers)}")
        with suppress(Rejection):
            self._server.send(self.stage.login, wish)

    async def move_stop_by_hand(self, position: Position, price: Decimal) -> None:
        """As the terminal allows it."""
        for ticket in self._tickets(position):
            at = round_to_tick(price, ticket.market.point)
            with suppress(Rejection):
                self._server.modify(
                    self.stage.login, ticket.ticket, stop_loss=at, take_profit=ticket.take_profit
                )

    async def cancel_by_hand(self, position: Position) -> None:
        """Both levels are taken off."""
        for ticket in self._tickets(position):
            with suppress(Rejection):
                self._server.modify(self.stage.login, ticket.ticket, stop_loss=ZERO, take_profit=ZERO)
