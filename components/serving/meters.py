"""The service's metrics, for Prometheus."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Meters:
    """Counts and durations of one service.

    Args:
        service: What is measured: its queue and its champion are read when the metrics are asked for.
    """

    def __init__(self, service: Any):
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ai_vs_real_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._request_seconds = Histogram(
            "ai_vs_real_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._verdicts = Counter("ai_vs_real_verdicts", "Verdicts given.", ["verdict", "kind"], registry=self._registry)
        self._examination_seconds = Histogram(
            "ai_vs_real_examination_seconds",
            "From a whole upload to its verdict, the wait in the queue included.",
            ["kind"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._registry.register(_State(service))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def examined(self, verdict: str, kind: str, seconds: float) -> None:
        """Count a verdict."""
        self._verdicts.labels(verdict, kind).inc()
        self._examination_seconds.labels(kind).observe(seconds)

    def text(self) -> bytes:
        """Return all of it in Prometheus's text format."""
        return generate_latest(self._registry)


class _State(Collector):
    # What is read rather than counted.
    def __init__(self, service: Any):
        self._service = service

    def collect(self) -> Any:
        champion = self._service.champion
        yield GaugeMetricFamily(
            "ai_vs_real_held_files", "Files that are examined or wait.", value=self._service.desk.held
        )
        yield GaugeMetricFamily(
            "ai_vs_real_ready", "Whether there is a detector to answer with.", value=float(champion.served is not None)
        )
        yield GaugeMetricFamily(
            "ai_vs_real_champion_failures", "Looks at the registry that failed.", value=champion.failures
        )
        loaded = GaugeMetricFamily(
            "ai_vs_real_champion_loaded_seconds", "When the detector was loaded.", labels=["version", "digest"]
        )
        if champion.served is not None:
            loaded.add_metric([champion.served.version, champion.served.digest], champion.served.since)
        yield loaded
