"""What an agent's code imports: executions and model calls as OpenTelemetry GenAI spans.

Importing it loads the OTel API and nothing else; provider SDKs are imported when they are first used.
"""

from .agents import Agent, instrument_agent, uninstrument_agent
from .calls import LLMCall, llm_call
from .context import bind_context, context_attributes, using
from .database import use_database
from .execution import Execution, execution
from .llm import LLM
from .loggers import ExecutionLogger, LLMCallLogger
from .providers import Provider, Reply, Request, Usage

__all__ = [
    "LLM",
    "Agent",
    "Execution",
    "ExecutionLogger",
    "LLMCall",
    "LLMCallLogger",
    "Provider",
    "Reply",
    "Request",
    "Usage",
    "bind_context",
    "context_attributes",
    "execution",
    "instrument_agent",
    "llm_call",
    "uninstrument_agent",
    "use_database",
    "using",
]
