"""What a provider's own response says, where an instrumentation passed it on whole.

Attributes made for reading leave things out: the id of the response, the model that answered, parts of the usage. The
body beside them (``output.value``, ``mlflow.spanOutputs``, ``gen_ai.completion``) has them, in the provider's words.
Known are the bodies of OpenAI and what speaks like it, Anthropic, Gemini, Bedrock, Cohere, Ollama, and LangChain's
``LLMResult``.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from .messages import parse
from .usage import read_block
from .values import text

FIELDS: Final = (
    ("response_id", ("id", "response_id", "responseId", "generation_id")),
    ("response_model", ("model", "model_version", "modelVersion", "model_name", "model_id")),
    ("finish_reason", ("stop_reason", "stopReason", "finish_reason", "done_reason")),
    ("service_tier", ("service_tier",)),
)
"""Fields of a call, and where bodies keep them."""
USAGE: Final = ("usage", "usage_metadata", "usageMetadata", "token_usage")
ANSWERS: Final = ("choices", "candidates")
MARKS: Final = frozenset(("choices", "candidates", "usage", "usage_metadata", "usageMetadata", "generations"))
"""A mapping with none of these is no response body (a bare message, somebody's JSON)."""
REPR: Final = re.compile(r"\w+\(id='")
"""How the Python ``repr`` of an SDK's response object begins."""
REPR_FIELDS: Final = re.compile(r"[(,] ?(?:(id|model|service_tier|finish_reason)='([^']*)'|(\w+_tokens)=(\d+))")
TOTALS: Final = ("input_tokens", "output_tokens", "total_tokens")


def read_response(value: Any) -> dict[str, Any]:
    """The `Draft` fields a response body says, ``usage_raw`` among them; nothing when *value* is no response body."""
    body = parse(value)
    if not isinstance(body, dict):
        return {}
    if isinstance(raw := body.get("raw"), str) and REPR.match(raw):
        body = _from_repr(raw)
    if MARKS.isdisjoint(body):
        return {}
    if isinstance(body.get("generations"), list):
        body = _from_langchain(body)
    said: dict[str, Any] = {}
    for name, keys in FIELDS:
        for key in keys:
            if isinstance(found := body.get(key), str) and found:
                said.setdefault(name, found)
    if "finish_reason" not in said and (reason := _finish_reason(body)):
        said["finish_reason"] = reason
    if str(body.get("object")).endswith(".chunk") or body.get("chunked"):
        said["is_streaming"] = True
    block = next((body[key] for key in USAGE if isinstance(body.get(key), dict)), None)
    if block is not None:
        said |= read_block(block)
        said["usage_raw"] = dict(block)
        if isinstance(tier := block.get("service_tier"), str):
            said.setdefault("service_tier", tier)
    return said


def complete(draft: dict[str, Any], said: Mapping[str, Any]) -> None:
    """Fill what *draft* lacks with what the body *said*; the attributes win where both speak.

    Where the attributes have no counts the body's are taken, with what they leave out. Where they have, the body only
    adds the parts they do not name, and shows what they mean: an input equal to the body's is the body's.
    """
    if any(draft.get(name) for name in TOTALS):
        if not (said.get("input_excludes_cache") and said.get("input_tokens") == draft.get("input_tokens")):
            said = {name: fact for name, fact in said.items() if name != "input_excludes_cache"}
        if not (said.get("output_excludes_reasoning") and said.get("output_tokens") == draft.get("output_tokens")):
            said = {name: fact for name, fact in said.items() if name != "output_excludes_reasoning"}
    else:
        draft.update({name: said[name] for name in TOTALS if name in said})
    for name, fact in said.items():
        if name not in TOTALS:
            draft.setdefault(name, fact)


def _finish_reason(body: Mapping[str, Any]) -> str | None:
    for key in ANSWERS:
        answers = body.get(key)
        if isinstance(answers, list) and answers and isinstance(answers[0], dict):
            return text(answers[0].get("finish_reason") or answers[0].get("finishReason"))
    return None


def _from_langchain(body: Mapping[str, Any]) -> dict[str, Any]:
    """A LangChain ``LLMResult`` as a body: what its first generation says, then what the whole says."""
    generation = body["generations"]
    while isinstance(generation, list):
        generation = generation[0] if generation else {}
    message = _mapping(_mapping(generation).get("message"))
    said = _mapping(message.get("kwargs", message.get("data", message)))
    chunked = str(_mapping(generation).get("type")).endswith("Chunk")  # put together from a stream
    about = {"chunked": chunked, **_mapping(body.get("llm_output")), **_mapping(said.get("response_metadata"))}
    for key in ("id", "usage_metadata"):
        if said.get(key) and not str(said[key]).startswith(("run-", "lc_run-")):  # LangChain's own ids
            about.setdefault(key, said[key])
    if reason := _mapping(_mapping(generation).get("generation_info")).get("finish_reason"):
        about.setdefault("finish_reason", reason)
    if "usage_metadata" in about:  # LangChain's count, in OTel's meaning whoever the provider is
        about = {key: value for key, value in about.items() if key not in ("usage", "token_usage")}
    return about


def _from_repr(raw: str) -> dict[str, Any]:
    """The ``repr`` of an OpenAI response object (smolagents keeps nothing else) as a body.

    The object's own fields stand around its choices: its id first, its model and usage last.
    """
    said: dict[str, Any] = {"usage": {}}
    for name, word, count_of, count in REPR_FIELDS.findall(raw):
        if name == "id":
            said.setdefault(name, word)
        elif name:
            said[name] = word
        else:
            said["usage"].setdefault(count_of, int(count))
    if (cached := said["usage"].pop("cached_tokens", None)) is not None:
        said["usage"]["num_cached_tokens"] = cached
    return said


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
