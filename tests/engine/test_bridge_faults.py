"""Signals on MetaTrader while bridges and brokers misbehave: nothing is executed twice, and nothing is lost."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import cycle, islice
from typing import Any
from uuid import UUID

import pytest

from app.brokers.directory import Directory
from app.brokers.metatrader import open_metatrader
from app.brokers.metatrader.gateway import Patience
from app.desk import Desk
from app.domain.exits import CloseReason, Protection
from app.domain.money import ZERO
from app.domain.orders import FINAL, Purpose
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import closing, monitoring
from app.engine.protection import PlanChange, edit_plan
from app.store.executions import Execution, ExecutionStatus
from app.store.positions import Position
from tests.desks import START, USER, Clock, opened_desk
from tests.engine.metatrader import ACCOUNTS, Stage
from tests.engine.signals import change, execute_all, executions, orders, positions, publish, sweep_all
from tests.venues import faults
from tests.venues.faults import Fault, When
from tests.venues.metatrader import (
    LISTINGS,
    Listing,
    MetaTraderVenue,
    Method,
    conduct,
    refusal,
    running_bridge,
)
from tests.venues.metatrader.bridge import Bridge
from tests.venues.wire import Intent, WireRequest

DECIDED = frozenset(
    {
        ExecutionStatus.EXECUTED,
        ExecutionStatus.DENIED,
        ExecutionStatus.REJECTED,
        ExecutionStatus.CANCELLED,
        ExecutionStatus.EXPIRED,
    }
)

IMPATIENT = Patience(connect=1, read=0.4, order=0.25)
"""Real seconds: a bridge that hangs must not hold a test up."""

ACCIDENTS = (
    faults.ANSWER_LOST,
    faults.REQUEST_LOST,
    faults.TRUNCATED,
    faults.HTML,
    faults.HTML_UNEXECUTED,
    faults.server_error(502, executed=True),
    faults.server_error(502, executed=False),
    faults.server_error(504, executed=True),
    faults.lagging(8),
    faults.late(20, fenced=False),
    refusal("TIMEOUT", executed=True),
    refusal("TIMEOUT"),
    refusal("DONE", "Object reference not set", executed=True),
    refusal("CONNECT_ERROR", "Not connected (:5000001)", executed=True),
    refusal("NETWORK_PROBLEM", "Not connected", executed=True),
    refusal("INVALID_TOKEN", "Client with id not found"),
    refusal("INVALID_TOKEN", "Client with id not found", executed=True),
    refusal("REQUOTE"),
)
"""What may happen to one order on its way, hangs aside."""

TELLING = (
    faults.ANSWER_LOST,
    faults.REQUEST_LOST,
    refusal("TIMEOUT", executed=True),
    refusal("INVALID_TOKEN", "Client with id not found", executed=True),
)
"""Those of them that the ordinary suite tries at every step of every account."""

HANGS = (faults.HANG, faults.HANG_EXECUTED, faults.dawdling(30))

EVERY = len(ACCIDENTS) + len(HANGS)


@dataclass
class Pair:
    """One owner's accounts on both platforms, on one desk."""

    desk: Desk
    venue: MetaTraderVenue
    stages: Sequence[Stage]

    async def round(self, seconds: float = 12) -> None:
        """Let time pass, and let monitor, sweep and bells do their work."""
        await self.venue.advance(seconds)
        await monitoring.watch(self.desk)
        await execute_all(self.desk)
        await sweep_all(self.desk)

    async def until(self, is_so: Callable[[], Awaitable[bool]], rounds: int = 60) -> None:
        """Go on until something is so; it must become so."""
        for _ in range(rounds):
            await self.round()
            if await is_so():
                return
        raise AssertionError(f"not so after {rounds} rounds")

    async def settle(self) -> None:
        """Go on until every execution is decided, and a little longer."""
        await self.until(self._is_decided)
        for _ in range(3):
            await self.round()

    async def of(self, stage: Stage) -> tuple[list[Execution], list[Position]]:
        """What the engine believes of one account."""
        id_ = self._id(stage)
        return (
            [each for each in await executions(self.desk) if each.connection_id == id_],
            [each for each in await positions(self.desk) if each.connection_id == id_],
        )

    async def assert_once(self) -> None:
        """Every signal was executed exactly once, or certainly not, on each account, and the books agree."""
        for stage in self.stages:
            done, held = await self.of(stage)
            assert {each.status for each in done} <= DECIDED, [(e.status, e.code, e.message) for e in done]
            executed = [each for each in done if each.status is ExecutionStatus.EXECUTED]
            assert stage.login.doubles() == []
            assert len(stage.login.orders) == len(executed)
            entries = [
                order
                for order in await orders(self.desk)
                if order.connection_id == self._id(stage) and order.purpose is Purpose.ENTRY
            ]
            told = {order.exchange_order_id for order in entries if order.filled_quantity}
            assert told == {str(order.ticket) for order in stage.login.orders}
            assert sum(each.remaining_quantity for each in held) == sum(
                each.lots for each in stage.login.positions.values()
            )

    async def leave(self, bid: str, symbols: Sequence[str] = ("EUR/USD",)) -> None:
        """Let the price walk through every stop, and wait until the engine knows; the books agree to the cent."""
        await self.venue.advance(1)
        for symbol in symbols:
            self.venue.move(symbol, bid)
        await self.until(self._is_left)
        for stage in self.stages:
            _, held = await self.of(stage)
            assert stage.login.positions == {}
            assert stage.login.pending == []
            assert sum((each.realized_pnl for each in held), ZERO) == stage.login.realized
        assert all(order.status in FINAL for order in await orders(self.desk))

    async def remains(self, lots: str) -> bool:
        """Whether so much is left of every position, in the engine's books and in the brokers'."""
        tickets = [ticket for stage in self.stages for ticket in stage.login.positions.values()]
        left = [each.remaining_quantity for each in await positions(self.desk)]
        return {Decimal(lots)} == {*left, *(ticket.lots for ticket in tickets)} and len(tickets) == len(left)

    async def is_stopped_at(self, price: str) -> bool:
        """Whether the brokers hold every position's stop there, and the engine knows."""
        native = {each.protection for each in await positions(self.desk)} == {Protection.NATIVE}
        return native and set[Decimal]().union(*map(self.stops, self.stages)) == {Decimal(price)}

    def stops(self, stage: Stage) -> set[Decimal]:
        """Where the broker holds the stops of an account."""
        return {ticket.stop_loss for ticket in stage.login.positions.values()}

    async def halve(self) -> None:
        """Ask for half of every position to be closed."""
        for position in await positions(self.desk):
            key = f"half of {position.id}"
            await closing.request_close(self.desk, USER, position.id, Decimal("0.5"), idempotency_key=key)
        await execute_all(self.desk)

    async def restop(self, price: str) -> None:
        """Ask for another stop on every position."""
        change = PlanChange(frozenset({"stop_loss"}), stop_loss=Decimal(price))
        for position in await positions(self.desk):
            await edit_plan(self.desk, USER, position.id, change)
        await execute_all(self.desk)

    async def is_resting(self) -> bool:
        """Whether one entry waits at every broker, and the engine knows."""
        waiting = [each for each in await executions(self.desk) if each.status is ExecutionStatus.OPEN]
        return [len(stage.login.pending) for stage in self.stages] == [1] * len(waiting) != []

    async def is_taken_back(self) -> bool:
        """Whether no entry waits any more, and the engine knows."""
        pending = [order for stage in self.stages for order in stage.login.pending]
        return not pending and await self._is_decided()

    async def _is_decided(self) -> bool:
        return all(each.status in DECIDED for each in await executions(self.desk))

    async def _is_left(self) -> bool:
        return all(each.status is PositionStatus.CLOSED for each in await positions(self.desk))

    def _id(self, stage: Stage) -> UUID:
        assert stage.connection is not None
        return stage.connection.id


@asynccontextmanager
async def opened_pair(
    database_url: str,
    methods: Sequence[tuple[str, Method]] = (("mt4", Method.HEDGING), ("mt5", Method.HEDGING)),
    *,
    patience: Patience = IMPATIENT,
    listings: Sequence[Listing] = LISTINGS,
    **terms: Any,
) -> AsyncIterator[Pair]:
    """Active accounts of 100,000 USD at brokers that charge commission, trading two hundredths of a lot."""
    async with (
        running_bridge(start=START, listings=listings) as venue,
        opened_desk(database_url, Clock()) as opened,
    ):
        endpoints = {bridge.platform.value: bridge.url for bridge in venue.bridges}
        now = venue.clock.now
        brokers = Directory({"fx": open_metatrader(opened.vault, endpoints, now, patience)})
        desk = replace(opened, brokers=brokers, now=now)
        stages = []
        for platform, method in methods:
            owner = venue.open_account(platform, balance="100000", method=method, commission="3.5")
            stage = Stage(desk, venue, platform, owner)
            await stage.activate(sizing={"strategy": "fixed", "value": "0.02"}, **terms)
            stages.append(stage)
        yield Pair(desk, venue, stages)
        await brokers.close()
        venue.audit()
        conduct.assert_sound(venue)


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[Pair]:
    """Hedging accounts on both platforms."""
    async with opened_pair(database_url) as opened:
        yield opened


def one_each(pair: Pair, when: When, requests: int) -> Callable[[WireRequest], Fault | None]:
    """A policy: at each bridge the first so many requests of a kind meet one accident after the other.

    The bridges begin at different ones, so that together they show each of them soon.
    """
    every = [*ACCIDENTS, *HANGS]
    accidents = {
        bridge.url: islice(cycle(every), first, first + requests)
        for bridge, first in zip(pair.venue.bridges, (0, len(every) // 2), strict=True)
    }
    return lambda request: next(accidents[f"http://{request.host}"], None) if when(request) else None


def named(value: object) -> str:
    """How a fault is called in a test's name."""
    return value.name if isinstance(value, Fault) else ""


@pytest.mark.parametrize("signals", [EVERY // 2, pytest.param(60, marks=pytest.mark.long)])
async def test_every_accident_is_met_and_nothing_happens_twice_or_is_lost(
    pair: Pair, capsys: pytest.CaptureFixture[str], signals: int
) -> None:
    """Entries, then new stops, then partial closes: each phase meets every accident, at one bridge or both."""
    for bridge in pair.venue.bridges:
        bridge.leaks_passwords = True
    pair.venue.faults.policy = one_each(pair, faults.places, signals)
    for number in range(signals):
        await publish(pair.desk, f"s{number}", symbol="EUR/USD", stop_loss="1.09", targets=[("1.2", "1")])
    await execute_all(pair.desk)
    await pair.settle()
    await pair.assert_once()
    done = await executions(pair.desk)
    assert [each.status for each in done] == [ExecutionStatus.EXECUTED] * signals * 2
    assert await pair.is_stopped_at("1.09")

    pair.venue.faults.policy = one_each(pair, faults.modifies, signals)
    await pair.restop("1.095")
    await pair.until(lambda: pair.is_stopped_at("1.095"))

    pair.venue.faults.policy = one_each(pair, faults.leaves, signals)
    await pair.halve()
    await pair.until(lambda: pair.remains("0.01"))
    assert await pair.is_stopped_at("1.095")
    for _ in range(6):
        # It stays so: nothing is taken off a position and put on again.
        await pair.round()
        assert {stop for stage in pair.stages for stop in pair.stops(stage)} == {Decimal("1.095")}
    await pair.leave("1.08")
    assert {each.close_reason for each in await positions(pair.desk)} == {CloseReason.STOP_LOSS}
    struck = Counter((request.host, request.intent) for _, request in pair.venue.faults.struck)
    assert list(struck.values()) == [signals] * 6
    written = "".join(capsys.readouterr())
    assert "order_uncertain" in written
    assert not [secret for secret in pair.venue.secrets if secret in written]


async def test_an_account_that_nets_meets_every_accident_once_and_nothing_is_doubled_or_lost(
    database_url: str,
) -> None:
    """A symbol for each accident, since one symbol takes one position there."""
    listings = [replace(LISTINGS[0], base=f"AA{chr(ord('A') + number)}") for number in range(EVERY)]
    symbols = [listing.pair for listing in listings]
    async with opened_pair(database_url, [ACCOUNTS["mt5-netting"]], listings=listings) as one:
        one.venue.faults.policy = one_each(one, faults.places, EVERY)
        for symbol in symbols:
            await publish(one.desk, symbol, symbol=symbol, stop_loss="1.09", targets=[("1.2", "1")])
        await execute_all(one.desk)
        await one.settle()
        await one.assert_once()
        assert [each.status for each in await executions(one.desk)] == [ExecutionStatus.EXECUTED] * EVERY
        one.venue.faults.policy = one_each(one, faults.modifies, EVERY)
        await one.restop("1.095")
        await one.until(lambda: one.is_stopped_at("1.095"))
        one.venue.faults.policy = one_each(one, faults.leaves, EVERY)
        await one.halve()
        await one.until(lambda: one.remains("0.01"))
        await one.leave("1.08", symbols)
        struck = Counter(request.intent for _, request in one.venue.faults.struck)
        assert struck == {Intent.PLACE: EVERY, Intent.MODIFY: EVERY, Intent.LEAVE: EVERY}


@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=[] if fault in TELLING else pytest.mark.long)
        for fault in (*ACCIDENTS, *HANGS)
    ],
    ids=named,
)
async def test_an_accident_at_every_first_attempt_changes_nothing(
    database_url: str, account: str, fault: Fault
) -> None:
    """Entry, look, new stop, partial close, and the cancelling of an entry that waits."""
    async with opened_pair(database_url, [ACCOUNTS[account]]) as one:
        for when in (faults.places, faults.modifies, faults.leaves, faults.cancels, faults.looks):
            one.venue.faults.add(fault, when)
        await publish(one.desk, symbol="EUR/USD", stop_loss="1.09", targets=[("1.2", "1")])
        await execute_all(one.desk)
        await one.settle()
        await one.assert_once()
        await one.restop("1.095")
        await one.until(lambda: one.is_stopped_at("1.095"))
        await one.halve()
        await one.until(lambda: one.remains("0.01"))

        for when in (faults.places, faults.looks, faults.cancels, faults.leaves):
            one.venue.faults.add(fault, when)
        resting: dict[str, Any] = {"order_type": "limit", "entry_price": "1.2", "stop_loss": "1.19"}
        await publish(one.desk, "waits", symbol="GBP/USD", **resting)
        await execute_all(one.desk)
        await one.until(one.is_resting)
        await change(one.desk, EventType.CANCELLED, "waits")
        await one.until(one.is_taken_back)
        await one.leave("1.08")
        [stage] = one.stages
        assert len(stage.login.orders) == 2
        struck = {request.intent for _, request in one.venue.faults.struck}
        assert struck >= {Intent.PLACE, Intent.MODIFY, Intent.LEAVE, Intent.LOOK}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
async def test_a_stream_under_chance_ends_with_books_that_agree(pair: Pair, seed: int) -> None:
    """A tenth of all requests, whatever they are for, meets some accident."""
    pair.venue.faults.policy = faults.by_chance(seed, 0.1, ACCIDENTS)
    for number in range(60):
        await publish(pair.desk, f"s{number}", symbol="EUR/USD", stop_loss="1.09", targets=[("1.2", "1")])
        if number % 6 == 5:
            await pair.round(2)
    await pair.settle()
    pair.venue.faults.clear()
    await pair.assert_once()
    await pair.leave("1.08")


def forget_sessions(pair: Pair) -> None:
    """The bridge has been started anew, and ConnectByToken brings nothing back."""
    for bridge in pair.venue.bridges:
        bridge.sessions.remembers = False
        bridge.sessions.lose_all()


def _each(change: Callable[[Bridge], None]) -> Callable[[Pair], None]:
    def apply(pair: Pair) -> None:
        for bridge in pair.venue.bridges:
            change(bridge)

    return apply


def _no_twins(bridge: Bridge) -> None:
    bridge.has_safe_twins = False


def _capitals(bridge: Bridge) -> None:
    bridge.pascal_case = True


def _late_history(bridge: Bridge) -> None:
    bridge.history_lag = 25


def _half_histories(bridge: Bridge) -> None:
    bridge.partial_histories = 5


def _no_comments(bridge: Bridge) -> None:
    bridge.server.keeps_comments = False


def _no_magic(bridge: Bridge) -> None:
    bridge.server.rest_keeps_magic = False


HABITS = {
    "sessions forgotten": forget_sessions,
    "no safe twins": _each(_no_twins),
    "capitals": _each(_capitals),
    "late history": _each(_late_history),
    "half histories": _each(_half_histories),
    "no comments": _each(_no_comments),
    "no magic on the rest": _each(_no_magic),
}


@pytest.mark.parametrize("habit", HABITS.values(), ids=HABITS.keys())
async def test_a_bridge_with_habits_executes_once_all_the_same(
    pair: Pair, habit: Callable[[Pair], None]
) -> None:
    """One account's answer is lost, the other one's request."""
    habit(pair)
    pair.venue.faults.add(faults.ANSWER_LOST)
    pair.venue.faults.add(faults.REQUEST_LOST)
    await publish(pair.desk, symbol="EUR/USD", stop_loss="1.09", targets=[("1.11", "0.5"), ("1.2", "0.5")])
    await execute_all(pair.desk)
    await pair.settle()
    await pair.assert_once()
    assert [each.status for each in await executions(pair.desk)] == [ExecutionStatus.EXECUTED] * 2
    pair.venue.move("EUR/USD", "1.1110")
    await pair.until(lambda: pair.remains("0.01"))
    await pair.leave("1.08")
