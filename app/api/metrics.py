"""Metrics: what Prometheus scrapes, of this process and of every worker."""

import hmac
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import SecretStr

from app.api.bodies import ExactRoute
from app.api.problems import Unauthenticated, raises
from app.api.sessions import OpenDesk, ReadingAll
from app.domain.risk import Mode
from app.metrics import exposition
from app.store import trading, workers, workload
from app.store.workload import Workload

router = APIRouter(tags=["health"], route_class=ExactRoute)

API: Final = "api"
"""What this process is called in its own samples; the scrape's target tells one API from another."""

FRESH: Final = timedelta(minutes=1)
"""How lately a worker must have been seen for its counters to be shown."""

_Bearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Depends(HTTPBearer(auto_error=False, scheme_name="Metrics", description="`ENGINE_METRICS_TOKEN`.")),
]


def permitted(request: Request, bearer: _Bearer) -> None:
    """Whether the scrape carries the operator's token, where there is one. Raises Unauthenticated."""
    token: SecretStr | None = request.app.state.metrics_token
    if token is None:
        return
    shown = bearer.credentials if bearer else ""
    if not hmac.compare_digest(shown.encode(), token.get_secret_value().encode()):
        raise Unauthenticated("The metrics need the bearer token of ENGINE_METRICS_TOKEN.")


@router.get(
    "/metrics",
    response_class=Response,
    dependencies=[Depends(permitted)],
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text."},
        **raises("unauthenticated", "unavailable"),
    },
)
async def get_metrics(desk: OpenDesk, session: ReadingAll) -> Response:
    """Everything Prometheus reads.

    Counters and histograms carry the `process` that counted: `api` is the one that answers, a worker is named by
    host and process id and is at most ten seconds old. Any API shows the same workers. Gauges are asked of the
    database at the scrape.
    """
    now = desk.now()
    seen = await workers.alive(session, now - FRESH)
    snapshots = {API: desk.metrics.snapshot(), **{each.name: each.metrics for each in seen}}
    gauges = _gauges(await workload.present(session), await trading.state(session), len(seen), now)
    return Response(exposition(snapshots, gauges), media_type=CONTENT_TYPE_LATEST)


def _gauges(load: Workload, state: Mode, alive: int, now: datetime) -> Iterator[GaugeMetricFamily]:
    """What follows from rows."""
    yield _gauge("engine_executions_pending", "Entries that wait for a worker.", load.pending_executions)
    yield _labelled(
        "engine_queue_age_seconds",
        "How long the oldest work of a kind has waited.",
        "kind",
        {
            "entries": _age(load.pending_since, now),
            "closes": _age(load.closing_since, now),
            "protection": _age(load.protecting_since, now),
            "resolution": _age(load.sending_since, now),
            "events": _age(load.following_since, now),
        },
    )
    yield _gauge("engine_orders_uncertain", "Orders whose outcome is not known yet.", load.sending_orders)
    yield _gauge(
        "engine_orders_uncertain_age_seconds",
        "How long ago the oldest of them was sent.",
        _age(load.sending_since, now),
    )
    yield _gauge("engine_orders_in_review", "Orders that need a human's word.", load.orders_in_review)
    yield _gauge("engine_positions_open", "Positions that are open or closing.", load.open_positions)
    yield _gauge(
        "engine_positions_to_protect", "Positions not yet protected as planned.", load.positions_to_protect
    )
    yield _gauge(
        "engine_positions_unprotected",
        "Open positions with a stop that nobody watches at the moment.",
        load.unprotected_positions,
    )
    yield _gauge(
        "engine_positions_unprotected_age_seconds",
        "For how long the one of them that has waited longest has been so.",
        _age(load.unprotected_since, now),
    )
    yield _gauge(
        "engine_deliveries_pending",
        "Notifications that wait to go out on a channel.",
        load.pending_deliveries,
    )
    yield _gauge(
        "engine_software_mark_age_seconds",
        "How old the last price is of a position that the engine's own monitor protects, the oldest of them.",
        _age(load.unmarked_since, now),
    )
    yield _gauge("engine_workers", "Worker processes seen within a minute.", alive)
    yield _labelled(
        "engine_trading",
        "The kill switch: 1 at the state that holds.",
        "state",
        {mode.value: int(mode is state) for mode in Mode},
    )


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, value=value)


def _labelled(name: str, documentation: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
