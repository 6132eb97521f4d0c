"""Spans in memory, and providers on loopback that speak the wire formats of OpenAI, Anthropic and Google."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Spans:
    """The spans that have ended, in the order they ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def __len__(self) -> int:
        return len(self.all)

    @property
    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    @property
    def only(self) -> ReadableSpan:
        (span,) = self.all
        return span

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.all if span.name == name]
        return span

    def attributes(self, name: str | None = None) -> dict[str, Any]:
        return dict((self.named(name) if name else self.only).attributes or {})


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """What a fresh global tracer provider records, while the test runs."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield Spans(exporter)
    provider.shutdown()


@dataclass
class Answer:
    """What the server says to the next request: JSON, or server-sent events it may cut off or hold back."""

    body: Any = None
    events: Sequence[Any] | None = None
    status: int = 200
    cut: bool = False
    hold_after: int | None = None
    released: threading.Event = field(default_factory=threading.Event)


@dataclass
class Wire:
    """A provider's server. It answers with what it was given, in order, and keeps the requests."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    answers: deque[Answer] = field(default_factory=deque)

    def answers_with(self, body: Any = None, **options: Any) -> Answer:
        answer = Answer(body, **options)
        self.answers.append(answer)
        return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wire: Wire

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.wire.requests.append({"path": self.path, "headers": self.headers, "body": body})
        answer = self.wire.answers.popleft()
        if answer.events is None:
            self._send_json(answer)
        else:
            self._send_events(answer)

    def _send_json(self, answer: Answer) -> None:
        payload = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _send_events(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number, event in enumerate(answer.events or ()):
                if number == answer.hold_after:
                    assert answer.released.wait(30)
                self._chunk(_as_event(event))
            if not answer.cut:
                self._chunk(b"")
        except OSError:  # the consumer has hung up, as it may
            pass
        self.close_connection = answer.cut

    def _chunk(self, payload: bytes) -> None:
        self.wfile.write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


def _as_event(event: Any) -> bytes:
    name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
    return f"{name}data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:  # a client that hangs up is part of the tests
        pass


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """A provider's server on loopback, which the environment names to all three SDKs."""
    wire = Wire()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"wire": wire}))
    wire.url = f"http://127.0.0.1:{server.server_address[1]}"
    for variable, value in {
        "OPENAI_BASE_URL": f"{wire.url}/v1",
        "ANTHROPIC_BASE_URL": wire.url,
        "GOOGLE_GEMINI_BASE_URL": wire.url,
        "OPENAI_API_KEY": "not-a-key",
        "ANTHROPIC_API_KEY": "not-a-key",
        "GOOGLE_API_KEY": "not-a-key",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(variable, value)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield wire
    for answer in wire.answers:
        answer.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


OPENAI_USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 47,
    "total_tokens": 167,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 17, "audio_tokens": 2},
}


def openai_completion(text: str, *, model: str = "gpt-4o-mini-2024-07-18", usage: Any = OPENAI_USAGE) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "service_tier": "default",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


def openai_chunks(*texts: str, usage: Any = OPENAI_USAGE) -> list[Any]:
    """The chunks as OpenAI sends them with ``include_usage``: role, texts, finish reason, usage, end."""

    def chunk(delta: dict[str, Any] | None, finish_reason: str | None = None, usage: Any = None) -> dict[str, Any]:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        common = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt-4o-mini-2024-07-18",
        }
        return {**common, "choices": choices, "usage": usage}

    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, "stop"),
        *([chunk(None, usage=usage)] if usage else []),
        "[DONE]",
    ]


@pytest.fixture
def completion() -> Callable[..., dict[str, Any]]:
    return openai_completion


@pytest.fixture
def chunks() -> Callable[..., list[Any]]:
    return openai_chunks
