"""What a dialect is: one vocabulary of span attributes, as a table of names and one small function for meanings."""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from .. import values
from ..spans import SpanData

Draft = dict[str, Any]
"""What is known of a span's row so far: `Field` names to values. See `FIELDS` for the names."""

Table = Literal["execution", "llm_call"]


class Operation(NamedTuple):
    """What a span does. *table* is where its row goes, None for plumbing; *kind* the ``execution_step`` or
    ``call_type`` it has when the span itself names no better one."""

    table: Table | None
    kind: str


INFERENCE: Final = Operation("llm_call", "inference")
EMBEDDING: Final = Operation("llm_call", "embedding")
RERANK: Final = Operation("llm_call", "rerank")
AGENT: Final = Operation("execution", "invoke_agent")
CREATE_AGENT: Final = Operation("execution", "create_agent")
WORKFLOW: Final = Operation("execution", "workflow")
CHAIN: Final = Operation("execution", "chain")
TASK: Final = Operation("execution", "task")
TOOL: Final = Operation("execution", "execute_tool")
RETRIEVAL: Final = Operation("execution", "retrieval")
PLAN: Final = Operation("execution", "plan")
GUARDRAIL: Final = Operation("execution", "guardrail")
EVALUATION: Final = Operation("execution", "evaluation")
PLUMBING: Final = Operation(None, "")
"""Neither a step nor a call: HTTP, database, framework internals. It only links its children to its parent."""


class Field(NamedTuple):
    """Where one fact comes from: its name, the attribute, and how to read the value (None: not a value after all)."""

    name: str
    attribute: str
    read: Callable[[Any], Any] = values.text


def unchanged(span: SpanData, draft: Draft) -> None:
    """A vocabulary whose names say all there is to know."""


class Dialect(NamedTuple):
    """One vocabulary of span attributes.

    A span speaks it when its scope begins with one of *scopes* or it carries one of *marks*, attribute names that no
    other vocabulary uses. *operation* says what the span does (None: another dialect may know). *fields* are tried in
    order; the first that gives a value wins, earlier dialects before later ones. *adjust* then puts right what no table
    can say; it may read the span and change the draft, and uses ``draft.setdefault`` for what it is less sure of.
    Attributes that are not in *fields* and do not begin with one of *claims* are kept in ``metadata``.
    """

    name: str
    operation: Callable[[SpanData], Operation | None]
    fields: tuple[Field, ...]
    marks: frozenset[str] = frozenset()
    scopes: tuple[str, ...] = ()
    adjust: Callable[[SpanData, Draft], None] = unchanged
    claims: tuple[str, ...] = ()


USAGE_FIELDS: Final = frozenset(
    (
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "reasoning_tokens",
        "audio_input_tokens",
        "audio_output_tokens",
        "reported_cost",
        "custom_input_price",
        "custom_output_price",
    )
)
"""Fields whose attributes are kept, as they were reported, in ``usage_raw``."""

FIELDS: Final = USAGE_FIELDS | frozenset(
    (
        # any row
        "status",
        "error_message",
        "error_type",
        "metadata",  # a dict; merged with the leftovers
        "execution_id",
        "report_id",
        "completion_id",
        "widget_id",
        "step_id",
        "external_platform",
        "external_user_id",
        "session_id",
        # an execution
        "agent_type",
        "execution_step",
        "action_type",
        "input",  # an execution's input_data; a call's prompt: messages in any shape `messages` reads, or text
        "output",  # an execution's output_data; a call's response, likewise
        # a call
        "call_type",
        "provider",
        "server_address",
        "model_id",
        "response_model",
        "response_id",
        "finish_reason",
        "service_tier",
        "system",  # system instructions, put in front of the prompt
        "is_streaming",
        "chunks_count",
        "time_to_first_token_ms",
        "execution_log_id",
        "usage_raw",  # the provider's own usage block, as a dict, where the span carries one
        "token_prices",  # the user's own, by model; `own` picks the one that applies
        "not_counted_reason",  # why this span is no request of its own, where the span itself shows it
        # what reported counts mean, where the emitter is known to differ from OTel (see usage)
        "input_excludes_cache",
        "cache_is_said",  # though not where there was none
        "output_excludes_reasoning",
    )
)
"""Every name a `Field` may have or an *adjust* may set."""
