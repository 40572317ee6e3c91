"""Accidents between a client and an exchange, struck by script or by seed."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum
from typing import Any

from tests.venues.wire import CALM, Conditions, Intent, Reply, WireRequest

When = Callable[[WireRequest], bool]

HTML_PAGE = "<html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"


class Delivery(Enum):
    """How the answer reaches the client."""

    ANSWERED = "as it is"
    DROPPED = "never: the connection is cut"
    TRUNCATED = "half of it, then the connection is cut"
    REPLACED = "something else is said in its place"
    SILENT = "never, and the connection stays open"


@dataclass(frozen=True, slots=True)
class Page:
    """What is said in place of the answer."""

    status: int
    text: str
    content_type: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request."""

    name: str
    delivery: Delivery = Delivery.ANSWERED
    executed: bool = True
    late: float | None = None
    """Carried out only this many seconds after the client was let go."""
    fenced: bool = True
    """Whether a late request's validity window is checked again when it is carried out."""
    slow: float = 0.0
    """The answer is held back for this many seconds."""
    page: Page | None = None
    conditions: Conditions = CALM
    alter: Callable[[Reply], Reply] | None = None
    """What is said of it in place of the truth."""


ANSWER_LOST = Fault("answer lost", Delivery.DROPPED)
"""Carried out; the connection is cut before the answer."""

REQUEST_LOST = Fault("request lost", Delivery.DROPPED, executed=False)
"""Never carried out; the connection is cut, so nobody can tell."""

TRUNCATED = Fault("truncated", Delivery.TRUNCATED)
"""Carried out; half the body arrives."""

HTML = Fault("html", Delivery.REPLACED, page=Page(200, HTML_PAGE))
"""Carried out; a proxy's page with status 200 comes back."""

HTML_UNEXECUTED = Fault("html, not executed", Delivery.REPLACED, executed=False, page=Page(200, HTML_PAGE))
"""Never carried out; the same page comes back."""

HANG = Fault("hang", Delivery.SILENT, executed=False)
"""Never carried out, never answered."""

HANG_EXECUTED = Fault("hang, executed", Delivery.SILENT)
"""Carried out, never answered."""


def late(seconds: float, *, fenced: bool = True) -> Fault:
    """The connection is cut at once; the request is carried out `seconds` later.

    `fenced` is what real venues do: the validity window is checked again then.
    """
    return Fault(f"late by {seconds} s", Delivery.DROPPED, late=seconds, fenced=fenced)


def server_error(status: int = 502, *, executed: bool) -> Fault:
    """A gateway's error page, before or after the request was carried out."""
    name = f"{status} {'after' if executed else 'before'} acceptance"
    page = Page(status, f"<html><body><h1>{status}</h1></body></html>")
    return Fault(name, Delivery.REPLACED, executed=executed, page=page)


def slow(seconds: float) -> Fault:
    """Carried out at once; the answer takes its time."""
    return Fault(f"slow by {seconds} s", slow=seconds)


def partial(fraction: Decimal) -> Fault:
    """Of the order placed, only this fraction fills at one point of the price."""
    return Fault(f"fills {fraction}", conditions=Conditions(fraction=fraction))


def doubled(copies: int = 2) -> Fault:
    """The order placed is carried out this many times; the answer tells of the last one."""
    return Fault(f"carried out {copies} times", conditions=Conditions(copies=copies))


def dawdling(seconds: float) -> Fault:
    """Nothing happens for a while; then it is carried out and answered, whether or not anybody still listens."""
    return Fault(f"dawdles for {seconds} s", late=seconds)


def lagging(seconds: float) -> Fault:
    """The order placed stays out of every query for a while."""
    return Fault(f"unseen for {seconds} s", conditions=Conditions(lag=seconds))


def reject(payload: Any, status: int = 400, headers: Mapping[str, str] | None = None) -> Fault:
    """Never carried out; this is said instead, in the venue's own words."""
    page = Page(status, Reply(payload).text(), "application/json", headers or {})
    return Fault(f"rejected: {page.text}", Delivery.REPLACED, executed=False, page=page)


def altered(name: str, change: Callable[[Any], Any]) -> Fault:
    """Carried out; the payload of the answer is changed on its way."""
    return Fault(name, alter=lambda reply: replace(reply, payload=change(reply.payload)))


def any_request(_: WireRequest) -> bool:
    """Every request."""
    return True


def places(request: WireRequest) -> bool:
    """Requests that place an order."""
    return request.intent is Intent.PLACE


def cancels(request: WireRequest) -> bool:
    """Requests that take one back."""
    return request.intent is Intent.CANCEL


def leaves(request: WireRequest) -> bool:
    """Requests that close a position."""
    return request.intent is Intent.LEAVE


def modifies(request: WireRequest) -> bool:
    """Requests that change levels or prices of what stands."""
    return request.intent is Intent.MODIFY


def looks(request: WireRequest) -> bool:
    """Requests that look orders or trades up."""
    return request.intent is Intent.LOOK


def of_order(client_order_id: str) -> When:
    """Requests that name this order."""
    return lambda request: request.client_order_id == client_order_id


def on(path: str) -> When:
    """Requests whose path ends like this."""
    return lambda request: request.path.endswith(path)


class Faults:
    """What will go wrong: first what was scripted, in that order, then what the policy decides."""

    def __init__(self) -> None:
        self.policy: Callable[[WireRequest], Fault | None] = lambda _: None
        self.struck: list[tuple[Fault, WireRequest]] = []
        self._scripted: list[tuple[Fault, When]] = []

    def add(self, fault: Fault, when: When = places, *, times: int = 1) -> None:
        """Strike the next `times` requests that match."""
        self._scripted.extend([(fault, when)] * times)

    def clear(self) -> None:
        """Let everything go right from now on."""
        self._scripted.clear()
        self.policy = lambda _: None

    def next_for(self, request: WireRequest) -> Fault | None:
        """The fault that befalls a request, if any."""
        scripted = next((entry for entry in self._scripted if entry[1](request)), None)
        if scripted is not None:
            self._scripted.remove(scripted)
        fault = scripted[0] if scripted else self.policy(request)
        if fault is not None:
            self.struck.append((fault, request))
        return fault


def by_chance(
    seed: int, rate: float, faults: Sequence[Fault], when: When = any_request
) -> Callable[[WireRequest], Fault | None]:
    """A policy that strikes `rate` of the matching requests with one of `faults`, the same for the same seed."""
    dice = random.Random(seed)

    def policy(request: WireRequest) -> Fault | None:
        return dice.choice(faults) if when(request) and dice.random() < rate else None

    return policy
