"""The road from an agent through the real Collector to the ledger and to the real Jaeger, as we configure it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

SECRET = "sk-abcdefghijklmnop0123456789"
CALL: Mapping[str, str | int] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.output_tokens": 34,
    "app.note": f"called with {SECRET}",
    "app.api_key": "anything at all",
}


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        body = answer.read()
        return json.loads(body) if "json" in answer.headers.get("Content-Type", "") else body


def eventually(question: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """The first true answer to *question*, asked again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if answer := question():
                return answer
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


class Road:
    """Where everything listens, and the processes that are running. Each is ended by its own process."""

    def __init__(self, folder: Path, root: Path, tool: Callable[[str], Path]) -> None:
        self.folder, self.root, self.tool = folder, root, tool
        self.ledger, self.grpc, self.http, self.health, self.telemetry = free_ports(5)
        self.jaeger_grpc, self.jaeger_http, self.jaeger_query, self.jaeger_query_grpc, self.jaeger_health = free_ports(
            5
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str | Path], health: str, environment: Mapping[str, str]) -> None:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **environment}, stdout=output, stderr=output
            )
        self.processes[name] = process

        def healthy() -> bool:
            assert process.poll() is None, f"{name} ended: {log.read_text()[-3000:]}"
            return bool(get(health))

        eventually(healthy, f"the health of {name}")

    def start_ledger(self) -> None:
        database = f"sqlite:///{self.folder}/ledger.db"
        command = [sys.executable, "-m", "spanledger.query_api.cli", "serve", "--port", str(self.ledger)]
        health = f"http://127.0.0.1:{self.ledger}/healthz"
        self.start("ledger", command, health, {"SPANLEDGER_DATABASE_URL": database})

    def start_collector(self) -> None:
        moved = {
            "receivers.otlp.protocols.grpc.endpoint": f"127.0.0.1:{self.grpc}",
            "receivers.otlp.protocols.http.endpoint": f"127.0.0.1:{self.http}",
            "extensions.health_check.endpoint": f"127.0.0.1:{self.health}",
            "service.telemetry.metrics.level": "none",
            "processors.tail_sampling/jaeger.decision_wait_after_root_received": "100ms",
        }
        command: list[str | Path] = [self.tool("otelcol"), "--config", self.root / "collector-config.yaml"]
        environment = {
            "SPANLEDGER_ENDPOINT": f"http://127.0.0.1:{self.ledger}",
            "JAEGER_ENDPOINT": f"127.0.0.1:{self.jaeger_grpc}",
        }
        command += [part for name, value in moved.items() for part in ("--set", f"{name}={value}")]
        self.start("collector", command, f"http://127.0.0.1:{self.health}/", environment)

    def start_jaeger(self) -> None:
        moved = {
            "receivers.otlp.protocols.grpc.endpoint": f"127.0.0.1:{self.jaeger_grpc}",
            "receivers.otlp.protocols.http.endpoint": f"127.0.0.1:{self.jaeger_http}",
            "extensions.jaeger_query.http.endpoint": f"127.0.0.1:{self.jaeger_query}",
            "extensions.jaeger_query.grpc.endpoint": f"127.0.0.1:{self.jaeger_query_grpc}",
            "extensions.healthcheckv2.http.endpoint": f"127.0.0.1:{self.jaeger_health}",
            "service.telemetry.metrics.level": "none",
            # The built-in configuration listens for older protocols, too, on ports of their own.
            "service.extensions": "[jaeger_storage, jaeger_query, healthcheckv2]",
            "service.pipelines.traces.receivers": "[otlp]",
        }
        command: list[str | Path] = [self.tool("jaeger")]
        command += [part for name, value in moved.items() for part in ("--set", f"{name}={value}")]
        self.start("jaeger", command, f"http://127.0.0.1:{self.jaeger_health}/status", {})

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(timeout=30)

    def send(self, name: str) -> str:
        """Send one model call with the SDK's own exporter, have it accepted, and answer its trace id."""
        with TracerProvider().get_tracer("agent").start_as_current_span(name, attributes=CALL) as span:
            assert isinstance(span, ReadableSpan)
        exporter = OTLPSpanExporter(f"http://127.0.0.1:{self.http}/v1/traces")
        assert exporter.export([span]) is SpanExportResult.SUCCESS
        exporter.shutdown()  # type: ignore[no-untyped-call]
        return f"{span.get_span_context().trace_id:032x}"

    def call(self, trace_id: str) -> dict[str, Any]:
        """The row of the one model call of a trace, once it is there."""
        url = f"http://127.0.0.1:{self.ledger}/execution-logs/llm-calls?trace_id={trace_id}&include_content=true"
        (call,) = eventually(lambda: get(url)["llm_calls"], "the row")
        assert isinstance(call, dict)
        return call

    def tags(self, trace_id: str) -> dict[str, Any]:
        """The attributes Jaeger shows for the one span of a trace, once it is there."""
        url = f"http://127.0.0.1:{self.jaeger_query}/api/traces/{trace_id}"
        (trace,) = eventually(lambda: get(url)["data"], "the trace")
        (span,) = trace["spans"]
        return {tag["key"]: tag["value"] for tag in span["tags"]}


@pytest.fixture
def road(tmp_path: Path, root: Path, tool: Callable[[str], Path]) -> Iterator[Road]:
    road = Road(tmp_path, root, tool)
    yield road
    road.stop()


def test_a_call_reaches_the_ledger_with_its_cost_and_jaeger_with_its_counts_but_without_its_secrets(road: Road) -> None:
    road.start_ledger()
    road.start_jaeger()
    road.start_collector()
    trace_id = road.send("chat gpt-4o")

    call = road.call(trace_id)
    assert (call["input_tokens"], call["output_tokens"]) == (1200, 34)
    assert call["total_cost"] > 0

    tags = road.tags(trace_id)
    assert (tags["gen_ai.usage.input_tokens"], tags["gen_ai.usage.output_tokens"]) == (1200, 34)
    assert tags["app.note"] == "called with ****"
    assert tags["app.api_key"] == "****"


def test_calls_accepted_while_the_ledger_is_away_arrive_although_the_collector_is_killed_meanwhile(road: Road) -> None:
    road.start_collector()
    trace_ids = [road.send(f"call {number}") for number in range(20)]
    road.kill("collector")
    road.start_collector()
    road.start_ledger()
    assert [road.call(trace_id)["trace_id"] for trace_id in trace_ids] == trace_ids
