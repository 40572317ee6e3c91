"""Whose something is: a user's and an admin's rows are apart even where their ids are equal."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who a caller is to the platform."""

    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Owner:
    """The (role, id) pair that every row of an account carries; `id` is the token's `sub`."""

    role: Role
    id: str
