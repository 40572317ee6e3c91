"""Deliveries by real workers: at once when Redis rings, soon without it, and again after one was killed in between."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from app.channels.outlets import PATIENCE
from app.desk import Desk
from app.domain.owners import Owner, Role
from app.engine import delivering
from app.engine.channels import Wish, replace
from app.engine.notifying import notify
from app.store.channels import ChannelKind, Delivery, DeliveryStatus
from app.store.notifications import NotificationType
from tests.channels.receivers import Receiver, running_receiver
from tests.workers.processes import PLAIN_ARQ, until, working
from tests.workers.test_worker import queue_is_heard

ANN: Final = Owner(Role.USER, "ann")

LONG: Final = 90.0
"""Seconds that a busy machine gets."""


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """The variables of an installation whose webhooks may lead to loopback."""
    return {**environment, "ENGINE_PRIVATE_TARGETS": "allowed"}


@pytest.fixture
async def receiver(desk: Desk) -> AsyncIterator[Receiver]:
    """Ann's webhook."""
    delivering.attach(desk)
    async with running_receiver() as receiver:
        wish = Wish("hook", ChannelKind.WEBHOOK, tuple(NotificationType), f"{receiver.url}/canary")
        await replace(desk, ANN, [wish])
        yield receiver


async def tell(desk: Desk, title: str) -> None:
    """Tell Ann something."""
    async with desk.sessions.begin() as session:
        notify(session, ANN, NotificationType.OPEN, title, "It happened.", now=desk.now())


async def deliveries(desk: Desk) -> Sequence[Delivery]:
    """Every delivery."""
    async with desk.sessions() as session:
        return (await session.scalars(select(Delivery).order_by(Delivery.id))).all()


async def all_arrived(desk: Desk) -> bool:
    """Whether nothing waits any more."""
    return {each.status for each in await deliveries(desk)} == {DeliveryStatus.DELIVERED}


async def test_it_is_told_when_it_is_rung_for_and_without_redis_too(
    desk: Desk, receiver: Receiver, environment: dict[str, str], tmp_path: Path
) -> None:
    async with working(environment, tmp_path) as worker:
        await until(lambda: queue_is_heard(environment["ENGINE_REDIS_URL"]), LONG)
        told, is_rung = list[str](), False
        while not is_rung:
            assert len(told) < 30
            # Rounds begin with an even second: what is told after one and has come before the next was rung for.
            await asyncio.sleep((1.2 - time.time() % 1) % 1)
            second = int(time.time())
            told.append(f"rung {len(told)}")
            await tell(desk, told[-1])
            await until(lambda: all_arrived(desk), LONG)
            is_rung = int(time.time()) == second
        async with working({**environment, "ENGINE_REDIS_URL": "redis://127.0.0.1:1/0"}, tmp_path) as unrung:
            assert await worker.stop(LONG) == 0
            await tell(desk, "unrung")
            await until(lambda: all_arrived(desk), LONG)
            assert len(unrung.events("notification_delivered")) == 1
            assert await unrung.stop(LONG) == 0
    titles = [each.json["data"]["title"] for each in receiver.received]
    assert titles == [*told, "unrung"]
    assert worker.problems() == unrung.problems() == []
    assert "canary" not in worker.log.read_text() + unrung.log.read_text()


async def test_a_worker_killed_between_sending_and_recording_leaves_it_to_the_next(
    desk: Desk, receiver: Receiver, environment: dict[str, str], tmp_path: Path
) -> None:
    receiver.gate.clear()
    await tell(desk, "title")
    async with working(environment, tmp_path) as killed:
        await until(lambda: _has_come(receiver, 1), LONG)
        await killed.kill()
    receiver.gate.set()
    async with working(environment, tmp_path) as worker:
        await until(lambda: _has_come(receiver, 2), 2 * PATIENCE.total_seconds() + LONG)
        await until(lambda: all_arrived(desk), LONG)
        assert await worker.stop(LONG) == 0
    first, again = receiver.received
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert first.body == again.body
    [delivery] = await deliveries(desk)
    assert (str(delivery.id), delivery.attempts) == (again.headers["webhook-id"], 2)


async def _has_come(receiver: Receiver, count: int) -> bool:
    return len(receiver.received) >= count


async def test_plain_arq_delivers_what_nobody_rang_for(
    desk: Desk, receiver: Receiver, environment: dict[str, str], tmp_path: Path
) -> None:
    await tell(desk, "title")
    redis = Redis.from_url(environment["ENGINE_REDIS_URL"])
    await redis.flushall()
    await redis.aclose()
    async with working(environment, tmp_path, PLAIN_ARQ) as worker:
        await until(lambda: all_arrived(desk), LONG)
        assert await worker.stop(LONG) == 0
    assert len(receiver.received) == 1
