"""The vault: seals broker credentials and opens them again.

A sealed value is the id of its key (8 hex digits), a nonce, and the AES-256-GCM ciphertext. The row it
belongs to (connection and credentials version) is bound in: copied to another row it cannot be opened.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Final, Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from app.settings import vault_key_bytes, vault_key_id

_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12


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

    def seal(self, plaintext: Mapping[str, str], *, connection_id: UUID, version: int) -> bytes:
        """Seal credentials for one row under the newest key."""
        nonce = os.urandom(_NONCE_BYTES)
        encoded = json.dumps(dict(plaintext)).encode()
        sealed = self._keys[self._sealing].encrypt(nonce, encoded, _identity(connection_id, version))
        return self._sealing.encode() + nonce + sealed

    def unseal(self, sealed: bytes, *, connection_id: UUID, version: int) -> dict[str, str]:
        """The credentials that were sealed for this row. Raises CannotOpen."""
        name = sealed[:_KEY_ID_BYTES].decode("ascii", "replace")
        key = self._keys.get(name)
        if key is None:
            raise CannotOpen(f"Connection {connection_id} is sealed under a key this process does not have.")
        nonce, ciphertext = sealed[_KEY_ID_BYTES:][:_NONCE_BYTES], sealed[_KEY_ID_BYTES + _NONCE_BYTES :]
        try:
            encoded = key.decrypt(nonce, ciphertext, _identity(connection_id, version))
        except (InvalidTag, ValueError):
            raise CannotOpen(
                f"What is sealed under key {name} was altered, or was not sealed for "
                f"version {version} of connection {connection_id}."
            ) from None
        opened: dict[str, str] = json.loads(encoded)
        return opened


def _identity(connection_id: UUID, version: int) -> bytes:
    """The row a value belongs to, as the cipher authenticates it."""
    return f"connection:{connection_id}:{version}".encode()
