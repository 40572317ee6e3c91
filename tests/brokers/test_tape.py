"""Tapes: points in time, recordings as they are read, a synthetic market that is the same for everyone."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.brokers.paper.listings import finest_tick, recorded_market, step_for, synthetic_market
from app.brokers.paper.recording import COLUMNS, Recording, RecordingError, read_candles
from app.brokers.paper.synthetic import Synthetic
from app.brokers.paper.tape import (
    BEFORE_START,
    POINTS,
    Band,
    Candle,
    Pace,
    Point,
    Recordings,
    Tape,
    path,
    price_at,
    quoted_at,
    reached,
)
from tests.brokers.candles import START, candle, candles, recording

MICROSECOND = timedelta(microseconds=1)

speeds = st.sampled_from(["0.01", "0.3", "1", "3", "7.77", "60", "1000"]).map(Decimal)
moments = st.integers(-10_000_000, 100_000_000).map(lambda elapsed: START + elapsed * MICROSECOND)


def prices(*values: int) -> tuple[Decimal, ...]:
    """Exact prices."""
    return tuple(Decimal(value) for value in values)


class TestCandle:
    def test_a_rising_candle_sees_its_low_first(self) -> None:
        assert candle(10, 15, 8, 12).walk() == prices(10, 8, 15, 12)

    def test_an_unchanged_one_counts_as_rising(self) -> None:
        assert candle(10, 15, 8, 10).walk() == prices(10, 8, 15, 10)

    def test_a_falling_candle_sees_its_high_first(self) -> None:
        assert candle(10, 15, 8, 9).walk() == prices(10, 15, 8, 9)


class TestPace:
    def test_a_candle_lasts_a_period_and_has_four_points(self) -> None:
        pace = Pace(START, Decimal("0.5"))
        assert [pace.time_of(point) - START for point in range(5)] == [
            timedelta(milliseconds=500 * number) for number in range(5)
        ]

    @given(speeds, st.integers(0, 10**9))
    def test_a_point_is_reached_at_its_time_and_not_before(self, speed: Decimal, point: int) -> None:
        pace = Pace(START, speed)
        assert pace.reached(pace.time_of(point)) >= point
        assert pace.reached(pace.time_of(point) - MICROSECOND) < point

    @given(speeds, moments)
    def test_what_is_reached_lies_behind_and_the_next_ahead(self, speed: Decimal, moment: datetime) -> None:
        pace = Pace(START, speed)
        point = pace.reached(moment)
        assert pace.time_of(point) <= moment < pace.time_of(point + 1)


class TestPath:
    @given(candles(), st.integers(-1, 60), st.integers(-1, 60), st.integers(80, 120), st.integers(80, 120))
    def test_skipping_loses_no_point(
        self, played: list[Candle], after: int, until: int, low: int, high: int
    ) -> None:
        tape = recording(played)
        until = min(until, POINTS * len(played) - 1)
        band = Band(Decimal(low), Decimal(high))
        walked = [
            Point(number, tape.pace.time_of(number), price, number % POINTS == 0)
            for number, price in enumerate(price for each in played for price in each.walk())
            if after < number <= until and (price <= low or price >= high)
        ]
        assert list(path(tape, after, until, band)) == walked

    def test_without_levels_nothing_is_of_interest(self) -> None:
        assert list(path(recording([candle(10, 15, 8, 9)]), -1, 3, Band())) == []

    def test_a_long_quiet_path_reads_few_candles(self) -> None:
        tape = Counting(recording([candle(100, 101, 99, 100)] * 5000 + [candle(100, 130, 100, 130)]))
        point = next(path(tape, -1, POINTS * 5001 - 1, Band(high=Decimal(120))))
        assert point.number // POINTS == 5000
        assert tape.read == 1


class Counting:
    """A tape that counts how many of its candles are looked at one by one."""

    def __init__(self, tape: Recording) -> None:
        self.pace, self.length = tape.pace, tape.length
        self.extent, self.jumps_to = tape.extent, tape.jumps_to
        self._tape = tape
        self.read = 0

    def candle(self, number: int) -> Candle:
        """The candle, counted."""
        self.read += 1
        return self._tape.candle(number)


class TestRecording:
    def test_it_is_not_quoted_before_it_begins(self) -> None:
        tape = recording([candle(10, 15, 8, 9)])
        assert reached(tape, START - MICROSECOND) == BEFORE_START
        assert reached(tape, START) == 0

    def test_after_its_end_the_last_price_stands_with_the_time_of_the_end(self) -> None:
        tape = recording([candle(10, 15, 8, 9), candle(9, 9, 7, 8)])
        late = START + timedelta(hours=1)
        assert price_at(tape, reached(tape, late)) == 8
        assert quoted_at(tape, late) == START + timedelta(seconds=2)

    def test_while_it_plays_a_quote_is_of_now(self) -> None:
        tape = recording([candle(10, 15, 8, 9)])
        assert quoted_at(tape, START + timedelta(milliseconds=300)) == START + timedelta(milliseconds=300)

    def test_speed_is_candles_a_second(self) -> None:
        tape = recording([candle(10, 15, 8, 9)] * 100, speed="50")
        assert reached(tape, START + timedelta(seconds=1)) == 50 * POINTS

    def test_it_needs_candles(self) -> None:
        with pytest.raises(ValueError, match="at least one candle"):
            recording([])


def written(directory: Path, *lines: str, header: str = ",".join(COLUMNS)) -> Path:
    """A CSV file of these lines."""
    file = directory / "candles.csv"
    file.write_text("\n".join([header, *lines]))
    return file


class TestReading:
    def test_prices_are_exact_and_times_iso_or_epoch(self, tmp_path: Path) -> None:
        file = written(
            tmp_path,
            "2023-03-10 00:00:00+00:00,20370.23,20374.49,20360.61,20360.61,0.07044",
            "1678406460000,20358.97,20364.73,20343.35,20356.79,7.74325",
        )
        assert read_candles(file) == (
            candle("20370.23", "20374.49", "20360.61", "20360.61"),
            candle("20358.97", "20364.73", "20343.35", "20356.79"),
        )

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("2023-03-10 00:01:00+00:00,1,2,1", "4 values instead of 6"),
            ("2023-03-10 00:01:00+00:00,1,2,x,1,0", "low is 'x'"),
            ("2023-03-10 00:01:00+00:00,1,NaN,1,1,0", "high is 'NaN'"),
            ("2023-03-10 00:01:00+00:00,3,2,1,1,0", "between low and high"),
            ("2023-03-10 00:01:00+00:00,1,2,0,1,0", "above zero"),
            ("2023-03-10 00:01:00,1,2,1,1,0", "no time zone"),
            ("yesterday,1,2,1,1,0", "neither ISO 8601 nor epoch"),
            ("2023-03-10 00:00:00+00:00,1,2,1,1,0", "not after the line before"),
        ],
    )
    def test_a_broken_line_is_named(self, tmp_path: Path, line: str, complaint: str) -> None:
        file = written(tmp_path, "2023-03-10 00:00:00+00:00,1,2,1,1,0", line)
        with pytest.raises(RecordingError) as error:
            read_candles(file)
        assert f"{file}, line 3: " in str(error.value)
        assert complaint in str(error.value)

    def test_another_header_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecordingError, match="line 1: the header must be open_time,open"):
            read_candles(written(tmp_path, "1,1,1,1,1", header="time,open,high,low,close"))

    def test_a_file_without_candles_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecordingError, match="has no candles"):
            read_candles(written(tmp_path))

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(RecordingError, match=r"nowhere\.csv: cannot be read"):
            read_candles(tmp_path / "nowhere.csv")

    def test_bytes_that_are_no_text_are_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "candles.csv"
        file.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(RecordingError, match="not a CSV file in UTF-8"):
            read_candles(file)


class TestSynthetic:
    tape = Synthetic("0", "BTC", Decimal(60000), Decimal("0.01"))
    seconds = st.integers(-(10**9), 4 * 10**9)

    @given(seconds)
    def test_each_candle_opens_where_the_last_one_closed(self, second: int) -> None:
        assert self.tape.candle(second).open == self.tape.candle(second - 1).close

    @given(seconds)
    def test_prices_are_whole_ticks_inside_their_bounds(self, second: int) -> None:
        seen = self.tape.candle(second)
        assert seen.low <= min(seen.open, seen.close) <= max(seen.open, seen.close) <= seen.high
        assert 60000 * Decimal("0.68") <= seen.low <= seen.high <= 60000 * Decimal("1.33")
        assert all(price % Decimal("0.01") == 0 for price in seen.walk())

    @given(seconds, st.integers(0, 5000), st.data())
    def test_an_extent_holds_every_candle_in_it(self, first: int, length: int, data: st.DataObject) -> None:
        lowest, highest = self.tape.extent(first, first + length)
        seen = self.tape.candle(data.draw(st.integers(first, first + length)))
        assert lowest <= seen.low <= seen.high <= highest

    def test_the_same_seed_tells_the_same_story_whatever_the_decimal_context(self) -> None:
        again = Synthetic("0", "BTC", Decimal(60000), Decimal("0.01"))
        with localcontext() as context:
            context.prec = 3
            told = again.candle(1_700_000_000)
        assert told == self.tape.candle(1_700_000_000)

    def test_seeds_and_coins_differ(self) -> None:
        others = [Synthetic("1", "BTC", Decimal(60000), Decimal("0.01"))]
        others.append(Synthetic("0", "ETH", Decimal(60000), Decimal("0.01")))
        assert all(other.candle(1_700_000_000) != self.tape.candle(1_700_000_000) for other in others)

    def test_it_typically_moves_a_tenth_to_three_tenths_of_a_percent_in_a_minute(self) -> None:
        opens = [self.tape.candle(1_700_000_000 + 60 * minute).open for minute in range(500)]
        moves = [abs(later / earlier - 1) * 100 for earlier, later in pairwise(opens)]
        assert Decimal("0.1") <= median(moves) <= Decimal("0.3")

    def test_a_quiet_day_costs_little(self) -> None:
        day = 86400 * POINTS
        start = 1_700_000_000 * POINTS
        assert list(path(self.tape, start, start + day, Band(Decimal(1), Decimal(10**6)))) == []


class TestListings:
    def test_every_pair_is_listed_as_spot_and_swap_on_one_tape(self) -> None:
        listings = synthetic_market("0").listings
        assert len(listings) == 30
        spot, swap = listings["BTC/USDT"], listings["BTC/USDT:USDT"]
        assert spot.tape is swap.tape
        assert (spot.instrument.settle, swap.instrument.settle) == (None, "USDT")

    def test_synthetic_quotes_have_a_spread_on_the_tick(self) -> None:
        moment = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
        for listing in synthetic_market("0").listings.values():
            quote = listing.quote(moment)
            assert quote is not None
            assert Decimal(0) < quote.bid < quote.ask
            assert quote.bid % listing.instrument.price_tick == 0
            assert quote.ask % listing.instrument.price_tick == 0
            assert quote.time == moment

    def test_a_recording_serves_spot_and_swap_without_a_spread(self, tmp_path: Path) -> None:
        file = written(tmp_path, "0,20370.23,20374.5,20360.61,20361,1")
        listings = recorded_market(Recordings({"BTC/USDT": file}, Decimal(1), START)).listings
        assert set(listings) == {"BTC/USDT", "BTC/USDT:USDT"}
        rules, quote = listings["BTC/USDT"].instrument, listings["BTC/USDT"].quote(START)
        assert (rules.price_tick, rules.quantity_step) == (Decimal("0.01"), Decimal("0.00001"))
        assert quote is not None
        assert quote.bid == quote.ask == Decimal("20370.23")
        assert listings["BTC/USDT"].quote(START - MICROSECOND) is None

    def test_a_recording_is_of_a_pair(self, tmp_path: Path) -> None:
        file = written(tmp_path, "0,1,1,1,1,1")
        with pytest.raises(RecordingError, match="a pair like BTC/USDT"):
            recorded_market(Recordings({"BTCUSDT": file}, Decimal(1), START))

    @pytest.mark.parametrize(
        ("price", "step"),
        [("20370.23", "0.00001"), ("1000", "0.0001"), ("1.5", "0.1"), ("0.5", "1"), ("0.00002", "1")],
    )
    def test_a_step_is_worth_at_most_one(self, price: str, step: str) -> None:
        assert step_for(Decimal(price)) == Decimal(step)

    def test_the_tick_is_the_last_place_any_price_uses(self) -> None:
        assert finest_tick((candle("10", "11.50", "9", "10"),)) == Decimal("0.1")
        assert finest_tick((candle("20000", "20000", "20000", "20000"),)) == 1


def test_both_kinds_are_tapes() -> None:
    tapes: list[Tape] = [TestSynthetic.tape, recording([candle(1, 1, 1, 1)])]
    assert [[tape.jumps_to(point) for point in range(5)] for tape in tapes] == [
        [False, False, False, False, False],
        [True, False, False, False, True],
    ]
