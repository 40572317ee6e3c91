"""MetaTrader's pure parts: marks, the reading of answers, what an error proves, symbols, and what a lot is worth."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from app.brokers.metatrader import marks, outcomes, rates, wire
from app.brokers.metatrader.books import Cause
from app.brokers.metatrader.commissions import charged
from app.brokers.metatrader.credentials import Credentials
from app.brokers.metatrader.gateway import Gateway
from app.brokers.metatrader.listings import Listing, candidates, listing_4, listing_5, pair_of
from app.brokers.metatrader.marks import Handle
from app.brokers.metatrader.outcomes import Fault
from app.brokers.metatrader.platforms import PLATFORMS
from app.brokers.metatrader.rows import cause_of, history_of_deals, tickets
from app.brokers.metatrader.session import token_of
from app.brokers.metatrader.wire import Record, ServerTime, Unreadable
from app.brokers.port import Refused, Uncertain, Unreachable
from app.domain.errors import Invalid
from app.domain.market import Quote
from app.domain.orders import Side

D = Decimal
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ATHENS = ServerTime(timedelta(hours=2))


class TestMarks:
    def test_they_are_short_plain_and_fit_the_older_platform(self) -> None:
        names = [marks.client_order_id(UUID(int=number), 1) for number in range(500)]
        assert len(set(names)) == 500
        assert all(len(name) <= 24 and name.isascii() and name.isalnum() for name in names)
        assert all(0 < marks.magic_of(name) < 2**31 for name in names)
        assert len({marks.magic_of(name) for name in names}) == 500
        assert marks.client_order_id(UUID(int=1), 1) != marks.client_order_id(UUID(int=1), 2)

    @pytest.mark.parametrize(
        ("shown", "possible"),
        [
            ("{}", True),
            ("{}[sl]", True),
            ("", True),
            ("from #123", True),
            ("written over by the broker", True),
            ("{:.12}", True),
            ("{:.4}", True),  # cut too short to name anything
            ("teaaaaaaaaaaaaaaaa", False),  # another order of ours
            ("teaaaaaaaaaa", False),
        ],
    )
    def test_a_comment_proves_the_contrary_at_most(self, shown: str, possible: bool) -> None:
        name = marks.client_order_id(UUID(int=7), 1)
        assert marks.may_be(shown.format(name), name) is possible

    def test_a_handle_is_read_as_it_was_written(self) -> None:
        handle = Handle(4300000001, 2**31 - 1, D("0.30"), 2150000007)
        assert Handle.read(handle.text()) == handle


class TestWire:
    @pytest.mark.parametrize(
        ("body", "answer"),
        [('"OK"', "OK"), ("OK\n", "OK"), ("[]", []), ("<html>", "<html>"), ("0.1", D("0.1"))],
    )
    def test_text_comes_bare_or_quoted(self, body: str, answer: Any) -> None:
        assert wire.parsed(body) == answer

    def test_names_come_in_any_case(self) -> None:
        for key in ("openPrice", "OpenPrice", "open_price"):
            assert Record.of({key: 1}).amount("openPrice") == 1

    def test_doubles_lose_their_noise_and_nothing_else(self) -> None:
        told = Record.of(wire.parsed('{"a": 0.30000000000000004, "b": 1e-05, "c": 123456789.12}'))
        assert [told.amount(key) for key in "abc"] == [D("0.3"), D("0.00001"), D("123456789.12")]

    def test_a_missing_list_is_never_an_empty_one(self) -> None:
        answers: list[Any] = [None, {}, "", "<html>"]
        for answer in answers:
            with pytest.raises(Unreadable):
                tickets(answer, ATHENS)
        assert tickets([], ATHENS) == []
        with pytest.raises(Unreadable):
            history_of_deals({"orders": None}, ATHENS)

    @pytest.mark.parametrize("said", [None, True, "", "soon", "NaN", 30, D("-1e9"), {}, []])
    def test_what_is_no_time_zone_is_not_taken_for_one(self, said: Any) -> None:
        with pytest.raises(Unreadable):
            ServerTime.of_hours(said)

    @pytest.mark.parametrize(
        "body", ["NaN", "Infinity", "1e400", "1e99999999999999999999", "9" * 30, '"-1e21"', "true", "{}"]
    )
    def test_what_is_no_amount_is_none(self, body: str) -> None:
        assert wire.amount_in(wire.parsed(body)) is None

    def test_what_nests_without_end_is_text(self) -> None:
        assert isinstance(wire.parsed("[" * 200_000), str)

    def test_times_out_of_this_world_are_none(self) -> None:
        assert ATHENS.read_ms(10**19) is None
        assert ATHENS.read("9999-12-31T23:59:59-10:00") is None

    def test_times_are_the_brokers_own(self) -> None:
        assert ATHENS.read("2026-11-24T14:00:00") == NOON
        assert ATHENS.read("2026-11-24T12:00:00Z") == NOON
        assert ATHENS.read("0001-01-01T00:00:00") is None
        assert ATHENS.text(NOON) == "2026-11-24T14:00:00"
        assert ATHENS.read_ms(int((NOON + timedelta(hours=2)).timestamp() * 1000)) == NOON


class TestOutcomes:
    @pytest.mark.parametrize(
        ("platform", "code", "verdict", "ours"),
        [
            ("mt5", "NO_MONEY", Refused, "insufficient_balance"),
            ("mt4", "NOT_MONEY", Refused, "insufficient_balance"),
            ("mt5", "MARKET_CLOSED", Refused, "market_closed"),
            ("mt4", "MARKET_CLOSED", Refused, "market_closed"),
            ("mt5", "INVALID_STOPS", Refused, "stop_too_close"),
            ("mt4", "INVALID_SL_TP", Refused, "stop_too_close"),
            ("mt5", "REQUOTE", Unreachable, None),
            ("mt4", "OFF_QUOTES", Unreachable, None),
            ("mt5", "OFF_QUOTES", Uncertain, None),
            ("mt5", "INVALID_TOKEN", Uncertain, None),
            ("mt4", "INVALID_TOKEN", Uncertain, None),
            ("mt5", "TIMEOUT", Uncertain, None),
            ("mt4", "TRADE_TIMEOUT", Uncertain, None),
            ("mt4", "ORDER_ACCEPTED", Uncertain, None),
            ("mt5", "REQUEST_ACCEPTED", Uncertain, None),
            ("mt5", "REQUEST_EXECUTED_PARTIALLY", Uncertain, None),
            ("mt5", "DONE", Uncertain, None),
            ("mt5", "OK", Uncertain, None),
            ("mt4", "INTERNAL_ERROR", Uncertain, None),
            ("mt5", "SOMETHING_NEW", Uncertain, None),
        ],
    )
    def test_only_closed_lists_are_certain(
        self, platform: str, code: str, verdict: type[Exception], ours: str | None
    ) -> None:
        error = outcomes.of_order(Fault(code, "words"), PLATFORMS[platform])
        assert type(error) is verdict
        assert ours in (None, error.code)

    def test_a_broken_line_may_have_carried_the_order(self) -> None:
        broken = Fault("CONNECT_ERROR", "Not connected (:123)")
        assert broken.is_session
        assert isinstance(outcomes.of_order(broken, PLATFORMS["mt5"]), Uncertain)

    def test_an_error_is_told_by_its_body(self) -> None:
        body = {"message": "Invalid for s3cret at 7", "code": "invalid_stops", "stackTrace": "s3cret"}
        fault = outcomes.fault_in(body, ["s3cret"])
        assert fault == Fault("INVALID_STOPS", "Invalid for … at 7")
        assert outcomes.fault_in({"ticket": 5, "code": "DONE"}, []) is None
        assert outcomes.fault_in([], []) is None

    @pytest.mark.parametrize(
        ("placed", "comment", "cause"),
        [
            ("OnSL", "", Cause.STOP),
            ("OnTP", "", Cause.TARGET),
            ("OnStopOut", "", Cause.FORCED),
            ("", "te123[sl]", Cause.STOP),
            ("Client", "[tp 1.105]", Cause.TARGET),
            ("", "so: 49.9%/499/1000", Cause.FORCED),
            ("Mobile", "sold by hand", Cause.ORDER),
        ],
    )
    def test_why_a_part_was_closed(self, placed: str, comment: str, cause: Cause) -> None:
        assert cause_of(placed, comment) is cause


class TestSymbols:
    @pytest.mark.parametrize(
        ("name", "margin", "profit", "pair"),
        [
            ("EURUSD", "EUR", "USD", ("EUR", "USD")),
            ("EURUSDm", "EUR", "USD", ("EUR", "USD")),
            ("m.EURUSD", "EUR", "USD", ("EUR", "USD")),
            ("XAUUSD.pro", "USD", "USD", ("XAU", "USD")),
            ("USDJPY", "USD", "JPY", ("USD", "JPY")),
            ("US30", "USD", "USD", ("US30", "USD")),
        ],
    )
    def test_what_a_name_stands_for(self, name: str, margin: str, profit: str, pair: tuple[str, str]) -> None:
        assert pair_of(name, margin, profit) == pair

    def test_candidates_are_called_so_or_nearly_so(self) -> None:
        names = ["EURUSD.pro", "EURUSDm", "EURGBP", "GOLD", "XAUUSD"]
        assert candidates(names, ["EUR/USD"]) == ["EURUSDm", "EURUSD.pro"]
        assert candidates(names, ["xauusd", "GOLD", "AUD/CAD", ""]) == ["XAUUSD", "GOLD"]


FIVE = {
    "symbol": "USDJPY",
    "symbolInfo": {
        "digits": 3,
        "points": 0.001,
        "contractSize": 100000,
        "profitCurrency": "JPY",
        "marginCurrency": "USD",
        "calcMode": "Forex",
    },
    "symbolGroup": {
        "minLots": 0.01,
        "maxLots": 50,
        "lotsStep": 0.01,
        "tradeMode": "LongOnly",
        "tradeType": "Instant",
    },
}
FOUR = {
    "symbolName": "EURUSD",
    "symbol": {
        "digits": 5,
        "point": 0.00001,
        "contractSize": 100000,
        "stopsLevel": 20,
        "freezeLevel": 30,
        "currency": "EUR",
        "marginCurrency": "EUR",
        "execution": "Market",
        "profitMode": "Forex",
        "ex": {"trade": 2, "long_only": 0},
    },
    "groupParams": {
        "minLot": 0.1,
        "maxLot": 20,
        "lotStep": 0.1,
        "comm_base": -7,
        "comm_type": 0,
        "comm_lots": 0,
    },
}


def exactly(value: Any) -> Record:
    """As it comes off the wire."""
    return Record.of(wire.parsed(json.dumps(value)))


def five(**info: Any) -> Listing:
    """A symbol of MetaTrader 5, its terms changed."""
    return listing_5("USDJPY", exactly({**FIVE, "symbolInfo": {**FIVE["symbolInfo"], **info}}), "EUR")  # type: ignore[dict-item]


class TestListings:
    def test_the_terms_of_the_newer_platform(self) -> None:
        listing = five()
        rules = listing.instrument
        assert (rules.base, rules.quote, rules.currency) == ("USD", "JPY", "EUR")
        assert (rules.min_quantity, rules.max_quantity, rules.quantity_step) == (D("0.01"), D(50), D("0.01"))
        assert (rules.price_tick, rules.opens) == (D("0.001"), frozenset({Side.BUY}))
        assert (listing.needs_price, listing.unit, listing.commission) == (True, D(100000), None)

    def test_the_terms_of_the_older_one(self) -> None:
        listing = listing_4("EURUSD", exactly(FOUR), "USD")
        assert (listing.instrument.base, listing.instrument.quote) == ("EUR", "USD")
        assert (listing.instrument.stop_level, listing.commission) == (D("0.0003"), D(7))
        assert (listing.profit_currency, listing.base_currency) == ("USD", "EUR")

    def test_the_newer_platform_has_a_stop_level_too(self) -> None:
        group = {**FIVE["symbolGroup"], "sl": 20, "tp": 30}  # type: ignore[dict-item]
        listing = listing_5("USDJPY", exactly({**FIVE, "symbolGroup": group}), "EUR")
        assert listing.instrument.stop_level == D("0.03")
        assert five(stopsLevel=40).instrument.stop_level == D("0.04")
        assert five().instrument.stop_level == 0

    @pytest.mark.parametrize(
        ("told", "takes"),
        [
            (None, True),
            ("All", True),
            ("GTC, Today, Specified, SpecifiedDay", True),
            ("GTC", False),
            ("GTC, Today, SpecifiedDay", False),
        ],
    )
    def test_whether_an_order_may_say_when_it_ends(self, told: str | None, takes: bool) -> None:
        group = {**FIVE["symbolGroup"], "expiration": told}  # type: ignore[dict-item]
        listing = listing_5("USDJPY", exactly({**FIVE, "symbolGroup": group}), "EUR")
        assert listing.takes_expiration is takes

    def test_futures_count_by_their_tick(self) -> None:
        assert five(calcMode="Futures", tickValue=12.5, tickSize=0.25).unit == 50

    def test_without_lot_sizes_there_is_nothing_to_trade(self) -> None:
        with pytest.raises(Unreadable):
            listing_5("USDJPY", exactly({**FIVE, "symbolGroup": {"minLots": 0}}), "EUR")


def quote(symbol: str, bid: str, ask: str) -> Quote:
    """A quote at noon."""
    return Quote(symbol, D(bid), D(ask), NOON)


class TestRates:
    def test_the_side_that_costs_more(self) -> None:
        pair = quote("EURUSD", "1.10", "1.25")
        assert rates.rate(pair, None) == D("1.25")
        assert rates.rate(None, quote("USDEUR", "0.80", "0.90")) == D("1.25")
        assert rates.rate(None, None) is None

    def test_a_lot_by_profit_and_by_base(self) -> None:
        found = rates.worth(five(), "EUR", {"JPY": D("0.005"), "USD": D("0.9")}, D(6), D(150))
        assert found is not None
        assert (found.move, found.notional, found.commission) == (D(500), D(90000), D(6))
        assert rates.worth(five(), "EUR", {"USD": D("0.9")}, D(0), D(150)) is None
        assert rates.worth(five(), "EUR", {"JPY": D("0.005")}, D(0), D(150)) is not None

    def test_a_commission_nobody_has_told_is_assumed(self) -> None:
        found = rates.worth(five(), "EUR", {"JPY": D("0.005")}, None, D(150))
        assert found is not None
        # A ten-thousandth of 100,000 × 150 × 0.005.
        assert found.commission == D("7.5")

    def test_the_symbol_with_least_around_it_is_asked(self) -> None:
        assert rates.symbol_for("EURUSD", ["EURUSD.pro", "EURUSDm", "GBPUSD"]) == "EURUSDm"
        assert rates.symbol_for("EURCHF", ["EURUSDm"]) is None


def test_what_was_charged_is_the_newest_of_each_way() -> None:
    def deal(number: int, direction: str, commission: float, day: int) -> dict[str, Any]:
        return {
            "ticketNumber": number,
            "orderTicket": number,
            "positionTicket": 1,
            "symbol": "EURUSD",
            "type": "DealBuy",
            "direction": direction,
            "lots": 0.5,
            "openPrice": 1.1,
            "profit": 0,
            "commission": commission,
            "openTimeAsDateTime": f"2026-11-{day:02}T10:00:00",
        }

    deals = [deal(1, "In", -9, 1), deal(2, "Out", -2, 3), deal(3, "In", -1.5, 2)]
    told = history_of_deals(wire.parsed(json.dumps({"orders": [], "internalDeals": deals})), ATHENS)
    assert charged(told) == {"EURUSD": D(7)}


@pytest.mark.parametrize("path", ["", "/", "/bridges/5", "/bridges/5/"])
async def test_a_bridge_is_asked_below_its_path(path: str) -> None:
    asked = list[str]()

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        return web.json_response("OK")

    runner = web.ServerRunner(web.Server(respond, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gateway = Gateway(f"http://127.0.0.1:{runner.addresses[0][1]}{path}")
    assert await gateway.ask("CheckConnect", {"id": "token"}, key=None) == "OK"
    await gateway.close()
    await runner.cleanup()
    assert asked == [f"{path.rstrip('/')}/CheckConnect"]


GIVEN = {"account_id": "5000001", "api_secret": "password-1", "server": "Broker-Live"}


class TestCredentials:
    def test_a_login_is_a_number_and_one_however_it_is_written(self) -> None:
        one, other = (Credentials.read({**GIVEN, "account_id": login}) for login in ("5000001", "005000001"))
        assert (other.login, other.identity) == (one.login, one.identity)

    @pytest.mark.parametrize(
        "host",
        [
            *("127.1", "0x7f.1", "127.0.0.0x1", "2130706433", "010.0.0.1", "0.0", "127.1.", "127.0.0.1 x"),
            *(
                "10.0.0.5",
                "[::1]",
                "::ffff:127.0.0.1",
                "169.254.169.254",
                "127.0.0.1:80",
                "a.b/c",
                "x@a.example",
            ),
            *(
                "localhost",
                "bridge",
                "db.internal",
                "printer.local",
                "printer.local.",
                "１２７.1",
                "1.2.3.4.5",
            ),
        ],
    )
    def test_no_address_of_a_network_of_ours(self, host: str) -> None:
        given = {name: value for name, value in GIVEN.items() if name != "server"}
        with pytest.raises(Invalid, match="public"):
            Credentials.read({**given, "host": host, "port": "443"})

    @pytest.mark.parametrize(
        "host", ["8.8.8.8", "[2001:4860:4860::8888]", "mt5-1.broker.example", "a.xn--p1ai."]
    )
    def test_a_public_one(self, host: str) -> None:
        given = {name: value for name, value in GIVEN.items() if name != "server"}
        assert Credentials.read({**given, "host": host, "port": "443"}).host == host


def test_a_session_is_named_beyond_guessing_and_the_same_everywhere() -> None:
    given = {"account_id": "123", "api_secret": "password-1", "server": "Broker-Live"}
    one, other = Credentials.read(given), Credentials.read({**given, "api_secret": "password-2"})
    token = token_of(UUID(int=1), 1, one)
    assert token == token_of(UUID(int=1), 1, Credentials.read(given))
    assert len({token, token_of(UUID(int=1), 1, other), token_of(UUID(int=2), 1, one)}) == 3
    assert one.identity == other.identity == "123@broker-live"
    assert "password-1" not in repr(one)
