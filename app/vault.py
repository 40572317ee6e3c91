"""The vault: seals credentials, of connections and of channels, and opens them again.

Every value has a data key of its own, which the newest vault key wraps; both layers are AES-256-GCM and both bind
the row the value belongs to (its kind, its id, the version of its credentials), so that a value copied to another row
cannot be opened. A sealed value is the id of its vault key (8 hex digits), the nonce of the wrapping, the wrapped data
key, the nonce of the contents, the contents. Changing the vault key rewraps the data key, never touching the contents.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from app.settings import vault_key_bytes, vault_key_id

Holder = Literal["connection", "channel"]
"""The kind of row that a value belongs to."""

KEY_ID_BYTES: Final = 8
"""A sealed value begins with the id of the vault key that wraps it, this many ASCII characters."""

_NONCE_BYTES: Final = 12
_DATA_KEY_BITS: Final = 256
_WRAPPED_BYTES: Final = _NONCE_BYTES + _DATA_KEY_BITS // 8 + 16


class CannotOpen(Exception):
    """No key of this process opens a sealed value for that row. Never says what is in it."""


class Vault:
    """The keys of a process: the first seals, all of them open."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("a vault needs at least one key")
        self._sealing = vault_key_id(keys[0])
        self._keys = {vault_key_id(key): AESGCM(key) for key in keys}

    @classmethod
    def open(cls, keys: Sequence[SecretStr]) -> Self:
        """A vault with the keys as settings hold them: `k1_` and the urlsafe base64 of 32 bytes."""
        return cls([vault_key_bytes(key.get_secret_value()) for key in keys])

    def __repr__(self) -> str:
        """Names the keys by their ids only."""
        return f"Vault({', '.join(self._keys)})"

    @property
    def sealing_key_id(self) -> str:
        """The id of the key that seals."""
        return self._sealing

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of all keys that open."""
        return frozenset(self._keys)

    def seal(
        self, plaintext: Mapping[str, str], *, row_id: UUID, version: int, kind: Holder = "connection"
    ) -> bytes:
        """Seal credentials for one row under the newest key."""
        row = _identity(kind, row_id, version)
        data_key = AESGCM.generate_key(_DATA_KEY_BITS)
        contents = _encrypt(AESGCM(data_key), json.dumps(dict(plaintext)).encode(), row.encode())
        return self._wrap(data_key, row) + contents

    def unseal(
        self, sealed: bytes, *, row_id: UUID, version: int, kind: Holder = "connection"
    ) -> dict[str, str]:
        """The credentials that were sealed for this row. Raises CannotOpen."""
        row = _identity(kind, row_id, version)
        data_key, contents = self._unwrap(sealed, row)
        try:
            encoded = _decrypt(AESGCM(data_key), contents, row.encode())
        except (InvalidTag, ValueError):
            raise _altered(sealed, row) from None
        opened: dict[str, str] = json.loads(encoded)
        return opened

    def rewrap(self, sealed: bytes, *, row_id: UUID, version: int, kind: Holder = "connection") -> bytes:
        """The same value under the newest key; what is in it stays closed meanwhile. Raises CannotOpen."""
        row = _identity(kind, row_id, version)
        data_key, contents = self._unwrap(sealed, row)
        return self._wrap(data_key, row) + contents

    def _wrap(self, data_key: bytes, row: str) -> bytes:
        return self._sealing.encode() + _encrypt(self._keys[self._sealing], data_key, row.encode())

    def _unwrap(self, sealed: bytes, row: str) -> tuple[bytes, bytes]:
        """The data key of a sealed value, and its contents as they are."""
        name = sealed[:KEY_ID_BYTES].decode("ascii", "replace")
        key = self._keys.get(name)
        if key is None:
            raise CannotOpen(f"{row} is sealed under a key this process does not have.")
        wrapped, contents = (
            sealed[KEY_ID_BYTES:][:_WRAPPED_BYTES],
            sealed[KEY_ID_BYTES + _WRAPPED_BYTES :],
        )
        try:
            return _decrypt(key, wrapped, row.encode()), contents
        except (InvalidTag, ValueError):
            raise _altered(sealed, row) from None


def _encrypt(key: AESGCM, plaintext: bytes, row: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + key.encrypt(nonce, plaintext, row)


def _decrypt(key: AESGCM, sealed: bytes, row: bytes) -> bytes:
    return key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], row)


def _altered(sealed: bytes, row: str) -> CannotOpen:
    name = sealed[:KEY_ID_BYTES].decode("ascii", "replace")
    return CannotOpen(f"What is sealed under key {name} was altered, or was not sealed for {row}.")


def _identity(kind: Holder, row_id: UUID, version: int) -> str:
    """The row a value belongs to, as the cipher authenticates it."""
    return f"{kind}:{row_id}:{version}"
