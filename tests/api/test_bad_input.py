"""Bad input: raw bodies no client means, sent to every operation that takes one. None is served, and none breaks us."""

import gzip
import json
from typing import Any, Final

import pytest

from app.api.bodies import MAX_SIZE
from app.desk import Sessions
from app.domain.owners import Owner, Role
from tests.api.estate import fingerprint, settle
from tests.api.operations import BODIES, Operation, operations
from tests.api.scene import Api, Clock, Rows

TAKING: Final = [operation for operation in operations() if "requestBody" in operation.content]

BOMB: Final = gzip.compress(b" " * 10_000_000)


def _corpus(good: bytes) -> dict[str, bytes]:
    """What could be sent instead of a good body."""
    return {
        "nothing": b"",
        "white space": b" \r\n\t",
        "deep lists": b"[" * 30_000,
        "deep objects": b'{"a":' * 10_000,
        "closed deep lists": b"[" * 1000 + b"]" * 1000,
        "NaN": b"NaN",
        "NaN inside": b'{"reason": NaN}',
        "minus infinity": b'{"portion": -Infinity}',
        "1e400": b'{"portion": 1e400}',
        "1e-400": b'{"stop_loss": 1e-400}',
        "an exponent of a million digits": b'{"portion": 1e' + b"9" * 50_000 + b"}",
        "an integer of many digits": b'{"portion": ' + b"9" * 60_000 + b"}",
        "a fraction of many digits": b'{"portion": 0.' + b"1" * 60_000 + b"}",
        "NUL": good + b"\0",
        "a NUL escaped": b'{"reason": "\\u0000"}',
        "half a surrogate pair": b'{"reason": "\\ud800"}',
        "a byte order mark": b"\xef\xbb\xbf" + good,
        "latin-1": b'{"reason": "\xe4"}',
        "overlong UTF-8": b'{"reason": "\xc0\x80"}',
        "UTF-16": good.decode().encode("utf-16"),
        "UTF-32": good.decode().encode("utf-32"),
        "truncated": good[:-1],
        "truncated in a text": b'{"reason": "unt',
        "twice": good + good,
        "a key twice": b'{"mode": "active", "mode": "halted"}',
        "single quotes": b"{'mode': 'active'}",
        "a comment": b'{"mode": "active" /* or not */}',
        "a trailing comma": b'{"mode": "active",}',
        "compressed": gzip.compress(good),
        "a compressed bomb": BOMB[:MAX_SIZE],
        "a list": b"[" + good + b"]",
        "a text": json.dumps(good.decode()).encode(),
        "a number": b"1",
        "true": b"true",
        "a form": b"mode=active&reason=x",
        "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "unknown fields": b'{"__proto__": {"role": "admin"}, "owner_id": "bob"}',
        "too much": b'{"reason": "' + b"x" * MAX_SIZE + b'"}',
    }


HARMLESS: Final = {"nothing", "white space"}
"""What means nothing where a body may be left out, and is refused where it may not."""


@pytest.mark.parametrize("operation", TAKING, ids=lambda operation: operation.id)
async def test_no_bad_body_is_served(
    api: Api, rows: Rows, sessions: Sessions, clock: Clock, operation: Operation
) -> None:
    owner = Owner(Role.ADMIN if operation.is_for_admins else Role.USER, "ann")
    estate = await settle(rows, owner)
    path = operation.at(estate.for_operation(operation.id))
    good = json.dumps(BODIES[operation.id]).encode()
    before = await fingerprint(sessions)
    for name, body in _corpus(good).items():
        if name in HARMLESS and not operation.content["requestBody"].get("required"):
            continue
        for encoding in ({}, {"Content-Encoding": "gzip"}):
            headers = {"Content-Type": "application/json", **encoding, **api.platform.bearer(owner)}
            if operation.id == "receive_event":
                headers |= api.platform.signed(body, clock())
            answer = await api.http.request(operation.method, path, content=body, headers=headers)
            _is_refused(name, answer)
    assert await fingerprint(sessions) == before


def _is_refused(name: str, answer: Any) -> None:
    assert answer.status_code in (400, 413, 415, 422), (name, answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json", name
    problem = answer.json()
    assert problem["status"] == answer.status_code, name
    # Nothing of what was sent comes back.
    assert "passwd" not in answer.text, name
    assert len(answer.content) < 2000, name


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=1e3", "limit=NaN", "limit=" + "9" * 5000, "cursor=1", "cursor=%00",
        "cursor=" + "a" * 400, "symbol=%00", "symbol=%0d%0aSet-Cookie:x", "symbol=" + "x" * 65, "symbol=%ff",
        "status=', (SELECT 1)--", "unknown=1", "symbol=%F0%9F",
    ],
)  # fmt: skip
@pytest.mark.usefixtures("finite_streams")
async def test_no_bad_query_breaks_a_list(api: Api, query: str) -> None:
    for operation in operations():
        if operation.method == "GET" and operation.is_guarded and not operation.names("path"):
            owner = Owner(Role.ADMIN, "ann")
            url = f"{operation.path}?{query}"
            answer = await api.http.get(url, headers=api.platform.bearer(owner))
            assert answer.status_code in (200, 422), (url, answer.text)
            assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "id_",
    [
        "0",
        "%00",
        "..%2f..%2fetc",
        "'; DROP TABLE execution_logs--",
        "x" * 4000,
        "00000000-0000-0000-0000-00000000000g",
    ],
)
async def test_no_bad_id_breaks_a_path(api: Api, id_: str) -> None:
    for operation in operations():
        if operation.is_guarded and operation.names("path"):
            path = operation.path.format(**dict.fromkeys(operation.names("path"), id_))
            options = operation.options()
            answer = await api.http.request(
                operation.method, path, headers=api.platform.bearer(Owner(Role.ADMIN, "ann")), **options
            )
            assert answer.status_code in (404, 405, 422), (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
