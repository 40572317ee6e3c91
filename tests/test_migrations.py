"""Migrations: they lead to what the code maps, and back again."""

import asyncio
from typing import Final

from alembic import command
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from migrations import configuration
from tests.servers import Databases


async def test_the_way_up_and_down_ends_where_the_code_is(databases: Databases) -> None:
    async with databases.managed("SUPERUSER") as url:
        await asyncio.to_thread(_walk, url)


_KEY: Final = "0123456789abcdef" * 2
_ROWS: Final = (
    ("binance", "swap", _KEY, "active"),
    ("binanceusdm", "swap", _KEY, "active"),
    ("binance", "spot", _KEY, "active"),
    ("kucoinfutures", "swap", _KEY, "inactive"),
    ("bybit", "swap", "100000001", "inactive"),
    ("hyperliquid", "swap", _KEY, "active"),
    ("mt5", "fx", "20011234@broker-live", "active"),
    ("paper", "spot", "a-connections-id", "active"),
)


async def test_an_account_of_two_active_connections_stays_with_the_first(databases: Databases) -> None:
    async with databases.managed("SUPERUSER") as url:
        history = configuration(url)
        await asyncio.to_thread(command.upgrade, history, "0011")
        await _insert(url)
        await asyncio.to_thread(command.upgrade, history, "head")
        assert await _identities(url) == [
            (f"binance:key:{_KEY}", "active", 1),
            (f"binance:key:{_KEY}", "error", None),
            (f"binance:key:{_KEY}", "active", 1),
            (f"kucoin:key:{_KEY}", "inactive", None),
            ("bybit:100000001", "inactive", 1),
            (f"hyperliquid:{_KEY}", "active", 1),
            ("mt5:20011234@broker-live", "active", 1),
            ("a-connections-id", "active", 1),
        ]
        await asyncio.to_thread(command.downgrade, history, "0011")
        assert [identity for identity, *_ in await _identities(url)] == [row[2] for row in _ROWS]


async def _insert(url: str) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for number, (exchange, market_type, identity, status) in enumerate(_ROWS, 1):
            kind = {"mt5": "fx", "paper": "paper"}.get(exchange, "crypto")
            account = {
                "kind": kind,
                "exchange": exchange,
                "market_type": market_type,
                "identity": identity,
                "status": status,
            }
            await connection.execute(text(_INSERT), {"id": f"{number:032x}", **account})
    await engine.dispose()


_INSERT: Final = """
    INSERT INTO execution_connections
        (id, owner_role, owner_id, name, kind, exchange, market_type, sandbox, credentials_version, limits, protection,
         symbol_map, status, mode, account_identity, tested_version, starting_balances, balances, refused_in_a_row,
         doubted_in_a_row, banned_in_a_row, created_at, updated_at)
    VALUES (CAST(:id AS uuid), 'user', 'ann', 'an account', :kind, :exchange, :market_type, false, 1, '{}',
            '{}', '{}', :status, 'active', :identity, 1, '{}', '{}', 0, 0, 0, now(), now())
"""


async def _identities(url: str) -> list[tuple[str, str, int | None]]:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = await connection.execute(
            text("SELECT account_identity, status, tested_version FROM execution_connections ORDER BY id")
        )
        rows = [(identity, status, version) for identity, status, version in found]
    await engine.dispose()
    return rows


def _walk(url: str) -> None:
    """All the way up, down and up; `check` fails where models and tables differ."""
    history = configuration(url)
    command.upgrade(history, "head")
    command.check(history)
    command.downgrade(history, "base")
    command.upgrade(history, "head")
    command.check(history)
