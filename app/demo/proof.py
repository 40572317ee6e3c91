"""Whether it really happened: what the engine reports, against a calculation on paper from fills and fees."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Final

from app.demo.client import Order, Position, PositionWithOrders, Summary

_DIGITS: Final = 50
_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was to happen, and what was found."""

    claim: str
    found: str
    holds: bool


def pnl_on_paper(position: PositionWithOrders) -> Decimal:
    """The money that came in less the money that went out over all orders of a closed position."""
    return _total(_cash(order) for order in position.orders if order.average_price is not None)


def pnl_agrees(who: str, position: Position, expected: Decimal, source: str) -> Finding:
    """A position's realised PnL is the `expected` one, to the last digit."""
    return Finding(
        f"{who}: PnL of the {position.side}",
        f"{_plain(position.realized_pnl)} {position.currency} reported, {_plain(expected)} from {source}",
        expected == position.realized_pnl,
    )


def analytics_agree(
    who: str, summaries: Sequence[Summary], currency: str, results: Sequence[Decimal]
) -> Finding:
    """The summary counts and adds up what each closed position made, all in one currency."""
    wins, losses = sum(result > 0 for result in results), sum(result < 0 for result in results)
    expected = [(currency, len(results), wins, losses, _total(results))]
    reported = [(each.currency, each.trades, each.wins, each.losses, each.net_pnl) for each in summaries]
    return Finding(
        f"{who}: analytics of these positions",
        "; ".join(
            f"trades {trades}, won {won}, lost {lost}, net {_plain(net)} {currency}"
            for currency, trades, won, lost, net in reported
        ),
        reported == expected,
    )


def _cash(order: Order) -> Decimal:
    """What an order's fills brought in (cost, below zero), its fees taken off."""
    price, sign = order.average_price or _ZERO, 1 if order.side == "sell" else -1
    with localcontext(prec=_DIGITS):
        return sign * order.filled_quantity * price - sum((fee.amount for fee in order.fees), _ZERO)


def _total(amounts: Iterable[Decimal]) -> Decimal:
    with localcontext(prec=_DIGITS):
        return sum(amounts, _ZERO)


def _plain(amount: Decimal) -> str:
    """An amount with all of its digits and no zeros behind them."""
    return f"{amount.normalize():f}"
