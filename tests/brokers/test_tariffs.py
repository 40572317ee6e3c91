"""What requests cost at each venue, and what its answers say of its limits."""

from collections.abc import Mapping

import pytest

from app.brokers.crypto.tariffs import Asked, Toll, charges_of, tariff_of
from app.brokers.limits.buckets import Charge, Urgency
from app.brokers.limits.gate import Gate
from app.brokers.limits.ledger import Ledger, Verdict

ADDRESS, ANN = "venue:live:from:here", "venue:live:of:ann"
NOW = 1_790_000_040.0 + 30
"""Half a minute into a minute."""

LOOK = Asked("GET", "order", 1)

USDM = tariff_of("binanceusdm", "swap", 0.05)
BYBIT = tariff_of("bybit", "swap", 0.02)
UNKNOWN = tariff_of("kraken", "spot", 1.0)


def taken(exchange: str, market_type: str, asked: Asked, account: str | None = ANN) -> dict[str, float]:
    """Units by bucket."""
    charges = charges_of(tariff_of(exchange, market_type, 0.05), asked, ADDRESS, account)
    return {each.bucket: each.units for each in charges}


class TestCharges:
    @pytest.mark.parametrize("path", ["order", "algoOrder"])
    def test_an_order_at_usd_m_counts_for_its_account_and_not_for_the_address(self, path: str) -> None:
        assert taken("binanceusdm", "swap", Asked("POST", path, 4)) == {
            f"{ANN}/orders-10s": 1,
            f"{ANN}/orders-1m": 1,
        }

    def test_a_look_up_counts_for_the_address_and_not_as_an_order(self) -> None:
        assert taken("binanceusdm", "swap", Asked("GET", "order", 1)) == {f"{ADDRESS}/weight": 1}
        assert taken("binanceusdm", "swap", Asked("DELETE", "order", 1)) == {f"{ADDRESS}/weight": 1}

    @pytest.mark.parametrize("path", ["positionRisk", "account", "balance"])
    def test_what_usd_m_weighs_more_than_the_class_says(self, path: str) -> None:
        assert taken("binanceusdm", "swap", Asked("GET", path, 1)) == {f"{ADDRESS}/weight": 5}

    def test_weights_of_spot_are_five_of_the_class_s_units(self) -> None:
        assert taken("binance", "spot", Asked("GET", "account", 4)) == {f"{ADDRESS}/weight": 20}
        assert taken("binance", "spot", Asked("POST", "orderList/oco", 0.2)) == {
            f"{ADDRESS}/weight": 1,
            f"{ANN}/orders-10s": 1,
        }

    def test_what_goes_to_another_api_counts_for_none_of_these(self) -> None:
        key = Asked("GET", "account/apiRestrictions", 0.1, "sapi")
        assert taken("binanceusdm", "swap", key) == taken("binance", "spot", key) == {}

    def test_the_api_of_usd_m_is_one_whichever_class_asks(self) -> None:
        assert tariff_of("binance", "swap", 0.05) is tariff_of("binanceusdm", "swap", 0.05)

    def test_bybit_counts_requests_of_an_address_and_each_endpoint_of_an_account(self) -> None:
        assert taken("bybit", "swap", Asked("POST", "v5/order/create", 2.5)) == {
            f"{ADDRESS}/requests": 1,
            f"{ANN}/endpoint/v5/order/create": 5,
        }

    def test_who_has_no_key_answers_for_the_address_alone(self) -> None:
        assert taken("bybit", "swap", Asked("GET", "v5/market/tickers", 5), None) == {
            f"{ADDRESS}/requests": 1
        }

    def test_an_exchange_nobody_has_looked_into_keeps_the_pace_of_its_class(self) -> None:
        [charge] = charges_of(UNKNOWN, Asked("POST", "AddOrder", 3), ADDRESS, ANN)
        assert (charge.bucket, charge.drain) == (f"{ADDRESS}/units", 3.0)


async def wait_of(ledger: Ledger, charge: Charge, *scopes: str) -> Verdict:
    """What an exit would be told."""
    return await ledger.take(scopes or (ADDRESS,), [charge], Urgency.EXIT)


class TestAnswers:
    @pytest.fixture
    def ledger(self) -> Ledger:
        """A ledger at NOW."""
        return Ledger(clock=lambda: NOW)

    def heed(
        self,
        ledger: Ledger,
        tariff_name: str,
        headers: Mapping[str, str],
        *,
        status: int = 200,
        code: str | None = None,
        account: str | None = ANN,
        sent_at: float = NOW,
        asked: Asked = LOOK,
    ) -> None:
        """Let an answer be read."""
        tariff = {"usdm": USDM, "bybit": BYBIT, "unknown": UNKNOWN}[tariff_name]
        Toll(Gate(ledger, ADDRESS), tariff, account).heed(asked, code, status, headers, sent_at)

    async def test_used_weight_is_taken_over(self, ledger: Ledger) -> None:
        self.heed(ledger, "usdm", {"X-MBX-USED-WEIGHT-1M": "2400"})
        [charge] = charges_of(USDM, Asked("GET", "order", 1), ADDRESS, ANN)
        assert 30 <= (await wait_of(ledger, charge)).wait <= 31

    async def test_the_weight_of_another_api_is_not_taken_over(self, ledger: Ledger) -> None:
        other = Asked("GET", "account/apiRestrictions", 0.1, "sapi")
        self.heed(ledger, "usdm", {"X-MBX-USED-WEIGHT-1M": "2400"}, asked=other)
        [charge] = charges_of(USDM, LOOK, ADDRESS, ANN)
        assert (await wait_of(ledger, charge)).wait == 0

    async def test_the_last_minute_s_weight_is_not_this_minute_s(self, ledger: Ledger) -> None:
        self.heed(ledger, "usdm", {"X-MBX-USED-WEIGHT-1M": "2400"}, sent_at=NOW - 31)
        self.heed(ledger, "usdm", {"X-MBX-USED-WEIGHT-1M": "2400"}, sent_at=NOW - 29.5)
        [charge] = charges_of(USDM, Asked("GET", "order", 1), ADDRESS, ANN)
        assert (await wait_of(ledger, charge)).wait == 0

    async def test_a_count_of_orders_is_of_the_account_that_asked(self, ledger: Ledger) -> None:
        self.heed(ledger, "usdm", {"X-MBX-ORDER-COUNT-1M": "1200"})
        order = Asked("POST", "order", 4)
        ann, ben = (charges_of(USDM, order, ADDRESS, each)[1] for each in (ANN, "venue:live:of:ben"))
        assert (await wait_of(ledger, ann)).wait >= 30
        assert (await wait_of(ledger, ben)).wait == 0

    async def test_what_bybit_has_left_is_of_the_account_and_endpoint(self, ledger: Ledger) -> None:
        headers = {
            "X-Bapi-Limit": "10",
            "X-Bapi-Limit-Status": "0",
            "X-Bapi-Limit-Reset-Timestamp": str(int((NOW + 0.8) * 1000)),
        }
        self.heed(ledger, "bybit", headers, asked=Asked("POST", "v5/order/create", 2.5))
        create, cancel = (
            charges_of(BYBIT, Asked("POST", path, 2.5), ADDRESS, ANN)[1]
            for path in ("v5/order/create", "v5/order/cancel")
        )
        assert (await wait_of(ledger, create)).wait >= 0.8
        assert (await wait_of(ledger, cancel)).wait == 0

    @pytest.mark.parametrize(
        ("status", "code", "headers", "address_waits", "account_waits"),
        [
            (429, "-1003", {"Retry-After": "7"}, 7, 7),
            (418, "-1003", {"retry-after": "120"}, 120, 120),
            (429, "-1015", {"Retry-After": "4"}, 0, 4),
            (418, None, {}, 60, 60),
            (429, None, {}, 5, 5),
            (429, None, {"Retry-After": "soon"}, 5, 5),
            (429, None, {"Retry-After": "Mon, 21 Sep 2026 14:14:40 GMT"}, 10, 10),
            (200, None, {}, 0, 0),
            (503, None, {"Retry-After": "3600"}, 0, 0),
        ],
    )
    async def test_who_is_told_to_be_silent_and_for_how_long(
        self,
        ledger: Ledger,
        status: int,
        code: str | None,
        headers: Mapping[str, str],
        address_waits: float,
        account_waits: float,
    ) -> None:
        self.heed(ledger, "usdm", headers, status=status, code=code)
        asked = charges_of(USDM, Asked("POST", "order", 4), ADDRESS, ANN)[0]
        assert (await wait_of(ledger, asked)).wait == pytest.approx(address_waits, abs=0.01)
        assert (await wait_of(ledger, asked, ADDRESS, ANN)).wait == pytest.approx(account_waits, abs=0.01)

    async def test_bybit_s_ban_is_a_403_of_ten_minutes(self, ledger: Ledger) -> None:
        self.heed(ledger, "bybit", {}, status=403)
        assert ledger.silence_of([ADDRESS]) == Verdict(600, ADDRESS)

    @pytest.mark.parametrize("reset", ["20", str(int(NOW) + 20), str(int(NOW * 1000) + 20_000)])
    @pytest.mark.parametrize("family", ["X-RateLimit-", "RateLimit-", "x-rate-limit-"])
    async def test_the_usual_headers_silence_whoever_asked_when_nothing_is_left(
        self, ledger: Ledger, family: str, reset: str
    ) -> None:
        self.heed(ledger, "unknown", {f"{family}Remaining": "3", f"{family}Reset": reset})
        assert ledger.silence_of([ADDRESS, ANN]) is None
        self.heed(ledger, "unknown", {f"{family}Remaining": "0", f"{family}Reset": reset})
        assert ledger.silence_of([ADDRESS]) is None
        silence = ledger.silence_of([ANN])
        assert silence is not None
        assert silence.wait == pytest.approx(20, abs=0.1)

    async def test_a_quota_of_the_day_does_not_silence_for_the_day(self, ledger: Ledger) -> None:
        self.heed(
            ledger, "unknown", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "40000"}, account=None
        )
        assert ledger.silence_of([ADDRESS]) == Verdict(60, ADDRESS)
