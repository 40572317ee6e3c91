"""Changing the vault key: every credential ends under the newest, whatever is stopped or changed in the middle."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from app.brokers.crypto import open_crypto
from app.brokers.directory import Directory
from app.desk import Desk, open_database, open_sessions
from app.domain.market import MarketType
from app.engine import connections, rekeying
from app.engine.access import broker_of
from app.engine.rekeying import MissingKeys
from app.main import create_app
from app.settings import Settings, new_vault_key
from app.store.connections import Connection, Kind
from app.vault import CannotOpen, Vault
from tests.desks import START, USER, Clock, add_connection, opened_desk
from tests.venues.exchange import Exchange, running_exchange

OLD, NEW = SecretStr(new_vault_key()), SecretStr(new_vault_key())


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    """A desk with the old key alone."""
    async with opened_desk(database_url, Clock()) as desk:
        yield replace(desk, vault=Vault.open([OLD]))


async def sealed(desk: Desk, count: int) -> Sequence[UUID]:
    """So many connections with credentials that name them."""
    ids = []
    for _ in range(count):
        connection = await add_connection(desk)
        await reseal(desk, connection.id, secret_of(connection.id))
        ids.append(connection.id)
    return ids


async def reseal(desk: Desk, connection_id: UUID, secret: str, version: int = 1) -> None:
    """Give a connection credentials under the newest key of this desk."""
    value = desk.vault.seal({"api_secret": secret}, row_id=connection_id, version=version)
    async with desk.sessions.begin() as session:
        await session.execute(
            update(Connection)
            .where(Connection.id == connection_id)
            .values(credentials_sealed=value, credentials_version=version)
        )


async def opened(desk: Desk) -> dict[UUID, str]:
    """What is in every sealed connection, as this desk opens it."""
    async with desk.sessions() as session:
        rows = await session.scalars(select(Connection).where(Connection.credentials_sealed.is_not(None)))
        return {
            row.id: desk.vault.unseal(
                row.credentials_sealed or b"", row_id=row.id, version=row.credentials_version
            )["api_secret"]
            for row in rows
        }


def secret_of(connection_id: UUID) -> str:
    """The secret a connection begins with."""
    return f"secret of {connection_id}"


async def test_all_is_under_the_newest_key_and_the_old_one_may_go(desk: Desk) -> None:
    ids = await sealed(desk, 5)
    bare = await add_connection(desk)
    both = replace(desk, vault=Vault.open([NEW, OLD]))
    assert await rekeying.rotate(both) == rekeying.Rekeying(resealed=5, unopened=[])
    assert await opened(replace(desk, vault=Vault.open([NEW]))) == {each: secret_of(each) for each in ids}
    with pytest.raises(CannotOpen):
        await opened(desk)
    assert await rekeying.rotate(both) == rekeying.Rekeying(resealed=0, unopened=[]), "nothing is left to do"
    async with desk.sessions() as session:
        assert (await session.get_one(Connection, bare.id)).credentials_sealed is None


async def test_a_stopped_rotation_goes_on_where_it_was(desk: Desk) -> None:
    ids = await sealed(desk, 30)
    both = replace(desk, vault=Vault.open([NEW, OLD]))
    running = asyncio.create_task(rekeying.rotate(both))
    while len(await under(desk, both.vault.sealing_key_id)) < 3:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    done = len(await under(desk, both.vault.sealing_key_id))
    assert await opened(both) == {each: secret_of(each) for each in ids}, "readable at every moment"
    assert (await rekeying.rotate(both)).resealed == 30 - done
    assert len(await under(desk, both.vault.sealing_key_id)) == 30


async def under(desk: Desk, key_id: str) -> Sequence[bytes]:
    """What is sealed under a key."""
    async with desk.sessions() as session:
        rows = await session.scalars(select(Connection.credentials_sealed))
        return [value for value in rows if value and value.startswith(key_id.encode())]


async def test_what_is_changed_meanwhile_is_never_overwritten(desk: Desk) -> None:
    ids = await sealed(desk, 20)
    both = replace(desk, vault=Vault.open([NEW, OLD]))
    _, *_ = await asyncio.gather(
        rekeying.rotate(both), *(reseal(desk, each, f"newer of {each}", version=2) for each in ids)
    )
    assert await opened(both) == {each: f"newer of {each}" for each in ids}
    await rekeying.rotate(both)
    assert await opened(replace(desk, vault=Vault.open([NEW]))) == {each: f"newer of {each}" for each in ids}


async def test_what_no_key_opens_is_named_and_left_as_it_is(desk: Desk) -> None:
    [lost] = await sealed(desk, 1)
    other = replace(desk, vault=Vault.open([NEW]))
    [kept] = await sealed(other, 1)
    assert await rekeying.rotate(other) == rekeying.Rekeying(resealed=0, unopened=[lost])
    assert await opened(replace(desk, vault=Vault.open([OLD, NEW]))) == {
        lost: secret_of(lost),
        kept: secret_of(kept),
    }


async def test_a_process_without_a_key_in_use_is_told_which(desk: Desk) -> None:
    await sealed(desk, 2)
    await rekeying.check_keys(desk)
    with pytest.raises(
        MissingKeys, match=rf"ENGINE_VAULT_KEYS.*{desk.vault.sealing_key_id} \(2 credentials\)"
    ):
        await rekeying.check_keys(replace(desk, vault=Vault.open([NEW])))


async def test_an_api_without_a_key_in_use_refuses_to_start(desk: Desk, settings: Settings) -> None:
    await sealed(desk, 1)
    lacking = create_app(settings, replace(desk, vault=Vault.open([NEW])))
    with pytest.raises(MissingKeys, match=desk.vault.sealing_key_id):
        async with lacking.router.lifespan_context(lacking):
            pass
    complete = create_app(settings, replace(desk, vault=Vault.open([NEW, OLD])))
    async with complete.router.lifespan_context(complete):
        assert complete.state.keys_checked


async def test_a_database_that_is_away_keeps_no_process_from_starting(desk: Desk) -> None:
    nowhere = open_database("postgresql+asyncpg://nobody@127.0.0.1:1/nowhere")
    away = replace(desk, sessions=open_sessions(nowhere))
    assert await rekeying.keys_checked(away) is False
    with pytest.raises(ConnectionRefusedError):
        await rekeying.check_keys(away)
    await nowhere.dispose()
    assert await rekeying.keys_checked(desk) is True


@dataclass
class Accounts:
    """Accounts at a simulated exchange and the connections to them, told apart by what is in them."""

    venue: Exchange
    desk: Desk
    """As the processes are that go on while the key is changed: they seal under the old one, and have both."""

    async def connect(self, deposit: int) -> UUID:
        """A connection to an account with that much in it."""
        connection = await connections.create(
            self.desk,
            USER,
            kind=Kind.CRYPTO,
            exchange="binanceusdm",
            market_type=MarketType.SWAP,
            sandbox=False,
            terms={"name": "test", "credentials": self.keys(deposit)},
        )
        return connection.id

    def keys(self, deposit: int) -> dict[str, str]:
        """The credentials of a new account with that much in it."""
        keys = self.venue.open_account({"USDT": str(deposit)})
        return {"api_key": keys.api_key, "api_secret": keys.secret}

    async def balance(self, desk: Desk, connection_id: UUID) -> int:
        """What is in the account that the connection's credentials open, through a broker opened anew."""
        await desk.brokers.forget(connection_id)
        async with desk.sessions() as session:
            connection = await session.get_one(Connection, connection_id)
        broker = await broker_of(desk, connection)
        return int((await broker.account()).balances["USDT"].total)

    def with_keys(self, *keys: SecretStr) -> Desk:
        """A desk of a process that was given these keys, with brokers of its own."""
        vault = Vault.open(keys)
        crypto = open_crypto(vault, {"binanceusdm": self.venue.url}, self.desk.now)
        return replace(self.desk, vault=vault, brokers=Directory({"crypto": crypto}))


@pytest.fixture
async def accounts(desk: Desk) -> AsyncIterator[Accounts]:
    """The exchange, and a process that goes on."""
    async with running_exchange(start=START) as venue:
        going_on = Accounts(venue, desk).with_keys(OLD, NEW)
        yield Accounts(venue, going_on)
        await going_on.brokers.close()


async def test_brokers_are_opened_and_credentials_changed_while_the_key_is(accounts: Accounts) -> None:
    kept = {await accounts.connect(deposit): deposit for deposit in range(1001, 1007)}
    changed = {await accounts.connect(deposit): deposit for deposit in range(2001, 2007)}
    rotating = replace(accounts.desk, vault=Vault.open([NEW, OLD]))
    looks, finished = 0, asyncio.Event()

    async def use(connection_id: UUID, *deposits: int) -> None:
        nonlocal looks
        while not finished.is_set():
            assert await accounts.balance(accounts.desk, connection_id) in deposits
            looks += 1

    async def change_each() -> None:
        for connection_id, deposit in changed.items():
            await connections.change(
                accounts.desk, USER, connection_id, {"credentials": accounts.keys(deposit + 1000)}
            )

    async def rotate_in_pieces() -> None:
        """Stopped after a moment again and again, and begun anew; the last time it comes to its end."""
        for moment in (0.005, 0.01, 0.02, 0.04):
            with suppress(TimeoutError):
                async with asyncio.timeout(moment):
                    await rekeying.rotate(rotating)
        assert (await rekeying.rotate(rotating)).unopened == []

    async with asyncio.TaskGroup() as group:
        for connection_id, deposit in kept.items():
            group.create_task(use(connection_id, deposit))
        for connection_id, deposit in changed.items():
            group.create_task(use(connection_id, deposit, deposit + 1000))
        await asyncio.gather(rotate_in_pieces(), change_each())
        at_the_end = looks
        while looks < at_the_end + len(kept):
            await asyncio.sleep(0.01)
        finished.set()
    assert looks > len(kept)

    # What the others sealed meanwhile is under their first key; now the new one is put in front there too.
    assert (await rekeying.rotate(rotating)).unopened == []
    alone = accounts.with_keys(NEW)
    balances = {each: await accounts.balance(alone, each) for each in (*kept, *changed)}
    await alone.brokers.close()
    assert balances == kept | {each: deposit + 1000 for each, deposit in changed.items()}
