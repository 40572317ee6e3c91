"""Metrics: what one process counts and measures, in the form Prometheus reads.

Each process has a registry of its own. A worker hands its samples over with its heartbeat, so that one scrape of any
API process shows all of them; what follows from rows (how much waits, how long) is asked when it is scraped.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

PROCESS: Final = "process"
"""The label that says which process counted."""

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
_EXPOSED_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 900)
_WAIT_SECONDS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CALL_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """What one process counts, measures and shows."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.webhook_events = Counter(
            "engine_webhook_events",
            "Events taken on the webhook, by type and what became of them.",
            ("type", "status"),
            registry=registry,
        )
        self.executions = Counter(
            "engine_executions",
            "Executions by the state they came to, and the code of a denial or rejection.",
            ("status", "code"),
            registry=registry,
        )
        self.sent_seconds = Histogram(
            "engine_webhook_to_sent_seconds",
            "From the webhook's receipt of a signal to the sending of the entry.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.filled_seconds = Histogram(
            "engine_webhook_to_filled_seconds",
            "From the webhook's receipt of a signal to the entry's fill.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.venue_seconds = Histogram(
            "engine_venue_call_seconds",
            "Calls of a venue by exchange, call, and outcome: done, refused, unreachable, uncertain.",
            ("exchange", "call", "outcome"),
            buckets=_CALL_SECONDS,
            registry=registry,
        )
        self.unprotected_seconds = Histogram(
            "engine_unprotected_seconds",
            "How long a stop was watched by nobody, each time that came to an end.",
            buckets=_EXPOSED_SECONDS,
            registry=registry,
        )
        self.rate_limit_seconds = Histogram(
            "engine_rate_limit_wait_seconds",
            "How long requests waited for their turn at the rate budget, by API and urgency; most for nothing.",
            ("exchange", "urgency"),
            buckets=_WAIT_SECONDS,
            registry=registry,
        )
        self.deliveries = Counter(
            "engine_deliveries",
            "Notifications sent over a channel, by its kind and whether they arrived: delivered, failed.",
            ("channel", "outcome"),
            registry=registry,
        )
        self.rounds = Gauge(
            "engine_round_timestamp_seconds",
            "When this process last came to the end of a round of the monitor or of the sweep, in Unix time.",
            ("round",),
            registry=registry,
        )
        self.jobs_failed = Counter(
            "engine_jobs_failed",
            "Pieces of work that ended in an unexpected error; the log says which.",
            ("job",),
            registry=registry,
        )

    def snapshot(self) -> list[dict[str, Any]]:
        """Every sample of this process as JSON, for `exposition` elsewhere."""
        return [
            {
                "name": family.name,
                "type": family.type,
                "documentation": family.documentation,
                "samples": [
                    [sample.name, sample.labels, sample.value]
                    for sample in family.samples
                    if not sample.name.endswith("_created")
                ],
            }
            for family in self.registry.collect()
        ]


class _Gathered(Collector):
    """Families as they were gathered, for the exposition."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Every family, once."""
        return iter(self._families)


def exposition(
    processes: Mapping[str, Sequence[Mapping[str, Any]]], gauges: Iterable[GaugeMetricFamily]
) -> bytes:
    """The text Prometheus reads: the snapshots of several processes, each sample naming its own, and gauges."""
    families: dict[str, Metric] = {}
    for process, snapshot in processes.items():
        for part in snapshot:
            name = part["name"]
            family = families.setdefault(name, Metric(name, part["documentation"], part["type"]))
            for sample, labels, value in part["samples"]:
                family.samples.append(Sample(sample, {**labels, PROCESS: process}, value))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gathered([*families.values(), *gauges]))
    return generate_latest(registry)
