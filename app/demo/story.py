"""The demo's story: two traders, a signal that wins, one that loses, and the proof that all of it happened."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import uuid4

import httpx

from app.demo.client import TIMEOUT_SECONDS, Account, DidNotHappen, Platform
from app.demo.proof import Finding, analytics_agree, pnl_agrees
from app.demo.recording import FILE, SOURCE, SPEED, SYMBOL, Recording
from app.demo.screen import Screen
from app.demo.signals import breakout, fade, is_fading
from app.demo.stage import LOOK_SECONDS, Stage
from app.demo.trader import SPOT, SWAP, Trader
from app.local import Installation, StopRequested, Wishes, bearer_token, running

LIFETIME: Final = timedelta(hours=24)
"""Of tokens and entitlements."""
WORKER_PATIENCE: Final = timedelta(seconds=20)
EXECUTION_PATIENCE: Final = timedelta(seconds=20)
EXIT_PATIENCE: Final = timedelta(seconds=15)
"""How long after the last price an exit may still show up."""
RECENT_MINUTES: Final = 6
"""Recorded minutes whose high the stop of the sell is put above."""
RISE_BEGINS: Final = timedelta(seconds=23)
"""When the recording leaves the level it begins at, which the first signal is to be bought at."""


async def run(wishes: Wishes, *, keep: bool) -> int:
    """Bring everything up and show the main job; answers 0 when all of it happened, 1 with the reason said."""
    screen = Screen()
    screen.title("A signed signal becomes protected positions, their exits and their analytics.")
    screen.line("engine", "starts: PostgreSQL, Redis, the API and a worker")
    played = replace(wishes, candles={SYMBOL: FILE}, speed=SPEED, quiet=True)
    happened: bool | None = None
    try:
        async with running(played) as installation, _reached(installation) as http:
            stage = _set_up(installation, http, screen)
            try:
                happened = await _show(stage)
                if keep:
                    _invite(stage)
                    await asyncio.Event().wait()
            finally:
                await stage.leave()
    except StopRequested:
        if happened is None:
            screen.failure("it was stopped before everything had happened.")
    except DidNotHappen as reason:
        happened = False
        screen.failure(f"{reason}.")
    return 0 if happened else 1


def _reached(installation: Installation) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return httpx.AsyncClient(base_url=installation.url, timeout=TIMEOUT_SECONDS)


def _set_up(installation: Installation, http: httpx.AsyncClient, screen: Screen) -> Stage:
    """Everyone who takes part, with the tokens their platform would have given them."""
    settings, now, run = installation.settings, datetime.now(UTC), uuid4().hex[:4]
    if settings.candles_started_at is None:
        raise DidNotHappen("the paper market plays no recording")
    return Stage(
        run=run,
        installation=installation,
        screen=screen,
        platform=Platform(http, settings.webhook_secrets[0]),
        admin=Account(http, bearer_token(settings, "admin", "admin", LIFETIME, now)),
        traders=[
            Trader(name, style, Account(http, bearer_token(settings, name, "user", LIFETIME, now)))
            for name, style in ((f"ann-{run}", SWAP), (f"ben-{run}", SPOT))
        ],
        recording=Recording.read(settings.candles_started_at),
        market_line_due=now,
    )


async def _show(stage: Stage) -> bool:
    """Play all acts; answers whether everything that was to happen did."""
    try:
        await _open(stage)
        winner = await _win(stage)
        loser = await _lose(stage)
        findings = await _prove(stage, winner, loser)
    except DidNotHappen as reason:
        stage.screen.failure(f"{reason}.")
        return False
    stage.screen.title("Checked")
    stage.screen.findings(findings)
    if not all(finding.holds for finding in findings):
        stage.screen.failure("what is marked WRONG does not hold.")
        return False
    stage.screen.title("All of it happened.")
    return True


async def _open(stage: Stage) -> None:
    """Subscribe the two owners and connect their accounts."""
    stage.screen.line("engine", f"is up: {stage.installation.url}/docs")
    _introduce(stage)
    await _check_alone(stage)
    stage.screen.title("Two owners subscribe and connect a paper account each")
    expires_at = (datetime.now(UTC) + LIFETIME).isoformat()
    for trader in stage.traders:
        await stage.platform.publish(
            "subscription.updated",
            {"user_id": trader.name, "plans": [stage.plan], "expires_at": expires_at, "max_connections": 1},
        )
        stage.screen.line("webhook", f"subscription.updated {trader.name}: plan {stage.plan}")
        await trader.connect(stage.screen)
    await _wait_for_worker(stage)


def _introduce(stage: Stage) -> None:
    prices = f"{SOURCE}; {stage.recording.minutes} recorded one-minute candles, {SPEED} played a second"
    stage.screen.facts({"prices": prices, **{each.name: each.style.described for each in stage.traders}})


async def _check_alone(stage: Stage) -> None:
    """An admin's connection receives every signal: on a data directory that has one, nothing is published."""
    query = {"owner_role": "admin", "status": "active", "limit": "1"}
    if await stage.admin.rows("/v1/admin/connections", **query):
        raise DidNotHappen(
            "an admin's connection is active in this data directory and would trade the demo's signals"
        )


async def _wait_for_worker(stage: Stage) -> None:
    """The API is up first; a signal would wait for the worker, and the demo's figures with it."""
    deadline = datetime.now(UTC) + WORKER_PATIENCE
    while not any(each.started_at >= stage.recording.started_at for each in await stage.workers()):
        if datetime.now(UTC) > deadline:
            raise DidNotHappen("the start of a worker did not happen in time")
        await asyncio.sleep(LOOK_SECONDS)


async def _win(stage: Stage) -> str:
    """A buy before the rise: both accounts take it, and both leave it at its two targets."""
    ann, ben = stage.traders
    now = datetime.now(UTC)
    late = now - stage.recording.started_at
    stage.screen.title("A buy signal, signed and posted to the webhook")
    if late > RISE_BEGINS:
        raise DidNotHappen(f"everything was up only {late.seconds} s after the recording began: too late")
    signal = await stage.publish(breakout(stage.recording.at(now).price))
    deadline = datetime.now(UTC) + EXECUTION_PATIENCE
    await stage.until(
        "a protected position on both accounts",
        lambda: ann.is_protected(signal) and ben.is_protected(signal),
        deadline,
    )
    await stage.until(
        "the close of both positions at their take-profits",
        lambda: ann.has_left(signal, "take_profit") and ben.has_left(signal, "take_profit"),
        stage.recording.ends_at + EXIT_PATIENCE,
    )
    return signal


async def _lose(stage: Stage) -> str:
    """A sell into a market that climbs on: spot cannot open it, and the swap is stopped out."""
    ann, ben = stage.traders
    stage.screen.title("A sell signal")
    ends_at = stage.recording.ends_at
    await stage.until("a fall after the rise", lambda: is_fading(*_market(stage)), ends_at)
    signal = await stage.publish(fade(*_market(stage)))
    deadline = datetime.now(UTC) + EXECUTION_PATIENCE
    await stage.until(
        "a protected short on swap and a denial on spot",
        lambda: ann.is_protected(signal) and ben.was_denied(signal),
        deadline,
    )
    await stage.until(
        "the close of the short at its stop-loss",
        lambda: ann.has_left(signal, "stop_loss"),
        stage.recording.ends_at + EXIT_PATIENCE,
    )
    return signal


def _market(stage: Stage) -> tuple[Decimal, Decimal]:
    """The price of the recording now, and its recent high."""
    now = datetime.now(UTC)
    return stage.recording.at(now).price, stage.recording.high(now, RECENT_MINUTES)


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
    stage.screen.title("The day's analytics, in USDT")
    summaries = {trader.name: await trader.summaries() for trader in stage.traders}
    stage.screen.analytics([(name, each) for name, items in summaries.items() for each in items])
    for trader in stage.traders:
        positions = await trader.positions_with_orders()
        findings += [pnl_agrees(trader.name, position) for position in positions]
        findings.append(analytics_agree(trader.name, summaries[trader.name], positions))
    return findings


def _invite(stage: Stage) -> None:
    tokens: Sequence[tuple[str, Account]] = [
        *((trader.name, trader.account) for trader in stage.traders),
        ("admin", stage.admin),
    ]
    stage.screen.title("The engine stays up; Ctrl-C stops it.")
    stage.screen.facts(
        {
            "prices": "the recording is over; new paper accounts trade on with synthetic prices",
            "docs": f"{stage.installation.url}/docs",
            "webhook secret": stage.platform.secret.get_secret_value(),
            **{f"token of {name}": account.token for name, account in tokens},
        }
    )
