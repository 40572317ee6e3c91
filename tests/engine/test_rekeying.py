"""Changing the vault key: every credential ends under the newest, whatever is stopped or changed in the middle."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from app.desk import Desk
from app.engine import rekeying
from app.engine.rekeying import MissingKeys
from app.settings import new_vault_key
from app.store.connections import Connection
from app.vault import CannotOpen, Vault
from tests.desks import Clock, add_connection, opened_desk

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
    value = desk.vault.seal({"api_secret": secret}, connection_id=connection_id, version=version)
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
                row.credentials_sealed or b"", connection_id=row.id, version=row.credentials_version
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
        MissingKeys, match=rf"ENGINE_VAULT_KEYS.*{desk.vault.sealing_key_id} \(2 connections\)"
    ):
        await rekeying.check_keys(replace(desk, vault=Vault.open([NEW])))
