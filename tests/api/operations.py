"""Every operation of the OpenAPI document, and an example of each: what is generated from it forgets no route."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings, new_vault_key, new_webhook_secret
from tests.api.scene import DRAFT


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document, made without any server."""
    settings = Settings(
        _env_file=None,
        database_url=SecretStr("postgresql://nobody@127.0.0.1:1/nowhere"),
        jwt_secret=SecretStr("a secret of the tests, long enough"),
        webhook_secrets=(SecretStr(new_webhook_secret()),),
        vault_keys=(SecretStr(new_vault_key()),),
    )
    return create_app(settings).openapi()


READS_BY_POST: Final = {"preview_signal"}
"""What asks with a body, and changes nothing."""

UNAUDITED: Final = {"receive_event", "read_notification", "read_all_notifications"}
"""What leaves no entry in the audit: an event is its own record, and reading touches nothing that trades."""

BODIES: Final[Mapping[str, Any]] = {
    "create_connection": DRAFT,
    "change_connection": {"name": "Renamed"},
    "set_connection_mode": {"mode": "active", "reason": "Back again"},
    "set_any_connection_mode": {"mode": "reducing", "reason": "Odd fills"},
    "close_all_positions": {"reason": "Out"},
    "close_all_of_any_connection": {"reason": "Out"},
    "resolve_execution": {"outcome": "absent"},
    "edit_position": {"stop_loss": "26600"},
    "close_position": {"portion": "0.5"},
    "preview_signal": {"symbol": "BTC/USDT", "direction": "buy"},
    "replace_notification_settings": {
        "channels": [{"kind": "webhook", "types": ["error"], "url": "https://you.example/notifications"}]
    },
    "set_trading": {"state": "reducing", "reason": "Drill"},
    "receive_event": {"type": "signal.cancelled", "timestamp": "2026-11-24T12:00:00Z", "data": {"id": "1"}},
}
"""A body for every operation that takes one, such that its owner is served."""

QUERIES: Final[Mapping[str, Mapping[str, str]]] = {
    "delete_connection": {"force": "true"},
    "get_breakdown": {"by": "connection"},
}
"""What an operation needs to be asked besides, for its owner to be served."""


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    id: str
    method: str
    path: str
    content: Mapping[str, Any]

    @property
    def is_guarded(self) -> bool:
        """Whether it asks who is calling."""
        return any("bearer" in each for each in self.content.get("security", []))

    @property
    def is_for_admins(self) -> bool:
        """Whether it is for admins alone."""
        return self.path.startswith("/v1/admin/")

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET" and self.id not in READS_BY_POST

    def names(self, place: str) -> set[str]:
        """The parameters it takes in its path, or in its query."""
        return {each["name"] for each in self.content.get("parameters", []) if each["in"] == place}

    def codes(self) -> set[str]:
        """The problems it says it may answer with."""
        return {
            code
            for answer in self.content["responses"].values()
            for code in answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
        }

    def at(self, ids: Mapping[str, UUID]) -> str:
        """Its path with these ids in it. Raises KeyError for a parameter that has no example yet."""
        return self.path.format(**{name: ids[name] for name in self.names("path")})

    def options(self) -> dict[str, Any]:
        """What it is asked with. Raises KeyError where it takes a body and there is no example of one yet."""
        asked: dict[str, Any] = {"params": dict(QUERIES.get(self.id, {}))}
        if "requestBody" in self.content:
            asked["json"] = BODIES[self.id]
        return asked


@cache
def operations() -> tuple[Operation, ...]:
    """All of them."""
    return tuple(_operations())


def _operations() -> Iterator[Operation]:
    for path, methods in document()["paths"].items():
        for method, content in methods.items():
            yield Operation(content["operationId"], method.upper(), path, content)
