"""A process that opens many connections at many exchanges, as a worker does, and prints what it then holds.

Reads from its standard input where the exchanges are and the keys of the accounts. It has all that a worker imports.
"""

import asyncio
import gc
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import app.main
import workers.main
from app.brokers.crypto import open_crypto
from app.brokers.directory import Access, Directory
from app.domain.market import MarketType
from app.metrics import Metrics
from app.settings import new_vault_key, vault_key_bytes
from app.vault import Vault
from tests.benchmarks.listings import LISTED, SIMULATED

WORKER: Final = (app.main, workers.main)
"""What a worker process has loaded, and the service."""


def resident() -> float:
    """Megabytes (10⁶ bytes) of this process that are in memory."""
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024 / 1e6


def access_of(vault: Vault, exchange: str, market_type: MarketType, keys: Mapping[str, str]) -> Access:
    """A connection's row."""
    connection_id = uuid4()
    return Access(
        connection_id=connection_id,
        credentials_version=1,
        kind="crypto",
        exchange=exchange,
        market_type=market_type,
        sandbox=False,
        leverage=Decimal(1),
        native_protection=True,
        paper=None,
        credentials_sealed=vault.seal(keys, row_id=connection_id, version=1),
    )


async def measured(url: str, keys: list[dict[str, str]], asked: int) -> dict[str, Any]:
    """Open everything, and ask one account of `asked` for its balances; the memory before and after."""
    vault = Vault([vault_key_bytes(new_vault_key())])
    exchanges = {**SIMULATED, **LISTED}
    crypto = open_crypto(vault, dict.fromkeys(exchanges, url), lambda: datetime.now(UTC))
    directory = Directory({"crypto": crypto}, Metrics())
    before, markets, answered = resident(), {}, 0
    try:
        for exchange, market_type in exchanges.items():
            for number, each in enumerate(keys):
                broker = await directory.open(access_of(vault, exchange, market_type, each))
                markets[exchange] = len(await broker.instruments())
                if exchange in SIMULATED and number % asked == 0:
                    answered += bool((await broker.account()).balances)
        gc.collect()
        return {"before": before, "after": resident(), "markets": markets, "answered": answered}
    finally:
        await directory.close()


if __name__ == "__main__":
    given = json.load(sys.stdin)
    json.dump(asyncio.run(measured(**given)), sys.stdout)
