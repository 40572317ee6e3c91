"""Signals: when one makes sense, its ladder, and what later events make of it, in whatever order they come."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import Invalid
from app.domain.orders import OrderType, Side
from app.domain.signals import (
    Course,
    Level,
    Outcome,
    Signal,
    Update,
    check,
    check_sides,
    course_of,
    ladder_of,
    stop_verdicts,
)
from tests.domain.samples import NOON, D, assert_unmoved, decimals

BUY = Signal("BTC/USDT", Side.BUY, entry_price=D(100), stop_loss=D(95), take_profits=(Level(D(110), D(1)),))
SELL = Signal("BTC/USDT", Side.SELL, entry_price=D(100), stop_loss=D(105), take_profits=(Level(D(90), D(1)),))

prices = decimals("1", "1000", 2)
portions = decimals("0", "1", 18).filter(bool)


def at(seconds: int) -> datetime:
    """A moment after noon."""
    return NOON + timedelta(seconds=seconds)


# The ladder


def test_another_unit_of_the_coin_scales_every_price_and_the_quantity() -> None:
    signal = Signal(
        "PEPE/USDT",
        Side.BUY,
        OrderType.LIMIT,
        entry_price=Decimal("0.00001"),
        stop_loss=Decimal("0.000009"),
        take_profits=(Level(Decimal("0.000012"), Decimal("0.5")),),
        quantity=Decimal(5000),
    )
    scaled = signal.scaled(Decimal(1000))
    assert (scaled.entry_price, scaled.stop_loss) == (Decimal("0.01"), Decimal("0.009"))
    assert scaled.take_profits == (Level(Decimal("0.012"), Decimal("0.5")),)
    assert scaled.quantity == 5
    assert signal.scaled(Decimal(1)) == signal
    assert scaled.scaled(1 / Decimal(1000)) == signal
    bare = Signal("PEPE/USDT", Side.BUY)
    assert bare.scaled(Decimal(1000)) == bare


def test_another_unit_of_the_coin_scales_an_update() -> None:
    update = Update(
        NOON,
        frozenset({"stop_loss", "take_profits"}),
        Decimal("0.000009"),
        ((Decimal("0.000012"), None),),
    )
    scaled = update.scaled(Decimal(1000))
    assert (scaled.stop_loss, scaled.take_profits) == (Decimal("0.009"), ((Decimal("0.012"), None),))
    assert (scaled.timestamp, scaled.fields) == (update.timestamp, update.fields)
    assert replace(update, stop_loss=None).scaled(Decimal(1000)).stop_loss is None


def test_a_single_target_may_leave_its_portion_out() -> None:
    assert ladder_of([(D(110), None)], Side.BUY) == (Level(D(110), D(1)),)
    assert ladder_of([(D(110), D("0.4"))], Side.BUY) == (Level(D(110), D("0.4")),)
    assert ladder_of([], Side.BUY) == ()


def test_the_nearest_target_comes_first() -> None:
    levels = [(D(120), D("0.5")), (D(110), D("0.3")), (D(130), D("0.2"))]
    assert [level.price for level in ladder_of(levels, Side.BUY)] == [110, 120, 130]
    assert [level.price for level in ladder_of(levels, Side.SELL)] == [130, 120, 110]


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ([("110", "0.5"), ("120", None)], "Each of several take-profits says its portion, for example 0.5."),
        ([("110", "0")], "A portion is above 0 and at most 1."),
        ([("110", "-0.5")], "A portion is above 0 and at most 1."),
        ([("110", "1.000000000000000001")], "A portion is above 0 and at most 1."),
        ([("110", "0.5"), ("120", "0.500000000000000001")], "The portions add up to more than 1."),
    ],
)
def test_portions_that_cannot_be_meant(levels: list[tuple[str, str | None]], words: str) -> None:
    with pytest.raises(Invalid, match=words) as refusal:
        ladder_of([(D(price), None if part is None else D(part)) for price, part in levels], Side.BUY)
    assert refusal.value.path == "take_profits"


def test_portions_may_add_up_to_exactly_one() -> None:
    thirds = [(D(110 + n), D("0.333333333333333333")) for n in range(2)]
    ladder = ladder_of([*thirds, (D(130), D("0.333333333333333334"))], Side.BUY)
    assert sum(level.portion for level in ladder) == 1


@given(st.lists(st.tuples(prices, portions), max_size=6), st.sampled_from(Side))
def test_a_ladder_is_what_was_given_nearest_first_or_refused(
    levels: list[tuple[Decimal, Decimal]], side: Side
) -> None:
    total = sum(portion for _, portion in levels)
    if total > 1:
        with pytest.raises(Invalid):
            ladder_of(levels, side)
        return
    ladder = ladder_of(levels, side)
    assert sorted((level.price, level.portion) for level in ladder) == sorted(levels)
    assert all(near.price * side.sign <= far.price * side.sign for near, far in pairwise(ladder))


# Contradictions


def test_signals_that_make_sense() -> None:
    for signal in (BUY, SELL, Signal("BTC/USDT", Side.BUY), replace(BUY, order_type=OrderType.LIMIT)):
        check(signal)
    check(replace(BUY, entry_price=None))


@pytest.mark.parametrize(
    ("signal", "path", "words"),
    [
        (
            Signal("BTC/USDT", Side.BUY, OrderType.LIMIT),
            "entry_price",
            "A limit signal needs an entry_price.",
        ),
        (
            replace(BUY, stop_loss=D(100)),
            "stop_loss",
            "The stop-loss of a buy is below the entry price.",
        ),
        (
            replace(SELL, stop_loss=D(100)),
            "stop_loss",
            "The stop-loss of a sell is above the entry price.",
        ),
        (
            replace(BUY, take_profits=(Level(D(100), D("0.5")), Level(D(110), D("0.5")))),
            "take_profits",
            "The take-profits of a buy are above the entry price.",
        ),
        (
            replace(SELL, take_profits=(Level(D(101), D("0.5")), Level(D(90), D("0.5")))),
            "take_profits",
            "The take-profits of a sell are below the entry price.",
        ),
        (
            replace(BUY, entry_price=None, stop_loss=D(110)),
            "stop_loss",
            "The stop-loss of a buy is below its take-profits.",
        ),
        (
            replace(SELL, entry_price=None, stop_loss=D(90)),
            "stop_loss",
            "The stop-loss of a sell is above its take-profits.",
        ),
    ],
)
def test_signals_that_contradict_themselves(signal: Signal, path: str, words: str) -> None:
    with pytest.raises(Invalid, match=f"^{words}$") as refusal:
        check(signal)
    assert refusal.value.path == path


optional_prices = st.none() | prices


@given(st.sampled_from(Side), optional_prices, optional_prices, st.lists(prices, max_size=3))
def test_buys_and_sells_mirror_each_other(
    side: Side, reference: Decimal | None, stop: Decimal | None, targets: list[Decimal]
) -> None:
    def mirrored(price: Decimal | None) -> Decimal | None:
        return None if price is None else 1001 - price

    levels = ladder_of([(price, D("0.1")) for price in targets], side)
    reflected = ladder_of([(1001 - price, D("0.1")) for price in targets], side.opposite)
    assert is_sensible(side, reference, stop, levels) == is_sensible(
        side.opposite, mirrored(reference), mirrored(stop), reflected
    )


def is_sensible(
    side: Side, reference: Decimal | None, stop: Decimal | None, targets: tuple[Level, ...]
) -> bool:
    """Whether these prices pass the check."""
    try:
        check_sides(side, reference, stop, targets)
    except Invalid:
        return False
    return True


@given(st.sampled_from(Side), prices, prices, st.lists(prices, min_size=1, max_size=3))
def test_only_prices_in_the_right_order_are_sensible(
    side: Side, reference: Decimal, stop: Decimal, targets: list[Decimal]
) -> None:
    levels = ladder_of([(price, D("0.1")) for price in targets], side)
    long = stop < reference < min(targets)
    short = stop > reference > max(targets)
    assert is_sensible(side, reference, stop, levels) is (long if side is Side.BUY else short)


# When an entry ends


def test_a_limit_entry_without_an_expiry_lapses_after_24_hours() -> None:
    limit = replace(BUY, order_type=OrderType.LIMIT)
    assert limit.entry_ends_at(NOON) == NOON + timedelta(hours=24)
    assert replace(limit, expires_at=at(60)).entry_ends_at(NOON) == at(60)
    # Its own expiry counts also where it is the later one.
    assert replace(limit, expires_at=at(999_999)).entry_ends_at(NOON) == at(999_999)


def test_a_market_entry_ends_only_when_its_signal_says_so() -> None:
    assert BUY.entry_ends_at(NOON) is None
    assert replace(BUY, expires_at=at(60)).entry_ends_at(NOON) == at(60)


# What later events make of it


def course(*updates: Update, cancelled: bool = False, closed: tuple[str, ...] = ()) -> Course:
    """What became of the buy."""
    return course_of(BUY, updates, cancelled=cancelled, closed_portions=[D(each) for each in closed])


def test_without_later_events_a_signal_is_what_it_was() -> None:
    assert course() == Course(BUY, cancelled=False, closed=False, open_portion=D(1))


def test_an_update_changes_the_fields_it_names_and_no_other() -> None:
    update = Update(at(1), frozenset({"stop_loss"}), stop_loss=D(97))
    assert course(update).signal == replace(BUY, stop_loss=D(97))
    gone = Update(at(1), frozenset({"take_profits", "expires_at"}))
    assert course(gone).signal == replace(BUY, take_profits=(), expires_at=None)
    later = Update(at(1), frozenset({"expires_at"}), expires_at=at(90))
    assert course(later).signal == replace(BUY, expires_at=at(90))


def test_the_targets_of_an_update_are_a_ladder() -> None:
    update = Update(at(1), frozenset({"take_profits"}), take_profits=((D(130), D("0.5")), (D(120), D("0.5"))))
    assert course(update).signal.take_profits == (Level(D(120), D("0.5")), Level(D(130), D("0.5")))


def test_per_field_the_latest_update_wins() -> None:
    late_stop = Update(at(9), frozenset({"stop_loss"}), stop_loss=D(98))
    early_both = Update(at(5), frozenset({"stop_loss", "expires_at"}), stop_loss=D(96), expires_at=at(50))
    expected = replace(BUY, stop_loss=D(98), expires_at=at(50))
    assert course(late_stop, early_both).signal == course(early_both, late_stop).signal == expected


@pytest.mark.parametrize("looser", [D("94.5"), None])
def test_an_update_loosens_no_stop(looser: Decimal | None) -> None:
    loosened = Update(at(9), frozenset({"stop_loss", "expires_at"}), stop_loss=looser, expires_at=at(50))
    assert course(loosened).signal == replace(BUY, expires_at=at(50))
    tightened = Update(at(5), frozenset({"stop_loss"}), stop_loss=D(98))
    assert course(loosened, tightened).signal == replace(BUY, stop_loss=D(98), expires_at=at(50))
    halfway = Update(at(9), frozenset({"stop_loss"}), stop_loss=D(97))
    assert course(tightened, halfway).signal.stop_loss == D(98)
    outcomes = [each.outcome for each in stop_verdicts(BUY, [tightened, halfway, loosened])]
    assert outcomes == [Outcome.APPLIED, Outcome.KEPT, Outcome.KEPT]


def test_a_sell_is_the_mirror_and_a_signal_without_a_stop_takes_any() -> None:
    sell = replace(BUY, direction=Side.SELL, stop_loss=D(105), take_profits=())
    for stop, expected in ((D(106), D(105)), (D(104), D(104))):
        update = Update(at(1), frozenset({"stop_loss"}), stop_loss=stop)
        assert course_of(sell, [update], cancelled=False, closed_portions=[]).signal.stop_loss == expected
    bare = replace(BUY, stop_loss=None)
    update = Update(at(1), frozenset({"stop_loss"}), stop_loss=D(1))
    assert course_of(bare, [update], cancelled=False, closed_portions=[]).signal.stop_loss == D(1)


def test_a_cancel_is_remembered() -> None:
    assert course(cancelled=True) == Course(BUY, cancelled=True)


@pytest.mark.parametrize(
    ("portions_", "open_portion", "closed"),
    [
        (("0.25",), "0.75", False),
        (("0.5", "0.5"), "0.25", False),  # half of what was left
        (("1",), "0", True),
        (("0.3", "1"), "0", True),
        (("1", "0.3"), "0", True),
    ],
)
def test_an_early_close_leaves_a_part_of_the_entry(
    portions_: tuple[str, ...], open_portion: str, closed: bool
) -> None:
    assert course(closed=portions_) == Course(BUY, closed=closed, open_portion=D(open_portion))


updates = st.builds(
    Update,
    st.sampled_from([at(second) for second in range(4)]),  # few moments: ties are to be seen
    st.frozensets(st.sampled_from(["stop_loss", "take_profits", "expires_at"])),
    st.none() | prices,
    st.sampled_from([(), ((D(120), None),), ((D(130), D("0.5")), (D(120), D("0.5")))]),
    st.none() | st.sampled_from([at(60), at(90)]),
)


@given(st.lists(updates, max_size=5), st.lists(portions, max_size=5), st.booleans(), st.data())
def test_the_order_in_which_events_are_heard_does_not_matter(
    told: list[Update], closes: list[Decimal], cancelled: bool, data: st.DataObject
) -> None:
    course_ = course_of(BUY, told, cancelled=cancelled, closed_portions=closes)
    shuffled = data.draw(st.permutations(told))
    assert course_ == course_of(
        BUY, shuffled, cancelled=cancelled, closed_portions=data.draw(st.permutations(closes))
    )
    assert course_ == course_of(BUY, [*told, *shuffled], cancelled=cancelled, closed_portions=closes)
    assert_unmoved(lambda: course_of(BUY, told, cancelled=cancelled, closed_portions=closes))


@given(st.lists(updates, max_size=5))
def test_each_field_is_of_an_update_with_the_greatest_timestamp(told: list[Update]) -> None:
    signal = course_of(BUY, told, cancelled=False, closed_portions=[]).signal

    def latest(field: str) -> list[Update]:
        naming = [each for each in told if field in each.fields]
        last = max((each.timestamp for each in naming), default=NOON)
        return [each for each in naming if each.timestamp == last]

    stops = [each.stop_loss for each in told if "stop_loss" in each.fields and each.stop_loss is not None]
    assert signal.stop_loss == max([BUY.stop_loss, *stops], key=lambda stop: stop or D(0))
    assert signal.expires_at in ([each.expires_at for each in latest("expires_at")] or [BUY.expires_at])
    ladders = [ladder_of(each.take_profits, Side.BUY) for each in latest("take_profits")]
    assert signal.take_profits in (ladders or [BUY.take_profits])
    assert replace(BUY, stop_loss=None, take_profits=(), expires_at=None) == replace(
        signal, stop_loss=None, take_profits=(), expires_at=None
    )


@given(st.lists(st.tuples(prices, portions), max_size=4), st.sampled_from(Side))
def test_the_global_decimal_context_does_not_matter(
    levels: list[tuple[Decimal, Decimal]], side: Side
) -> None:
    assert_unmoved(lambda: ladder_of(levels, side))
    assert_unmoved(lambda: check(replace(BUY, direction=side, stop_loss=levels[0][0] if levels else None)))
