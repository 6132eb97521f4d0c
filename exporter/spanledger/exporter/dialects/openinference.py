"""OpenInference (Arize): every span says its ``openinference.span.kind``; lists are spelled out in attribute names.

Source: the OpenInference semantic conventions (Arize-ai/openinference, spec/semantic_conventions.md) and its packages
for Python, JavaScript and Java.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from spanledger.instrumentation import semconv

from .. import bodies
from ..messages import Message
from ..spans import Attributes, SpanData
from ..usage import read_block
from ..values import mapping, money, text, tokens
from .base import (
    AGENT,
    CHAIN,
    EMBEDDING,
    EVALUATION,
    GUARDRAIL,
    INFERENCE,
    PLUMBING,
    RERANK,
    RETRIEVAL,
    TASK,
    TOOL,
    Dialect,
    Draft,
    Field,
    Operation,
)
from .indexed import listed

KIND: Final = "openinference.span.kind"
KINDS: Final[dict[str, Operation]] = {
    "LLM": INFERENCE,
    "EMBEDDING": EMBEDDING,
    "RERANKER": RERANK,
    "AGENT": AGENT,
    "CHAIN": CHAIN,
    "TOOL": TOOL,
    "RETRIEVER": RETRIEVAL,
    "GUARDRAIL": GUARDRAIL,
    "EVALUATOR": EVALUATION,
    "PROMPT": Operation("execution", "prompt"),
}

REDACTED: Final = "__REDACTED__"
"""What the packages write in the place of content they were told to hide."""
FIRST_TOKEN: Final = "First Token Stream Event"
STREAMS: Final = re.compile("stream", re.IGNORECASE)
"""In the names the packages give their own spans, which are those of the SDK's methods (``astream_chat``)."""


MESSAGES: Final = ("llm.input_messages.", "llm.output_messages.")
TEXT_MESSAGE: Final = frozenset(("role", "content"))


def shown(value: Any) -> str | None:
    """Text, unless it was hidden."""
    return None if value == REDACTED else text(value)


def some(value: Any) -> dict[str, Any] | None:
    return mapping(value) or None


FIELDS: Final = (
    Field("provider", "llm.provider"),
    Field("provider", "llm.system"),
    Field("model_id", "llm.request.model_name"),
    Field("model_id", "embedding.model_name"),
    Field("model_id", "reranker.model_name"),
    Field("response_model", "llm.response.model_name"),
    Field("finish_reason", "llm.finish_reason"),
    Field("input_tokens", "llm.token_count.prompt", tokens),
    Field("output_tokens", "llm.token_count.completion", tokens),
    Field("total_tokens", "llm.token_count.total", tokens),
    Field("cache_read_tokens", "llm.token_count.prompt_details.cache_read", tokens),
    Field("cache_write_tokens", "llm.token_count.prompt_details.cache_write", tokens),
    Field("reasoning_tokens", "llm.token_count.completion_details.reasoning", tokens),
    Field("audio_input_tokens", "llm.token_count.prompt_details.audio", tokens),
    Field("audio_output_tokens", "llm.token_count.completion_details.audio", tokens),
    Field("reported_cost", "llm.cost.total", money),
    Field("input", "input.value", shown),
    Field("output", "output.value", shown),
    Field("agent_type", "agent.name"),
    Field("agent_type", "graph.node.name"),
    Field("action_type", "tool.name"),
    Field("metadata", "metadata", some),
)

CLAIMS: Final = (
    KIND,
    "llm.model_name",
    "input.mime_type",
    "output.mime_type",
    *MESSAGES,
    "llm.prompts.",
    "llm.choices.",
    "embedding.embeddings.",
    "retrieval.documents.",
    "reranker.input_documents.",
    "reranker.output_documents.",
)
"""Lists put together below, and vectors, which nobody reads."""


def operation(span: SpanData) -> Operation | None:
    kind = span.attributes.get(KIND)
    if span.scope == LLAMA_INDEX and kind != "EMBEDDING" and span.name.partition(".")[2].startswith("_"):
        return PLUMBING  # private methods: preparing a call (``OpenAI._prepare_chat_with_tools``), or a step once more
    if kind == "CHAIN" and semconv.OPERATION_NAME in span.attributes:
        return None  # a native span with OpenInference's kind added says more precisely what it is
    return KINDS.get(kind, TASK) if isinstance(kind, str) else None


LLAMA_INDEX: Final = "openinference.instrumentation.llama_index"
CLAUDE_AGENT: Final = "openinference.instrumentation.claude_agent_sdk"
CREWAI: Final = "openinference.instrumentation.crewai"
LITELLM: Final = "openinference.instrumentation.litellm"


def adjust(span: SpanData, draft: Draft) -> None:
    kind = span.attributes.get(KIND)
    if kind == "LLM":
        _call(span, draft)
    elif kind == "EMBEDDING":
        _embedding(span, draft)
    elif kind == "RERANKER":
        _reranking(span, draft)
    elif kind == "RETRIEVER":
        draft["output"] = _documents(span, "retrieval.documents.") or draft.get("output")
    elif kind == "TOOL":
        _tool(draft)
    elif kind in ("AGENT", "CHAIN"):
        _agent(span, draft)


def _call(span: SpanData, draft: Draft) -> None:
    body = draft.get("output")
    prompt, response = _conversation(span.attributes)
    if prompt:
        draft["input"] = prompt
        if prompt[0]["role"] == "system":
            draft.pop("system", None)
    elif prompts := _prompts(span.attributes):
        draft["input"] = [_prompt(p, "prompt") for p in prompts]
    parameters = mapping(span.attributes.get("llm.invocation_parameters"))
    _models(span, draft, parameters)
    bodies.complete(draft, bodies.read_response(body))
    if response:
        draft["output"] = response
    elif choices := listed(span.attributes, "llm.choices."):
        draft["output"] = [_prompt(c, "completion") for c in choices]
    first_token = next((event for event in span.events if event.name == FIRST_TOKEN), None)
    if first_token is not None:
        draft.setdefault("time_to_first_token_ms", max(first_token.time - span.start_time, 0) // 1_000_000)
    own_name = span.scope.startswith(SCOPES) and STREAMS.search(span.name) is not None
    if first_token is not None or parameters.get("stream") is True or own_name:
        draft.setdefault("is_streaming", True)


def _models(span: SpanData, draft: Draft, parameters: Mapping[str, Any]) -> None:
    """Tell the two models apart: ``llm.model_name`` has the response's, or the request's while there is no response."""
    named = text(span.attributes.get("llm.model_name"))
    asked = draft.get("model_id") or parameters.get("model") or parameters.get("model_name")
    if not asked and isinstance(request := span.attributes.get("input.value"), str) and request[:1] == "{":
        asked = mapping(request).get("model")
    asked = asked if isinstance(asked, str) and asked else named
    if isinstance(named, str) and named != asked:
        draft.setdefault("response_model", named)
    if isinstance(asked, str) and span.scope == LITELLM and "/" in asked:  # LiteLLM's names are provider/model
        vendor, _, asked = asked.partition("/")
        draft.setdefault("provider", vendor)
    draft["model_id"] = asked


def _embedding(span: SpanData, draft: Draft) -> None:
    said = bodies.read_response(draft.pop("output", None))  # else vectors
    if texts := [e["embedding"]["text"] for e in listed(span.attributes, "embedding.embeddings.") if _has_text(e)]:
        draft["input"] = texts
    asked = mapping(span.attributes.get("embedding.invocation_parameters")).get("model")
    if isinstance(asked, str) and asked:
        draft["model_id"] = asked
    bodies.complete(draft, said)


def _has_text(embedding: Any) -> bool:
    return isinstance(embedding, dict) and isinstance(inner := embedding.get("embedding"), dict) and "text" in inner


def _reranking(span: SpanData, draft: Draft) -> None:
    documents = _documents(span, "reranker.input_documents.")
    if documents or "reranker.query" in span.attributes:
        draft["input"] = {"query": span.attributes.get("reranker.query"), "documents": documents}
    if documents := _documents(span, "reranker.output_documents."):
        draft["output"] = {"documents": documents}


def _agent(span: SpanData, draft: Draft) -> None:
    """An agent's own sum of its calls' tokens: crewAI states it in the crew's output, others as an LLM span would."""
    if span.scope == CREWAI:
        draft.setdefault("agent_type", text(span.attributes.get("graph.node.id")))
        block = mapping(draft.get("output")).get("token_usage")
        if isinstance(block, dict):
            draft.update(read_block(block))
            draft["usage_raw"] = block
    if span.scope == CLAUDE_AGENT and any(key.startswith(MESSAGES[1]) for key in span.attributes):
        for name in ("output_tokens", "total_tokens"):  # of messages that had only begun: 1 each, whatever followed
            draft.pop(name, None)
    if "llm.model_name" in span.attributes:
        draft.setdefault("model_id", text(span.attributes["llm.model_name"]))


def _tool(draft: Draft) -> None:
    """Some packages put the arguments in ``tool.parameters`` (again), others the schema of the arguments."""
    leftovers = draft["leftovers"]
    parameters = mapping(leftovers.get("tool.parameters"))
    if not parameters or "properties" in parameters:
        return
    if draft.setdefault("input", leftovers["tool.parameters"]) == leftovers["tool.parameters"]:
        del leftovers["tool.parameters"]


def _documents(span: SpanData, prefix: str) -> list[dict[str, Any]]:
    found = (entry.get("document") for entry in listed(span.attributes, prefix) if isinstance(entry, dict))
    return [document for document in found if isinstance(document, dict)]


def _prompts(attributes: Attributes) -> list[Any]:
    said = attributes.get("llm.prompts")
    return list(said) if isinstance(said, list | tuple) else listed(attributes, "llm.prompts.")


def _prompt(entry: Any, name: str) -> Any:
    """The text of a prompt or choice of a completions API: a string, or one level down."""
    inner = entry.get(name, entry) if isinstance(entry, dict) else entry
    return inner.get("text", inner) if isinstance(inner, dict) else inner


def _conversation(attributes: Attributes) -> tuple[list[Message], list[Message]]:
    """The spelled-out messages of the prompt and of the response. Most have a role and a text and nothing else."""
    found: tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]] = ({}, {})
    for key, value in attributes.items():
        if key.startswith(MESSAGES):
            index, _, name = key[key.index(".", 4) + 1 :].partition(".message.")
            found[key.startswith(MESSAGES[1])].setdefault(index, {})[name] = value
    prompt, response = ([_message(said[i]) for i in sorted(said, key=_number)] for said in found)
    return prompt, response


def _number(index: str) -> int:
    return int(index) if index.isdecimal() else -1


def _message(said: Attributes) -> Message:
    """One message, from its attributes' names after ``message.``, in the shape of OpenAI's, which `messages` reads."""
    message: Message = {"role": said.get("role"), "content": said.get("content")}
    if said.keys() <= TEXT_MESSAGE:
        return message
    parts = [_part(part) for part in listed(said, "contents.") if isinstance(part, dict)]
    if parts and message["content"] and all(part.get("type") != "text" for part in parts):
        parts.insert(0, {"type": "text", "text": message["content"]})
    if texts := listed(said, "content."):  # claude-agent-sdk numbers its texts
        parts += [{"type": "text", "text": text} for text in texts]
    calls = [call.get("tool_call", call) for call in listed(said, "tool_calls.") if isinstance(call, dict)]
    if "function_call_name" in said:
        calls.append({"name": said["function_call_name"], "arguments": said.get("function_call_arguments_json")})
    message["content"] = parts or message["content"]
    return {**message, "tool_calls": calls, "tool_call_id": said.get("tool_call_id"), "name": said.get("name")}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a message: its own fields, beside those of a tool call; an image's or a sound's one level up."""
    content = part.get("message_content")
    if not isinstance(content, dict):
        return part
    inner = {k: v[k] if isinstance(v, dict) and v.keys() == {k} else v for k, v in content.items()}
    call = part.get("tool_call")
    return {**inner, **call} if isinstance(call, dict) else inner


SCOPES: Final = ("openinference.instrumentation.", "@arizeai/openinference-", "com.arize.")

OPENINFERENCE: Final = Dialect(
    "openinference",
    operation,
    FIELDS,
    marks=frozenset((KIND,)),
    adjust=adjust,
    claims=CLAIMS,
)
