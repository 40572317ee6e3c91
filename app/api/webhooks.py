"""Webhooks: how signals come in. Signed by the Standard Webhooks scheme over the raw body."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from app.api import bodies
from app.api.problems import Unauthenticated, raises
from app.api.rates import Counted, Rates
from app.api.senders import TOLERANCE, Senders
from app.api.wire import Body, Count, Instant, Portion, PositiveAmount, Text, View
from app.desk import Desk
from app.domain import signals as rules
from app.domain.errors import Invalid
from app.domain.money import text
from app.domain.orders import OrderType, Side
from app.domain.signals import EventType, Level, Market, Signal
from app.engine import intake
from app.engine.intake import Message, Receipt
from app.store.events import Reception

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


MOST_OF_A_TYPE: Final = 64
"""Characters that are kept of an event's type; those of types that we know are fewer."""


class TakeProfit(Body):
    """One target of a signal."""

    price: PositiveAmount = Field(examples=["27150.5"])
    """Where to close, in quote currency."""
    portion: Portion | None = Field(default=None, examples=["0.5"])
    """What part of what was filled, in (0, 1]; a single target may leave it out and means all."""


class Named(Body):
    """How an event names its signal."""

    id: Text = Field(examples=["sig-2026-11-24-001"])
    """The source's id of the signal; unique per provider."""
    provider: Text = Field(default="default", examples=["default"])
    """Who published it; null is the default."""

    @model_validator(mode="before")
    @classmethod
    def _has_a_provider(cls, given: Any) -> Any:
        return _without_null(given, {"provider"})


def _without_null(given: Any, names: Collection[str] | None = None) -> Any:
    """What is given without fields that are null, or without those among `names`."""
    if not isinstance(given, dict):
        return given
    return {
        name: value
        for name, value in given.items()
        if value is not None or (names is not None and name not in names)
    }


class PublishedSignal(Named):
    """A new signal. Prices are in quote currency; amounts are decimal strings or JSON numbers, kept exact.

    A field that is null counts as left out.
    """

    symbol: Text = Field(examples=["BTC/USDT"])
    """`BASE/QUOTE`, `BASE/QUOTE:SETTLE`, `BTCUSDT`, `BTC-USDT` or `BTCUSDT.P`."""
    market: Market | None = Field(default=None, examples=["crypto"])
    """The kind of market it is for; null for any."""
    direction: Side = Field(examples=["buy"])
    """`buy` opens long, `sell` opens short."""
    order_type: Literal[OrderType.MARKET, OrderType.LIMIT] = Field(
        default=OrderType.MARKET, examples=["market"]
    )
    """How to enter."""
    entry_price: PositiveAmount | None = Field(default=None, examples=["26850"])
    """The limit price; for market signals the price it was made at."""
    stop_loss: PositiveAmount | None = Field(default=None, examples=["26500"])
    """Where to leave at a loss: below the entry for buys, above it for sells."""
    take_profits: list[TakeProfit] = Field(default_factory=list, max_length=20)
    """Where to leave at a profit; portions add up to at most 1."""
    quantity: PositiveAmount | None = Field(default=None, examples=["0.01"])
    """Quantity in base units, for connections that size by the signal."""
    timeframe: Annotated[Text, StringConstraints(max_length=32)] | None = Field(default=None, examples=["4h"])
    """The chart it was made on."""
    plans: list[Text] = Field(default_factory=list, max_length=100, examples=[["gold"]])
    """Which plans it is for; empty for all."""
    published_at: Instant | None = None
    """When it was published; without it the event's timestamp counts."""
    expires_at: Instant | None = None
    """Until when an entry may be made; a limit without it lapses after 24 h."""
    title: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None, examples=["Breakout"]
    )
    """A headline for people."""
    note: Annotated[str, StringConstraints(max_length=4000)] | None = Field(
        default=None, examples=["Retest of the range high."]
    )
    """A remark for people."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_nothing(cls, given: Any) -> Any:
        return _without_null(given)

    def meaning(self) -> Signal:
        """The signal as the rules read it. Raises Invalid where it contradicts itself."""
        signal = Signal(
            symbol=self.symbol,
            direction=self.direction,
            order_type=self.order_type,
            entry_price=self.entry_price,
            stop_loss=self.stop_loss,
            take_profits=rules.ladder_of(
                [(each.price, each.portion) for each in self.take_profits], self.direction
            ),
            quantity=self.quantity,
            market=self.market,
            published_at=self.published_at,
            expires_at=self.expires_at,
        )
        rules.check(signal)
        return signal


class ChangedSignal(Named):
    """What changes for everything still open from a signal. A field that is named with null is taken away."""

    stop_loss: PositiveAmount | None = Field(default=None, examples=["26700"])
    """The new stop-loss, in quote currency."""
    take_profits: list[TakeProfit] | None = Field(default=None, max_length=20)
    """The new targets; they apply to what remains."""
    expires_at: Instant | None = None
    """The new end of the entry."""


class CancelledSignal(Named):
    """What is not yet filled is cancelled; open positions stay."""


class ClosedSignal(Named):
    """Open positions of the signal are closed."""

    portion: Portion | None = Field(default=None, examples=["0.5"])
    """What part of what remains, in (0, 1]; without it everything. What is below 1 lets an entry that rests go on
    resting, and that part of whatever it fills is closed."""


class Subscription(Body):
    """A user's entitlement. Entries that it no longer covers are taken back unless they are filled.

    Fields we do not know are left aside: nothing here trades.
    """

    model_config = ConfigDict(extra="ignore")

    user_id: Text = Field(examples=["user-42"])
    """The platform's id of the user: the `sub` of their tokens."""
    plans: list[Text] = Field(max_length=100, examples=[["gold"]])
    """The plans they have."""
    expires_at: Instant | None = None
    """Until when; null is open-ended."""
    max_connections: Count | None = Field(default=None, examples=[3])
    """How many connections they may have; null is no limit."""


class Envelope(BaseModel):
    """What every event says of itself; one of a type that we do not know may hold anything, or nothing."""

    type: Annotated[str, StringConstraints(min_length=1)] = Field(examples=["signal.published"])
    """What happened; a type we do not know is answered `ignored`."""
    timestamp: Instant
    """When it happened; of several statements about one thing the greatest holds."""
    data: Any = None


class Event(Envelope):
    """The envelope of every event that we know."""

    data: dict[str, Any]
    """What the type says: see the schemas named like it."""


class WebhookReceipt(View):
    """What became of an event, once it is durable."""

    event_id: str = Field(examples=["msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"])
    """The `webhook-id` it came with."""
    signal_id: UUID | None = Field(examples=["019aa5c2-7c00-7000-8000-000000000003"])
    """Our id of the signal it is about; null where there is none."""
    status: Reception = Field(examples=["accepted"])
    """`accepted`, `duplicate` (nothing happens twice) or `ignored`."""


_DATA: Final[Mapping[str, type[Body]]] = {
    EventType.PUBLISHED: PublishedSignal,
    EventType.UPDATED: ChangedSignal,
    EventType.CANCELLED: CancelledSignal,
    EventType.CLOSED: ClosedSignal,
    EventType.SUBSCRIPTION: Subscription,
}

_SIGNATURE_HEADERS: Final = [
    {"name": "webhook-id", "in": "header", "required": True, "schema": {"type": "string", "maxLength": 256},
     "description": "Identifies the event; the same id again is a duplicate.", "example": "msg_1"},
    {"name": "webhook-timestamp", "in": "header", "required": True, "schema": {"type": "string"},
     "description": "Unix seconds of this delivery; at most 5 minutes off.", "example": "1795330000"},
    {"name": "webhook-signature", "in": "header", "required": True, "schema": {"type": "string"},
     "description": "`v1,` and the Base64 HMAC-SHA256 of `id.timestamp.body`; several are separated by spaces.",
     "example": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
]  # fmt: skip


def _event_schema() -> dict[str, Any]:
    """The envelope once per type, each with its own data, written out in full."""
    variants = []
    for type_, model in _DATA.items():
        envelope = Event.model_json_schema()
        envelope["title"] = str(type_)
        envelope["properties"]["type"] = {**envelope["properties"]["type"], "const": type_}
        envelope["properties"]["data"] = _inlined(model.model_json_schema())
        variants.append(envelope)
    return {"oneOf": variants}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose definitions stand where they are used."""
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolve(definitions[node["$ref"].rpartition("/")[2]])
            return {key: resolve(value) for key, value in node.items()}
        return [resolve(item) for item in node] if isinstance(node, list) else node

    inlined: dict[str, Any] = resolve(schema)
    return inlined


@router.post(
    "/signals",
    status_code=202,
    response_model=WebhookReceipt,
    responses=raises("unauthenticated", "rate_limited", "unavailable"),
    openapi_extra={
        "parameters": _SIGNATURE_HEADERS,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _event_schema()}}},
    },
)
async def receive_event(request: Request) -> Receipt:
    """Take an event of the signal platform.

    202 is answered only after the event is durable. The same `webhook-id`, or a second `signal.published` with
    the same id, is a duplicate: 202, and nothing happens twice. Events may come in any order.
    """
    body = await request.body()
    # Not as dependencies: this is the route whose pace counts, and solving them takes a part of it.
    senders: Senders = request.app.state.senders
    desk: Desk = request.app.state.desk
    try:
        webhook_id = senders.verify(request.headers, body, desk.now())
    except Unauthenticated:
        rates: Rates = request.app.state.rates
        await rates.count(Counted.UNSIGNED, request.client.host if request.client else "")
        raise
    bodies.require_json(request.headers)
    said = bodies.parse(body)
    event = _validated(Envelope if _is_strange(said) else Event, said)
    check_not_ahead("timestamp", event.timestamp, desk)
    model = _DATA.get(event.type)
    data = None if model is None else _validated(model, event.data, "data")
    message = Message(
        webhook_id=webhook_id,
        type=event.type[:MOST_OF_A_TYPE],
        timestamp=event.timestamp,
        body_sha256=hashlib.sha256(body).digest(),
        data=_as_stored(event.data) if data is None else data.model_dump(mode="json", exclude_unset=True),
        provider=data.provider if isinstance(data, Named) else None,
        source_id=data.id if isinstance(data, Named) else None,
    )
    receipt = await _take(desk, message, data)
    # A type nobody knows is no label: whoever signs could make as many as they like.
    kind = message.type if message.type in _DATA else "other"
    desk.metrics.webhook_events.labels(kind, receipt.status).inc()
    return receipt


def _is_strange(said: Any) -> bool:
    """Whether an event is of a type that we do not know."""
    kind = said.get("type") if isinstance(said, dict) else None
    return isinstance(kind, str) and kind != "" and kind not in _DATA


def _as_stored(data: Any) -> dict[str, Any]:
    """Data that no model has read, if it is an object: what is not JSON as it stands, amounts, becomes strings."""
    stored: dict[str, Any] = json.loads(json.dumps(data, default=str)) if isinstance(data, dict) else {}
    return stored


async def _take(desk: Desk, message: Message, data: Body | None) -> Receipt:
    match data:
        case PublishedSignal():
            return await intake.publish(desk, message, _signal_columns(desk, message, data))
        case ChangedSignal():
            _check_change(data)
            return await intake.change_signal(desk, message)
        case CancelledSignal() | ClosedSignal():
            return await intake.change_signal(desk, message)
        case Subscription():
            return await intake.subscribe(desk, message, **data.model_dump())
        case _:
            return await intake.ignore(desk, message)


def _signal_columns(desk: Desk, message: Message, data: PublishedSignal) -> dict[str, Any]:
    """A published signal as its row keeps it. Raises Invalid where it contradicts itself."""
    if data.published_at is not None:
        check_not_ahead("data.published_at", data.published_at, desk)
    try:
        levels = data.meaning().take_profits
    except Invalid as wrong:
        raise Invalid(f"data.{wrong.path}", wrong.message) from None
    return {
        **data.model_dump(exclude={"id", "take_profits"}),
        "take_profits": json.dumps(_stored(levels)),
        "published_at": data.published_at or message.timestamp,
    }


def _stored(levels: Sequence[Level]) -> list[dict[str, str]]:
    return [{"price": text(level.price), "portion": text(level.portion)} for level in levels]


def _check_change(data: ChangedSignal) -> None:
    """An update's targets are a ladder by themselves; the sides are checked against each position's own."""
    try:
        rules.ladder_of([(each.price, each.portion) for each in data.take_profits or ()], Side.BUY)
    except Invalid as wrong:
        raise Invalid(f"data.{wrong.path}", wrong.message) from None


def check_not_ahead(path: str, moment: datetime, desk: Desk) -> None:
    """A time may be a little ahead of ours. Raises Invalid for one that is further."""
    if moment > desk.now() + TOLERANCE:
        raise Invalid(path, "The time is more than 5 minutes ahead of ours.")


M = TypeVar("M", bound=BaseModel)


def _validated(model: type[M], value: Any, *path: str) -> M:
    """The value as the model reads it; what is wrong with it is a 422 that names every field."""
    try:
        return model.model_validate(value)
    except ValidationError as wrong:
        faults = wrong.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**fault, "loc": ("body", *path, *fault["loc"])} for fault in faults]
        ) from None
