"""The proxy of docs/deployment.md: the real nginx, with the very lines people copy, in front of a real server."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

NAME = "spanledger.example.com"


class Proxied(NamedTuple):
    address: str
    key: str
    chain: Path

    def get(self, path: str, host: str = NAME, key: str | None = None, source: str = "127.0.0.1") -> httpx.Response:
        # nginx's certificate is for localhost; what it passes on is the name that was asked for.
        transport = httpx.HTTPTransport(verify=False, local_address=source)
        with httpx.Client(transport=transport, timeout=30) as client:
            headers = {"Host": host, "Authorization": f"Bearer {key or self.key}"}
            return client.get(f"https://{self.address}{path}", headers=headers)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def spanledger(*arguments: str, environment: dict[str, str]) -> list[str]:
    program = [sys.executable, "-m", "spanledger.query_api.cli", *arguments]
    return subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout.split()


@pytest.fixture(scope="module")
def proxied(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    for program in ("nginx", "openssl"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
            pytest.skip(f"The proxy of the deployment guide is {program}'s work here: install {program}.")
    folder = tmp_path_factory.mktemp("proxy")
    https, http, grpc = free_port(), free_port(), free_port()
    certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    certificate += [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        folder / "key.pem",
        "-out",
        folder / "chain.pem",
    ]
    subprocess.run(certificate, check=True, capture_output=True)
    block = re.search(r"```nginx\n(.*?)```", (root / "docs" / "deployment.md").read_text(), re.DOTALL)
    assert block is not None
    lines = block[1].replace("listen 443", f"listen 127.0.0.1:{https}").replace("/etc/ssl/spanledger", str(folder))
    lines = lines.replace("127.0.0.1:8318", f"127.0.0.1:{http}").replace("127.0.0.1:4317", f"127.0.0.1:{grpc}")
    own = "pid nginx.pid; daemon off; error_log stderr; events {} http { access_log off; %s }"
    (folder / "nginx.conf").write_text(own % lines)
    environment = os.environ | {
        "SPANLEDGER_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
        "SPANLEDGER_ALLOWED_HOSTS": NAME,
        "PATH": f"{os.environ['PATH']}:/usr/sbin",
    }
    words = spanledger("keys", "create", "--name", "test", "--scope", "admin", environment=environment)
    key = next(word for word in words if word.startswith("sl_"))
    serve = [sys.executable, "-m", "spanledger.query_api.cli", "serve", "--port", str(http), "--grpc-port", str(grpc)]
    nginx = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with (
        subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE) as server,
        subprocess.Popen(nginx, env=environment, stderr=subprocess.PIPE) as proxy,
    ):
        it = Proxied(f"localhost:{https}", key, folder / "chain.pem")
        try:
            wait_for(it)
            yield it
        finally:
            proxy.terminate()
            server.terminate()


def wait_for(it: Proxied) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            if it.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, "the server behind nginx did not answer"
        time.sleep(0.1)


def send(exporter: SpanExporter, name: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span(name, attributes={"gen_ai.operation.name": "invoke_agent"}):
        pass
    provider.shutdown()


def test_spans_come_through_over_both_protocols_and_questions_are_answered(
    proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)  # they would win over the certificate
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(proxied.chain))
    url, authorization = f"https://{proxied.address}", {"authorization": f"Bearer {proxied.key}"}
    send(HttpExporter(f"{url}/v1/traces", headers=authorization | {"host": NAME}), "by http")
    send(GrpcExporter(url, headers=authorization), "by grpc")
    rows = proxied.get("/execution-logs/executions").json()["executions"]
    assert {row["name"] for row in rows} == {"by http", "by grpc"}


def test_a_name_that_is_not_the_server_s_is_refused(proxied: Proxied) -> None:
    assert proxied.get("/readyz").status_code == 200
    assert proxied.get("/readyz", host="evil.example").status_code == 421


def test_wrong_keys_are_counted_by_the_address_behind_the_proxy(proxied: Proxied) -> None:
    path, wrong = "/execution-logs/executions", "sl_000000000000_wrong"
    answers = [proxied.get(path, key=wrong, source="127.0.0.2").status_code for _ in range(11)]
    assert answers == [401] * 10 + [429]
    assert proxied.get(path, key=wrong, source="127.0.0.3").status_code == 401
    assert proxied.get(path, source="127.0.0.2").status_code == 200
