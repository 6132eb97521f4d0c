"""Our own counters, in a registry of the app's own, as Prometheus text."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from spanledger.exporter.retention import Retained

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
        self.waiting = {
            name: Gauge(f"spanledger_spool_{name}", help, registry=self.registry)
            for name, help in (
                ("segments", "Files that wait in this host's spool for the database."),
                ("bytes", "What they hold."),
                ("oldest_seconds", "Age of the first of them."),
                ("corrupt_files", "Files in the spool that could not be read at all."),
            )
        }
        self.cost = Gauge(
            "spanledger_cost_last_day_usd",
            "Cost in US dollars of the model calls that started in the last 24 hours, by the database.",
            registry=self.registry,
        )
        self.lost = Gauge(
            "spanledger_spool_lost_spans",
            "Spans that processes of this host could not keep since they began, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.retained = Gauge(
            "spanledger_retention_last_success_timestamp_seconds",
            "When old rows were last removed, or none were too old. 0: not yet, or by another server.",
            registry=self.registry,
        )
        self.removed = Gauge(
            "spanledger_retention_removed_rows",
            "Executions and model calls removed for their age or for their database's size since the service started.",
            registry=self.registry,
        )
        Info("spanledger_build", "What is running.", registry=self.registry).info(
            {"version": version("spanledger"), "python": platform.python_version()}
        )

    def spool(self, waiting: Mapping[str, Any]) -> None:
        """Set the gauges of the spool to what `waiting` found."""
        for name, gauge in self.waiting.items():
            gauge.set(waiting[name])
        self.lost.clear()
        for reason, count in waiting["lost"].items():
            self.lost.labels(reason).set(count)

    def retention(self, retained: Retained) -> None:
        """Set the gauges of retention."""
        self.retained.set(retained.last.timestamp() if retained.last else 0)
        self.removed.set(retained.removed)

    def text(self) -> bytes:
        return generate_latest(self.registry)
