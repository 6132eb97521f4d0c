"""The attribute vocabularies spans are written in, one file each.

To add one: write its file, and its line in `DIALECTS`. Earlier dialects win, field by field, so a span that speaks two
is merged without a rule.
"""

from typing import Final

from .ag2 import AG2
from .agent_framework import AGENT_FRAMEWORK
from .anthropic_sdk import ANTHROPIC_SDK
from .base import Dialect, Draft, Field, Operation
from .claude_code import CLAUDE_CODE
from .genai import GENAI
from .google_adk import GOOGLE_ADK
from .haystack import HAYSTACK
from .laminar import LAMINAR
from .langfuse import LANGFUSE
from .langsmith import LANGSMITH
from .litellm import LITELLM
from .logfire import LOGFIRE
from .mistral_sdk import MISTRAL_SDK
from .mlflow import MLFLOW
from .openinference import OPENINFERENCE
from .openlit import OPENLIT
from .openllmetry import OPENLLMETRY
from .own import OWN
from .pydantic_ai import PYDANTIC_AI
from .semantic_kernel import SEMANTIC_KERNEL
from .strands import STRANDS
from .vercel import VERCEL

DIALECTS: Final[tuple[Dialect, ...]] = (
    OWN,
    LANGFUSE,
    MLFLOW,
    LANGSMITH,
    OPENINFERENCE,
    CLAUDE_CODE,
    VERCEL,
    LITELLM,
    LAMINAR,
    PYDANTIC_AI,
    LOGFIRE,
    OPENLIT,
    HAYSTACK,
    OPENLLMETRY,
    ANTHROPIC_SDK,
    MISTRAL_SDK,
    STRANDS,
    GOOGLE_ADK,
    SEMANTIC_KERNEL,
    AGENT_FRAMEWORK,
    AG2,
    GENAI,  # always spoken, so always last
)

__all__ = ["DIALECTS", "Dialect", "Draft", "Field", "Operation"]
