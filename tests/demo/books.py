"""An account as its venue has it: what rests there, what trading has brought, whether anything came twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from app.demo.screen import as_price
from app.domain.money import ZERO, exact, stored
from app.domain.orders import Side
from tests.venues.accounts import Account
from tests.venues.metatrader.accounts import Login
from tests.venues.orders import Order

COIN = "BTC"


@dataclass(frozen=True, slots=True)
class Resting:
    """A stop or a target that the venue holds."""

    is_stop: bool
    price: Decimal
    described: str


class Book(Protocol):
    """What a venue knows of one account."""

    @property
    def resting(self) -> Sequence[Resting]:
        """What the venue will do by itself when the price gets there."""

    @property
    def result(self) -> Decimal:
        """What trading has brought so far, in the account's currency, fees taken off."""

    @property
    def orders(self) -> int:
        """How many orders it has accepted."""

    @property
    def doubles(self) -> int:
        """How many names more than one order was accepted under."""


@dataclass(frozen=True, slots=True)
class ExchangeBook:
    """An account at a crypto exchange that is paid in USDT."""

    account: Account

    @property
    def resting(self) -> Sequence[Resting]:
        """Live orders, the stops first."""
        found = [_resting(order) for order in self.account.live.values()]
        return sorted(found, key=lambda each: (not each.is_stop, each.price))

    @property
    @exact
    def result(self) -> Decimal:
        """The change of the balance in USDT; coins too few to be sold still count what they have cost."""
        change = self.account.balances["USDT"] - self.account.deposits["USDT"]
        return stored(change + self._cost_of_what_is_left())

    @property
    def orders(self) -> int:
        """Accepted ones."""
        return len(self.account.orders)

    @property
    def doubles(self) -> int:
        """By client order id."""
        return sum(len(orders) > 1 for orders in self.account.by_client_id.values())

    def _cost_of_what_is_left(self) -> Decimal:
        bought = [fill for fill in self.account.fills if fill.fee_currency == COIN]
        if not bought:
            return ZERO
        cost = sum((fill.quantity * fill.price for fill in bought), ZERO)
        received = sum((fill.quantity - fill.fee for fill in bought), ZERO)
        return cost * self.account.balances[COIN] / received


@dataclass(frozen=True, slots=True)
class MetaTraderBook:
    """An account at a MetaTrader broker."""

    login: Login

    @property
    def resting(self) -> Sequence[Resting]:
        """What its positions carry."""
        return [
            Resting(name == "stop-loss", price, f"{name} {as_price(price)} on position {position.ticket}")
            for position in self.login.positions.values()
            for name, price in (("stop-loss", position.stop_loss), ("take-profit", position.take_profit))
            if price
        ]

    @property
    def result(self) -> Decimal:
        """Profits, commissions and swaps of its deals."""
        return self.login.realized

    @property
    def orders(self) -> int:
        """Accepted ones, closing ones aside."""
        return len(self.login.orders)

    @property
    def doubles(self) -> int:
        """By magic number and comment."""
        return len(self.login.doubles())


def _resting(order: Order) -> Resting:
    side, quantity = order.side.value, "all" if order.whole else order.remaining
    if order.trigger is None:
        assert order.price is not None
        return Resting(False, order.price, f"limit {side} {quantity} at {as_price(order.price)}")
    price, is_stop = order.trigger.price, order.trigger.rising == (order.side is Side.BUY)
    name = "stop" if is_stop else "target"
    return Resting(is_stop, price, f"{name} {side} {quantity} from {as_price(price)}")
