"""How a venue's name for an account is asked for, and read from what it answers."""

from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import ccxt.async_support as library
import pytest

from app.brokers.crypto.catalogue import catalogue
from app.brokers.crypto.exchange import Call, calling
from app.brokers.crypto.permissions import name_of
from app.domain.market import MarketType
from tests.wire.classes import CREDENTIALS, driven
from tests.wire.test_practice import MARKS

_SPOT, _SWAP = MarketType.SPOT, MarketType.SWAP

_ALIAS: Final = [{"accountAlias": "SgsR", "asset": "USDT", "balance": "1"}, {"accountAlias": "SgsR"}]
_KUCOIN: Final = {"code": "200000", "data": {"apiKey": "k", "uid": 165111215, "isMaster": True}}

TOLD: Final[list[tuple[str, MarketType, str, Any, str]]] = [
    ("binance", _SPOT, "api.binance.com/api/v3/account?", {"uid": 354937868, "balances": []}, "354937868"),
    ("binance", _SWAP, "fapi.binance.com/fapi/v3/balance?", _ALIAS, "SgsR"),
    ("binanceusdm", _SWAP, "fapi.binance.com/fapi/v3/balance?", _ALIAS, "SgsR"),
    ("bitget", _SPOT, "/api/v2/spot/account/info", {"code": "00000", "data": {"userId": "7"}}, "7"),
    ("bitget", _SWAP, "/api/v2/spot/account/info", {"code": "00000", "data": {"userId": "7"}}, "7"),
    ("bingx", _SWAP, "/openApi/account/v1/uid?", {"code": 0, "data": {"uid": 16788}}, "16788"),
    ("gate", _SWAP, "/api/v4/account/detail", {"user_id": 1667201533, "tier": 2}, "1667201533"),
    ("htx", _SPOT, "/v2/user/uid?", {"code": 200, "data": 63628520}, "63628520"),
    ("kucoin", _SPOT, "/api/v1/user/api-key", _KUCOIN, "165111215"),
    ("kucoinfutures", _SWAP, "/api/v1/user/api-key", _KUCOIN, "165111215"),
    ("mexc", _SPOT, "/api/v3/uid?", {"uid": "209302839"}, "209302839"),
    # What a class requires to sign with is the account's own name.
    ("woofipro", _SWAP, "nothing is asked", {}, CREDENTIALS["accountId"]),
    ("coinmate", _SPOT, "nothing is asked", {}, CREDENTIALS["uid"]),
]


@pytest.mark.parametrize(("exchange", "market_type", "address", "answer", "name"), TOLD)
async def test_the_name_is_read_from_the_venues_answer(
    exchange: str, market_type: MarketType, address: str, answer: Any, name: str
) -> None:
    async with driven(exchange, market_type, {address: answer}) as venue:
        with calling(Call()):
            assert await name_of(venue.exchange, market_type) == name


@pytest.mark.parametrize(
    "answer", [{"balances": []}, {"uid": None}, {"uid": ""}, [], {"code": -2015, "msg": "No permission."}]
)
async def test_a_venue_that_does_not_say_tells_no_name(answer: Any) -> None:
    async with driven("binance", _SPOT, {"/api/v3/account?": answer}) as venue:
        with calling(Call()):
            assert await name_of(venue.exchange, _SPOT) is None


@pytest.mark.parametrize("exchange", ["binance", "gate", "htx"])
async def test_a_venue_out_of_reach_is_no_answer(exchange: str) -> None:
    async with driven(exchange, _SPOT, {}) as venue:
        with calling(Call()), pytest.raises(library.NetworkError):
            await name_of(venue.exchange, _SPOT)


@pytest.mark.parametrize("exchange", ["kraken", "binanceus", "bitstamp"])
async def test_a_name_that_is_merely_given_names_nothing(exchange: str) -> None:
    """`uid` may be among any credentials; what the class does not sign with proves nothing."""
    async with driven(exchange, _SPOT, {}) as venue:
        with calling(Call()):
            assert await name_of(venue.exchange, _SPOT) is None


PRACTICE: Final = [
    (exchange, market_type)
    for exchange, market_type, *_ in TOLD
    if catalogue()[exchange].has_sandbox and exchange not in ("woofipro", "coinmate")
]


@pytest.mark.parametrize(("exchange", "market_type"), PRACTICE)
async def test_practice_accounts_are_asked_for_their_name_there(
    exchange: str, market_type: MarketType
) -> None:
    live = await _addresses(exchange, market_type, sandbox=False)
    practice = await _addresses(exchange, market_type, sandbox=True)
    assert live
    assert not live & practice


async def _addresses(exchange: str, market_type: MarketType, *, sandbox: bool) -> set[tuple[str, bool]]:
    """Where the question goes, and whether a header says that it is practice."""
    async with driven(exchange, market_type, {}, sandbox=sandbox) as venue:
        with calling(Call()), suppress(library.NetworkError):
            await name_of(venue.exchange, market_type)
        return {
            (urlsplit(sent.url).netloc, any(mark in map(str.lower, sent.headers) for mark in MARKS))
            for sent in venue.taken()
        }
