"""Drawing: which programs there are, as hypothesis draws and shrinks them."""

from itertools import chain
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from app.domain.risk import Mode
from tests.stateful.grounds import FAULTS, REQUESTS, Ground
from tests.stateful.steps import (
    DEEDS,
    Calm,
    Cancel,
    Close,
    CloseAll,
    End,
    Hand,
    Levels,
    Move,
    Patch,
    Program,
    Publish,
    Reach,
    Repeat,
    Restart,
    Rounds,
    SetMode,
    Settle,
    Step,
    Strike,
    Sweep,
    TakeBack,
    Terms,
    Thin,
    Update,
    Wait,
    Watch,
)

_SIGNALS: Final = st.sampled_from([0, 0, 0, 1, 2, -1])
_POSITIONS: Final = st.sampled_from([0, 0, 0, 1, 2])
_SYMBOLS: Final = st.sampled_from([0, 0, 1])
_PORTIONS: Final = st.sampled_from([None, "0.5", "0.34", "0.9", "1"])

_LADDERS: Final[SearchStrategy[Levels]] = st.sampled_from(
    [
        (),
        (("1", "1"),),
        (("1", "0.5"),),
        (("1", "0.5"), ("2", "0.5")),
        (("1", "0.3"), ("2", "0.3"), ("3", "0.4")),
        (("1", "0.25"), ("2", "0.25")),
    ]
)

_PERCENTS: Final = st.sampled_from(
    ["0", "-0.5", "0.5", "1.1", "-1.1", "2.1", "-2.1", "3.1", "-3.1", "5", "-5"]
)

TERMS: Final = st.builds(
    Terms,
    size=st.integers(0, 1),
    native=st.sampled_from([True, True, False]),
    break_even=st.sampled_from([None, None, "tp", "0.7"]),
    trailing=st.sampled_from([None, None, ("0.5", "0.4")]),
    max_hold_minutes=st.sampled_from([None, None, None, None, 2]),
    max_open_positions=st.sampled_from([None, None, None, 1, 2]),
    max_positions_per_symbol=st.sampled_from([None, None, None, 1, 2]),
    max_daily_trades=st.sampled_from([None, None, None, 3]),
)


def programs(ground: type[Ground], *, least: int, most: int) -> SearchStrategy[Program]:
    """Programs of so many passages for a kind of ground, after the first step, which publishes something."""
    publish = _publish()
    acts = _weighed(
        (5, publish),
        (5, _REACHES),
        (4, st.builds(Close, _POSITIONS, _PORTIONS, st.booleans())),
        (3, st.builds(End, _SIGNALS, _PORTIONS, st.booleans())),
        (3, _MOVES),
        (3, st.builds(Patch, _POSITIONS, st.sampled_from(["1.5", "0.3", "3", None]), st.none() | _LADDERS)),
        (3, _updates()),
        (1, st.builds(Cancel, _SIGNALS)),
        (1, st.builds(TakeBack, _SIGNALS)),
        (1, st.builds(Repeat, _SIGNALS)),
        (1, st.just(CloseAll())),
    )
    disturbance = _weighed(
        (6, _STRIKES),
        (4, st.builds(Hand, _POSITIONS, st.sampled_from(DEEDS))),
        (1, st.builds(SetMode, st.sampled_from([Mode.ACTIVE, Mode.ACTIVE, Mode.REDUCING, Mode.HALTED]))),
        (2 if ground.fills_in_part else 0, st.builds(Thin, st.sampled_from(["0.4", "0.1", "1"]))),
    )
    # An accident says something only about what is done right after it.
    passage = st.one_of(
        st.tuples(acts),
        st.tuples(_PAUSES),
        st.tuples(acts, _PAUSES),
        st.tuples(disturbance, acts),
        st.tuples(disturbance, acts, _PAUSES),
        st.tuples(disturbance, acts, acts, _PAUSES),
        st.tuples(acts, disturbance, _PAUSES),
    )
    # Left to itself hypothesis draws lists of a handful, however long they may be.
    passages = st.integers(least, most).flatmap(
        lambda length: st.lists(passage, min_size=length, max_size=length)
    )
    return st.builds(
        lambda terms, first, rest: Program(terms, (first, *chain.from_iterable(rest))),
        TERMS,
        publish,
        passages,
    )


def _weighed(*kinds: tuple[int, SearchStrategy[Step]]) -> SearchStrategy[Step]:
    """One of these, each as often as its number says."""
    return st.sampled_from([kind for often, kind in kinds for _ in range(often)]).flatmap(lambda kind: kind)


def _updates() -> SearchStrategy[Step]:
    return st.builds(
        Update,
        signal=_SIGNALS,
        stop=st.sampled_from([None, "1.5", "0.3"]),
        targets=st.none() | _LADDERS,
        ends_in=st.sampled_from([None, None, 5, 600]),
    )


def _publish() -> SearchStrategy[Step]:
    return st.builds(
        Publish,
        count=st.sampled_from([1, 1, 2, 3]),
        symbol=_SYMBOLS,
        short=st.booleans(),
        limit=st.sampled_from([None, None, None, "0.4", "1"]),
        stop=st.sampled_from(["2", "2", "2", "1", "1", None]),
        targets=_LADDERS,
    )


_MOVES: Final = st.builds(Move, _SYMBOLS, _PERCENTS, st.booleans())

_REACHES: Final = st.builds(Reach, _POSITIONS, st.booleans(), st.booleans())

_STRIKES: Final = st.builds(
    Strike,
    st.sampled_from([*FAULTS, "refused"]),
    st.sampled_from(["place", "place", "cancel", *REQUESTS]),
    st.integers(1, 4),
)

_PAUSES: Final = _weighed(
    (4, st.builds(Rounds, st.integers(1, 4), st.sampled_from([2, 6, 13]))),
    (2, st.just(Watch())),
    (2, st.just(Sweep())),
    (2, st.just(Restart())),
    (1, st.builds(Wait, st.sampled_from([1, 4, 31, 70]))),
    (1, st.just(Calm())),
    (1, st.just(Settle())),
)
