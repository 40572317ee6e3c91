"""The story of `engine demo`: two traders, a signal that wins, one that loses, and the proof of what happened."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from app.demo.client import DidNotHappen
from app.demo.proof import Finding, analytics_agree, pnl_agrees, pnl_on_paper
from app.demo.recording import FILE, SOURCE, SPEED, SYMBOL, Recording
from app.demo.show import Play, perform
from app.demo.signals import breakout, fade, is_fading
from app.demo.stage import EXECUTION_PATIENCE, Stage
from app.demo.trader import Style
from app.local import Wishes

EXIT_PATIENCE: Final = timedelta(seconds=15)
"""How long after the last price an exit may still show up."""
RECENT_MINUTES: Final = 6
"""Recorded minutes whose high the stop of the sell is put above."""
RISE_BEGINS: Final = timedelta(seconds=23)
"""When the recording leaves the level it begins at, which the first signal is to be bought at."""

PAPER: Final[Mapping[str, Any]] = {
    "kind": "paper",
    "exchange": "paper",
    "paper": {"prices": "recording", "balance": "10000", "fee_percent": "0.05"},
}
SWAP: Final = Style(
    described="swap, risks 1 % of equity a trade; the venue holds stop and targets (native)",
    protection="native",
    terms={
        **PAPER,
        "market_type": "swap",
        "leverage": "3",
        "sizing": {"strategy": "risk_percentage", "value": "1"},
    },
)
SPOT: Final = Style(
    described="spot, buys for 2,000 USDT a trade; the engine watches stop and targets (software)",
    protection="software",
    terms={
        **PAPER,
        "market_type": "spot",
        "sizing": {"strategy": "fixed_amount", "value": "2000"},
        "protection": {"native": False},
    },
)


async def run(wishes: Wishes, *, keep: bool) -> int:
    """Bring everything up and show the main job; answers 0 when all of it happened, 1 with the reason said."""
    candles = Recording.read(datetime.now(UTC)).minutes
    play = Play(
        title="A signed signal becomes protected positions, their exits and their analytics.",
        prices=f"{SOURCE}; {candles} recorded one-minute candles, {SPEED} played a second",
        prices_afterwards="the recording is over; new paper accounts trade on with synthetic prices",
        opening="Two owners subscribe and connect a paper account each",
        traders={"ann": SWAP, "ben": SPOT},
        act=_act,
    )
    return await perform(play, replace(wishes, candles={SYMBOL: FILE}, speed=SPEED, quiet=True), keep=keep)


async def _act(stage: Stage) -> list[Finding]:
    started_at = stage.installation.settings.candles_started_at
    if started_at is None:
        raise DidNotHappen("the paper market plays no recording")
    recorded = _Recorded(stage, Recording.read(started_at))
    stage.shown_time = lambda moment: recorded.recording.at(moment).recorded_at
    winner = await recorded.win()
    loser = await recorded.lose()
    return await _prove(stage, winner, loser)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """The acts that depend on what the recording does."""

    stage: Stage
    recording: Recording

    async def win(self) -> str:
        """A buy before the rise: both accounts take it, and both leave it at its two targets."""
        ann, ben = self.stage.traders
        now = datetime.now(UTC)
        late = now - self.recording.started_at
        self.stage.screen.title("A buy signal, signed and posted to the webhook")
        if late > RISE_BEGINS:
            raise DidNotHappen(f"everything was up only {late.seconds} s after the recording began: too late")
        signal = await self.stage.publish(breakout(self.recording.at(now).price))
        await self.stage.until(
            "a protected position on both accounts",
            lambda: ann.is_protected(signal) and ben.is_protected(signal),
            datetime.now(UTC) + EXECUTION_PATIENCE,
        )
        await self.stage.until(
            "the close of both positions at their take-profits",
            lambda: ann.has_left(signal, "take_profit") and ben.has_left(signal, "take_profit"),
            self.recording.ends_at + EXIT_PATIENCE,
        )
        return signal

    async def lose(self) -> str:
        """A sell into a market that climbs on: spot cannot open it, and the swap is stopped out."""
        ann, ben = self.stage.traders
        self.stage.screen.title("A sell signal")
        await self.stage.until(
            "a fall after the rise", lambda: is_fading(*self._market()), self.recording.ends_at
        )
        signal = await self.stage.publish(fade(*self._market()))
        await self.stage.until(
            "a protected short on swap and a denial on spot",
            lambda: ann.is_protected(signal) and ben.was_denied(signal),
            datetime.now(UTC) + EXECUTION_PATIENCE,
        )
        await self.stage.until(
            "the close of the short at its stop-loss",
            lambda: ann.has_left(signal, "stop_loss"),
            self.recording.ends_at + EXIT_PATIENCE,
        )
        return signal

    def _market(self) -> tuple[Decimal, Decimal]:
        """The price of the recording now, and its recent high."""
        now = datetime.now(UTC)
        return self.recording.at(now).price, self.recording.high(now, RECENT_MINUTES)


async def _prove(stage: Stage, winner: str, loser: str) -> list[Finding]:
    """Everything that was to have happened, found once more in what the engine answers, and computed on paper."""
    ann, ben = stage.traders
    findings = [
        ann.answered("the buy", winner, "executed"),
        ben.answered("the buy", winner, "executed"),
        ann.answered("the sell", loser, "executed"),
        ben.answered("the sell", loser, "denied"),
        ann.protected(winner),
        ben.protected(winner),
        ann.told("tp_hit", winner),
        ben.told("tp_hit", winner),
        ann.told("sl_hit", loser),
    ]
    summaries = await stage.show_analytics()
    for trader in stage.traders:
        positions = await trader.positions_with_orders()
        results = [pnl_on_paper(position) for position in positions]
        findings += [
            pnl_agrees(trader.name, position, result, "fills and fees")
            for position, result in zip(positions, results, strict=True)
        ]
        findings.append(analytics_agree(trader.name, summaries[trader.name], "USDT", results))
    return findings
