"""Runs: a program carried out step by step on a ground, with the rules checked after each step."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any, Final

from sqlalchemy import select

from app.brokers.port import VenueError
from app.desk import Desk
from app.domain.errors import Conflict, Denied, Invalid, NotFound
from app.domain.money import exact, round_to_tick, text
from app.domain.orders import Side
from app.domain.risk import Mode
from app.domain.signals import EventType
from app.engine import arrivals, closing, halting, intake, monitoring, protection, sweeping, withdrawing
from app.engine.protection import PlanChange
from app.engine.sweeping import Finding, Kind
from app.store.connections import Connection, ConnectionStatus
from app.store.executions import Execution
from app.store.positions import Position
from app.store.signals import SignalRow
from tests.chaos.checker import unsettled
from tests.chaos.verdict import Heard
from tests.desks import USER
from tests.engine.signals import execute_all, message, publish
from tests.stateful import rules
from tests.stateful.grounds import Ground
from tests.stateful.steps import (
    PERCENT,
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
from workers.jobs import sweep_round

_PATIENCE: Final = 60
"""How many rounds a settling may take."""

_QUIET: Final = 9
"""How many it takes at least: two looks at what is held, whoever is asked how often, and what follows from them."""

_PAUSE: Final = 13
"""Seconds between two of them, so that what a forgotten process had leased is due again."""


class Broken(AssertionError):
    """A rule was broken."""


class Run:
    """One program under way."""

    def __init__(self, ground: Ground, terms: Terms) -> None:
        self.ground, self.terms = ground, terms
        self.workers = [ground.start(), ground.start()]
        self._began = [ground.price(number) for number in range(len(ground.symbols))]
        self._published: list[tuple[int, Side]] = []
        """Symbol and direction of every signal."""
        self._unheard: set[int] = set()
        """Those that came when the connection had broken by itself, and are for nobody."""
        self._events = count(1)
        self._ended: set[int] = set()
        self._withdrawn: set[int] = set()
        self._mode = Mode.ACTIVE

    @property
    def desk(self) -> Desk:
        """Of the process that does whatever one process does."""
        return self.workers[0]

    async def carry_out(self, program: Program) -> None:
        """Carry out every step, then settle, close everything, and settle again. Raises Broken."""
        await self.connect()
        for step in program.steps:
            await self.do(step)
            if not isinstance(step, Strike | Calm | Thin | Restart | Wait):
                await self.check(f"after {step}")
        await self.settle()
        await self.check_settled()
        await self.go_flat()

    async def connect(self) -> None:
        """Begin with an active connection."""
        connection = await self.ground.connect(**connection_terms(self.ground, self.terms))
        self._connection_id = connection.id

    async def do(self, step: Step) -> None:
        """Carry out one step, and whatever it has rung for."""
        try:
            await self._step(step)
        except (Conflict, Denied, Invalid, NotFound, VenueError):
            # A fair answer to whoever asked; what a worker is told, it copes with itself.
            assert isinstance(step, Patch | Close | CloseAll | TakeBack | SetMode), step
        if isinstance(step, Close | End) and step.rush:
            other = self.workers[1]
            await together([execute_all(self.desk), monitoring.watch(other), sweep_round(other)])
        await execute_all(self.desk)

    async def _step(self, step: Step) -> None:  # noqa: C901 - one case for each kind of step
        desk, ground = self.desk, self.ground
        match step:
            case Publish():
                await self._publish(step)
            case Repeat(signal):
                await self._repeat(self._number(signal))
            case Update(signal, stop, targets, ends_in):
                await self._update(signal, stop, targets, ends_in)
            case Cancel(signal):
                await self._tell(EventType.CANCELLED, signal)
                self._withdrawn.add(self._number(signal))
            case End(signal, portion, _):
                await self._tell(EventType.CLOSED, signal, **({"portion": portion} if portion else {}))
                if portion in (None, "1"):
                    self._ended.add(self._number(signal))
                    self._withdrawn.add(self._number(signal))
            case Patch(number, stop, targets):
                await self._patch(number, stop, targets)
            case Close(number, portion, _):
                for position in await self._position(number):
                    part = None if portion is None else Decimal(portion)
                    await closing.request_close(desk, USER, position.id, part, idempotency_key=None)
            case CloseAll():
                await halting.close_all(desk, USER, self._connection_id, None, owner=USER)
            case TakeBack(signal):
                for execution_id in await self._executions(self._number(signal)):
                    await withdrawing.cancel(desk, USER, execution_id)
            case SetMode(mode):
                self._mode = mode
                await halting.set_mode(desk, USER, self._connection_id, mode, None, owner=USER)
            case Move(symbol, percent, gap):
                ground.move(symbol, _away(self._began[symbol], Decimal(percent)), gap=gap)
            case Thin(fraction):
                ground.thin(Decimal(fraction))
            case Reach(number, is_stop, gap):
                for position in await self._position(number):
                    self._reach(position, is_stop=is_stop, gap=gap)
            case Hand(number, deed):
                for position in await self._position(number):
                    await self._by_hand(position, deed)
            case Strike(fault, requests, times):
                ground.strike(fault, requests, times)
            case Calm():
                ground.calm()
            case Restart():
                await self._restart()
            case Sweep():
                await together([*map(sweep_round, self.workers), monitoring.watch(desk)])
            case Watch():
                await monitoring.watch(desk)
            case Rounds(rounds, seconds):
                for _ in range(rounds):
                    await self._round(seconds)
            case Wait(seconds):
                await ground.advance(seconds)
            case Settle():
                await self.settle()
                await self.check_settled()

    async def _publish(self, step: Publish) -> None:
        """Taken in one after the other; both processes execute all of them at the same time."""
        desk, number = self.desk, step.symbol
        side = Side.SELL if step.short and self.ground.sells else Side.BUY
        price = self.ground.price(number)
        words: dict[str, Any] = {}
        if step.limit is not None:
            price = _away(price, -Decimal(step.limit) * side.sign)
            words |= {"order_type": "limit", "entry_price": text(price)}
        if step.stop is not None:
            words["stop_loss"] = text(_away(price, -Decimal(step.stop) * side.sign))
        async with desk.sessions() as session:
            connection = await session.get_one(Connection, self._connection_id)
        is_heard = connection.status is ConnectionStatus.ACTIVE
        for _ in range(step.count):
            if not is_heard:
                self._unheard.add(len(self._published))
            self._published.append((number, side))
            await publish(
                desk,
                f"s{len(self._published) - 1}",
                webhook_id=f"published:{next(self._events)}",
                symbol=self.ground.symbols[number],
                direction=side.value,
                targets=_targets(price, side, step.targets),
                **words,
            )
        bells: Any = desk.queue
        rung = [Finding(Kind(kind), id_) for kind, id_ in bells.rung]
        bells.rung.clear()
        await together(sweeping.carry_out(each, found) for found in rung for each in self.workers)

    def _number(self, signal: int) -> int:
        """The number of a signal by how many were published after it; before the first one it is that."""
        return max(len(self._published) - 1 - signal, 0)

    async def _repeat(self, number: int) -> None:
        if number < len(self._published):
            symbol, side = self._published[number]
            words: dict[str, Any] = {"symbol": self.ground.symbols[symbol], "direction": side.opposite.value}
            await publish(self.desk, f"s{number}", webhook_id=f"published:{next(self._events)}", **words)

    async def _update(
        self, signal: int, stop: str | None, targets: Levels | None, ends_in: int | None
    ) -> None:
        number = self._number(signal)
        symbol, side = self._published[number] if number < len(self._published) else (0, Side.BUY)
        price = self._began[symbol]
        data: dict[str, Any] = {}
        if stop is not None:
            data["stop_loss"] = text(_away(price, -Decimal(stop) * side.sign))
        if targets is not None:
            data["take_profits"] = [{"price": p, "portion": q} for p, q in _targets(price, side, targets)]
        if ends_in is not None:
            data["expires_at"] = (self.desk.now() + timedelta(seconds=ends_in)).isoformat()
        if data:
            await self._tell(EventType.UPDATED, signal, **data)

    async def _tell(self, type_: EventType, signal: int, **data: Any) -> None:
        source_id = f"s{self._number(signal)}"
        webhook_id = f"{type_}:{next(self._events)}"
        told = message(self.desk, type_, source_id, data=data, webhook_id=webhook_id)
        await intake.change_signal(self.desk, told)

    async def _patch(self, number: int, stop: str | None, targets: Levels | None) -> None:
        for position in await self._position(number):
            side = position.side.entry_side
            price = self.ground.price(self._symbol_of(position))
            fields, levels = {"stop_loss"}, tuple[tuple[Decimal, Decimal], ...]()
            if targets is not None:
                fields.add("take_profits")
                levels = tuple((Decimal(p), Decimal(q)) for p, q in _targets(price, side, targets))
            at = None if stop is None else _away(price, -Decimal(stop) * side.sign)
            change = PlanChange(frozenset(fields), at, levels)
            await protection.edit_plan(self.desk, USER, position.id, change)

    async def _by_hand(self, position: Position, deed: str) -> None:
        ground, side = self.ground, position.side.entry_side
        match deed:
            case "closes":
                await ground.reduce_by_hand(position, Decimal(1))
            case "closes half":
                await ground.reduce_by_hand(position, Decimal("0.5"))
            case "adds":
                await ground.add_by_hand(position)
            case "moves the stop":
                await ground.move_stop_by_hand(position, _away(position.entry_price, Decimal(-4) * side.sign))
            case "cancels the orders":
                await ground.cancel_by_hand(position)

    async def _restart(self) -> None:
        """What the first process has under way is lost; it had nothing in its hands just now."""
        await self.ground.stop(self.workers[0])
        self.workers = [self.workers[1], self.ground.start()]

    async def _round(self, seconds: float) -> None:
        await self.ground.advance(seconds)
        await monitoring.watch(self.desk)
        await arrivals.look(self.desk)
        await execute_all(self.desk)
        await sweep_round(self.workers[1])

    async def settle(self) -> None:
        """Everything goes right, and goes on until nothing is under way."""
        self.ground.calm()
        self.ground.thin(Decimal(1))
        for number in range(_PATIENCE):
            await self._round(_PAUSE)
            if number >= _QUIET and not await unsettled(self.desk.sessions):
                break

    async def check_settled(self) -> None:
        """Everything is as it must be when nothing is under way. Raises Broken."""
        await self.check("when settled")
        state = await rules.read(self.desk.sessions)
        verdict = await self.ground.verdict(self._heard())
        held = await self.ground.held()
        asked = await self._asked(state)
        found = rules.broken_when_settled(state, verdict, held, asked, has_added=self.ground.has_added)
        self._raise(found, "when settled")

    async def go_flat(self) -> None:
        """Close everything: what is left of it is nothing, and what was made is what we say. Raises Broken."""
        await self.do(CloseAll())
        await self.settle()
        await self.check_settled()
        await self.check_flat()

    async def check_flat(self) -> None:
        """Everything is as it must be when nothing is left. Raises Broken."""
        state = await rules.read(self.desk.sessions)
        made = None if self.ground.has_added else await self.ground.made()
        self._raise(rules.broken_when_flat(state, made), "after everything was closed")

    async def check(self, when: str) -> None:
        """What must be so at every moment is so. Raises Broken."""
        state = await rules.read(self.desk.sessions)
        verdict = await self.ground.verdict(self._heard())
        self._raise(rules.broken_always(state, verdict, self.terms), when)

    def _heard(self) -> Heard:
        return Heard(
            published={
                f"s{number}": "" for number in range(len(self._published)) if number not in self._unheard
            },
            closed={f"s{number}" for number in self._ended},
        )

    async def _asked(self, state: rules.State) -> rules.Asked:
        withdrawn = [each for number in self._withdrawn for each in await self._executions(number)]
        prices = {each.symbol: self.ground.price(self._symbol_of(each)) for each in state.positions}
        minutes = self.terms.max_hold_minutes
        max_hold = None if minutes is None else timedelta(minutes=minutes)
        return rules.Asked(withdrawn, self._mode, max_hold, prices, self.desk.now())

    def _raise(self, found: rules.Findings, when: str) -> None:
        if found:
            raise Broken(f"{when}:\n" + "\n".join(f"  {rule}: {what}" for rule, what in found))

    async def _position(self, number: int) -> Sequence[Position]:
        """The position that a step names; none where there has never been one."""
        state = await rules.read(self.desk.sessions)
        known = state.open or state.positions[-1:]
        return [known[-1 - number % len(known)]] if known else []

    def _symbol_of(self, position: Position) -> int:
        plain = position.symbol.partition(":")[0].replace("/", "")
        return [each.replace("/", "") for each in self.ground.symbols].index(plain)

    def _reach(self, position: Position, *, is_stop: bool, gap: bool) -> None:
        away = position.side.entry_side.sign * (-1 if is_stop else 1)
        target = position.rungs_left[0].price if position.rungs_left else None
        if (level := position.stop_loss if is_stop else target) is not None:
            beyond = _away(level, Decimal("0.15") * away)
            self.ground.move(self._symbol_of(position), beyond, gap=gap)

    async def _executions(self, number: int) -> Sequence[Any]:
        async with self.desk.sessions() as session:
            found = await session.scalars(
                select(Execution.id)
                .join(SignalRow, SignalRow.id == Execution.signal_id)
                .where(SignalRow.source_id == f"s{number}")
            )
            return found.all()


async def together(work: Any) -> None:
    """Side by side, all of it to its end; then whatever went wrong with one."""
    done = await asyncio.gather(*work, return_exceptions=True)
    for each in done:
        if isinstance(each, BaseException):
            raise each


def connection_terms(ground: Ground, terms: Terms) -> dict[str, Any]:
    """The terms of a connection as an owner states them."""
    protection: dict[str, Any] = {"native": terms.native}
    if terms.break_even == "tp":
        protection["break_even_after_tp"] = 1
    elif terms.break_even is not None:
        protection["break_even_at_percent"] = terms.break_even
    if terms.trailing is not None:
        activation, distance = terms.trailing
        protection["trailing"] = {"activation_percent": activation, "distance_percent": distance}
    if terms.max_hold_minutes is not None:
        protection["max_hold_minutes"] = terms.max_hold_minutes
    limits = {
        name: most
        for name in ("max_open_positions", "max_positions_per_symbol", "max_daily_trades")
        if (most := getattr(terms, name)) is not None
    }
    return {"sizing": dict(ground.sizes[terms.size]), "protection": protection, "limits": limits}


@exact
def _away(price: Decimal, percent: Decimal) -> Decimal:
    return round_to_tick(
        price * (1 + percent / PERCENT), Decimal("0.00001") if price < 10 else Decimal("0.01")
    )


def _targets(price: Decimal, side: Side, levels: Levels) -> list[tuple[str, str]]:
    return [(text(_away(price, Decimal(away) * side.sign)), portion) for away, portion in levels]
