"""Bodies: what is JSON here, what is not, and that none of it ends in a 500."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.api.bodies import MAX_DEPTH, MAX_SIZE, parse
from app.api.problems import Malformed
from tests.api.scene import ANN, Platform, Rows


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"0.1", Decimal("0.1")),
        (b'{"a": [1, 2.50, "\xc3\xa9", true, null]}', {"a": [1, Decimal("2.50"), "é", True, None]}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b"1e400", Decimal("1e400")),
        (b" {} ", {}),
    ],
)
def test_numbers_are_exact(body: bytes, value: Any) -> None:
    parsed = parse(body)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": 1}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": "\\u0000"}',
        b'{"a": "\x00"}',
        b'{"a": "\xff"}',
        b"9" * 5000,
        b"1e99999999999999999999",
        b"[" * 100_000,
        b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH,
        b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH,
        "{}".encode("utf-16"),
    ],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse(body)


def test_a_body_may_be_nested_this_deep() -> None:
    assert parse(b"[" * (MAX_DEPTH - 1) + b"1" + b"]" * (MAX_DEPTH - 1))


def _draft(amount: str) -> str:
    return (
        '{"name": "P", "kind": "paper", "exchange": "paper", "paper": {}, '
        f'"sizing": {{"strategy": "fixed", "value": {amount}}}}}'
    )


@pytest.fixture
async def post(http: httpx.AsyncClient, platform: Platform, rows: Rows) -> Any:
    """Post bytes to /v1/connections as an entitled user."""
    await rows.entitle(ANN)

    async def send(content: bytes | str, content_type: str | None = "application/json") -> httpx.Response:
        headers = platform.bearer(ANN) | ({"Content-Type": content_type} if content_type else {})
        return await http.post("/v1/connections", content=content, headers=headers)

    return send


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "1e99999999999999999999", "9" * 5000])
async def test_numbers_that_are_none_are_malformed(post: Any, amount: str) -> None:
    answer = await post(_draft(amount))
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


@pytest.mark.parametrize(
    "amount",
    [
        "1e400",
        "1e-400",
        '"1e400"',
        '"1e-400"',
        '"NaN"',
        '"1_000"',
        '"١٢"',
        '" 1"',
        '"+1"',
        '"01"',
        '""',
        "true",
        "false",
        "[]",
        "{}",
        "-1",
        "0",
        "1" * 20,
        "0.0000000000000000001",
    ],
)
async def test_amounts_that_cannot_be_meant_are_invalid(post: Any, amount: str) -> None:
    answer = await post(_draft(amount))
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert [error["path"] for error in problem["errors"]] == ["sizing.value"]


async def test_nothing_sent_is_sent_back(post: Any) -> None:
    canary = "canary-5f1e"
    body = f'{{"kind": "{canary}", "credentials": {{"api_key": "{canary}", "api_secret": ["{canary}"]}}}}'
    answer = await post(body)
    assert answer.status_code == 422
    assert canary not in answer.text
    assert {error["path"] for error in answer.json()["errors"]} >= {"name", "credentials.api_secret"}


@pytest.mark.parametrize("body", ["[]", '"text"', "1", "null"])
async def test_a_body_that_is_no_object_is_invalid(post: Any, body: str) -> None:
    answer = await post(body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_a_missing_body_is_named(post: Any) -> None:
    answer = await post(b"")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"path": "body", "message": "Field required"}]


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "json", ";"]
)
async def test_other_media_are_not_read(post: Any, content_type: str | None) -> None:
    answer = await post(b"{}", content_type)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/vnd.api+json"])
async def test_json_goes_by_several_names(post: Any, content_type: str) -> None:
    assert (await post(_draft("1"), content_type)).status_code == 201


async def test_a_body_declared_too_large_is_a_problem(post: Any) -> None:
    answer = await post(b" " * (MAX_SIZE + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_body_that_grows_too_large_is_one_too(http: httpx.AsyncClient, platform: Platform) -> None:
    async def chunks() -> Any:
        for _ in range(70):
            yield b" " * 1024

    headers = platform.bearer(ANN) | {"Content-Type": "application/json"}
    answer = await http.post("/v1/connections", content=chunks(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_of_the_largest_size_is_read(post: Any) -> None:
    draft = _draft("1")
    assert (await post(draft + " " * (MAX_SIZE - len(draft)))).status_code == 201
