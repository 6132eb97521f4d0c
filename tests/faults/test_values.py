"""Values that break things: each in every field, on every database; no neighbour suffers, and all databases agree."""

import contextlib
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.processor import LedgerSpanProcessor
from spanledger.exporter.schema import execution_logs, llm_call_logs
from spanledger.exporter.spans import Resource, SpanData, SpanEvent
from spanledger.exporter.store import Store
from spanledger.instrumentation import execution

from .world import World

Seen = Callable[[str], None]

deep: Any = "x"
for _ in range(200):
    deep = {"a": [deep]}

POISON: dict[str, Any] = {
    "NUL": "a\0b",
    "escaped NUL": '{"a": "\\u0000"}',
    "surrogate": "a\ud83eb",
    "surrogate in JSON": '{"a": "\\ud83e"}',
    "noncharacter": "\ufffe\uffff",
    "right to left": "\u202eabc\u202c",
    "empty": "",
    "long": "ü" * 1_000_000,
    "broken JSON": '{"a": [1, 2',
    "deep JSON": "[" * 5000,
    "quotes": "'; DROP TABLE llm_call_logs; --",
    "format": "%s %(x)s {0} \\",
    "bytes": b"\xff\x00\xfe",
    "int64": 2**63,
    "negative": -(2**63) - 1,
    "400 digits": 10**400,
    "5,000 digits": 10**5000,
    "NaN": math.nan,
    "infinity": -math.inf,
    "tiny": 5e-324,
    "huge float": 1.7e308,
    "true": True,
    "none": None,
    "list": [1, "a", None, math.nan, "\0"],
    "deep": deep,
    "number as text": "12abc",
    "negative text": "-5",
    "exponent": "1e400",
    "prototype": {"__proto__": {"x": "\ud800"}, "": 1},
    "date": "9999-99-99T99:99:99Z",
}
FIELDS: dict[str, Callable[[SpanData, Any], SpanData]] = {
    "name": lambda span, value: span._replace(name=str_of(value)),
    "status message": lambda span, value: span._replace(status_code=2, status_message=str_of(value)),
    "scope": lambda span, value: span._replace(scope=str_of(value), scope_version=str_of(value)),
    "service": lambda span, value: span._replace(resource=Resource(str_of(value), str_of(value))),
    "event": lambda span, value: span._replace(
        events=[
            SpanEvent("exception", 5, {"exception.message": value, "exception.stacktrace": value}),
            SpanEvent(str_of(value), 5, {}),
        ]
    ),
    "attribute": lambda span, value: with_attribute(span, "anything", value),
    "attribute name": lambda span, value: with_attribute(span, str_of(value), 1),
    "prompt": lambda span, value: with_attribute(span, "gen_ai.input.messages", value),
    "model": lambda span, value: with_attribute(span, "gen_ai.request.model", value),
    "tokens": lambda span, value: with_attribute(span, "gen_ai.usage.input_tokens", value),
    "session": lambda span, value: with_attribute(span, "gen_ai.conversation.id", value),
    "execution id": lambda span, value: with_attribute(span, "spanledger.execution_id", value),
}
OWN = ("created_at", "updated_at")


def str_of(value: Any) -> str:
    return value if isinstance(value, str) else repr(type(value))


def with_attribute(span: SpanData, name: str, value: Any) -> SpanData:
    return span._replace(attributes={**span.attributes, name: value})


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[Any]:
    """Where two databases read back differently, short enough to be looked at."""
    return [
        (key, column, repr(value)[:80], repr(other[key][column])[:80])
        for key, row in one.items()
        for column, value in row.items()
        if key in other and other[key][column] != value
    ] + sorted(one.keys() ^ other.keys())


@pytest.mark.fault("F24", "F25", "F27", "F28", "F31")
def test_poison_in_any_field_hurts_no_neighbour_and_reads_back_alike(
    sqlite: str, postgresql: str, new_world: Any, new_spans: Any, seen: Seen
) -> None:
    """Once by way of the spool, once straight into the ledger as a receiver does."""
    spans, neighbours = [], 0
    for field in FIELDS.values():
        for value in POISON.values():
            spans += [new_spans.call(), field(new_spans.call(), value)]
            neighbours += 1
    read: dict[str, dict[str, Any]] = {}
    for url in (sqlite, postgresql):
        world = new_world(url)
        new_spans.producer(world, spans).seal()
        world.drain()
        stored = world.stored()
        dead = {f"{letter['trace_id']} {letter['span_id']}" for letter in world.dead()}
        expected = {f"{span.trace_id:032x} {span.span_id:016x}" for span in spans}
        assert expected == stored.keys() | dead
        assert not dead & {f"{s.trace_id:032x} {s.span_id:016x}" for s in spans[::2]}, "a neighbour suffered"
        read[url] = {key: {n: v for n, v in row.items() if n not in OWN} for key, row in stored.items()}
    assert differences(read[sqlite], read[postgresql]) == []
    for row in read[sqlite].values():
        assert row["total_cost"] is None or math.isfinite(row["total_cost"])
    seen(
        f"{len(POISON)} values × {len(FIELDS)} fields, through the spool: all {neighbours} neighbours stored, "
        f"{len(spans) - len(read[sqlite])} dead letters, the same rows on both databases"
    )


@pytest.mark.fault("F24", "F25", "F27", "F28")
def test_poison_that_a_receiver_hands_over_reads_back_alike(
    sqlite: str, postgresql: str, new_world: Any, new_spans: Any, seen: Seen
) -> None:
    spans = [field(new_spans.call(), value) for field in FIELDS.values() for value in POISON.values()]
    read = []
    for url in (sqlite, postgresql):
        world = new_world(url)
        ledger = Ledger.open(world.settings)
        receipt = ledger.record(spans)
        ledger.close()
        assert receipt.recorded + receipt.rejected == len(spans)
        read.append({key: {n: v for n, v in row.items() if n not in OWN} for key, row in world.stored().items()})
        assert len(read[-1]) == receipt.recorded
    assert differences(*read) == []
    seen(f"straight into the ledger: {len(read[0])} of {len(spans)} stored, the same on both databases")


@pytest.mark.fault("F22", "F23")
@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 1), (2**63 - 1, 2**64 - 1), (2**64 - 1, 0), (10**18, 10**18 - 3600 * 10**9), (-5, -1), (10**18, 2**63)],
)
def test_times_of_wrong_clocks_are_stored(world: Any, new_spans: Any, seen: Seen, start: int, end: int) -> None:
    new_spans.producer(world, [new_spans.call(start_time=start, end_time=end), new_spans.call()]).seal()
    world.drain()
    stored = world.stored()
    assert len(stored) == 2
    assert all(row["duration_ms"] >= 0 for row in stored.values())
    seen(f"start {start}, end {end}: stored")


@contextlib.contextmanager
def tracing(world: Any) -> Iterator[Any]:
    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=4096), shutdown_on_exit=False)
    provider.add_span_processor(LedgerSpanProcessor(Pipeline(world.settings)))
    yield provider
    provider.shutdown()


@pytest.mark.fault("F29")
@pytest.mark.parametrize("megabytes", [1, 50, 300])
def test_a_huge_value_does_not_hold_up_whoever_ends_its_span(world: Any, seen: Seen, megabytes: int) -> None:
    text = "abcdefgh" * (megabytes * 131_072)
    took, taken = [], 0
    with tracing(world) as provider:
        tracer = provider.get_tracer("faults")
        for number in range(5):
            span = tracer.start_span("chat x", attributes={"gen_ai.operation.name": "chat", "gen_ai.prompt": text})
            span.set_attribute("gen_ai.input.messages", text)
            if number == 0:
                tracemalloc.start()  # for one span: to follow every allocation takes time
            began = time.perf_counter()
            span.end()
            took.append(1000 * (time.perf_counter() - began))
            if number == 0:
                _, taken = tracemalloc.get_traced_memory()
                tracemalloc.stop()
        assert provider.force_flush()
    rows = world.rows(llm_call_logs)
    assert len(rows) == 5
    assert all(len(row["prompt"]) <= 300_000 for row in rows)
    assert all(row["prompt"].count("abcdefgh") > 20_000 and "truncated" in row["prompt"][:20] for row in rows)
    assert min(took) < 50
    assert taken < 32 * 1024 * 1024, "it made a copy of the whole"
    what = f"end() took {min(took):.1f} to {max(took):.1f} ms and {taken >> 20} MiB at most; rows keep head and tail"
    seen(f"2 × {megabytes} MiB on a span: {what}")


class Hostile:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__

    def __iter__(self) -> Any:
        raise RuntimeError("no iter")

    def __len__(self) -> int:
        raise RuntimeError("no len")


@pytest.mark.fault("F30")
def test_hostile_values_never_raise_into_the_application(
    world: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = [cycle]
    hostile = [cycle, deep, Hostile(), {"a": Hostile(), 5: {6}}, [Hostile()] * 3, object(), 2**9999, b"\0", {Hostile}]
    hostile += list(POISON.values())
    with tracing(world) as provider:
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
        for value in hostile:
            with execution("planner", "step", input_data={"value": value}, metadata={"value": value}) as run:
                run.output_data = value
        assert provider.force_flush()
    assert len(world.rows(execution_logs)) == len(hostile)
    seen(f"{len(hostile)} hostile inputs and outputs of our own instrumentation: no exception, every row there")


@pytest.mark.fault("F17")
def test_spans_that_never_end_cost_no_memory_of_ours(world: World, seen: Seen) -> None:
    """In a process of their own: the SDK's spans are garbage, and ours must be gone with them."""
    said, complaints = world.agent("forget", spans=3000).communicate(timeout=60)
    grown = int(said)
    assert grown < 3000 * 2048, complaints
    world.drain()
    assert len(world.rows(execution_logs)) == 9000
    seen(f"9,000 spans of 2 KiB forgotten: all visible; the last third made the process {grown >> 10} KiB larger")


@pytest.mark.fault("F31")
def test_a_span_our_own_code_cannot_settle_is_put_aside_with_its_reason(
    world: Any, new_spans: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours, made for the test: it must not stop the spans behind it for ever."""
    bad = new_spans.call()
    spans = [*(new_spans.call() for _ in range(300)), bad, *(new_spans.call() for _ in range(300))]
    write, transactions = Store._write, 0

    def buggy(self: Store, connection: Any, batch: Any) -> int:
        nonlocal transactions
        transactions += 1
        if any(row.span_id == f"{bad.span_id:016x}" for row in batch.llm_calls):
            raise KeyError("a bug of ours")
        return write(self, connection, batch)

    monkeypatch.setattr(Store, "_write", buggy)
    new_spans.producer(world, spans).seal()
    world.drain()
    assert world.count() == 600
    (letter,) = world.dead()
    assert "a bug of ours" in letter["reason"]
    assert world.losses() == {"refused_by_database": 1}
    assert transactions <= 2 * 10 + 2
    seen(f"1 of 601 cannot be settled: 600 stored, 1 dead letter, {transactions} transactions")


@pytest.mark.fault("F31")
def test_a_frame_of_another_version_is_counted_and_stops_nothing(world: Any, new_spans: Any, seen: Seen) -> None:
    from spanledger.exporter.frames import Kind

    producer = new_spans.producer(world, [new_spans.call()])
    producer.spool.append(Kind.END, b'["not", "a", "span"]')
    producer.spool.append(Kind.END, b"\xff")
    producer.seal()
    world.drain()
    assert world.count() == 1
    assert world.losses() == {"unreadable": 2}
    seen("whole frames that are no spans: counted, their neighbours stored")
