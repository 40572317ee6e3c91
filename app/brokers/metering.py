"""Metering: how long a venue takes for each call, and how it ends."""

import inspect
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, cast

from app.brokers.limits.buckets import Urgency
from app.brokers.limits.gate import Waited
from app.brokers.port import Broker, Refused, Uncertain, Unreachable
from app.metrics import Metrics


class _Metered:
    """A broker whose calls are timed; by name, so that a call the port gains is timed as well."""

    def __init__(self, broker: Broker, exchange: str, metrics: Metrics) -> None:
        self._broker = broker
        self._exchange = exchange
        self._metrics = metrics

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._broker, name)
        if not inspect.iscoroutinefunction(found):
            return found
        timed = self._timed(name, found)
        # Kept, so that the next call is an attribute like any other.
        setattr(self, name, timed)
        return timed

    def _timed(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(call)
        async def timed(*arguments: Any, **named: Any) -> Any:
            began, outcome = time.monotonic(), "failed"
            try:
                answer = await call(*arguments, **named)
                outcome = "done"
                return answer
            except Refused:
                outcome = "refused"
                raise
            except Unreachable:
                outcome = "unreachable"
                raise
            except Uncertain:
                outcome = "uncertain"
                raise
            finally:
                took = time.monotonic() - began
                self._metrics.venue_seconds.labels(self._exchange, name, outcome).observe(took)

        return timed


def waits(exchange: str, metrics: Metrics) -> Waited:
    """What counts how long requests of an exchange wait for their turn. It is called for every request."""
    of = {
        urgency: metrics.rate_limit_seconds.labels(exchange, urgency.name.lower()).observe
        for urgency in Urgency
    }

    def waited(urgency: Urgency, seconds: float) -> None:
        of[urgency](seconds)

    return waited


def metered(broker: Broker, exchange: str, metrics: Metrics) -> Broker:
    """The same broker, with its calls counted and timed under the name of its exchange."""
    return cast(Broker, _Metered(broker, exchange, metrics))
