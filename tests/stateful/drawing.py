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

_SIGNALS: Final = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
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
    max_hold_minutes=st.sampled_from([None, None, None, 2]),
    max_open_positions=st.sampled_from([None, None, 1, 2]),
    max_positions_per_symbol=st.sampled_from([None, None, 1, 2]),
    max_daily_trades=st.sampled_from([None, None, 3]),
)


def programs(ground: type[Ground], *, least: int, most: int) -> SearchStrategy[Program]:
    """Programs of so many passages for a kind of ground, after the first step, which publishes something."""
    publish = _publish()
    acts: SearchStrategy[Step] = st.one_of(
        publish,
        publish,
        st.builds(
            Update,
            signal=_SIGNALS,
            stop=st.sampled_from([None, "1.5", "0.3"]),
            targets=st.none() | _LADDERS,
            ends_in=st.sampled_from([None, None, 5, 600]),
        ),
        st.builds(Cancel, _SIGNALS),
        st.builds(End, _SIGNALS, _PORTIONS, st.booleans()),
        st.builds(Patch, _SIGNALS, st.sampled_from(["1.5", "0.3", "3", None]), st.none() | _LADDERS),
        st.builds(Close, _SIGNALS, _PORTIONS, st.booleans()),
        st.builds(Close, _SIGNALS, _PORTIONS, st.booleans()),
        st.just(CloseAll()),
        st.builds(TakeBack, _SIGNALS),
        _MOVES,
        _MOVES,
        _MOVES,
    )
    disturbances: list[SearchStrategy[Step]] = [
        _STRIKES,
        _STRIKES,
        st.builds(Hand, _SIGNALS, st.sampled_from(DEEDS)),
        st.builds(SetMode, st.sampled_from([Mode.ACTIVE, Mode.ACTIVE, Mode.REDUCING, Mode.HALTED])),
    ]
    if ground.fills_in_part:
        disturbances.append(st.builds(Thin, st.sampled_from(["0.4", "0.1", "1"])))
    disturbance: SearchStrategy[Step] = st.one_of(disturbances)
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


def _publish() -> SearchStrategy[Step]:
    return st.builds(
        Publish,
        signals=st.lists(_SIGNALS, min_size=1, max_size=3, unique=True).map(tuple),
        symbol=_SYMBOLS,
        short=st.booleans(),
        limit=st.sampled_from([None, None, None, "0.4", "1"]),
        stop=st.sampled_from(["2", "2", "1", None]),
        targets=_LADDERS,
    )


_MOVES: Final = st.builds(Move, _SYMBOLS, _PERCENTS, st.booleans())

_STRIKES: Final = st.builds(
    Strike,
    st.sampled_from([*FAULTS, "refused"]),
    st.sampled_from(["place", "place", "cancel", *REQUESTS]),
    st.integers(1, 4),
)

_PAUSES: Final[SearchStrategy[Step]] = st.one_of(
    st.just(Watch()),
    st.just(Sweep()),
    st.just(Restart()),
    st.builds(Rounds, st.integers(1, 4), st.sampled_from([2, 6, 13])),
    st.builds(Rounds, st.integers(1, 4), st.sampled_from([2, 6, 13])),
    st.builds(Wait, st.sampled_from([1, 4, 31, 70])),
    st.just(Calm()),
    st.just(Settle()),
)
