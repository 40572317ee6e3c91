"""A day of signals on a recording, against what a walk of its candles says must come of each of them.

The clock is set by hand, so the same things happen on every machine; the database and the paper venue are real.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, timedelta
from decimal import Decimal
from random import Random

import pytest
from sqlalchemy import select

from app.desk import Desk
from app.domain.market import MarketType
from app.domain.orders import Purpose
from app.engine import monitoring
from app.engine.reporting import report_day
from app.store.analytics import DailyRow
from app.store.connections import Connection
from app.store.orders import Order
from app.store.positions import Position
from tests.acceptance.paper import Leg, Round, analytics
from tests.acceptance.tape import FILE, POINTS, Tape
from tests.acceptance.walk import TICKS_PER_LOOK, Account, Exit, Held, Idea, walked
from tests.desks import START, Clock, add_connection, opened_desk
from tests.engine.signals import execute_all, executions, orders, positions, publish

SEED = 20230347
"""Of those tried the one with the most exits at candles that open beyond a level."""
LOOKS_PER_SIGNAL = 2
BALANCE = Decimal(100_000)
FEE_RATE = Decimal("0.001")

ACCOUNTS = {
    (market_type, native): Account(shorts=swap, nets=swap, native=native)
    for market_type, swap in ((MarketType.SWAP, True), (MarketType.SPOT, False))
    for native in (True, False)
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock) -> AsyncIterator[Desk]:
    async with opened_desk(database_url, clock, {"BTC/USDT": FILE}) as desk:
        yield desk


async def test_a_day_of_signals_ends_as_a_walk_of_the_candles_says(desk: Desk, clock: Clock) -> None:
    tape = Tape.read(START, speed=1)
    ideas = _ideas(tape)
    connections = {
        style: await add_connection(
            desk,
            market_type=style[0],
            protection={"native": style[1]},
            paper={"balance": str(BALANCE)},
            sizing={"strategy": "fixed", "value": str(account.quantity)},
        )
        for style, account in ACCOUNTS.items()
    }
    await _live_through(desk, clock, tape, ideas)
    for style, account in ACCOUNTS.items():
        closed = await _check(desk, tape, ideas, account, connections[style])
        await _check_report(desk, clock, connections[style], closed)


def _ideas(tape: Tape) -> list[Idea]:
    """Signals of both directions, seeded, at points where the engine looks."""
    random = Random(SEED)
    times = range(TICKS_PER_LOOK, len(tape.points) - POINTS, LOOKS_PER_SIGNAL * TICKS_PER_LOOK)
    return [_idea(tape, number, point, random) for number, point in enumerate(times)]


def _idea(tape: Tape, number: int, point: int, random: Random) -> Idea:
    price, sign = tape.points[point].price, random.choice((1, -1))

    def level(percent: Decimal) -> Decimal:
        return (price * (100 + sign * percent) / 100).quantize(Decimal("0.01"))

    stop, target = (Decimal(random.randint(20, 120)) / 100 for _ in range(2))
    return Idea(number, point, sign, level(-stop), (level(target), level(2 * target)))


async def _live_through(desk: Desk, clock: Clock, tape: Tape, ideas: Sequence[Idea]) -> None:
    """Let the engine look at every look, and hand it each signal at its time."""
    coming = {idea.point: idea for idea in ideas}
    for point in range(0, len(tape.points), TICKS_PER_LOOK):
        clock.moment = tape.time(point)
        await monitoring.watch(desk)
        await execute_all(desk)
        if idea := coming.get(point):
            await publish(
                desk,
                str(idea.number),
                direction="buy" if idea.sign > 0 else "sell",
                stop_loss=str(idea.stop),
                targets=[(str(target), "0.5") for target in idea.targets],
            )
            await execute_all(desk)


async def _check(
    desk: Desk, tape: Tape, ideas: Sequence[Idea], account: Account, connection: Connection
) -> list[tuple[Position, Round]]:
    """Every signal became what the walk says, on one account; answers what is closed."""
    answers = [each for each in await executions(desk) if each.connection_id == connection.id]
    opened = {each.execution_id: each for each in await positions(desk)}
    closed = []
    last_look = (len(tape.points) - 1) // TICKS_PER_LOOK * TICKS_PER_LOOK
    expected = list(walked(tape.points[: last_look + 1], ideas, account))
    assert len(answers) == len(ideas) == len(expected)
    for answer, (idea, must) in zip(answers, expected, strict=True):
        if isinstance(must, str):
            assert (answer.status, answer.code) == ("denied", must), idea
            continue
        assert answer.status == "executed", idea
        position = opened[answer.id]
        filled = [each for each in await orders(desk, position.id) if each.filled_quantity]
        assert [each.average_price for each in filled if each.purpose is Purpose.ENTRY] == [must.entry]
        assert sorted(_exits(tape, filled), key=_in_time) == sorted(must.exits, key=_in_time), idea
        assert position.remaining_quantity == must.remaining
        if not must.remaining:
            round_ = _round(tape, must)
            assert (position.gross_pnl, position.fees) == (round_.gross, round_.fees)
            assert position.realized_pnl == round_.net
            assert (position.opened_at, position.closed_at) == (round_.opened_at, round_.closed_at)
            assert position.close_reason == must.exits[-1].reason
            closed.append((position, round_))
    assert {position.close_reason for position, _ in closed} == {"take_profit", "stop_loss"}
    return closed


def _exits(tape: Tape, filled: Sequence[Order]) -> list[Exit]:
    return [
        Exit(tape.at(each.filled_at).number, each.average_price, each.filled_quantity, str(each.reason))
        for each in filled
        if each.purpose is not Purpose.ENTRY and each.filled_at and each.average_price
    ]


def _in_time(exit_: Exit) -> tuple[int, Decimal]:
    return exit_.point, exit_.price


def _round(tape: Tape, held: Held) -> Round:
    return Round(
        sign=held.idea.sign,
        quantity=held.quantity,
        entry=held.entry,
        exits=[Leg(each.quantity, each.price) for each in held.exits],
        fee_rate=FEE_RATE,
        opened_at=tape.time(held.idea.point),
        closed_at=tape.time(held.exits[-1].point),
    )


async def _check_report(
    desk: Desk, clock: Clock, connection: Connection, closed: Sequence[tuple[Position, Round]]
) -> None:
    """The daily row of the account is the one on paper."""
    clock.moment = START + timedelta(days=1)
    day: date = START.astimezone(UTC).date()
    await report_day(desk, day)
    async with desk.sessions() as session:
        row = await session.scalar(select(DailyRow).where(DailyRow.connection_id == connection.id))
    assert row is not None
    in_order = sorted(closed, key=lambda each: (each[1].closed_at, each[0].id))
    expected = analytics([round_ for _, round_ in in_order], BALANCE)
    # This account was never activated through the API, so nobody knows what it started with.
    del expected["max_drawdown_percent"]
    assert {name: getattr(row, name) for name in expected} == expected
