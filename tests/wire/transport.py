"""A transport that catches what leaves: a request is noted, and its connection drops unless an answer was laid out."""

import json
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from yarl import URL


@dataclass(frozen=True)
class Sent:
    """One request as it was about to leave."""

    method: str
    url: str
    body: str
    headers: Mapping[str, str]

    def pairs(self) -> list[tuple[str, str]]:
        """Every name with its value in query and body, those further in by their own names; no object that signs."""
        query = parse_qsl(urlsplit(self.url).query, keep_blank_values=True)
        # Base 64 of an object begins like this.
        body = b64decode(self.body).decode() if self.body.startswith("eyJ") else self.body
        if body.lstrip()[:1] in ("{", "["):
            return [*query, *_leaves("", json.loads(body))]
        return [*query, *parse_qsl(body, keep_blank_values=True)]

    def values(self, name: str) -> list[str]:
        """What it says under a name, in query, body or headers."""
        headers = [(key.lower(), value) for key, value in self.headers.items()]
        return [value for key, value in self.pairs() if key == name] + [
            value for key, value in headers if key == name.lower()
        ]

    def names_order(self, order_id: str) -> bool:
        """Whether an order of this id is what it is about."""
        steps = urlsplit(self.url).path.split("/")
        return order_id in steps or any(value == order_id for _, value in self.pairs())


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items() if name != "signature" else ():
            yield from _leaves(key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(name, inner)
    else:
        yield name, json.dumps(value) if isinstance(value, bool) or value is None else str(value)


@dataclass
class CapturedLine:
    """What an exchange object takes for its session."""

    answers: Mapping[str, Any] = field(default_factory=dict)
    """By a part of address or body: what a class asks of the account before it sends an order."""
    sent: list[Sent] = field(default_factory=list)
    """What had no answer there."""
    venue: Callable[[Sent], Any] | None = None
    """What answers everything else; None is no answer."""
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, url: URL, **details: Any) -> "_Exchanged":
        """GET."""
        return _Exchanged(self, "GET", url, details)

    def post(self, url: URL, **details: Any) -> "_Exchanged":
        """POST."""
        return _Exchanged(self, "POST", url, details)

    def put(self, url: URL, **details: Any) -> "_Exchanged":
        """PUT."""
        return _Exchanged(self, "PUT", url, details)

    def patch(self, url: URL, **details: Any) -> "_Exchanged":
        """PATCH."""
        return _Exchanged(self, "PATCH", url, details)

    def delete(self, url: URL, **details: Any) -> "_Exchanged":
        """DELETE."""
        return _Exchanged(self, "DELETE", url, details)


@dataclass
class _Exchanged:
    """One exchange of request and answer."""

    line: CapturedLine
    method: str
    url: URL
    details: dict[str, Any]

    async def __aenter__(self) -> "Answer":
        address = str(self.url)
        body = self.details.get("data") or ""
        text = body.decode() if isinstance(body, bytes) else str(body)
        known = self.line.answers.items()
        answer = next((each for part, each in known if part in f"{address} {text}"), None)
        if answer is not None:
            return answer if isinstance(answer, Answer) else Answer(json.dumps(answer))
        sent = Sent(self.method, address, text, dict(self.details.get("headers") or {}))
        self.line.sent.append(sent)
        answer = None if self.line.venue is None else self.line.venue(sent)
        if answer is not None:
            return Answer(json.dumps(answer))
        raise aiohttp.ClientConnectionError("caught")

    async def __aexit__(self, *error: object) -> None:
        """Nothing is held."""


@dataclass
class Answer:
    """What a class reads of a response."""

    body: str
    status: int = 200
    reason: str = "OK"
    headers: Mapping[str, str] = field(default_factory=dict)

    async def text(self, **_: Any) -> str:
        """The body."""
        return self.body

    async def read(self) -> bytes:
        """The same as bytes."""
        return self.body.encode()
