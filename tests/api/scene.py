"""What the tests of the API set up: callers with their tokens, and rows as the engine would have left them."""

import base64
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import httpx
import jwt

from app.desk import Sessions
from app.domain.exits import CloseReason, Protection
from app.domain.market import MarketType, QuantityUnit
from app.domain.orders import OrderStatus, OrderType, Purpose, Side
from app.domain.owners import Owner, Role
from app.domain.positions import PositionSide, PositionStatus
from app.main import Service
from app.settings import Settings
from app.store import entitlements
from app.store.channels import Channel, ChannelKind
from app.store.connections import Connection, ConnectionStatus, Kind
from app.store.executions import Execution, ExecutionStatus
from app.store.notifications import Notification, NotificationType
from app.store.orders import Order
from app.store.positions import Position
from app.store.schema import Base, new_id
from app.store.signals import SignalRow

NOON: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
ANN: Final = Owner(Role.USER, "ann")
BOB: Final = Owner(Role.USER, "bob")
ADMIN_ANN: Final = Owner(Role.ADMIN, "ann")
"""An admin whose `sub` is equal to a user's."""

PAPER: Final[dict[str, Any]] = {
    "prices": "synthetic",
    "balance": "10000",
    "currency": "USDT",
    "fee_percent": "0.1",
    "slippage_percent": "0",
    "fee_in": "quote",
    "seed": 7,
}
DRAFT: Final[dict[str, Any]] = {
    "name": "Paper",
    "kind": "paper",
    "exchange": "paper",
    "market_type": "spot",
    "paper": PAPER,
    "sizing": {"strategy": "fixed_amount", "value": "100"},
}


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def move(self, by: timedelta) -> None:
        """Move on."""
        self.now += by


@dataclass
class Rings:
    """A queue that remembers what it was rung for."""

    heard: list[tuple[str, UUID]] = field(default_factory=list)

    async def execute(self, execution_ids: Iterable[UUID]) -> None:
        """Executions are pending."""
        self.heard.extend(("execute", each) for each in execution_ids)

    async def close_position(self, order_id: UUID) -> None:
        """A close order is pending."""
        self.heard.append(("close_position", order_id))

    async def protect(self, position_id: UUID) -> None:
        """A position's protective orders have to be brought in line with its plan."""
        self.heard.append(("protect", position_id))

    async def follow(self, event_id: UUID) -> None:
        """A later event about a signal has come in."""
        self.heard.append(("follow", event_id))

    def deliver(self, channel_ids: Iterable[UUID]) -> None:
        """Something waits for these channels."""
        self.heard.extend(("deliver", each) for each in channel_ids)


@dataclass(frozen=True)
class Platform:
    """Who issues tokens."""

    settings: Settings

    @property
    def secret(self) -> str:
        """What it signs with."""
        assert self.settings.jwt_secret is not None
        return self.settings.jwt_secret.get_secret_value()

    def token(self, owner: Owner, **claims: Any) -> str:
        """A good token, except for the claims named; None leaves a claim out."""
        content = {
            "sub": owner.id,
            "role": owner.role.value,
            "aud": self.settings.jwt_audience,
            "exp": datetime.now(UTC) + timedelta(hours=1),
        } | claims
        given = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(given, self.secret, algorithm="HS256")

    def signed(self, body: bytes, now: datetime) -> dict[str, str]:
        """The headers of an event, over bytes that need not be text."""
        id_, sent_at = new_id().hex, int(now.timestamp())
        key = base64.b64decode(self.settings.webhook_secrets[0].get_secret_value().removeprefix("whsec_"))
        digest = hmac.digest(key, f"{id_}.{sent_at}.".encode() + body, "sha256")
        return {
            "webhook-id": id_,
            "webhook-timestamp": str(sent_at),
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }

    def bearer(self, owner: Owner, **claims: Any) -> dict[str, str]:
        """The header that carries such a token."""
        return {"Authorization": f"Bearer {self.token(owner, **claims)}"}


@dataclass(frozen=True)
class Api:
    """The service as its callers see it."""

    http: httpx.AsyncClient
    platform: Platform
    service: Service

    async def call(self, owner: Owner | None, method: str, path: str, status: int, **options: Any) -> Any:
        """Ask as this owner, expect this status, and answer the body."""
        headers = dict(options.pop("headers", {}))
        if owner is not None:
            headers |= self.platform.bearer(owner)
        answer = await self.http.request(method, path, headers=headers, **options)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def connect(self, owner: Owner, **changes: Any) -> str:
        """Create, test and activate a paper connection; answers its id."""
        created = await self.call(owner, "POST", "/v1/connections", 201, json=DRAFT | changes)
        path = f"/v1/connections/{created['id']}"
        tested = await self.call(owner, "POST", f"{path}/test", 200)
        assert tested["ok"], tested
        await self.call(owner, "POST", f"{path}/activate", 200)
        return str(created["id"])


@dataclass(frozen=True)
class Rows:
    """Puts rows into the database as the engine would have left them."""

    sessions: Sessions

    async def add(self, *rows: Base) -> None:
        """Store rows in the order given."""
        async with self.sessions.begin() as session:
            for row in rows:
                session.add(row)
                await session.flush()

    async def entitle(self, owner: Owner, **terms: Any) -> None:
        """Give a user a plan."""
        stated: dict[str, Any] = {"plans": ["gold"], "expires_at": None, "max_connections": None}
        async with self.sessions.begin() as session:
            await entitlements.state(session, user_id=owner.id, stated_at=NOON, now=NOON, **(stated | terms))

    async def connection(self, owner: Owner, **columns: Any) -> Connection:
        """An active paper connection."""
        row = Connection(
            **{
                "id": new_id(),
                "owner_role": owner.role,
                "owner_id": owner.id,
                "name": "Paper",
                "kind": Kind.PAPER,
                "exchange": "paper",
                "market_type": MarketType.SPOT,
                "paper": PAPER,
                "sizing": {"strategy": "fixed", "value": "0.01"},
                "status": ConnectionStatus.ACTIVE,
                "tested_version": 1,
                "created_at": NOON,
                "updated_at": NOON,
            }
            | columns
        )
        await self.add(row)
        return row

    async def signal(self, **columns: Any) -> SignalRow:
        """A published signal."""
        id_ = new_id()
        row = SignalRow(
            **{
                "id": id_,
                "provider": "default",
                "source_id": id_.hex,
                "symbol": "BTC/USDT",
                "direction": Side.BUY,
                "order_type": OrderType.MARKET,
                "entry_price": Decimal("26850.5"),
                "take_profits": [{"price": "27150.5", "portion": "1"}],
                "plans": [],
                "published_at": NOON,
                "received_at": NOON,
            }
            | columns
        )
        await self.add(row)
        return row

    async def execution(
        self, connection: Connection, signal: SignalRow | None = None, **columns: Any
    ) -> Execution:
        """An executed execution, with a signal of its own unless one is given."""
        about = signal or await self.signal()
        row = Execution(
            **{
                "id": new_id(),
                "signal_id": about.id,
                "connection_id": connection.id,
                "owner_role": connection.owner_role,
                "owner_id": connection.owner_id,
                "status": ExecutionStatus.EXECUTED,
                "symbol": about.symbol,
                "direction": about.direction,
                "order_type": about.order_type,
                "requested_quantity": Decimal("0.010"),
                "filled_quantity": Decimal("0.010"),
                "average_price": Decimal("26850.50"),
                "fees": [{"currency": "USDT", "amount": "0.268505"}],
                "attempts": 1,
                "received_at": NOON,
                "queued_at": NOON + timedelta(milliseconds=4),
                "sent_at": NOON + timedelta(milliseconds=39),
                "acknowledged_at": NOON + timedelta(milliseconds=159),
                "filled_at": NOON + timedelta(milliseconds=161),
                "created_at": NOON,
                "updated_at": NOON,
            }
            | columns
        )
        await self.add(row)
        return row

    async def position(self, connection: Connection, **columns: Any) -> Position:
        """An open long of 0.01 BTC with its entry order."""
        execution = await self.execution(connection)
        row = Position(
            **{
                "id": new_id(),
                "execution_id": execution.id,
                "signal_id": execution.signal_id,
                "connection_id": connection.id,
                "owner_role": connection.owner_role,
                "owner_id": connection.owner_id,
                "symbol": "BTC/USDT",
                "currency": "USDT",
                "quantity_unit": QuantityUnit.BASE,
                "side": PositionSide.LONG,
                "quantity": Decimal("0.01"),
                "remaining_quantity": Decimal("0.01"),
                "entry_price": Decimal("26850.50"),
                "current_price": Decimal(26900),
                "stop_loss": Decimal(26500),
                "levels": [{"price": "27150.5", "portion": "1"}],
                "take_profits": [{"price": "27150.5", "quantity": "0.01", "filled_quantity": "0"}],
                "native": True,
                "protection": Protection.SOFTWARE,
                "status": PositionStatus.OPEN,
                "quantity_step": Decimal("0.0001"),
                "price_tick": Decimal("0.5"),
                "min_quantity": Decimal("0.0001"),
                "min_notional": Decimal(5),
                "opened_at": NOON,
                "created_at": NOON,
                "updated_at": NOON,
            }
            | columns
        )
        await self.add(row)
        await self.order(row)
        return row

    async def order(self, position: Position, **columns: Any) -> Order:
        """An order of a position: unless told otherwise the entry that opened it."""
        row = Order(
            **{
                "id": new_id(),
                "connection_id": position.connection_id,
                "execution_id": position.execution_id,
                "position_id": position.id,
                "purpose": Purpose.ENTRY,
                "symbol": "BTC/USDT",
                "base": "BTC",
                "currency": "USDT",
                "side": Side.BUY,
                "type": OrderType.MARKET,
                "quantity": Decimal("0.01"),
                "status": OrderStatus.FILLED,
                "attempt": 1,
                "filled_quantity": Decimal("0.01"),
                "average_price": Decimal("26850.5"),
                "fees": {"USDT": "0.268505"},
                "fee_value": Decimal("0.268505"),
                "filled_at": NOON,
                "created_at": NOON,
                "updated_at": NOON,
            }
            | columns
        )
        await self.add(row)
        return row

    async def closed_position(self, connection: Connection) -> Position:
        """One that took its profit."""
        return await self.position(
            connection,
            status=PositionStatus.CLOSED,
            remaining_quantity=Decimal(0),
            close_reason=CloseReason.TAKE_PROFIT,
            protection=Protection.NONE,
            closed_at=NOON,
        )

    async def channel(self, owner: Owner, **columns: Any) -> Channel:
        """A webhook that carries everything."""
        row = Channel(
            **{
                "id": new_id(),
                "owner_role": owner.role,
                "owner_id": owner.id,
                "name": "Pager",
                "kind": ChannelKind.WEBHOOK,
                "types": [each.value for each in NotificationType],
                "target": "https://you.example/notifications",
                "next_at": NOON,
                "created_at": NOON,
                "updated_at": NOON,
            }
            | columns
        )
        await self.add(row)
        return row

    async def notification(self, owner: Owner, **columns: Any) -> Notification:
        """Something the owner was told."""
        row = Notification(
            **{
                "id": new_id(),
                "owner_role": owner.role,
                "owner_id": owner.id,
                "type": NotificationType.OPEN,
                "title": "BTC/USDT: long opened",
                "message": "Opened a long position.",
                "data": {"price": "26850.5"},
                "created_at": NOON,
            }
            | columns
        )
        await self.add(row)
        return row
