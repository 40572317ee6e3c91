"""Webhooks over HTTP: who may send, what is refused and where it is wrong, and what is kept when it is answered 202."""

import asyncio
import base64
import dataclasses
import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from standardwebhooks.webhooks import Webhook
from starlette.datastructures import Headers

from app.api.bodies import MAX_SIZE
from app.api.problems import Unauthenticated
from app.api.senders import TOLERANCE, Senders
from app.api.webhooks import PublishedSignal
from app.desk import Desk, Sessions
from app.domain.orders import OrderType, Side
from app.domain.owners import Owner, Role
from app.domain.signals import Course, EventType, Level, Market, Signal
from app.engine.courses import course_of
from app.main import create_app
from app.settings import Settings, new_webhook_secret, settings_from
from app.store.connections import Connection, ConnectionStatus, Kind
from app.store.entitlements import Entitlement
from app.store.events import Event, Reception
from app.store.executions import Execution, ExecutionStatus
from app.store.schema import Base, new_id
from app.store.signals import SignalRow
from tests.api.scene import ADMIN_ANN, ANN, BOB, NOON, Clock, Rings, Rows

PATH: Final = "/v1/webhooks/signals"
SIGNAL: Final[dict[str, Any]] = {
    "id": "s1",
    "symbol": "BTC/USDT",
    "direction": "buy",
    "entry_price": "26850",
    "stop_loss": "26500",
    "take_profits": [{"price": "27150.5", "portion": "0.5"}, {"price": "27500", "portion": "0.5"}],
}
ABSENT: Final = object()
"""Instead of a value: the field is left out."""


def signature(secret: str, webhook_id: str, sent_at: str, body: bytes) -> str:
    """The specification's formula, over bytes that need not be text."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{webhook_id}.{sent_at}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def changed(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with changes; ABSENT takes one away."""
    return {name: value for name, value in {**fields, **changes}.items() if value is not ABSENT}


@dataclass
class Source:
    """The signal platform: it names, dates and signs what it posts."""

    http: httpx.AsyncClient
    secret: str
    now: Clock = field(default_factory=Clock)
    posted: int = 0

    def headers(
        self, body: bytes, webhook_id: str | None = None, sent_at: str | None = None
    ) -> dict[str, str]:
        """What a good delivery of `body` carries."""
        self.posted += 1
        id_ = webhook_id or f"msg_{self.posted}"
        moment = sent_at or str(int(self.now().timestamp()))
        return {
            "content-type": "application/json",
            "webhook-id": id_,
            "webhook-timestamp": moment,
            "webhook-signature": signature(self.secret, id_, moment, body),
        }

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Post bytes, well signed unless the headers are given."""
        return await self.http.post(PATH, content=body, headers=headers or self.headers(body))

    def event(self, type_: str, data: Any, at: datetime | None = None) -> bytes:
        """An event as the platform writes it."""
        moment = at or self.now()
        return json.dumps({"type": type_, "timestamp": moment.isoformat(), "data": data}).encode()

    async def say(
        self, type_: str, data: Any, *, at: datetime | None = None, webhook_id: str | None = None
    ) -> httpx.Response:
        """Post an event."""
        body = self.event(type_, data, at)
        return await self.post(body, self.headers(body, webhook_id))

    async def publish(self, webhook_id: str | None = None, **changes: Any) -> httpx.Response:
        """Post the usual signal with changes."""
        return await self.say(EventType.PUBLISHED, changed(SIGNAL, changes), webhook_id=webhook_id)


@pytest.fixture
def source(http: httpx.AsyncClient, settings: Settings, clock: Clock) -> Source:
    """A platform that shares our clock and our only secret."""
    return Source(http, settings.webhook_secrets[0].get_secret_value(), clock)


@asynccontextmanager
async def served(settings: Settings, desk: Desk | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another service than the usual one."""
    app = create_app(settings, desk)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client,
    ):
        yield client


async def kept(sessions: Sessions, *tables: type[Base]) -> list[int]:
    """How many rows each of the tables an event may touch has."""
    async with sessions() as session:
        return [
            await session.scalar(select(func.count()).select_from(table)) or 0
            for table in tables or (Event, SignalRow, Execution, Entitlement)
        ]


async def one_row(sessions: Sessions, table: type[Any]) -> Any:
    """The only row of a table."""
    async with sessions() as session:
        return (await session.scalars(select(table))).one()


def accepted(answer: httpx.Response) -> dict[str, Any]:
    """The receipt of an answer that has to be 202."""
    assert answer.status_code == 202, answer.text
    receipt: dict[str, Any] = answer.json()
    return receipt


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an answer that has to be a problem document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    assert told["status"] == answer.status_code
    assert told["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, told["code"]


# Who may send.

VECTOR_SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_BODY: Final = b'{"test": 2432232314}'
VECTOR_SENT: Final = datetime.fromtimestamp(1614265330, UTC)
VECTOR_HEADERS: Final = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def test_the_test_vector_of_the_specification_verifies() -> None:
    senders = Senders([SecretStr(VECTOR_SECRET)])
    assert senders.verify(Headers(VECTOR_HEADERS), VECTOR_BODY, VECTOR_SENT) == VECTOR_HEADERS["webhook-id"]


@pytest.mark.parametrize(
    ("headers", "body", "secret"),
    [
        ({"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJel"}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-timestamp": "1614265331"}, VECTOR_BODY, VECTOR_SECRET),
        (
            {"webhook-signature": "v1,h0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
            VECTOR_BODY,
            VECTOR_SECRET,
        ),
        ({}, b'{"test": 2432232315}', VECTOR_SECRET),
        ({}, VECTOR_BODY, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx"),
    ],
)
def test_a_changed_test_vector_fails(headers: dict[str, str], body: bytes, secret: str) -> None:
    senders = Senders([SecretStr(secret)])
    with pytest.raises(Unauthenticated):
        senders.verify(Headers({**VECTOR_HEADERS, **headers}), body, VECTOR_SENT)


async def test_what_the_independent_package_signs_is_accepted(
    http: httpx.AsyncClient, source: Source
) -> None:
    body = source.event(EventType.PUBLISHED, SIGNAL | {"note": "Ünïcode ✓"}).decode()
    headers = {
        "content-type": "application/json",
        "webhook-id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        "webhook-timestamp": str(int(NOON.timestamp())),
        "webhook-signature": Webhook(source.secret).sign("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", NOON, body),
    }
    receipt = accepted(await http.post(PATH, content=body.encode(), headers=headers))
    assert receipt["event_id"] == "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
    assert receipt["status"] == "accepted"


async def test_any_secret_verifies_and_any_signature_may_fit(
    environment: dict[str, str], desk: Desk, clock: Clock
) -> None:
    old, new, strange = new_webhook_secret(), new_webhook_secret(), new_webhook_secret()

    async def verdicts(known: Iterable[str], *signers: Iterable[str]) -> list[int]:
        settings = settings_from({**environment, "ENGINE_WEBHOOK_SECRETS": ",".join(known)})
        async with served(settings, desk) as http:
            source = Source(http, old, clock)
            answers = []
            for secrets in signers:
                body = source.event("test.ping", {})
                headers = source.headers(body)
                signed = (headers["webhook-id"], headers["webhook-timestamp"], body)
                several = " ".join(signature(secret, *signed) for secret in secrets)
                answers.append(await source.post(body, headers | {"webhook-signature": several}))
            return [answer.status_code for answer in answers]

    # While both are known, either signs, alone or beside another; afterwards the old one is a stranger's.
    signers: list[list[str]] = [[old], [new], [strange, new], [old, strange], [strange]]
    assert await verdicts([old], *signers) == [202, 401, 401, 202, 401]
    assert await verdicts([new, old], *signers) == [202, 202, 202, 202, 401]
    assert await verdicts([new], *signers) == [401, 202, 202, 401, 401]


async def test_other_versions_beside_a_good_signature_are_passed_over(source: Source) -> None:
    body = source.event("test.ping", {})
    headers = source.headers(body)
    good = headers["webhook-signature"]
    for around in (f"v1a,asymmetric {good}", f"{good} v2,x", f" {good}", f"{good} ", f"v1,x  {good}"):
        answer = await source.post(body, headers | {"webhook-signature": around})
        assert answer.status_code == 202, around


async def test_a_malformed_header_is_a_401(
    http: httpx.AsyncClient, source: Source, sessions: Sessions
) -> None:
    body = source.event(EventType.PUBLISHED, SIGNAL)
    good = {name: value.encode() for name, value in source.headers(body).items()}
    bare = good["webhook-signature"].removeprefix(b"v1,")
    now = good["webhook-timestamp"]
    wrong: dict[str, list[bytes | None]] = {
        "webhook-id": [None, b"", b" ", b"two words", b"\xe9", b"\xff\xfe", b"x" * 257, b"tab\there"],
        "webhook-timestamp": [
            *(None, b"", b"0", b"-1", b"+" + now, b" " + now, now + b" ", now + b".9", b"1e9", b"0x6563"),
            *("١٧٩٥٣٣٠٠٠٠".encode(), b"nan", b"9" * 12, b"9" * 13, b"9" * 5000, now[:-1] + b"\xb2"),
        ],
        "webhook-signature": [
            *(None, b"", b" ", b",", b"v1", b"v1,", b"v1,,", b"v1 ," + bare, b"v1, " + bare, b"v1" + bare),
            *(bare, b"V1," + bare, b"v2," + bare, b"v1a," + bare, b"v1,v1," + bare, b"v1," + bare + b","),
            *(b"v1," + bare[:-1], b"v1," + bare.rstrip(b"="), b"v1," + bare.swapcase(), b"v1,%%%%"),
            *(
                "v1,é".encode(),
                b"v1,\xff\xfe",
                b"v1,\x00",
                b"v1," + b"A" * 8000,
                b" ".join([b"v1,AAAA"] * 500),
            ),
        ],
    }
    answers = {}
    for name, values in wrong.items():
        for value in values:
            headers = {**good, name: value}
            sent = [(key.encode(), each) for key, each in headers.items() if each is not None]
            answer = await http.post(PATH, content=body, headers=sent)
            answers[name, value] = problem(answer)
            assert answer.headers["www-authenticate"] == "Webhook"
    assert answers == dict.fromkeys(answers, (401, "unauthenticated"))
    assert await kept(sessions) == [0, 0, 0, 0]


async def test_the_signature_is_over_the_bytes_as_they_came(source: Source, sessions: Sessions) -> None:
    body = source.event(EventType.PUBLISHED, SIGNAL)
    headers = source.headers(body)
    same_meaning = [
        body + b"\n",
        b" " + body,
        body.replace(b": ", b":"),
        json.dumps(json.loads(body), sort_keys=True).encode(),
        body.replace(b"BTC/USDT", rb"BTC\/USDT"),
    ]
    for other in same_meaning:
        assert json.loads(other) == json.loads(body)
        assert problem(await source.post(other, headers)) == (401, "unauthenticated")
    assert await kept(sessions) == [0, 0, 0, 0]
    assert accepted(await source.post(body, headers))["status"] == "accepted"


async def test_a_delivery_is_fresh_for_five_minutes_either_way(
    source: Source, clock: Clock, sessions: Sessions
) -> None:
    body = source.event("test.ping", {})
    verdicts = {}
    for seconds in (-301, -300, 0, 300, 301):
        sent_at = str(int((NOON + timedelta(seconds=seconds)).timestamp()))
        verdicts[seconds] = (await source.post(body, source.headers(body, sent_at=sent_at))).status_code
    assert verdicts == {-301: 401, -300: 202, 0: 202, 300: 202, 301: 401}

    clock.move(timedelta(milliseconds=1))
    sent_at = str(int((NOON - TOLERANCE).timestamp()))
    late = await source.post(body, source.headers(body, sent_at=sent_at))
    assert problem(late) == (401, "unauthenticated")
    assert await kept(sessions, Event) == [3]


async def test_every_wrong_signature_is_answered_alike(source: Source) -> None:
    body = source.event("test.ping", {})
    headers = source.headers(body)
    told = set()
    for signature_ in ("", "v1,AAAA", "nonsense", signature(new_webhook_secret(), "a", "1", body)):
        answer = await source.post(body, headers | {"webhook-signature": signature_, "x-request-id": "a" * 8})
        told.add(answer.text)
    assert len(told) == 1


# What is refused.


async def test_what_is_no_json_is_a_400(source: Source, sessions: Sessions) -> None:
    start = b'{"type": "signal.published", "timestamp": "2026-11-24T12:00:00Z", "data": '
    bodies = [
        b"",
        b"{",
        b"signal",
        b"{'type': 'signal.published'}",
        start + b'{"id": "s1", "entry_price": NaN}}',
        start + b'{"id": "s1", "entry_price": Infinity}}',
        start + b'{"id": "s1", "entry_price": -Infinity}}',
        start + b'{"id": "s1", "entry_price": 01}}',
        start + b'{"id": "s1", "entry_price": 1e99999999999999999999}}',
        start + b'{"id": "s1", "entry_price": ' + b"9" * 5000 + b"}}",
        start + b'{"id": "s1", "id": "s2"}}',
        start + b'{"id": "s1"}, "type": "signal.closed"}',
        start + b'{"id": "s1", "take_profits": [{"price": 1, "price": 2}]}}',
        start + b'{"id": "s\\u0000"}}',
        start + b'{"id": "s\x00"}}',
        start + b'{"id": "\\ud800"}}',
        start + b'{"\\udfff": "s1"}}',
        start + b'{"id": "\xff"}}',
        start + b'{"id": "\xed\xa0\x80"}}',
        start + b"[" * 30 + b"]" * 30 + b"}",
        b"[" * 30_000,
        json.dumps({"type": "test.ping"}).encode("utf-16"),
    ]
    answers = {body: problem(await source.post(body)) for body in bodies}
    assert answers == dict.fromkeys(bodies, (400, "malformed_body"))
    assert await kept(sessions) == [0, 0, 0, 0]


async def test_a_body_has_64_kib_at_most(source: Source, sessions: Sessions) -> None:
    body = source.event("test.ping", {"note": ""})
    fits = body.replace(b'""', b'"' + b"x" * (MAX_SIZE - len(body)) + b'"')
    assert len(fits) == MAX_SIZE
    assert accepted(await source.post(fits))["status"] == "ignored"

    too_large = fits.replace(b"x", b"xx", 1)
    assert problem(await source.post(too_large)) == (413, "body_too_large")

    async def in_chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(too_large), 1000):
            yield too_large[start : start + 1000]

    unannounced = await source.http.post(PATH, content=in_chunks(), headers=source.headers(too_large))
    assert problem(unannounced) == (413, "body_too_large")
    assert await kept(sessions) == [1, 0, 0, 0]


async def test_a_body_is_declared_as_json(source: Source, sessions: Sessions) -> None:
    body = source.event("test.ping", {})
    verdicts = {}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "json", "application/jsonp"):
        headers = source.headers(body) | {"content-type": kind}
        verdicts[kind] = problem(await source.post(body, headers))
    assert verdicts == dict.fromkeys(verdicts, (415, "unsupported_media_type"))
    assert await kept(sessions, Event) == [0]
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/cloudevents+json"):
        accepted(await source.post(body, source.headers(body) | {"content-type": kind}))


@dataclass(frozen=True)
class Number:
    """An amount written as a JSON number, exactly so."""

    digits: str


def as_json(value: Any) -> str:
    """JSON in which a Number stands as it is written."""
    if isinstance(value, Number):
        return value.digits
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {as_json(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_json(each) for each in value) + "]"
    return json.dumps(value)


NO_PRICES: Final = ["NaN", "sNaN", "Infinity", "-Infinity", "0", "0.0", "-0", "-1", "-26850"]
OUT_OF_RANGE: Final = ["1e19", "1e400", "1e-19", "1e-400", "1e999", "0.0000000000000000001", "9" * 20]
NO_NUMBERS: Final = [
    *(
        "",
        " ",
        "1 ",
        " 1",
        "+1",
        "1.",
        ".5",
        "1,5",
        "1_000",
        "0x10",
        "١٢",
        "１２",
        "1e",
        "e1",
        "01",
        "--1",
        "1e1000",
    ),
    *("ten", True, False, [], {}, ["1"]),
]
NUMBERS_OUT_OF_RANGE: Final = [
    Number(digits) for digits in ("1e400", "1e19", "1e-19", "0", "-1", "0.0000000000000000001", "1E+400")
]
WRONG_AMOUNTS: Final[list[Any]] = [*NO_PRICES, *OUT_OF_RANGE, *NO_NUMBERS, *NUMBERS_OUT_OF_RANGE]
TARGET: Final = "27150.5"
NO_TIMES: Final[list[Any]] = [
    *("2026-11-24T12:00:00", "2026-11-24", "yesterday", "", "2026-13-01T00:00:00Z"),
    *("0001-01-01T00:00:00+14:00", 1795330000, [], True),
]
FIVE_MINUTES_AND_MORE: Final = (NOON + TOLERANCE + timedelta(seconds=1)).isoformat()

WRONG_SIGNALS: Final[list[tuple[str, dict[str, Any]]]] = [
    # Amounts, wherever they stand.
    *(("data.entry_price", {"entry_price": amount}) for amount in WRONG_AMOUNTS),
    *(("data.stop_loss", {"stop_loss": amount}) for amount in WRONG_AMOUNTS),
    *(("data.quantity", {"quantity": amount}) for amount in WRONG_AMOUNTS),
    *(("data.take_profits.0.price", {"take_profits": [{"price": amount}]}) for amount in WRONG_AMOUNTS),
    *(
        ("data.take_profits.0.portion", {"take_profits": [{"price": TARGET, "portion": portion}]})
        for portion in (*WRONG_AMOUNTS, "1.1", "1.000000000000000001", "50")
    ),
    # Sides.
    ("data.stop_loss", {"stop_loss": "26850"}),
    ("data.stop_loss", {"stop_loss": "26850.000000000000000001"}),
    ("data.stop_loss", {"direction": "sell", "take_profits": []}),
    ("data.stop_loss", {"entry_price": None, "stop_loss": TARGET}),
    ("data.take_profits", {"take_profits": [{"price": "26850"}]}),
    (
        "data.take_profits",
        {"take_profits": [{"price": TARGET, "portion": "0.5"}, {"price": "26849", "portion": "0.1"}]},
    ),
    ("data.take_profits", {"direction": "sell", "stop_loss": None}),
    # Portions.
    (
        "data.take_profits",
        {"take_profits": [{"price": TARGET, "portion": "0.5"}, {"price": "27500", "portion": "0.51"}]},
    ),
    ("data.take_profits", {"take_profits": [{"price": TARGET, "portion": "0.5"}, {"price": "27500"}]}),
    ("data.take_profits", {"take_profits": [{"price": TARGET}, {"price": "27500"}]}),
    (
        "data.take_profits",
        {"take_profits": [{"price": str(28000 + n), "portion": "0.01"} for n in range(21)]},
    ),
    ("data.take_profits", {"take_profits": {"price": TARGET}}),
    ("data.take_profits.0.price", {"take_profits": [{"portion": "1"}]}),
    ("data.take_profits.0", {"take_profits": [TARGET]}),
    ("data.take_profits.0.size", {"take_profits": [{"price": TARGET, "size": "1"}]}),
    # A limit needs its price.
    ("data.entry_price", {"order_type": "limit", "entry_price": ABSENT}),
    ("data.entry_price", {"order_type": "limit", "entry_price": None}),
    # Words.
    *(("data.direction", {"direction": word}) for word in ("BUY", "long", "Buy", "", None, 1, ABSENT)),
    *(("data.order_type", {"order_type": word}) for word in ("stop", "oco", "MARKET", "")),
    *(("data.market", {"market": word}) for word in ("stocks", "Crypto", "")),
    *(("data.id", {"id": id_}) for id_ in ("", "x" * 65, 7, None, ["s1"], "two\nlines", "\u202e", ABSENT)),
    *(("data.symbol", {"symbol": word}) for word in ("", "BTC/USDT\n", "x" * 65, None, 1, ABSENT)),
    *(("data.provider", {"provider": word}) for word in ("", "x" * 65)),
    ("data.timeframe", {"timeframe": "x" * 33}),
    ("data.title", {"title": "x" * 201}),
    ("data.note", {"note": "x" * 4001}),
    ("data.plans", {"plans": "gold"}),
    ("data.plans", {"plans": [f"p{n}" for n in range(101)]}),
    ("data.plans.1", {"plans": ["gold", ""]}),
    ("data.leverage", {"leverage": 100}),
    ("data.user_id", {"user_id": "ann"}),
    # Times.
    *((f"data.{name}", {name: moment}) for name in ("published_at", "expires_at") for moment in NO_TIMES),
    ("data.published_at", {"published_at": FIVE_MINUTES_AND_MORE}),
]

WRONG_EVENTS: Final[list[tuple[str, str, dict[str, Any]]]] = [
    *(("data.stop_loss", EventType.UPDATED, {"id": "s1", "stop_loss": amount}) for amount in WRONG_AMOUNTS),
    ("data.id", EventType.UPDATED, {"stop_loss": "1"}),
    ("data.entry_price", EventType.UPDATED, {"id": "s1", "entry_price": "1"}),
    ("data.direction", EventType.UPDATED, {"id": "s1", "direction": "sell"}),
    (
        "data.take_profits",
        EventType.UPDATED,
        {"id": "s1", "take_profits": [{"price": "1", "portion": "0.6"}, {"price": "2", "portion": "0.6"}]},
    ),
    ("data.take_profits", EventType.UPDATED, {"id": "s1", "take_profits": [{"price": "1"}, {"price": "2"}]}),
    ("data.id", EventType.CANCELLED, {}),
    ("data.portion", EventType.CANCELLED, {"id": "s1", "portion": "0.5"}),
    ("data.id", EventType.CLOSED, {"id": ""}),
    *(
        ("data.portion", EventType.CLOSED, {"id": "s1", "portion": portion})
        for portion in (*WRONG_AMOUNTS, "1.1", "100")
    ),
    ("data.user_id", EventType.SUBSCRIPTION, {"plans": []}),
    ("data.plans", EventType.SUBSCRIPTION, {"user_id": "ann"}),
    ("data.plans", EventType.SUBSCRIPTION, {"user_id": "ann", "plans": None}),
    *(
        (
            "data.max_connections",
            EventType.SUBSCRIPTION,
            {"user_id": "ann", "plans": [], "max_connections": n},
        )
        for n in (0, -1, "3", True, 1.5, 10**9)
    ),
    ("data.expires_at", EventType.SUBSCRIPTION, {"user_id": "ann", "plans": [], "expires_at": "2027-01-01"}),
]

WRONG_ENVELOPES: Final[list[tuple[str, Any]]] = [
    ("type", {"timestamp": NOON.isoformat(), "data": SIGNAL}),
    ("type", {"type": "", "timestamp": NOON.isoformat(), "data": SIGNAL}),
    ("timestamp", {"type": "x" * 65}),
    ("type", {"type": 1, "timestamp": NOON.isoformat(), "data": SIGNAL}),
    ("timestamp", {"type": EventType.PUBLISHED, "data": SIGNAL}),
    ("timestamp", {"type": EventType.PUBLISHED, "timestamp": "2026-11-24T12:00:00", "data": SIGNAL}),
    ("timestamp", {"type": EventType.PUBLISHED, "timestamp": 1795330000, "data": SIGNAL}),
    ("timestamp", {"type": EventType.PUBLISHED, "timestamp": FIVE_MINUTES_AND_MORE, "data": SIGNAL}),
    ("timestamp", {"type": "test.ping", "timestamp": FIVE_MINUTES_AND_MORE, "data": {}}),
    ("data", {"type": EventType.PUBLISHED, "timestamp": NOON.isoformat()}),
    ("data", {"type": EventType.PUBLISHED, "timestamp": NOON.isoformat(), "data": [SIGNAL]}),
    ("data", {"type": EventType.PUBLISHED, "timestamp": NOON.isoformat(), "data": None}),
    ("body", [EventType.PUBLISHED]),
    ("body", "signal.published"),
    ("body", None),
]


async def test_every_value_that_cannot_be_accepted_is_a_422_that_says_where(
    source: Source, sessions: Sessions
) -> None:
    def enveloped(type_: str, data: dict[str, Any]) -> dict[str, Any]:
        return {"type": type_, "timestamp": NOON.isoformat(), "data": data}

    cases = [
        *(
            (path, enveloped(EventType.PUBLISHED, changed(SIGNAL, changes)))
            for path, changes in WRONG_SIGNALS
        ),
        *((path, enveloped(type_, data)) for path, type_, data in WRONG_EVENTS),
        *WRONG_ENVELOPES,
    ]
    wrongly_answered = {}
    for path, event in cases:
        body = as_json(event)
        answer = await source.post(body.encode())
        told = answer.json()
        paths = [each["path"] for each in told.get("errors", ())]
        if (answer.status_code, told.get("code"), paths) != (422, "invalid", [path]):
            wrongly_answered[body] = (path, answer.status_code, told)
    assert wrongly_answered == {}
    assert await kept(sessions) == [0, 0, 0, 0]


async def test_all_that_is_wrong_is_said_at_once_and_nothing_is_repeated(source: Source) -> None:
    answer = await source.publish(direction="up", entry_price="secret-price", stop_loss=True)
    assert problem(answer) == (422, "invalid")
    assert {each["path"] for each in answer.json()["errors"]} == {
        "data.direction",
        "data.entry_price",
        "data.stop_loss",
    }
    assert "secret-price" not in answer.text


# What is kept.


async def test_a_published_signal_is_kept_as_it_came(source: Source, sessions: Sessions) -> None:
    receipt = accepted(
        await source.publish(
            "msg_full",
            provider="alpha",
            market="crypto",
            order_type="limit",
            quantity="0.01",
            timeframe="4h",
            plans=["gold", "silver"],
            published_at="2026-11-24T13:59:00+02:00",
            expires_at="2026-11-25T12:00:00Z",
            title="Breakout",
            note="Two\nlines.",
        )
    )
    row = await one_row(sessions, SignalRow)
    assert receipt == {"event_id": "msg_full", "signal_id": str(row.id), "status": "accepted"}
    assert row.meaning() == Signal(
        symbol="BTC/USDT",
        direction=Side.BUY,
        order_type=OrderType.LIMIT,
        entry_price=Decimal(26850),
        stop_loss=Decimal(26500),
        take_profits=(Level(Decimal("27150.5"), Decimal("0.5")), Level(Decimal(27500), Decimal("0.5"))),
        quantity=Decimal("0.01"),
        market=Market.CRYPTO,
        published_at=datetime(2026, 11, 24, 11, 59, tzinfo=UTC),
        expires_at=datetime(2026, 11, 25, 12, tzinfo=UTC),
    )
    assert (row.provider, row.source_id, row.timeframe, row.title, row.note, row.plans, row.received_at) == (
        *("alpha", "s1", "4h", "Breakout", "Two\nlines."),
        ["gold", "silver"],
        NOON,
    )
    event = await one_row(sessions, Event)
    assert (event.webhook_id, event.type, event.provider, event.source_id, event.status) == (
        *("msg_full", "signal.published", "alpha", "s1"),
        Reception.ACCEPTED,
    )
    assert event.data["entry_price"] == "26850"


async def test_a_bare_signal_is_enough(source: Source, sessions: Sessions) -> None:
    moment = NOON - timedelta(hours=1)
    data = {"id": "s1", "symbol": "EURUSD", "direction": "sell"}
    accepted(await source.say(EventType.PUBLISHED, data, at=moment))
    row = await one_row(sessions, SignalRow)
    assert row.meaning() == Signal("EURUSD", Side.SELL, published_at=moment)
    assert (row.provider, row.plans) == ("default", [])


EXACT: Final[list[tuple[Any, str]]] = [
    (Number("0.1"), "0.1"),
    ("0.1", "0.1"),
    (Number("0.10"), "0.1"),
    (Number("26850"), "26850"),
    (Number("1e3"), "1000"),
    ("2.5E+2", "250"),
    (Number("1e-18"), "0.000000000000000001"),
    ("0.123456789012345678", "0.123456789012345678"),
    (Number("0.123456789012345678"), "0.123456789012345678"),
    (Number("1234567890123456789.123456789012345678"), "1234567890123456789.123456789012345678"),
    ("9999999999999999999.999999999999999999", "9999999999999999999.999999999999999999"),
    (Number("9007199254740993"), "9007199254740993"),
]


async def test_amounts_are_exact(source: Source, sessions: Sessions) -> None:
    for number, (written, _) in enumerate(EXACT):
        data = {"id": f"s{number:02}", "symbol": "BTC/USDT", "direction": "buy", "entry_price": written}
        event = {"type": EventType.PUBLISHED, "timestamp": NOON.isoformat(), "data": data}
        accepted(await source.post(as_json(event).encode()))
    async with sessions() as session:
        signals = await session.scalars(select(SignalRow.entry_price).order_by(SignalRow.source_id))
        events = await session.scalars(select(Event.data["entry_price"].astext).order_by(Event.source_id))
    assert signals.all() == [Decimal(amount) for _, amount in EXACT]
    assert events.all() == [amount for _, amount in EXACT]


async def test_targets_are_kept_nearest_first_and_a_single_one_means_all(
    source: Source, sessions: Sessions
) -> None:
    targets = [{"price": 26000, "portion": "0.25"}, {"price": "26500.5", "portion": 0.5}]
    accepted(await source.publish(direction="sell", stop_loss="27000", take_profits=targets))
    row = await one_row(sessions, SignalRow)
    assert row.take_profits == [
        {"price": "26500.5", "portion": "0.5"},
        {"price": "26000", "portion": "0.25"},
    ]
    accepted(await source.publish(id="s2", take_profits=[{"price": "27000"}]))
    async with sessions() as session:
        second = await session.scalar(select(SignalRow.take_profits).where(SignalRow.source_id == "s2"))
    assert second == [{"price": "27000", "portion": "1"}]


async def test_a_type_we_do_not_know_is_kept_and_ignored(source: Source, sessions: Sessions) -> None:
    data = {"anything": [1, "two", {"three": None}], "amount": Number("0.10"), "huge": Number("1e400")}
    kinds = ["test.ping", "Signal.Published", "signal.published.v2"]
    for kind in kinds:
        event = as_json({"type": kind, "timestamp": NOON.isoformat(), "data": data}).encode()
        headers = source.headers(event, f"msg_{kind}")
        receipt = accepted(await source.post(event, headers))
        assert receipt == {"event_id": f"msg_{kind}", "signal_id": None, "status": "ignored"}
        assert accepted(await source.post(event, headers))["status"] == "duplicate"
    async with sessions() as session:
        rows = (await session.scalars(select(Event).order_by(Event.id))).all()
    assert [(row.type, row.status) for row in rows] == [(kind, Reception.IGNORED) for kind in kinds]
    assert rows[0].data == {"anything": [1, "two", {"three": None}], "amount": "0.10", "huge": "1E+400"}
    assert await kept(sessions, SignalRow, Execution, Entitlement) == [0, 0, 0]


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": "a text"}, {"data": [{"id": "s1"}]}])
async def test_a_type_we_do_not_know_may_be_long_and_say_nothing(
    source: Source, sessions: Sessions, data: dict[str, Any]
) -> None:
    kind = "vendor." + "x" * 100
    body = json.dumps({"type": kind, "timestamp": NOON.isoformat(), **data}).encode()
    receipt = accepted(await source.post(body, source.headers(body, "msg_1")))
    assert receipt == {"event_id": "msg_1", "signal_id": None, "status": "ignored"}
    assert accepted(await source.post(body, source.headers(body, "msg_1")))["status"] == "duplicate"
    row = await one_row(sessions, Event)
    assert (row.type, row.data, row.status) == (kind[:64], {}, Reception.IGNORED)


async def test_a_field_that_is_null_counts_as_left_out(source: Source, sessions: Sessions) -> None:
    nothing = dict.fromkeys(PublishedSignal.model_fields)
    given = {**nothing, "id": "s1", "symbol": "BTC/USDT", "direction": "buy"}
    assert accepted(await source.say(EventType.PUBLISHED, given))["status"] == "accepted"
    row = await one_row(sessions, SignalRow)
    assert (row.provider, row.order_type, row.plans, row.take_profits) == ("default", "market", [], [])
    assert (row.published_at, row.entry_price, row.stop_loss) == (NOON, None, None)
    later = {"id": "s1", "provider": None, "portion": None}
    assert accepted(await source.say(EventType.CLOSED, later))["signal_id"] == str(row.id)


async def test_a_stop_that_an_update_calls_null_is_still_taken_away(
    source: Source, sessions: Sessions
) -> None:
    given = {"id": "s1", "provider": None, "stop_loss": None}
    accepted(await source.say(EventType.UPDATED, given))
    assert (await one_row(sessions, Event)).data == {"id": "s1", "stop_loss": None}


async def test_a_subscription_may_say_more_than_we_know(source: Source, sessions: Sessions) -> None:
    given = {"user_id": BOB.id, "plans": ["gold"], "trial": True, "seats": {"used": 1}}
    assert accepted(await source.say(EventType.SUBSCRIPTION, given))["status"] == "accepted"
    assert (await one_row(sessions, Entitlement)).plans == ["gold"]


# Nothing happens twice.


async def test_a_delivery_that_is_repeated_is_a_duplicate(
    source: Source, sessions: Sessions, rows: Rows, rings: Rings
) -> None:
    await rows.connection(ADMIN_ANN)
    first = accepted(await source.publish("msg_1"))
    again = accepted(await source.publish("msg_1"))
    renamed = accepted(await source.publish("msg_2", note="The same signal, told again."))
    assert (first["status"], again["status"], renamed["status"]) == ("accepted", "duplicate", "duplicate")
    assert {first["signal_id"], again["signal_id"], renamed["signal_id"]} == {first["signal_id"]}
    assert await kept(sessions) == [2, 1, 1, 0]
    assert (await one_row(sessions, SignalRow)).note is None
    assert len(rings.heard) == 1


async def test_an_id_is_the_providers_own(source: Source, sessions: Sessions) -> None:
    for provider in ("alpha", "beta"):
        assert accepted(await source.publish(provider=provider))["status"] == "accepted"
    assert await kept(sessions, SignalRow) == [2]


@pytest.mark.parametrize("same_delivery", [True, False])
async def test_twenty_at_once_are_one_signal(
    source: Source, sessions: Sessions, rows: Rows, rings: Rings, *, same_delivery: bool
) -> None:
    for _ in range(3):
        await rows.connection(ADMIN_ANN)
    answers = await asyncio.gather(
        *(source.publish("msg_one" if same_delivery else f"msg_{n}") for n in range(20))
    )
    receipts = [accepted(answer) for answer in answers]
    assert sorted(receipt["status"] for receipt in receipts) == ["accepted", *["duplicate"] * 19]
    row = await one_row(sessions, SignalRow)
    assert {receipt["signal_id"] for receipt in receipts} == {str(row.id)}
    assert await kept(sessions, Event, Execution) == [1 if same_delivery else 20, 3]
    assert len(rings.heard) == 3


@pytest.mark.parametrize("type_", [EventType.UPDATED, EventType.CANCELLED, EventType.CLOSED])
async def test_a_later_event_that_is_repeated_is_a_duplicate(
    source: Source, sessions: Sessions, rings: Rings, type_: EventType
) -> None:
    published = accepted(await source.publish())
    answers = await asyncio.gather(*(source.say(type_, {"id": "s1"}, webhook_id="msg_x") for _ in range(10)))
    receipts = [accepted(answer) for answer in answers]
    assert sorted(receipt["status"] for receipt in receipts) == ["accepted", *["duplicate"] * 9]
    assert {receipt["signal_id"] for receipt in receipts} == {published["signal_id"]}
    assert await kept(sessions, Event) == [2]
    assert len(rings.heard) == 1


# Any order.

Told = tuple[EventType, dict[str, Any], timedelta]
"""An event's type and data, and how long after the signal it happened."""

LATER: Final[list[Told]] = [
    (
        EventType.UPDATED,
        {"stop_loss": "26600", "expires_at": "2026-11-25T00:00:00Z"},
        timedelta(minutes=1),
    ),
    (EventType.UPDATED, {"stop_loss": "26700", "take_profits": [{"price": "28000"}]}, timedelta(minutes=2)),
]
ENDINGS: Final[list[Told]] = [
    (EventType.CANCELLED, {}, timedelta(minutes=3)),
    (EventType.CLOSED, {}, timedelta(minutes=3)),
    (EventType.CLOSED, {"portion": "0.25"}, timedelta(minutes=3)),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=["cancelled", "closed", "closed in part"])
async def test_events_in_any_order_end_in_the_same_course(
    source: Source, sessions: Sessions, clock: Clock, ending: Told
) -> None:
    published: Told = (EventType.PUBLISHED, SIGNAL, timedelta())
    clock.move(timedelta(minutes=5))
    for number, order in enumerate(itertools.permutations([published, *LATER, ending])):
        for type_, data, after in (*order, *order):
            body = source.event(type_, {**data, "id": f"s{number}"}, NOON + after)
            name = f"{number}:{type_}:{after}"
            accepted(await source.post(body, source.headers(body, name)))

    type_, data, _ = ending
    whole = type_ is EventType.CLOSED and not data
    expected = Course(
        signal=Signal(
            symbol="BTC/USDT",
            direction=Side.BUY,
            entry_price=Decimal(26850),
            stop_loss=Decimal(26700),
            take_profits=(Level(Decimal(28000), Decimal(1)),),
            published_at=NOON,
            expires_at=datetime(2026, 11, 25, tzinfo=UTC),
        ),
        cancelled=type_ is EventType.CANCELLED,
        closed=whole,
        open_portion=Decimal(0) if whole else 1 - Decimal(data.get("portion", "0")),
    )
    async with sessions() as session:
        signals = (await session.scalars(select(SignalRow))).all()
        courses = [await course_of(session, signal) for signal in signals]
    assert len(courses) == 24
    assert courses == [expected] * 24


@pytest.mark.parametrize("type_", [EventType.UPDATED, EventType.CANCELLED, EventType.CLOSED])
async def test_an_event_before_its_signal_is_accepted_without_a_signal_id(
    source: Source, sessions: Sessions, type_: EventType
) -> None:
    early = accepted(await source.say(type_, {"id": "s1"}))
    assert (early["status"], early["signal_id"]) == ("accepted", None)
    assert accepted(await source.publish())["status"] == "accepted"
    assert await kept(sessions, Event, SignalRow) == [2, 1]


async def test_the_subscription_stated_last_holds(source: Source, sessions: Sessions, clock: Clock) -> None:
    clock.move(timedelta(hours=1))
    statements: list[tuple[int, dict[str, Any]]] = [
        (0, {"plans": ["bronze"]}),
        (2, {"plans": ["gold", "silver"], "expires_at": "2027-01-01T00:00:00Z", "max_connections": 3}),
        (1, {"plans": []}),
    ]
    for number, order in enumerate(itertools.permutations(statements)):
        for minutes, terms in order:
            data = {"user_id": f"user-{number}", **terms}
            receipt = accepted(
                await source.say(EventType.SUBSCRIPTION, data, at=NOON + timedelta(minutes=minutes))
            )
            assert (receipt["status"], receipt["signal_id"]) == ("accepted", None)
    async with sessions() as session:
        rows = (await session.scalars(select(Entitlement))).all()
    assert len(rows) == 6
    found = {(tuple(row.plans), row.expires_at, row.max_connections, row.stated_at) for row in rows}
    assert found == {
        (("gold", "silver"), datetime(2027, 1, 1, tzinfo=UTC), 3, NOON + timedelta(minutes=2)),
    }


async def test_a_repeated_subscription_changes_nothing(source: Source, sessions: Sessions) -> None:
    first = {"user_id": "ann", "plans": ["gold"]}
    other = {"user_id": "ann", "plans": ["silver"]}
    assert accepted(await source.say(EventType.SUBSCRIPTION, first, webhook_id="m"))["status"] == "accepted"
    again = await source.say(EventType.SUBSCRIPTION, other, at=NOON + timedelta(seconds=1), webhook_id="m")
    assert accepted(again)["status"] == "duplicate"
    assert (await one_row(sessions, Entitlement)).plans == ["gold"]


# Who executes it.


@dataclass(frozen=True)
class Cast:
    """Connections of every kind, by name."""

    connections: Mapping[str, UUID]
    sessions: Sessions

    async def reached(self, signal_id: str) -> set[str]:
        """Whom a signal reached, each once."""
        async with self.sessions() as session:
            ids = (
                await session.scalars(
                    select(Execution.connection_id).where(Execution.signal_id == UUID(signal_id))
                )
            ).all()
        names = {id_: name for name, id_ in self.connections.items()}
        assert len(ids) == len(set(ids))
        return {names[id_] for id_ in ids}


@pytest.fixture
async def cast(rows: Rows, sessions: Sessions) -> Cast:
    """One connection for every reason to execute a signal or not."""

    def user(name: str) -> Owner:
        return Owner(Role.USER, name)

    fx = {"kind": Kind.FX, "exchange": "mt5", "paper": None}
    crypto = {"kind": Kind.CRYPTO, "exchange": "binance", "paper": None}
    drawn: dict[str, tuple[Owner, dict[str, Any]]] = {
        "admin": (ADMIN_ANN, {}),
        "admin crypto": (ADMIN_ANN, crypto),
        "admin fx": (ADMIN_ANN, fx),
        "admin inactive": (ADMIN_ANN, {"status": ConnectionStatus.INACTIVE}),
        "admin testing": (ADMIN_ANN, {"status": ConnectionStatus.TESTING}),
        "admin in error": (ADMIN_ANN, {"status": ConnectionStatus.ERROR}),
        "admin deleted": (ADMIN_ANN, {"deleted_at": NOON}),
        "gold": (user("gold"), {}),
        "gold again": (user("gold"), {}),
        "gold fx": (user("gold"), fx),
        "gold inactive": (user("gold"), {"status": ConnectionStatus.INACTIVE}),
        "silver": (user("silver"), {}),
        "both": (user("both"), {}),
        "planless": (user("planless"), {}),
        "lapsing": (user("lapsing"), {}),
        "lapsed": (user("lapsed"), {}),
        "nobody": (user("nobody"), {}),
        # An admin's `sub` may be equal to a user's, whose plan it does not share.
        "ann, the user": (ANN, {}),
    }
    await rows.entitle(user("gold"))
    await rows.entitle(user("silver"), plans=["silver"], expires_at=NOON + timedelta(days=1))
    await rows.entitle(user("both"), plans=["gold", "silver"])
    await rows.entitle(user("planless"), plans=[])
    await rows.entitle(user("lapsing"), expires_at=NOON + timedelta(microseconds=1))
    await rows.entitle(user("lapsed"), expires_at=NOON)
    made = {name: (await rows.connection(owner, **columns)).id for name, (owner, columns) in drawn.items()}
    return Cast(made, sessions)


ADMINS: Final = {"admin", "admin crypto"}
GOLD: Final = {"gold", "gold again"}


MEANT_FOR: Final[list[tuple[dict[str, Any], set[str]]]] = [
    ({}, ADMINS | GOLD | {"admin fx", "gold fx", "silver", "both", "planless", "lapsing"}),
    ({"market": "crypto"}, ADMINS | GOLD | {"silver", "both", "planless", "lapsing"}),
    ({"market": "fx"}, {"admin fx", "gold fx"}),
    ({"market": "crypto", "plans": ["gold"]}, ADMINS | GOLD | {"both", "lapsing"}),
    ({"market": "crypto", "plans": ["silver", "tin"]}, ADMINS | {"silver", "both"}),
    ({"market": "fx", "plans": ["silver"]}, {"admin fx"}),
    ({"market": "crypto", "plans": ["tin"]}, ADMINS),
]


async def test_a_signal_reaches_those_it_is_meant_for(source: Source, cast: Cast, rings: Rings) -> None:
    for number, (terms, meant) in enumerate(MEANT_FOR):
        rings.heard.clear()
        receipt = accepted(await source.publish(id=f"s{number}", **terms))
        assert await cast.reached(receipt["signal_id"]) == meant, terms
        assert len(rings.heard) == len(meant)


async def test_without_entitlements_every_active_connection_executes(
    settings: Settings, desk: Desk, clock: Clock, cast: Cast
) -> None:
    async with served(settings, dataclasses.replace(desk, entitlements_required=False)) as http:
        source = Source(http, settings.webhook_secrets[0].get_secret_value(), clock)
        receipt = accepted(await source.publish(market="crypto", plans=["tin"]))
    everybody = {name for name in cast.connections if not name.startswith("admin ") and "fx" not in name}
    assert await cast.reached(receipt["signal_id"]) == (everybody - {"gold inactive"}) | {"admin crypto"}


async def test_an_execution_is_pending_work_with_its_signals_terms(
    source: Source, rows: Rows, sessions: Sessions, rings: Rings
) -> None:
    connection = await rows.connection(ADMIN_ANN)
    receipt = accepted(await source.publish(direction="sell", stop_loss="27000", take_profits=[]))
    row: Execution = await one_row(sessions, Execution)
    assert (row.connection_id, str(row.signal_id), row.owner) == (
        connection.id,
        receipt["signal_id"],
        ADMIN_ANN,
    )
    assert (row.status, row.symbol, row.direction, row.order_type) == (
        ExecutionStatus.PENDING,
        "BTC/USDT",
        Side.SELL,
        OrderType.MARKET,
    )
    assert (row.received_at, row.attempts, row.filled_quantity) == (NOON, 0, Decimal(0))
    assert row.due_at is not None
    assert NOON < row.due_at <= NOON + timedelta(seconds=15)
    assert row.id.version == 7
    assert rings.heard == [("execute", row.id)]


async def test_a_connection_activated_later_does_not_execute_what_came_before(
    source: Source, rows: Rows, sessions: Sessions
) -> None:
    connection = await rows.connection(ADMIN_ANN, status=ConnectionStatus.INACTIVE)
    accepted(await source.publish("msg_1"))
    async with sessions.begin() as session:
        await session.execute(
            update(Connection).where(Connection.id == connection.id).values(status=ConnectionStatus.ACTIVE)
        )
    assert accepted(await source.publish("msg_2"))["status"] == "duplicate"
    assert await kept(sessions, Execution) == [0]
    accepted(await source.publish(id="s2"))
    assert await kept(sessions, Execution) == [1]


# 202 means kept.


@dataclass(frozen=True)
class Witness:
    """A queue that looks into the database when it is rung."""

    sessions: Sessions
    seen: list[ExecutionStatus | None] = field(default_factory=list)

    async def execute(self, execution_ids: Iterable[UUID]) -> None:
        """Look for what is rung for."""
        async with self.sessions() as session:
            for id_ in execution_ids:
                self.seen.append(await session.scalar(select(Execution.status).where(Execution.id == id_)))

    async def close_position(self, order_id: UUID) -> None:
        """Not rung by an event."""

    async def protect(self, position_id: UUID) -> None:
        """Not rung by an event."""

    async def follow(self, event_id: UUID) -> None:
        """Not rung by a published signal."""

    def deliver(self, channel_ids: Iterable[UUID]) -> None:
        """Not rung by an event."""


async def test_the_bell_rings_for_what_is_committed(
    settings: Settings, desk: Desk, clock: Clock, rows: Rows, sessions: Sessions
) -> None:
    await rows.connection(ADMIN_ANN)
    await rows.connection(ADMIN_ANN)
    witness = Witness(sessions)
    async with served(settings, dataclasses.replace(desk, queue=witness)) as http:
        accepted(await Source(http, settings.webhook_secrets[0].get_secret_value(), clock).publish())
    assert witness.seen == [ExecutionStatus.PENDING] * 2


async def until_somebody_waits(session: AsyncSession) -> None:
    """Wait until a statement of this database waits for a lock."""
    waiting = text("SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
                   "WHERE NOT granted AND datname = current_database()")  # fmt: skip
    async with asyncio.timeout(10):
        while not await session.scalar(waiting):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        (EventType.PUBLISHED, SIGNAL),
        (EventType.UPDATED, {"id": "s1", "stop_loss": "26600"}),
        (EventType.CANCELLED, {"id": "s1"}),
        (EventType.CLOSED, {"id": "s1"}),
        (EventType.SUBSCRIPTION, {"user_id": "bob", "plans": []}),
        ("test.ping", {}),
    ],
)
async def test_nothing_is_answered_before_it_is_kept(
    source: Source, sessions: Sessions, type_: str, data: dict[str, Any]
) -> None:
    async with sessions() as session:
        # A delivery of the same id that is not decided yet.
        session.add(
            Event(
                id=new_id(),
                webhook_id="msg_held",
                type="test.ping",
                timestamp=NOON,
                data={},
                body_sha256=b"",
                status=Reception.IGNORED,
                received_at=NOON,
            )
        )
        await session.flush()
        answer = asyncio.create_task(source.say(type_, data, webhook_id="msg_held"))
        await until_somebody_waits(session)
        assert not answer.done()
        await session.rollback()
    assert accepted(await answer)["status"] in ("accepted", "ignored")
    assert (await one_row(sessions, Event)).type == type_


async def test_without_redis_everything_is_kept_and_answered(
    environment: dict[str, str], rows: Rows, sessions: Sessions
) -> None:
    await rows.connection(ADMIN_ANN)
    now = Clock(datetime.now(UTC))
    settings = settings_from({**environment, "ENGINE_REDIS_URL": "redis://127.0.0.1:1/0"})
    async with served(settings) as http:
        source = Source(http, settings.webhook_secrets[0].get_secret_value(), now)
        assert accepted(await source.publish())["status"] == "accepted"
        assert await kept(sessions) == [1, 1, 1, 0]
        assert accepted(await source.say(EventType.CLOSED, {"id": "s1"}))["status"] == "accepted"
        subscription = {"user_id": BOB.id, "plans": []}
        assert accepted(await source.say(EventType.SUBSCRIPTION, subscription))["status"] == "accepted"
    assert await kept(sessions) == [3, 1, 1, 1]


async def test_without_postgresql_the_sender_is_told_to_come_again(serverless_settings: Settings) -> None:
    async with served(serverless_settings) as http:
        secret = serverless_settings.webhook_secrets[0].get_secret_value()
        source = Source(http, secret, Clock(datetime.now(UTC)))
        for type_, data in (
            (EventType.PUBLISHED, SIGNAL),
            (EventType.CANCELLED, {"id": "s1"}),
            (EventType.SUBSCRIPTION, {"user_id": "bob", "plans": []}),
            ("test.ping", {}),
        ):
            answer = await source.say(type_, data)
            assert problem(answer) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert problem(await source.post(b"{}", {"webhook-id": "x"})) == (401, "unauthenticated")


async def test_a_statement_that_fails_writes_nothing(
    source: Source, rows: Rows, sessions: Sessions, rings: Rings
) -> None:
    await rows.connection(ADMIN_ANN)
    async with sessions.begin() as session:
        # The last of the three inserts cannot be made.
        await session.execute(text("ALTER TABLE execution_logs ADD CONSTRAINT none CHECK (false)"))
    assert problem(await source.publish()) == (500, "internal")
    assert await kept(sessions) == [0, 0, 0, 0]
    assert rings.heard == []
