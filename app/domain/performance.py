"""How performance is computed: from closed trades and known capital to every published figure.

All amounts are in one currency, all days are UTC days, and every figure follows from the arguments alone, so
any period can be computed again at any time. What the words mean:

* A *trade* is one closed position. It belongs, whole, to the UTC day of `closed_at`; trades are ordered by
  `closed_at`, then `id`.
* A *flow* is money that came or went without being PnL: a deposit or a withdrawal.
* A *period* is the UTC days `first_day` to `last_day`, both included. A day without trades has the return 0,
  so callers begin no period before the day of first activation and end none after the last day that counts.
  A side left None is the day of the first or last trade.
* The *capital* of a day is the starting balance, plus the flows up to its 00:00 UTC, plus the net PnL of the
  days before it. Given a whole history and a period of it, what came before the period makes its opening
  capital: the first peak of its drawdowns and the denominator of its first return.
* A starting balance that is not known is None. Then there is no capital, hence no balance, no drawdown in per
  cent and no ratio of returns; money and counts are computed all the same.

Several connections of one owner are one portfolio: the same functions over all their trades and their
`pooled` capital.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from math import prod
from types import MappingProxyType
from typing import Final
from uuid import UUID

from app.domain.money import HUNDRED, ZERO, exact

DAYS_PER_YEAR: Final = 365
"""Days that annualise a daily figure: these markets trade every day."""

CALMAR_MINIMUM_DAYS: Final = 30
"""Days a period must have before its growth is annualised."""

FORMULAS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "trades": "Number of positions closed in the period.",
        "wins": "Number of trades with a net PnL above zero.",
        "losses": "Number of trades with a net PnL below zero.",
        "breakeven": "Number of trades with a net PnL of exactly zero.",
        "win_rate": "wins ÷ trades × 100, in per cent; null without trades.",
        "profit_factor": "gross_profit ÷ gross_loss; null without losing trades.",
        "gross_profit": "Sum of the net PnL of the winning trades, in the currency.",
        "gross_loss": "−1 × the sum of the net PnL of the losing trades, in the currency.",
        "net_pnl": "gross_profit − gross_loss: gross PnL − fees + funding of all trades, in the currency.",
        "fees": "Sum of the fees of all trades, in the currency; what was paid is positive.",
        "average_win": "gross_profit ÷ wins, in the currency; null without winning trades.",
        "average_loss": "gross_loss ÷ losses, positive, in the currency; null without losing trades.",
        "expectancy": "net_pnl ÷ trades, in the currency per trade; null without trades.",
        "largest_win": "Largest net PnL of a winning trade, in the currency; null without one.",
        "largest_loss": "Largest loss (−net PnL) of a losing trade, in the currency; null without one.",
        "longest_win_streak": "Most winning trades in a row, by closed_at; a break-even trade ends the row.",
        "longest_loss_streak": "Most losing trades in a row, by closed_at; a break-even trade ends the row.",
        "average_holding_seconds": "Mean of closed_at − opened_at, in seconds; null without trades.",
        "max_drawdown": (
            "Largest peak − balance after any trade, in the currency, where the peak is the highest balance "
            "so far, the start included, and deposits and withdrawals shift both alike."
        ),
        "max_drawdown_percent": (
            "Largest drawdown ÷ peak at that time × 100 after any trade, in per cent; "
            "null when the capital is not known or no peak was above zero."
        ),
        "sharpe": (
            "Mean of the daily returns (net PnL ÷ capital at 00:00 UTC, none where that is not above zero) ÷ "
            "their sample standard deviation × √365; null with fewer than two returns or a deviation of zero."
        ),
        "sortino": (
            "Mean of the daily returns r ÷ √(Σ min(r, 0)² ÷ number of returns) × √365; "
            "null with fewer than two returns or without a negative one."
        ),
        "calmar": (
            "((end ÷ start)^(365 ÷ days) − 1) ÷ (max_drawdown_percent ÷ 100), where end ÷ start of the "
            "capital is chained at deposits and withdrawals; null under 30 days, when a start or an end is "
            "not above zero, or without a drawdown."
        ),
    }
)
"""Each field of `Statistics` in one sentence: its formula, its unit, and when it is null."""


@dataclass(frozen=True, slots=True)
class Trade:
    """One closed position.

    Amounts are in its currency; fees paid and funding received are positive, and `net_pnl` is `gross_pnl` −
    `fees` + `funding` as stored.
    """

    id: UUID
    opened_at: datetime
    closed_at: datetime
    gross_pnl: Decimal
    fees: Decimal
    funding: Decimal
    net_pnl: Decimal


@dataclass(frozen=True, slots=True)
class Flow:
    """A known deposit (`amount` above zero) or withdrawal (below zero), in the currency."""

    time: datetime
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Capital:
    """The money behind the trades: the balance at first activation, `since`, and the known flows after it."""

    since: datetime
    starting_balance: Decimal | None
    flows: tuple[Flow, ...] = ()


@dataclass(frozen=True, slots=True)
class Statistics:
    """The published figures of one period in one currency; `FORMULAS` defines each, None is "not defined"."""

    trades: int
    wins: int
    losses: int
    breakeven: int
    win_rate: Decimal | None
    profit_factor: Decimal | None
    gross_profit: Decimal
    gross_loss: Decimal
    net_pnl: Decimal
    fees: Decimal
    average_win: Decimal | None
    average_loss: Decimal | None
    expectancy: Decimal | None
    largest_win: Decimal | None
    largest_loss: Decimal | None
    longest_win_streak: int
    longest_loss_streak: int
    average_holding_seconds: Decimal | None
    max_drawdown: Decimal
    max_drawdown_percent: Decimal | None
    sharpe: Decimal | None
    sortino: Decimal | None
    calmar: Decimal | None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The equity curve after one trade, in money.

    `net_pnl` is the cumulated net PnL of the period; `balance` is opening capital + flows so far + `net_pnl`,
    None when the capital is not known; `drawdown` is the peak so far − `balance`, never below zero.
    """

    time: datetime
    balance: Decimal | None
    net_pnl: Decimal
    drawdown: Decimal


@exact
def statistics(
    trades: Iterable[Trade],
    *,
    starting_balance: Decimal | None,
    flows: Iterable[Flow],
    first_day: date | None = None,
    last_day: date | None = None,
) -> Statistics:
    """Every figure of the period, each by its sentence in `FORMULAS`."""
    period = _period(trades, starting_balance, flows, first_day, last_day)
    days = _trading_days(period)
    returns = [day.net_pnl / day.capital for day in days if day.capital > 0]
    points = _curve(period)
    drawdown_percent = _max_drawdown_percent(period.opening_capital, points)

    results = [trade.net_pnl for trade in period.trades]
    winners = [result for result in results if result > 0]
    losers = [-result for result in results if result < 0]
    gross_profit = sum(winners, ZERO)
    gross_loss = sum(losers, ZERO)
    net_pnl = sum(results, ZERO)
    return Statistics(
        trades=len(results),
        wins=len(winners),
        losses=len(losers),
        breakeven=len(results) - len(winners) - len(losers),
        win_rate=_quotient(HUNDRED * len(winners), len(results)),
        profit_factor=_quotient(gross_profit, gross_loss),
        gross_profit=gross_profit,
        gross_loss=gross_loss,
        net_pnl=net_pnl,
        fees=sum((trade.fees for trade in period.trades), ZERO),
        average_win=_quotient(gross_profit, len(winners)),
        average_loss=_quotient(gross_loss, len(losers)),
        expectancy=_quotient(net_pnl, len(results)),
        largest_win=max(winners, default=None),
        largest_loss=max(losers, default=None),
        longest_win_streak=_longest_run(result > 0 for result in results),
        longest_loss_streak=_longest_run(result < 0 for result in results),
        average_holding_seconds=_quotient(_holding_seconds(period.trades), len(results)),
        max_drawdown=max((point.drawdown for point in points), default=ZERO),
        max_drawdown_percent=drawdown_percent,
        sharpe=_sharpe(returns),
        sortino=_sortino(returns),
        calmar=_calmar(days, drawdown_percent),
    )


@exact
def curve(
    trades: Iterable[Trade],
    starting_balance: Decimal | None,
    flows: Iterable[Flow],
    *,
    first_day: date | None = None,
    last_day: date | None = None,
) -> list[CurvePoint]:
    """The equity curve of the period, a point per trade; a flow at the moment of a trade counts before it."""
    return _curve(_period(trades, starting_balance, flows, first_day, last_day))


def by_day(trades: Iterable[Trade]) -> dict[date, list[Trade]]:
    """The trades of each UTC day that has any, days and trades in order."""
    return {day: list(group) for day, group in groupby(in_order(trades), key=_day_of)}


def in_order(trades: Iterable[Trade]) -> list[Trade]:
    """The trades by `closed_at`, then `id`: the order of curves, drawdowns and streaks."""
    return sorted(trades, key=lambda trade: (trade.closed_at, trade.id))


def utc_day(moment: datetime) -> date:
    """The UTC day of an aware moment; a naive one, whose day nobody can know, is a ValueError."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone has no UTC day")
    return moment.astimezone(UTC).date()


def pooled(capitals: Iterable[Capital]) -> Capital | None:
    """The capital of several connections taken as one portfolio; None when there are none.

    It starts with the connection activated first. The starting balance of each later one is a flow at 00:00
    UTC of the day of its first activation, so that the capital of every day is the sum of the connections'
    capitals. One starting balance that is not known leaves the portfolio's unknown.
    """
    ordered = sorted(capitals, key=lambda capital: capital.since)
    if not ordered:
        return None
    flows = [flow for capital in ordered for flow in capital.flows]
    for later in ordered[1:]:
        if later.starting_balance is None:
            return Capital(ordered[0].since, None, tuple(flows))
        flows.append(Flow(_midnight(utc_day(later.since)), later.starting_balance))
    return Capital(ordered[0].since, ordered[0].starting_balance, tuple(flows))


# What follows runs inside the decimal context of the public functions above.


@dataclass(frozen=True, slots=True)
class _Period:
    """What happened in the days of a period, in order, and the capital it opened with."""

    days: Sequence[date]
    opening_capital: Decimal | None
    trades: Sequence[Trade]
    flows: Sequence[Flow]


@dataclass(frozen=True, slots=True)
class _TradingDay:
    """A day's capital at 00:00 UTC and its net PnL."""

    capital: Decimal
    net_pnl: Decimal

    @property
    def end(self) -> Decimal:
        """Capital plus net PnL: what the next day begins with when no money comes or goes."""
        return self.capital + self.net_pnl


def _period(
    trades: Iterable[Trade],
    starting_balance: Decimal | None,
    flows: Iterable[Flow],
    first_day: date | None,
    last_day: date | None,
) -> _Period:
    """Cut the period out of a history; what came before it becomes its opening capital."""
    history = in_order(trades)
    arrivals = sorted(flows, key=lambda flow: flow.time)
    if first_day is None and history:
        first_day = _day_of(history[0])
    if last_day is None and history:
        last_day = _day_of(history[-1])
    if first_day is None or last_day is None:
        return _Period((), starting_balance, history, arrivals)

    opening = _midnight(first_day)
    before = [trade.net_pnl for trade in history if trade.closed_at < opening]
    before += [flow.amount for flow in arrivals if flow.time <= opening]
    return _Period(
        days=[date.fromordinal(day) for day in range(first_day.toordinal(), last_day.toordinal() + 1)],
        opening_capital=None if starting_balance is None else sum(before, starting_balance),
        trades=[trade for trade in history if first_day <= _day_of(trade) <= last_day],
        flows=[flow for flow in arrivals if flow.time > opening],
    )


def _trading_days(period: _Period) -> list[_TradingDay]:
    """Capital and net PnL of every day of the period; none when the capital is not known."""
    if period.opening_capital is None:
        return []
    trades = by_day(period.trades)
    flows = deque(period.flows)
    capital = period.opening_capital
    days = []
    for date_ in period.days:
        while flows and flows[0].time <= _midnight(date_):
            capital += flows.popleft().amount
        day = _TradingDay(capital, sum((trade.net_pnl for trade in trades.get(date_, ())), ZERO))
        days.append(day)
        capital = day.end
    return days


def _curve(period: _Period) -> list[CurvePoint]:
    """The points of `curve`.

    Flows shift peak and balance alike, so a drawdown is the fall of the cumulated net PnL from its highest
    value so far, zero included, whatever the capital.
    """
    flows = deque(period.flows)
    capital = period.opening_capital
    net_pnl = peak = ZERO
    points = []
    for trade in period.trades:
        while capital is not None and flows and flows[0].time <= trade.closed_at:
            capital += flows.popleft().amount
        net_pnl += trade.net_pnl
        peak = max(peak, net_pnl)
        balance = None if capital is None else capital + net_pnl
        points.append(CurvePoint(trade.closed_at, balance, net_pnl, peak - net_pnl))
    return points


def _max_drawdown_percent(opening_capital: Decimal | None, points: Iterable[CurvePoint]) -> Decimal | None:
    """Largest drawdown ÷ peak × 100, the peak being balance + drawdown; only peaks above zero count."""
    if opening_capital is None:
        return None
    falls = [(ZERO, opening_capital)]
    falls += [
        (point.drawdown, point.balance + point.drawdown) for point in points if point.balance is not None
    ]
    return max((drawdown * HUNDRED / peak for drawdown, peak in falls if peak > 0), default=None)


def _sharpe(returns: Sequence[Decimal]) -> Decimal | None:
    """Mean ÷ √(Σ (r − mean)² ÷ (n − 1)) × √365."""
    if len(returns) < 2 or min(returns) == max(returns):
        return None
    mean = sum(returns, ZERO) / len(returns)
    variance = sum(((each - mean) ** 2 for each in returns), ZERO) / (len(returns) - 1)
    return mean / variance.sqrt() * Decimal(DAYS_PER_YEAR).sqrt()


def _sortino(returns: Sequence[Decimal]) -> Decimal | None:
    """Mean ÷ √(Σ min(r, 0)² ÷ n) × √365."""
    if len(returns) < 2 or min(returns) >= 0:
        return None
    mean = sum(returns, ZERO) / len(returns)
    downside_variance = sum((min(each, ZERO) ** 2 for each in returns), ZERO) / len(returns)
    return mean / downside_variance.sqrt() * Decimal(DAYS_PER_YEAR).sqrt()


def _calmar(days: Sequence[_TradingDay], drawdown_percent: Decimal | None) -> Decimal | None:
    """(growth^(365 ÷ days) − 1) ÷ drawdown as a fraction."""
    if len(days) < CALMAR_MINIMUM_DAYS or not drawdown_percent:
        return None
    growth = _growth(days)
    if growth is None:
        return None
    annual_return = growth ** (Decimal(DAYS_PER_YEAR) / len(days)) - 1
    return annual_return * HUNDRED / drawdown_percent


def _growth(days: Sequence[_TradingDay]) -> Decimal | None:
    """End ÷ start of the capital, chained at each flow (time-weighted), so that a deposit is no growth.

    None when a start or an end is not above zero.
    """
    breaks = [(day, following) for day, following in pairwise(days) if following.capital != day.end]
    starts = [days[0].capital, *(following.capital for _, following in breaks)]
    ends = [*(day.end for day, _ in breaks), days[-1].end]
    if min(*starts, *ends) <= 0:
        return None
    return prod((end / start for start, end in zip(starts, ends, strict=True)), start=Decimal(1))


def _longest_run(outcomes: Iterable[bool]) -> int:
    """The most True in a row."""
    return max((len(list(run)) for outcome, run in groupby(outcomes) if outcome), default=0)


def _holding_seconds(trades: Iterable[Trade]) -> Decimal:
    """Seconds from `opened_at` to `closed_at`, summed, exact to the microsecond."""
    held = sum((trade.closed_at - trade.opened_at for trade in trades), timedelta())
    return Decimal(held // timedelta(microseconds=1)) / 1_000_000


def _quotient(dividend: Decimal, divisor: Decimal | int) -> Decimal | None:
    """The quotient, None without a denominator."""
    return dividend / divisor if divisor else None


def _day_of(trade: Trade) -> date:
    """The UTC day a trade belongs to."""
    return utc_day(trade.closed_at)


def _midnight(day: date) -> datetime:
    """00:00 UTC, where a day begins."""
    return datetime.combine(day, time.min, UTC)
