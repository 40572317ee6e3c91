"""Whatever happens in whatever order, no rule is broken at any venue.

Every run draws a few programs, always the same ones. `pytest -m long tests/stateful` draws many others, and prints the
one that breaks a rule, shrunk, with the seed it was found by.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from app.brokers.directory import Directory
from app.domain.market import MarketType
from tests.desks import START, Clock, opened_desk
from tests.engine import exchanges, metatrader
from tests.servers import Databases
from tests.stateful.crypto import Crypto
from tests.stateful.drawing import programs
from tests.stateful.fx import Fx
from tests.stateful.grounds import Ground
from tests.stateful.paper import Paper
from tests.stateful.run import Run
from tests.stateful.steps import Program
from tests.venues.exchange import running_exchange

EXCHANGES: Final = {
    "binance-spot": ("binance", MarketType.SPOT),
    "binanceusdm": ("binanceusdm", MarketType.SWAP),
    "bybit-spot": ("bybit", MarketType.SPOT),
    "bybit-swap": ("bybit", MarketType.SWAP),
}

PAPER: Final = {"paper-spot": MarketType.SPOT, "paper-swap": MarketType.SWAP}

KINDS: Final[dict[str, type[Ground]]] = {
    **dict.fromkeys(PAPER, Paper),
    **dict.fromkeys(EXCHANGES, Crypto),
    **dict.fromkeys(metatrader.ACCOUNTS, Fx),
}
"""Every venue there is a simulator of."""


@asynccontextmanager
async def opened_ground(databases: Databases, where: str) -> AsyncIterator[Ground]:
    """A venue, an account and a database that nothing has happened to."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(databases.fresh())
        ground: Ground
        if where in EXCHANGES:
            ground = Crypto(await stack.enter_async_context(exchanges.opened_stage(url, *EXCHANGES[where])))
        elif where in PAPER:
            venue = await stack.enter_async_context(running_exchange(start=START))
            desk = await stack.enter_async_context(opened_desk(url, Clock()))
            ground = Paper(replace(desk, now=venue.clock.now, brokers=Directory({})), venue, PAPER[where])
        else:
            stage = await stack.enter_async_context(metatrader.opened_stage(url, where, commission="3.5"))
            # An owner may want no stop.
            stage.may_take_stops_off = True
            ground = Fx(stage)
        stack.push_async_callback(ground.close)
        yield ground


async def carry_out(databases: Databases, where: str, program: Program) -> None:
    """Carry a program out at a venue."""
    async with opened_ground(databases, where) as ground:
        await Run(ground, program.terms).carry_out(program)


QUICK: Final = settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""A few programs, always the same; what they break is shrunk by the long run."""

LONG: Final = settings(
    max_examples=150,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("where", KINDS)
@QUICK
@given(data=st.data())
async def test_no_program_breaks_a_rule(databases: Databases, where: str, data: st.DataObject) -> None:
    program = data.draw(programs(KINDS[where], least=4, most=6))
    note(repr(program))
    await carry_out(databases, where, program)


@pytest.mark.long
@pytest.mark.parametrize("where", KINDS)
@LONG
@given(data=st.data())
async def test_no_program_of_many_breaks_a_rule(
    databases: Databases, where: str, data: st.DataObject
) -> None:
    program = data.draw(programs(KINDS[where], least=0, most=14))
    note(repr(program))
    await carry_out(databases, where, program)
