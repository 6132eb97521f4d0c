"""The names one model goes by: a model id as a span reports it → the forms under which a price may be listed.

Spans decorate ids with routes (``models/``, ``openai/``), regions (``us.``), vendors (``anthropic.``), revisions
(``-v1:0``) and dates. `forms` takes them off one at a time, so that the most specific form a price list knows wins.
Nothing here matches by substring: ``gpt-4.1-nano`` must never be priced as ``gpt-4``.
"""

import re
from collections.abc import Iterator
from typing import Final

_ARN_TAIL: Final = re.compile(r"arn:aws[a-z-]*:bedrock:.*?/(.+)")
_RESOURCE: Final = re.compile(r"(?:projects/.+/)?(?:publishers/[^/]+/)?models/")
_ROUTE: Final = re.compile(
    r"(?:ai21|amazon|anthropic|azure|azure_ai|bedrock|bedrock/converse|cerebras|cohere|cohere_chat|databricks|deepinfra|"
    r"deepseek|fireworks_ai|gemini|google|groq|litellm|litellm_proxy|meta|meta-llama|mistral|mistralai|moonshot|"
    r"moonshotai|nvidia|ollama|ollama_chat|openai|openrouter|perplexity|together|together_ai|vertex_ai|voyage|"
    r"watsonx|x-ai|xai|zai)/"
)
_REGION: Final = re.compile(r"(?:us|eu|apac|global)\.(?=[a-z0-9]+\.)")
_VENDOR: Final = re.compile(
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen|"
    r"writer|zai)\.(?=[a-z])"
)
_COMPACT_DATE: Final = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$")
_FINE_TUNED: Final = re.compile(r"(ft:[^:]+):.*|(.+\.ft-).+")
_REVISION: Final = re.compile(r"(?:(?<=\d{8})-v\d+|-v1)(?::\d+)?$|:\d+$")
_DATE: Final = re.compile(r"(?:@|-)20\d{2}-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])$|@default$")
_LATEST: Final = re.compile(r"[-@:]latest$")

_LONGEST: Final = 512
"""Characters of the longest thing that is taken for a model id; an ARN has up to about 300."""
_MOST_PREFIXES: Final = 5

_PREFIXES: Final = (_RESOURCE, _ROUTE, _REGION, _VENDOR)
_SUFFIXES: Final = (_REVISION, _DATE, _LATEST)

VERSION: Final = re.compile(
    r"(?:-v\d+(?=@20\d{6})|[-@]?20\d{6}-v\d+:\d+|-v1(?::\d+)?|:\d+"
    r"|[-@:]?(?:\d{3,8}|20\d{2}-\d{2}-\d{2}|\d{2}-20\d{2}|\d{2}-\d{2}|latest|default|preview|exp))*+"
)
"""What may follow a model's name without making it another model. A lone digit may not: ``opus-4-1`` is not opus 4."""


def forms(model: str) -> tuple[str, ...]:
    """The names to look a model id up under, the most specific first; lower case, never empty strings.

    A fine-tuned model (``ft:…``, ``….ft-…``) keeps its mark in every form: its rates are not those of its base.
    """
    name = model.strip().lower()
    if len(name) > _LONGEST:
        return ()
    if arn := _ARN_TAIL.fullmatch(name):
        name = arn[1].rpartition("/")[2]
    ordered = dict.fromkeys(dated for bare in _without_prefixes(name) for dated in _without_suffixes(bare))
    return tuple(form for form in ordered if form)


def _without_prefixes(name: str) -> Iterator[str]:
    yield name
    for _ in range(_MOST_PREFIXES):
        found = next(filter(None, (prefix.match(name) for prefix in _PREFIXES)), None)
        if found is None:
            return
        name = name[found.end() :]
        yield name


def _without_suffixes(name: str) -> Iterator[str]:
    yield name
    if tuned := _FINE_TUNED.fullmatch(name):
        yield tuned[1] or tuned[2]
        return
    if _COMPACT_DATE.search(name):
        yield _COMPACT_DATE.sub(r"-\1-\2-\3", name)  # gateways write dates without dashes
    for suffix in _SUFFIXES:
        if found := suffix.search(name):
            name = name[: found.start()]
            yield name
