"""A preview says what an execution would do: the same order and protection, or the same denial."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from app.brokers.paper.book import PaperOrder
from app.desk import Desk
from app.domain.errors import Denied
from app.domain.exits import Protection
from app.domain.market import MarketType
from app.domain.orders import Side
from app.domain.owners import Owner, Role
from app.domain.signals import Level, Market, Signal
from app.engine import previewing
from app.store.connections import Connection, ConnectionStatus
from tests.desks import USER, Clock, add_connection, opened_desk, write_recording
from tests.engine.previews import (
    LIMITS,
    NUMBERS,
    SIZINGS,
    assert_agreement,
    previewed,
    publish_signal,
    signals,
)
from tests.engine.signals import executions, positions

STILL = [("20000", "20000", "20000", "20000")] * 600


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Desk]:
    recording = write_recording(tmp_path / "btc.csv", STILL)
    async with opened_desk(database_url, clock, {"BTC/USDT": recording}) as desk:
        clock.move(1)
        yield desk


TERMS = st.fixed_dictionaries(
    {
        "market_type": st.sampled_from([MarketType.SPOT, MarketType.SWAP]),
        "sizing": SIZINGS,
        "limits": LIMITS,
        "protection": st.sampled_from([{}, {"native": False}]),
        "leverage": st.sampled_from([None, Decimal(3), Decimal(20)]),
        "paper": st.fixed_dictionaries(
            {
                "fee_percent": st.sampled_from(["0", "0.1"]),
                "slippage_percent": st.sampled_from(["0", "0.05"]),
                "fee_in": st.sampled_from(["quote", "base"]),
            }
        ),
    }
).map(lambda terms: terms if terms["market_type"] is MarketType.SWAP else {**terms, "leverage": None})


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(terms=TERMS, before=st.lists(signals(), max_size=1), signal=signals())
async def test_preview_and_execution_agree(
    desk: Desk, terms: dict[str, Any], before: list[Signal], signal: Signal
) -> None:
    async with desk.sessions.begin() as session:
        await session.execute(update(Connection).values(status=ConnectionStatus.INACTIVE))
    owner = Owner(Role.USER, f"user-{next(NUMBERS)}")
    await add_connection(desk, owner=owner, **terms)
    for each in before:
        await publish_signal(desk, each)
    [preview] = await previewed(desk, signal, owner)
    await publish_signal(desk, signal)
    await assert_agreement(desk, preview)


BUY = Signal(
    "BTC/USDT", Side.BUY, stop_loss=Decimal(19000), take_profits=(Level(Decimal(21000), Decimal(1)),)
)


async def test_a_preview_trades_nothing_and_keeps_nothing(desk: Desk) -> None:
    await add_connection(desk)
    [preview] = await previewed(desk, BUY)
    assert isinstance(preview.outcome, previewing.Order)
    assert preview.outcome.protection is Protection.NATIVE
    assert await executions(desk) == []
    assert await positions(desk) == []
    async with desk.sessions() as session:
        assert (await session.scalars(select(PaperOrder))).all() == []


async def test_a_preview_is_of_the_callers_connections_alone(desk: Desk) -> None:
    mine = [await add_connection(desk), await add_connection(desk, market_type=MarketType.SPOT)]
    await add_connection(desk, owner=Owner(Role.ADMIN, USER.id))
    assert [each.connection_id for each in await previewed(desk, BUY)] == [each.id for each in mine]


@pytest.mark.parametrize(
    ("terms", "signal", "code"),
    [
        ({"sizing": {"strategy": "fixed", "value": "0.1"}, "mode": "halted"}, BUY, "trading_halted"),
        ({"mode": "reducing"}, BUY, "trading_reducing"),
        ({}, Signal("BTC/USDT", Side.BUY, market=Market.FX), "market_mismatch"),
        ({"market_type": MarketType.SPOT}, Signal("BTC/USDT", Side.SELL), "short_not_supported"),
        ({"paper": {"prices": "no such market"}}, BUY, "venue_unreachable"),
    ],
)
async def test_a_preview_says_why_not(desk: Desk, terms: dict[str, Any], signal: Signal, code: str) -> None:
    await add_connection(desk, **terms)
    [preview] = await previewed(desk, signal)
    assert isinstance(preview.outcome, Denied)
    assert preview.outcome.code == code


async def test_an_inactive_connection_is_previewed_as_denied(desk: Desk) -> None:
    connection = await add_connection(desk)
    async with desk.sessions.begin() as session:
        row = await session.get_one(Connection, connection.id)
        row.status = ConnectionStatus.INACTIVE
    [preview] = await previewed(desk, BUY)
    assert isinstance(preview.outcome, Denied)
    assert preview.outcome.code == "connection_inactive"


async def test_a_venue_that_cannot_be_asked_hides_no_other(
    desk: Desk,
) -> None:
    await add_connection(desk)
    unserved = await add_connection(desk, paper={"prices": "binance"})
    first, second = await previewed(desk, BUY)
    assert isinstance(first.outcome, previewing.Order)
    assert second.connection_id == unserved.id
    assert isinstance(second.outcome, Denied)
    assert second.outcome.code == "venue_unreachable"
