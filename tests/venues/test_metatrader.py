"""The simulated bridges keep their word, and lie where the real ones do."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.venues import faults
from tests.venues.metatrader import (
    Credentials,
    Execution,
    Listing,
    MetaTraderVenue,
    Method,
    TradeMode,
    conduct,
    refusal,
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


class TestLevels:
    async def test_the_stop_closes_at_its_level_and_says_so(self, desk: Desk) -> None:
        sent = await desk.send(stoploss="1.09500", takeprofit="1.11000", **desk.named(7, "ours"))
        desk.venue.move("EUR/USD", "1.0900")
        assert desk.book.deals[-1].price == Decimal("1.09500")
        said = await desk.history()
        if desk.is_mt5:
            [row] = [row for row in said["orders"] if row["symbol"]]
            assert (row["dealInternalOut"]["placedType"], row["dealInternalOut"]["expertId"]) == ("OnSL", 7)
            assert row["closeComment"] == "[sl 1.09500]"
        else:
            [row] = [row for row in said if row["symbol"]]
            assert (row["comment"], row["magicNumber"], row["state"]) == ("ours[sl]", 7, "CLOSED_NORMAL")
        assert (row["ticket"], row["closePrice"], row["profit"]) == (sent["ticket"], 1.095, -51)

    async def test_a_short_is_stopped_on_the_ask(self, desk: Desk) -> None:
        await desk.send("Sell", stoploss="1.10500", takeprofit="1.09500")
        desk.venue.move("EUR/USD", "1.1039")
        assert len(desk.book.positions) == 1
        desk.venue.move("EUR/USD", "1.1049")
        assert desk.book.deals[-1].price == Decimal("1.10500")

    async def test_changing_one_level_alone_removes_the_other(self, desk: Desk) -> None:
        sent = await desk.send(stoploss="1.09500", takeprofit="1.11000")
        said = await desk.call("OrderModify", ticket=sent["ticket"], stoploss="1.09600")
        assert (said["stopLoss"], said["takeProfit"]) == (1.096, 0)
        with pytest.raises(Said) as error:
            await desk.call("OrderModify", ticket=sent["ticket"], stoploss="1.09600", takeprofit="0")
        assert error.value.code == ("NO_CHANGES" if desk.is_mt5 else "SAME_PARAMS")

    async def test_a_gap_is_filled_beyond_the_stop(self, desk: Desk) -> None:
        await desk.send(stoploss="1.09500")
        desk.venue.move("EUR/USD", "1.0900", gap=True)
        assert desk.book.deals[-1].price == Decimal("1.0900")

    async def test_the_broker_closes_what_the_account_cannot_carry(self, desk: Desk) -> None:
        first = await desk.send(volume="5.00")
        desk.venue.move("EUR/USD", "1.0850")
        said = await desk.history()
        [row] = [row for row in (said["orders"] if desk.is_mt5 else said) if row["symbol"]]
        assert row["ticket"] == first["ticket"]
        if desk.is_mt5:
            assert row["dealInternalOut"]["placedType"] == "OnStopOut"
        else:
            assert row["comment"].startswith("so: ")

    @pytest.mark.parametrize("stops", [0, 30])
    async def test_levels_and_prices_keep_their_distance(self, stops: int) -> None:
        listings = [Listing("EUR", "USD", Decimal("1.10000"), stops_level=stops, freeze_level=stops)]
        async with (
            running_bridge(start=START, listings=listings) as venue,
            desk_on(venue, "mt4") as desk,
        ):
            near = {"stoploss": "1.09980"}
            if stops:
                with pytest.raises(Said) as error:
                    await desk.send(**near)
                assert error.value.code == "INVALID_SL_TP"
                sent = await desk.send(stoploss="1.09960")
                venue.move("EUR/USD", "1.09980")
                with pytest.raises(Said) as error:
                    await desk.call("OrderClose", ticket=sent["ticket"])
                assert error.value.code == "MODIFICATIONS_DENIED"
            else:
                await desk.send(**near)


class TestPendingOrders:
    async def test_a_limit_waits_and_fills_under_its_ticket(self, desk: Desk) -> None:
        sent = await desk.send("BuyLimit", price="1.09500", stoploss="1.09000", **desk.named(7, "ours"))
        [row] = await desk.call("OpenedOrders")
        assert row["ticket"] == sent["ticket"]
        assert row["orderType" if desk.is_mt5 else "type"] == "BuyLimit"
        desk.venue.move("EUR/USD", "1.0940")
        [row] = await desk.call("OpenedOrders")
        assert (row["ticket"], row["openPrice"], row[desk.magic_field]) == (sent["ticket"], 1.095, 7)
        assert row["orderType" if desk.is_mt5 else "type"] == "Buy"
        desk.venue.move("EUR/USD", "1.0890")
        assert desk.book.positions == {}

    @pytest.mark.parametrize(
        ("operation", "price"),
        [
            ("BuyLimit", "1.10005"),
            ("SellLimit", "1.09990"),
            ("BuyStop", "1.10005"),
            ("SellStop", "1.10005"),
            ("BuyLimit", "0"),
        ],
    )
    async def test_a_price_that_waits_for_nothing_is_refused(
        self, desk: Desk, operation: str, price: str
    ) -> None:
        with pytest.raises(Said) as error:
            await desk.send(operation, price=price)
        assert error.value.code == ("INVALID_PRICE" if desk.is_mt5 else "INVALID_PRICES")

    async def test_it_ends_at_its_time(self, desk: Desk) -> None:
        until = {"expiration": "2026-11-24T12:40:00"}
        if desk.is_mt5:
            until["expirationType"] = "Specified"
        sent = await desk.send("BuyLimit", price="1.09500", **until, **desk.named(7, "ours"))
        await desk.venue.advance(601)
        desk.venue.move("EUR/USD", "1.0940")
        await desk.connect()
        assert await desk.call("OpenedOrders") == []
        window = {"from": "2026-11-24T12:00:00", "to": "2026-11-24T13:00:00"}
        if desk.is_mt5:
            [row] = await desk.call("PendingOrderHistory", **window)
            assert (row["ticketNumber"], row["state"], row["expertId"]) == (sent["ticket"], "Expired", 7)
        else:
            [row] = [row for row in await desk.history(**window) if row["symbol"]]
            assert (row["ticket"], row["comment"], row["magicNumber"]) == (sent["ticket"], "expiration", 7)

    async def test_it_is_taken_back(self, desk: Desk) -> None:
        sent = await desk.send("SellStop", price="1.09500")
        if desk.is_mt5:
            assert (await desk.get("OrderDelete", ticket=sent["ticket"])).status_code == 404
            said = await desk.call("OrderClose", ticket=sent["ticket"])
            assert said["state"] == "Cancelled"
        else:
            assert await desk.call("OrderDelete", ticket=sent["ticket"]) == "OK"
        assert desk.book.pending == []
        assert await desk.call("ClosedOrders") == []

    async def test_a_stop_limit_waits_twice(self, venue: MetaTraderVenue) -> None:
        async with desk_on(venue, "mt5") as desk:
            await desk.send("BuyStopLimit", price="1.10500", stopLimitPrice="1.10300")
            venue.move("EUR/USD", "1.1060")
            assert [order.operation for order in desk.book.pending] == ["BuyLimit"]
            venue.move("EUR/USD", "1.1020")
            assert desk.book.deals[-1].price == Decimal("1.10300")


class TestPartialCloses:
    async def test_a_part_leaves_the_rest_where_the_platform_puts_it(self, desk: Desk) -> None:
        sent = await desk.send(stoploss="1.09000", **desk.named(7, "ours"))
        old = sent["ticket"]
        said = await desk.call("OrderClose", ticket=old, lots="0.04")
        [rest] = await desk.call("OpenedOrders")
        assert (rest["lots"], rest[desk.magic_field], rest["stopLoss"]) == (0.06, 7, 1.09)
        if desk.is_mt5:
            assert (rest["ticket"], rest["comment"]) == (old, "ours")
            assert (said["closeLots"], said["closeVolume"], said["state"]) == (0.04, 4_000_000, "Started")
            assert said["ticket"] != old
        else:
            assert (rest["ticket"] != old, rest["comment"]) == (True, f"from #{old}")
            assert (said["ticket"], said["lots"], said["state"]) == (old, 0.04, "CLOSED_PART")
            assert said["comment"] == f"to #{rest['ticket']}"
        await desk.call("OrderClose", ticket=rest["ticket"])
        history = await desk.history()
        rows = [row for row in (history["orders"] if desk.is_mt5 else history) if row["symbol"]]
        assert sum(row["profit"] for row in rows) == -1
        assert [row["lots"] for row in rows] == ([0.1] if desk.is_mt5 else [0.04, 0.06])

    async def test_a_misspelt_part_closes_everything_and_is_on_record(self, desk: Desk) -> None:
        sent = await desk.send()
        await desk.call("OrderClose", ticket=sent["ticket"], volume="0.04")
        assert desk.book.positions == {}
        bridge = desk.venue.bridge(desk.platform)
        assert len(bridge.misuse) == 1
        bridge.misuse.clear()

    async def test_more_than_there_is_is_refused(self, desk: Desk) -> None:
        sent = await desk.send()
        with pytest.raises(Said) as error:
            await desk.call("OrderClose", ticket=sent["ticket"], lots="0.11")
        assert error.value.code == ("VOLUME_CLOSE_EXCEEDS_POSITION" if desk.is_mt5 else "INVALID_VOLUME")
        await desk.call("OrderClose", ticket=sent["ticket"])
        with pytest.raises(Said) as error:
            await desk.call("OrderClose", ticket=sent["ticket"])
        assert error.value.code == "INVALID_TICKET"


class TestNetting:
    async def test_one_position_takes_every_order(self, venue: MetaTraderVenue) -> None:
        async with desk_on(venue, "mt5", method=Method.NETTING) as desk:
            assert (await desk.call("AccountSummary"))["method"] == "Netting"
            first = await desk.send(**desk.named(1))
            venue.move("EUR/USD", "1.1020")
            second = await desk.send(**desk.named(2))
            [held] = await desk.call("OpenedOrders")
            assert (held["ticket"], held["lots"], held["openPrice"]) == (first["ticket"], 0.2, 1.1011)
            assert (second["ticket"] != first["ticket"], held["expertId"]) == (True, 2)
            await desk.send("Sell", volume="0.30", **desk.named(3))
            [held] = await desk.call("OpenedOrders")
            assert (held["orderType"], held["lots"], held["expertId"]) == ("Sell", 0.1, 3)
            deals = (await desk.history())["internalDeals"]
            assert [deal["expertId"] for deal in deals if deal["symbol"]] == [1, 2, 3, 3]

    async def test_what_turns_a_position_round_needs_money_only_for_the_rest(
        self, venue: MetaTraderVenue
    ) -> None:
        async with desk_on(venue, "mt5", method=Method.NETTING) as desk:
            await desk.send(volume="8.00")
            await desk.send("Sell", volume="16.00")
            with pytest.raises(Said, match="Not enough money"):
                await desk.send("Sell", volume="8.00")


class TestMoney:
    async def test_commission_and_swap_are_charged_the_platforms_way(self, venue: MetaTraderVenue) -> None:
        for platform, after_entry in (("mt4", 10_000), ("mt5", Decimal("9999.65"))):
            async with desk_on(venue, platform, commission="3.5") as desk:
                sent = await desk.send()
                assert desk.book.balance == after_entry
                venue.roll_over()
                [held] = await desk.call("OpenedOrders")
                assert held["swap"] == -0.57
                summary = await desk.call("AccountSummary")
                expected = 9997.73 if platform == "mt4" else 9998.08
                assert summary["equity"] == expected
                await desk.call("OrderClose", ticket=sent["ticket"])
                assert desk.book.balance == Decimal("10000") - 1 - Decimal("0.70") - Decimal("0.57")

    async def test_profit_is_converted(self, venue: MetaTraderVenue) -> None:
        async with desk_on(venue, "mt5", currency="EUR") as desk:
            sent = await desk.send(symbol="USDJPY", volume="1.00")
            venue.move("USD/JPY", "151.010")
            closed = await desk.call("OrderClose", ticket=sent["ticket"])
            dollars = Decimal(100_000) / Decimal("151.020")
            assert closed["profit"] == round(float(dollars / Decimal("1.10010")), 2)

    async def test_a_rate_that_nobody_quotes_is_known_to_the_broker_alone(self, desk: Desk) -> None:
        symbols = await desk.call("SymbolList")
        assert "NOKSEK" in symbols
        assert not {"USDSEK", "SEKUSD"} & set(symbols)
        sent = await desk.send(symbol="NOKSEK")
        desk.venue.move("NOK/SEK", "1.00010")
        assert (await desk.call("OrderClose", ticket=sent["ticket"]))["profit"] == 9.5

    async def test_an_instant_order_gets_its_price_or_a_requote(self) -> None:
        listings = [Listing("EUR", "USD", Decimal("1.10000"), execution=Execution.INSTANT)]
        async with (
            running_bridge(start=START, listings=listings) as venue,
            desk_on(venue, "mt4") as desk,
        ):
            for price, code in (("0", "INVALID_PRICES"), ("1.10000", "REQUOTE")):
                with pytest.raises(Said) as error:
                    await desk.send(price=price)
                assert error.value.code == code
            await desk.send(price="1.10000", slippage="10")
            await desk.send(price="1.10010")
            venue.audit()

    async def test_figures_that_have_not_come_in_are_zeros(self, desk: Desk) -> None:
        desk.book.is_synced = False
        summary = await desk.call("AccountSummary")
        assert (summary["balance"], summary["equity"]) == (0, 0)
        assert summary.get("synced") is (False if desk.is_mt5 else None)


class TestHistories:
    async def test_raw_records_count_in_the_brokers_clock(self, venue: MetaTraderVenue) -> None:
        async with desk_on(venue, "mt5") as desk:
            await desk.send()
            deal = (await desk.history())["internalDeals"][-1]
            assert deal["openTimeAsDateTime"].startswith("2026-11-24T12:30:00")
            assert deal["openTimeMs"] == int(START.timestamp() + 3 * 3600) * 1000
            [row] = await desk.call("OpenedOrders")
            assert row["openTimestampUTC"] == int(START.timestamp()) * 1000

    async def test_a_lone_deal_makes_no_row(self, venue: MetaTraderVenue) -> None:
        async with desk_on(venue, "mt5") as desk:
            sent = await desk.send()
            await venue.advance(120)
            await desk.call("OrderClose", ticket=sent["ticket"])
            for since, rows, deals in (("2026-11-24T12:30:00", 1, 2), ("2026-11-24T12:31:00", 0, 1)):
                said = await desk.history(**{"from": since})
                assert len([row for row in said["orders"] if row["symbol"]]) == rows
                assert len([deal for deal in said["internalDeals"] if deal["symbol"]]) == deals

    async def test_they_lag_and_come_in_halves(self, desk: Desk) -> None:
        bridge = desk.venue.bridge(desk.platform)
        for _ in range(3):
            sent = await desk.send()
            await desk.call("OrderClose", ticket=sent["ticket"])
        bridge.history_lag = 30
        assert await self._rows(desk) == 0
        await desk.venue.advance(31)
        assert await self._rows(desk) == 3
        bridge.partial_histories = 1
        assert await self._rows(desk) < 3
        assert await self._rows(desk) == 3

    async def test_pages_are_counted_from_zero(self, desk: Desk) -> None:
        for _ in range(3):
            sent = await desk.send()
            await desk.call("OrderClose", ticket=sent["ticket"])
        window = {"from": "2026-11-24T00:00:00", "to": "2026-11-25T00:00:00", "ordersPerPage": "2"}
        said = await desk.call(
            "OrderHistoryPagination", pageNumber="1", ignoreDepositWithdraw="true", **window
        )
        assert (said["pagesCount"], len(said["orders"])) == (2, 1)
        assert len(await desk.call("ClosedOrders")) == 3

    async def _rows(self, desk: Desk) -> int:
        said = await desk.history()
        return len([row for row in (said["orders"] if desk.is_mt5 else said) if row["symbol"]])


class TestAccidents:
    @pytest.mark.parametrize(
        ("fault", "accepted"),
        [
            (faults.ANSWER_LOST, 1),
            (faults.REQUEST_LOST, 0),
            (faults.TRUNCATED, 1),
            (faults.HTML, 1),
            (faults.server_error(502, executed=True), 1),
            (faults.server_error(502, executed=False), 0),
            (refusal("REQUOTE"), 0),
            (refusal("TIMEOUT", executed=True), 1),
            (refusal("DONE", "something odd", executed=True), 1),
            (faults.doubled(3), 3),
        ],
        ids=lambda value: value.name if isinstance(value, faults.Fault) else "",
    )
    async def test_what_happened_whatever_is_said(
        self, desk: Desk, fault: faults.Fault, accepted: int
    ) -> None:
        desk.venue.faults.add(fault)
        try:
            said = await desk.send(**desk.named(7, "ours"))
        except (httpx.TransportError, ValueError, AssertionError, Said):
            pass
        else:
            assert said["ticket"] in desk.book.positions
        assert len(desk.venue.accepted(magic=7, comment="ours")) == accepted
        assert desk.book.doubles() == ([(7, "ours")] if accepted > 1 else [])

    async def test_a_hang_is_a_time_out_of_the_client(self, desk: Desk) -> None:
        desk.http.timeout = httpx.Timeout(0.2)
        for fault, accepted in ((faults.HANG, 0), (faults.HANG_EXECUTED, 1)):
            desk.venue.faults.add(fault)
            with pytest.raises(httpx.ReadTimeout):
                await desk.send(**desk.named(7))
            assert len(desk.venue.accepted(magic=7)) == accepted

    async def test_a_dawdling_bridge_fills_when_nobody_listens(self, desk: Desk) -> None:
        desk.http.timeout = httpx.Timeout(0.2)
        desk.venue.faults.add(faults.dawdling(20))
        with pytest.raises(httpx.ReadTimeout):
            await desk.send(**desk.named(7))
        assert desk.venue.accepted(magic=7) == []
        await desk.venue.advance(21)
        assert len(desk.venue.accepted(magic=7)) == 1

    async def test_what_was_sent_may_stay_unseen(self, desk: Desk) -> None:
        desk.venue.faults.add(faults.lagging(10))
        await desk.send()
        assert await desk.call("OpenedOrders") == []
        await desk.venue.advance(11)
        assert len(await desk.call("OpenedOrders")) == 1

    async def test_closes_and_looks_have_accidents_of_their_own(self, desk: Desk) -> None:
        sent = await desk.send()
        desk.venue.faults.add(faults.ANSWER_LOST, faults.leaves)
        desk.venue.faults.add(faults.server_error(502, executed=False), faults.looks)
        with pytest.raises(httpx.RemoteProtocolError):
            await desk.call("OrderClose", ticket=sent["ticket"])
        assert desk.book.positions == {}
        assert (await desk.get("OpenedOrders")).status_code == 502


class TestHabits:
    async def test_without_safe_twins_they_are_not_there(self, desk: Desk) -> None:
        params = {"symbol": "EURUSD", "operation": "Buy", "volume": "0.1"}
        assert (await desk.call("OrderSendSafe", **params))["ticket"] > 0
        desk.venue.bridge(desk.platform).has_safe_twins = False
        assert (await desk.get("OrderSendSafe", **params)).status_code == 404
        assert len(desk.book.orders) == 1

    async def test_names_may_begin_with_capitals(self, desk: Desk) -> None:
        desk.venue.bridge(desk.platform).pascal_case = True
        await desk.send()
        [row] = await desk.call("OpenedOrders")
        assert row["StopLoss"] == 0

    async def test_symbols_come_in_several_shapes(self, venue: MetaTraderVenue) -> None:
        async with desk_on(venue, "mt4") as desk:
            assert "EURUSD" in await desk.call("Symbols")
        async with desk_on(venue, "mt5") as desk:
            said = await desk.call("Symbols")
            assert said["EURUSD"]["currency"] == "EUR"
            venue.mt5.symbols_shape = "nested"
            assert (await desk.call("Symbols"))["names"] == list(said)
            venue.mt5.symbols_shape = "names"
            assert await desk.call("Symbols") == list(said)

    async def test_brokers_have_names_of_their_own(self) -> None:
        async with running_bridge(start=START, suffix="m") as venue, desk_on(venue, "mt5") as desk:
            assert "EURUSDm" in await desk.call("SymbolList")
            with pytest.raises(Said) as error:
                await desk.send(symbol="EURUSD")
            assert error.value.code == "INVALID_SYMBOL"

    async def test_comments_are_cut_or_dropped(self, desk: Desk) -> None:
        sent = await desk.send(**desk.named(7, "x" * 40))
        assert desk.book.positions[sent["ticket"]].comment == "x" * 31
        desk.venue.bridge(desk.platform).server.keeps_comments = False
        assert (await desk.send(**desk.named(8, "ours")))["comment"] == ""

    async def test_a_forgotten_number_comes_back_as_something_else(self, desk: Desk) -> None:
        sent = await desk.send()
        assert (sent[desk.magic_field] > 0) is desk.is_mt5

    async def test_messages_may_name_the_password(self, desk: Desk) -> None:
        desk.venue.bridge(desk.platform).leaks_passwords = True
        with pytest.raises(Said) as error:
            await desk.send(symbol="NOPE")
        assert desk.owner.password in error.value.message

    async def test_a_guesser_has_to_wait(self, desk: Desk) -> None:
        desk.venue.bridge(desk.platform).max_failed_logins = 1
        for code in ("INVALID_ACCOUNT", "TOO_FREQUENT_FAIL_CONNECT"):
            with pytest.raises(Said) as error:
                await desk.connect(password="wrong")
            assert error.value.code == code

    async def test_operations_are_numbers_too(self, desk: Desk) -> None:
        assert (await desk.send("1"))["orderType" if desk.is_mt5 else "type"] == "Sell"
        for operation, code in (("8", "INVALID_REQUEST"), ("100", "TIMEOUT")):
            with pytest.raises(Said) as error:
                await desk.send(operation)
            assert error.value.code in (code, "INVALID_PARAM")


async def test_a_password_in_any_other_call_fails_the_audit(venue: MetaTraderVenue) -> None:
    async with desk_on(venue, "mt5") as desk:
        await desk.get("AccountSummary", note=desk.owner.password)
        with pytest.raises(AssertionError):
            venue.audit()
        venue.requests.clear()


HARMS: dict[str, Callable[[Desk, int], Awaitable[Any]]] = {
    "no lots": lambda desk, ticket: desk.call("OrderClose", ticket=ticket),
    "lots between two steps": lambda desk, ticket: desk.call("OrderClose", ticket=ticket, lots="0.015"),
    "the stop taken off": lambda desk, ticket: desk.call("OrderModify", ticket=ticket, takeprofit="1.2"),
    "the same once more": lambda desk, _: desk.send(stoploss="1.05", **desk.named(7)),
    "no number": lambda desk, _: desk.send(comment="ours"),
    "a number too large": lambda desk, _: desk.send(**desk.named(2**31)),
}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("harm", HARMS)
async def test_what_nobody_may_ask_a_bridge_for_is_noticed(
    venue: MetaTraderVenue, platform: str, harm: str
) -> None:
    async with desk_on(venue, platform) as desk:
        ticket = (await desk.send(stoploss="1.05", **desk.named(7)))["ticket"]
        conduct.assert_sound(venue)
        with suppress(Said, AssertionError):
            await HARMS[harm](desk, ticket)
        with pytest.raises(AssertionError):
            conduct.assert_sound(venue)
