"""The server's metrics, in Prometheus's format."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one server, in a registry of its own: a process may run several servers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "fingerprint_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "fingerprint_request_seconds",
            "From a request's headers to the end of its response.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.phase = Histogram(
            "fingerprint_phase_seconds",
            "Parts of a query: receiving, waiting, decoding, recognition.",
            ["phase"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.queue = Gauge(
            "fingerprint_pending",
            "Jobs that run or wait, by worker pool.",
            ["desk"],  # a published name; it is a `pools.WorkerPool`
            registry=self.registry,
        )
        self.refused = Counter(
            "fingerprint_refused",
            "Refused requests, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.answers = Counter(
            "fingerprint_answers", "Queries by outcome.", ["status"], registry=self.registry
        )
        self.listeners = Gauge(
            "fingerprint_listeners", "Open WebSockets and event streams.", registry=self.registry
        )
        self.tracks = Gauge(
            "fingerprint_library_tracks", "Tracks in the library.", registry=self.registry
        )
        self.rows = Gauge(
            "fingerprint_library_rows", "Rows in the library.", registry=self.registry
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
