"""The directory: who shares a broker, and when one is let go."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest

from app.brokers.directory import IDLE_SECONDS, Access, Directory
from app.brokers.port import Broker
from app.domain.market import MarketType
from tests.brokers.contract.paper import access_of


@dataclass(eq=False)
class Opened:
    """A broker that notes when it is closed."""

    is_closed: bool = False

    async def close(self) -> None:
        """Let go."""
        self.is_closed = True


@dataclass
class Shop:
    """A venue that takes a moment to open a broker."""

    opened: list[Any] = field(default_factory=list)

    async def open(self, access: Access) -> Broker:
        """A new one each time."""
        del access
        await asyncio.sleep(0)
        self.opened.append(Opened())
        broker: Broker = self.opened[-1]
        return broker

    async def close(self) -> None:
        """Nothing is shared."""


@dataclass
class Hand:
    """A clock in seconds that is set by hand."""

    seconds: float = 0.0

    def __call__(self) -> float:
        """What it shows."""
        return self.seconds


@pytest.fixture
def shop() -> Shop:
    """Such a venue."""
    return Shop()


@pytest.fixture
def hand() -> Hand:
    """Such a clock."""
    return Hand()


@pytest.fixture
def directory(shop: Shop, hand: Hand) -> Directory:
    """A directory of that venue by that clock."""
    return Directory({"paper": shop}, clock=hand)


async def test_one_broker_serves_all_who_ask_at_the_same_time(directory: Directory, shop: Shop) -> None:
    access = access_of(MarketType.SPOT)
    found = await asyncio.gather(*(directory.open(access) for _ in range(3)))
    assert len(set(map(id, found))) == 1
    assert [each.is_closed for each in shop.opened if each is not found[0]] == [True, True]
    assert not shop.opened[shop.opened.index(found[0])].is_closed


async def test_other_credentials_open_another_and_close_the_old(directory: Directory, shop: Shop) -> None:
    access = access_of(MarketType.SPOT)
    first = await directory.open(access)
    second = await directory.open(replace(access, credentials_version=2))
    assert [each.is_closed for each in shop.opened] == [True, False]
    assert first is not second


async def test_what_is_opened_aside_leaves_the_connections_own_in_use(
    directory: Directory, shop: Shop
) -> None:
    access = access_of(MarketType.SPOT)
    own = await directory.open(access)
    async with directory.aside(replace(access, credentials_version=2)) as other:
        assert other is not own
        assert await directory.open(access) is own
    assert [each.is_closed for each in shop.opened] == [False, True]


async def test_what_nobody_asks_for_is_let_go_and_what_is_asked_for_stays(
    directory: Directory, shop: Shop, hand: Hand
) -> None:
    idle, used, new = (access_of(MarketType.SPOT) for _ in range(3))
    await directory.open(idle)
    kept = await directory.open(used)
    hand.seconds = IDLE_SECONDS - 1
    assert await directory.open(used) is kept
    hand.seconds = IDLE_SECONDS + 1
    await directory.open(new)
    assert [each.is_closed for each in shop.opened] == [True, False, False]
    assert await directory.open(used) is kept
    await directory.open(idle)
    assert len(shop.opened) == 4


async def test_forgetting_closes_and_so_does_the_end(directory: Directory, shop: Shop) -> None:
    first, second = (access_of(MarketType.SPOT) for _ in range(2))
    await directory.open(first)
    await directory.open(second)
    await directory.forget(first.connection_id)
    await directory.forget(uuid4())
    assert [each.is_closed for each in shop.opened] == [True, False]
    await directory.close()
    assert [each.is_closed for each in shop.opened] == [True, True]
