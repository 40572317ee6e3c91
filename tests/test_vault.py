"""The vault: what is sealed for one row opens for that row, under any key that is still there."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.settings import new_vault_key
from app.vault import CannotOpen, Vault

CREDENTIALS = {"api_key": "canary-key-1", "api_secret": "canary-secret-2"}
ROW = uuid4()


def _keys(count: int) -> list[SecretStr]:
    return [SecretStr(new_vault_key()) for _ in range(count)]


@given(
    st.dictionaries(st.text(), st.text(st.characters(exclude_categories=["Cs"]))), st.uuids(), st.integers(1)
)
def test_what_was_sealed_is_opened(credentials: dict[str, str], row: UUID, version: int) -> None:
    vault = Vault.open(_keys(1))
    sealed = vault.seal(credentials, row_id=row, version=version)
    assert vault.unseal(sealed, row_id=row, version=version) == credentials


def test_nothing_shows_through() -> None:
    vault = Vault.open(_keys(1))
    sealed = vault.seal(CREDENTIALS, row_id=ROW, version=1)
    assert b"canary" not in sealed
    assert sealed != vault.seal(CREDENTIALS, row_id=ROW, version=1)


def test_a_newer_key_seals_and_the_older_one_still_opens() -> None:
    old, new = _keys(2)
    before, after = Vault.open([old]), Vault.open([new, old])
    sealed = before.seal(CREDENTIALS, row_id=ROW, version=1)
    assert after.unseal(sealed, row_id=ROW, version=1) == CREDENTIALS
    resealed = after.seal(CREDENTIALS, row_id=ROW, version=1)
    assert Vault.open([new]).unseal(resealed, row_id=ROW, version=1) == CREDENTIALS
    with pytest.raises(CannotOpen, match="a key this process does not have"):
        before.unseal(resealed, row_id=ROW, version=1)


@pytest.mark.parametrize(("row", "version"), [(uuid4(), 1), (ROW, 2)])
def test_what_is_sealed_for_one_row_opens_for_no_other(row: UUID, version: int) -> None:
    vault = Vault.open(_keys(1))
    sealed = vault.seal(CREDENTIALS, row_id=ROW, version=1)
    with pytest.raises(CannotOpen) as raised:
        vault.unseal(sealed, row_id=row, version=version)
    assert "canary" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_another_key_is_put_around_the_same_contents() -> None:
    old, new = _keys(2)
    sealed = Vault.open([old]).seal(CREDENTIALS, row_id=ROW, version=1)
    rewrapped = Vault.open([new, old]).rewrap(sealed, row_id=ROW, version=1)
    assert Vault.open([new]).unseal(rewrapped, row_id=ROW, version=1) == CREDENTIALS
    assert rewrapped[-40:] == sealed[-40:], "what is inside stays closed"
    with pytest.raises(CannotOpen):
        Vault.open([old]).unseal(rewrapped, row_id=ROW, version=1)
    with pytest.raises(CannotOpen):
        Vault.open([new, old]).rewrap(sealed, row_id=ROW, version=2)


@pytest.mark.parametrize("length", [0, 3, 8, 15, 20, 30, 67, 68, 80, 90])
def test_what_was_cut_short_or_altered_is_refused(length: int) -> None:
    vault = Vault.open(_keys(1))
    sealed = vault.seal(CREDENTIALS, row_id=ROW, version=1)
    for broken in (sealed[:length], sealed[:length] + bytes([sealed[length] ^ 1]) + sealed[length + 1 :]):
        with pytest.raises(CannotOpen):
            vault.unseal(broken, row_id=ROW, version=1)


def test_keys_are_never_printed() -> None:
    keys = _keys(2)
    vault = Vault.open(keys)
    printed = f"{vault!r} {vault} {vars(vault)}"
    for key in keys:
        assert key.get_secret_value().removeprefix("k1_")[:16] not in printed


def test_a_vault_has_a_key() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        Vault.open([])
