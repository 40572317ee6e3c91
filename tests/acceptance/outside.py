"""Programs outside the engine: a source of signals that signs them, and owners who use REST with their tokens."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
from standardwebhooks.webhooks import Webhook

Json = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """The platform behind the webhook; what it sends is signed by the independent package."""

    http: httpx.AsyncClient
    secret: str

    async def send(self, type: str, data: Json, *, webhook_id: str | None = None) -> Json:
        """Send an event, under a webhook id of its own unless one is given; answers the receipt."""
        id_, now = webhook_id or f"msg_{uuid4().hex}", datetime.now(UTC)
        body = json.dumps({"type": type, "timestamp": now.isoformat(), "data": data})
        answer = await self.http.post(
            "/v1/webhooks/signals",
            content=body,
            headers={
                "content-type": "application/json",
                "webhook-id": id_,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": Webhook(self.secret).sign(id_, now, body),
            },
        )
        assert answer.status_code == 202, answer.text
        receipt: Json = answer.json()
        return receipt


@dataclass(frozen=True)
class Trader:
    """An owner with one paper account."""

    name: str
    market_type: str
    native: bool
    http: httpx.AsyncClient
    token: str
    quantity: str = "0.1"
    connections: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    """Who was seen to watch over open positions."""

    @property
    def protection(self) -> str:
        """Who is to watch over the positions."""
        return "native" if self.native else "software"

    async def connect(self, terms: Mapping[str, Any]) -> None:
        """Create, test and activate the account."""
        created = await self.post(
            "/v1/connections",
            {
                "name": self.name,
                "kind": "paper",
                "exchange": "paper",
                "market_type": self.market_type,
                "paper": dict(terms),
                "sizing": {"strategy": "fixed", "value": self.quantity},
                "protection": {"native": self.native},
            },
        )
        self.connections.append(created["id"])
        assert (await self.post(f"/v1/connections/{created['id']}/test"))["ok"]
        assert (await self.post(f"/v1/connections/{created['id']}/activate"))["status"] == "active"

    async def get(self, path: str, **query: str) -> Json:
        """A resource."""
        return self._json(await self.http.get(path, params=query, headers=self._headers))

    async def items(self, path: str, **query: str) -> list[Json]:
        """A list, in the order it is answered."""
        rows: list[Json] = (await self.get(path, **query))["items"]
        return rows

    async def text(self, path: str) -> str:
        """A file."""
        answer = await self.http.get(path, headers=self._headers)
        assert answer.is_success, answer.text
        return answer.text

    async def post(self, path: str, body: Json | None = None) -> Json:
        """Ask for a change."""
        return self._json(await self.http.post(path, json=body, headers=self._headers))

    @property
    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def _json(self, answer: httpx.Response) -> Json:
        assert answer.is_success, answer.text
        found: Json = answer.json()
        return found
