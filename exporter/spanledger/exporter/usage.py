"""What token counts mean: the sender's numbers in OTel's meaning, with the rule that decided it.

In the columns, input includes tokens read from and written to a cache, and output includes reasoning (OTel GenAI).
Senders disagree: OpenAI's and Gemini's own input is inclusive of the cache, Anthropic's and Bedrock's is not; Gemini's
output leaves thoughts out. A dialect says what its emitter is known to do; arithmetic proves or overrules it.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from .values import MAX_INT, tokens

AS_REPORTED: Final = "inclusive: OTel's meaning, no sign against it"
NO_CACHE: Final = "inclusive: no cached tokens to disagree about"
UNSAID: Final = "exclusive: this emitter leaves cached tokens out of the input, and does not say whether there were any"
BY_EMITTER: Final = "exclusive: this emitter leaves cached tokens out of the input"
BY_SIZE: Final = "exclusive: more cached tokens than input tokens"
BY_TOTAL: Final = "exclusive: the reported total includes the cached tokens beside the input"
BY_TOTAL_INCLUSIVE: Final = "inclusive: the reported total is input plus output"
NO_USAGE: Final = "none reported"

CACHING_FAMILIES: Final = ("claude", "nova")
"""Models that can cache prompts where emitters leave cached tokens out (Amazon Bedrock's prompt caching)."""

NO_OUTPUT: Final = frozenset(("embedding", "rerank"))
"""Kinds of call that answer with numbers, not with tokens."""


class Usage(NamedTuple):
    """Token counts in OTel's meaning; None is unknown. *rule* says how the input was understood."""

    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    rule: str | None


def interpret(draft: Mapping[str, Any]) -> Usage:
    """The usage of a draft's ``*_tokens`` fields, given what its dialect said of the emitter's habits."""
    get = draft.get
    reported, output, total = get("input_tokens"), get("output_tokens"), get("total_tokens")
    read, write, reasoning = get("cache_read_tokens"), get("cache_write_tokens"), get("reasoning_tokens")
    if not reported and not output and not total and not read and not write:
        return Usage(None, None, None, None, None, None, NO_USAGE)  # some emitters write 0 for "not known"
    excludes = bool(get("input_excludes_cache"))
    cached = (read or 0) + (write or 0)
    rule = _input_rule(reported, output, total, cached, excludes)
    if excludes and not get("cache_is_said") and read is None and write is None and _may_have_cached(draft):
        rule = UNSAID
    input_tokens = reported
    if reported is not None and rule.startswith("exclusive"):
        input_tokens = reported + cached
    if output is not None and get("output_excludes_reasoning"):
        if reasoning is None and input_tokens is not None and total is not None and total > input_tokens + output:
            reasoning = total - input_tokens - output  # the emitter names no thoughts, but its total holds them
        output += reasoning or 0
    if input_tokens is None and output is not None and total is not None and total >= output:
        input_tokens = total - output
    if output is None and input_tokens is not None and total is not None and total >= input_tokens:
        output = total - input_tokens
    known = total if input_tokens is None or output is None else input_tokens + output
    return Usage(_clamped(input_tokens), _clamped(output), _clamped(known), read, write, _clamped(reasoning), rule)


def _may_have_cached(draft: Mapping[str, Any]) -> bool:
    model = f"{draft.get('model_id')} {draft.get('response_model')}".lower()
    return any(family in model for family in CACHING_FAMILIES)


def _clamped(count: int | None) -> int | None:
    """Sums of counts that fit a column need not fit it themselves."""
    return count if count is None else min(count, MAX_INT)


def _input_rule(reported: int | None, output: int | None, total: int | None, cached: int, excludes: bool) -> str:
    if not cached or reported is None:
        return NO_CACHE
    if cached > reported:
        return BY_SIZE
    if total is not None and output is not None:
        if total == reported + cached + output:
            return BY_TOTAL
        if total == reported + output and not excludes:
            return BY_TOTAL_INCLUSIVE
    return BY_EMITTER if excludes else AS_REPORTED


BLOCK: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("input_tokens", ("prompt_tokens",)),  # OpenAI chat, Mistral, Groq, LiteLLM
    ("input_tokens", ("input_tokens",)),  # OpenAI responses, Anthropic, LangChain
    ("input_tokens", ("inputTokens",)),  # Bedrock Converse
    ("input_tokens", ("promptTokenCount",)),  # Gemini, and below its Python spelling
    ("input_tokens", ("prompt_token_count",)),
    ("input_tokens", ("tokens", "input_tokens")),  # Cohere
    ("input_tokens", ("prompt_eval_count",)),  # Ollama
    ("output_tokens", ("completion_tokens",)),
    ("output_tokens", ("output_tokens",)),
    ("output_tokens", ("outputTokens",)),
    ("output_tokens", ("candidatesTokenCount",)),
    ("output_tokens", ("candidates_token_count",)),
    ("output_tokens", ("tokens", "output_tokens")),
    ("output_tokens", ("eval_count",)),
    ("total_tokens", ("total_tokens",)),
    ("total_tokens", ("totalTokens",)),
    ("total_tokens", ("totalTokenCount",)),
    ("total_tokens", ("total_token_count",)),
    ("cache_read_tokens", ("prompt_tokens_details", "cached_tokens")),
    ("cache_read_tokens", ("input_tokens_details", "cached_tokens")),
    ("cache_read_tokens", ("cache_read_input_tokens",)),
    ("cache_read_tokens", ("cacheReadInputTokens",)),
    ("cache_read_tokens", ("cachedContentTokenCount",)),
    ("cache_read_tokens", ("cached_content_token_count",)),
    ("cache_read_tokens", ("input_token_details", "cache_read")),
    ("cache_read_tokens", ("prompt_cache_hit_tokens",)),  # DeepSeek
    ("cache_read_tokens", ("num_cached_tokens",)),  # Mistral
    ("cache_read_tokens", ("cached_prompt_tokens",)),  # crewAI
    ("cache_write_tokens", ("prompt_tokens_details", "cache_write_tokens")),
    ("cache_write_tokens", ("input_tokens_details", "cache_write_tokens")),
    ("cache_write_tokens", ("cache_creation_input_tokens",)),
    ("cache_write_tokens", ("cacheWriteInputTokens",)),
    ("cache_write_tokens", ("input_token_details", "cache_creation")),
    ("cache_write_tokens", ("cache_creation_tokens",)),
    ("cache_write_1h_tokens", ("cache_creation", "ephemeral_1h_input_tokens")),
    ("reasoning_tokens", ("completion_tokens_details", "reasoning_tokens")),
    ("reasoning_tokens", ("output_tokens_details", "reasoning_tokens")),
    ("reasoning_tokens", ("output_tokens_details", "thinking_tokens")),
    ("reasoning_tokens", ("thoughtsTokenCount",)),
    ("reasoning_tokens", ("thoughts_token_count",)),
    ("reasoning_tokens", ("output_token_details", "reasoning")),
    ("reasoning_tokens", ("reasoning_tokens",)),
    ("audio_input_tokens", ("prompt_tokens_details", "audio_tokens")),
    ("audio_output_tokens", ("completion_tokens_details", "audio_tokens")),
)
"""Where providers' own usage blocks, as their APIs answer them, keep each number: the first that is there counts."""

TOOL_PROMPTS: Final = ("toolUsePromptTokenCount", "tool_use_prompt_token_count")
"""Gemini counts the results of its own tools beside the prompt; they are input."""
ANTHROPIC_CACHE: Final = ("cache_read_input_tokens", "cache_creation_input_tokens")


def _by_key() -> dict[str, list[tuple[int, str, str | None]]]:
    table: dict[str, list[tuple[int, str, str | None]]] = {}
    for order, (name, (key, *inner)) in enumerate(BLOCK):
        table.setdefault(key, []).append((order, name, inner[0] if inner else None))
    return table


PLACES: Final = _by_key()
"""`BLOCK` by the key at the top: what it may fill, how strong its word is, and the key beneath it."""


def read_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """The `Draft` fields of a provider's own usage block, whoever's it is, with what its counts leave out."""
    found: dict[str, Any] = {}
    strength: dict[str, int] = {}
    for key, value in block.items():
        for order, name, inner in PLACES.get(key, ()):
            said = value if inner is None else value.get(inner) if isinstance(value, dict) else None
            if order < strength.get(name, len(BLOCK)) and (count := tokens(said)) is not None:
                found[name], strength[name] = count, order
    if "input_tokens" in found:
        found["input_tokens"] += sum(tokens(block.get(name)) or 0 for name in TOOL_PROMPTS)
    if "candidatesTokenCount" in block or "candidates_token_count" in block:
        found["output_excludes_reasoning"] = True
    if _is_exclusive(block):
        found["input_excludes_cache"] = True
    return found


def _is_exclusive(block: Mapping[str, Any]) -> bool:
    """Bedrock's block, or Anthropic's: whoever adds a total or details of the input has counted anew."""
    if "inputTokens" in block:
        return True
    return "input_tokens" in block and "total_tokens" not in block and any(name in block for name in ANTHROPIC_CACHE)
