"""The public side of an exchange: what is known is told while the venue does not answer, or answers badly."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from app.brokers.crypto.public import FIRST_PAUSE, LONGEST_PAUSE, REFRESH, PublicMarket
from app.brokers.port import Unreachable, VenueError
from app.domain.market import MarketType
from app.domain.orders import TriggerSource
from tests.brokers.contract.exchanges import STARTED_AT, ExchangeStage, exchange_stage
from tests.venues.exchange import running_exchange
from tests.venues.faults import HANG, HTML, Fault, altered, on, reject, server_error
from tests.venues.wire import Intent

TABLE = "/fapi/v1/exchangeInfo"
SYMBOLS = ["BTC/USDT:USDT", "ETH/USDT:USDT"]


@pytest.fixture
async def stage() -> AsyncIterator[ExchangeStage]:
    """An account on USD-M."""
    async with running_exchange(start=STARTED_AT) as venue:
        opened = await exchange_stage(venue, "binanceusdm", MarketType.SWAP)
        yield opened
        await opened.close()
        venue.audit()


async def _market(stage: ExchangeStage) -> PublicMarket:
    assert stage.accounts is not None
    return await stage.accounts.public("binanceusdm", MarketType.SWAP)


def _asked(stage: ExchangeStage) -> int:
    """How often the market table was asked for."""
    return sum(each.path == TABLE for each in stage.venue.requests)


def _has_asked(stage: ExchangeStage, times: int) -> bool:
    return _asked(stage) == times


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", [server_error(executed=False), HTML, reject({"symbols": []}, 200)])
async def test_an_old_table_is_told_while_no_other_is_to_be_had(stage: ExchangeStage, fault: Fault) -> None:
    market = await _market(stage)
    listed = await market.instruments()
    assert set(SYMBOLS) <= listed.keys()
    stage.venue.faults.policy = lambda request: fault if request.path == TABLE else None
    await stage.advance(int(REFRESH.total_seconds()))
    pause = FIRST_PAUSE
    for attempt in range(2, 10):
        for _ in range(3):
            assert await market.instruments() == listed
        await _until(partial(_has_asked, stage, attempt))
        await _is_idle(market)
        for _ in range(3):
            assert await market.instruments() == listed
        assert _asked(stage) == attempt, "it is left alone for a while"
        await stage.advance(int(pause.total_seconds()))
        pause = min(pause * 2, LONGEST_PAUSE)
    stage.venue.faults.clear()
    asked = _asked(stage)
    await market.instruments()
    await _until(lambda: _asked(stage) == asked + 1)
    await _is_idle(market)
    await stage.advance(int(LONGEST_PAUSE.total_seconds()))
    await market.instruments()
    await _is_idle(market)
    assert _asked(stage) == asked + 1, "a table that was read is good for an hour again"


async def _is_idle(market: PublicMarket) -> None:
    """No table is on its way."""
    await _until(lambda: market._loading is None or market._loading.done())


async def test_a_table_that_does_not_come_keeps_nobody_waiting(stage: ExchangeStage) -> None:
    market = await _market(stage)
    listed = await market.instruments()
    stage.venue.faults.add(HANG, on(TABLE))
    await stage.advance(int(REFRESH.total_seconds()))
    async with asyncio.timeout(10):
        for _ in range(5):
            assert await market.instruments() == listed
            assert (await market.quotes(SYMBOLS)).keys() == set(SYMBOLS)


async def test_all_who_wait_for_the_first_table_share_one_attempt(stage: ExchangeStage) -> None:
    market = await _market(stage)
    stage.venue.faults.add(server_error(executed=False), on(TABLE))
    answers = await asyncio.gather(*(market.instruments() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(answer, Unreachable) for answer in answers)
    assert _asked(stage) == 1
    assert set(SYMBOLS) <= (await market.instruments()).keys()


def _garbled(payload: Any) -> Any:
    """A list of mark prices, the first of which is no number."""
    return [{**payload[0], "markPrice": "a lot"}, *payload[1:]]


async def test_one_price_that_cannot_be_read_hides_no_other(stage: ExchangeStage) -> None:
    market = await _market(stage)
    await market.instruments()
    stage.venue.faults.add(altered("garbled", _garbled), on("/fapi/v1/premiumIndex"))
    told = await stage.broker.references(TriggerSource.MARK, SYMBOLS)
    assert told.keys() == {SYMBOLS[1]}


async def test_a_ban_is_not_answered_with_more_questions(stage: ExchangeStage) -> None:
    market = await _market(stage)
    await market.instruments()
    stage.venue.faults.policy = lambda asked: (
        reject({"code": -1003, "msg": "banned"}, 418) if asked.intent is Intent.PUBLIC else None
    )
    asked = len(stage.venue.requests)
    with pytest.raises(Unreachable) as failure:
        await market.quotes(SYMBOLS)
    assert failure.value.code == "banned_by_venue"
    assert len(stage.venue.requests) == asked + 1


@pytest.mark.parametrize("status", [401, 403, 407, 503])
async def test_what_is_asked_without_a_key_is_never_a_refusal_of_one(
    stage: ExchangeStage, status: int
) -> None:
    market = await _market(stage)
    await market.instruments()
    stage.venue.faults.policy = lambda asked: reject({}, status) if asked.intent is Intent.PUBLIC else None
    with pytest.raises(VenueError) as failure:
        await market.quotes(SYMBOLS)
    assert type(failure.value) is Unreachable
    assert failure.value.code != "credentials_refused"
