"""Lanes: one coin or pair on one account, on which signal follows signal, each when the one before has ended."""

import random
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

COINS: Final = {"BTC": 20000, "ETH": 1000, "SOL": 100, "XRP": 10, "ADA": 20, "DOT": 5}
"""What the exchanges trade, and the price around which it walks."""

PAIRS: Final = {"EUR/USD": "1.10000", "GBP/USD": "1.25000", "USD/JPY": "150.000"}
"""What the brokers of the bridges trade, and the bid around which it walks."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Where signals of a run go."""

    plan: str
    """Which one account has."""
    where: str
    symbol: str
    price: Decimal
    """Around which it walks."""
    sells: bool
    """Whether it can be sold short there."""

    def wording(self, dice: random.Random) -> dict[str, Any]:
        """A signal around the price: sometimes with a target, sometimes as a limit order."""
        away = -1 if self.sells and dice.random() < 0.5 else 1
        wording: dict[str, Any] = {
            "direction": "buy" if away == 1 else "sell",
            "stop_loss": str(self.price * (1 - away * Decimal("0.05"))),
        }
        if dice.random() < 0.5:
            wording["take_profits"] = [
                {"price": str(self.price * (1 + away * Decimal("0.04"))), "portion": "0.5"}
            ]
        if dice.random() < 0.1:
            price = str(self.price * (1 - away * Decimal("0.005")))
            wording |= {"order_type": "limit", "entry_price": price}
        return wording

    def tighter(self, wording: dict[str, Any]) -> str:
        """A stop a little nearer than the one a signal came with."""
        away = 1 if wording["direction"] == "buy" else -1
        return str(self.price * (1 - away * Decimal("0.045")))


def walked(dice: random.Random, price: Decimal) -> Decimal:
    """Where a price may walk: up to 3 % away from where it began, in steps as fine as its own."""
    return (price * (1 + Decimal(dice.randint(-30, 30)) / 1000)).quantize(price)
