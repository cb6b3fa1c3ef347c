"""What a server counts, in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter("assay_requests", "Requests.", ["method", "path", "status"], registry=own)
        self.seconds = Histogram("assay_request_seconds", "Time.", ["path"], buckets=SECONDS, registry=own)
        self.posts = Counter("assay_posts", "Posts scored.", ["model", "status"], registry=own)
        self.waiting = Gauge("assay_posts_waiting", "Posts that wait or are in work.", ["model"], registry=own)
        self.batches = Gauge("assay_batches", "Batches worked on.", ["model"], registry=own)
        self.reloads = Gauge("assay_reloads", "Times that a changed model was picked up.", registry=own)
