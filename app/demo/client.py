"""What an outside program sees of the engine: signed events in, the REST resources out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel, SecretStr

from app.local.webhook import PATH, signed_headers

TIMEOUT_SECONDS: Final = 20.0


class DidNotHappen(Exception):
    """What the demo was to show and could not, in a sentence."""


class Timeline(BaseModel):
    """How long an execution took, in milliseconds from the signal's arrival."""

    milliseconds: Mapping[str, int | None]


class Execution(BaseModel):
    """One signal on one connection."""

    id: str
    signal_id: str
    symbol: str
    direction: str
    status: str
    code: str | None
    message: str | None
    filled_quantity: Decimal
    average_price: Decimal | None
    timeline: Timeline


class Fee(BaseModel):
    """What a venue took."""

    currency: str
    amount: Decimal


class Order(BaseModel):
    """One thing that was asked of the venue, as far as it was filled."""

    side: str
    filled_quantity: Decimal
    average_price: Decimal | None
    fees: Sequence[Fee]


class Rung(BaseModel):
    """One take-profit."""

    price: Decimal
    quantity: Decimal


class Position(BaseModel):
    """What one execution opened."""

    id: str
    signal_id: str
    symbol: str
    side: str
    status: str
    quantity: Decimal
    entry_price: Decimal
    current_price: Decimal | None
    marked_at: datetime | None
    stop_loss: Decimal | None
    take_profits: Sequence[Rung]
    protection: str
    fees: Decimal
    realized_pnl: Decimal
    unrealized_pnl: Decimal
    currency: str
    close_reason: str | None


class PositionWithOrders(Position):
    """The same with its orders."""

    orders: Sequence[Order]


class Notification(BaseModel):
    """One thing its owner was told."""

    id: str
    type: str
    title: str
    message: str
    position_id: str | None


class Worker(BaseModel):
    """A process of the engine that carries signals out."""

    started_at: datetime


class System(BaseModel):
    """How the engine as a whole is doing."""

    workers: Sequence[Worker]


class Summary(BaseModel):
    """Performance in one currency."""

    currency: str
    trades: int
    wins: int
    losses: int
    win_rate: Decimal | None
    profit_factor: Decimal | None
    fees: Decimal
    net_pnl: Decimal
    max_drawdown: Decimal


M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Account:
    """The engine as one owner sees it: REST with their token."""

    http: httpx.AsyncClient
    token: str

    async def post(self, path: str, body: object = None) -> dict[str, Any]:
        """Ask for a change; answers the resource."""
        return await _answered(self.http, "POST", path, json=body, headers=self._headers)

    async def item(self, path: str, model: type[M]) -> M:
        """One resource."""
        return model.model_validate(await _answered(self.http, "GET", path, headers=self._headers))

    async def items(self, path: str, model: type[M]) -> list[M]:
        """The first page of a list, in the order it is answered."""
        return [model.model_validate(each) for each in await self.rows(path)]

    async def rows(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The first page of a list as it is."""
        page = await _answered(self.http, "GET", path, params=query, headers=self._headers)
        rows: list[dict[str, Any]] = page["items"]
        return rows

    @property
    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}


@dataclass(frozen=True, slots=True)
class Platform:
    """The source of signals and subscriptions: it signs what it posts."""

    http: httpx.AsyncClient
    secret: SecretStr

    async def publish(self, type: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Post an event; answers the receipt."""
        now = datetime.now(UTC)
        body = json.dumps({"type": type, "timestamp": now.isoformat(), "data": data})
        headers = signed_headers(self.secret, body, now)
        return await _answered(self.http, "POST", PATH, content=body, headers=headers)


async def _answered(http: httpx.AsyncClient, method: str, path: str, **request: Any) -> dict[str, Any]:
    """The JSON of a successful answer; raises DidNotHappen for any other, and for none."""
    try:
        answer = await http.request(method, path, **request)
    except httpx.HTTPError as error:
        raise DidNotHappen(f"{method} {path} was not answered: {type(error).__name__} {error}") from error
    if not answer.is_success:
        raise DidNotHappen(f"{method} {path} was answered {answer.status_code}: {answer.text}")
    answered: dict[str, Any] = answer.json()
    return answered
