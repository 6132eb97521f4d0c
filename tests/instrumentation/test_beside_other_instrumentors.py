"""Beside a real OTel instrumentor of the same SDK, its span stands within ours and carries the same ids."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Span, SpanProcessor

from spanledger.instrumentation import LLM, context_attributes, execution

instrumentor_module = pytest.importorskip("opentelemetry.instrumentation.genai.openai")


class Stamp(SpanProcessor):
    """What the exporter's processor does at the start of every span."""

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        span.set_attributes(context_attributes(parent_context))


@pytest.fixture
def instrumented(spans: Any) -> Iterator[None]:
    provider = trace.get_tracer_provider()
    provider.add_span_processor(Stamp())
    instrumentor = instrumentor_module.OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield
    instrumentor.uninstrument()


def test_a_call_has_one_span_within_the_other(
    spans: Any, wire: Any, completion: Callable[..., Any], instrumented: None
) -> None:
    wire.answers_with(completion("Hi"))
    with LLM("gpt-4o-mini") as llm, execution("planner", "plan") as run:
        llm.inference("Hello", report_id="r1")
    theirs, ours, step = spans.all
    assert theirs.instrumentation_scope.name.startswith("opentelemetry.instrumentation")
    assert theirs.parent.span_id == ours.context.span_id
    assert ours.parent.span_id == step.context.span_id
    assert theirs.attributes["spanledger.execution.id"] == run.execution_id
    assert theirs.attributes["spanledger.report.id"] == "r1"
    assert theirs.attributes["gen_ai.usage.input_tokens"] == ours.attributes["gen_ai.usage.input_tokens"] == 120
    assert len(wire.requests) == 1


def test_a_stream_has_one_span_within_the_other(
    spans: Any, wire: Any, chunks: Callable[..., Any], instrumented: None
) -> None:
    wire.answers_with(events=chunks("one ", "two"))
    with LLM("gpt-4o-mini") as llm:
        assert "".join(llm.inference_stream_sync("Hello")) == "one two"
    theirs, ours = spans.all
    assert theirs.parent.span_id == ours.context.span_id
    assert theirs.attributes["gen_ai.usage.output_tokens"] == ours.attributes["gen_ai.usage.output_tokens"] == 47
