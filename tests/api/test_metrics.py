"""What Prometheus reads: every process in one scrape, for those who carry the operator's token."""

from datetime import timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from app.desk import Sessions
from app.domain.exits import Protection
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.main import Service
from app.metrics import Metrics
from app.store import workers
from app.store.events import Event, Reception
from app.store.executions import ExecutionStatus
from tests.api.scene import ANN, NOON, Clock, Rows

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(http: httpx.AsyncClient) -> Samples:
    """Every sample by name and labels, as Prometheus' own parser reads them."""
    answer = await http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """How `scrape` names a sample."""
    return name, frozenset(labels.items())


async def test_one_scrape_shows_every_process(
    http: httpx.AsyncClient, service: Service, sessions: Sessions
) -> None:
    service.state.desk.metrics.webhook_events.labels("signal.published", "accepted").inc()
    for name, denials in (("host:1", 2), ("host:2", 5)):
        metrics = Metrics()
        metrics.executions.labels("denied", "price_drift").inc(denials)
        metrics.sent_seconds.observe(0.3)
        async with sessions.begin() as session:
            await workers.beat(session, name, "1.0", NOON, metrics.snapshot())
    seen = await scrape(http)
    event = {"type": "signal.published", "status": "accepted"}
    assert seen[key("engine_webhook_events_total", process="api", **event)] == 1
    denied = {"status": "denied", "code": "price_drift"}
    assert seen[key("engine_executions_total", process="host:1", **denied)] == 2
    assert seen[key("engine_executions_total", process="host:2", **denied)] == 5
    assert seen[key("engine_webhook_to_sent_seconds_bucket", process="host:2", le="0.5")] == 1
    assert seen[key("engine_webhook_to_sent_seconds_bucket", process="host:2", le="0.25")] == 0
    assert seen[key("engine_workers")] == 2


async def test_a_worker_long_silent_is_not_shown(
    http: httpx.AsyncClient, sessions: Sessions, clock: Clock
) -> None:
    async with sessions.begin() as session:
        await workers.beat(session, "host:1", "1.0", NOON, Metrics().snapshot())
    clock.move(timedelta(minutes=2))
    seen = await scrape(http)
    assert seen[key("engine_workers")] == 0
    assert not [labels for _, labels in seen if ("process", "host:1") in labels]


async def test_gauges_follow_the_rows(http: httpx.AsyncClient, rows: Rows, clock: Clock) -> None:
    connection = await rows.connection(ANN)
    await rows.execution(connection, await rows.signal(), status=ExecutionStatus.PENDING)
    await rows.channel(ANN)
    await rows.notification(ANN)
    clock.move(timedelta(seconds=40))
    seen = await scrape(http)
    assert seen[key("engine_executions_pending")] == 1
    assert seen[key("engine_deliveries_pending")] == 1
    assert seen[key("engine_queue_age_seconds", kind="entries")] == 40
    assert seen[key("engine_orders_uncertain")] == 0
    assert seen[key("engine_trading", state="active")] == 1
    assert seen[key("engine_trading", state="halted")] == 0
    assert seen[key("engine_positions_unprotected")] == 0
    assert seen[key("engine_positions_unprotected_age_seconds")] == 0


async def test_the_oldest_work_of_each_kind_is_shown(
    http: httpx.AsyncClient, rows: Rows, sessions: Sessions, clock: Clock
) -> None:
    connection = await rows.connection(ANN)
    position = await rows.position(
        connection, protect_due_at=NOON + timedelta(minutes=5), unprotected_since=NOON
    )
    for since, purpose, status in (
        (10, Purpose.CLOSE, OrderStatus.PENDING),
        (20, Purpose.PROTECTION, OrderStatus.SENDING),
        (0, Purpose.CLOSE, OrderStatus.FILLED),
    ):
        moment = NOON + timedelta(seconds=since)
        await rows.order(position, purpose=purpose, status=status, created_at=moment, signed_at=moment)
    seconds = timedelta(seconds=1)
    async with sessions.begin() as session:
        session.add_all(
            Event(
                webhook_id=f"e{number}",
                type="signal.closed",
                timestamp=NOON,
                data={},
                body_sha256=b"",
                status=Reception.ACCEPTED,
                received_at=NOON + number * seconds,
                due_at=due_at,
            )
            for number, due_at in ((5, None), (30, NOON), (35, NOON))
        )
    clock.move(timedelta(seconds=40))
    seen = await scrape(http)
    ages = {"entries": 0, "closes": 30, "protection": 40, "resolution": 20, "events": 10}
    assert {kind: seen[key("engine_queue_age_seconds", kind=kind)] for kind in ages} == ages


async def test_the_oldest_price_our_monitor_goes_by_is_shown(
    http: httpx.AsyncClient, rows: Rows, clock: Clock
) -> None:
    connection, left = await rows.connection(ANN), await rows.connection(ANN, deleted_at=NOON)
    software, earlier = Protection.SOFTWARE, NOON - timedelta(hours=1)
    await rows.position(connection, protection=software, marked_at=NOON + timedelta(seconds=30))
    await rows.position(connection, protection=software, marked_at=NOON + timedelta(seconds=10))
    await rows.position(connection, protection=Protection.NATIVE, marked_at=earlier)
    await rows.position(connection, protection=software, marked_at=earlier, status=PositionStatus.CLOSED)
    await rows.position(left, protection=software, marked_at=earlier)
    clock.move(timedelta(seconds=40))
    assert (await scrape(http))[key("engine_software_mark_age_seconds")] == 30


async def test_when_each_process_last_looked_is_shown(http: httpx.AsyncClient, sessions: Sessions) -> None:
    metrics = Metrics()
    metrics.rounds.labels("sweep").set(NOON.timestamp())
    async with sessions.begin() as session:
        await workers.beat(session, "host:1", "1.0", NOON, metrics.snapshot())
    shown = key("engine_round_timestamp_seconds", process="host:1", round="sweep")
    assert (await scrape(http))[shown] == NOON.timestamp()


async def test_unprotected_positions_are_shown_with_the_oldest(
    http: httpx.AsyncClient, rows: Rows, clock: Clock
) -> None:
    connection, left = await rows.connection(ANN), await rows.connection(ANN, deleted_at=NOON)
    await rows.position(connection, unprotected_since=NOON)
    await rows.position(connection, unprotected_since=NOON + timedelta(seconds=30))
    await rows.position(connection)
    # Neither ends any more: nobody looks after it.
    await rows.position(left, unprotected_since=NOON - timedelta(hours=1))
    await rows.position(connection, status=PositionStatus.CLOSED, unprotected_since=NOON - timedelta(hours=1))
    clock.move(timedelta(seconds=40))
    seen = await scrape(http)
    assert seen[key("engine_positions_unprotected")] == 2
    assert seen[key("engine_positions_unprotected_age_seconds")] == 40


@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Bearer other"}, {"Authorization": "Basic bXkgdG9rZW4="}]
)
async def test_with_a_token_set_nobody_reads_without_it(
    http: httpx.AsyncClient, service: Service, header: dict[str, str]
) -> None:
    service.state.metrics_token = SecretStr("my token")
    refused = await http.get("/metrics", headers=header)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert "engine_workers" not in refused.text
    shown = await http.get("/metrics", headers={"Authorization": "Bearer my token"})
    assert shown.status_code == 200
