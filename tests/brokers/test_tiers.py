"""Tiers say what the tests prove: no more, and no less."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import ccxt.async_support as library
import pytest

from app.brokers.crypto import open_crypto
from app.brokers.crypto.catalogue import catalogue
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.stops import HELD, SOFTWARE_ONLY, STOP_ONLY
from app.brokers.crypto.tiers import CERTIFIED, COMPATIBLE, UNSERVED, Tier, tier_of
from app.brokers.crypto.ways import CAUTIOUS_SETTLE, VALIDITY
from app.brokers.directory import Access
from app.brokers.port import Refused
from app.domain.errors import Invalid
from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.engine.offers import METATRADER, PAPER, check_market, offers
from app.local.exchanges import markdown, plain
from app.settings import new_vault_key, vault_key_bytes
from app.vault import Vault
from tests.brokers.contract.conftest import STAGES
from tests.desks import START
from tests.wire.table import STOPS, WIRES

SPOT, SWAP = MarketType.SPOT, MarketType.SWAP
OFFERED = {(entry.id, kind) for entry in catalogue().values() for kind in entry.market_types}


def test_certified_is_what_passes_the_contract() -> None:
    crypto = {f"{exchange}-{kind}" for exchange, kind in CERTIFIED}
    metatrader = {"mt4", "mt4-tens", "mt5-hedging", "mt5-netting", "mt5-tens"}
    assert set(STAGES) - crypto == {"paper-spot", "paper-swap", *metatrader}
    assert crypto <= STAGES.keys()
    certified = {offer.id for offer in (PAPER, *METATRADER.values()) if offer.tier is Tier.CERTIFIED}
    assert certified == {"paper", "mt4", "mt5"}


def test_compatible_is_what_has_been_read_on_the_wire() -> None:
    assert set(WIRES) == COMPATIBLE
    assert not CERTIFIED & COMPATIBLE


@pytest.mark.parametrize(("exchange", "market_type"), sorted(COMPATIBLE))
def test_what_is_compatible_sends_nothing_that_was_not_read(exchange: str, market_type: MarketType) -> None:
    profile = profile_of(exchange, market_type)
    # Market and limit orders and exits are read everywhere, conditional orders where they have a table.
    assert (profile.style is not NativeStyle.NONE) == ((exchange, market_type) in STOPS)
    # What only a simulator could measure is not believed.
    assert profile.is_proven is False


def test_what_holds_stops_is_what_has_been_read_on_the_wire() -> None:
    assert set(STOPS) == set(HELD) <= COMPATIBLE
    assert set(SOFTWARE_ONLY) <= COMPATIBLE - set(HELD)


def test_who_holds_stops_alone_has_a_reason() -> None:
    assert set(STOP_ONLY) == {case for case in HELD if profile_of(*case).style is NativeStyle.STOP_ONLY}


@pytest.mark.parametrize(("exchange", "market_type"), sorted(COMPATIBLE))
def test_a_class_that_could_leave_stops_at_its_venue_does_or_it_is_said_why_not(
    exchange: str, market_type: MarketType
) -> None:
    told = getattr(library, exchange)().features.get(market_type) or {}
    features = (told.get("linear") or {}) if market_type is SWAP else told
    creates = features.get("createOrder") or {}
    if creates.get("stopLossPrice") or creates.get("triggerPrice"):
        assert (exchange, market_type) in HELD.keys() | SOFTWARE_ONLY.keys()


@pytest.mark.parametrize("exchange", sorted(library.exchanges))
def test_absence_is_believed_only_of_who_was_measured(exchange: str) -> None:
    for market_type in (SPOT, SWAP):
        profile = profile_of(exchange, market_type)
        if (exchange, market_type) not in CERTIFIED:
            assert profile.is_proven is False
        if (exchange, market_type) not in CERTIFIED | COMPATIBLE:
            assert profile.style is NativeStyle.NONE
        ends = profile.window_option is not None or profile.deadline is not None
        if not ends and "recvWindow" not in profile.order_params:
            assert profile.settle >= CAUTIOUS_SETTLE
        assert profile.settle >= VALIDITY + timedelta(seconds=10)


def test_an_exchange_is_as_good_as_the_weakest_of_its_markets() -> None:
    assert tier_of("binance", [SPOT, SWAP]) is Tier.CERTIFIED
    assert tier_of("okx", [SPOT, SWAP]) is Tier.COMPATIBLE
    assert tier_of("cryptocom", [SPOT]) is Tier.COMPATIBLE
    assert tier_of("cryptocom", [SPOT, SWAP]) is Tier.LISTED
    tiers = {entry.id: entry.tier for entry in catalogue().values()}
    assert {each for each, tier in tiers.items() if tier is Tier.CERTIFIED} == {
        "binance",
        "binanceusdm",
        "bybit",
    }
    assert tiers["okx"] is tiers["kraken"] is tiers["kucoin"] is Tier.COMPATIBLE
    assert tiers["htx"] is Tier.LISTED


@pytest.mark.parametrize(("exchange", "market_type"), sorted(UNSERVED.keys() & OFFERED))
async def test_no_account_is_opened_where_a_position_could_not_be_left_by_an_order_that_does_only_that(
    exchange: str, market_type: MarketType
) -> None:
    with pytest.raises(Invalid) as invalid:
        check_market((await offers())[exchange], market_type, sandbox=False)
    assert "No account is opened there" in str(invalid.value)
    accounts = open_crypto(Vault([vault_key_bytes(new_vault_key())]), {}, lambda: START)
    access = Access(uuid4(), 1, "crypto", exchange, market_type, False, Decimal(1), False, None, None)
    with pytest.raises(Refused) as refused:
        await accounts.open(access)
    await accounts.close()
    assert (refused.value.code, str(refused.value)) == ("terms_not_served", UNSERVED[exchange, market_type])


async def test_the_table_of_the_readme_is_what_the_command_prints() -> None:
    known = (await offers()).values()
    readme = Path(__file__).parents[2] / "README.md"
    assert f"\n{markdown(known)}\n" in readme.read_text()
    assert len(plain(known).splitlines()) == len(known)
