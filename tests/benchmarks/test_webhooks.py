"""Webhooks a second: our route beside the bare one, in the same run, from the same client, on the same database."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from app.desk import Desk, open_desk
from app.domain.owners import Owner, Role
from app.local.parts import Part
from app.local.webhook import PATH, signed_headers
from app.settings import settings_from
from app.store.executions import Execution
from app.store.signals import SignalRow
from tests.benchmarks import bare
from tests.benchmarks.conftest import Figure
from tests.benchmarks.load import Pace, send, written
from tests.desks import add_connection
from tests.servers import free_port, running_part

CHECKOUT: Final = Path(__file__).parents[2]
CLIENTS: Final = 8
WARM_UP: Final = 500
ROUNDS: Final = 7
A_ROUND: Final = 2000


def service(target: str, port: int, environment: Mapping[str, str], directory: Path) -> Part:
    """An application as production serves it, but for the access log, which the bare one would not have."""

    async def listens(_process: int) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    return Part(
        name=target,
        command=(
            *(sys.executable, "-m", "uvicorn", target, "--port", str(port)),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log"),
        ),
        ready=listens,
        environment={**os.environ, **environment},
        log=directory / f"{port}.log",
        directory=CHECKOUT,
    )


def signals(secret: SecretStr) -> Iterator[bytes]:
    """Signed deliveries, each of a signal of its own."""
    for number in count():
        data: dict[str, Any] = {
            "id": f"s{number}",
            "symbol": "BTC/USDT",
            "direction": "buy",
            "entry_price": "26850",
            "stop_loss": "26500",
            "take_profits": [{"price": "27150.5", "portion": "0.5"}, {"price": "27500", "portion": "0.5"}],
            "timeframe": "4h",
            "title": "Breakout",
        }
        now = datetime.now(UTC)
        body = json.dumps({"type": "signal.published", "timestamp": now.isoformat(), "data": data})
        yield written(PATH, signed_headers(secret, body, now), body.encode())


async def rows_of(desk: Desk, table: type[SignalRow | Execution]) -> int:
    async with desk.sessions() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


@pytest.mark.parametrize("connections", [0, 1])
async def test_webhooks_a_second(
    environment: dict[str, str], tmp_path: Path, figure: Figure, connections: int
) -> None:
    settings = settings_from(environment)
    database = await asyncpg.connect(environment["ENGINE_DATABASE_URL"].replace("+asyncpg", ""))
    await database.execute(bare.TABLE)
    await database.close()
    ports = {"bare": free_port(), "ours": free_port()}
    async with (
        open_desk(settings) as desk,
        running_part(service("tests.benchmarks.bare:app", ports["bare"], environment, tmp_path)),
        running_part(service("app.main:app", ports["ours"], environment, tmp_path)),
    ):
        for number in range(connections):
            await add_connection(desk, owner=Owner(Role.ADMIN, f"admin-{number}"))
        deliveries = signals(settings.webhook_secrets[0])
        paces: dict[str, list[Pace]] = {name: [] for name in ports}
        for name, port in ports.items():
            await send(port, list(islice(deliveries, WARM_UP)), connections=CLIENTS)
            assert name in paces
        for _ in range(ROUNDS):
            for name, port in ports.items():
                paces[name].append(await send(port, list(islice(deliveries, A_ROUND)), connections=CLIENTS))
        sent = WARM_UP + ROUNDS * A_ROUND
        assert await rows_of(desk, SignalRow) == sent
        assert await rows_of(desk, Execution) == sent * connections
    middle = {name: Pace.median(rounds) for name, rounds in paces.items()}
    ratio = middle["ours"].rate / middle["bare"].rate
    figure(f"webhooks, bare route (signature and one INSERT), {CLIENTS} clients", str(middle["bare"]))
    figure(
        f"webhooks, ours, a signal to {connections} connections", f"{middle['ours']}   {ratio:.2f} of bare"
    )
