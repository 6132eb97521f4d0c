"""Our own counters, in a registry of the app's own, as Prometheus text."""

import platform
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What the service did since it started. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.spans = Counter(
            "spanledger_spans",
            "Spans and log records received over OTLP, by what became of them.",
            ("signal", "outcome"),
            registry=self.registry,
        )
        self.rejected = Counter(
            "spanledger_rejected",
            "Spans and log records that can never be stored, by reason.",
            ("signal", "reason"),
            registry=self.registry,
        )
        self.requests = Counter(
            "spanledger_requests", "Requests answered.", ("method", "path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "spanledger_request_seconds", "Time to answer a request.", ("method", "path"), registry=self.registry
        )
        Info("spanledger_build", "What is running.", registry=self.registry).info(
            {"version": version("spanledger"), "python": platform.python_version()}
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
