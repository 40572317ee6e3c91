"""Performance: figures worked out by hand, and the laws that hold for any trades."""

import statistics as reference
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.performance import (
    FORMULAS,
    Capital,
    CurvePoint,
    Flow,
    Statistics,
    Trade,
    by_day,
    curve,
    pooled,
    statistics,
    utc_day,
)

D = Decimal
DAY_ONE = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WIDE = Context(prec=100)  # wider than the arithmetic under test

MONEY = (
    "gross_profit", "gross_loss", "net_pnl", "fees", "average_win", "average_loss", "expectancy",
    "largest_win", "largest_loss", "max_drawdown",
)  # fmt: skip


def trade(
    number: int, net: str | Decimal, closed_at: datetime = NOON, *, fees: str = "0", held: int = 60
) -> Trade:
    """A trade with this net PnL, held for `held` seconds."""
    with localcontext(WIDE):
        gross = D(net) + D(fees)
    return Trade(
        UUID(int=number), closed_at - timedelta(seconds=held), closed_at, gross, D(fees), D(0), D(net)
    )


def one_a_day(*nets: str) -> list[Trade]:
    """A trade each day at noon from the first day on."""
    return [trade(number, net, NOON + timedelta(days=number)) for number, net in enumerate(nets)]


def day(number: int) -> date:
    """The day `number` days after the first."""
    return DAY_ONE + timedelta(days=number)


def computed(
    trades: Iterable[Trade],
    starting_balance: str | None = "1000",
    flows: Sequence[Flow] = (),
    first_day: date | None = None,
    last_day: date | None = None,
) -> Statistics:
    """The statistics of a history that starts with 1000."""
    start = None if starting_balance is None else D(starting_balance)
    return statistics(trades, starting_balance=start, flows=flows, first_day=first_day, last_day=last_day)


def drawdowns(points: Iterable[CurvePoint]) -> list[Decimal]:
    """The drawdown of each point."""
    return [point.drawdown for point in points]


# Counts, sums and means


def test_without_trades_sums_are_zero_and_ratios_undefined() -> None:
    assert computed([], first_day=DAY_ONE, last_day=day(59)) == Statistics(
        trades=0,
        wins=0,
        losses=0,
        breakeven=0,
        win_rate=None,
        profit_factor=None,
        gross_profit=D(0),
        gross_loss=D(0),
        net_pnl=D(0),
        fees=D(0),
        average_win=None,
        average_loss=None,
        expectancy=None,
        largest_win=None,
        largest_loss=None,
        longest_win_streak=0,
        longest_loss_streak=0,
        average_holding_seconds=None,
        max_drawdown=D(0),
        max_drawdown_percent=D(0),
        sharpe=None,
        sortino=None,
        calmar=None,
    )


def test_without_trades_and_without_a_period() -> None:
    assert computed([]) == computed([], first_day=DAY_ONE, last_day=DAY_ONE)
    assert curve([], D(1000), [Flow(NOON, D(5))]) == []
    assert by_day([]) == {}


def test_a_mixed_account_by_hand() -> None:
    trades = [
        trade(1, "50", NOON, fees="1", held=100),
        trade(2, "-20", NOON + timedelta(hours=1), fees="2", held=200),
        trade(3, "0", NOON + timedelta(hours=2), fees="3.5", held=300),
        trade(4, "30", NOON + timedelta(hours=3), held=401),
        trade(5, "-40", NOON + timedelta(hours=4), fees="0.25", held=0),
    ]
    assert computed(trades) == Statistics(
        trades=5,
        wins=2,
        losses=2,
        breakeven=1,
        win_rate=D(40),
        profit_factor=decimal_of(Fraction(80, 60)),
        gross_profit=D(80),
        gross_loss=D(60),
        net_pnl=D(20),
        fees=D("6.75"),
        average_win=D(40),
        average_loss=D(30),
        expectancy=D(4),
        largest_win=D(50),
        largest_loss=D(40),
        longest_win_streak=1,
        longest_loss_streak=1,
        average_holding_seconds=D("200.2"),
        max_drawdown=D(40),
        max_drawdown_percent=decimal_of(Fraction(40 * 100, 1060)),
        sharpe=None,
        sortino=None,
        calmar=None,
    )


def test_one_winning_trade() -> None:
    result = computed([trade(1, "12.5", held=90)])
    assert (result.win_rate, result.profit_factor, result.expectancy) == (D(100), None, D("12.5"))
    assert (result.average_win, result.average_loss) == (D("12.5"), None)
    assert (result.largest_win, result.largest_loss) == (D("12.5"), None)
    assert (result.max_drawdown, result.max_drawdown_percent) == (D(0), D(0))
    assert result.average_holding_seconds == D(90)


def test_one_losing_trade() -> None:
    result = computed([trade(1, "-12.5")])
    assert (result.win_rate, result.profit_factor, result.gross_loss) == (D(0), D(0), D("12.5"))
    assert (result.average_win, result.average_loss) == (None, D("12.5"))
    assert (result.largest_win, result.largest_loss) == (None, D("12.5"))
    assert (result.max_drawdown, result.max_drawdown_percent) == (D("12.5"), D("1.25"))


def test_only_break_even_trades() -> None:
    result = computed(one_a_day("0", "0.00", "-0"))
    assert (result.trades, result.wins, result.losses, result.breakeven) == (3, 0, 0, 3)
    assert (result.win_rate, result.expectancy, result.profit_factor) == (D(0), D(0), None)
    assert (result.average_win, result.average_loss) == (None, None)
    assert (result.longest_win_streak, result.longest_loss_streak) == (0, 0)


def test_only_wins_have_no_profit_factor() -> None:
    result = computed(one_a_day("1", "2", "3"))
    assert (result.profit_factor, result.average_win, result.longest_win_streak) == (None, D(2), 3)
    assert (result.sortino, result.calmar) == (None, None)


def test_holding_time_is_exact_to_the_microsecond() -> None:
    first = replace(trade(1, "1"), opened_at=NOON - timedelta(microseconds=1))
    second = replace(trade(2, "1"), opened_at=NOON - timedelta(days=400))
    assert computed([first, second]).average_holding_seconds == D("17280000.0000005")


@pytest.mark.parametrize(
    ("nets", "wins", "losses"),
    [
        (["1", "1", "-1", "1", "1", "1"], 3, 1),
        (["1", "0", "1", "-1", "0", "-1"], 1, 1),
        (["-1", "-1", "1", "-1", "-1", "-1", "-1"], 1, 4),
    ],
)
def test_streaks_end_at_the_other_outcome_and_at_break_even(nets: list[str], wins: int, losses: int) -> None:
    result = computed(one_a_day(*nets))
    assert (result.longest_win_streak, result.longest_loss_streak) == (wins, losses)


def test_trades_closed_at_the_same_moment_are_ordered_by_id() -> None:
    trades = [trade(3, "5"), trade(1, "5"), trade(2, "-5")]
    assert [point.net_pnl for point in curve(trades, D(10), [])] == [D(5), D(0), D(5)]
    assert computed(trades).longest_win_streak == 1
    assert [each.id.int for each in by_day(trades)[DAY_ONE]] == [1, 2, 3]


# Days


def test_a_trade_belongs_to_the_utc_day_of_its_close() -> None:
    last_moment = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    east = timezone(timedelta(hours=5))
    late = trade(1, "1", last_moment)
    midnight = trade(2, "2", last_moment + timedelta(microseconds=1))
    abroad = trade(3, "3", datetime(2026, 3, 2, 4, 59, tzinfo=east))
    assert by_day([midnight, late, abroad]) == {DAY_ONE: [abroad, late], day(1): [midnight]}
    assert computed([midnight, late, abroad], first_day=DAY_ONE, last_day=DAY_ONE).net_pnl == D(4)
    assert computed([midnight, late, abroad], first_day=day(1), last_day=day(1)).net_pnl == D(2)


def test_a_moment_without_a_time_zone_has_no_day() -> None:
    with pytest.raises(ValueError, match="time zone"):
        utc_day(datetime(2026, 3, 1))  # noqa: DTZ001


def test_a_period_that_ends_before_it_begins_is_empty() -> None:
    assert computed(one_a_day("5"), first_day=day(3), last_day=day(1)).trades == 0


# Drawdown and the curve


def test_an_account_that_only_loses_has_a_drawdown() -> None:
    trades = one_a_day("-100", "-200", "-50")
    result = computed(trades)
    assert (result.max_drawdown, result.max_drawdown_percent) == (D(350), D(35))
    assert curve(trades, D(1000), []) == [
        CurvePoint(NOON, D(900), D(-100), D(100)),
        CurvePoint(NOON + timedelta(days=1), D(700), D(-300), D(300)),
        CurvePoint(NOON + timedelta(days=2), D(650), D(-350), D(350)),
    ]


def test_the_largest_fall_in_money_and_in_per_cent_may_be_two_falls() -> None:
    trades = one_a_day("-200", "1200", "-300")
    result = computed(trades)
    assert (result.max_drawdown, result.max_drawdown_percent) == (D(300), D(20))


def test_a_drawdown_may_exceed_the_peak() -> None:
    assert computed(one_a_day("-1500")).max_drawdown_percent == D(150)


def test_a_deposit_shifts_peak_and_balance_alike() -> None:
    trades = one_a_day("-100", "-100")
    deposit = Flow(NOON + timedelta(hours=6), D(1000))
    assert curve(trades, D(1000), [deposit]) == [
        CurvePoint(NOON, D(900), D(-100), D(100)),
        CurvePoint(NOON + timedelta(days=1), D(1800), D(-200), D(200)),
    ]
    result = computed(trades, flows=[deposit])
    assert (result.max_drawdown, result.max_drawdown_percent) == (D(200), D(10))


def test_a_withdrawal_is_no_drawdown_but_makes_one_weigh_more() -> None:
    withdrawal = Flow(NOON + timedelta(hours=6), D(-500))
    assert computed(one_a_day("0", "0"), flows=[withdrawal]).max_drawdown_percent == D(0)
    assert computed(one_a_day("0", "-100"), flows=[withdrawal]).max_drawdown_percent == D(20)


def test_a_flow_at_the_moment_of_a_trade_counts_before_it() -> None:
    assert curve([trade(1, "5")], D(10), [Flow(NOON, D(100))])[0].balance == D(115)
    assert curve([trade(1, "5")], D(10), [Flow(NOON + timedelta(microseconds=1), D(100))])[0].balance == D(15)


@pytest.mark.parametrize("starting_balance", ["0", "-10"])
def test_a_peak_that_is_not_above_zero_has_no_percentage(starting_balance: str) -> None:
    result = computed(one_a_day("-5", "-5"), starting_balance)
    assert (result.max_drawdown, result.max_drawdown_percent) == (D(10), None)
    assert (result.sharpe, result.sortino) == (None, None)


def test_an_unknown_starting_balance_leaves_money_and_no_ratio_of_capital() -> None:
    trades = one_a_day("10", "-4", "-4", *["1"] * 30)
    deposit = Flow(NOON, D(1000))
    result = computed(trades, None, [deposit])
    assert (result.max_drawdown, result.max_drawdown_percent) == (D(8), None)
    assert (result.sharpe, result.sortino, result.calmar) == (None, None, None)
    assert curve(trades, None, [deposit])[1] == CurvePoint(NOON + timedelta(days=1), None, D(6), D(4))
    known = computed(trades, "1000", [deposit])
    nothing_of_capital = dict.fromkeys(("max_drawdown_percent", "sharpe", "sortino", "calmar"))
    assert replace(known, **nothing_of_capital) == result  # type: ignore[arg-type]


def test_a_period_opens_with_the_capital_that_the_history_left() -> None:
    trades = one_a_day("100", "-50", "-21", "9")
    flows = [Flow(NOON, D(400)), Flow(datetime(2026, 3, 3, tzinfo=UTC), D(550))]
    period = {"first_day": day(2), "last_day": day(3)}
    opening = "2000"
    assert computed(trades, "1000", flows, **period) == computed(trades[2:], opening, [], **period)
    assert curve(trades, D(1000), flows, **period) == curve(trades[2:], D(opening), [])
    assert computed(trades, "1000", flows, **period).max_drawdown_percent == D("1.05")


# Ratios of daily returns

ROOT_OF_730 = D(730).sqrt(WIDE)


def forty_places(ratio: Decimal | None) -> Decimal | None:
    """A ratio that is not rational, to 40 decimal places."""
    return None if ratio is None else ratio.quantize(D("1e-40"), context=WIDE)


def test_sharpe_of_one_and_three_per_cent() -> None:
    """Mean 2 %, sample deviation √2 %: 2 ÷ √2 × √365 = √730."""
    result = computed(one_a_day("1", "3.03"), "100")
    assert forty_places(result.sharpe) == forty_places(ROOT_OF_730)
    assert result.sortino is None


def test_sortino_of_minus_one_and_three_per_cent() -> None:
    """Mean 1 %, downside deviation √(1 ÷ 2) %: √2 × √365 = √730."""
    result = computed(one_a_day("-1", "2.97"), "100")
    assert forty_places(result.sortino) == forty_places(ROOT_OF_730)


def test_equal_returns_have_no_deviation() -> None:
    """Seven returns of one third each: capital × 4/3 a day, in whole numbers."""
    gains, capital = [], 3**7
    for _ in range(7):
        gains.append(str(capital // 3))
        capital += capital // 3
    result = computed(one_a_day(*gains), str(3**7))
    assert (result.sharpe, result.sortino) == (None, None)


def test_a_single_day_has_no_ratio() -> None:
    result = computed([trade(1, "5"), trade(2, "-6")])
    assert (result.sharpe, result.sortino, result.calmar) == (None, None, None)


def test_days_without_trades_in_the_period_return_zero() -> None:
    quiet = computed(one_a_day("1"), "100", first_day=day(-1), last_day=day(2))
    assert quiet == replace(
        computed([trade(0, "0"), *one_a_day("1", "0", "0", "0")], "100"),
        trades=1, breakeven=0, win_rate=D(100), expectancy=D(1), sharpe=quiet.sharpe,
    )  # fmt: skip
    # Returns 0, 1, 0, 0 %: mean 1/4, sample variance 1/4, so the ratio is 1/2 × √365 = √91.25.
    assert forty_places(quiet.sharpe) == forty_places(D("91.25").sqrt(WIDE))


def test_a_deposit_during_a_day_is_capital_of_the_next() -> None:
    """Returns 1 % of 100 and 3 % of 101 + 99: the deposit at noon counts from the next 00:00 on."""
    result = computed(one_a_day("1", "6"), "100", [Flow(NOON, D(99))])
    assert forty_places(result.sharpe) == forty_places(ROOT_OF_730)


def test_a_deposit_at_midnight_is_capital_of_the_day_it_begins() -> None:
    midnight = Flow(datetime(2026, 3, 2, tzinfo=UTC), D(99))
    later = replace(midnight, time=midnight.time + timedelta(microseconds=1))
    assert computed(one_a_day("1", "6"), "100", [midnight]) == computed(
        one_a_day("1", "6"), "100", [Flow(NOON, D(99))]
    )
    assert (
        computed(one_a_day("1", "6"), "100", [later]).sharpe
        != computed(one_a_day("1", "6"), "100", [midnight]).sharpe
    )


def test_a_day_without_capital_has_no_return() -> None:
    """100 → 0 → 100 → 150: the second day has no denominator; − 100 % and 50 % remain.

    Mean − 1/4, sample variance 9/8: − √(1/16 ÷ 9/8 × 365) = − √(365/18).
    """
    result = computed(one_a_day("-100", "100", "50"), "100")
    with localcontext(WIDE):
        expected = -(D(365) / 18).sqrt()
    assert forty_places(result.sharpe) == forty_places(expected)


def test_calmar_of_a_year_is_its_return_over_its_drawdown() -> None:
    """1000 → 1100 → 990 → 1210: + 21 %, fallen by 10 % in between."""
    result = computed(one_a_day("100", "-110", "220"), first_day=DAY_ONE, last_day=day(364))
    assert (result.max_drawdown_percent, result.calmar) == (D(10), D("2.1"))


def test_calmar_of_73_days_is_the_fifth_power() -> None:
    """1000 → 900 → 1100: (1.1^5 − 1) ÷ 10 %."""
    result = computed(one_a_day("-100", "200"), first_day=DAY_ONE, last_day=day(72))
    assert result.calmar == D("6.1051")


def test_calmar_of_a_loss_is_negative() -> None:
    """1000 → 800 in a year: − 20 % over a drawdown of 20 %."""
    assert computed(one_a_day("-200"), first_day=DAY_ONE, last_day=day(364)).calmar == D(-1)


def test_calmar_needs_thirty_days() -> None:
    trades = one_a_day("100", "-110", "220")
    assert computed(trades, first_day=DAY_ONE, last_day=day(28)).calmar is None
    result = computed(trades, first_day=DAY_ONE, last_day=day(29))
    assert result.calmar is not None
    with localcontext(WIDE):  # (1 + calmar × 10 %)^30 = 1.21^365
        assert ((1 + result.calmar / 10) ** 30 / D("1.21") ** 365).quantize(D("1e-44")) == 1


def test_calmar_needs_a_drawdown() -> None:
    assert computed(one_a_day("100", "110"), first_day=DAY_ONE, last_day=day(364)).calmar is None


@pytest.mark.parametrize("loss", ["-1000", "-1001"])
def test_calmar_needs_an_end_above_zero(loss: str) -> None:
    assert computed(one_a_day(loss), first_day=DAY_ONE, last_day=day(364)).calmar is None


def test_calmar_counts_no_deposit_as_growth() -> None:
    """1000 → 1100 is 1.1; with 8900 more 10000 → 9000 is 0.9: growth 0.99, fallen by 10 % of the peak."""
    trades = one_a_day("100", "-1000")
    result = computed(trades, flows=[Flow(NOON, D(8900))], first_day=DAY_ONE, last_day=day(364))
    assert (result.max_drawdown_percent, result.calmar) == (D(10), D("-0.1"))


# Several connections


def test_the_pool_starts_with_the_connection_activated_first() -> None:
    deposit = Flow(NOON + timedelta(days=9), D(7))
    first = Capital(NOON, D(1000), (deposit,))
    second = Capital(NOON + timedelta(days=3, hours=5), D(500))
    third = Capital(NOON + timedelta(hours=1), D(200))
    assert pooled([second, first, third]) == Capital(
        NOON,
        D(1000),
        (
            deposit,
            Flow(datetime(2026, 3, 1, tzinfo=UTC), D(200)),
            Flow(datetime(2026, 3, 4, tzinfo=UTC), D(500)),
        ),
    )
    assert pooled([first]) == first
    assert pooled([]) is None


@pytest.mark.parametrize("unknown", [0, 1, 2])
def test_one_unknown_start_leaves_the_pool_unknown(unknown: int) -> None:
    capitals = [Capital(NOON + timedelta(days=number), D(100)) for number in range(3)]
    capitals[unknown] = replace(capitals[unknown], starting_balance=None)
    portfolio = pooled(capitals)
    assert portfolio is not None
    assert (portfolio.since, portfolio.starting_balance) == (NOON, None)


def test_a_connection_that_joins_brings_its_capital_on_its_first_day() -> None:
    """1 % of 100; then, joined by 99, 3 % of 200: as with a deposit, and no growth by itself."""
    portfolio = pooled([Capital(NOON, D(100)), Capital(NOON + timedelta(days=1), D(99))])
    assert portfolio is not None
    result = computed(one_a_day("1", "6"), str(portfolio.starting_balance), portfolio.flows)
    assert forty_places(result.sharpe) == forty_places(ROOT_OF_730)


# Words


def test_every_figure_has_its_formula_in_one_sentence() -> None:
    assert list(FORMULAS) == [field.name for field in fields(Statistics)]
    for sentence in FORMULAS.values():
        assert sentence.endswith(".")
        assert ". " not in sentence


def test_the_formulas_are_a_constant() -> None:
    with pytest.raises(TypeError):
        FORMULAS["calmar"] = ""  # type: ignore[index]


# Laws

amounts = st.decimals(min_value=-10_000, max_value=10_000, places=8, allow_nan=False)
moments = st.datetimes(
    min_value=datetime(2026, 3, 1), max_value=datetime(2026, 5, 1), timezones=st.just(UTC)  # noqa: DTZ001
)  # fmt: skip
histories = st.lists(st.tuples(amounts, st.decimals(0, 50, places=4), moments), max_size=25).map(
    lambda rows: [
        trade(number, net, closed_at, fees=str(fees), held=number)
        for number, (net, fees, closed_at) in enumerate(rows)
    ]
)
money_movements = st.lists(st.builds(Flow, moments, amounts), max_size=4)
starts = st.decimals(min_value=1, max_value=100_000, places=4)
LAST_DAY = date(2026, 5, 1)


def over_the_months(trades: Iterable[Trade], start: Decimal | None, flows: Iterable[Flow]) -> Statistics:
    """The statistics of the two months of the laws."""
    return statistics(trades, starting_balance=start, flows=flows, first_day=DAY_ONE, last_day=LAST_DAY)


@given(histories, starts, money_movements, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(
    trades: list[Trade], start: Decimal, flows: list[Flow], random: Random
) -> None:
    shuffled, shuffled_flows = random.sample(trades, len(trades)), random.sample(flows, len(flows))
    assert over_the_months(shuffled, start, shuffled_flows) == over_the_months(trades, start, flows)
    assert curve(shuffled, start, shuffled_flows) == curve(trades, start, flows)
    assert by_day(shuffled) == by_day(trades)


@given(histories, starts, money_movements)
def test_the_figures_agree_with_each_other(trades: list[Trade], start: Decimal, flows: list[Flow]) -> None:
    result = over_the_months(trades, start, flows)
    assert result.wins + result.losses + result.breakeven == result.trades == len(trades)
    assert result.net_pnl == result.gross_profit - result.gross_loss
    assert result.longest_win_streak <= result.wins
    assert result.longest_loss_streak <= result.losses
    assert (result.profit_factor is None) == (result.losses == 0)
    if result.losses:
        assert result.max_drawdown >= (result.largest_loss or 0) > 0
    else:
        assert result.max_drawdown == 0


@given(histories, starts, money_movements)
def test_the_maximum_drawdown_is_the_greatest_of_the_curve(
    trades: list[Trade], start: Decimal, flows: list[Flow]
) -> None:
    points = curve(trades, start, flows)
    result = over_the_months(trades, start, flows)
    assert result.max_drawdown == max(drawdowns(points), default=D(0))
    assert min(drawdowns(points), default=D(0)) >= 0
    assert [point.drawdown for point in points] == brute_force_drawdowns(points)
    percentages = [
        Fraction(point.drawdown) * 100 / Fraction(point.balance + point.drawdown)
        for point in points
        if point.balance is not None and point.balance + point.drawdown > 0
    ]
    assert result.max_drawdown_percent == decimal_of(max([Fraction(0), *percentages]))


def brute_force_drawdowns(points: Sequence[CurvePoint]) -> list[Decimal]:
    """At each point the greatest fall from any earlier one, or from the start, or none at all."""
    reached = [D(0), *(point.net_pnl for point in points)]
    return [max(reached[: index + 1]) - net for index, net in enumerate(reached)][1:]


def decimal_of(fraction: Fraction) -> Decimal:
    """The fraction to 50 digits, half to even."""
    return Context(prec=50).divide(D(fraction.numerator), D(fraction.denominator))


@given(histories, starts, st.integers(-3, 6))
def test_a_multiple_of_all_money_multiplies_money_and_leaves_ratios(
    trades: list[Trade], start: Decimal, power: int
) -> None:
    flows = [Flow(NOON + timedelta(days=20), D(77))]
    factor = D(10) ** power

    def scaled(amount: Decimal) -> Decimal:
        return WIDE.multiply(amount, factor)

    result = over_the_months(trades, start, flows)
    expected = {
        name: value if value is None else scaled(value) for name in MONEY for value in [getattr(result, name)]
    }
    multiplied = over_the_months(
        [
            replace(
                each,
                gross_pnl=scaled(each.gross_pnl),
                fees=scaled(each.fees),
                net_pnl=scaled(each.net_pnl),
            )
            for each in trades
        ],
        scaled(start),
        [replace(flow, amount=scaled(flow.amount)) for flow in flows],
    )
    assert multiplied == replace(result, **expected)  # type: ignore[arg-type]


@given(histories, starts, money_movements)
def test_sharpe_and_sortino_agree_with_exact_fractions(
    trades: list[Trade], start: Decimal, flows: list[Flow]
) -> None:
    returns = list(fractional_returns(trades, start, flows))
    result = over_the_months(trades, start, flows)
    mean = reference.mean(returns) if returns else Fraction(0)
    variance = reference.variance(returns) if len(returns) > 1 else Fraction(0)
    downside = sum((min(each, Fraction(0)) ** 2 for each in returns), Fraction(0))
    assert_ratio(result.sharpe, mean, variance)
    assert_ratio(result.sortino, mean, downside / len(returns) if len(returns) > 1 else Fraction(0))


def fractional_returns(trades: list[Trade], start: Decimal, flows: list[Flow]) -> Iterator[Fraction]:
    """The daily returns, each from the definition alone."""
    for number in range((LAST_DAY - DAY_ONE).days + 1):
        begin = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=number)
        end = begin + timedelta(days=1)
        capital = Fraction(start)
        capital += sum(Fraction(flow.amount) for flow in flows if flow.time <= begin)
        capital += sum(Fraction(each.net_pnl) for each in trades if each.closed_at < begin)
        if capital > 0:
            yield (
                sum((Fraction(each.net_pnl) for each in trades if begin <= each.closed_at < end), Fraction(0))
                / capital
            )


def assert_ratio(ratio: Decimal | None, mean: Fraction, variance: Fraction) -> None:
    """`ratio` is mean ÷ √variance × √365 to 40 digits; sign and square are compared, to need no root."""
    if variance == 0:
        assert ratio is None
        return
    assert ratio is not None
    assert (ratio > 0, ratio < 0) == (mean > 0, mean < 0)
    square = mean**2 * 365 / variance
    assert abs(Fraction(ratio) ** 2 - square) <= square / 10**40 + Fraction(1, 10**60)


@given(histories, starts)
def test_growth_without_flows_is_end_over_start(trades: list[Trade], start: Decimal) -> None:
    result = over_the_months(trades, start, [])
    days = (LAST_DAY - DAY_ONE).days + 1
    end = Fraction(start) + sum(Fraction(each.net_pnl) for each in trades)
    if end <= 0 or not result.max_drawdown_percent:
        assert result.calmar is None
        return
    assert result.calmar is not None
    with localcontext(WIDE):
        growth = D(end.numerator) / D(end.denominator) / start
        annual = (growth.ln() * 365 / days).exp() - 1
        expected = annual * 100 / result.max_drawdown_percent
    assert abs(result.calmar - expected) <= (1 + abs(annual)) * 100 / result.max_drawdown_percent * D("1e-46")


@given(histories, starts, money_movements, moments.map(utc_day))
def test_the_money_of_two_adjoining_periods_adds_up(
    trades: list[Trade], start: Decimal, flows: list[Flow], cut: date
) -> None:
    halves = [
        statistics(trades, starting_balance=start, flows=flows, first_day=first, last_day=last)
        for first, last in [(DAY_ONE, cut), (cut + timedelta(days=1), LAST_DAY)]
    ]
    whole = over_the_months(trades, start, flows)
    for name in ("trades", "wins", "losses", "breakeven", "gross_profit", "gross_loss", "net_pnl", "fees"):
        assert sum(getattr(half, name) for half in halves) == getattr(whole, name)


@given(st.lists(st.tuples(starts, moments), min_size=1, max_size=5))
def test_the_capital_of_a_pool_is_the_sum_of_its_parts(parts: list[tuple[Decimal, datetime]]) -> None:
    portfolio = pooled(Capital(since, start) for start, since in parts)
    assert portfolio is not None
    assert portfolio.since == min(since for _, since in parts)
    for number in range((LAST_DAY - utc_day(portfolio.since)).days + 1):
        begin = datetime.combine(utc_day(portfolio.since), datetime.min.time(), UTC) + timedelta(days=number)
        joined = sum(start for start, since in parts if utc_day(since) <= begin.date())
        flowed = sum(flow.amount for flow in portfolio.flows if flow.time <= begin)
        assert (portfolio.starting_balance or 0) + flowed == joined


@contextmanager
def careless_library() -> Iterator[None]:
    """What another library may do to the decimal context of the process."""
    with localcontext(Context(prec=10, rounding=ROUND_HALF_UP)):
        yield


@given(histories, st.none() | starts, money_movements)
def test_the_global_decimal_context_does_not_matter(
    trades: list[Trade], start: Decimal | None, flows: list[Flow]
) -> None:
    result, points = over_the_months(trades, start, flows), curve(trades, start, flows)
    with careless_library():
        assert over_the_months(trades, start, flows) == result
        assert curve(trades, start, flows) == points


@given(histories)
def test_days_hold_every_trade_once_and_in_order(trades: list[Trade]) -> None:
    days = by_day(trades)
    assert list(days) == sorted(days)
    assert sorted(each.id for of_day in days.values() for each in of_day) == [each.id for each in trades]
    for of_day in days.values():
        assert all((a.closed_at, a.id) < (b.closed_at, b.id) for a, b in pairwise(of_day))
