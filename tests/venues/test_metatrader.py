"""The simulated bridges keep their word, and lie where the real ones do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.venues.metatrader import (
    Credentials,
    MetaTraderVenue,
    TradeMode,
    running_bridge,
)

START = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
PLATFORMS = ("mt4", "mt5")
JSON = {"Accept": "application/json"}


@dataclass
class Desk:
    """A client of one bridge that takes everything as it comes."""

    venue: MetaTraderVenue
    platform: str
    owner: Credentials
    http: httpx.AsyncClient
    token: str = ""

    async def get(self, name: str, **params: Any) -> httpx.Response:
        """One call, with the session's token where there is one."""
        token = {"id": self.token} if self.token and "id" not in params else {}
        return await self.http.get(f"/{name}", params={**token, **params})

    async def call(self, name: str, **params: Any) -> Any:
        """What an answer says; an error object raises."""
        response = await self.get(name, **params)
        said = response.json()
        if isinstance(said, dict) and "code" in said and "ticket" not in said:
            assert response.status_code == 201
            raise Said(said["code"], said["message"])
        assert response.status_code == 200
        return said

    async def connect(self, **changes: Any) -> str:
        """Open a session by the server's name."""
        params = {"user": self.owner.user, "password": self.owner.password, "server": self.owner.server}
        self.token = await self.call("ConnectEx", **{**params, **changes})
        return self.token

    async def send(self, operation: str = "Buy", volume: str = "0.10", **params: Any) -> Any:
        """Send an order for EUR/USD."""
        symbol = params.pop("symbol", "EURUSD")
        return await self.call("OrderSend", symbol=symbol, operation=operation, volume=volume, **params)

    async def history(self, **changes: str) -> Any:
        """Everything between yesterday and tomorrow, in server time."""
        params = {"from": "2026-11-23T00:00:00", "to": "2026-11-26T00:00:00", **changes}
        return await self.call("OrderHistory", **params)

    def named(self, magic: int, comment: str = "") -> dict[str, Any]:
        """The parameters that carry our names."""
        return {"magic" if self.platform == "mt4" else "expertID": magic, "comment": comment}

    @property
    def is_mt5(self) -> bool:
        """Which of the two."""
        return self.platform == "mt5"

    @property
    def magic_field(self) -> str:
        """What the field with our number is called."""
        return "magicNumber" if self.platform == "mt4" else "expertId"

    @property
    def book(self) -> Any:
        """The truth about the account."""
        return self.venue.login(self.platform, self.owner.user)


class Said(Exception):
    """The bridge answered with an error object."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@pytest.fixture
async def venue() -> AsyncIterator[MetaTraderVenue]:
    """Both bridges on a clock that stands still; whatever a test did, no money was made or lost."""
    async with running_bridge(start=START) as running:
        yield running
        running.audit()


@asynccontextmanager
async def desk_on(venue: MetaTraderVenue, platform: str, **terms: Any) -> AsyncIterator[Desk]:
    """A fresh account with an open session."""
    owner = venue.open_account(platform, **terms)
    async with httpx.AsyncClient(
        base_url=venue.bridge(platform).url, headers=JSON, timeout=5, trust_env=False
    ) as http:
        desk = Desk(venue, platform, owner, http)
        await desk.connect()
        yield desk


@pytest.fixture(params=PLATFORMS)
async def desk(request: pytest.FixtureRequest, venue: MetaTraderVenue) -> AsyncIterator[Desk]:
    """A hedging account with 10,000 USD on each platform in turn."""
    async with desk_on(venue, request.param) as opened:
        yield opened


async def test_a_round_trip_pays_what_the_ledger_says(desk: Desk) -> None:
    sent = await desk.send(**desk.named(7, "ours"))
    assert sent["ticket"] > 0
    assert sent["openPrice"] == 1.1001
    desk.venue.move("EUR/USD", "1.1051")
    [held] = await desk.call("OpenedOrders")
    assert (held["ticket"], held["profit"], held[desk.magic_field]) == (sent["ticket"], 50, 7)
    closed = await desk.call("OrderClose", ticket=sent["ticket"])
    assert (closed["closePrice"], closed["profit"]) == (1.1051, 50)
    assert await desk.call("OpenedOrders") == []
    assert (await desk.call("AccountSummary"))["balance"] == 10_050
    assert desk.book.realized == 50


async def test_text_is_bare_or_quoted_as_it_is_asked_for(desk: Desk) -> None:
    quoted = await desk.get("CheckConnect")
    assert (quoted.text, quoted.headers["content-type"].split(";")[0]) == ('"OK"', "application/json")
    bare = await desk.http.get("/CheckConnect", params={"id": desk.token}, headers={"Accept": "*/*"})
    assert (bare.text, bare.headers["content-type"].split(";")[0]) == ("OK", "text/plain")


async def test_errors_come_with_status_201(desk: Desk) -> None:
    for name, params, code in (
        ("AccountSummary", {"id": str(uuid4())}, "INVALID_TOKEN"),
        ("SymbolParams", {"symbol": "eurusd"}, "INVALID_SYMBOL"),
        ("OrderClose", {"ticket": 1}, "INVALID_TICKET"),
        ("OpenedOrder", {}, "NULL_ARGUMENT"),
    ):
        response = await desk.get(name, **params)
        assert (response.status_code, response.json()["code"]) == (201, code)
    for name in ("OpenOrders", "Positions", "TimeServer"):
        assert (await desk.get(name)).status_code == 404


async def test_an_unknown_server_is_an_error_called_done(desk: Desk) -> None:
    with pytest.raises(Said, match="not found") as error:
        await desk.connect(server="Nobody-Demo")
    assert error.value.code == ("DONE" if desk.is_mt5 else "INTERNAL_ERROR")


class TestSessions:
    async def test_a_wrong_password_is_told(self, desk: Desk) -> None:
        with pytest.raises(Said) as error:
            await desk.connect(password="wrong")
        assert error.value.code == "INVALID_ACCOUNT"

    async def test_our_own_token_is_taken_and_the_other_one_ends(self, desk: Desk) -> None:
        before, ours = desk.token, str(uuid4())
        assert await desk.connect(id=ours) == ours
        with pytest.raises(Said, match=before):
            await desk.call("CheckConnect", id=before)

    async def test_host_and_port_do_as_well(self, desk: Desk) -> None:
        owner = desk.owner
        params = {"user": owner.user, "password": owner.password, "host": owner.host, "port": owner.port}
        assert await desk.call("Connect", **params) == desk.token
        [found] = await desk.call("Search", company="simbroker")
        assert found["results"][0]["name"] == owner.server

    async def test_an_idle_token_dies_and_comes_back_by_itself_or_with_the_password(self, desk: Desk) -> None:
        await desk.venue.advance(301)
        with pytest.raises(Said, match="not found"):
            await desk.call("CheckConnect")
        assert await desk.call("ConnectByToken") == desk.token
        await desk.call("CheckConnect")
        bridge = desk.venue.bridge(desk.platform)
        bridge.sessions.remembers = False
        bridge.sessions.lose_all()
        with pytest.raises(Said, match="not found"):
            await desk.call("ConnectByToken")
        assert await desk.connect(id=desk.token) == desk.token

    async def test_the_gateway_wants_its_key(self, desk: Desk) -> None:
        desk.venue.bridge(desk.platform).api_key = "gateway"
        assert (await desk.get("CheckConnect")).status_code == 401
        desk.http.headers["ApiKey"] = "gateway"
        assert await desk.call("CheckConnect") == "OK"
        assert {desk.token, "gateway", desk.owner.password} <= desk.venue.secrets

    async def test_an_investor_only_looks(self, desk: Desk) -> None:
        await desk.connect(password=desk.owner.investor_password)
        assert (await desk.call("AccountSummary"))["isInvestor"] is True
        with pytest.raises(Said):
            await desk.send()
        assert desk.book.orders == []

    async def test_without_a_line_lists_are_empty_and_prove_nothing(self, desk: Desk) -> None:
        await desk.send()
        desk.book.is_reachable = False
        assert await desk.call("OpenedOrders") == []
        with pytest.raises(Said):
            await desk.call("CheckConnect")
        with pytest.raises(Said):
            await desk.send()
        if desk.is_mt5:
            summary = await desk.call("AccountSummary")
            assert (summary["synced"], summary["equity"]) == (False, 0)
        assert len(desk.book.orders) == 1


class TestTerms:
    async def test_each_platform_tells_lots_in_its_own_place(self, desk: Desk) -> None:
        said = await desk.call("SymbolParams", symbol="EURUSD")
        if desk.is_mt5:
            terms, info = said["symbolGroup"], said["symbolInfo"]
            assert (terms["minLots"], terms["maxLots"], terms["lotsStep"]) == (0.01, 100, 0.01)
            assert (info["points"], info["contractSize"]) == (0.00001, 100_000)
            assert (await desk.get("Quote", symbol="EURUSD")).status_code == 404
        else:
            terms, info = said["groupParams"], said["symbol"]
            assert (terms["minLot"], terms["maxLot"], terms["lotStep"]) == (0.01, 100, 0.01)
            assert (info["point"], info["contractSize"]) == (0.00001, 100_000)
            assert (await desk.get("GetQuote", symbol="EURUSD")).status_code == 404

    async def test_quotes_are_in_server_time(self, desk: Desk) -> None:
        said = await desk.call("GetQuote" if desk.is_mt5 else "Quote", symbol="EURUSD")
        assert (said["bid"], said["ask"]) == (1.1, 1.1001)
        assert said["time"].startswith("2026-11-24T12:30:00")
        assert await desk.call("ServerTimezone") == 3

    @pytest.mark.parametrize("volume", ["0", "0.005", "0.015", "101"])
    async def test_lots_off_the_grid_are_refused(self, desk: Desk, volume: str) -> None:
        with pytest.raises(Said) as error:
            await desk.send(volume=volume)
        assert error.value.code == "INVALID_VOLUME"

    @pytest.mark.parametrize(
        ("mode", "operation", "codes"),
        [
            (TradeMode.DISABLED, "Buy", ("TRADE_DISABLED", "TRADE_DISABLED")),
            (TradeMode.CLOSE_ONLY, "Buy", ("TRADE_DISABLED", "ONLY_CLOSE_POSITION")),
            (TradeMode.LONG_ONLY, "Sell", ("LONG_POS_ALLOWED", "ONLY_LONG_POSITION")),
            (TradeMode.SHORT_ONLY, "Buy", ("TRADE_DISABLED", "ONLY_SHORT_POSITION")),
        ],
    )
    async def test_a_symbol_may_take_only_some_orders(
        self, desk: Desk, mode: TradeMode, operation: str, codes: tuple[str, str]
    ) -> None:
        sent = await desk.send()
        desk.venue.restrict("EUR/USD", mode)
        with pytest.raises(Said) as error:
            await desk.send(operation)
        assert error.value.code == codes[PLATFORMS.index(desk.platform)]
        if mode is not TradeMode.DISABLED:
            await desk.call("OrderClose", ticket=sent["ticket"])

    async def test_more_than_the_account_can_carry_is_refused(self, desk: Desk) -> None:
        with pytest.raises(Said) as error:
            await desk.send(volume="9.50")
        assert error.value.code == ("NO_MONEY" if desk.is_mt5 else "NOT_MONEY")

    async def test_levels_on_the_wrong_side_are_refused(self, desk: Desk) -> None:
        code = "INVALID_STOPS" if desk.is_mt5 else "INVALID_SL_TP"
        for levels in ({"stoploss": "1.10000"}, {"takeprofit": "1.10000"}, {"stoploss": "1.2"}):
            with pytest.raises(Said) as error:
                await desk.send(**levels)
            assert error.value.code == code

    async def test_a_closed_market_shows_zeros_and_takes_nothing(self, desk: Desk) -> None:
        sent = await desk.send(stoploss="1.09500")
        desk.venue.close_session("EUR/USD")
        quote = await desk.call("GetQuote" if desk.is_mt5 else "Quote", symbol="EURUSD")
        assert (quote["bid"], quote["ask"]) == (0, 0)
        for call in (desk.send(), desk.call("OrderClose", ticket=sent["ticket"])):
            with pytest.raises(Said) as error:
                await call
            assert error.value.code == "MARKET_CLOSED"
        desk.venue.move("EUR/USD", "1.0900")
        assert len(desk.book.positions) == 1
        desk.venue.open_session()
        assert desk.book.deals[-1].price == Decimal("1.0900"), "the market opened beyond the stop"

    async def test_at_the_weekend_a_session_looks_dead_and_is_not(self, desk: Desk) -> None:
        desk.venue.close_session()
        with pytest.raises(Said) as error:
            await desk.call("CheckConnect")
        assert error.value.code == "SERVICE_NOT_AVAILABLE"
        assert (await desk.call("ConnectionStatus"))["isConnected"] is False
        assert (await desk.call("AccountSummary"))["balance"] == 10_000
