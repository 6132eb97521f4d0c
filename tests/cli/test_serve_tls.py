"""`spanledger serve` over TLS and on an address others can reach."""

import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from spanledger.query_api.cli import main
from spanledger.query_api.listening import free_port


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if not shutil.which("openssl"):
        pytest.skip("The openssl command makes the certificate of this test.")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-out", chain, "-keyout", key], check=True, capture_output=True, timeout=60)
    return chain, key


def test_http_and_grpc_are_served_over_tls_with_one_certificate(
    serving: Any, certificate: tuple[Path, Path], spanledger: Any
) -> None:
    chain, key = certificate
    made = spanledger("keys", "create", "--name", "agents", "--scope", "ingest", "--json")
    token = json.loads(made.stdout)["key"]
    port = free_port("127.0.0.1", 0)
    with serving("--tls-cert", str(chain), "--tls-key", str(key), "--grpc-port", str(port)) as server:
        assert server.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(chain))
        with httpx.Client(verify=trusting, base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as api:
            assert api.post("/v1/traces", json={}).status_code == 200
        with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(chain.read_bytes())) as channel:
            export = TraceServiceStub(channel).Export
            export(ExportTraceServiceRequest(), metadata=[("authorization", f"Bearer {token}")], timeout=30)
            with pytest.raises(grpc.RpcError) as refused:
                export(ExportTraceServiceRequest(), timeout=30)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_opentelemetrys_own_exporter_delivers_over_tls_to_whom_it_trusts_and_nothing_in_clear(
    serving: Any, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sends(**options: Any) -> bool:
        exporter = OTLPSpanExporter(timeout=3, **options)
        sent = exporter.export([span])  # type: ignore[list-item]
        exporter.shutdown()
        return sent is SpanExportResult.SUCCESS

    with TracerProvider().get_tracer("t").start_as_current_span("chat m") as span:
        span.set_attribute("gen_ai.operation.name", "chat")
    chain, key = certificate
    port = free_port("127.0.0.1", 0)
    with serving("--tls-cert", str(chain), "--tls-key", str(key), "--grpc-port", str(port)) as server:
        assert not sends(endpoint=f"http://localhost:{port}", insecure=True)
        assert not sends(endpoint=f"https://localhost:{port}")  # which does not know who made the certificate
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.url.replace("https", "http") + "/healthz")
        calls = f"{server.url}/execution-logs/llm-calls"
        trusting = ssl.create_default_context(cafile=str(chain))
        assert httpx.get(calls, verify=trusting).json()["total_count"] == 0
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(chain))
        assert sends(endpoint=f"https://localhost:{port}")
        assert httpx.get(calls, verify=trusting).json()["total_count"] == 1


def test_a_certificate_that_cannot_be_used_is_one_sentence(
    certificate: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain, key = map(str, certificate)
    database = ("--database-url", f"sqlite:///{tmp_path / 'x.db'}", "--port", "0")
    for files in (
        ("--tls-cert", chain),
        ("--tls-key", key),
        ("--tls-cert", key, "--tls-key", chain),
        ("--tls-cert", str(tmp_path / "missing"), "--tls-key", key),
    ):
        assert main(["serve", *database, *files]) == 2
        said = capsys.readouterr().err
        assert said.startswith("spanledger: ")
        assert said.count("\n") == 1


def test_with_a_key_an_address_others_can_reach_is_served_and_closed(serving: Any, spanledger: Any) -> None:
    token = json.loads(spanledger("keys", "create", "--name", "me", "--scope", "admin", "--json").stdout)["key"]
    with serving("--host", "0.0.0.0", until="Look at it") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/execution-logs/executions").status_code == 401
        bearer = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{url}/execution-logs/executions", headers=bearer).status_code == 200
        assert httpx.get(f"{url}/healthz", headers={"Host": "evil.example"}).status_code == 421
