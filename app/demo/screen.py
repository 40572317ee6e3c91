"""What the person at the terminal sees: one line per thing that happened, with the seconds since the start."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from time import monotonic
from typing import Final

from rich.console import Console
from rich.text import Text

from app.demo.client import Execution, Notification, Position, Summary
from app.demo.proof import Finding

_TWO_DIGITS_FROM: Final = 10
_NOTIFICATION_STYLES: Final = {"tp_hit": "green", "sl_hit": "red", "close": "bold", "error": "bold red"}


def as_price(price: Decimal) -> str:
    """A price with the digits its market is read with: two, or the five of a currency pair."""
    return f"{price:,.2f}" if price >= _TWO_DIGITS_FROM else f"{price:,.5f}"


class Screen:
    """Lines on the standard output."""

    def __init__(self) -> None:
        """Begin to count the seconds."""
        self._console = Console(highlight=False, soft_wrap=True)
        self._started = monotonic()

    def title(self, text: str) -> None:
        """A heading."""
        self._console.print(Text(f"\n{text}", style="bold"))

    def facts(self, facts: Mapping[str, str]) -> None:
        """Names and what there is to know of each."""
        width = max(len(name) for name in facts)
        for name, fact in facts.items():
            self._console.print(Text(f"  {name:<{width}}  {fact}"))

    def line(self, who: str, text: str, style: str = "") -> None:
        """Something that happened to somebody."""
        moment = f"{monotonic() - self._started:6.1f} s"
        self._console.print(Text.assemble((moment, "dim"), "  ", (f"{who:<9}", "cyan"), "  ", (text, style)))

    def execution(self, who: str, execution: Execution) -> None:
        """What became of a signal on an account."""
        if execution.average_price is None:
            reason = f"{execution.code}: {execution.message}"
            self.line(who, f"execution     {execution.status}, {reason}", "yellow")
            return
        took = execution.timeline.milliseconds.get("total")
        filled = f"{execution.filled_quantity} {execution.symbol} at {as_price(execution.average_price)}"
        self.line(
            who, f"execution     {execution.status}, {filled}, {took} ms after the signal came in", "bold"
        )

    def position(self, who: str, position: Position) -> None:
        """What an account holds and when it is to leave it."""
        targets = ", ".join(f"{rung.quantity} at {as_price(rung.price)}" for rung in position.take_profits)
        stop = "none" if position.stop_loss is None else as_price(position.stop_loss)
        plan = f"stop {stop}" + (f", targets {targets}" if targets else "")
        held = f"{position.side} {position.quantity} from {as_price(position.entry_price)}"
        self.line(who, f"position      {held}; {plan}", "bold")

    def notification(self, who: str, notification: Notification) -> None:
        """What an owner was told."""
        style = _NOTIFICATION_STYLES.get(notification.type, "dim")
        self.line(who, f"notification  {notification.type}: {notification.message}", style)

    def protection(self, who: str, protection: str) -> None:
        """Who watches over a position now."""
        self.line(who, f"position      protection {protection}", "bold")

    def market(
        self, shown_time: datetime, prices: Mapping[str, Decimal], profits: Mapping[str, Decimal]
    ) -> None:
        """The prices the engine saw last, and the open profit of everyone who holds something."""
        seen = ", ".join(f"{symbol} {as_price(price)}" for symbol, price in prices.items())
        open_profit = ", ".join(f"{who} {profit:+,.2f}" for who, profit in profits.items())
        self.line("market", f"{shown_time:%H:%M}  {seen}    open profit {open_profit}", "blue")

    def analytics(self, summaries: Iterable[tuple[str, Summary]]) -> None:
        """The figures of the day, a row per account."""
        self._row(
            "", "trades", "won", "lost", "win rate %", "profit factor", "fees", "net PnL", "max drawdown"
        )
        for who, each in summaries:
            figures = (each.win_rate, each.profit_factor, each.fees, each.net_pnl, each.max_drawdown)
            counts = (each.trades, each.wins, each.losses)
            self._row(who, *(str(count) for count in counts), *(_rounded(figure) for figure in figures))

    def findings(self, findings: Sequence[Finding]) -> None:
        """What was checked, with its outcome."""
        for finding in findings:
            sign, style = ("ok   ", "green") if finding.holds else ("WRONG", "bold red")
            self._console.print(Text.assemble("  ", (sign, style), f"  {finding.claim}: {finding.found}"))

    def failure(self, reason: str) -> None:
        """Why the demo did not succeed."""
        self._console.print(Text(f"\nThe demo failed: {reason}", style="bold red"))

    def _row(self, who: str, *cells: str) -> None:
        self._console.print(Text(f"  {who:<9}" + "".join(f"{cell:>14}" for cell in cells)))


def _rounded(figure: Decimal | None) -> str:
    return "-" if figure is None else f"{figure:,.2f}"
