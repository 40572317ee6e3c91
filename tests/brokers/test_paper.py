"""The paper venue's own ways: its terms, its failures, several processes on one account, and how little it asks."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.brokers.directory import Access
from app.brokers.paper.book import PaperAccount
from app.brokers.paper.tape import Recordings
from app.brokers.paper.venue import UNSETTLED, PaperBroker, open_paper
from app.brokers.port import CANNOT_SAY, Holding, Refused, Uncertain, Unreachable, VenueError
from app.domain.market import MarketType
from app.domain.orders import OrderReport, OrderRequest, OrderStatus, OrderType, Side
from app.domain.positions import PositionSide
from tests.brokers.contract.paper import STARTED_AT, TERMS, access_of, paper_stage
from tests.brokers.contract.stage import UNIT, buy, held, order, quote, sell

Sessions = async_sessionmaker[AsyncSession]

SYNTHETIC = {"prices": "synthetic"}


@dataclass
class Clock:
    """A clock that is set by hand."""

    moment: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        """What it shows."""
        return self.moment

    def forward(self, **by: int) -> None:
        """Set it ahead, by parts of a timedelta."""
        self.moment += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


async def synthetic(sessions: Sessions, clock: Clock, access: Access) -> PaperBroker:
    """A broker of a process of its own, on the synthetic market."""
    return await open_paper(sessions, None, clock).open(access)


def market_order(clock: Clock, side: Side, quantity: str, symbol: str = "BTC/USDT") -> OrderRequest:
    """A market order, signed now."""
    return OrderRequest(uuid4().hex, symbol, side, OrderType.MARKET, Decimal(quantity), clock())


class TestTerms:
    @pytest.mark.parametrize(
        ("access", "complaint"),
        [
            (access_of(MarketType.SPOT, {"prices": "binance"}), "cannot be had here"),
            (access_of(MarketType.SPOT, {"prices": "recording"}), "No recording is played here"),
            (access_of(MarketType.FX, SYNTHETIC), "spot and swap, not fx"),
            (replace(access_of(MarketType.SPOT), paper=None), "needs its paper terms"),
            (access_of(MarketType.SPOT, {**SYNTHETIC, "balance": "much"}), "cannot be served"),
            (access_of(MarketType.SPOT, {**SYNTHETIC, "fee_percent": "101"}), "between 0 and 100"),
            (access_of(MarketType.SPOT, {**SYNTHETIC, "fee_in": "gold"}), "cannot be served"),
        ],
    )
    async def test_what_cannot_be_served_says_why(
        self, sessions: Sessions, clock: Clock, access: Access, complaint: str
    ) -> None:
        with pytest.raises(Refused, match=complaint):
            await synthetic(sessions, clock, access)

    async def test_traits_are_its_terms_as_fractions(self, sessions: Sessions, clock: Clock) -> None:
        spot = await synthetic(sessions, clock, access_of(MarketType.SPOT, SYNTHETIC, native=False))
        swap = await synthetic(sessions, clock, access_of(MarketType.SWAP, SYNTHETIC))
        assert (spot.traits.netting, swap.traits.netting) == (False, True)
        assert (spot.traits.native_protection, swap.traits.native_protection) == (False, True)
        assert spot.traits.fee_rate == Decimal("0.001")
        assert spot.traits.slippage > Decimal("0.0005")
        assert spot.traits.settle > spot.traits.validity

    async def test_prices_are_shared_by_seed(self, sessions: Sessions, clock: Clock) -> None:
        venue = open_paper(sessions, None, clock)
        keys = [
            (await venue.open(access_of(market_type, {**SYNTHETIC, "seed": seed}))).market_key
            for market_type, seed in [(MarketType.SPOT, "0"), (MarketType.SWAP, "0"), (MarketType.SPOT, "7")]
        ]
        assert keys == ["paper:synthetic:0", "paper:synthetic:0", "paper:synthetic:7"]
        await venue.close()

    async def test_an_account_in_use_keeps_its_balance(self, sessions: Sessions, clock: Clock) -> None:
        access = access_of(MarketType.SPOT, SYNTHETIC)
        before = await (await synthetic(sessions, clock, access)).account()
        changed = replace(access, paper={**TERMS, **SYNTHETIC, "balance": "5"})
        assert await (await synthetic(sessions, clock, changed)).account() == before


class TestSyntheticAccounts:
    async def test_two_processes_see_one_account(self, sessions: Sessions, clock: Clock) -> None:
        access = access_of(MarketType.SWAP, SYNTHETIC)
        here, there = [await synthetic(sessions, clock, access) for _ in range(2)]
        request = market_order(clock, Side.SELL, "0.5", "ETH/USDT:USDT")
        report = await here.place(request)
        assert await there.find(request.key) == report
        assert await there.holdings() == [Holding("ETH/USDT:USDT", PositionSide.SHORT, Decimal("0.5"))]
        clock.forward(minutes=3)
        assert await here.account() == await there.account()

    async def test_a_target_is_met_while_nobody_looks(self, sessions: Sessions, clock: Clock) -> None:
        access = access_of(MarketType.SPOT, SYNTHETIC)
        broker = await synthetic(sessions, clock, access)
        await broker.place(market_order(clock, Side.BUY, "0.1"))
        ask = (await broker.quotes(["BTC/USDT"]))["BTC/USDT"].ask
        target = replace(
            market_order(clock, Side.SELL, "0.1"),
            type=OrderType.TAKE_PROFIT,
            price=ask.to_integral_value() + 20,
        )
        stop = replace(target, type=OrderType.OCO, trigger_price=ask.to_integral_value() - 100)
        await broker.place(stop)
        clock.forward(days=2)
        found = await broker.find(stop.key)
        assert isinstance(found, OrderReport)
        assert found.status is OrderStatus.FILLED
        assert found.time is not None
        assert found.time < clock() - timedelta(days=1)

    async def test_coins_are_held_in_the_accounts_own_currency(
        self, sessions: Sessions, clock: Clock
    ) -> None:
        access = access_of(MarketType.SPOT, {**SYNTHETIC, "currency": "USDC"})
        broker = await synthetic(sessions, clock, access)
        await broker.place(market_order(clock, Side.BUY, "0.5", "BTC/USDC"))
        assert [each.symbol for each in await broker.holdings()] == ["BTC/USDC"]
        with pytest.raises(Refused):
            await broker.place(market_order(clock, Side.BUY, "0.5", "BTC/USDT"))


class TestRecordedAccounts:
    async def test_after_the_end_the_quote_grows_stale_and_exits_still_fill(
        self, sessions: Sessions, tmp_path: Path
    ) -> None:
        stage = await paper_stage(sessions, tmp_path / "candles.csv", MarketType.SPOT)
        await buy(stage)
        clock = Clock(stage.now() + timedelta(hours=1))
        broker = await stage.venue(clock).open(stage.access)
        seen = (await broker.quotes(["BTC/USDT"]))["BTC/USDT"]
        assert not seen.is_usable(clock(), timedelta(seconds=30))
        report = await broker.place(market_order(clock, Side.SELL, str(UNIT)))
        assert report.status is OrderStatus.FILLED
        assert report.time == clock()

    async def test_a_position_without_a_price_cannot_be_valued(
        self, sessions: Sessions, tmp_path: Path
    ) -> None:
        stage = await paper_stage(sessions, tmp_path / "candles.csv", MarketType.SWAP)
        await buy(stage)
        other = await stage.venue(stage.now, pair="ETH/USDT").open(stage.access)
        with pytest.raises(VenueError, match="no price for BTC/USDT:USDT"):
            await other.account()

    async def test_what_shrinks_a_position_needs_no_other_price(
        self, sessions: Sessions, clock: Clock, tmp_path: Path
    ) -> None:
        stage = await paper_stage(sessions, tmp_path / "candles.csv", MarketType.SWAP)
        await buy(stage)
        clock.moment = stage.now()
        eth = await stage.venue(clock, pair="ETH/USDT").open(stage.access)
        entry = market_order(clock, Side.BUY, "0.1", "ETH/USDT:USDT")
        with pytest.raises(Unreachable):
            await eth.place(entry)
        both = dict.fromkeys(("BTC/USDT", "ETH/USDT"), stage.file)
        whole = await open_paper(sessions, Recordings(both, Decimal(1), STARTED_AT), clock).open(stage.access)
        await whole.place(entry)
        leaving = replace(market_order(clock, Side.SELL, "0.1", "ETH/USDT:USDT"), reduce_only=True)
        assert (await eth.place(leaving)).status is OrderStatus.FILLED

    async def test_a_clock_that_lags_does_not_run_time_back(self, sessions: Sessions, tmp_path: Path) -> None:
        stage = await paper_stage(sessions, tmp_path / "candles.csv", MarketType.SPOT)
        resting = order(stage, Side.BUY, OrderType.LIMIT, price=19000)
        await stage.broker.place(resting)
        await stage.move(18000)
        await stage.move(20000)
        assert isinstance(await stage.broker.find(resting.key), OrderReport)
        lagging = await stage.venue(lambda: stage.now() - timedelta(seconds=1)).open(stage.access)
        report = await lagging.place(replace(resting, client_order_id="late", signed_at=stage.now()))
        assert report.status is OrderStatus.OPEN
        assert (await lagging.account()).as_of == stage.now()

    async def test_parts_and_base_fees_on_request(self, sessions: Sessions, tmp_path: Path) -> None:
        terms = {"partial_fill_percent": "40", "fee_in": "base"}
        stage = await paper_stage(sessions, tmp_path / "candles.csv", MarketType.SPOT, terms)
        request = order(stage, Side.BUY, OrderType.LIMIT, Decimal(1), price=20000)
        report = await stage.broker.place(request)
        assert (report.status, report.filled_quantity) == (OrderStatus.OPEN, Decimal("0.4"))
        assert report.fees == {"BTC": Decimal("0.0004")}
        cancelled = await stage.broker.cancel(request.key)
        assert (cancelled.status, cancelled.filled_quantity) == (OrderStatus.CANCELLED, Decimal("0.4"))
        assert await held(stage) == Decimal("0.3996")

    async def test_the_stage_trades_what_the_recording_says(self, sessions: Sessions, tmp_path: Path) -> None:
        stage = await paper_stage(
            sessions, tmp_path / "candles.csv", MarketType.SPOT, {"slippage_percent": "0"}
        )
        await stage.move(20123)
        assert (await quote(stage)).ask == 20123
        assert (await buy(stage)).average_price == 20123
        assert (await sell(stage)).average_price == 20123


class TestSeveralAtOnce:
    async def test_one_id_sent_by_many_is_executed_once(self, sessions: Sessions, clock: Clock) -> None:
        access = access_of(MarketType.SPOT, SYNTHETIC)
        request = market_order(clock, Side.BUY, "0.1")
        brokers = [await synthetic(sessions, clock, access) for _ in range(5)]
        outcomes = await asyncio.gather(*(each.place(request) for each in brokers), return_exceptions=True)
        assert sum(isinstance(outcome, OrderReport) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Uncertain) for outcome in outcomes) == 4
        assert [each.quantity for each in await brokers[0].holdings()] == [Decimal("0.1")]

    async def test_nobody_spends_the_same_money_twice(self, sessions: Sessions, clock: Clock) -> None:
        access = access_of(MarketType.SPOT, {**SYNTHETIC, "seed": "3"})
        broker = await synthetic(sessions, clock, access)
        ask = (await broker.quotes(["BTC/USDT"]))["BTC/USDT"].ask
        most = str((Decimal(45000) / ask).quantize(Decimal("0.00001")))
        outcomes = await asyncio.gather(
            *(broker.place(market_order(clock, Side.BUY, most)) for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(outcome, OrderReport) for outcome in outcomes) == 2
        assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 3
        assert (await broker.account()).balances["USDT"].free > 0


class TestFailures:
    async def test_without_its_book_nothing_is_certain(self, clock: Clock) -> None:
        database = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/nowhere")
        access = access_of(MarketType.SPOT, SYNTHETIC)
        broker = await synthetic(async_sessionmaker(database), clock, access)
        request = market_order(clock, Side.BUY, "0.1")
        with pytest.raises(Uncertain):
            await broker.place(request)
        with pytest.raises(Uncertain):
            await broker.cancel(request.key)
        assert await broker.find(request.key) is CANNOT_SAY
        assert await broker.survey([request.key]) == {request.client_order_id: CANNOT_SAY}
        for look in (broker.account, broker.holdings):
            with pytest.raises(VenueError):
                await look()
        assert await broker.quotes(["BTC/USDT"])
        await database.dispose()


@contextmanager
def statements(sessions: Sessions) -> Iterator[list[str]]:
    """Collect what is asked of the database."""
    bind = sessions.kw["bind"]
    assert isinstance(bind, AsyncEngine)
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(bind.sync_engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(bind.sync_engine, "before_cursor_execute", note)


def writes(asked: Sequence[str]) -> list[str]:
    """Those that change something."""
    return [statement for statement in asked if statement.startswith(("INSERT", "UPDATE", "DELETE"))]


class TestEconomy:
    async def test_looking_at_many_orders_takes_two_queries_and_no_write(
        self, sessions: Sessions, clock: Clock
    ) -> None:
        broker = await synthetic(sessions, clock, access_of(MarketType.SPOT, SYNTHETIC))
        requests = [
            replace(market_order(clock, Side.BUY, "0.001"), type=OrderType.LIMIT, price=Decimal(30000))
            for _ in range(20)
        ]
        for request in requests:
            await broker.place(request)
        clock.forward(seconds=5)
        with statements(sessions) as asked:
            seen = await broker.survey([request.key for request in requests])
        assert len(seen) == 20
        assert len(asked) == 2
        assert writes(asked) == []

    async def test_a_market_order_takes_two_queries_and_two_writes(
        self, sessions: Sessions, clock: Clock
    ) -> None:
        broker = await synthetic(sessions, clock, access_of(MarketType.SPOT, SYNTHETIC))
        await broker.account()
        with statements(sessions) as asked:
            await broker.place(market_order(clock, Side.BUY, "0.1"))
        assert (len(asked), len(writes(asked))) == (4, 2)

    async def test_a_long_quiet_wait_is_written_down_now_and_then(
        self, sessions: Sessions, clock: Clock
    ) -> None:
        access = access_of(MarketType.SPOT, SYNTHETIC)
        broker = await synthetic(sessions, clock, access)
        request = replace(market_order(clock, Side.BUY, "0.1"), type=OrderType.LIMIT, price=Decimal(30000))
        await broker.place(request)
        placed = clock()
        clock.moment = placed + UNSETTLED
        await broker.find(request.key)
        assert await settled_at(sessions, access) == placed
        clock.forward(seconds=1)
        await broker.find(request.key)
        assert await settled_at(sessions, access) == clock()


async def settled_at(sessions: Sessions, access: Access) -> datetime:
    """Until when the account's orders have met every price."""
    async with sessions() as session:
        found = await session.scalars(
            select(PaperAccount.settled_at).where(PaperAccount.connection_id == access.connection_id)
        )
        return found.one()
