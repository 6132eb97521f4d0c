"""Whatever stands where a vocabulary expects something else, a span becomes a row."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.dialects import DIALECTS
from spanledger.exporter.lineage import Family, settle
from spanledger.exporter.mapping import map_spans
from spanledger.exporter.spans import SpanData, SpanEvent
from spanledger.query_api.receivers.otlp import spans_in

GOLDEN = Path(__file__).parent / "golden"
ODD: tuple[Any, ...] = (
    *(None, 0, -1, 2**70, float("nan"), float("inf"), 1.5, True, b"\xff", "", "x", "\x00", "\ud800", "NaN"),
    *([], [1, "a", None], ["{}"], {}, {"a": {"b": [1]}}),
    *("{}", "[]", "[[]]", "[[[[]]]]", "null", '"x"', "{'a': 1}", '"2026-13-01"'),
    *('{"messages": 1}', '{"messages": [1, null, {}]}', '{"choices": [null]}', '{"generations": [[{"message": 1}]]}'),
    *('[{"role": 1}]', '[{"type": [], "role": {}}]', '[{"role": "a", "tool_calls": [1, null, {"function": 1}]}]'),
    *(
        '{"lc": 1, "id": 1, "kwargs": {}}',
        '[{"type": "reasoning", "summary": [[1]]}]',
        '{"usage": {"input_tokens": "x"}}',
    ),
    *(
        '{"content": {"parts": 1}, "usage_metadata": {"prompt_token_count": 1}}',
        '{"token_usage": {"prompt_tokens": -1}}',
    ),
)
EVENTS = ("gen_ai.choice", "gen_ai.user.message", "gen_ai.client.inference.operation.details", "exception")
EVENT_KEYS = ("content", "message", "gen_ai.event.content", "gen_ai.input.messages", "exception.message")


@pytest.fixture(scope="module")
def recorded() -> list[SpanData]:
    files = (path for path in sorted(GOLDEN.rglob("*.otlp.pb")) if not path.name.endswith(".logs.otlp.pb"))
    return [span for path in files for span in spans_in(path.read_bytes()).items]


@pytest.mark.parametrize("seed", range(8))
def test_odd_values_in_known_attributes_never_raise(recorded: list[SpanData], seed: int) -> None:
    choose = random.Random(seed)
    values: list[Any] = [*ODD, *(value for span in recorded for value in span.attributes.values())]
    keys = sorted(
        {key for span in recorded for key in span.attributes} | {f.attribute for d in DIALECTS for f in d.fields}
    )
    scopes = sorted({span.scope for span in recorded})

    def distorted(span: SpanData) -> SpanData:
        attributes = dict(span.attributes) | {choose.choice(keys): choose.choice(values) for _ in range(8)}
        event = SpanEvent(choose.choice(EVENTS), 1, {key: choose.choice(values) for key in EVENT_KEYS})
        scope = choose.choice([span.scope, choose.choice(scopes)])
        return span._replace(attributes=attributes, scope=scope, events=[event])

    spans = [distorted(span) for span in recorded]
    mapped = map_spans(spans)
    rows = len(mapped.batch.executions) + sum(call.call_type != "rollup" for call in mapped.batch.llm_calls)
    assert rows + mapped.skipped == len(spans)
    settle(mapped.batch, Family())


@pytest.mark.parametrize(
    "attribute", ["gen_ai.input.messages", "input.value", "gen_ai.completion", "mlflow.spanOutputs"]
)
def test_deep_nesting_never_raises(attribute: str, a_span: Callable[..., SpanData]) -> None:
    deep = "[" * 1_000 + "]" * 1_000
    marks = {"gen_ai.operation.name": "chat", "openinference.span.kind": "LLM", "mlflow.spanType": '"LLM"'}
    [call] = map_spans([a_span(marks | {attribute: deep, "langsmith.span.kind": "llm"})]).batch.llm_calls
    assert call.status == "completed"
