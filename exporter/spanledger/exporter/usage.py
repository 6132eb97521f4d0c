"""What token counts mean: the sender's numbers in OTel's meaning, with the rule that decided it.

In the columns, input includes tokens read from and written to a cache, and output includes reasoning (OTel GenAI).
Senders disagree: OpenAI's and Gemini's own input is inclusive of the cache, Anthropic's and Bedrock's is not; Gemini's
output leaves thoughts out. A dialect says what its emitter is known to do; arithmetic proves or overrules it.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

AS_REPORTED: Final = "inclusive: OTel's meaning, no sign against it"
NO_CACHE: Final = "inclusive: no cached tokens to disagree about"
BY_EMITTER: Final = "exclusive: this emitter leaves cached tokens out of the input"
BY_SIZE: Final = "exclusive: more cached tokens than input tokens"
BY_TOTAL: Final = "exclusive: the reported total includes the cached tokens beside the input"
BY_TOTAL_INCLUSIVE: Final = "inclusive: the reported total is input plus output"
NO_USAGE: Final = "none reported"


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
    if output is not None and reasoning and get("output_excludes_reasoning"):
        output += reasoning
    cached = (read or 0) + (write or 0)
    rule = _input_rule(reported, output, total, cached, bool(get("input_excludes_cache")))
    input_tokens = reported
    if reported is not None and rule.startswith("exclusive"):
        input_tokens = reported + cached
    if input_tokens is None and output is not None and total is not None and total >= output:
        input_tokens = total - output
    if output is None and input_tokens is not None and total is not None and total >= input_tokens:
        output = total - input_tokens
    known = total if input_tokens is None or output is None else input_tokens + output
    return Usage(input_tokens, output, known, read, write, reasoning, rule)


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
