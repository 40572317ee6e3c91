"""What a preview says of an exchange or a broker comes true there, in whatever state the account is."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from app.desk import Desk
from app.domain.market import MarketType
from app.domain.orders import Side
from app.domain.owners import Owner, Role
from app.domain.signals import Market, Signal
from app.store.connections import Connection, ConnectionStatus
from tests.engine import exchanges, metatrader
from tests.engine.exchanges import SPOT, SWAP
from tests.engine.previews import (
    LIMITS,
    NUMBERS,
    SIZINGS,
    assert_agreement,
    previewed,
    publish_signal,
    signals,
)
from tests.venues.orders import Order

EXCHANGES: Final = {
    "binance-spot": ("binance", SPOT),
    "binanceusdm": ("binanceusdm", SWAP),
    "bybit-spot": ("bybit", SPOT),
    "bybit-swap": ("bybit", SWAP),
}

BY_HAND: Final = ("nothing", "an order", "a position", "another leverage", "two sides")
"""What an owner may have done to a swap account before."""

PROTECTION: Final = st.sampled_from([{}, {"native": False}])

BUY: Final = Signal("BTC/USDT", Side.BUY, stop_loss=Decimal(18000))
SOUND: Final[dict[str, Any]] = {
    "sizing": {"strategy": "fixed", "value": "0.1"},
    "limits": {},
    "protection": {},
}
"""Terms that nothing is wrong with."""

GENEROUS: Final = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def _alone(desk: Desk) -> Owner:
    """An owner of whom nothing is known, while nobody else's connection is active."""
    async with desk.sessions.begin() as session:
        await session.execute(update(Connection).values(status=ConnectionStatus.INACTIVE))
    return Owner(Role.USER, f"user-{next(NUMBERS)}")


@pytest.fixture(params=EXCHANGES)
async def exchange(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[exchanges.Stage]:
    """Each certified exchange in turn."""
    async with exchanges.opened_stage(database_url, *EXCHANGES[request.param]) as stage:
        yield stage


def _do_by_hand(stage: exchanges.Stage, what: str) -> None:
    """Before the connection is made, as its owner would at the exchange itself."""
    words = {"type": "LIMIT", "timeInForce": "GTC", "space": "order", "reduceOnly": "False"}
    words |= {"orderType": "Limit", "orderFilter": "Order", "stopOrderType": ""}
    if what == "an order":
        order = Order(stage.market, "by-hand", Side.BUY, Decimal("0.01"), Decimal(15000), words=words)
        stage.floor.place(stage.ledger, order)
    elif what == "a position":
        order = Order(stage.market, "by-hand", Side.BUY, Decimal("0.01"), stays=False, words=words)
        stage.floor.place(stage.ledger, order)
    elif what == "another leverage":
        stage.ledger.leverage[stage.market.id] = Decimal(50)
    elif what == "two sides":
        stage.ledger.hedged = True


@GENEROUS
@example(**SOUND, signal=BUY, leverage=Decimal(3), by_hand="an order", before=[], between="nothing")
@example(**SOUND, signal=BUY, leverage=Decimal(3), by_hand="a position", before=[], between="nothing")
@example(**SOUND, signal=BUY, leverage=Decimal(3), by_hand="another leverage", before=[], between="nothing")
@example(**SOUND, signal=BUY, leverage=Decimal(3), by_hand="two sides", before=[], between="nothing")
@example(
    **SOUND, signal=BUY, leverage=Decimal(3), by_hand="nothing", before=[BUY], between="another leverage"
)
@given(
    sizing=SIZINGS,
    limits=LIMITS,
    protection=PROTECTION,
    leverage=st.sampled_from([None, Decimal(3), Decimal(20)]),
    by_hand=st.sampled_from(BY_HAND),
    before=st.lists(signals(), max_size=1),
    between=st.sampled_from(BY_HAND[:1] + BY_HAND[3:]),
    signal=signals(),
)
async def test_at_an_exchange(
    exchange: exchanges.Stage,
    by_hand: str,
    before: list[Signal],
    between: str,
    signal: Signal,
    **terms: Any,
) -> None:
    owner = await _alone(exchange.desk)
    stage = exchanges.Stage(exchange.desk, exchange.venue, exchange.exchange, exchange.market_type)
    if stage.market_type is MarketType.SWAP:
        _do_by_hand(stage, by_hand)
    else:
        del terms["leverage"]
    await stage.activate(owner, **terms)
    for each in before:
        await publish_signal(stage.desk, each)
    if stage.market_type is MarketType.SWAP and between == "another leverage":
        _do_by_hand(stage, between)
    await stage.venue.advance(20)
    stage.venue.move(stage.symbol, 20000)
    [preview] = await previewed(stage.desk, signal, owner)
    await publish_signal(stage.desk, signal)
    await assert_agreement(stage.desk, preview)


EURO: Final = Signal("EUR/USD", Side.BUY, stop_loss=Decimal("1.09"))
FX: Final = signals(Decimal("1.1"), Decimal("0.0001"), ("EUR/USD", "EURUSD", "BTC/USDT"), (None, Market.FX))


@pytest.fixture
async def broker(account: str, database_url: str) -> AsyncIterator[metatrader.Stage]:
    """A broker behind its bridge."""
    async with metatrader.opened_stage(database_url, account) as stage:
        yield stage


@pytest.mark.parametrize("account", metatrader.ACCOUNTS)
@GENEROUS
@example(**SOUND, signal=EURO, before=[])
@example(**SOUND, signal=EURO, before=[EURO])
@given(sizing=SIZINGS, limits=LIMITS, protection=PROTECTION, before=st.lists(FX, max_size=1), signal=FX)
async def test_at_a_metatrader_broker(
    broker: metatrader.Stage, account: str, before: list[Signal], signal: Signal, **terms: Any
) -> None:
    owner = await _alone(broker.desk)
    platform, method = metatrader.ACCOUNTS[account]
    credentials = broker.venue.open_account(platform, method=method)
    stage = metatrader.Stage(broker.desk, broker.venue, platform, credentials)
    await stage.activate(owner, **terms)
    for each in before:
        await publish_signal(stage.desk, each)
    await stage.venue.advance(20)
    [preview] = await previewed(stage.desk, signal, owner)
    await publish_signal(stage.desk, signal)
    await assert_agreement(stage.desk, preview)
