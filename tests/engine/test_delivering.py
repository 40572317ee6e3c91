"""Delivering: what is told goes to every channel that carries its type, once per id, for as long as a day."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from standardwebhooks.webhooks import Webhook

from app.channels.outlets import Outlets
from app.channels.webhook import Webhooks
from app.desk import Desk
from app.domain.owners import Owner, Role
from app.domain.risk import Mode
from app.engine import delivering, halting, rekeying
from app.engine.channels import Wish
from app.engine.channels import replace as replace_channels
from app.engine.delivering import LIFETIME, LONGEST_PAUSE, pause
from app.engine.notifying import notify
from app.engine.sweeping import Finding, Kind, carry_out, sweep, sweep_deliveries
from app.settings import new_vault_key
from app.store.channels import Channel, ChannelKind, Delivery, DeliveryStatus
from app.store.notifications import Notification, NotificationType
from app.vault import Vault
from tests.channels.receivers import Receiver, running_receiver
from tests.desks import USER, Clock, ListQueue, add_connection, opened_desk
from tests.servers import free_port
from workers import jobs

ALL = tuple(NotificationType)
OTHER = Owner(Role.USER, "user-2")


@pytest.fixture
def clock() -> Clock:
    """The clock of the desk."""
    return Clock()


@pytest.fixture
async def desk(database_url: str, clock: Clock) -> AsyncIterator[Desk]:
    """A desk whose webhooks may lead to loopback."""
    outlets = Outlets({ChannelKind.WEBHOOK: Webhooks(private_targets=True)})
    async with opened_desk(database_url, clock) as desk:
        delivering.attach(desk)
        yield replace(desk, outlets=outlets)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Somebody's webhook."""
    async with running_receiver() as running:
        yield running


async def listen(
    desk: Desk, *urls: str, owner: Owner = USER, types: Sequence[NotificationType] = ALL
) -> dict[str, str]:
    """Let these webhooks be all the channels of an owner; answers their secrets by their URLs."""
    wishes = [Wish(f"hook {number}", ChannelKind.WEBHOOK, types, url) for number, url in enumerate(urls)]
    made = await replace_channels(desk, owner, wishes)
    return {each.target or "": made[each.id] for each in await channels(desk) if each.id in made}


async def tell(desk: Desk, *titles: str, owner: Owner = USER, type: NotificationType = ALL[0]) -> None:
    """Tell an owner something, each in a transaction of its own."""
    for title in titles:
        async with desk.sessions.begin() as session:
            notify(session, owner, type, title, "What happened.", now=desk.now())


async def channels(desk: Desk) -> Sequence[Channel]:
    """Every channel there is or was."""
    async with desk.sessions() as session:
        return (await session.scalars(select(Channel).order_by(Channel.id))).all()


async def deliveries(desk: Desk) -> Sequence[Delivery]:
    """Every delivery, in the order they were written."""
    async with desk.sessions() as session:
        return (await session.scalars(select(Delivery).order_by(Delivery.id))).all()


def titles(receiver: Receiver) -> list[str]:
    """What a receiver was told."""
    return [each.json["data"]["title"] for each in receiver.received]


async def test_it_goes_to_every_channel_that_carries_its_type_and_to_no_other(
    desk: Desk, receiver: Receiver
) -> None:
    secrets = await listen(desk, f"{receiver.url}/one", f"{receiver.url}/two")
    await listen(desk, f"{receiver.url}/others", owner=OTHER)
    await listen(desk, f"{receiver.url}/an-admins", owner=Owner(Role.ADMIN, USER.id))
    await tell(desk, "first")
    await listen(desk, f"{receiver.url}/one", types=[NotificationType.RISK])
    await tell(desk, "not wanted", type=NotificationType.OPEN)
    await tell(desk, "wanted", type=NotificationType.RISK)
    await jobs.delivery_round(desk)
    assert sorted((each.path, each.json["data"]["title"]) for each in receiver.received) == [
        ("/one", "first"),
        ("/one", "wanted"),
    ], "what waited for a removed channel is given up"
    for each in receiver.received:
        signer, head = Webhook(secrets[f"{receiver.url}/one"]), each.headers
        expected = signer.sign(head["webhook-id"], desk.now(), each.body.decode())
        assert (head["webhook-timestamp"], head["webhook-signature"]) == (
            str(int(desk.now().timestamp())),
            expected,
        )
    by_id = {str(each.id): each for each in await deliveries(desk)}
    assert {each.headers["webhook-id"] for each in receiver.received} < by_id.keys()
    assert {each.status for each in by_id.values()} == {DeliveryStatus.DELIVERED, DeliveryStatus.GIVEN_UP}
    assert [each.last_error for each in by_id.values() if each.delivered_at is None] == [
        "The channel was removed."
    ]


async def test_nothing_is_delivered_of_what_is_not_committed(desk: Desk, receiver: Receiver) -> None:
    await listen(desk, receiver.url)
    with pytest.raises(RuntimeError):
        async with desk.sessions.begin() as session:
            notify(session, USER, ALL[0], "never", "", now=desk.now())
            await session.flush()
            assert len(await _all(session)) == 1
            raise RuntimeError
    assert await deliveries(desk) == []
    assert _rung(desk) == []


async def _all(session: AsyncSession) -> Sequence[Delivery]:
    return (await session.scalars(select(Delivery))).all()


def _rung(desk: Desk) -> list[UUID]:
    """The channels that were rung for."""
    assert isinstance(desk.queue, ListQueue)
    return [id_ for name, id_ in desk.queue.rung if name == "deliver"]


async def test_it_is_rung_for_once_it_is_committed(desk: Desk, receiver: Receiver) -> None:
    await listen(desk, f"{receiver.url}/one", f"{receiver.url}/two")
    async with desk.sessions.begin() as session:
        for _ in range(3):
            notify(session, USER, ALL[0], "title", "", now=desk.now())
        await session.flush()
        assert _rung(desk) == []
    assert sorted(_rung(desk)) == [each.id for each in await channels(desk)]
    await tell(desk, "nobody listens", owner=OTHER)
    assert len(_rung(desk)) == 2


async def test_what_all_are_told_at_once_goes_out_too(desk: Desk, receiver: Receiver) -> None:
    for owner in (USER, OTHER):
        await add_connection(desk, owner=owner)
        await add_connection(desk, owner=owner)
        await listen(desk, f"{receiver.url}/{owner.id}", owner=owner)
    await halting.set_trading(desk, Owner(Role.ADMIN, "zoe"), Mode.REDUCING, "Drill.")
    assert len(_rung(desk)) == 2
    await jobs.delivery_round(desk)
    assert sorted(each.path for each in receiver.received) == [f"/{USER.id}", f"/{OTHER.id}"]
    async with desk.sessions() as session:
        told = (await session.scalars(select(Notification.id))).all()
    assert {each.json["data"]["id"] for each in receiver.received} == {str(each) for each in told}


async def test_one_that_was_down_gets_everything_once_when_it_is_back(desk: Desk, clock: Clock) -> None:
    port = free_port()
    await listen(desk, f"http://127.0.0.1:{port}/")
    await tell(desk, "first", "second")
    for _ in range(4):
        await jobs.delivery_round(desk)
        clock.move(LONGEST_PAUSE.total_seconds())
    await tell(desk, "third")
    assert [(each.status, each.attempts) for each in await deliveries(desk)] == [
        (DeliveryStatus.PENDING, 2),
        (DeliveryStatus.PENDING, 2),
        (DeliveryStatus.PENDING, 0),
    ], "one attempt per pause"
    async with running_receiver(port=port) as receiver:
        await jobs.delivery_round(desk)
        await jobs.delivery_round(desk)
    assert sorted(titles(receiver)) == ["first", "second", "third"]
    sent = [UUID(each.headers["webhook-id"]) for each in receiver.received]
    assert sorted(sent) == [each.id for each in await deliveries(desk)]
    assert {(each.status, each.last_error) for each in await deliveries(desk)} == {
        (DeliveryStatus.DELIVERED, None)
    }
    [channel] = await channels(desk)
    assert (channel.failures, channel.last_error, channel.last_delivered_at) == (0, None, clock())


async def test_pauses_double_up_to_the_longest(desk: Desk, clock: Clock) -> None:
    assert [pause(number).total_seconds() for number in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert pause(9) == pause(10_000) == LONGEST_PAUSE
    await listen(desk, f"http://127.0.0.1:{free_port()}/")
    await tell(desk, "title")
    for number in (1, 2, 3):
        await jobs.delivery_round(desk)
        clock.move(pause(number).total_seconds() - 1)
        await jobs.delivery_round(desk)
        [delivery] = await deliveries(desk)
        assert delivery.attempts == number, "it rests"
        clock.move(1)


async def test_after_a_day_it_is_given_up_and_its_owner_sees_why(
    desk: Desk, receiver: Receiver, clock: Clock
) -> None:
    await listen(desk, receiver.url)
    receiver.answers = [503] * 10_000
    await tell(desk, "old")
    clock.move(3600)
    await tell(desk, "young")
    began = clock()
    while clock() < began + LIFETIME - timedelta(hours=1):
        await jobs.delivery_round(desk)
        clock.move(LONGEST_PAUSE.total_seconds())
    old, young = await deliveries(desk)
    assert (old.status, young.status) == (DeliveryStatus.PENDING,) * 2
    sent = len(receiver.received)
    assert 80 < sent < 200
    await jobs.delivery_round(desk)
    old, young = await deliveries(desk)
    assert (old.status, old.last_error) == (DeliveryStatus.GIVEN_UP, "The receiver answered 503.")
    assert young.status is DeliveryStatus.PENDING
    receiver.answers = []
    clock.move(LONGEST_PAUSE.total_seconds())
    await jobs.delivery_round(desk)
    assert titles(receiver)[-1] == "young"
    clock.move(3600)
    await jobs.delivery_round(desk)
    assert len(receiver.received) == sent + 2


async def test_one_message_that_is_refused_keeps_no_other_from_arriving(
    desk: Desk, receiver: Receiver, clock: Clock
) -> None:
    await listen(desk, receiver.url)
    receiver.answers = [400]
    await tell(desk, "refused", "good", "better")
    await jobs.delivery_round(desk)
    clock.move(pause(1).total_seconds())
    receiver.answers = [200, 200, 400]
    await jobs.delivery_round(desk)
    assert titles(receiver) == ["refused", "good", "better", "refused"]


async def test_a_channel_is_served_by_one_at_a_time(desk: Desk, receiver: Receiver) -> None:
    await listen(desk, receiver.url)
    await tell(desk, *(f"{number}" for number in range(10)))
    [channel] = await channels(desk)
    await asyncio.gather(*(delivering.deliver(desk, channel.id) for _ in range(8)))
    await jobs.delivery_round(desk)
    assert sorted(titles(receiver), key=int) == [f"{number}" for number in range(10)]


async def test_what_was_sent_and_not_recorded_is_sent_again_under_the_same_id(
    desk: Desk, receiver: Receiver, clock: Clock
) -> None:
    await listen(desk, receiver.url)
    await tell(desk, "title")
    receiver.gate.clear()
    [channel] = await channels(desk)
    sending = asyncio.create_task(delivering.deliver(desk, channel.id))
    while not receiver.received:
        await asyncio.sleep(0.01)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    receiver.gate.set()
    await jobs.delivery_round(desk)
    assert len(receiver.received) == 1, "it is its sender's for a while"
    clock.move(2 * desk.outlets.patience.total_seconds())
    await jobs.delivery_round(desk)
    first, again = receiver.received
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert first.body == again.body
    [delivery] = await deliveries(desk)
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.DELIVERED, 2)


async def test_slow_receivers_fill_their_room_and_hold_nothing_else_up(
    desk: Desk, receiver: Receiver
) -> None:
    receiver.gate.clear()
    crowded = replace(desk.outlets, room=asyncio.Semaphore(2))
    desk = replace(desk, outlets=crowded)
    await listen(desk, *(f"{receiver.url}/{number}" for number in range(5)))
    await tell(desk, "title")
    under_way = asyncio.create_task(jobs.delivery_round(desk))
    while len(receiver.received) < 2:
        await asyncio.sleep(0.01)
    await jobs.delivery_round(desk)
    assert len(receiver.received) == 2
    assert await sweep(desk) == [], "no exit stands in line with them"
    receiver.gate.set()
    await under_way
    while await sweep_deliveries(desk):
        await jobs.delivery_round(desk)
    assert {each.path for each in receiver.received} == {f"/{number}" for number in range(5)}


async def test_another_url_gets_what_waited_at_once(desk: Desk, receiver: Receiver) -> None:
    await listen(desk, f"http://127.0.0.1:{free_port()}/")
    await tell(desk, "title")
    await jobs.delivery_round(desk)
    assert await listen(desk, receiver.url) == {}, "its secret stays"
    await jobs.delivery_round(desk)
    assert titles(receiver) == ["title"]


async def test_removing_a_channel_fails_nobody_who_is_just_telling(desk: Desk, receiver: Receiver) -> None:
    await listen(desk, receiver.url)
    async with desk.sessions.begin() as telling:
        notify(telling, USER, ALL[0], "title", "", now=desk.now())
        await telling.flush()
        await replace_channels(desk, USER, [])
        notify(telling, USER, ALL[0], "later", "", now=desk.now())
    await jobs.delivery_round(desk)
    assert receiver.received == []
    [delivery] = await deliveries(desk)
    assert (delivery.status, delivery.last_error) == (DeliveryStatus.GIVEN_UP, "The channel was removed.")
    assert await sweep_deliveries(desk) == []


async def test_a_private_address_is_refused_at_the_last_moment_too(desk: Desk, receiver: Receiver) -> None:
    await listen(desk, receiver.url.replace("127.0.0.1", "localhost"))
    await tell(desk, "title")
    stricter = replace(desk, outlets=Outlets({ChannelKind.WEBHOOK: Webhooks()}))
    await jobs.delivery_round(stricter)
    [channel] = await channels(desk)
    assert channel.last_error == "A webhook's URL is https://."
    assert receiver.received == []


async def test_a_secret_is_in_no_row_and_in_no_line(desk: Desk, receiver: Receiver) -> None:
    with structlog.testing.capture_logs() as lines:
        secrets = await listen(desk, receiver.url)
        await tell(desk, "title")
        receiver.answers = [500]
        await jobs.delivery_round(desk)
    [secret] = secrets.values()
    assert [each["event"] for each in lines] == ["notification_not_delivered"]
    async with desk.sessions() as session:
        [channel] = await session.scalars(select(Channel))
        assert channel.credentials_sealed is not None
        rows: list[Any] = [vars(channel), *(vars(each) for each in await _all(session))]
    assert secret not in f"{lines} {rows}"
    assert secret.removeprefix("whsec_").encode() not in channel.credentials_sealed


async def test_a_change_of_the_vault_key_takes_channels_along(
    desk: Desk, receiver: Receiver, clock: Clock
) -> None:
    old, new = SecretStr(new_vault_key()), SecretStr(new_vault_key())
    before, both, after = (replace(desk, vault=Vault.open(keys)) for keys in ([old], [new, old], [new]))
    [secret] = (await listen(before, receiver.url)).values()
    await tell(desk, "title")
    with pytest.raises(rekeying.MissingKeys, match=rf"{before.vault.sealing_key_id} \(1 credentials\)"):
        await rekeying.check_keys(after)
    [channel] = await channels(desk)
    assert await rekeying.rotate(after) == rekeying.Rekeying(resealed=0, unopened=[channel.id])
    await jobs.delivery_round(after)
    [channel] = await channels(desk)
    assert channel.last_error == "The channel's secret cannot be opened; set it again."
    assert receiver.received == []

    assert await rekeying.rotate(both) == rekeying.Rekeying(resealed=1, unopened=[])
    await rekeying.check_keys(after)
    clock.move(pause(1).total_seconds())
    await jobs.delivery_round(after)
    [got] = receiver.received
    signature = Webhook(secret).sign(got.headers["webhook-id"], clock(), got.body.decode())
    assert got.headers["webhook-signature"] == signature


async def test_a_finding_is_carried_out_by_its_kind(desk: Desk, receiver: Receiver) -> None:
    await listen(desk, receiver.url)
    await tell(desk, "title")
    [channel] = await channels(desk)
    assert await sweep_deliveries(desk) == [Finding(Kind.DELIVER, channel.id)]
    await carry_out(desk, Finding(Kind.DELIVER, channel.id))
    assert titles(receiver) == ["title"]
    assert await sweep_deliveries(desk) == []
