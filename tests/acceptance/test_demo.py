"""`engine demo`: its story holds whenever a machine gets round to telling it, and it is told to its end."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from app.demo.recording import SPEED, Recording, Tick
from app.demo.signals import breakout, fade, is_fading
from app.demo.story import RECENT_MINUTES, RISE_BEGINS

ENGINE = Path(sys.executable).parent / "engine"
STARTED_AT = datetime(2026, 11, 24, tzinfo=UTC)
TICKS_A_SECOND = int(4 * SPEED)
LATENCY = range(1, 2 * TICKS_A_SECOND)
"""How many ticks may pass between a signal's price and its entry."""


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording.read(STARTED_AT)


def moment(tick: int) -> datetime:
    """Within the time for which a tick is played."""
    return STARTED_AT + timedelta(seconds=(tick + 0.5) / TICKS_A_SECOND)


def first(ticks: Sequence[Tick], level: str, sign: int) -> int:
    """How many ticks pass until a level is reached from below (1) or above (-1); past the end if never."""
    limit = Decimal(level) * sign
    return next((n for n, tick in enumerate(ticks) if tick.price * sign >= limit), len(ticks))


def test_a_breakout_reaches_both_targets_and_never_its_stop(recording: Recording) -> None:
    for tick in range(int(RISE_BEGINS.total_seconds() * TICKS_A_SECOND)):
        signal, later = breakout(recording.at(moment(tick)).price), recording.ticks[tick:]
        near, far = (first(later, target["price"], 1) for target in signal["take_profits"])
        assert max(LATENCY) < near < far < len(later)
        assert first(later, signal["stop_loss"], -1) == len(later)


def test_a_fade_can_be_entered_and_is_stopped_out(recording: Recording) -> None:
    # From about when both targets of the breakout have been reached, for as long as it may take to see it.
    for tick in range(int(27.5 * TICKS_A_SECOND), 50 * TICKS_A_SECOND):
        market = recording.at(moment(tick)).price, recording.high(moment(tick), RECENT_MINUTES)
        if is_fading(*market):
            stopped = first(recording.ticks[tick:], fade(*market)["stop_loss"], 1)
            assert max(LATENCY) < stopped < len(recording.ticks) - tick


@pytest.mark.long
async def test_the_demo_is_told_to_its_end(tmp_path: Path) -> None:
    # A server of the environment would be found dead: the demo has to look at none of it.
    environment = {**os.environ, "ENGINE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}
    process = await asyncio.create_subprocess_exec(
        *(str(ENGINE), "demo"), cwd=tmp_path, env=environment, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "All of it happened." in said.decode()
    assert not list(tmp_path.iterdir())
