"""The catalogue says what ccxt says, and the table of profiles holds what the classes take."""

import asyncio

import ccxt.async_support as library
import pytest

from app.brokers.crypto import listed_exchanges
from app.brokers.crypto.catalogue import catalogue
from app.brokers.crypto.credentials import KNOWN_FIELDS, for_class
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.ways import Shape, shaped
from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.domain.orders import client_order_id
from app.store.schema import new_id


def test_every_class_that_trades_spot_or_swap_is_listed() -> None:
    trading = {
        each
        for each in library.exchanges
        if any(getattr(library, each)().has.get(kind) for kind in ("spot", "swap"))
    }
    assert set(catalogue()) == trading
    assert len(trading) > 90


async def test_all_who_ask_at_once_wait_for_one_reading() -> None:
    catalogue.cache_clear()
    read = await asyncio.gather(*(listed_exchanges() for _ in range(8)))
    assert catalogue.cache_info().misses == 1
    assert all(each is read[0] for each in read)


def test_credential_fields_are_those_the_class_requires() -> None:
    entries = catalogue()
    assert entries["binance"].credential_fields == ("api_key", "api_secret")
    assert entries["okx"].credential_fields == ("api_key", "api_secret", "api_passphrase")
    assert entries["hyperliquid"].credential_fields == ("private_key", "wallet_address")
    assert {field for each in entries.values() for field in each.credential_fields} <= KNOWN_FIELDS


@pytest.mark.parametrize("exchange", sorted(library.exchanges))
def test_required_credentials_satisfy_the_class(exchange: str) -> None:
    entry = catalogue().get(exchange)
    if entry is None:
        pytest.skip("it trades neither spot nor swap")
    opened = getattr(library, exchange)(for_class(dict.fromkeys(entry.credential_fields, "x")))
    assert opened.check_required_credentials(False) is True


def test_what_nobody_has_looked_into_is_treated_with_caution() -> None:
    profile = profile_of("an-exchange-nobody-knows", MarketType.SPOT)
    assert profile.is_proven is False
    assert profile.style is NativeStyle.NONE
    assert profile.refusals == {}


def test_ids_have_the_shape_of_their_venue_and_differ_by_attempt() -> None:
    order_id = new_id()
    first, second = client_order_id(order_id, 1), client_order_id(order_id, 2)
    for shape in Shape:
        assert shaped(first, shape) != shaped(second, shape)
        assert shaped(first, shape) == shaped(first, shape)
    assert len(shaped(first, Shape.HEX28)) == 28
    assert int(shaped(first, Shape.INTEGER63)) < 2**63
    assert int(shaped(first, Shape.INTEGER45)) < 2**45
