"""The OTLP exporters that people have, with their defaults, against `spanledger serve`."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

PYTHON = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter import OTLPSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("stock")
for number in range(600):
    with tracer.start_as_current_span("chat m") as span:
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("gen_ai.request.model", "gpt-4o")
        span.set_attribute("gen_ai.usage.input_tokens", number)
provider.shutdown()
"""

JAVASCRIPT = """
const { BasicTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-base');
const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-%s');
const provider = new BasicTracerProvider({ spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
const tracer = provider.getTracer('stock');
for (let number = 0; number < 600; number++) {
  const attributes = { 'gen_ai.operation.name': 'chat', 'gen_ai.request.model': 'gpt-4o' };
  tracer.startSpan('chat m', { attributes: { ...attributes, 'gen_ai.usage.input_tokens': number } }).end();
}
provider.shutdown().catch((error) => { console.error(error); process.exit(1); });
"""
PACKAGES = [f"@opentelemetry/exporter-trace-otlp-{kind}@^0.205" for kind in ("http", "proto", "grpc")]
EXPECTED = (600, sum(range(600)))


class Server(NamedTuple):
    database: Path
    environment: dict[str, str]

    def stored(self) -> tuple[int, int]:
        with closing(sqlite3.connect(self.database)) as connection:
            number, tokens = connection.execute("SELECT count(*), sum(input_tokens) FROM llm_call_logs").fetchone()
            return number, tokens


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """`spanledger serve` with both OTLP ports: 4318 and 4317, or free ones if those are taken here."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        http, grpc = one.getsockname()[1], two.getsockname()[1]
    database = tmp_path / "stock.db"
    command = [sys.executable, "-m", "spanledger.query_api.cli", "serve", "--port", "0"]
    command += ["--database-url", f"sqlite:///{database}", "--otlp-port", str(http), "--grpc-port", str(grpc)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Look at it"):
            break
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{http}"
    environment["GRPC_ENDPOINT"] = f"http://127.0.0.1:{grpc}"
    yield Server(database, environment)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


def run(command: list[str], server: Server, protocol: str, folder: Path) -> None:
    environment = dict(server.environment)
    if protocol == "grpc":
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = environment["GRPC_ENDPOINT"]
    ran = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_python_exporters_deliver_every_span(server: Server, protocol: str, tmp_path: Path) -> None:
    run([sys.executable, "-c", PYTHON.format(protocol=protocol)], server, protocol, tmp_path)
    assert server.stored() == EXPECTED


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node.js is not installed: the exporters of OpenTelemetry JavaScript are not tried.")
    folder = tmp_path_factory.mktemp("node")
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "@opentelemetry/api@^1.9", *PACKAGES]
    command.append("@opentelemetry/sdk-trace-base@^2")
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if installed.returncode:
        pytest.skip(f"npm cannot install OpenTelemetry's exporters here: {installed.stdout[-300:]}")
    return folder


@pytest.mark.parametrize("kind", ["http", "proto", "grpc"])
def test_the_javascript_exporters_deliver_every_span(server: Server, kind: str, node_modules: Path) -> None:
    run(["node", "-e", JAVASCRIPT % kind], server, kind, node_modules)
    assert server.stored() == EXPECTED
