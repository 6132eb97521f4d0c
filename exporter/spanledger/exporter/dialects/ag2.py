"""AG2's own tracing: OTel GenAI names, a type for every span, and spans that only repeat what a call used.

Source: docs.ag2.ai (observability, OpenTelemetry tracing).
"""

from typing import Final

from ..spans import SpanData
from .base import PLAN, PLUMBING, TASK, TOOL, WORKFLOW, Dialect, Operation

TYPE: Final = "ag2.span.type"
TYPES: Final[dict[str, Operation]] = {
    "usage": PLUMBING,
    "conversation": WORKFLOW,
    "multi_conversation": WORKFLOW,
    "speaker_selection": PLAN,
    "code_execution": TOOL,
    "human_input": TASK,
}
"""Types that say more than the operation's name; the others are OTel GenAI's."""


def operation(span: SpanData) -> Operation | None:
    return TYPES.get(str(span.attributes.get(TYPE)))


AG2: Final = Dialect("ag2", operation, (), marks=frozenset((TYPE,)), claims=(TYPE,))
