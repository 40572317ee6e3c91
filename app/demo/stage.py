"""The stage: everyone who takes part, and waiting for something to happen while showing what does."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from app.demo.client import Account, DidNotHappen, Platform, Summary, System, Worker
from app.demo.screen import Screen
from app.demo.trader import Trader
from app.local import Installation

LOOK_SECONDS: Final = 0.25
EXECUTION_PATIENCE: Final = timedelta(seconds=60)
"""How long a signal may take to become protected positions."""
MARKET_LINE_EVERY: Final = timedelta(seconds=2)


def _as_it_is(moment: datetime) -> datetime:
    return moment


@dataclass(slots=True)
class Stage:
    """One run of the demo; everybody in it is told apart from those of other runs by `run`."""

    run: str
    installation: Installation
    screen: Screen
    platform: Platform
    admin: Account
    traders: Sequence[Trader]
    market_line_due: datetime
    shown_time: Callable[[datetime], datetime] = _as_it_is
    """What the clock of the market that is shown said at a moment of ours."""

    @property
    def plan(self) -> str:
        """The plan that only this run's traders have, and its signals are for."""
        return f"demo-{self.run}"

    async def publish(self, signal: Mapping[str, Any]) -> str:
        """Publish a signal for this run's traders; answers the engine's id of it."""
        own = {"id": f"{signal['title'].lower()}-{self.run}", "provider": "demo", "plans": [self.plan]}
        receipt = await self.platform.publish("signal.published", {**own, **signal})
        self.screen.line("webhook", f"{_described(signal)}; answered {receipt['status']}", "bold")
        signal_id: str = receipt["signal_id"]
        return signal_id

    async def until(self, awaited: str, happened: Callable[[], bool], deadline: datetime) -> None:
        """Look around until something has happened; raises DidNotHappen when it has not by the deadline."""
        while True:
            await asyncio.gather(*(trader.look(self.screen) for trader in self.traders))
            self._show_market()
            if happened():
                return
            if datetime.now(UTC) > deadline:
                raise DidNotHappen(f"{awaited} did not happen in time")
            await asyncio.sleep(LOOK_SECONDS)

    async def show_analytics(self) -> dict[str, list[Summary]]:
        """Show the figures of the day; answers them by trader."""
        self.screen.title("The day's analytics, each in the account's currency")
        summaries = {trader.name: await trader.summaries() for trader in self.traders}
        self.screen.analytics([(name, each) for name, items in summaries.items() for each in items])
        return summaries

    async def workers(self) -> Sequence[Worker]:
        """The processes that have reported for work."""
        return (await self.admin.item("/v1/admin/system", System)).workers

    async def leave(self) -> None:
        """Take the traders' accounts out of service."""
        for trader in self.traders:
            await trader.leave()

    def _show_market(self) -> None:
        marks = sorted(
            (position.marked_at, position.symbol.partition(":")[0], position.current_price)
            for trader in self.traders
            for position in trader.held
            if position.marked_at is not None and position.current_price is not None
        )
        now = datetime.now(UTC)
        if marks and now >= self.market_line_due:
            self.market_line_due = now + MARKET_LINE_EVERY
            newest = dict(sorted({symbol: price for _, symbol, price in marks}.items()))
            self.screen.market(self.shown_time(marks[-1][0]), newest, self._open_profits())

    def _open_profits(self) -> dict[str, Decimal]:
        """Before fees, of everyone who holds something."""
        return {
            trader.name: sum((position.unrealized_pnl for position in trader.held), Decimal(0))
            for trader in self.traders
            if trader.held
        }


def _described(signal: Mapping[str, Any]) -> str:
    targets = " and ".join(f"{Decimal(each['price']):,}" for each in signal.get("take_profits", ()))
    return (
        f"signal.published {signal['title']}: {signal['direction']} {signal['symbol']} near "
        f"{Decimal(signal['entry_price']):,}, stop {Decimal(signal['stop_loss']):,}"
        + (f", targets {targets}" if targets else "")
    )
