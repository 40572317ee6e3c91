"""The demos: the recorded story holds whenever a machine gets round to telling it, and both are told to their end."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.demo.client import Position, Summary
from app.demo.proof import analytics_agree, pnl_agrees
from app.demo.recording import SPEED, Recording, Tick
from app.demo.signals import breakout, fade, is_fading
from app.demo.story import RECENT_MINUTES, RISE_BEGINS

ROOT = Path(__file__).parents[2]
ENGINE = Path(sys.executable).parent / "engine"
STARTED_AT = datetime(2026, 11, 24, tzinfo=UTC)
TICKS_A_SECOND = int(4 * SPEED)
LATENCY = range(1, 2 * TICKS_A_SECOND)
"""How many ticks may pass between a signal's price and its entry."""
POSITION: dict[str, Any] = {
    **dict.fromkeys(("id", "signal_id"), "1"),
    "symbol": "BTC/USDT",
    "side": "long",
    "status": "closed",
    "protection": "native",
    "currency": "USDT",
    **dict.fromkeys(("quantity", "entry_price", "fees", "realized_pnl", "unrealized_pnl"), "1"),
    **dict.fromkeys(("current_price", "marked_at", "stop_loss", "close_reason")),
    "take_profits": [],
}
SUMMARY: dict[str, Any] = {
    "currency": "USDT",
    "trades": 1,
    "wins": 1,
    "losses": 0,
    **dict.fromkeys(("win_rate", "profit_factor", "fees", "net_pnl", "max_drawdown"), "0"),
}


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


async def told(directory: Path, *command: str) -> tuple[int | None, str]:
    """Run a demo from an empty directory; answers its exit code and what it said."""
    # A server of the environment would be found dead: a demo has to look at none of it.
    elsewhere = {"ENGINE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere", "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, env={**os.environ, **elsewhere}, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate()
    assert not list(directory.iterdir())
    return process.returncode, said.decode()


@pytest.mark.long
async def test_the_demo_is_told_to_its_end(tmp_path: Path) -> None:
    code, said = await told(tmp_path, str(ENGINE), "demo")
    assert code == 0, said
    assert "All of it happened." in said


async def test_the_demo_on_simulated_venues_is_told_to_its_end(tmp_path: Path) -> None:
    code, said = await told(tmp_path, sys.executable, "-m", "tests.demo")
    assert code == 0, said
    assert "All of it happened." in said
    for venue in ("Binance USD-M", "Binance spot", "Bybit", "MetaTrader 5", "MetaTrader 4"):
        assert re.search(rf"ok .* PnL of the long: .* from the ledger of {venue}\n", said), said
    # What the owners were told is what the engine reports, to the last digit; fees in coins make it a long one.
    results = re.findall(r"PnL of the \w+: (\S+) USDT? reported", said)
    assert len(results) == 9
    assert sorted(re.findall(r"realised (\S+) USDT? after fees", said)) == sorted(results)


def test_a_finding_that_does_not_hold_is_found() -> None:
    position = Position.model_validate({**POSITION, "realized_pnl": "10"})
    summary = Summary.model_validate({**SUMMARY, "net_pnl": "10"})
    for paid, holds in (("10", True), ("10.00000001", False)):
        assert pnl_agrees("ann", position, Decimal(paid), "the ledger").holds is holds
        assert analytics_agree("ann", [summary], "USDT", [Decimal(paid)]).holds is holds
    assert not analytics_agree("ann", [], "USDT", [Decimal(10)]).holds
