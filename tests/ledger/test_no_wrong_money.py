"""No wrong money: what is counted costs what the provider's own usage blocks cost, or is not known and says so.

``truth.json`` holds, for every golden trace, what the model provider's side of the conversation saw: one object per
call it answered with usage. Zeros of parts are left out.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Row, select

from spanledger.exporter.charges import explain
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.pricing import Buckets, PriceBook
from spanledger.exporter.providers import normalise
from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.values import moment
from spanledger.query_api.receivers.otlp import spans_in

TRUTH: Final = json.loads(Path(__file__).with_name("truth.json").read_text())

UNKNOWN: Final = {
    "mlflow-anthropic/anthropic_stream": "the stream is recorded as the repr of a Python object",
    "openinference-claude-agent-sdk/query_tool": "the output tokens are those of when messages began",
    "openinference-crewai/crew_chat": "no model",
    "openinference-crewai/crew_tools": "no model",
    "openinference-js-openai/embeddings": "no usage",
    "openinference-llama-index/rag_query": "embeddings without usage",
    "otel-genai-agno/team": "agents only, without usage",
    "traceloop0.40-bedrock/bedrock_converse_tools": "the input may lack cached tokens",
}
"""Rows whose number stands in no span: NULL, and counted as not covered."""

UNTRACED: Final = {
    "autogen-native/agent_tools": "no spans of calls",
    "langfuse-langchain/retriever": "no spans of embeddings",
    "openinference-ag2/two_agent_chat_tools": "no spans of calls",
    "openinference-langchain/retriever": "no spans of embeddings",
    "otel-genai-langchain/retriever": "no spans of embeddings",
    "traceloop-llamaindex/agent_tools_nostream": "no spans of calls",
}
"""Calls of which there is no span, and so no row."""

MISREPORTED: Final = {
    "otel-openai-agents-v2/agent_tools_cached_reasoning": "cached tokens are not said",
    "vercel-ai-v5/chat_cached_reasoning": "cached tokens are not said",
    "traceloop-cohere/cohere_chat": "the billed units are reported, in place of the tokens processed",
    "traceloop-js/chat_stream": "a tokenizer's guess, which nothing tells from a count",
}
"""Numbers that the emitter replaced or left out, and nothing on its spans shows it (docs/decisions)."""


def test_the_counted_cost_is_what_the_providers_usage_costs(
    golden_ledger: Ledger, recordings: Mapping[str, Path]
) -> None:
    assert len(TRUTH) > 100
    prices = golden_ledger.prices
    wrong = {}
    for name, calls in TRUTH.items():
        rows = _counted(golden_ledger, recordings[name])
        known = [row for row in rows if row.total_cost is not None]
        ours = sum((_exact(prices, row) for row in known), Decimal(0))
        owed = sum((_owed(prices, call, _began(recordings[name])) for call in calls), Decimal(0))
        if name in UNKNOWN:
            right = ours < owed and len(known) < len(rows)
        elif name in UNTRACED:
            right = not rows and owed > 0
        elif name in MISREPORTED:
            right = ours != owed
        else:
            right = ours == owed
        if not right:
            wrong[name] = (ours, owed)
    assert wrong == {}


def _counted(ledger: Ledger, recording: Path) -> Sequence[Row[Any]]:
    traces = {f"{span.trace_id:032x}" for span in spans_in(recording.read_bytes()).items}
    of_traces = select(llm_call_logs).where(llm_call_logs.c.counted, llm_call_logs.c.trace_id.in_(traces))
    with ledger.store.reading() as connection:
        return connection.execute(of_traces).all()


def _exact(prices: PriceBook, row: Any) -> Decimal:
    cost = explain(prices, row).cost.total_cost
    assert cost is not None
    assert float(cost) == row.total_cost
    return cost


def _began(recording: Path) -> datetime:
    return moment(min(span.start_time for span in spans_in(recording.read_bytes()).items))


def _owed(prices: PriceBook, call: Mapping[str, Any], at: datetime) -> Decimal:
    """What a usage block costs; 0 for a model without a price, which is then not in our sum either."""
    usage = Buckets(
        input_tokens=call["input"],
        output_tokens=call["output"],
        cache_read_tokens=call.get("cache_read"),
        cache_write_tokens=call.get("cache_write"),
        cache_write_1h_tokens=call.get("cache_write_1h"),
        reasoning_tokens=call.get("reasoning"),
    )
    provider = normalise(call["provider"])
    cost = prices.price(usage, provider, call.get("response_model"), call["request_model"], at)
    return cost.total_cost or Decimal(0)
