"""Lots: what differs where quantities are lots and money is the account's. Worked out by hand."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.entries import Situation, decide
from app.domain.errors import Denied
from app.domain.exits import Grain, NativeStyle, ProtectiveOrder, Rung, protective_orders, targets_beside
from app.domain.market import Instrument, MarketType, QuantityUnit, Quote, Worth
from app.domain.money import ZERO
from app.domain.orders import OrderType, Side
from app.domain.positions import Fees, Filled, PositionSide, fold, unrealized
from app.domain.risk import Exposure, Limits
from app.domain.signals import Course, Signal
from app.domain.sizing import Funds, Sizing, Strategy
from app.domain.symbols import resolve
from tests.domain.samples import HALF_A_MINUTE, NOON, D, No, assert_unmoved, outcome

EURUSD = Instrument(
    symbol="EURUSD",
    base="EUR",
    quote="USD",
    settle=None,
    market_type=MarketType.FX,
    quantity_step=D("0.01"),
    price_tick=D("0.00001"),
    min_quantity=D("0.01"),
    max_quantity=D(50),
    quantity_unit=QuantityUnit.LOTS,
    counted_in="CHF",
)
WORTH = Worth(move=D(90000), notional=D(95000), commission=D(7))
"""A lot of 100,000 EUR at 0.95 CHF each; a dollar costs 0.90 CHF."""

QUOTE = Quote("EURUSD", D("1.0999"), D("1.1001"), NOON, WORTH)
BUY = Signal("EURUSD", Side.BUY, stop_loss=D("1.0951"))
RISK = Sizing(Strategy.RISK_PERCENTAGE, D(1))


def situation(**changes: object) -> Situation:
    """An account of 10,000 CHF at a leverage of 30."""
    whole = Situation(
        now=NOON,
        published_at=NOON,
        instrument=EURUSD,
        quote=QUOTE,
        quote_max_age=HALF_A_MINUTE,
        funds=Funds(D(10000), D(10000), ZERO, ZERO, D(30)),
        exposure=Exposure(0, 0, frozenset(), 0),
        netting=False,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def decided(sizing: Sizing, signal: Signal = BUY, **changes: object) -> object:
    """The quantity with what it is worth, or the denial."""

    def decision() -> object:
        entry = decide(Course(signal), sizing, Limits(), situation(**changes))
        return entry.quantity, entry.notional

    return outcome(decision)


class TestSizes:
    @pytest.mark.parametrize(
        ("sizing", "lots"),
        [
            # 100 CHF over 0.005 × 90,000 + 7 = 457 a lot: 0.2188…
            (RISK, "0.21"),
            (Sizing(Strategy.FIXED_AMOUNT, D(20000)), "0.21"),
            (Sizing(Strategy.PERCENTAGE, D(200)), "0.21"),
            (Sizing(Strategy.FIXED, D("0.3"), max_notional=D(20000)), "0.21"),
            (Sizing(Strategy.FIXED, D("0.3")), "0.3"),
            # 10,000 × 30 ÷ 95,000 = 3.157…
            (Sizing(Strategy.RISK_PERCENTAGE, D(50)), "3.15"),
        ],
    )
    def test_they_are_counted_in_the_accounts_currency(self, sizing: Sizing, lots: str) -> None:
        assert decided(sizing) == (D(lots), D(lots) * 95000)
        assert_unmoved(lambda: decided(sizing))

    def test_more_than_the_margin_is_denied(self) -> None:
        denial = decided(Sizing(Strategy.FIXED, D("3.16")))
        assert isinstance(denial, No)
        assert denial.code == "insufficient_balance"

    def test_without_a_rate_nothing_is_sized(self) -> None:
        denial = decided(Sizing(Strategy.FIXED, D("0.3")), quote=replace(QUOTE, worth=None))
        assert isinstance(denial, No)
        assert denial.code == "conversion_unavailable"

    def test_where_the_base_has_no_rate_the_price_counts(self) -> None:
        assert Worth(move=D(100)).at(D("2000.5")) == D(200050)

    def test_fees_are_the_commission_of_one_way(self) -> None:
        entry = decide(Course(BUY), Sizing(Strategy.FIXED, D("0.5")), Limits(), situation())
        assert entry.estimated_fees.quantize(D("0.0001")) == D("1.75")


class TestDenials:
    @pytest.mark.parametrize(
        ("instrument", "quote", "code"),
        [
            (replace(EURUSD, opens=frozenset()), QUOTE, "symbol_not_tradable"),
            (replace(EURUSD, opens=frozenset({Side.SELL})), QUOTE, "direction_not_allowed"),
            (replace(EURUSD, stop_level=D("0.00481")), QUOTE, "stop_too_close"),
            (EURUSD, replace(QUOTE, is_session=False, time=NOON - timedelta(days=1)), "market_closed"),
        ],
    )
    def test_what_the_venue_does_not_take(self, instrument: Instrument, quote: Quote, code: str) -> None:
        denial = decided(RISK, instrument=instrument, quote=quote)
        assert isinstance(denial, No)
        assert denial.code == code

    def test_a_stop_as_far_as_the_stop_level_is_taken(self) -> None:
        level = replace(EURUSD, stop_level=D("0.0048"))
        assert decided(RISK, instrument=level) == (D("0.21"), D(19950))

    def test_spread_and_commission_may_not_eat_the_risk(self) -> None:
        # 0.0002 of spread and 7 ÷ 90,000 = 0.0000777… of commission.
        near = decided(RISK, replace(BUY, stop_loss=D("1.09983")))
        assert isinstance(near, No)
        assert near.code == "stop_too_close"
        assert not isinstance(decided(RISK, replace(BUY, stop_loss=D("1.09982"))), No)


class TestSymbols:
    def listed(self, *names: str, closed: str = "") -> dict[str, Instrument]:
        return {
            name: replace(EURUSD, symbol=name, opens=frozenset() if name == closed else EURUSD.opens)
            for name in names
        }

    @pytest.mark.parametrize(
        ("names", "closed", "meant"),
        [
            (("EURUSDm",), "", "EURUSDm"),
            (("EURUSD", "EURUSDm"), "", "EURUSD"),
            (("EURUSD", "EURUSDm"), "EURUSD", "EURUSDm"),
            (("EURUSD",), "EURUSD", "EURUSD"),
        ],
    )
    def test_a_suffix_is_found_out(self, names: tuple[str, ...], closed: str, meant: str) -> None:
        for text in ("EUR/USD", "EURUSD", "eur-usd"):
            assert (
                resolve(text, self.listed(*names, closed=closed), MarketType.FX, {}).instrument.symbol
                == meant
            )

    def test_two_suffixes_are_not_chosen_between(self) -> None:
        with pytest.raises(Denied) as denied:
            resolve("EURUSD", self.listed("EURUSDm", "EURUSD.pro"), MarketType.FX, {})
        assert denied.value.code == "symbol_ambiguous"


class TestMoney:
    def test_what_the_broker_booked_counts_and_the_rest_is_valued(self) -> None:
        free = Fees(ZERO, ZERO, complete=True)
        entry = Filled(D(1), D("1.10"), free)
        booked = Filled(D("0.5"), D("1.12"), free, D("901.23"))
        by_price = Filled(D("0.25"), D("1.09"), free)
        figures = fold(PositionSide.LONG, entry, [booked, by_price], D(90000))
        # 901.23 as it was booked; −0.01 × 0.25 × 90,000.
        assert (figures.gross_pnl, figures.remaining) == (D("676.23"), D("0.25"))

    def test_open_profit_is_worth_its_move(self) -> None:
        assert unrealized(PositionSide.SHORT, D("0.5"), D("1.10"), D("1.09"), D(90000)) == D(450)


GRAIN = Grain(D("0.01"), D("0.01"), None)
LADDER = (Rung(D("1.11"), D("0.2")), Rung(D("1.12"), D("0.3")))


class TestAttached:
    @pytest.mark.parametrize(
        ("rungs", "stop", "expected"),
        [
            (LADDER, "1.09", ProtectiveOrder(OrderType.OCO, D("0.5"), D("1.09"), D("1.12"))),
            (LADDER[:1], "1.09", ProtectiveOrder(OrderType.STOP, D("0.5"), D("1.09"), None)),
            (LADDER, None, ProtectiveOrder(OrderType.TAKE_PROFIT, D("0.5"), None, D("1.12"))),
            ((), "1.09", ProtectiveOrder(OrderType.STOP, D("0.5"), D("1.09"), None)),
            (LADDER[:1], None, None),
        ],
    )
    def test_it_is_the_stop_and_the_target_that_ends_it(
        self, rungs: tuple[Rung, ...], stop: str | None, expected: ProtectiveOrder | None
    ) -> None:
        level = None if stop is None else D(stop)
        wanted = protective_orders(rungs, D("0.5"), level, GRAIN, NativeStyle.ATTACHED)
        assert wanted == (() if expected is None else (expected,))

    def test_the_nearer_targets_are_ours_to_watch(self) -> None:
        assert targets_beside(LADDER, D("0.5"), NativeStyle.ATTACHED) == LADDER[:1]
        assert targets_beside(LADDER, D("0.6"), NativeStyle.ATTACHED) == LADDER
        assert targets_beside(LADDER, D("0.5"), NativeStyle.STOP_ONLY) == LADDER
        assert targets_beside(LADDER, D("0.5"), NativeStyle.BRACKET) == ()
