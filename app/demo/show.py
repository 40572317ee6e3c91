"""How any demo is shown: an installation comes up, owners subscribe and connect, a play is performed and proven."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import httpx

from app.demo.client import TIMEOUT_SECONDS, Account, DidNotHappen, Platform
from app.demo.proof import Finding
from app.demo.screen import Screen
from app.demo.stage import LOOK_SECONDS, Stage
from app.demo.trader import Style, Trader
from app.local import Installation, StopRequested, Wishes, bearer_token, running

LIFETIME: Final = timedelta(hours=24)
"""Of tokens and entitlements."""
WORKER_PATIENCE: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Play:
    """What is shown."""

    title: str
    prices: str
    """Where they come from, in a sentence."""
    prices_afterwards: str
    """What becomes of them when the play is over and everything stays up."""
    opening: str
    """The heading over the connecting of the accounts."""
    traders: Mapping[str, Style]
    """By the first names of their owners."""
    act: Callable[[Stage], Awaitable[Sequence[Finding]]]
    """Everything that happens once all are connected; answers what was to have happened and whether it did.
    Raises DidNotHappen when it cannot go on."""


async def perform(play: Play, wishes: Wishes, *, keep: bool) -> int:
    """Bring everything up and show the play; answers 0 when all of it happened, 1 with the reason said."""
    screen = Screen()
    screen.title(play.title)
    screen.line("engine", "starts: PostgreSQL, Redis, the API and a worker")
    began = datetime.now(UTC)
    happened: bool | None = None
    try:
        async with running(wishes) as installation, _reached(installation) as http:
            stage = _set_up(play, installation, http, screen)
            try:
                happened = await _show(play, stage, began)
                if keep:
                    _invite(play, stage)
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


def _set_up(play: Play, installation: Installation, http: httpx.AsyncClient, screen: Screen) -> Stage:
    """Everyone who takes part, with the tokens their platform would have given them."""
    settings, now, run = installation.settings, datetime.now(UTC), uuid4().hex[:4]
    owners = {f"{name}-{run}": style for name, style in play.traders.items()}
    return Stage(
        run=run,
        installation=installation,
        screen=screen,
        platform=Platform(http, settings.webhook_secrets[0]),
        admin=Account(http, bearer_token(settings, "admin", "admin", LIFETIME, now)),
        traders=[
            Trader(owner, style, Account(http, bearer_token(settings, owner, "user", LIFETIME, now)))
            for owner, style in owners.items()
        ],
        market_line_due=now,
    )


async def _show(play: Play, stage: Stage, began: datetime) -> bool:
    """Play all acts; answers whether everything that was to happen did."""
    try:
        await _open(play, stage)
        await _wait_for_worker(stage, began)
        findings = await play.act(stage)
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


async def _open(play: Play, stage: Stage) -> None:
    """Subscribe the owners and connect their accounts."""
    stage.screen.line("engine", f"is up: {stage.installation.url}/docs")
    described = {trader.name: trader.style.described for trader in stage.traders}
    stage.screen.facts({"prices": play.prices, **described})
    await _check_alone(stage)
    stage.screen.title(play.opening)
    expires_at = (datetime.now(UTC) + LIFETIME).isoformat()
    for trader in stage.traders:
        await stage.platform.publish(
            "subscription.updated",
            {"user_id": trader.name, "plans": [stage.plan], "expires_at": expires_at, "max_connections": 1},
        )
        stage.screen.line("webhook", f"subscription.updated {trader.name}: plan {stage.plan}")
        await trader.connect(stage.screen)
        await trader.look(stage.screen)


async def _check_alone(stage: Stage) -> None:
    """An admin's connection receives every signal: on a data directory that has one, nothing is published."""
    query = {"owner_role": "admin", "status": "active", "limit": "1"}
    if await stage.admin.rows("/v1/admin/connections", **query):
        raise DidNotHappen(
            "an admin's connection is active in this data directory and would trade the demo's signals"
        )


async def _wait_for_worker(stage: Stage, began: datetime) -> None:
    """The API is up first; a signal would wait for the worker, and the demo's figures with it."""
    deadline = datetime.now(UTC) + WORKER_PATIENCE
    while not any(each.started_at >= began for each in await stage.workers()):
        if datetime.now(UTC) > deadline:
            raise DidNotHappen("the start of a worker did not happen in time")
        await asyncio.sleep(LOOK_SECONDS)


def _invite(play: Play, stage: Stage) -> None:
    tokens: Sequence[tuple[str, Account]] = [
        *((trader.name, trader.account) for trader in stage.traders),
        ("admin", stage.admin),
    ]
    stage.screen.title("The engine stays up; Ctrl-C stops it.")
    stage.screen.facts(
        {
            "prices": play.prices_afterwards,
            "docs": f"{stage.installation.url}/docs",
            "webhook secret": stage.platform.secret.get_secret_value(),
            **{f"token of {name}": account.token for name, account in tokens},
        }
    )
