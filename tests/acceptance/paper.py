"""The calculation on paper: what trades earned and what the analytics of them are, from the contract's words alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import groupby

PAPER = Context(prec=60, rounding=ROUND_HALF_EVEN)
ZERO = Decimal(0)


@dataclass(frozen=True)
class Leg:
    """One fill that left a position."""

    quantity: Decimal
    price: Decimal


@dataclass(frozen=True)
class Round:
    """A position from its entry to its last exit."""

    sign: int
    """1 for longs, -1 for shorts."""
    quantity: Decimal
    entry: Decimal
    exits: Sequence[Leg]
    fee_rate: Decimal
    opened_at: datetime
    closed_at: datetime

    @property
    def exit(self) -> Decimal:
        """The average price it was left at."""
        with localcontext(PAPER):
            return _places(sum((leg.price * leg.quantity for leg in self.exits), ZERO) / self.quantity)

    @property
    def gross(self) -> Decimal:
        """What prices made of it."""
        with localcontext(PAPER):
            return sum(((leg.price - self.entry) * leg.quantity * self.sign for leg in self.exits), ZERO)

    @property
    def fees(self) -> Decimal:
        """What all its fills cost."""
        with localcontext(PAPER):
            traded = self.quantity * self.entry + sum((leg.quantity * leg.price for leg in self.exits), ZERO)
            return traded * self.fee_rate

    @property
    def net(self) -> Decimal:
        """What is left."""
        with localcontext(PAPER):
            return self.gross - self.fees


def analytics(rounds: Sequence[Round], balance: Decimal) -> dict[str, object]:
    """The figures of `/v1/analytics/summary`, of rounds by the time they were closed."""
    with localcontext(PAPER):
        nets = [each.net for each in rounds]
        won, lost = [net for net in nets if net > 0], [-net for net in nets if net < 0]
        profit, loss = sum(won, ZERO), sum(lost, ZERO)
        held = sum((each.closed_at - each.opened_at for each in rounds), timedelta())
        drawdowns = [(row["peak"], row["drawdown"]) for row in curve(rounds, balance)]
        return {
            "trades": len(nets),
            "wins": len(won),
            "losses": len(lost),
            "breakeven": len(nets) - len(won) - len(lost),
            "win_rate": _ratio(Decimal(100 * len(won)), len(nets)),
            "profit_factor": _ratio(profit, loss),
            "gross_profit": profit,
            "gross_loss": loss,
            "net_pnl": profit - loss,
            "fees": sum((each.fees for each in rounds), ZERO),
            "average_win": _ratio(profit, len(won)),
            "average_loss": _ratio(loss, len(lost)),
            "expectancy": _ratio(profit - loss, len(nets)),
            "largest_win": max(won, default=None),
            "largest_loss": max(lost, default=None),
            "longest_win_streak": _longest(net > 0 for net in nets),
            "longest_loss_streak": _longest(net < 0 for net in nets),
            "average_holding_seconds": _ratio(
                Decimal(held // timedelta(microseconds=1)) / 1_000_000, len(nets)
            ),
            "max_drawdown": max((drawdown for _, drawdown in drawdowns), default=ZERO),
            "max_drawdown_percent": max(
                (_places(100 * drawdown / peak) for peak, drawdown in drawdowns), default=ZERO
            ),
        }


def curve(rounds: Sequence[Round], balance: Decimal) -> list[dict[str, Decimal]]:
    """The equity curve: a row after each round, the start before them."""
    with localcontext(PAPER):
        peak, net = balance, ZERO
        rows = [{"peak": peak, "balance": balance, "net_pnl": net, "drawdown": ZERO}]
        for each in rounds:
            net += each.net
            peak = max(peak, balance + net)
            rows.append(
                {"peak": peak, "balance": balance + net, "net_pnl": net, "drawdown": peak - balance - net}
            )
        return rows


def _ratio(above: Decimal, below: Decimal | int) -> Decimal | None:
    return _places(above / below) if below else None


def _places(amount: Decimal) -> Decimal:
    """At the 18 places that are published."""
    return amount.quantize(Decimal(1).scaleb(-18))


def _longest(marks: Iterable[bool]) -> int:
    return max((len(list(run)) for mark, run in groupby(marks) if mark), default=0)
