"""The two signals of the demo, as a source of signals would write them. Pure: they follow from prices alone."""

from decimal import Decimal
from typing import Any, Final

from app.demo.recording import SYMBOL

TICK: Final = Decimal("0.01")
_HALF: Final = "0.5"


def breakout(price: Decimal, symbol: str = SYMBOL, tick: Decimal = TICK) -> dict[str, Any]:
    """A buy at `price`: stop 1.5 % below, one half is to leave 0.8 % above, the other 2 % above.

    The recording rises by 3 % after its first third, so both targets are reached wherever before that it is bought.
    """
    return {
        "symbol": symbol,
        "direction": "buy",
        "entry_price": str(price),
        "stop_loss": _moved(price, "-1.5", tick),
        "take_profits": [
            {"price": _moved(price, "0.8", tick), "portion": _HALF},
            {"price": _moved(price, "2", tick), "portion": _HALF},
        ],
        "title": "Breakout",
    }


def is_fading(price: Decimal, recent_high: Decimal) -> bool:
    """Whether the price has come back from the recent high, so that it can be sold at a distance from it."""
    return price <= Decimal(_moved(recent_high, "-0.3", TICK))


def fade(price: Decimal, recent_high: Decimal, symbol: str = SYMBOL, tick: Decimal = TICK) -> dict[str, Any]:
    """A sell at `price`: stop 0.3 % above the recent high.

    After the rise the recording climbs on, to its highest price shortly before its end: the stop is reached.
    """
    return {
        "symbol": symbol,
        "direction": "sell",
        "entry_price": str(price),
        "stop_loss": _moved(recent_high, "0.3", tick),
        "title": "Fade",
    }


def _moved(price: Decimal, percent: str, tick: Decimal) -> str:
    return str((price * (100 + Decimal(percent)) / 100).quantize(tick))
