"""What an answer proves: the closed list of refusals, and everything else in doubt. Nothing is looked up here."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import ccxt.async_support as library
import pytest

from app.brokers.crypto.exchange import Call
from app.brokers.crypto.outcomes import of_order, of_read, words_of
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.reports import status_of, without_size
from app.brokers.port import ABSENT, Refused, Uncertain, Unreachable, VenueError
from app.domain.market import MarketType
from app.domain.orders import OrderReport, OrderStatus, OrderType, Side
from tests.brokers.contract.exchanges import STARTED_AT, ExchangeStage, exchange_stage
from tests.brokers.contract.stage import held, order
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.faults import (
    ANSWER_LOST,
    HTML,
    HTML_UNEXECUTED,
    REQUEST_LOST,
    TRUNCATED,
    Fault,
    any_request,
    lagging,
    looks,
    reject,
    server_error,
)

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP


def sent(body: Any = None, status: int | None = 400) -> Call:
    """A call whose order has left."""
    return Call(methods=["POST"], status=status, body=body)


def binance(code: int, words: str = "words") -> dict[str, Any]:
    """An answer of Binance."""
    return {"code": code, "msg": words}


def bybit(code: int) -> dict[str, Any]:
    """An answer of Bybit."""
    return {"retCode": code, "retMsg": "words", "result": {}}


class TestAccounts:
    """What is about the account and not about the order."""

    @pytest.mark.parametrize("error", [library.AuthenticationError, library.AccountSuspended])
    def test_a_class_says_that_the_key_is_refused(self, error: type[Exception]) -> None:
        assert of_read(error("text"), sent()).code == "credentials_refused"
        assert of_order(error("text"), sent(), profile_of("kraken", SPOT)).code == "credentials_refused"

    def test_a_code_says_so_whatever_the_class_makes_of_it(self) -> None:
        profile = profile_of("binance", SPOT)
        call = sent(binance(-2015))
        call.credential_codes = profile.credential_codes
        assert of_read(library.DDoSProtection("text"), call).code == "credentials_refused"
        refused = of_order(library.DDoSProtection("text"), call, profile)
        assert (type(refused), refused.code) == (Refused, "credentials_refused")

    @pytest.mark.parametrize(
        ("status", "words", "banned"),
        [(418, "banned", True), (403, "access too frequent", True), (403, "<html>", False), (429, "", False)],
    )
    def test_a_ban_is_told_from_other_answers(self, status: int, words: str, banned: bool) -> None:
        failure = of_read(library.DDoSProtection("text"), sent(binance(-1003, words), status))
        assert (failure.code == "banned_by_venue") is banned

    def test_a_ban_that_its_class_takes_for_a_refusal_of_the_key_is_a_ban(self) -> None:
        profile = profile_of("bybit", SPOT)
        call = sent(bybit(10009), 200)
        call.credential_codes, call.ban_codes = profile.credential_codes, profile.ban_codes
        error = library.AuthenticationError("text")
        for failure in (of_read(error, call), of_order(error, call, profile)):
            assert (type(failure), failure.code) == (Unreachable, "banned_by_venue")


class TestCodes:
    @pytest.mark.parametrize(
        ("exchange", "market_type", "body", "error", "kind", "code"),
        [
            ("binance", SPOT, binance(-1013), library.BadRequest, Refused, "rejected_by_venue"),
            ("binance", SPOT, binance(-1121), library.BadSymbol, Refused, "symbol_unknown"),
            ("binance", SPOT, binance(-2010), library.InsufficientFunds, Refused, "insufficient_balance"),
            ("binance", SPOT, binance(-2010, "Duplicate order sent."), library.InvalidOrder, Uncertain, None),
            (
                "binance",
                SPOT,
                binance(-2010, "Stop price would trigger immediately."),
                library.InvalidOrder,
                Refused,
                "rejected_by_venue",
            ),
            ("binance", SPOT, binance(-1006), library.ExchangeError, Uncertain, None),
            ("binance", SPOT, binance(-1007), library.RequestTimeout, Uncertain, None),
            ("binance", SPOT, binance(-1021), library.InvalidNonce, Unreachable, None),
            ("binance", SPOT, binance(-1003), library.DDoSProtection, Unreachable, None),
            ("binanceusdm", SWAP, binance(-2019), library.InsufficientFunds, Refused, "insufficient_balance"),
            ("binanceusdm", SWAP, binance(-2022), library.InvalidOrder, Refused, "rejected_by_venue"),
            ("binanceusdm", SWAP, binance(-4116), library.InvalidOrder, Uncertain, None),
            ("binanceusdm", SWAP, binance(-4164), library.InvalidOrder, Refused, "notional_below_minimum"),
            ("bybit", SWAP, bybit(110007), library.InsufficientFunds, Refused, "insufficient_balance"),
            ("bybit", SWAP, bybit(110017), library.InvalidOrder, Refused, "rejected_by_venue"),
            ("bybit", SWAP, bybit(110072), library.InvalidOrder, Uncertain, None),
            ("bybit", SWAP, bybit(10016), library.ExchangeError, Uncertain, None),
            ("bybit", SWAP, bybit(10006), library.RateLimitExceeded, Uncertain, None),
            ("bybit", SWAP, bybit(10002), library.InvalidNonce, Unreachable, None),
            ("bybit", SPOT, bybit(170141), library.InvalidOrder, Uncertain, None),
            ("bybit", SWAP, bybit(110030), library.InvalidOrder, Uncertain, None),
            ("bybit", SPOT, bybit(170222), library.RateLimitExceeded, Unreachable, None),
            ("onetrading", SPOT, {"error": "INTERNAL_ERROR"}, library.AuthenticationError, Uncertain, None),
            (
                "onetrading",
                SPOT,
                {"error": "MISSING_AUTHENTICATION"},
                library.AuthenticationError,
                Refused,
                "credentials_refused",
            ),
            ("p2b", SPOT, {"errorCode": 1016}, library.AuthenticationError, Uncertain, None),
            ("p2b", SPOT, {"errorCode": 1010}, library.AuthenticationError, Refused, "credentials_refused"),
            ("bitso", SPOT, {"error": {"code": "0201"}}, library.AuthenticationError, Uncertain, None),
            ("bitso", SPOT, {"error": {"code": "104"}}, library.InvalidNonce, Uncertain, None),
            ("blofin", SWAP, {"code": "152407"}, library.InvalidNonce, Uncertain, None),
            ("blofin", SWAP, {"code": "152405"}, library.InvalidNonce, Unreachable, None),
            ("krakenfutures", SWAP, {"error": "nonceDuplicate"}, library.InvalidNonce, Uncertain, None),
            ("kraken", SPOT, {"error": ["EAPI:Invalid nonce"]}, library.InvalidNonce, Uncertain, None),
            ("okx", SWAP, {"code": "50102"}, library.InvalidNonce, Unreachable, None),
            (
                "okx",
                SWAP,
                {"code": "1", "data": [{"sCode": "51149"}]},
                library.ExchangeError,
                Uncertain,
                None,
            ),
            ("kraken", SPOT, {"error": ["EService:Timeout"]}, library.ExchangeError, Uncertain, None),
        ],
    )
    def test_a_code_means_what_its_venue_says(
        self,
        exchange: str,
        market_type: MarketType,
        body: Any,
        error: type[Exception],
        kind: type[VenueError],
        code: str | None,
    ) -> None:
        outcome = of_order(error("text"), sent(body), profile_of(exchange, market_type))
        assert type(outcome) is kind
        if code is not None:
            assert outcome.code == code

    @pytest.mark.parametrize(
        "error",
        [
            library.ExchangeError,
            library.ExchangeNotAvailable,
            library.OnMaintenance,
            library.RequestTimeout,
            library.NetworkError,
            library.OperationFailed,
            library.BadResponse,
            library.NullResponse,
            library.RateLimitExceeded,
            library.InvalidOrder,
            library.DuplicateOrderId,
            library.BadRequest,
            library.OrderNotFound,
            KeyError,
            TypeError,
            AssertionError,
        ],
    )
    def test_once_sent_everything_else_is_in_doubt(self, error: type[Exception]) -> None:
        assert type(of_order(error("text"), sent(), profile_of("kraken", SPOT))) is Uncertain

    @pytest.mark.parametrize("error", [library.ArgumentsRequired, library.InvalidOrder, AssertionError])
    def test_what_the_class_would_not_send_is_refused(self, error: type[Exception]) -> None:
        for call in (Call(), Call(methods=["GET"], status=200, body={})):
            assert type(of_order(error("text"), call, profile_of("kraken", SPOT))) is Refused

    @pytest.mark.parametrize(
        ("error", "call"),
        [
            (library.ExchangeError, Call(methods=["GET"])),
            (library.InvalidOrder, Call(methods=["GET"])),
            (library.InvalidOrder, Call(methods=["GET"], status=200, is_clean=False)),
            (library.ExchangeError, Call(methods=["GET"], status=200, body={})),
            (KeyError, Call(methods=["GET"], status=200, body={})),
        ],
    )
    def test_what_a_class_could_not_find_out_beforehand_is_asked_again(
        self, error: type[Exception], call: Call
    ) -> None:
        assert type(of_order(error("text"), call, profile_of("kraken", SPOT))) is Unreachable

    def test_an_answer_without_an_end_is_in_doubt_only_once_the_order_may_have_left(self) -> None:
        error, profile = Uncertain("It answers without an end."), profile_of("kraken", SPOT)
        assert type(of_order(error, Call(methods=["GET"], status=200), profile)) is Unreachable
        assert of_order(error, sent(), profile) is error

    def test_where_orders_are_sent_by_get_a_get_may_have_acted(self) -> None:
        call = Call(methods=["GET"])
        assert type(of_order(library.InvalidOrder("text"), call, profile_of("deribit", SWAP))) is Uncertain

    def test_what_could_not_be_reached_before_the_order_is_unreachable(self) -> None:
        call = Call(methods=["GET"], status=502)
        error = library.ExchangeNotAvailable("text")
        assert type(of_order(error, call, profile_of("bybit", SWAP))) is Unreachable

    def test_a_question_that_failed_may_be_asked_again(self) -> None:
        assert type(of_read(library.RequestTimeout("text"), Call())) is Unreachable
        assert type(of_read(library.AuthenticationError("text"), Call())) is Refused
        assert type(of_read(library.ExchangeError("text"), Call())) is Uncertain

    def test_neither_a_signed_address_nor_a_key_is_repeated(self) -> None:
        error = library.RequestTimeout("binance GET https://api.binance.com/api/v3/order?signature=abc")
        assert "signature" not in words_of(error, sent(status=None))
        call = Call(methods=["POST"], body={"retMsg": "error sign! my-key 5000"}, secrets=("my-key",))
        assert words_of(error, call) == "error sign! … 5000"


@pytest.mark.parametrize("size", ["1000", None])
def test_a_buy_that_was_told_its_cost_is_ended_by_its_fill(size: str | None) -> None:
    order = {"side": "buy", "status": "closed", "amount": size, "filled": "0.049"}
    assert status_of(without_size(order), Decimal("0.049")) is OrderStatus.FILLED
    assert status_of(without_size({**order, "side": "sell", "amount": "1"}), Decimal("0.049")) is (
        OrderStatus.CANCELLED
    )


@pytest.fixture
async def venue() -> AsyncIterator[Exchange]:
    """The simulated exchanges."""
    async with running_exchange(start=STARTED_AT) as exchange:
        yield exchange


@pytest.fixture(params=[("binance", SPOT), ("binanceusdm", SWAP), ("bybit", SPOT), ("bybit", SWAP)])
async def stage(venue: Exchange, request: pytest.FixtureRequest) -> AsyncIterator[ExchangeStage]:
    """An account at each."""
    exchange, market_type = request.param
    opened = await exchange_stage(venue, exchange, market_type)
    yield opened
    await opened.close()


class TestAccidents:
    @pytest.mark.parametrize("fault", [ANSWER_LOST, TRUNCATED, HTML, server_error(executed=True)])
    async def test_an_order_whose_answer_was_lost_is_in_doubt_and_found(
        self, stage: ExchangeStage, fault: Fault
    ) -> None:
        request = order(stage, Side.BUY, OrderType.MARKET)
        stage.venue.faults.add(fault)
        with pytest.raises(Uncertain):
            await stage.broker.place(request)
        found = await stage.broker.find(request.key)
        assert isinstance(found, OrderReport)
        assert found.status is OrderStatus.FILLED
        assert len(stage.venue.accepted(request.client_order_id)) == 1

    @pytest.mark.parametrize("fault", [REQUEST_LOST, HTML_UNEXECUTED, server_error(executed=False)])
    async def test_an_order_that_never_arrived_is_in_doubt_and_absent(
        self, stage: ExchangeStage, fault: Fault
    ) -> None:
        request = order(stage, Side.BUY, OrderType.MARKET)
        stage.venue.faults.add(fault)
        with pytest.raises(Uncertain):
            await stage.broker.place(request)
        assert await stage.broker.find(request.key) is ABSENT
        assert await held(stage) == 0

    @pytest.mark.parametrize("fault", [REQUEST_LOST, HTML, TRUNCATED, server_error(executed=True)])
    async def test_a_look_up_that_fails_is_never_absence(self, stage: ExchangeStage, fault: Fault) -> None:
        request = order(stage, Side.BUY, OrderType.MARKET)
        stage.venue.faults.add(fault, looks, times=10)
        assert await stage.broker.find(request.key) is not ABSENT

    @pytest.mark.parametrize("status", [400, 401, 403, 407, 418, 429, 511])
    async def test_a_page_with_whatever_status_refuses_no_order(
        self, stage: ExchangeStage, status: int
    ) -> None:
        """What stands before a venue answers with such statuses, too, and knows nothing of the order."""
        request = order(stage, Side.BUY, OrderType.MARKET)
        stage.venue.faults.add(server_error(status, executed=True))
        with pytest.raises(Uncertain):
            await stage.broker.place(request)
        assert len(stage.venue.accepted(request.client_order_id)) == 1

    @pytest.mark.parametrize("status", [401, 403, 407, 511])
    async def test_a_page_refuses_no_key(self, stage: ExchangeStage, status: int) -> None:
        stage.venue.faults.add(server_error(status, executed=False), any_request, times=9)
        with pytest.raises((Unreachable, Uncertain)):
            await stage.broker.account()

    async def test_an_order_not_shown_yet_stands_open_and_unfilled(self, stage: ExchangeStage) -> None:
        request = order(stage, Side.BUY, OrderType.MARKET)
        stage.venue.faults.add(lagging(60))
        report = await stage.broker.place(request)
        assert (report.status, report.filled_quantity) == (OrderStatus.OPEN, Decimal(0))
        assert report.exchange_order_id
        await stage.advance(61)
        found = await stage.broker.find(request.key)
        assert isinstance(found, OrderReport)
        assert found.status is OrderStatus.FILLED

    async def test_one_order_is_one_request(self, stage: ExchangeStage) -> None:
        request = order(stage, Side.BUY, OrderType.MARKET)
        stage.venue.faults.add(server_error(503, executed=False), times=5)
        with pytest.raises(Uncertain):
            await stage.broker.place(request)
        named = [each for each in stage.venue.requests if each.client_order_id == request.client_order_id]
        assert [each.method for each in named] == ["POST"]


@pytest.mark.parametrize(
    ("exchange", "ban"),
    [
        (
            "binance",
            reject(binance(-1003, "Way too many requests; IP banned."), 418, {"Retry-After": "120"}),
        ),
        ("bybit", reject(bybit(10009), 200)),
    ],
)
async def test_a_ban_stops_everything_and_nothing_of_it_was_executed(
    venue: Exchange, exchange: str, ban: Fault
) -> None:
    stage = await exchange_stage(venue, exchange, SPOT)
    await stage.broker.account()
    venue.faults.add(ban)
    with pytest.raises(Unreachable):
        await stage.broker.place(order(stage, Side.BUY, OrderType.MARKET))
    before = len(venue.requests)
    with pytest.raises(Unreachable):
        await stage.broker.place(order(stage, Side.BUY, OrderType.MARKET))
    with pytest.raises(Unreachable):
        await stage.broker.account()
    assert len(venue.requests) == before
    await stage.close()
