"""Practice accounts: whatever is asked of them goes to the venue's practice address, from the first request on."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from app.brokers.crypto.catalogue import catalogue
from app.brokers.crypto.exchange import Call, Surroundings, calling, exchange_of
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.transport import Transport
from app.brokers.port import Refused
from app.domain.market import MarketType
from tests.desks import START
from tests.wire.classes import CREDENTIALS, market_of, unlimited
from tests.wire.transport import CapturedLine, Sent

CASES: Final = [(entry.id, kind) for entry in catalogue().values() for kind in entry.market_types]
PRACTICING: Final = [case for case in CASES if catalogue()[case[0]].has_sandbox]
_TRANSPORT: Final = Transport()

MARKS: Final = ("x-simulated-trading", "paptrading")
"""Headers by which venues tell practice from earnest at one address."""

_ASKS_NOTHING: Final = {"pacifica"}
"""Whose class sends nothing before it has an account, so that its addresses are compared."""

_PUBLIC_PAGES: Final = {"exchange.gemini.com"}
"""Where a class reads listings from a page of the venue, which has no practice twin."""


def _opened(
    exchange: str, market_type: MarketType, *, sandbox: bool, keyed: bool
) -> tuple[Any, CapturedLine]:
    line = CapturedLine()
    surroundings = Surroundings(
        _TRANSPORT,
        line,  # type: ignore[arg-type]  # it does what a Line does, and sends nothing
        lambda: START + timedelta(seconds=1),
    )
    profile = profile_of(exchange, market_type)
    credentials = CREDENTIALS if keyed else {}
    return exchange_of(exchange, profile, surroundings, unlimited(), credentials, sandbox=sandbox), line


async def _asked(exchange: str, market_type: MarketType, *, sandbox: bool) -> list[Sent]:
    """What leaves when markets are loaded without a key, and when an account's balance is asked for."""
    keyless, public = _opened(exchange, market_type, sandbox=sandbox, keyed=False)
    keyed, private = _opened(exchange, market_type, sandbox=sandbox, keyed=True)
    keyed.set_markets([market_of(keyed, market_type)])
    with calling(Call()):
        for question in (keyless.load_markets(True), keyed.fetch_balance({"type": market_type.value})):
            # Classes raise anything where an answer is missing; what left is what counts.
            with suppress(Exception):
                await question
    await keyless.close()
    await keyed.close()
    return public.sent + private.sent


def _addresses(exchange: str, market_type: MarketType, *, sandbox: bool) -> set[str]:
    opened, _ = _opened(exchange, market_type, sandbox=sandbox, keyed=False)
    opened.session = None
    return {urlsplit(each).netloc for each in opened.urls["api"].values()}


def _hosts(sent: list[Sent]) -> set[str]:
    return {urlsplit(each.url).netloc for each in sent}


@pytest.mark.parametrize(("exchange", "market_type"), PRACTICING, ids=lambda part: str(part))
async def test_nothing_of_a_practice_account_reaches_the_live_address(
    exchange: str, market_type: MarketType
) -> None:
    practice = await _asked(exchange, market_type, sandbox=True)
    if exchange in _ASKS_NOTHING:
        assert not practice
        assert _addresses(exchange, market_type, sandbox=True).isdisjoint(
            _addresses(exchange, market_type, sandbox=False)
        )
        return
    assert practice
    live = _hosts(await _asked(exchange, market_type, sandbox=False)) - _PUBLIC_PAGES
    for sent in practice:
        marked = any(sent.values(mark) == ["1"] for mark in MARKS)
        assert marked or not _hosts([sent]) & live


@pytest.mark.parametrize(("exchange", "market_type"), CASES, ids=lambda part: str(part))
async def test_who_has_no_practice_accounts_is_refused(exchange: str, market_type: MarketType) -> None:
    if catalogue()[exchange].has_sandbox:
        opened, _ = _opened(exchange, market_type, sandbox=True, keyed=True)
        await opened.close()
        return
    with pytest.raises(Refused) as refusal:
        _opened(exchange, market_type, sandbox=True, keyed=True)
    assert refusal.value.code == "terms_not_served"


def test_a_class_whose_test_address_is_the_live_one_has_none() -> None:
    assert not catalogue()["weex"].has_sandbox
    # Its class names the address of another venue, which would be handed the keys.
    assert not catalogue()["blockchaincom"].has_sandbox
    assert catalogue()["okx"].has_sandbox
    assert catalogue()["bitget"].has_sandbox


@pytest.fixture(autouse=True)
async def _quiet() -> AsyncIterator[None]:
    """Nothing is opened, so nothing is left open."""
    yield
    await _TRANSPORT.close()
