"""The workload every benchmark shares: one agent run, an ``invoke_agent`` root with ten ``chat`` spans beneath it.

A chat span has 25 attributes, a 2 KB prompt and a 1 KB response, as the official GenAI instrumentors emit them.
"""

import random
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, Tracer

CHATS: Final = 10
SPANS_PER_RUN: Final = CHATS + 1
PROMPT_BYTES: Final = 2048
RESPONSE_BYTES: Final = 1024
WORDS: Final = (
    "ledger",
    "invoice",
    "quarter",
    "region",
    "forecast",
    "margin",
    "customer",
    "churn",
    "report",
    "revenue",
)


def emit_run(tracer: Tracer, number: int) -> None:
    """One run's spans, attribute by attribute as instrumentors set them."""
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": f"agent-{number % 7}"}
    with tracer.start_as_current_span("invoke_agent", kind=SpanKind.INTERNAL, attributes=agent):
        for call in range(CHATS):
            with tracer.start_as_current_span("chat gpt-4o-mini", kind=SpanKind.CLIENT) as span:
                for name, value in chat_attributes(number * CHATS + call).items():
                    span.set_attribute(name, value)


def chat_attributes(number: int) -> dict[str, Any]:
    """The 25 attributes of the chat span with this *number*; the same number gives the same values."""
    input_tokens, output_tokens = 400 + number % 300, 150 + number % 90
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.top_p": 0.95,
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.request.seed": number,
        "gen_ai.request.choice.count": 1,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": f"chatcmpl-{number:016x}",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": input_tokens,
        "gen_ai.usage.output_tokens": output_tokens,
        "gen_ai.usage.cache_read.input_tokens": number % 128,
        "gen_ai.usage.reasoning.output_tokens": number % 64,
        "gen_ai.conversation.id": f"conversation-{number // 40}",
        "gen_ai.output.type": "text",
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_0123456789",
        "server.address": "api.openai.com",
        "server.port": 443,
        "gen_ai.input.messages": _message("user", number, PROMPT_BYTES),
        "gen_ai.output.messages": _message("assistant", number + 1, RESPONSE_BYTES),
    }


def recorded_runs(runs: int) -> list[ReadableSpan]:
    """The ended spans of *runs* runs."""
    keeper = _Keeper()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(keeper)
    tracer = provider.get_tracer("opentelemetry.instrumentation.genai.openai", "1.3b0")
    for number in range(runs):
        emit_run(tracer, number)
    return keeper.spans


def batches(spans: Sequence[Any], size: int = 512) -> list[Sequence[Any]]:
    return [spans[start : start + size] for start in range(0, len(spans), size)]


class _Keeper(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


_texts: dict[tuple[int, int], str] = {}


def _message(role: str, seed: int, size: int) -> str:
    """JSON of one message of *size* bytes; a hundred different ones, made once so that nobody's time includes it."""
    key = (seed % 100, size)
    if key not in _texts:
        words = random.Random(seed % 100)
        frame = '[{"role":"%s","parts":[{"type":"text","content":"%s"}]}]'
        text = " ".join(words.choices(WORDS, k=size // 6))
        _texts[key] = frame % (role, text[: size - len(frame % (role, ""))])
    return _texts[key]
