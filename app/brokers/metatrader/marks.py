"""Marks: what makes an order ours at a broker. MetaTrader has no client order id; a number and a comment carry it.

The number (`expertID`, `magic`) is positive and below 2^31, the width MetaTrader 4 keeps. It survives partial closes
and triggered stops. The comment is short plain ASCII; brokers cut it, add to it and write over it.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Self
from uuid import UUID

from app.domain.money import ZERO, text

_PREFIX: Final = "te"
_LENGTH: Final = 16
_OURS: Final = re.compile(rf"{_PREFIX}[a-z2-7]+")
_SHORTEST: Final = len(_PREFIX) + 8
"""A comment cut shorter than this names nothing any more."""

_MAGICS: Final = (1 << 31) - 1


def client_order_id(order_id: UUID, attempt: int) -> str:
    """The same for the same order and attempt: 18 characters of ASCII that any broker's comment has room for."""
    digest = hashlib.sha256(f"{order_id}:{attempt}".encode()).digest()
    return _PREFIX + base64.b32encode(digest).decode().lower()[:_LENGTH]


def magic_of(client_order_id: str) -> int:
    """The number that goes with an id: 1 to 2^31 − 1."""
    digest = hashlib.sha256(client_order_id.encode()).digest()
    return int.from_bytes(digest[:8]) % _MAGICS + 1


def may_be(comment: str, client_order_id: str) -> bool:
    """Whether a comment leaves it possible that an order is this one: ours, cut, extended, or written over."""
    found = _OURS.match(comment.strip())
    if found is None or len(found[0]) < _SHORTEST:
        return True
    return found[0].startswith(client_order_id) or client_order_id.startswith(found[0])


def names(comment: str, client_order_id: str) -> bool:
    """Whether a comment can only be that of this order: ours, whole, cut or extended."""
    found = _OURS.match(comment.strip())
    return found is not None and len(found[0]) >= _SHORTEST and may_be(comment, client_order_id)


@dataclass(frozen=True, slots=True)
class Handle:
    """How later orders name a position: its ticket at the time, the number it carries, and what was left of it then.

    Everything up to `last_deal` is accounted for. MetaTrader 4 has no deals; there the ticket itself changes.
    """

    ticket: int
    magic: int
    lots: Decimal
    """Ours."""
    last_deal: int = 0
    beside: Decimal = ZERO
    """Lots under the same ticket that were not ours: accounts that net put them together."""

    @classmethod
    def read(cls, written: str) -> Self:
        """From `OrderReport.handle`."""
        ticket, magic, lots, last_deal, *beside = written.split("/")
        return cls(int(ticket), int(magic), Decimal(lots), int(last_deal), *map(Decimal, beside))

    def text(self) -> str:
        """As an order keeps it."""
        written = f"{self.ticket}/{self.magic}/{text(self.lots)}/{self.last_deal}"
        return f"{written}/{text(self.beside)}" if self.beside else written
