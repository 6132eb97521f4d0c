"""The example agents through the real Collector, as we configure it, to the ledger and to the real Jaeger."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

SECRET = "sk-abcdefghijklmnop0123456789"
AGENTS = (
    ("examples/report_agents.py",),
    ("examples/your_own_agent.py",),
    ("-m", "spanledger.query_api.demo.agents", "--local"),
)
KINDS = ("executions", "llm-calls")
SAME = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "input_cost": "spanledger.cost.input",
    "output_cost": "spanledger.cost.output",
    "total_cost": "spanledger.cost.total",
    "execution_id": "spanledger.execution.id",
    "session_id": "session.id",
    "external_user_id": "spanledger.external.user_id",
    "external_platform": "spanledger.external.platform",
}
"""Columns, and the attribute under which Jaeger shows the same."""


@pytest.fixture(scope="module")
def provider(root: Path) -> Iterator[str]:
    """The address of the examples' own model provider."""
    command = [sys.executable, root / "examples" / "local_provider.py", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split("OPENAI_BASE_URL=")[1].split()[0]
        process.terminate()


class Agents(NamedTuple):
    """What the example agents left behind."""

    road: Any
    database: Path
    """Their own ledger, which they write without a Collector."""
    spans: dict[str, set[str]]
    """Trace id → ids of its spans, as noted the moment they ended."""

    def shown(self, trace_id: str) -> dict[str, dict[str, Any]]:
        """The spans of a trace in Jaeger, once all are there."""
        return self._whole(trace_id, partial(self.road.trace, trace_id))

    def rows(self, trace_id: str) -> dict[str, dict[str, Any]]:
        """The rows of a trace by their span, once all are there."""
        return self._whole(
            trace_id, lambda: {r["span_id"]: r for kind in KINDS for r in self.road.rows(kind, trace_id)}
        )

    def _whole(self, trace_id: str, read: Callable[[], dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
        found = self.road.until(lambda: (now := read()).keys() >= self.spans[trace_id] and now, "a whole trace")
        assert found.keys() == self.spans[trace_id]
        return dict(found)


@pytest.fixture(scope="module")
def agents(roads: Any, root: Path, provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """The example agents, run through the Collector."""
    folder = tmp_path_factory.mktemp("agents")
    with roads(folder) as road:
        road.start_ledger()
        road.start_jaeger()
        road.start_collector()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANLEDGER_"))},
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{road.http}",
            "SPANLEDGER_DATABASE_URL": f"sqlite:///{folder}/agents.db",
            "SPANLEDGER_SPOOL_FOLDER": str(folder / "agents-spool"),
            "OPENAI_BASE_URL": provider,
            "OPENAI_API_KEY": "any",
        }
        observed = [sys.executable, Path(__file__).with_name("programs") / "observed.py", folder / "notes"]
        for agent in AGENTS:
            ran = subprocess.run(
                [*observed, *agent], cwd=root, env=environment, capture_output=True, text=True, timeout=120
            )
            assert (ran.returncode, ran.stderr) == (0, "")
        spans: dict[str, set[str]] = {}
        for trace_id, span_id in map(str.split, (folder / "notes").read_text().splitlines()):
            spans.setdefault(trace_id, set()).add(span_id)
        yield Agents(road, folder / "agents.db", spans)


def test_every_span_of_the_example_agents_is_in_jaeger_and_in_the_database_with_the_same_counts_costs_and_ids(
    agents: Agents,
) -> None:
    costs = []
    for trace_id in agents.spans:
        shown = agents.shown(trace_id)
        for span_id, row in agents.rows(trace_id).items():
            tags = shown[span_id]
            assert {name: tags.get(tag) for name, tag in SAME.items()} == {name: row.get(name) for name in SAME}
            costs.append((span_id, row.get("total_cost")))
    assert len([cost for _, cost in costs if cost]) >= 20
    assert sorted(costs) == without_a_collector(agents.database)


def test_the_address_in_a_row_opens_its_trace(agents: Agents) -> None:
    for trace_id, spans in agents.spans.items():
        (address,) = {row["trace_url"] for row in agents.rows(trace_id).values()}
        agents.shown(trace_id)
        assert b"<html" in agents.road.get(address)
        # Jaeger's page at /trace/ID is a program that asks /api/traces/ID for what it shows.
        (trace,) = agents.road.get(address.replace("/trace/", "/api/traces/"))["data"]
        assert {span["spanID"] for span in trace["spans"]} == spans


def without_a_collector(database: Path) -> list[tuple[str, float | None]]:
    """Span ids and costs in the ledger that the agents wrote without a Collector."""
    query = (
        "SELECT span_id, total_cost FROM llm_call_logs UNION ALL SELECT span_id, NULL FROM execution_logs ORDER BY 1"
    )
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.execute(query))


def test_jaeger_gets_a_call_without_its_secrets(agents: Agents) -> None:
    attributes = {"app.note": f"called with {SECRET}", "app.api_key": "anything", "gen_ai.usage.input_tokens": 12}
    with TracerProvider().get_tracer("agent").start_as_current_span("chat", attributes=attributes) as span:
        assert isinstance(span, ReadableSpan)
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{agents.road.http}/v1/traces")
    assert exporter.export([span]) is SpanExportResult.SUCCESS
    exporter.shutdown()  # type: ignore[no-untyped-call]
    context = span.get_span_context()
    tags = agents.road.until(partial(agents.road.trace, f"{context.trace_id:032x}"), "the trace")[
        f"{context.span_id:016x}"
    ]
    assert {name: tags[name] for name in attributes} == {
        "app.note": "called with ****",
        "app.api_key": "****",
        "gen_ai.usage.input_tokens": 12,
    }
