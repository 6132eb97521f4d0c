"""Feeds the OTLP decoders and the mapper what nobody would send: recorded requests with damage, and values made up.

python tests/fuzz/fuzz_decoder.py [--cases N] [--seed N]     prints how many it tried; a crash shows its cause

Whatever comes: a decoder returns or says that it cannot read it, and what it returns becomes rows.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger.exporter.errors import UndecodableSpans
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.mapping import map_events
from spanledger.exporter.settings import Settings
from spanledger.query_api.problems import BodyTooLarge
from spanledger.query_api.receivers import otlp, otlp_json

TESTS = Path(__file__).parent.parent
SLOW = 5.0
DIALECT_KEYS = (
    "gen_ai.operation.name",
    "gen_ai.request.model",
    "gen_ai.usage.input_tokens",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.prompt.0.content",
    "llm.model_name",
    "llm.token_count.prompt",
    "openinference.span.kind",
    "input.value",
    "ai.usage.tokens",
    "ai.prompt.messages",
    "langfuse.observation.type",
    "traceloop.span.kind",
)


def recorded(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(TESTS.glob(pattern)) if path.stat().st_size < 64 * 1024]


def damaged(seed: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """*seed* with some bytes changed; half the time others of the same number, so that lengths stay true."""
    body = bytearray(seed)
    keeping = chance.random() < 0.5
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at, size = chance.randrange(len(body) + 1), chance.choice((1, 1, 2, 8, 64))
        other = chance.choice(others)
        piece = chance.randrange(len(other))
        old = bytes(body[at : at + size])
        new = chance.choice((b"", chance.randbytes(size), old * 2, other[piece : piece + size], b"\xff", b"\0", b"9"))
        body[at : at + size] = (new + old[len(new) :])[: len(old)] if keeping else new
    return bytes(body)


def try_damage(cases: int, chance: random.Random, work: Callable[[str, bytes], None]) -> None:
    seeds = {
        "traces": recorded("dialects/golden/*/*[!s].otlp.pb"),
        "logs": recorded("dialects/golden/*/*.logs.otlp.pb"),
        "json": recorded("query_api/data/*.json"),
    }
    for number in range(cases):
        kind = ("traces", "logs", "json")[number % 3]
        body = damaged(chance.choice(seeds[kind]), seeds[kind], chance)
        try:
            begin = time.monotonic()
            work(kind, body)
            assert time.monotonic() - begin < SLOW, "too slow"
        except BaseException:
            print(f"{kind}: {body!r}", file=sys.stderr)
            raise


SCALARS = (
    st.fixed_dictionaries({"string_value": st.text(max_size=40) | st.sampled_from(["[{", '{"role": 1}', "NaN"])})
    | st.fixed_dictionaries({"int_value": st.integers(-(2**63), 2**63 - 1)})
    | st.fixed_dictionaries({"double_value": st.floats()})
    | st.fixed_dictionaries({"bool_value": st.booleans()})
    | st.fixed_dictionaries({"bytes_value": st.binary(max_size=20)})
    | st.just({})
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: {"array_value": {"values": values}})
        | st.dictionaries(st.text(max_size=8), inner, max_size=3).map(
            lambda d: {"kvlist_value": {"values": [{"key": k, "value": v} for k, v in d.items()]}}
        )
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(DIALECT_KEYS) | st.text(max_size=20)
ATTRIBUTES = st.lists(st.fixed_dictionaries({"key": KEYS, "value": VALUES}), max_size=8)
TIMES = st.integers(0, 2**64 - 1) | st.just(1_700_000_000 * 10**9)
EVENTS = st.lists(
    st.fixed_dictionaries({"name": st.text(max_size=20), "time_unix_nano": TIMES, "attributes": ATTRIBUTES}), max_size=2
)
SPANS = st.fixed_dictionaries(
    {
        "trace_id": st.binary(min_size=16, max_size=16) | st.binary(max_size=20),
        "span_id": st.binary(min_size=8, max_size=8) | st.binary(max_size=10),
        "parent_span_id": st.sampled_from([b"", b"\1" * 8]) | st.binary(max_size=9),
        "name": st.text(max_size=30),
        "start_time_unix_nano": TIMES,
        "end_time_unix_nano": TIMES,
        "attributes": ATTRIBUTES,
        "events": EVENTS,
        "status": st.fixed_dictionaries({"code": st.integers(0, 2), "message": st.text(max_size=20)}),
    }
)


def try_values(cases: int, work: Callable[[str, bytes], None]) -> None:
    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(spans=st.lists(SPANS, max_size=3), resource=ATTRIBUTES)
    def made_up(spans: list[Any], resource: list[Any]) -> None:
        scope = [{"scope": {"name": "fuzz"}, "spans": spans}]
        parts = [{"resource": {"attributes": resource}, "scope_spans": scope}]
        work("traces", ExportTraceServiceRequest(resource_spans=parts).SerializeToString())

    made_up()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", type=int, default=60_000, help="damaged requests; made-up ones are a twentieth")
    options.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = options.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    tried: Counter[str] = Counter()

    with TemporaryDirectory() as folder:
        ledger = Ledger.open(Settings(f"sqlite:///{Path(folder) / 'fuzz.db'}"))

        def work(kind: str, body: bytes) -> None:
            tried["all"] += 1
            try:
                if kind == "logs":
                    map_events(otlp.events_in(body).items)
                    return
                spans = (otlp.spans_in if kind == "traces" else otlp_json.spans_in)(body).items
            except (UndecodableSpans, BodyTooLarge):
                tried["unreadable"] += 1
                return
            batch = ledger.prepare(spans).batch
            tried["rows"] += len(batch.executions) + len(batch.llm_calls)
            if tried["all"] % 50 == 0:
                ledger.commit(batch)

        try_damage(arguments.cases, random.Random(arguments.seed), work)
        try_values(arguments.cases // 20, work)
        ledger.close()
    print(f"{tried['all']:,} requests tried: {tried['unreadable']:,} unreadable, {tried['rows']:,} rows; none crashed")


if __name__ == "__main__":
    main()
