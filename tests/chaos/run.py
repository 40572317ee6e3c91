"""Chaos: the real processes under signals, kills, stops, restarts and venue faults, on the real clock.

    .venv/bin/python -m tests.chaos.run --seed 7 --minutes 20

API and two workers are processes of their own, forked from one that has everything imported, so that a thousand kills
take minutes. PostgreSQL and Redis are real; exchanges and MetaTrader bridges are simulated in this process, which
nothing kills, and their rules are quick: an order is valid for 4 s and settled after 8 s (see `source.QUICK_VENUE`).
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from app.domain.positions import PositionStatus
from app.logs import configure_logs
from app.store.executions import UNDER_WAY, ExecutionStatus
from tests.chaos.checker import check, unsettled
from tests.chaos.lanes import Lane
from tests.chaos.outcome import Outcome
from tests.chaos.weather import BRIDGE_ODDITIES, EXCHANGE_ODDITIES, weather
from tests.chaos.world import World, opened_world

LANE_PATIENCE: Final = 180.0
"""Seconds after which a signal that has come to no end is given up, and is a finding."""


async def go_on(world: World, lane: Lane, ids: Callable[[], str | None]) -> None:
    """Send signal after signal down a lane, each when the one before has come to its end."""
    while (name := ids()) is not None:
        world.wanted.add(name)
        wording = lane.wording(world.dice)
        published = {"id": name, "plans": [lane.plan], "symbol": lane.symbol, **wording}
        await world.deliver("signal.published", published, f"{name}:published")
        world.heard.published[name] = lane.plan
        if world.dice.random() < 0.8:
            await _is_executed(world, name)
        world.nemesis.progress += 1
        await asyncio.sleep(world.dice.uniform(0, 2))
        if world.dice.random() < 0.3:
            update = {"id": name, "stop_loss": lane.tighter(wording)}
            await world.deliver("signal.updated", update, f"{name}:updated")
            await asyncio.sleep(world.dice.uniform(0.1, 2))
        await world.deliver("signal.closed", {"id": name}, f"{name}:closed")
        world.heard.closed.add(name)
        closed_at = time.monotonic()
        if await _has_ended(world, name):
            world.note_settled(closed_at)
        else:
            world.outcome.stuck.append(f"{name}, {lane.symbol} on {lane.where}: {world.seen.get(name)}")
        world.wanted.discard(name)
        world.seen.pop(name, None)


async def _is_executed(world: World, name: str) -> None:
    """Wait for it, but not for ever: its close may come first."""
    given_up = time.monotonic() + 20
    while (
        time.monotonic() < given_up and world.seen.get(name, (ExecutionStatus.PENDING, None))[0] in UNDER_WAY
    ):
        await asyncio.sleep(0.25)


async def _has_ended(world: World, name: str) -> bool:
    given_up = time.monotonic() + LANE_PATIENCE
    while time.monotonic() < given_up:
        status, held = world.seen.get(name, (ExecutionStatus.PENDING, None))
        if status not in UNDER_WAY and held in (None, PositionStatus.CLOSED):
            return True
        await asyncio.sleep(0.25)
    return False


async def chaos(world: World, seconds: float, executions: int) -> Outcome:
    """Let it rage for so many seconds or executions, whichever is over first; then all goes right, and is checked."""
    began = time.monotonic()
    sent = 0

    def next_id() -> str | None:
        nonlocal sent
        if time.monotonic() - began > seconds or sent >= executions:
            return None
        sent += 1
        return f"s{sent}"

    async with _running(
        *(kept.keep() for kept in (world.api, *world.workers)), world.look(), world.cover(), world.stir()
    ):
        dice = random.Random(world.dice.random())
        world.venue.faults.policy = weather(dice, EXCHANGE_ODDITIES)
        world.brokers.faults.policy = weather(dice, BRIDGE_ODDITIES)
        raging = asyncio.create_task(world.nemesis.rage())
        lanes = [asyncio.create_task(go_on(world, lane, next_id)) for lane in world.lanes]
        while time.monotonic() - began < seconds and sent < executions:
            await asyncio.sleep(0.2)
        raging.cancel()
        await asyncio.gather(raging, return_exceptions=True)
        for faults in (world.venue.faults, world.brokers.faults):
            world.outcome.faults.update(fault.name for fault, _ in faults.struck)
            faults.clear()
        world.calm_since = time.monotonic()
        await asyncio.gather(*lanes)
        last_close = time.monotonic()
        while await unsettled(world.desk.sessions):
            if time.monotonic() - last_close > LANE_PATIENCE:
                break
            await asyncio.sleep(0.2)
        world.note_settled(last_close)
        world.outcome.verdict = await check(
            world.desk.sessions,
            world.venue,
            world.accounts,
            world.heard,
            datetime.now(UTC),
            brokers=world.brokers,
            fx_accounts=world.fx_accounts,
        )
    world.outcome.seconds = time.monotonic() - began
    world.outcome.deeds = world.nemesis.deeds
    world.outcome.stuck += world.nemesis.failures
    for kept in (world.api, *world.workers):
        world.outcome.ends.update(f"{kept.wanted['program']} ended {code}" for code in kept.ends)
    return world.outcome


@asynccontextmanager
async def _running(*work: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def run(
    seed: int,
    seconds: float,
    directory: Path,
    *,
    executions: int = 10_000,
    accounts: int = 1,
    longest_pause: float = 15,
) -> Outcome:
    """A whole run in a directory of its own, where the logs of the processes are left.

    So many accounts at each of the venues; workers stand still for up to `longest_pause` seconds.
    """
    async with opened_world(directory, seed, accounts=accounts, longest_pause=longest_pause) as world:
        return await chaos(world, seconds, executions)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--executions", type=int, default=10_000)
    parser.add_argument("--accounts", type=int, default=1, help="at each of the venues")
    parser.add_argument("--longest-pause", type=float, default=45, help="seconds a worker may stand still")
    arguments = parser.parse_args()
    configure_logs("json", "ERROR")
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    sys.stdout.write(f"seed {arguments.seed}, logs in {directory}\n")
    sys.stdout.flush()
    outcome = asyncio.run(
        run(
            arguments.seed,
            arguments.minutes * 60,
            directory,
            executions=arguments.executions,
            accounts=arguments.accounts,
            longest_pause=arguments.longest_pause,
        )
    )
    sys.stdout.write(json.dumps(outcome.as_json(), indent=1) + "\n")
    sys.exit(bool(outcome.failures) or not outcome.is_in_time)


if __name__ == "__main__":
    main()
